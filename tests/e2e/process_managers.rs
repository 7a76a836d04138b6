//! Process managers on a real PostgreSQL that is slow.

use std::{sync::Arc, time::Duration};

use commands::{
    database::{self, Role},
    handle::CommandHandler,
    own_commits::OwnCommits,
    process_runner,
};
use support::{PATIENCE, Proxy, Shop, TestDatabase, eventually};
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn managers_go_on_where_connections_that_are_opened_all_at_once_would_all_come_too_late() {
    let database = TestDatabase::new().await;
    let write = database.write_side();
    let shop = Shop::open(&write.handler).await;
    for _ in 0..40 {
        let order = shop.open_order(&write.handler, &[("LAT", 85_00)]).await;
        let bill = shop.bill(&write.handler, order).await.unwrap();
        shop.pay_cash(&write.handler, bill).await.unwrap();
    }
    // One by itself is open in 0.3 s; sixteen side by side need 4.8 s, and nobody waits for longer than three.
    let slow = Proxy::before(&database.url).await;
    slow.open_in(Duration::from_millis(300));
    let pool = database::pool(slow.url(), Role::App, 16).unwrap();
    // A process that has just begun: it knows no stream, so that each reaction reads.
    let handler = CommandHandler::new(pool, write.committer.clone(), write.clock.clone(), write.ids.clone());
    let stop = CancellationToken::new();
    let (store, moved) = (database.pool(Role::Worker), write.moved.clone());
    let managers = tokio::spawn(process_runner::run(store, handler, moved, OwnCommits::default(), Arc::default(), stop.clone()));
    let head = database.head().await.pos;
    eventually("the managers reacted to everything", PATIENCE, async || {
        let sql = "select pos from process.checkpoint";
        let stand: Option<i64> = sqlx::query_scalar(sql).fetch_optional(&database.admin).await.unwrap();
        (stand? >= head).then_some(())
    })
    .await;
    stop.cancel();
    managers.await.unwrap();
}
