//! `replay show`, `timeline`, `grep` and `stats`: what an auditor who knows the business looks for.

use std::time::Duration;

use commands::batch::PreparedEvent;
use domain::{
    clock::{Clock, IdSource},
    envelope::{EventMeta, NewEvent, Origin},
    ids::{CommandId, OrderId, PaymentIntentId},
};
use serde_json::{Value, json};
use support::{Replayed, Shop, TestDatabase, TestPlatform, eventually, item, replay, stream};

/// Two shops of two merchants; one sale in the first, two in the second, of which one order is cancelled.
async fn traded() -> (TestDatabase, [Shop; 2]) {
    let database = TestDatabase::new().await;
    let write = database.write_side();
    let handler = &write.handler;
    let shops = [Shop::open(handler).await, Shop::open(handler).await];
    for (shop, item) in [(shops[0], "LATTE"), (shops[1], "MOCHA"), (shops[1], "CAKE")] {
        let order = shop.open_order(handler, &[(item, 85_00)]).await;
        let bill = shop.bill(handler, order).await.unwrap();
        shop.pay_cash(handler, bill).await.unwrap();
    }
    write.stop().await;
    (database, shops)
}

fn events(replayed: &Replayed) -> impl Iterator<Item = &Value> {
    replayed.lines.iter().filter(|line| line["position"].is_number())
}

fn types(replayed: &Replayed) -> Vec<&str> {
    events(replayed).map(|line| line["type"].as_str().unwrap()).collect()
}

fn positions(replayed: &Replayed) -> Vec<i64> {
    events(replayed).map(|line| line["position"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn a_stream_is_shown_by_either_of_its_names() {
    let (database, _) = traded().await;
    let found = replay(&database, &["grep", "--type", "order.opened"]).await.sound();
    let id = found.lines[0]["stream"].as_str().unwrap();
    let shown = replay(&database, &["show", id]).await.sound();
    assert_eq!(types(&shown)[..2], ["order.opened", "order.line_added"]);
    assert_eq!(shown.lines[1]["payload"]["item_code"], "LATTE");
    assert!(events(&shown).zip(1..).all(|(line, version)| line["version"] == version), "the whole stream in order");
    let other_name = id.replace("ord_", "order-");
    assert_eq!(replay(&database, &["show", &other_name]).await.sound().digest, shown.digest);
    assert_eq!(replay(&database, &["show", id, "--limit", "1"]).await.sound().lines.len(), 1);
    assert_eq!(replay(&database, &["show", "ord_00000000000000000000000001"]).await.code, 2, "no such order");
    assert_eq!(replay(&database, &["show", "nonsense"]).await.code, 2);
}

#[tokio::test]
async fn events_are_found_by_every_condition_and_by_all_together() {
    let (database, shops) = traded().await;
    let all = replay(&database, &["grep"]).await.sound();
    let head = database.head().await.pos;
    assert_eq!(positions(&all), (1..=head).collect::<Vec<_>>());
    assert_eq!(all.lines.last().unwrap(), &json!({"events": head}));
    let find = async |arguments: &[&str]| {
        let arguments: Vec<&str> = ["grep"].iter().chain(arguments).copied().collect();
        replay(&database, &arguments).await.sound()
    };
    assert_eq!(types(&find(&["--type", "bill.p*d"]).await), ["bill.payment_allocated", "bill.paid"].repeat(3));
    assert_eq!(types(&find(&["--type", "bill_paid"]).await), [""; 0], "an underscore is an underscore");
    let tenant = shops[1].merchant.to_string();
    let of_tenant = find(&["--tenant", &tenant]).await;
    assert!(events(&of_tenant).all(|line| line["tenant"] == tenant.as_str()) && of_tenant.lines.len() > 10);
    assert_eq!(types(&find(&["--text", "MOCHA", "--type", "order.*"]).await), ["order.line_added"]);
    assert_eq!(types(&find(&["--text", "mocha"]).await), [""; 0], "letter by letter");
    assert_eq!(positions(&find(&["--from", "3", "--to", "5"]).await), [3, 4, 5]);
    assert_eq!(positions(&find(&["--from", "3", "--limit", "2"]).await), [3, 4]);
    assert_eq!(find(&["--actor", "user:*"]).await.lines.len() + find(&["--actor", "system:*"]).await.lines.len(), all.lines.len() + 1);
    // A time cuts the log at one position.
    let time: String = sqlx::query_scalar("select to_char(recorded_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') from log.commit order by first_pos offset 3 limit 1")
        .fetch_one(&database.admin)
        .await
        .unwrap();
    let (before, after) = (find(&["--to", &time]).await, find(&["--from", &time]).await);
    assert!(!positions(&before).is_empty() && !positions(&after).is_empty());
    assert_eq!([positions(&before), positions(&after)].concat(), positions(&all));
    assert_eq!(replay(&database, &["grep", "--from", "yesterday"]).await.code, 2);
}

#[tokio::test]
async fn people_are_shown_rows_in_major_units_and_payloads_as_they_are_stored() {
    let (database, _) = traded().await;
    let head = database.head().await.pos.to_string();
    let questions = [
        (
            &["grep", "--type", "payment_intent.created", "--limit", "1"][..],
            "/payload/amount/amount",
            "{\"amount\":8500,\"currency\":\"THB\"}",
            "85.00",
        ),
        (&["as-of", &head, "payments"], "/amount", "amount=85.00 THB", "=8500"),
    ];
    for (question, amount, text, never) in questions {
        let stored = replay(&database, question).await.sound();
        assert_eq!(stored.lines[0].pointer(amount), Some(&json!(85_00)), "{stored:?}");
        let mut command = support::replay_command(&database, question);
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let shown = String::from_utf8(output.stdout).unwrap();
        assert!(shown.contains(text) && !shown.contains(never), "{shown}");
        assert!(shown.ends_with(&format!("digest {}\n", stored.digest)), "the same answer: {shown}");
    }
}

/// An order that names so many others.
async fn related_to(others: usize) -> (TestDatabase, String) {
    let database = TestDatabase::new().await;
    let write = database.write_side();
    let key = stream(&write.ids);
    let others: Vec<OrderId> = (0..others).map(|_| OrderId(write.ids.next())).collect();
    let mut entry = item(&write.ids, &[(key, 0)], 1);
    let origin = Origin {
        occurred_at: write.clock.now(),
        correlation_id: write.ids.next(),
        causation_id: CommandId(write.ids.next()),
        actor: "test".to_owned(),
        device: None,
        operation: None,
    };
    let payload = json!({"order_ids": others}).to_string().into_bytes();
    let event = NewEvent { event_type: "order.cancelled", schema_version: 1, payload, pii: None };
    entry.events = vec![PreparedEvent::new(key, 1, event, &origin, &EventMeta::default())];
    write.committer.append(entry).await.unwrap();
    write.stop().await;
    (database, OrderId(key.stream_id).to_string())
}

#[tokio::test]
async fn a_timeline_that_ends_too_early_says_so() {
    let (database, order) = related_to(499).await;
    let whole = replay(&database, &["timeline", &order]).await.sound();
    assert_eq!(whole.lines.len(), 1, "{whole:?}");
    let (database, order) = related_to(500).await;
    let cut = replay(&database, &["timeline", &order]).await.sound();
    assert_eq!((cut.lines.len(), &cut.lines[1]), (2, &json!({"cut_at_streams": 500})));
    let mut text = support::replay_command(&database, &["timeline", &order]);
    let output = tokio::task::spawn_blocking(move || text.output()).await.unwrap().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("Cut at 500 streams"));
}

#[tokio::test]
async fn an_explanation_of_the_same_log_keeps_its_digest_whatever_becomes_of_its_deliveries() {
    let (database, _) = traded().await;
    let created = database.log().await.into_iter().find(|event| event.event_type == "payment_intent.created").unwrap();
    let intent = PaymentIntentId(created.stream.stream_id).to_string();
    let explain = async || replay(&database, &["explain", &intent]).await.sound();
    let untold = explain().await;
    let told = "with told as (select tenant, pos, type from log.event where pos = $1), \
                served as (insert into process.webhook_cursor (endpoint, tenant, pos, resends_pos) \
                           select gen_random_uuid(), tenant, pos, 0 from told returning endpoint) \
                insert into process.webhook_delivery (endpoint, event, tenant, pos, event_type) \
                select endpoint, 'evt_1', tenant, pos, type from told, served";
    sqlx::query(told).bind(created.pos).execute(&database.admin).await.unwrap();
    let pending = explain().await;
    sqlx::raw_sql("update process.webhook_delivery set status = 'delivered'").execute(&database.admin).await.unwrap();
    let delivered = explain().await;
    for (explained, state) in [(&pending, "pending"), (&delivered, "delivered")] {
        assert!(explained.lines.iter().any(|line| line["kind"] == "delivery" && line["state"] == state), "{explained:?}");
        assert_eq!(explained.digest, untold.digest, "{state}");
    }
}

#[tokio::test]
async fn figures_add_up_and_do_not_depend_on_the_disk() {
    let (database, shops) = traded().await;
    let stats = replay(&database, &["stats"]).await.sound();
    let head = database.head().await.pos;
    let sum = |field: &str| -> i64 {
        stats.lines.iter().filter(|line| !line[field].is_null()).map(|line| line["events"].as_i64().unwrap()).sum()
    };
    assert_eq!((sum("type"), sum("tenant"), sum("day")), (head, head, head));
    let opened = stats.lines.iter().find(|line| line["type"] == "order.opened").unwrap();
    assert_eq!(opened["events"], 3);
    assert_eq!(stats.lines.iter().filter(|line| line["tenant"].is_string()).count(), 2);
    let tenant = shops[0].merchant.to_string();
    assert!(stats.lines.iter().any(|line| line["tenant"] == tenant.as_str()));
    let streams: i64 = stats.lines.iter().filter_map(|line| line["streams"].as_i64()).sum();
    assert_eq!(streams, 4 + 9, "merchants and stores; orders, bills and intents");
    let bytes: i64 = sqlx::query_scalar("select sum(octet_length(payload) + octet_length(meta))::bigint from log.event")
        .fetch_one(&database.admin)
        .await
        .unwrap();
    assert_eq!(stats.lines.iter().filter_map(|line| line["bytes_so_far"].as_i64()).max(), Some(bytes));
    assert!(stats.lines.iter().any(|line| line["disk_bytes"].as_i64() > Some(0)));
    sqlx::raw_sql("create index on log.event (actor)").execute(&database.admin).await.unwrap();
    let again = replay(&database, &["stats"]).await.sound();
    assert_eq!(again.digest, stats.digest);
    assert_ne!(again.lines, stats.lines, "the disk does");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_is_one_timeline_whichever_part_is_named() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let (order, bill) = platform.billed(&shop, 120_00).await;
    let (payment, intent, reference) = platform.started_qr(&shop, &bill).await;
    platform.pay(&reference, json!({})).await;
    platform.get_until(&shop.cashier, &format!("/v1/orders/{order}"), |order| order["status"] == "completed").await;
    let refund = json!({"payment_id": payment, "amount": {"amount": 120_00, "currency": "THB"}, "destination": "cash", "reason": "cold"});
    let refund = platform.post(&shop.manager, "/v1/refunds", refund).await.id();
    platform.get_until(&shop.manager, &format!("/v1/bills/{bill}"), |bill| bill["refunded"]["amount"] == 120_00).await;
    // Another sale at the same time is none of its business.
    platform.billed(&shop, 10_00).await;
    platform.settled().await;

    let database = &platform.database;
    let timeline = replay(database, &["timeline", &order]).await.sound();
    for other in [&bill, &payment, &intent, &refund] {
        assert_eq!(replay(database, &["timeline", other]).await.sound().digest, timeline.digest, "{other}");
    }
    let seen: std::collections::BTreeSet<&str> = events(&timeline).map(|line| line["stream"].as_str().unwrap()).collect();
    assert_eq!(seen, [order.as_str(), &bill, &intent, &refund].into());
    assert!(positions(&timeline).is_sorted());
    let line = |kind: &str| events(&timeline).find(|line| line["type"] == kind).unwrap_or_else(|| panic!("{kind} in {timeline:?}"));
    // The bank's answer made the bill paid, and that the order complete: by reactions to exactly these events.
    assert_eq!(line("bill.payment_allocated")["because_of"], line("payment_intent.succeeded")["position"]);
    assert_eq!(line("order.completed")["because_of"], line("bill.paid")["position"]);
    assert_eq!(line("order.opened")["because_of"], Value::Null);
    assert_eq!(line("refund.requested")["because_of"], Value::Null);
    assert_eq!(replay(database, &["timeline", &shop.store.to_string()]).await.code, 2, "a store touches everything");
    eventually("the platform proves itself", Duration::from_secs(10), || async {
        (replay(database, &["verify"]).await.code == 0 && replay(database, &["check"]).await.code == 0).then_some(())
    })
    .await;
    platform.stop().await;
}
