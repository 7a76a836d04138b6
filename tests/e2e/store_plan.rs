//! The append stays a handful of index probes however the tables grew: nothing reads a whole table.

use std::time::Duration;

use commands::{
    batch::{AppendItem, BatchAnswer},
    database::{self, Role},
    event_store,
};
use sqlx::{Connection, PgConnection, Row};
use support::{SeededIds, TestDatabase, TestPlatform, eventually, item, key_claim, stream};

const BATCHES: i64 = 1000;
/// Items of every tenth batch, and of the first ten, for which the server makes its first plans; the others have one.
const LARGE: i64 = 200;

fn entry(ids: &SeededIds, n: i64) -> AppendItem {
    let mut entry = item(ids, &[(stream(ids), 0)], 1);
    entry.keys.push(key_claim(&format!("key {n}")));
    entry
}

#[tokio::test]
async fn an_append_into_tables_that_were_never_analysed_reads_no_whole_table() {
    let database = TestDatabase::new().await;
    // Statistics from when the tables were empty, as after an installation; then a whole day's batches on one plan.
    sqlx::raw_sql("alter table log.stream_head set (autovacuum_enabled = off); alter table log.append_key set (autovacuum_enabled = off)")
        .execute(&database.admin)
        .await
        .unwrap();
    let options = database::options(&database.url, Role::App).unwrap().options([("synchronous_commit", "off")]);
    let mut connection = PgConnection::connect_with(&options).await.unwrap();
    let ids = SeededIds::new(1);
    let mut items = 0;
    for batch in 0..BATCHES {
        let size = if batch < 10 || batch % 10 == 9 { LARGE } else { 1 };
        let entries: Vec<_> = (0..size).map(|n| entry(&ids, items + n)).collect();
        let answer = event_store::append(&mut connection, &entries).await.unwrap();
        assert!(matches!(answer, BatchAnswer::Committed { first_pos, .. } if first_pos == items + 1), "{answer:?}");
        items += size;
    }
    connection.close().await.unwrap();
    let sql = "select relname::text, seq_tup_read, idx_scan, n_tup_ins from pg_stat_user_tables \
               where schemaname = 'log' and relname in ('append_key', 'stream_head') order by relname";
    let counted = || async {
        let rows = sqlx::query(sql).fetch_all(&database.admin).await.unwrap();
        // What a session counted is reported when it ends.
        rows.iter().all(|row| row.get::<i64, _>("n_tup_ins") == items).then_some(rows)
    };
    for row in eventually("the session's counts are reported", Duration::from_secs(20), counted).await {
        let table: String = row.get("relname");
        assert!(row.get::<i64, _>("idx_scan") >= items, "{table} is not read by its index");
        assert!(row.get::<i64, _>("seq_tup_read") < 100, "{table}: {} rows read in whole-table scans", row.get::<i64, _>("seq_tup_read"));
    }
}

#[tokio::test]
async fn what_a_request_calls_is_planned_once_for_a_connection() {
    let database = TestDatabase::new().await;
    let called = [
        "log.append",
        "log.find_key",
        "log.load_snapshot",
        "log.load_stream",
        "log.provider_account_owner",
        "log.provider_accounts",
        "log.streams_stand_at",
        "partner.find_credential",
        "process.take_webhook",
        "read.public_events",
    ];
    let sql = "select p.pronamespace::regnamespace || '.' || p.proname from pg_proc p join pg_language l on l.oid = p.prolang \
               where l.lanname = 'plpgsql' and 'plan_cache_mode=force_generic_plan' = any(p.proconfig) order by 1";
    let found: Vec<String> = sqlx::query_scalar(sql).fetch_all(&database.admin).await.unwrap();
    assert_eq!(found, called);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_growing_table_is_analysed_by_few_rows_and_never_by_its_documents() {
    let platform = TestPlatform::start().await;
    let admin = &platform.database.admin;
    sqlx::raw_sql("select log.add_partition()").execute(admin).await.unwrap();
    let sql = "select format('%s.%s', a.attrelid::regclass, a.attname) from pg_attribute a join pg_class c on c.oid = a.attrelid \
               join pg_namespace n on n.oid = c.relnamespace \
               where c.relkind in ('r', 'p') and a.attnum > 0 and (n.nspname in ('log', 'process', 'gateway', 'privacy', 'partner', 'read') \
               or n.nspname ~ '_v[0-9]+(_[a-z]+)?$') and not attisdropped \
               and a.attstattarget is distinct from case when atttypid in ('bytea'::regtype, 'jsonb'::regtype) then 0 else 10 end";
    assert_eq!(sqlx::query_scalar::<_, String>(sql).fetch_all(admin).await.unwrap(), Vec::<String>::new());
    platform.stop().await;
}
