//! The feed: the log as it grows, for any number of readers of one process.
//!
//! One follower keeps the newest events in memory ([`ring`]); it hears of them from this process's own committer and from JetStream, and
//! checks each against what the log must say. Readers at the tail are served from memory, others from PostgreSQL. NATS may lie, lose or be down: that
//! costs latency, nothing else.

mod bus;
mod follower;
mod ring;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use domain::event::{Commit, ReadEvent};
use tokio::{
    sync::{broadcast, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{error::Error, log_reader::LogSource};
pub use bus::{EventBus, Messages};
use ring::Ring;
pub use ring::size;

/// The feed. Cheap to clone.
#[derive(Clone)]
pub struct Feed {
    reader: Arc<dyn LogSource>,
    ring: Arc<Ring>,
    tail: watch::Receiver<i64>,
    went_back: Arc<AtomicU64>,
}

impl Feed {
    /// Starts the follower; it ends with `shutdown`. `commits` are those that this process makes. Without `nats`, and while that is away,
    /// what others write is asked of PostgreSQL every 50 ms.
    pub fn start(
        reader: impl LogSource + 'static,
        nats: Option<impl EventBus + 'static>,
        commits: Option<broadcast::Receiver<Arc<Commit>>>,
        shutdown: CancellationToken,
    ) -> Self {
        let reader: Arc<dyn LogSource> = Arc::new(reader);
        let nats = nats.map(|nats| Arc::new(nats) as Arc<dyn EventBus>);
        let ring = Arc::new(Ring::default());
        let (sender, tail) = watch::channel(0);
        let went_back = Arc::new(AtomicU64::new(0));
        let follower = follower::Follower::new(reader.clone(), nats, commits, Arc::clone(&ring), sender, Arc::clone(&went_back));
        tokio::spawn(follower.run(shutdown));
        Self { reader, ring, tail, went_back }
    }

    /// How often the log turned out to have been restored to the past: what was read before may be void, whatever stands there now.
    pub fn went_back(&self) -> u64 {
        self.went_back.load(Ordering::Acquire)
    }

    /// The newest position that this process has heard of.
    pub fn tail(&self) -> i64 {
        *self.tail.borrow()
    }

    /// The newest position as it changes, for whoever wants to wake up.
    pub fn watch(&self) -> watch::Receiver<i64> {
        self.tail.clone()
    }

    /// At most `max` events from `after + 1` on, without gaps. Waits up to `wait` for the first; empty when none came.
    ///
    /// # Errors
    /// `AheadOfLog` when the log ends before `after`; `Sql`; `Corrupt`.
    pub async fn next_batch(&self, after: i64, max: usize, wait: Duration) -> Result<Vec<Arc<ReadEvent>>, Error> {
        let deadline = Instant::now() + wait;
        let mut tail = self.tail.clone();
        loop {
            let batch = self.ring.after(after, max);
            if !batch.is_empty() {
                return Ok(batch);
            }
            let known = *tail.borrow_and_update();
            if known < after {
                self.check_not_ahead(after).await?;
            } else if known > after {
                return self.reader.range(after, max).await;
            }
            match tokio::time::timeout_at(deadline, tail.changed()).await {
                Ok(Ok(())) => {}
                // The follower is gone: the process is shutting down.
                Ok(Err(_)) => {
                    tokio::time::sleep_until(deadline).await;
                    return Ok(Vec::new());
                }
                Err(_) => return Ok(Vec::new()),
            }
        }
    }

    /// What this process has heard may be old; only PostgreSQL can say that a reader is beyond the end.
    async fn check_not_ahead(&self, after: i64) -> Result<(), Error> {
        let head = self.reader.head().await?.pos;
        if head < after { Err(Error::AheadOfLog { after, head }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
