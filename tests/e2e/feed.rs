//! The feed costs what the caller's own events cost, however many of other merchants lie between.

use std::time::Duration;

use commands::database::Role;
use domain::ids::{MerchantId, Ulid};
use projections::{ReadModels, ReadScope};
use support::{TestDatabase, eventually};

/// Events of a hundred other merchants between two of one's own.
const FOREIGN: i64 = 50_000;
const OWN: i64 = 20;

/// One's own at the beginning and at the end; as they would have been appended, and folded.
const LOG: &str = "
    insert into log.event
    select n, case when n <= $1 / 2 or n > $2 + $1 / 2 then $3 else ('00000000-0000-4000-8000-' || lpad((n % 100)::text, 12, '0'))::uuid end,
        'order', gen_random_uuid(), 1, 'order.cancelled', 1, 0, now(), now(), gen_random_uuid(), gen_random_uuid(), 'user:test', '{}',
        convert_to('{\"reason\":\"x\"}', 'UTF8'), null, sha256(n::text::bytea)
    from generate_series(1, $1 + $2) n";

/// A log of them, folded up to the end.
async fn written() -> TestDatabase {
    let database = TestDatabase::new().await;
    // Statistics stay those of an empty table.
    sqlx::raw_sql("alter table log.event_000000000000001 set (autovacuum_enabled = off)").execute(&database.admin).await.unwrap();
    sqlx::query(LOG).bind(OWN).bind(FOREIGN).bind(uuid::Uuid::from_bytes([7; 16])).execute(&database.admin).await.unwrap();
    folded_up_to(&database, OWN + FOREIGN).await;
    database
}

async fn folded_up_to(database: &TestDatabase, position: i64) {
    let sql =
        "insert into read.checkpoint (name, version, pos) values ('events', 1, $1) on conflict (name, version) do update set pos = $1";
    sqlx::query(sql).bind(position).execute(&database.admin).await.unwrap();
}

fn own() -> ReadScope {
    ReadScope { tenant: Some(MerchantId(Ulid::from_bytes([7; 16]))), ..ReadScope::default() }
}

/// Positions of one's events after the first.
async fn positions(database: &TestDatabase) -> Vec<i64> {
    let reads = ReadModels::new(database.pool(Role::App));
    reads.events(&own(), 1, i64::MAX, 200).await.unwrap().iter().map(|event| event.pos).collect()
}

#[tokio::test]
async fn the_feed_ends_where_its_projection_stands_and_leaves_out_what_is_halted_in_it() {
    let database = written().await;
    folded_up_to(&database, 5).await;
    assert_eq!(positions(&database).await, [2, 3, 4, 5]);
    // From its third event on; of streams that are halted elsewhere it is told.
    for (name, pos) in [("events", 3), ("orders", 4)] {
        let sql =
            "insert into read.quarantine select $1, 1, tenant, stream_type, stream_id, pos, 'unreadable' from log.event where pos = $2";
        sqlx::query(sql).bind(name).bind(pos).execute(&database.admin).await.unwrap();
    }
    assert_eq!(positions(&database).await, [2, 4, 5]);
    sqlx::raw_sql("delete from read.checkpoint").execute(&database.admin).await.unwrap();
    assert_eq!(positions(&database).await, Vec::<i64>::new(), "what was never folded");
    let nobody = ReadModels::new(database.pool(Role::App)).events(&ReadScope::default(), 0, i64::MAX, 200).await.unwrap();
    assert_eq!(nobody, []);
}

#[tokio::test]
async fn a_page_reads_no_events_of_others_however_many_lie_between_two_of_ones_own() {
    let database = written().await;
    for analysed in [false, true] {
        if analysed {
            sqlx::query("analyze log.event").execute(&database.admin).await.unwrap();
        }
        let read = async || {
            let sql = "select seq_tup_read + idx_tup_fetch, idx_scan from pg_stat_user_tables where relname = 'event_000000000000001'";
            sqlx::query_as::<_, (i64, i64)>(sql).fetch_one(&database.admin).await.unwrap()
        };
        let (before, pool) = (read().await, database.pool(Role::App));
        let reads = ReadModels::new(pool.clone());
        let pages = 20;
        for _ in 0..pages {
            let page = reads.events(&own(), 1, i64::MAX, 200).await.unwrap();
            let positions: Vec<i64> = page.iter().map(|event| event.pos).collect();
            assert_eq!(positions, (2..=OWN / 2).chain(OWN / 2 + FOREIGN + 1..=OWN + FOREIGN).collect::<Vec<_>>());
        }
        pool.close().await;
        // What a session counted is reported when it ends.
        let after = eventually("the sessions' counts are reported", Duration::from_secs(30), || async {
            let now = read().await;
            (now.1 >= before.1 + pages).then_some(now)
        });
        let rows = after.await.0 - before.0;
        assert!(rows <= pages * OWN, "{rows} rows read for {pages} pages of {OWN} events; analysed: {analysed}");
    }
}
