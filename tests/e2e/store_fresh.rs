//! A stream under an id that was made a moment ago is not looked for, and still never written over.

use std::sync::Arc;

use commands::{
    committer,
    database::{self, Role},
    error::CommandError,
    event_log::PgAppender,
    handle::{CommandHandler, Reply, UnitOfWork},
    orders::{self, NewOrder},
};
use domain::{
    ids::StoreId,
    order::{Order, OrderType},
};
use futures_util::FutureExt;
use support::{ManualClock, SeededIds, Shop, TestDatabase, new_line};
use tokio_util::sync::CancellationToken;

/// Opens an order under an id of the unit's own making, as the edge does.
async fn open(unit: &mut UnitOfWork, store_id: StoreId, price: i64) -> Result<Reply, CommandError> {
    let order_id = unit.next_id();
    let lines = vec![new_line("LAT", price)];
    let (order_type, table_number, order_number) = (OrderType::Takeaway, None, None);
    let new = NewOrder { order_id, store_id, order_type, table_number, order_number, lines, opened_at: None };
    let state = orders::open(unit, new).await?;
    unit.reply::<Order>(201, order_id, &state)
}

#[tokio::test]
async fn a_new_order_reads_nothing_from_the_database() {
    let database = TestDatabase::new().await;
    let stop = CancellationToken::new();
    let options = database::options(&database.url, Role::App).unwrap();
    let (committer, _task) = committer::spawn(PgAppender::new(options), committer::News::default(), stop.clone());
    let reads = database.pool(Role::App);
    let handler = CommandHandler::new(reads.clone(), committer, Arc::new(ManualClock::default()), Arc::new(SeededIds::new(9)));
    let shop = Shop::open(&handler).await;
    // Store and merchant are warm; whatever is read from here on fails.
    reads.close().await;
    let before = database.head().await.pos;
    handler.transact(&shop.caller(&handler), |unit| open(unit, shop.store, 100).boxed()).await.unwrap();
    assert_eq!(database.head().await.pos, before + 2, "opened, one line");
    stop.cancel();
}

#[tokio::test]
async fn an_id_that_comes_twice_never_writes_over_what_is_there() {
    let database = TestDatabase::new().await;
    let write = database.write_side();
    let shop = Shop::open(&write.handler).await;
    let handler = |seed: u64| {
        let (pool, clock) = (database.pool(Role::App), Arc::new(ManualClock::default()));
        CommandHandler::new(pool, write.committer.clone(), clock, Arc::new(SeededIds::new(seed)))
    };
    let place = async |handler: &CommandHandler, price: i64| {
        handler.transact(&shop.caller(&write.handler), |unit| open(unit, shop.store, price).boxed()).await.unwrap()
    };
    let first = place(&handler(77), 100).await;
    let log = database.log().await;
    // The same ids once more, as after a fault of the source of randomness.
    let second = place(&handler(77), 200).await;
    assert_ne!(first.body, second.body);
    let after = database.log().await;
    assert_eq!(after[..log.len()], log[..], "what was there stands");
    let opened: Vec<_> = after.iter().filter(|event| event.event_type == "order.opened").map(|event| event.stream.stream_id).collect();
    assert_eq!(opened.len(), 2);
    assert_ne!(opened[0], opened[1], "decided again under another id");
    write.stop().await;
}
