//! Whether a command costs more when the log is ten times as long and has ten times as many streams: whole commands through the
//! handler (load, decide, append, with their keys), and the append alone.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use anyhow::Result;
use commands::{
    database,
    error::CommandError,
    handle::{CommandHandler, Reply, UnitOfWork},
    orders::{self, NewOrder},
};
use domain::{
    ids::OrderId,
    order::{Order, OrderType},
};
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use support::{OwnServers, SeededIds, Shop, TestDatabase, WriteSide, new_line};

use crate::{
    Bench,
    bare::{self, Shape},
    measure::{Subject, interleaved, rate},
    report::Aim,
};

const SECTION: &str = "growth";
/// Commands under way at once.
const CALLERS: usize = 64;

/// A log with a history of orders.
struct Log {
    database: TestDatabase,
    side: WriteSide,
    shop: Shop,
    /// Orders from the whole length of the log, as many for a long one as for a short one.
    sample: Vec<OrderId>,
    next: AtomicUsize,
    events: i64,
}

impl Log {
    async fn of(bench: &Bench, name: &str, orders: usize, sample: usize) -> Result<Self> {
        let database = bench.servers.near_database(name).await;
        let side = database.write_side();
        let shop = Shop::open(&side.handler).await;
        let opened = stream::iter(0..orders).map(|_| open(&side.handler, shop)).buffer_unordered(CALLERS);
        let all: Vec<OrderId> = opened.try_collect().await?;
        let sample = all.iter().step_by((orders / sample).max(1)).copied().collect();
        let events = database.head().await.pos;
        Ok(Self { database, side, shop, sample, next: AtomicUsize::new(0), events })
    }

    async fn drop(self) {
        self.side.stop().await;
        OwnServers::drop_database(self.database).await;
    }
}

/// Runs the section.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let orders = bench.effort.choose(16_384, 4_096);
    let short = Log::of(bench, "bench_short", orders, orders).await?;
    let long = Log::of(bench, "bench_long", orders * 10, orders).await?;
    let (ids, window) = (Arc::new(SeededIds::new(30)), bench.effort.window());
    let shape = Shape::two_events(&ids);
    let options =
        [database::options(&short.database.url, database::Role::App)?, database::options(&long.database.url, database::Role::App)?];
    let (shape, ids) = (&shape, &ids);
    let appending = |options| -> Subject<'_> {
        let options: &PgConnectOptions = options;
        Box::new(move || Box::pin(async move { Ok(bare::rate(options, shape, ids, 32, window).await) }))
    };
    let subjects = [
        opening(&short, window),
        opening(&long, window),
        changing(&short, window),
        changing(&long, window),
        appending(&options[0]),
        appending(&options[1]),
    ];
    // Each round adds to both; the long log stays the longer one by far.
    let figures = interleaved(bench.effort.rounds() + 2, &subjects).await?;
    drop(subjects);
    let (few, many) = (short.events, long.events);
    let kinds = [
        ("orders opened", "opening an order"),
        ("lines added to orders that have to be loaded", "adding a line to an order that has to be loaded"),
        ("bare appends", "a bare append"),
    ];
    for (figures, (done, one)) in figures.chunks_exact(2).zip(kinds) {
        bench.report.figure(SECTION, format!("{done} on a log that began with {few} events"), figures[0], "commands/s");
        let what = format!("cost of {one} on a log that began with {many} events, in ten times the streams ÷ that");
        bench.report.ratio(SECTION, what, (figures[0], figures[1]), Some(Aim::AtMost(1.1)));
    }
    long.drop().await;
    short.drop().await;
    Ok(())
}

/// Orders opened per second, each a new stream; its store's state is warm.
fn opening(log: &Log, window: std::time::Duration) -> Subject<'_> {
    Box::new(move || {
        Box::pin(async move {
            let opened = rate(CALLERS, window, |done| {
                let (handler, shop) = (log.side.handler.clone(), log.shop);
                tokio::spawn(async move {
                    loop {
                        match open(&handler, shop).await {
                            Ok(_) => done.fetch_add(1, Ordering::Relaxed),
                            Err(error) => return println!("  an order was not opened: {error}"),
                        };
                    }
                })
            });
            Ok(opened.await)
        })
    })
}

/// Lines added per second to orders of the sample, one after the other: at first none of them is warm.
fn changing(log: &Log, window: std::time::Duration) -> Subject<'_> {
    Box::new(move || {
        Box::pin(async move {
            log.side.handler.forget_all();
            let (sample, next) = (Arc::new(log.sample.clone()), Arc::new(AtomicUsize::new(log.next.load(Ordering::Relaxed))));
            let changed = rate(CALLERS, window, |done| {
                let (handler, shop, sample, next) = (log.side.handler.clone(), log.shop, Arc::clone(&sample), Arc::clone(&next));
                tokio::spawn(async move {
                    loop {
                        let order = sample[next.fetch_add(1, Ordering::Relaxed) % sample.len()];
                        match add_line(&handler, shop, order).await {
                            Ok(()) => done.fetch_add(1, Ordering::Relaxed),
                            Err(error) => return println!("  a line was not added: {error}"),
                        };
                    }
                })
            });
            let changed = changed.await;
            // The next round goes on where this one ended.
            log.next.store(next.load(Ordering::Relaxed), Ordering::Relaxed);
            Ok(changed)
        })
    })
}

async fn open(handler: &CommandHandler, shop: Shop) -> Result<OrderId, CommandError> {
    let order_id = OrderId(handler.ids().next());
    let new = NewOrder {
        order_id,
        store_id: shop.store,
        order_type: OrderType::Takeaway,
        table_number: None,
        order_number: None,
        lines: vec![new_line("LAT", 85_00), new_line("CRO", 75_00)],
        opened_at: None,
    };
    let caller = shop.caller_with_key(handler, &order_id.to_string(), "POST /v1/orders", &body());
    handler.transact(&caller, |unit| opened(unit, new.clone()).boxed()).await?;
    Ok(order_id)
}

async fn opened(unit: &mut UnitOfWork, new: NewOrder) -> Result<Reply, CommandError> {
    let id = new.order_id;
    let state = orders::open(unit, new).await?;
    unit.reply::<Order>(201, id, &state)
}

async fn add_line(handler: &CommandHandler, shop: Shop, order: OrderId) -> Result<(), CommandError> {
    let key = handler.ids().next().to_string();
    let caller = shop.caller_with_key(handler, &key, "POST /v1/orders/{id}/lines", &body());
    shop.add_line(handler, &caller, order, new_line("TEA", 60_00)).await.map(drop)
}

/// Of about the size of a real one: it is hashed with the key.
fn body() -> Value {
    json!({"order_type": "takeaway", "lines": [{"item_code": "LAT", "quantity_milli": 1_000}, {"item_code": "CRO", "quantity_milli": 1_000}]})
}
