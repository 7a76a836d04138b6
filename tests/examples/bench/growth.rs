//! Whether a command costs more when the log is about ten times as long and has as many times the streams: whole commands through the
//! handler (load, decide, append, with their keys), and the append alone. Measuring makes both logs longer by the same: commands are
//! counted, so that the long one stays the longer one by far.

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
    measure::{Subject, interleaved, median, rate_of},
    report::Aim,
};

const SECTION: &str = "growth";
/// Commands under way at once.
const CALLERS: usize = 64;
/// How many times as long the long log is at first: about ten times in the middle of the section.
const TIMES: usize = 12;
/// And at the end, at the least.
const LEAST_TIMES: i64 = 8;

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

    async fn length(&self) -> i64 {
        self.database.head().await.pos
    }

    async fn drop(self) {
        self.side.stop().await;
        OwnServers::drop_database(self.database).await;
    }
}

/// Runs the section.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let orders = bench.effort.choose(24_576, 4_096);
    let short = Log::of(bench, "bench_short", orders, orders).await?;
    let long = Log::of(bench, "bench_long", orders * TIMES, orders).await?;
    let figures = measured(bench, &short, &long, orders / 24).await?;
    let (few, many) = (short.events, long.events);
    let kinds = [
        ("orders opened", "opening an order"),
        ("lines added to orders that have to be loaded", "adding a line to an order that has to be loaded"),
        ("bare appends", "a bare append"),
    ];
    for (figures, (done, one)) in figures.chunks_exact(2).zip(kinds) {
        bench.report.figure(SECTION, format!("{done} on a log that began with {few} events"), figures[0], "commands/s");
        let what = format!("cost of {one} on a log that began with {many} events, in {TIMES} times the streams ÷ that");
        bench.report.ratio(SECTION, what, (figures[0], figures[1]), Some(Aim::AtMost(1.1)));
    }
    long.drop().await;
    short.drop().await;
    Ok(())
}

/// Medians of the kinds of commands, each on the short log and on the long one, `count` commands a round.
async fn measured(bench: &mut Bench, short: &Log, long: &Log, count: usize) -> Result<Vec<f64>> {
    let ids = &Arc::new(SeededIds::new(30));
    let shape = &Shape::two_events(ids);
    let options =
        [database::options(&short.database.url, database::Role::App)?, database::options(&long.database.url, database::Role::App)?];
    let appends = u64::try_from(count)?;
    let appending = |options| -> Subject<'_> {
        let options: &PgConnectOptions = options;
        Box::new(move || Box::pin(bare::rate_of(options, shape, ids, 32, appends)))
    };
    let subjects = [
        opening(short, count),
        opening(long, count),
        changing(short, count),
        changing(long, count),
        appending(&options[0]),
        appending(&options[1]),
    ];
    let rounds = bench.effort.rounds() + 2;
    let mut figures = vec![Vec::new(); subjects.len()];
    for round in 0..rounds {
        for (figures, figure) in figures.iter_mut().zip(interleaved(1, &subjects).await?) {
            figures.push(figure);
        }
        if round == rounds / 2 {
            let (few, many) = (short.length().await, long.length().await);
            bench.report.note(format!("{SECTION}: after the middle one of {rounds} rounds the logs had {few} and {many} events"));
        }
    }
    let (few, many) = (short.length().await, long.length().await);
    anyhow::ensure!(many >= few * LEAST_TIMES, "the logs ended with {few} and {many} events: too near to each other");
    Ok(figures.into_iter().map(median).collect())
}

/// Orders opened per second, each a new stream; its store's state is warm.
fn opening(log: &Log, count: usize) -> Subject<'_> {
    Box::new(move || {
        Box::pin(rate_of(CALLERS, count, |_| {
            let (handler, shop) = (log.side.handler.clone(), log.shop);
            tokio::spawn(async move { Ok(open(&handler, shop).await.map(drop)?) })
        }))
    })
}

/// Lines added per second to orders of the sample, one after the other: at first none of them is warm.
fn changing(log: &Log, count: usize) -> Subject<'_> {
    Box::new(move || {
        Box::pin(async move {
            log.side.handler.forget_all();
            // The next round goes on where this one ends.
            let first = log.next.fetch_add(count, Ordering::Relaxed);
            let changed = rate_of(CALLERS, count, |n| {
                let (handler, shop, order) = (log.side.handler.clone(), log.shop, log.sample[(first + n) % log.sample.len()]);
                tokio::spawn(async move { Ok(add_line(&handler, shop, order).await?) })
            });
            changed.await
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
