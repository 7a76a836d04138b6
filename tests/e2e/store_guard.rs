//! Who may do what to the log: the runtime roles through functions only; nobody may change what is written.

use commands::database::Role;
use sqlx::{AssertSqlSafe, PgPool};
use support::{TestDatabase, item, key_claim, stream};

const TABLES: [&str; 7] =
    ["log.event", "log.event_000000000000001", "log.commit", "log.append_key", "log.head", "log.stream_head", "log.snapshot"];

/// The SQLSTATE of the refusal; empty when the statement went through.
pub(crate) async fn refusal(pool: &PgPool, sql: &str) -> String {
    match sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(pool).await {
        Ok(_) => String::new(),
        Err(sqlx::Error::Database(error)) => error.code().unwrap_or_default().into_owned(),
        Err(error) => panic!("{sql}: {error}"),
    }
}

/// A log with an event and a key in it.
async fn written() -> TestDatabase {
    let database = TestDatabase::new().await;
    let write = database.write_side();
    let mut entry = item(&write.ids, &[(stream(&write.ids), 0)], 1);
    entry.keys.push(key_claim("a key"));
    write.committer.append(entry).await.unwrap();
    write.stop().await;
    assert_eq!(database.head().await.pos, 1);
    database
}

#[tokio::test]
async fn the_app_role_cannot_touch_a_table_of_the_log() {
    let database = written().await;
    let app = database.pool(Role::App);
    for table in TABLES {
        for sql in [
            format!("select 1 from {table}"),
            format!("insert into {table} select * from {table}"),
            format!("insert into {table} default values"),
            format!("delete from {table}"),
            format!("truncate {table}"),
            format!("copy {table} to stdout"),
            format!("drop table {table}"),
            format!("alter table {table} disable trigger all"),
        ] {
            assert_eq!(refusal(&app, &sql).await, "42501", "{sql}");
        }
    }
    for sql in ["update log.event set actor = 'x'", "update log.head set pos = 0", "update log.commit set hash = ''"] {
        assert_eq!(refusal(&app, sql).await, "42501", "{sql}");
    }
    for sql in [
        "select log.add_partition()",
        "select log.raise_epoch()",
        "create table log.mine (n int)",
        "create function log.f() returns int language sql as 'select 1'",
    ] {
        assert_eq!(refusal(&app, sql).await, "42501", "{sql}");
    }
}

#[tokio::test]
async fn the_worker_role_reads_the_log_and_cannot_write_it() {
    let database = written().await;
    let worker = database.pool(Role::Worker);
    assert_eq!(refusal(&worker, "select * from log.event").await, "");
    for table in TABLES {
        for sql in [format!("insert into {table} select * from {table}"), format!("delete from {table}"), format!("truncate {table}")] {
            assert_eq!(refusal(&worker, &sql).await, "42501", "{sql}");
        }
    }
    assert_eq!(refusal(&worker, "update log.head set epoch = 0").await, "42501");
}

#[tokio::test]
async fn the_runtime_roles_may_execute_exactly_these_functions() {
    let database = TestDatabase::new().await;
    let sql = "select coalesce(array_agg(p.proname::text order by p.proname), '{}') from pg_proc p \
               where p.pronamespace = 'log'::regnamespace and has_function_privilege($1, p.oid, 'execute')";
    let both = [
        "append",
        "find_key",
        "head_pos",
        "load_snapshot",
        "load_stream",
        "position_at",
        "provider_account_owner",
        "provider_accounts",
        "save_snapshot",
        "streams_stand_at",
        "tenant_events",
    ];
    for (role, alone) in [("smartpos_app", &["find_keys", "streams_of"][..]), ("smartpos_worker", &["raise_epoch"])] {
        let mut expected = [&both[..], alone].concat();
        expected.sort_unstable();
        let functions: Vec<String> = sqlx::query_scalar(sql).bind(role).fetch_one(&database.admin).await.unwrap();
        assert_eq!(functions, expected, "{role}");
    }
}

#[tokio::test]
async fn a_login_without_its_group_role_has_nothing() {
    let database = written().await;
    let login = PgPool::connect(&database.url).await.unwrap();
    for sql in ["select 1 from log.event", "select log.head_pos()", "select log.raise_epoch()"] {
        assert_eq!(refusal(&login, sql).await, "42501", "{sql}");
    }
}

#[tokio::test]
async fn what_is_written_cannot_be_changed_even_by_a_superuser() {
    let database = written().await;
    let before = database.log().await;
    let mut attempts = Vec::new();
    for (table, column) in
        [("log.event", "actor"), ("log.event_000000000000001", "actor"), ("log.commit", "first_pos"), ("log.append_key", "key")]
    {
        attempts.push(format!("update {table} set {column} = {column}"));
        attempts.push(format!("delete from {table}"));
        attempts.push(format!("truncate {table}"));
        attempts.push(format!("truncate {table} cascade"));
    }
    for sql in attempts {
        assert_eq!(refusal(&database.admin, &sql).await, "23001", "{sql}");
    }
    assert_eq!(database.log().await, before);
    let rest: (i64, i64) = sqlx::query_as("select (select count(*) from log.commit), (select count(*) from log.append_key)")
        .fetch_one(&database.admin)
        .await
        .unwrap();
    assert_eq!(rest, (1, 1));
}

#[tokio::test]
async fn a_later_partition_is_guarded_like_the_first() {
    let database = TestDatabase::new().await;
    // The first partition is as large as it was made; a small second one begins where it ends.
    let write = database.write_side();
    sqlx::raw_sql("update log.head set pos = 4999999, partition_size = 3").execute(&database.admin).await.unwrap();
    write.committer.append(item(&write.ids, &[(stream(&write.ids), 0)], 3)).await.unwrap();
    for verb in
        ["update log.event_000000005000001 set actor = 'x'", "delete from log.event_000000005000001", "truncate log.event_000000005000001"]
    {
        assert_eq!(refusal(&database.admin, verb).await, "23001", "{verb}");
    }
    assert_eq!(refusal(&database.pool(Role::Worker), "select * from log.event_000000005000001").await, "");
    assert_eq!(refusal(&database.pool(Role::App), "select * from log.event_000000005000001").await, "42501");
}
