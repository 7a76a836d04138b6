//! How far the projections are: lag, and waiting for a position (read your writes).

use std::time::Duration;

use sqlx::Row as _;
use tokio::time::Instant;

use crate::{error::Error, queries::ReadModels};

/// How long projectors of this process are listened to before the database is asked.
const LOCAL_WAIT: Duration = Duration::from_millis(50);

/// Why a wait ended without success.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// The time is over and a projection is still behind.
    #[error("{name} is at position {pos}")]
    Behind {
        /// The slowest of the projections waited for.
        name: String,
        /// Where it is.
        pos: i64,
    },
    /// The position has not been written; to wait for it makes no sense.
    #[error("position {position} has not been written; the log ends at {head}")]
    Unwritten {
        /// The position.
        position: i64,
        /// Where the log ends.
        head: i64,
    },
    /// The database failed.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// How far one projection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lag {
    /// The projection.
    pub name: String,
    /// Where it is.
    pub checkpoint: i64,
    /// Where the log ends.
    pub head: i64,
}

impl Lag {
    /// Events not yet folded in.
    pub const fn events(&self) -> i64 {
        self.head.saturating_sub(self.checkpoint)
    }
}

impl ReadModels {
    /// Waits until each of the named projections (in this build's version) has folded in position `min_pos`.
    ///
    /// # Errors
    /// `Behind` after `timeout`; `Unwritten` for a position beyond the log; `Failed`.
    pub async fn wait_for(&self, names: &[&str], min_pos: i64, timeout: Duration) -> Result<(), WaitError> {
        let deadline = Instant::now() + timeout;
        if self.local_reach(names, min_pos, timeout.min(LOCAL_WAIT)).await {
            return Ok(());
        }
        let mut pause = Duration::from_millis(1);
        loop {
            let slowest = self.lag().await?.into_iter().filter(|lag| names.contains(&lag.name.as_str())).min_by_key(|lag| lag.checkpoint);
            let Some(slowest) = slowest.filter(|lag| lag.checkpoint < min_pos) else { return Ok(()) };
            // Whoever knows of a position was told of it once it was stored.
            if slowest.head < min_pos {
                return Err(WaitError::Unwritten { position: min_pos, head: slowest.head });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(WaitError::Behind { name: slowest.name, pos: slowest.checkpoint });
            }
            tokio::time::sleep(pause.min(left)).await;
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Whether projectors of this process fold in `min_pos` within `wait`. `false` says nothing: the projectors may be in
    /// another process, or that one may be faster.
    async fn local_reach(&self, names: &[&str], min_pos: i64, wait: Duration) -> bool {
        let reached = async {
            for name in names {
                let Some((_, progress)) = self.local.iter().find(|(local, _)| local == name) else { return false };
                if progress.clone().wait_for(|position| *position >= min_pos).await.is_err() {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(wait, reached).await.unwrap_or(false)
    }

    /// How far every projection is, in the order of [`crate::all`]. One that was never set up is at 0.
    ///
    /// # Errors
    /// `Sql`.
    pub async fn lag(&self) -> Result<Vec<Lag>, Error> {
        // The checkpoints first: a head read before them could be older than they are.
        let sql = "with read_so_far as materialized (select name, version, pos from read.checkpoint) \
                   select name, version, pos, log.head_pos() from read_so_far";
        let rows = sqlx::query(sql).fetch_all(&self.pool).await?;
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            let (name, version, checkpoint, head): (String, i32, i64, i64) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
            found.push((version, Lag { name, checkpoint, head }));
        }
        let head = found.iter().map(|(_, lag)| lag.head).max().unwrap_or(0);
        let of = |name: &str, version: i32| found.iter().find(|(v, lag)| *v == version && lag.name == name).map(|(_, lag)| lag.clone());
        let all = crate::all();
        let lags = all.iter().map(|projection| {
            let absent = || Lag { name: projection.name().to_owned(), checkpoint: 0, head };
            of(projection.name(), projection.version()).unwrap_or_else(absent)
        });
        Ok(lags.collect())
    }
}

#[cfg(test)]
mod tests {
    use sqlx::postgres::PgPoolOptions;
    use tokio::sync::watch;

    use super::*;

    /// Read models whose database does not exist: whatever is asked of it fails.
    fn following(positions: &[(&'static str, i64)]) -> (ReadModels, Vec<watch::Sender<i64>>) {
        let pool = PgPoolOptions::new().acquire_timeout(Duration::from_millis(50)).connect_lazy("postgres://x@127.0.0.1:1/x").unwrap();
        let (mut senders, mut projectors) = (Vec::new(), Vec::new());
        for (name, position) in positions {
            let (sender, receiver) = watch::channel(*position);
            senders.push(sender);
            projectors.push((*name, receiver));
        }
        (ReadModels::new(pool).following(projectors), senders)
    }

    #[tokio::test]
    async fn a_position_that_this_process_has_folded_costs_no_query() {
        let (reads, senders) = following(&[("orders", 10), ("bills", 7)]);
        reads.wait_for(&["orders"], 10, Duration::from_secs(1)).await.unwrap();
        assert!(matches!(reads.wait_for(&["orders", "bills"], 8, Duration::from_secs(1)).await, Err(WaitError::Failed(_))));
        assert!(matches!(reads.wait_for(&["refunds"], 1, Duration::from_secs(1)).await, Err(WaitError::Failed(_))), "runs elsewhere");
        let waiting = tokio::spawn(async move { reads.wait_for(&["orders", "bills"], 12, Duration::from_secs(1)).await });
        for sender in &senders {
            sender.send_replace(12);
        }
        waiting.await.unwrap().unwrap();
    }
}
