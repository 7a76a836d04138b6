//! A consumer of the log in another process than the one that writes it, as the read models of a second server are: what it sees
//! comes through the relay and JetStream, and is checked as everywhere.

use std::time::Duration;

use anyhow::Result;
use commands::database::Role;
use projections::{Feed, LogReader};
use sqlx::PgPool;
use support::TestDatabase;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{measure::Latencies, sockets::micros};

/// Not counted, at the start: the stream has to be joined first.
const WARM: Duration = Duration::from_secs(1);
/// Events taken at once.
const BATCH: usize = 500;

/// A running consumer.
pub struct Consumer {
    pool: PgPool,
    stop: CancellationToken,
    task: JoinHandle<Result<Latencies>>,
}

impl Consumer {
    /// Starts it at the end of a log.
    pub async fn start(database: &TestDatabase) -> Result<Self> {
        let (pool, stop) = (database.pool(Role::Worker), CancellationToken::new());
        let reader = LogReader::new(pool.clone());
        let after = reader.head().await?.pos;
        let feed = Feed::start(reader, Some(database.nats().await), None, stop.clone());
        let task = tokio::spawn(read(feed, after, stop.clone()));
        Ok(Self { pool, stop, task })
    }

    /// Ends it; for each event the time from when the log took it, by its `recorded_at`, to when it was seen here.
    pub async fn seen(self) -> Result<Latencies> {
        self.stop.cancel();
        let latencies = self.task.await??;
        self.pool.close().await;
        Ok(latencies)
    }
}

async fn read(feed: Feed, mut after: i64, stop: CancellationToken) -> Result<Latencies> {
    let counted_from = micros() + u64::try_from(WARM.as_micros())?;
    let mut latencies = Latencies::default();
    while !stop.is_cancelled() {
        let batch = feed.next_batch(after, BATCH, Duration::from_millis(200)).await?;
        let seen = micros();
        for event in &batch {
            // Microseconds of the machine's clock: the database's is the same one.
            let recorded = u64::try_from(event.recorded_at.timestamp_micros())?;
            if recorded >= counted_from {
                latencies.add(Duration::from_micros(seen.saturating_sub(recorded)));
            }
            after = event.pos;
        }
    }
    Ok(latencies)
}
