//! How fast the log takes commands, as ratios within one run: through the committer, against one transaction per command
//! and against a bare batcher that calls the same function with prepared batches.
//!
//! `cargo run --release -p tests --example append [seconds per figure]`
#![expect(clippy::expect_used, reason = "a measurement that cannot be taken has nothing to report")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use commands::{batch::AppendItem, committer, database, event_store};
use sqlx::{Connection, PgConnection};
use support::{OwnServers, SeededIds, TestDatabase};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// One command: two events on a new stream.
fn command(ids: &SeededIds) -> AppendItem {
    support::item(ids, &[(support::stream(ids), 0)], 2)
}

async fn measure(name: &str, callers: usize, seconds: u64, work: impl Fn(Arc<AtomicU64>) -> tokio::task::JoinHandle<()>) -> u64 {
    let done = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..callers).map(|_| work(done.clone())).collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (from, started) = (done.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let rate = (done.load(Ordering::Relaxed) - from) * 1000 / u64::try_from(started.elapsed().as_millis()).unwrap_or(1);
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    println!("{name:<34} {callers:>4} callers {rate:>8} commands/s");
    rate
}

#[tokio::main]
async fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(4);
    let servers = OwnServers::start("append-bench").await;
    let database: TestDatabase = servers.database().await;
    let options = database::options(&database.url, database::Role::App).expect("options");
    let ids = Arc::new(SeededIds::new(1));
    for callers in [1, 8, 64, 256] {
        let stop = CancellationToken::new();
        let (committer, task) = committer::spawn(options.clone(), Arc::new(watch::channel(0).0), stop.clone());
        let through = measure("committer", callers, seconds, |done| {
            let (committer, ids) = (committer.clone(), ids.clone());
            tokio::spawn(async move {
                loop {
                    committer.append(command(&ids)).await.expect("an answer");
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .await;
        stop.cancel();
        let _ = task.await;
        let connections = callers.min(64);
        let single = measure("one transaction per command", connections, seconds, |done| {
            let (options, ids) = (options.clone(), ids.clone());
            tokio::spawn(async move {
                let mut connection = PgConnection::connect_with(&options).await.expect("a connection");
                loop {
                    event_store::append(&mut connection, &[command(&ids)]).await.expect("an answer");
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .await;
        // As many commands a batch as the committer finds waiting: half of the callers, since the others are in flight.
        let batch = u64::try_from(callers.div_ceil(2)).expect("fits");
        let bare = measure("bare batcher, prepared batches", 1, seconds, |done| {
            let (options, ids) = (options.clone(), ids.clone());
            tokio::spawn(async move {
                let mut connection = PgConnection::connect_with(&options).await.expect("a connection");
                loop {
                    let items: Vec<AppendItem> = (0..batch).map(|_| command(&ids)).collect();
                    event_store::append(&mut connection, &items).await.expect("an answer");
                    done.fetch_add(batch, Ordering::Relaxed);
                }
            })
        })
        .await;
        println!("  committer ÷ single {:.2}, committer ÷ bare batcher of {batch} {:.2}\n", ratio(through, single), ratio(through, bare));
    }
}

#[expect(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "a ratio of rates, for people")]
fn ratio(a: u64, b: u64) -> f64 {
    a as f64 / b.max(1) as f64
}
