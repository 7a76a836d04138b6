//! The feed costs what the caller's own events cost, however many of other merchants lie between.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use support::{TestPlatform, eventually};

/// Events of other merchants between two of the caller's.
const FOREIGN: i64 = 100_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_page_reads_no_events_of_others_however_many_lie_between_two_of_ones_own() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    for _ in 0..2 {
        platform.billed(&shop, 100_00).await;
    }
    platform.settled().await;
    let whole = platform.get(&shop.admin, "/v1/events?limit=200").await.ok().body;
    let own = whole["data"].as_array().unwrap().len();
    assert!((2..100).contains(&own), "{own} events");
    let first = whole["data"][0]["position"].as_i64().unwrap();
    // A hundred other merchants, all behind the caller's first event. Statistics stay those of an empty table.
    let sql =
        "insert into events_v1.events (key, tenant, store_id, pos, event_type, object_type, object_id, version, occurred_at, historic)
               select 'evt_foreign_' || n, ('00000000-0000-4000-8000-' || lpad((n % 100)::text, 12, '0'))::uuid, null, $1, 'order.opened',
                      'order', 'ord_' || n, 1, now(), false
               from generate_series(1, $2) n";
    sqlx::query("alter table events_v1.events set (autovacuum_enabled = off)").execute(&platform.database.admin).await.unwrap();
    sqlx::query(sql).bind(first).bind(FOREIGN).execute(&platform.database.admin).await.unwrap();
    let read = async || {
        let sql =
            "select seq_tup_read + idx_tup_fetch, idx_scan from pg_stat_user_tables where schemaname = 'events_v1' and relname = 'events'";
        sqlx::query_as::<_, (i64, i64)>(sql).fetch_one(&platform.database.admin).await.unwrap()
    };
    for analysed in [false, true] {
        if analysed {
            sqlx::query("analyze events_v1.events").execute(&platform.database.admin).await.unwrap();
        }
        let before = read().await;
        let pages = 20;
        for _ in 0..pages {
            let page = platform.get(&shop.admin, &format!("/v1/events?after={first}&limit=200")).await.ok().body;
            assert_eq!((page["data"].as_array().unwrap().len(), &page["has_more"]), (own - 1, &json!(false)));
        }
        // What a session counted is reported when it has been idle for a while.
        let after = eventually("the sessions' counts are reported", Duration::from_secs(30), || async {
            let now = read().await;
            (now.1 >= before.1 + pages).then_some(now)
        })
        .await;
        let rows = after.0 - before.0;
        assert!(
            rows <= 2 * pages * i64::try_from(own).unwrap(),
            "{rows} rows read for {pages} pages of {own} events; analysed: {analysed}"
        );
    }
    // With a filter as well: it is applied to one's own events only.
    let filtered = platform.get(&shop.admin, "/v1/events?types=bill.*").await.ok().body;
    let bills = |page: &Value| page["data"].as_array().unwrap().iter().filter(|e| e["type"].as_str().unwrap().starts_with("bill.")).count();
    assert_eq!((bills(&filtered), &filtered["has_more"]), (bills(&whole), &json!(false)));
    let foreign = platform.send(&shop.admin, Method::GET, "/v1/events/evt_foreign_1", None, None).await;
    assert!([400, 404].contains(&foreign.status.as_u16()), "{foreign:?}");
    platform.stop().await;
}
