//! `replay as-of` and `replay diff`: the past for auditors, from the log alone.

use api::{simulated_account::SimulatedAccount, simulated_provider::Simulated};
use commands::database::Role;
use projections::projection::TableSpec;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use support::{ApiShop, Shop, TestDatabase, TestPlatform, item, order_body, replay, replay_command, stream};

use crate::store_guard::refusal;

/// The tables of every read model.
fn tables() -> Vec<TableSpec> {
    projections::all().iter().flat_map(|projection| projection.tables()).copied().collect()
}

/// The rows of a table as they stand, in byte order of their keys, as a fold writes them.
async fn live(platform: &TestPlatform, table: &TableSpec) -> Vec<Value> {
    let sql = format!("select to_jsonb(t)::text from read.{} t order by key collate \"C\"", table.name);
    let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&platform.database.admin).await.unwrap();
    rows.iter().map(|row| (table.normalise)(row).unwrap()).collect()
}

/// One more of each thing that a read model is about; the person before is forgotten.
async fn trade(platform: &TestPlatform, shop: &ApiShop, customer: &mut Option<String>) {
    platform.shop().await;
    let (_, bill) = platform.billed(shop, 60_00).await;
    let payment = platform.post(&shop.cashier, "/v1/payments", json!({"bill_id": bill, "tender": "cash"})).await.id();
    let refund = json!({"payment_id": payment, "destination": "cash", "reason": "cold", "amount": {"amount": 5_00, "currency": "THB"}});
    platform.post(&shop.manager, "/v1/refunds", refund).await.ok();
    let account = SimulatedAccount::of(Simulated::Scb, "http://127.0.0.1:9").opening();
    platform.post(&shop.admin, "/v1/provider-accounts", account).await.ok();
    let endpoint = json!({"url": "http://127.0.0.1:9/", "events": "dispute.opened"});
    platform.post(&shop.admin, "/v1/webhook-endpoints", endpoint).await.ok();
    if let Some(before) = customer {
        platform.post(&shop.admin, &format!("/v1/customers/{before}/erase"), json!({"reason": "requested"})).await.ok();
    }
    let profile = json!({"profile": {"name": "Somchai Jaidee"}});
    *customer = Some(platform.post(&shop.cashier, "/v1/customers", profile).await.id());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_as_of_a_moment_is_the_table_of_that_moment() {
    let platform = TestPlatform::start().await;
    let (shop, mut customer) = (platform.shop().await, None);
    trade(&platform, &shop, &mut customer).await;
    platform.settled().await;
    let position = platform.database.head().await.pos;
    let mut then = Vec::new();
    for table in tables() {
        let rows = live(&platform, &table).await;
        assert!(!rows.is_empty(), "{} has nothing to compare", table.name);
        then.push((table, rows));
    }
    assert_eq!(platform.database.head().await.pos, position, "nothing went on meanwhile");
    trade(&platform, &shop, &mut customer).await;
    platform.settled().await;
    for (table, rows) in then {
        let mut shown = replay(&platform.database, &["as-of", &position.to_string(), table.name]).await.sound().lines;
        assert_eq!(shown.pop().unwrap(), json!({"read_model": table.name, "position": position, "rows": rows.len()}));
        assert_eq!(shown, rows, "{}", table.name);
        assert_ne!(live(&platform, &table).await, rows, "{} did not change: the comparison says little", table.name);
    }
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_shows_and_compares_moments() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let other = platform.shop().await;
    let (order, bill) = platform.billed(&shop, 40_00).await;
    platform.post(&other.cashier, "/v1/orders", order_body(&other, 10_00)).await.ok();
    platform.settled().await;
    let first = platform.database.head().await.pos.to_string();
    platform.post(&shop.cashier, "/v1/payments", json!({"bill_id": bill, "tender": "cash"})).await.ok();
    let late = platform.post(&shop.cashier, "/v1/orders", order_body(&shop, 5_00)).await.id();
    platform.settled().await;
    let second = platform.database.head().await.pos.to_string();

    let all = replay(&platform.database, &["as-of", &first, "orders"]).await.sound();
    assert_eq!(all.digest.len(), 64);
    let again = replay(&platform.database, &["as-of", &first, "orders"]).await.sound();
    assert_eq!(all.digest, again.digest, "the log went on, the answer stays");
    let own = [format!("tenant={}", shop.merchant), "status=billed".to_owned()];
    let filtered = replay(&platform.database, &["as-of", &first, "orders", &own[0], &own[1]]).await.sound();
    assert_eq!(filtered.lines.iter().filter_map(|line| line["key"].as_str()).collect::<Vec<_>>(), [order.as_str()]);

    let diff = replay(&platform.database, &["diff", &first, &second, "orders"]).await.sound();
    let changes: Vec<_> = diff.lines.iter().filter(|line| line.get("key").is_some()).collect();
    assert_eq!(changes.len(), 2, "{diff:?}");
    let of = |key: &str| changes.iter().find(|line| line["key"] == key).unwrap();
    assert_eq!(of(&order)["changed"]["status"], json!({"before": "billed", "after": "completed"}));
    assert_eq!(of(&late)["added"]["status"], "open");
    assert_eq!(diff.lines.last().unwrap()["added"], 1);
    let back = replay(&platform.database, &["diff", &second, &first, "orders", &format!("key={late}")]).await.sound();
    assert_eq!((&back.lines[0]["removed"]["status"], back.lines.len()), (&json!("open"), 2), "{back:?}");
    let everything = replay(&platform.database, &["diff", &first, &second]).await.sound();
    for table in ["orders", "bills", "payments", "daily_sales"] {
        assert!(everything.lines.iter().any(|line| line["read_model"] == table), "{table}");
    }
    assert_eq!(replay(&platform.database, &["diff", &first, &first]).await.sound().lines.len(), 1, "nothing differs from itself");
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_takes_times_and_answers_people_in_text() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let order = platform.post(&shop.cashier, "/v1/orders", order_body(&shop, 10_00)).await.id();
    platform.settled().await;
    let event = platform.database.log().await.into_iter().find(|event| event.event_type == "order.opened").unwrap();
    let time = event.recorded_at.to_rfc3339();
    let by_time = replay(&platform.database, &["as-of", &time, "orders"]).await.sound();
    assert_eq!(by_time.lines[0]["key"], order);
    let output = replay_command(&platform.database, &["as-of", &time, "orders"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains(&format!("{order}  ")) && text.contains("status=open") && text.ends_with(&format!("digest {}\n", by_time.digest)),
        "{text}"
    );
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_compares_versions_at_the_position_at_which_one_of_them_stands() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let (order, bill) = platform.billed(&shop, 10_00).await;
    platform.settled().await;
    // A second version that came out differently in one field, and lost a table.
    let head = platform.database.head().await.pos;
    for sql in [
        "create schema bills_v9".to_owned(),
        "create table bills_v9.bills as select * from bills_v2.bills".to_owned(),
        "update bills_v9.bills set total = total + 1".to_owned(),
        "grant usage on schema bills_v9 to smartpos_auditor".to_owned(),
        "grant select on all tables in schema bills_v9 to smartpos_auditor".to_owned(),
        format!("insert into read.checkpoint values ('bills', 9, {head})"),
    ] {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&platform.database.admin).await.unwrap();
    }
    let diff = replay(&platform.database, &["diff", "bills_v2", "bills_v9"]).await.sound();
    assert_eq!(diff.lines[0], json!({"read_model": "bills", "key": bill, "changed": {"total": {"before": 1000, "after": 1001}}}));
    assert_eq!(diff.lines[1]["read_model"], "bill_orders");
    assert_eq!(diff.lines[1]["removed"]["order_id"], order);
    assert_eq!(diff.lines[2], json!({"between": ["bills_v2", "bills_v9"], "added": 0, "removed": 1, "changed": 1}));
    // The one in service goes on, and is compared as it was where the other stands still.
    let (_, late) = platform.billed(&shop, 5_00).await;
    platform.settled().await;
    let apart = replay(&platform.database, &["diff", "bills_v2", "bills_v9"]).await.sound();
    assert_eq!((apart.lines.len(), &apart.lines[..2]), (3, &diff.lines[..2]), "{apart:?}");
    let last = json!({"between": ["bills_v2", "bills_v9"], "added": 0, "removed": 1, "changed": 1, "folded_to": head});
    assert_eq!(apart.lines[2], last, "nothing of {late}");
    let back = replay(&platform.database, &["diff", "bills_v9", "bills_v2", "bills", &format!("tenant={}", shop.merchant)]).await.sound();
    assert_eq!(back.lines[0]["changed"]["total"], json!({"before": 1001, "after": 1000}), "{back:?}");
    // Of two that stand still neither can be folded.
    let sql = "insert into read.checkpoint values ('bills', 10, 1)";
    sqlx::raw_sql(sql).execute(&platform.database.admin).await.unwrap();
    let refused = replay(&platform.database, &["diff", "bills_v9", "bills_v10"]).await;
    assert!(refused.code == 2 && refused.errors.contains("stands at position"), "{refused:?}");
    platform.stop().await;
}

#[tokio::test]
async fn a_time_whose_commit_is_missing_is_a_fault_and_not_searched_for_without_end() {
    let database = TestDatabase::new().await;
    let write = database.write_side();
    for _ in 0..5 {
        write.committer.append(item(&write.ids, &[(stream(&write.ids), 0)], 1)).await.unwrap();
    }
    write.stop().await;
    let times: Vec<String> = database.log().await.iter().map(|event| event.recorded_at.to_rfc3339()).collect();
    let app = database.pool(Role::App);
    // Each a commit of its own; one between others, then the first one, before which there is none to come back to.
    for (missing, time) in [(4, &times[3]), (1, &times[0])] {
        let sql = format!(
            "set session_replication_role = replica; delete from log.commit where first_pos = {missing}; \
             set session_replication_role = origin"
        );
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&database.admin).await.unwrap();
        let sql = format!("set statement_timeout = '10s'; select log.position_at('{time}')");
        assert_eq!(refusal(&app, &sql).await, "XX001", "{missing}");
        let asked = replay(&database, &["as-of", time, "orders"]).await;
        let told = format!("the log has no commit of position {missing}");
        assert!(asked.code == 3 && asked.errors.contains(&told) && asked.lines.is_empty(), "{asked:?}");
    }
}

#[tokio::test]
async fn streams_that_a_read_model_halted_at_are_left_out_and_named() {
    let database = TestDatabase::new().await;
    let write = database.write_side();
    let shop = Shop::open(&write.handler).await;
    let halted = shop.open_order(&write.handler, &[("LATTE", 85_00)]).await.to_string();
    let other = shop.open_order(&write.handler, &[("MOCHA", 95_00)]).await.to_string();
    write.stop().await;
    let opened = database.log().await.into_iter().find(|event| event.event_type == "order.opened").unwrap();
    let sql = "insert into read.quarantine select 'orders', 3, tenant, stream_type, stream_id, pos, 'x' from log.event where pos = $1";
    sqlx::query(sql).bind(opened.pos).execute(&database.admin).await.unwrap();
    let (before, head) = ((opened.pos - 1).to_string(), database.head().await.pos.to_string());
    let left_out = json!({"read_model": "orders",
        "left_out": {"tenant": shop.merchant.to_string(), "stream": halted, "position": opened.pos}});
    let shown = replay(&database, &["as-of", &head, "orders"]).await.sound();
    assert_eq!((&shown.lines[0]["key"], &shown.lines[1]), (&json!(other), &left_out), "{shown:?}");
    assert_eq!(shown.lines[2]["rows"], 1);
    let diff = replay(&database, &["diff", &before, &head, "orders"]).await.sound();
    assert_eq!((&diff.lines[0]["key"], &diff.lines[1], diff.lines.len()), (&json!(other), &left_out, 3), "{diff:?}");
    let earlier = replay(&database, &["as-of", &before, "orders"]).await.sound();
    assert_eq!((earlier.lines.len(), &earlier.lines[0]["rows"]), (1, &json!(0)), "nothing was left out by then");
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_refuses_what_does_not_exist() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    platform.post(&shop.cashier, "/v1/orders", order_body(&shop, 10_00)).await.ok();
    platform.settled().await;
    let head = platform.database.head().await.pos;
    let beyond = (head + 1).to_string();
    let refusals: [(&[&str], &str); 8] = [
        (&["as-of", &beyond, "orders"], "has not been written"),
        (&["as-of", "tomorrow", "orders"], "must be a log position"),
        (&["as-of", "9999-01-01T00:00:00Z", "orders"], "future"),
        (&["as-of", "1", "order"], "there is no read model 'order'; there are"),
        (&["as-of", "1", "orders", "colour=red"], "orders has no column 'colour'; it has key"),
        (&["as-of", "1", "orders", "status"], "column=value"),
        (&["diff", "1", "orders_v3"], "cannot be compared"),
        (&["diff", "orders_v3", "bills_v2"], "not versions of one projection"),
    ];
    for (arguments, why) in refusals {
        let refused = replay(&platform.database, arguments).await;
        assert!(refused.code == 2 && refused.errors.contains(why) && refused.lines.is_empty(), "{arguments:?}: {refused:?}");
    }
    platform.stop().await;
}
