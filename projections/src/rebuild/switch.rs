//! Two copies of a projection meet at one position and change places.

use std::{sync::Arc, time::Duration};

use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres, Transaction};

use super::Stage;
use crate::{
    error::Error,
    log_reader::LogReader,
    projection::Projection,
    runner::Projector,
    tables::{self, Target},
};

/// So few events behind that the live projector may be held for them.
const CLOSE: i64 = 2_000;

/// How often a switch is tried again after a reader held a view for too long.
const TAKE_OVER_TRIES: u32 = 30;

/// Follows the live copy with another one.
pub(super) struct Follower {
    projector: Projector<PgPool>,
    reader: LogReader,
}

impl Follower {
    pub(super) fn new(worker: &PgPool, projection: &Arc<dyn Projection>, target: &Target) -> Self {
        let projector = Projector::new(target.clone(), Arc::clone(projection), worker.clone());
        Self { projector, reader: LogReader::new(worker.clone()) }
    }

    pub(super) const fn position(&self) -> i64 {
        self.projector.position()
    }

    /// Brings the follower to exactly where the live copy is, and holds the live projector there until the transaction ends.
    pub(super) async fn meet(
        &mut self,
        owner: &PgPool,
        live: &Target,
        progress: &mut impl FnMut(Stage),
    ) -> Result<Transaction<'static, Postgres>, Error> {
        let sql = "select pos from read.checkpoint where name = $1 and version = $2";
        loop {
            let goal: i64 = sqlx::query_scalar(sql).bind(&live.name).bind(live.version).fetch_one(owner).await?;
            let position = self.projector.resume().await?;
            if goal - position <= CLOSE {
                break;
            }
            self.go_to(goal, progress).await?;
        }
        // From here on the live projector waits for this lock; the log may grow, but no further than it has read.
        let mut hold = owner.begin().await?;
        let sql = AssertSqlSafe(format!("{sql} for update"));
        let goal: i64 = sqlx::query_scalar(sql).bind(&live.name).bind(live.version).fetch_one(&mut *hold).await?;
        self.go_to(goal, progress).await?;
        Ok(hold)
    }

    /// Puts the follower's copy in the place of the live one, at the position that it gives. A long read on a view (a dump, say) is
    /// waited for between tries, never with the live projector held.
    pub(super) async fn take_over(
        &mut self,
        owner: &PgPool,
        projection: &dyn Projection,
        live: &Target,
        incoming: &Target,
        progress: &mut impl FnMut(Stage),
    ) -> Result<i64, Error> {
        let mut tries = 0;
        loop {
            let mut hold = self.meet(owner, live, progress).await?;
            match change_places(&mut hold, projection, live, incoming).await {
                Ok(()) => {
                    hold.commit().await?;
                    return Ok(self.position());
                }
                Err(error) if error.is_lock_timeout() && tries < TAKE_OVER_TRIES => {
                    hold.rollback().await?;
                    tries += 1;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn go_to(&mut self, goal: i64, progress: &mut impl FnMut(Stage)) -> Result<(), Error> {
        loop {
            let position = self.projector.resume().await?;
            let left = goal - position;
            if left == 0 {
                return Ok(());
            }
            // The live copy began again, after the database was restored to the past.
            let left = usize::try_from(left).map_err(|_| Error::AheadOfLog { after: position, head: goal })?;
            let events = self.reader.range(position, left.min(self.projector.most(position))).await?;
            match self.projector.fold_and_write(events).await {
                Ok(()) => {}
                // The projector goes on with single events from here, and sets the bad one aside.
                Err(error) if error.is_bad_data() => {}
                Err(error) => return Err(error),
            }
            progress(Stage::Folding { position: self.projector.position(), of: goal });
        }
    }
}

/// Puts `incoming` in the place of the live copy, which becomes the retired one. `hold` holds the live projector.
async fn change_places(hold: &mut PgConnection, projection: &dyn Projection, live: &Target, incoming: &Target) -> Result<(), Error> {
    // A copy of a version that is not in service yet takes its place behind the scenes.
    let first = projection.tables().first().map_or("", |table| table.name);
    let serving: Option<String> = sqlx::query_scalar("select read.serving($1)").bind(first).fetch_one(&mut *hold).await?;
    let (retired, leaving) = (Target::retired(live), Target::beside(live, "leaving"));
    // Another row in its place, not a changed one: a projector waiting for the old row must find it gone, and start afresh.
    rename(hold, live, &leaving).await?;
    if incoming != &retired {
        let sql = format!("drop schema if exists {} cascade", retired.schema);
        sqlx::query(AssertSqlSafe(sql)).execute(&mut *hold).await?;
        for table in ["quarantine", "checkpoint"] {
            let sql = AssertSqlSafe(format!("delete from read.{table} where name = $1 and version = $2"));
            sqlx::query(sql).bind(&retired.name).bind(retired.version).execute(&mut *hold).await?;
        }
    }
    rename(hold, incoming, live).await?;
    rename(hold, &leaving, &retired).await?;
    if serving.as_deref() == Some(live.schema.as_str()) {
        tables::serve(hold, projection, true).await?;
    }
    Ok(())
}

async fn rename(connection: &mut PgConnection, from: &Target, to: &Target) -> Result<(), Error> {
    let sql = format!("alter schema {} rename to {}", from.schema, to.schema);
    sqlx::query(AssertSqlSafe(sql)).execute(&mut *connection).await?;
    for table in ["quarantine", "checkpoint"] {
        let sql = AssertSqlSafe(format!("update read.{table} set name = $3 where name = $1 and version = $2"));
        sqlx::query(sql).bind(&from.name).bind(from.version).bind(&to.name).execute(&mut *connection).await?;
    }
    Ok(())
}
