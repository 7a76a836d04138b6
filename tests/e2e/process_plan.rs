//! What is read again and again while the platform runs reads a handful of rows, however many payments, call-backs and tasks are
//! stored: nothing reads or sorts a whole table.

use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use support::TestDatabase;

/// Rows of each kind that are stored and not wanted.
const STORED: i64 = 30_000;

/// Payments from long ago and under way: their names, watches that are not due, call-backs that are done.
async fn fill(pool: &PgPool) {
    let tables = ["task", "webhook", "provider_reference", "provider_object", "webhook_delivery"];
    for table in tables {
        // Statistics from when the tables were empty, as after an installation.
        let sql = format!("alter table process.{table} set (autovacuum_enabled = off)");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await.unwrap();
    }
    let rows = [
        "insert into process.task (key, tenant, task, due_at)
         select 'watch:' || n, gen_random_uuid(), jsonb_build_object('kind', 'inquire', 'mode', 'watch'), now() + n * interval '1 minute'
         from generate_series(1, $1) n",
        "insert into process.task (key, tenant, task, due_at)
         select 'create:' || n, gen_random_uuid(), jsonb_build_object('kind', 'start', 'tried', 3), now() + n * interval '1 minute'
         from generate_series(1, $1) n",
        // A queue that is due: the first of it are taken, the rest is not sorted for that.
        "insert into process.task (key, tenant, task, due_at)
         select 'webhook:' || n, gen_random_uuid(), jsonb_build_object('kind', 'follow_hint'), now() - n * interval '1 second'
         from generate_series(1, $1) n",
        "insert into process.provider_reference (provider, reference, tenant, attempt)
         select 'pac_' || n % 10, 'R' || n, gen_random_uuid(), '{}' from generate_series(1, $1) n",
        "insert into process.provider_object (account, provider_id, reference)
         select 'pac_' || n % 10, 'P' || n, 'R' || n from generate_series(1, $1) n",
        "insert into process.webhook (id, provider, account, tenant, delivery_id, reference, received_at, headers, body, signature, state)
         select gen_random_uuid(), 'scb', 'pac_' || n % 10,
                case when n % 2 = 0 then '00000000-0000-0000-0000-000000000007'::uuid end, 'D' || n, 'R' || n, now(), '[]', '', 'ok',
                case when n % 5000 < 2 then 'parked' else 'done' end
         from generate_series(1, $1) n",
    ];
    for sql in rows {
        sqlx::query(sql).bind(STORED).execute(pool).await.unwrap();
    }
}

/// Rows that one statement reads, by whatever way, and its plan cannot hide them. It is rolled back.
async fn reads(connection: &mut PgConnection, sql: &str) -> i64 {
    let sql = format!("begin; {sql}");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *connection).await.unwrap();
    let counted = "select (sum(seq_tup_read) + sum(idx_tup_fetch))::bigint from pg_stat_xact_user_tables where schemaname = 'process'";
    let count = sqlx::query_scalar(counted).fetch_one(&mut *connection).await.unwrap();
    sqlx::raw_sql("rollback").execute(connection).await.unwrap();
    count
}

/// The statement with its parameters written into it.
fn with(sql: &str, values: &[&str]) -> String {
    let filled = values.iter().enumerate().rev().map(|(n, value)| (format!("${}", n + 1), value));
    filled.fold(sql.to_owned(), |sql, (name, value)| sql.replace(&name, value))
}

#[tokio::test]
async fn what_workers_and_the_edge_ask_again_and_again_reads_few_rows_however_many_are_stored() {
    let database = TestDatabase::new().await;
    fill(&database.admin).await;
    let tenant = "'00000000-0000-0000-0000-000000000007'::uuid";
    let questions = [
        ("lease tasks", with(include_str!("../../commands/src/sql/lease_tasks.sql"), &["now()", "5", "64"])),
        ("parked call-backs", with(include_str!("../../commands/src/sql/unpark_webhooks.sql"), &["now()", "0", "500"])),
        ("the attempt of a name", with(include_str!("../../commands/src/sql/attempt_of_name.sql"), &["'pac_7'", "'P17'"])),
        ("how many are parked", "select count(*) from process.webhook where state = 'parked'".to_owned()),
        ("deliveries that wait", "select count(*), min(due_at) from process.webhook_delivery where due_at is not null".to_owned()),
        (
            "a merchant's call-backs",
            format!("select * from process.list_webhooks({tenant}, null, null, null, null, null, null, null, null, 50)"),
        ),
        (
            "its parked ones",
            format!("select * from process.list_webhooks({tenant}, 'parked', null, null, null, null, null, null, null, 50)"),
        ),
        (
            "its refused ones",
            format!("select * from process.list_webhooks({tenant}, 'refused', null, null, null, null, null, null, null, 50)"),
        ),
        ("the platform's", "select * from process.list_webhooks(null, 'parked', null, null, null, null, null, null, 20000, 50)".to_owned()),
        (
            "a delivery that came before",
            "select process.take_webhook(gen_random_uuid(), 'scb', 'pac_7', null, 'D17', 'R17', null, null, now(), '[]', '', 'received',
                                         '{\"kind\": \"follow_hint\"}')"
                .to_owned(),
        ),
    ];
    let mut connection = database.admin.acquire().await.unwrap();
    for statistics in ["of empty tables", "of today"] {
        for (what, sql) in &questions {
            let read = reads(&mut connection, sql).await;
            assert!(read < 600, "{what}, with statistics {statistics}: {read} rows are read");
        }
        sqlx::raw_sql("analyze").execute(&mut *connection).await.unwrap();
    }
}
