//! How far the projections are: lag, and waiting for a position (read your writes).

use std::time::Duration;

use sqlx::Row as _;
use tokio::time::Instant;

use crate::{error::Error, queries::ReadModels};

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
    /// `Behind` after `timeout`; `Failed`.
    pub async fn wait_for(&self, names: &[&str], min_pos: i64, timeout: Duration) -> Result<(), WaitError> {
        let deadline = Instant::now() + timeout;
        let mut pause = Duration::from_millis(1);
        loop {
            let slowest = self.lag().await?.into_iter().filter(|lag| names.contains(&lag.name.as_str())).min_by_key(|lag| lag.checkpoint);
            let Some(slowest) = slowest.filter(|lag| lag.checkpoint < min_pos) else { return Ok(()) };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(WaitError::Behind { name: slowest.name, pos: slowest.checkpoint });
            }
            tokio::time::sleep(pause.min(left)).await;
            pause = (pause * 2).min(Duration::from_millis(20));
        }
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
