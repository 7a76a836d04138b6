//! A consumer of the log in another process than the one that writes it, as the read models of a second server are: what it sees
//! comes through the relay and JetStream, and is checked as everywhere.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use commands::database::Role;
use domain::event::ReadEvent;
use futures_util::future::BoxFuture;
use projections::{
    Feed, LogReader,
    log_reader::{Head, LogSource},
};
use sqlx::PgPool;
use support::TestDatabase;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{measure::Latencies, sockets::micros};

/// Not counted, at the start: the stream has to be joined first.
const WARM: Duration = Duration::from_secs(1);
/// Events taken at once.
const BATCH: usize = 500;

/// How long it may take to see the last event once nobody writes any more.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running consumer.
pub struct Consumer {
    pool: PgPool,
    log: WatchedLog,
    stop: CancellationToken,
    task: JoinHandle<Result<Latencies>>,
}

/// What a consumer saw: all that the log got while it ran.
pub struct Seen {
    /// For each event the time from when the log took it, by its `recorded_at`, to when it was seen here.
    pub latencies: Latencies,
    /// Of these, as many came from PostgreSQL, since the stream had not brought them.
    pub from_log: u64,
}

impl Consumer {
    /// Starts it at the end of a log.
    pub async fn start(database: &TestDatabase) -> Result<Self> {
        let (pool, stop) = (database.pool(Role::Worker), CancellationToken::new());
        let reader = LogReader::new(pool.clone());
        let after = reader.head().await?.pos;
        let log = WatchedLog::new(reader, after)?;
        let feed = Feed::start(log.clone(), Some(database.nats().await), None, stop.clone());
        let task = tokio::spawn(read(feed, log.clone(), stop.clone()));
        Ok(Self { pool, log, stop, task })
    }

    /// Ends it once it has seen all that the log has now.
    pub async fn seen(self) -> Result<Seen> {
        let (head, deadline) = (self.log.reader.head().await?.pos, Instant::now() + PATIENCE);
        while self.log.seen() < head && !self.task.is_finished() {
            anyhow::ensure!(Instant::now() < deadline, "the consumer saw events up to {}, the log has {head}", self.log.seen());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.stop.cancel();
        let latencies = self.task.await??;
        anyhow::ensure!(self.log.seen() >= head, "the consumer ended at {}, the log has {head}", self.log.seen());
        self.pool.close().await;
        Ok(Seen { latencies, from_log: self.log.watch.found.load(Ordering::Relaxed) })
    }
}

async fn read(feed: Feed, log: WatchedLog, stop: CancellationToken) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    while !stop.is_cancelled() {
        let after = log.seen();
        let batch = feed.next_batch(after, BATCH, Duration::from_millis(200)).await?;
        let seen = micros();
        for (event, position) in batch.iter().zip(after + 1..) {
            anyhow::ensure!(event.pos == position, "the consumer saw {} where {position} was to come", event.pos);
            // Microseconds of the machine's clock: the database's is the same one.
            let recorded = u64::try_from(event.recorded_at.timestamp_micros())?;
            if recorded >= log.watch.counted_from {
                latencies.add(Duration::from_micros(seen.saturating_sub(recorded)));
            }
            log.watch.seen.store(position, Ordering::Relaxed);
        }
    }
    Ok(latencies)
}

/// The log as the consumer reads it, which notes what was read of it that had not been seen before.
#[derive(Clone)]
struct WatchedLog {
    reader: LogReader,
    watch: Arc<Watch>,
}

/// What is known of a consumer's reading.
struct Watch {
    /// Events recorded before this, in microseconds since 1970, do not count.
    counted_from: u64,
    /// Up to here the consumer has seen all.
    seen: AtomicI64,
    /// Up to here events were found in the log.
    read: AtomicI64,
    /// How many of those that count were found there before the consumer saw them.
    found: AtomicU64,
}

impl WatchedLog {
    fn new(reader: LogReader, after: i64) -> Result<Self> {
        let counted_from = micros() + u64::try_from(WARM.as_micros())?;
        let watch = Watch { counted_from, seen: AtomicI64::new(after), read: AtomicI64::new(after), found: AtomicU64::default() };
        Ok(Self { reader, watch: Arc::new(watch) })
    }

    fn seen(&self) -> i64 {
        self.watch.seen.load(Ordering::Relaxed)
    }

    fn note(&self, events: &[Arc<ReadEvent>]) {
        let Some(last) = events.last() else { return };
        let known = self.seen().max(self.watch.read.fetch_max(last.pos, Ordering::Relaxed));
        let counts = |event: &&Arc<ReadEvent>| {
            event.pos > known
                && u64::try_from(event.recorded_at.timestamp_micros()).is_ok_and(|recorded| recorded >= self.watch.counted_from)
        };
        self.watch.found.fetch_add(events.iter().filter(counts).map(|_| 1).sum(), Ordering::Relaxed);
    }
}

impl LogSource for WatchedLog {
    fn head(&self) -> BoxFuture<'_, Result<Head, projections::Error>> {
        LogSource::head(&self.reader)
    }

    fn range(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<Arc<ReadEvent>>, projections::Error>> {
        Box::pin(async move {
            let events = LogSource::range(&self.reader, after, limit).await?;
            self.note(&events);
            Ok(events)
        })
    }
}
