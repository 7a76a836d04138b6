//! Several want the same stream: one winner per version, all or nothing per item, no harm to neighbours.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use commands::{
    committer::ItemOutcome,
    error::CommandError,
    event_store::{self, uuid_of},
    handle::{Caller, CommandHandler, Reply, UnitOfWork},
};
use domain::{
    bill::{self, Bill},
    envelope::{StreamKey, StreamType},
    ids::{BillId, OrderId},
    order::{self, Order},
};
use futures_util::{FutureExt as _, future::join_all};
use support::{Shop, TestDatabase, WriteSide, item, key_claim, new_line, stream};

fn order_stream(shop: &Shop, order: OrderId) -> StreamKey {
    StreamKey { tenant: shop.merchant, stream_type: StreamType::Order, stream_id: order.0 }
}

/// Every version of a stream, and the item code of each line in it.
async fn versions_and_items(database: &TestDatabase, key: StreamKey) -> (Vec<i64>, Vec<String>) {
    let events = event_store::load_stream(&database.admin, key, 0).await.unwrap();
    let item = |payload: &[u8]| {
        let payload: serde_json::Value = serde_json::from_slice(payload).unwrap();
        payload["item_code"].as_str().map(str::to_owned)
    };
    (events.iter().map(|event| event.version).collect(), events.iter().filter_map(|event| item(&event.payload)).collect())
}

/// Repeats a command that lost too many races, as its client would.
async fn add_line_until_done(handler: &CommandHandler, shop: &Shop, order: OrderId, code: &str) -> usize {
    let caller = shop.caller(handler);
    for lost in 0..20 {
        match shop.add_line(handler, &caller, order, new_line(code, 100)).await {
            Ok(_) => return lost,
            Err(CommandError::Conflict) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("{code} lost every race");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_64_appends_that_expect_one_version_one_wins_each_round() {
    let database = TestDatabase::new().await;
    let (one, other) = (database.write_side(), database.write_side());
    let key = stream(&one.ids);
    for version in 0..5 {
        let racer = |n| {
            let write = if n % 2 == 0 { &one } else { &other };
            write.committer.append(item(&write.ids, &[(key, version)], 1))
        };
        let outcomes = join_all((0..64).map(racer)).await;
        let won = outcomes.iter().filter(|outcome| matches!(outcome, Ok(ItemOutcome::Committed { .. }))).count();
        let lost = outcomes.iter().filter(|outcome| matches!(outcome, Ok(ItemOutcome::Conflict { stream }) if *stream == key)).count();
        assert_eq!((won, lost), (1, 63));
    }
    assert_eq!(versions_and_items(&database, key).await.0, [1, 2, 3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_64_callers_with_one_if_match_one_wins_and_the_others_learn_the_version() {
    let database = TestDatabase::new().await;
    let (one, other) = (database.write_side(), database.write_side());
    let shop = Shop::open(&one.handler).await;
    let order = shop.open_order(&one.handler, &[("ESPRESSO", 60_00)]).await;
    let change = |n: usize| {
        let handler = if n.is_multiple_of(2) { &one.handler } else { &other.handler };
        let caller = Caller { if_match: Some(2), ..shop.caller(handler) };
        async move {
            let command = order::Command::Adjust { amount: 5, reason: format!("caller {n}") };
            shop.change(handler, &caller, order, command).await
        }
    };
    let outcomes = join_all((0..64).map(change)).await;
    let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let stale = outcomes.iter().filter(|outcome| matches!(outcome, Err(CommandError::StaleVersion { current: 3 }))).count();
    assert_eq!((won, stale), (1, 63));
    assert_eq!(versions_and_items(&database, order_stream(&shop, order)).await.0, [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_64_callers_without_one_every_change_lands_once() {
    let database = TestDatabase::new().await;
    let (one, other) = (database.write_side(), database.write_side());
    let shop = Shop::open(&one.handler).await;
    let order = shop.open_order(&one.handler, &[]).await;
    let codes: Vec<String> = (0..64).map(|n| format!("ITEM-{n:02}")).collect();
    let change = |(n, code): (usize, &String)| {
        let handler = if n.is_multiple_of(2) { &one.handler } else { &other.handler };
        let code = code.clone();
        async move { add_line_until_done(handler, &shop, order, &code).await }
    };
    let lost: usize = join_all(codes.iter().enumerate().map(change)).await.into_iter().sum();
    let (versions, mut items) = versions_and_items(&database, order_stream(&shop, order)).await;
    items.sort();
    assert_eq!(items, codes);
    assert_eq!(versions, (1..=65).collect::<Vec<_>>());
    assert!(lost <= 64, "{lost} commands gave up and came again");
}

#[tokio::test]
async fn an_item_over_several_streams_is_all_or_nothing() {
    let database = TestDatabase::new().await;
    let write = database.write_side();
    let [first, second, third] = std::array::from_fn(|_| stream(&write.ids));
    write.committer.append(item(&write.ids, &[(second, 0)], 1)).await.unwrap();
    let mut refused = item(&write.ids, &[(first, 0), (second, 0), (third, 0)], 2);
    refused.keys.push(key_claim("of the refused item"));
    let outcome = write.committer.append(refused).await.unwrap();
    assert_eq!(outcome, ItemOutcome::Conflict { stream: second });
    assert_eq!(database.head().await.pos, 1);
    for table in ["stream_head", "append_key"] {
        let sql = sqlx::AssertSqlSafe(format!("select count(*) from log.{table}"));
        let rows: i64 = sqlx::query_scalar(sql).fetch_one(&database.admin).await.unwrap();
        assert_eq!(rows, i64::from(table == "stream_head"), "{table}");
    }
    let outcome = write.committer.append(item(&write.ids, &[(first, 0), (second, 1), (third, 0)], 2)).await.unwrap();
    assert_eq!(outcome, ItemOutcome::Committed { last_pos: 7 });
}

#[tokio::test]
async fn a_sale_paid_in_cash_moves_order_bill_and_payment_in_one_commit() {
    let database = TestDatabase::new().await;
    let write = database.write_side();
    let shop = Shop::open(&write.handler).await;
    let order = shop.open_order(&write.handler, &[("ESPRESSO", 60_00), ("CAKE", 95_50)]).await;
    let bill = shop.bill(&write.handler, order).await.unwrap();
    let before = database.head().await.pos;
    shop.pay_cash(&write.handler, bill).await.unwrap();
    let log = database.log().await;
    let paid: Vec<&str> = log.iter().filter(|event| event.pos > before).map(|event| event.event_type.as_str()).collect();
    assert_eq!(paid, ["payment_intent.created", "payment_intent.succeeded", "bill.payment_allocated", "bill.paid", "order.completed"]);
    let commits: i64 =
        sqlx::query_scalar("select count(*) from log.commit where last_pos > $1").bind(before).fetch_one(&database.admin).await.unwrap();
    assert_eq!(commits, 1);
    assert!(log.iter().all(|event| event.stream.tenant == shop.merchant));
}

/// One batch is under way while the others wait, so that these go together in the next.
async fn append_together(write: &WriteSide, items: Vec<commands::batch::AppendItem>) -> Vec<ItemOutcome> {
    let first = write.committer.append(item(&write.ids, &[(stream(&write.ids), 0)], 1));
    let (_, outcomes) = tokio::join!(first, join_all(items.into_iter().map(|item| write.committer.append(item))));
    outcomes.into_iter().map(Result::unwrap).collect()
}

#[tokio::test]
async fn a_conflicting_item_fails_alone() {
    let database = TestDatabase::new().await;
    let write = database.write_side();
    let taken = stream(&write.ids);
    write.committer.append(item(&write.ids, &[(taken, 0)], 1)).await.unwrap();
    let mut items: Vec<_> = (0..40).map(|_| item(&write.ids, &[(stream(&write.ids), 0)], 1)).collect();
    items[7] = item(&write.ids, &[(taken, 0)], 1);
    items[23] = item(&write.ids, &[(stream(&write.ids), 4)], 1);
    let outcomes = append_together(&write, items).await;
    let refused: Vec<usize> = (0..40).filter(|n| !matches!(outcomes[*n], ItemOutcome::Committed { .. })).collect();
    assert_eq!(refused, [7, 23]);
    assert!([7, 23].iter().all(|n| matches!(outcomes[*n], ItemOutcome::Conflict { .. })));
    assert_eq!(database.head().await.pos, 40);
}

#[tokio::test]
async fn an_item_that_the_database_refuses_fails_alone() {
    let database = TestDatabase::new().await;
    let write = database.write_side();
    let mut items: Vec<_> = (0..40).map(|_| item(&write.ids, &[(stream(&write.ids), 0)], 1)).collect();
    "nul \0 in a text".clone_into(&mut items[11].events[0].actor);
    items[12].keys.push(key_claim("nul \0 in a key"));
    let outcomes = append_together(&write, items).await;
    let failed: Vec<usize> = (0..40).filter(|n| matches!(outcomes[*n], ItemOutcome::Failed(_))).collect();
    assert_eq!(failed, [11, 12]);
    assert_eq!(database.head().await.pos, 39, "the first one and 38 neighbours");
}

#[tokio::test]
async fn a_nul_in_a_payload_is_stored_as_it_is() {
    let database = TestDatabase::new().await;
    let write = database.write_side();
    let mut entry = item(&write.ids, &[(stream(&write.ids), 0)], 1);
    entry.events[0].event.payload = br#"{"reason":"a \u0000 within"}"#.to_vec();
    assert!(matches!(write.committer.append(entry).await, Ok(ItemOutcome::Committed { .. })));
    assert_eq!(database.log().await[0].payload, br#"{"reason":"a \u0000 within"}"#);
}

#[tokio::test]
async fn a_warm_state_that_another_process_outdated_is_read_again() {
    let database = TestDatabase::new().await;
    let (here, there) = (database.write_side(), database.write_side());
    let shop = Shop::open(&here.handler).await;
    let order = shop.open_order(&here.handler, &[("ESPRESSO", 60_00)]).await;
    for n in 0..3 {
        shop.add_line(&there.handler, &shop.caller(&there.handler), order, new_line(&format!("THERE-{n}"), 1)).await.unwrap();
        let answer = shop.add_line(&here.handler, &shop.caller(&here.handler), order, new_line(&format!("HERE-{n}"), 1)).await.unwrap();
        assert_eq!(answer.version, 4 + 2 * n, "decided on what the other process had written");
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["lines"].as_array().unwrap().len(), usize::try_from(3 + 2 * n).unwrap());
    }
}

#[tokio::test]
async fn a_refusal_is_not_decided_on_a_state_that_another_process_outdated() {
    let database = TestDatabase::new().await;
    let (here, there) = (database.write_side(), database.write_side());
    let shop = Shop::open(&here.handler).await;
    let order = shop.open_order(&here.handler, &[("ESPRESSO", 60_00)]).await;
    let bill = shop.bill(&here.handler, order).await.unwrap();
    shop.void_bill(&there.handler, bill).await.unwrap();
    // Here the order is still remembered as billed.
    let answer = shop.add_line(&here.handler, &shop.caller(&here.handler), order, new_line("CAKE", 95_00)).await;
    assert_eq!(answer.unwrap().version, 5);
    // And a stale If-Match is compared with the version that the stream has, not with a remembered one.
    shop.add_line(&there.handler, &shop.caller(&there.handler), order, new_line("TEA", 40_00)).await.unwrap();
    let caller = Caller { if_match: Some(6), ..shop.caller(&here.handler) };
    shop.add_line(&here.handler, &caller, order, new_line("MILK", 10_00)).await.unwrap();
}

/// Reads an order and then its bill; between the two, at the first try, another process voids the bill. A voided bill on an
/// order that is still billed never stood in the log, and is refused here.
async fn see_order_and_bill(
    unit: &mut UnitOfWork,
    (order, bill): (OrderId, BillId),
    (shop, there): (Shop, CommandHandler),
    tries: Arc<AtomicUsize>,
) -> Result<Reply, CommandError> {
    let order = unit.state::<Order>(order).await?;
    if tries.fetch_add(1, Ordering::SeqCst) == 0 {
        shop.void_bill(&there, bill).await?;
    }
    let state = unit.state::<Bill>(bill).await?;
    if order.bill_id == Some(bill) && state.status == bill::Status::Cancelled {
        return Err(CommandError::Rejected(bill::Rejection::BillHasPayments.into()));
    }
    Ok(unit.done())
}

#[tokio::test]
async fn a_refusal_is_not_decided_on_two_streams_seen_at_different_moments() {
    let database = TestDatabase::new().await;
    let there = database.write_side();
    let shop = Shop::open(&there.handler).await;
    let order = shop.open_order(&there.handler, &[("ESPRESSO", 60_00)]).await;
    let bill = shop.bill(&there.handler, order).await.unwrap();
    // A process that remembers nothing, and one that remembers both streams from before.
    let (cold, warm) = (database.write_side(), database.write_side());
    let tries = Arc::new(AtomicUsize::new(1));
    let sees = |write: &WriteSide, bill: BillId| {
        let (handler, there, tries) = (write.handler.clone(), there.handler.clone(), tries.clone());
        async move {
            let caller = shop.caller(&handler);
            let seen = handler
                .transact(&caller, |unit| see_order_and_bill(unit, (order, bill), (shop, there.clone()), tries.clone()).boxed())
                .await;
            seen.map(|_| tries.load(Ordering::SeqCst))
        }
    };
    tries.store(0, Ordering::SeqCst);
    assert_eq!(sees(&cold, bill).await.unwrap(), 2, "decided again, once");
    let bill = shop.bill(&there.handler, order).await.unwrap();
    sees(&warm, bill).await.unwrap();
    tries.store(0, Ordering::SeqCst);
    assert_eq!(sees(&warm, bill).await.unwrap(), 2, "what it remembered was outdated meanwhile");
}

#[tokio::test]
async fn an_order_is_never_seen_under_another_tenant() {
    let database = TestDatabase::new().await;
    let write = database.write_side();
    let (mine, yours) = (Shop::open(&write.handler).await, Shop::open(&write.handler).await);
    let order = mine.open_order(&write.handler, &[("ESPRESSO", 60_00)]).await;
    for _ in 0..2 {
        let refused = yours.add_line(&write.handler, &yours.caller(&write.handler), order, new_line("CAKE", 1)).await;
        assert!(matches!(refused, Err(CommandError::Rejected(rejected)) if rejected.code == "OrderNotFound"));
    }
    let heads: i64 = sqlx::query_scalar("select count(*) from log.stream_head where stream_id = $1")
        .bind(uuid_of(order))
        .fetch_one(&database.admin)
        .await
        .unwrap();
    assert_eq!(heads, 1);
    assert_eq!(mine.order_state(&write.handler, order).await.lines.len(), 1);
}
