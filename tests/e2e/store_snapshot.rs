//! Snapshots shorten a cold load and change nothing else.

use std::time::Duration;

use commands::event_store::uuid_of;
use domain::{
    decider::Aggregate,
    ids::OrderId,
    order::{self, Order},
};
use sqlx::PgPool;
use support::{Shop, TestDatabase, WriteSide, eventually, new_line};

async fn state(write: &WriteSide, shop: &Shop, order: OrderId) -> order::State {
    shop.order_state(&write.handler, order).await
}

/// Version and state schema of the order's snapshot.
async fn snapshot(admin: &PgPool, order: OrderId) -> Option<(i64, i16)> {
    let sql = "select version, state_schema from log.snapshot where stream_id = $1";
    sqlx::query_as(sql).bind(uuid_of(order)).fetch_optional(admin).await.unwrap()
}

/// An order of 120 lines in a database without snapshots.
async fn long_order(database: &TestDatabase) -> (Shop, OrderId) {
    let write = database.write_side();
    let shop = Shop::open(&write.handler).await;
    // One by one: lines that come together are one event.
    let order = shop.open_order(&write.handler, &[("ITEM-0", 100)]).await;
    for n in 1..120 {
        shop.add_line(&write.handler, &shop.caller(&write.handler), order, new_line(&format!("ITEM-{n}"), 100)).await.unwrap();
    }
    assert_eq!(snapshot(&database.admin, order).await, None);
    write.stop().await;
    (shop, order)
}

#[tokio::test]
async fn a_long_stream_gets_a_snapshot_that_loads_to_the_same_state() {
    let database = TestDatabase::new().await;
    let (shop, order) = long_order(&database).await;
    let cold = state(&database.write_side(), &shop, order).await;
    assert_eq!(cold.lines.len(), 120);
    let found = eventually("a snapshot is written", Duration::from_secs(10), || snapshot(&database.admin, order)).await;
    assert_eq!(found, (121, Order::STATE_SCHEMA));
    // The next process starts from it, and reads what came after it.
    let next = database.write_side();
    shop.add_line(&next.handler, &shop.caller(&next.handler), order, new_line("LATE", 100)).await.unwrap();
    let after = state(&next, &shop, order).await;
    assert_eq!(after.lines[..120], cold.lines);
    assert_eq!(after.lines.len(), 121);
    assert_eq!(state(&database.write_side(), &shop, order).await, after);
}

#[tokio::test]
async fn a_snapshot_is_really_what_a_cold_load_starts_from() {
    let database = TestDatabase::new().await;
    let (shop, order) = long_order(&database).await;
    state(&database.write_side(), &shop, order).await;
    eventually("a snapshot is written", Duration::from_secs(10), || snapshot(&database.admin, order)).await;
    sqlx::query("update log.snapshot set state = convert_to(replace(convert_from(state, 'UTF8'), 'ITEM-7\"', 'MARK-7\"'), 'UTF8')")
        .execute(&database.admin)
        .await
        .unwrap();
    assert_eq!(state(&database.write_side(), &shop, order).await.lines[7].line.item_code, "MARK-7");
}

#[tokio::test]
async fn a_snapshot_of_another_state_schema_is_ignored_and_replaced() {
    let database = TestDatabase::new().await;
    let (shop, order) = long_order(&database).await;
    // A newer build wrote it, further on and with fields unknown here.
    sqlx::query("insert into log.snapshot values ($1, 'order', $2, 9999, $3, convert_to('{\"status\":\"melted\"}', 'UTF8'))")
        .bind(uuid_of(shop.merchant))
        .bind(uuid_of(order))
        .bind(Order::STATE_SCHEMA + 1)
        .execute(&database.admin)
        .await
        .unwrap();
    assert_eq!(state(&database.write_side(), &shop, order).await.lines.len(), 120);
    let replaced = || async { snapshot(&database.admin, order).await.filter(|found| *found == (121, Order::STATE_SCHEMA)) };
    eventually("the snapshot is replaced", Duration::from_secs(10), replaced).await;
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_read_costs_only_time() {
    let database = TestDatabase::new().await;
    let (shop, order) = long_order(&database).await;
    sqlx::query("insert into log.snapshot values ($1, 'order', $2, 100, $3, convert_to('{\"status\":', 'UTF8'))")
        .bind(uuid_of(shop.merchant))
        .bind(uuid_of(order))
        .bind(Order::STATE_SCHEMA)
        .execute(&database.admin)
        .await
        .unwrap();
    let write = database.write_side();
    assert_eq!(state(&write, &shop, order).await.lines.len(), 120);
    let answer = shop.add_line(&write.handler, &shop.caller(&write.handler), order, new_line("LATE", 100)).await.unwrap();
    assert_eq!(answer.version, 122);
}
