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

/// How often a switch is tried again after a reader held a view, or the copy that is to go, for too long.
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
        self.come_close(owner, live, progress).await?;
        let mut hold = owner.begin().await?;
        self.hold_live(&mut hold, live, progress).await?;
        Ok(hold)
    }

    async fn come_close(&mut self, owner: &PgPool, live: &Target, progress: &mut impl FnMut(Stage)) -> Result<(), Error> {
        loop {
            let goal = tables::checkpoint(&mut *owner.acquire().await?, live).await?;
            let position = self.projector.resume().await?;
            if goal - position <= CLOSE {
                return Ok(());
            }
            self.go_to(goal, progress).await?;
        }
    }

    async fn hold_live(&mut self, hold: &mut PgConnection, live: &Target, progress: &mut impl FnMut(Stage)) -> Result<(), Error> {
        // From here on the live projector waits for this lock; the log may grow, but no further than it has read.
        let sql = "select pos from read.checkpoint where name = $1 and version = $2 for update";
        let goal: i64 = sqlx::query_scalar(sql).bind(&live.name).bind(live.version).fetch_one(hold).await?;
        self.go_to(goal, progress).await
    }

    /// Puts the follower's copy in the place of the live one, at the position that it gives. A long read on a view (a dump, say) is
    /// waited for between tries, not with the live projector held; one on the copy that is to go never keeps it waiting.
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
            self.come_close(owner, live, progress).await?;
            let mut hold = owner.begin().await?;
            match self.switch(&mut hold, projection, live, incoming, progress).await {
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

    /// One try, in a transaction that goes on.
    async fn switch(
        &mut self,
        hold: &mut PgConnection,
        projection: &dyn Projection,
        live: &Target,
        incoming: &Target,
        progress: &mut impl FnMut(Stage),
    ) -> Result<(), Error> {
        sqlx::query("set local lock_timeout = '2s'").execute(&mut *hold).await?;
        let retired = Target::retired(live);
        if incoming != &retired {
            // Waits for whoever reads it; so before the live projector is held.
            let sql = format!("drop schema if exists {} cascade", retired.schema);
            sqlx::query(AssertSqlSafe(sql)).execute(&mut *hold).await?;
        }
        self.hold_live(hold, live, progress).await?;
        change_places(hold, projection, live, incoming).await
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
            if events.is_empty() {
                // The next look would find as little, and the live projector may be held.
                let head = self.reader.head().await?.pos;
                let missing = Error::Corrupt { position: position + 1, what: "the log has no event here".to_owned() };
                return Err(if goal > head { Error::AheadOfLog { after: goal, head } } else { missing });
            }
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

/// Puts `incoming` in the place of the live copy, which becomes the retired one: the schema of that name is gone. `hold` holds the live
/// projector.
async fn change_places(hold: &mut PgConnection, projection: &dyn Projection, live: &Target, incoming: &Target) -> Result<(), Error> {
    // A copy of a version that is not in service yet takes its place behind the scenes.
    let first = projection.tables().first().map_or("", |table| table.name);
    let serving: Option<String> = sqlx::query_scalar("select read.serving($1)").bind(first).fetch_one(&mut *hold).await?;
    let (retired, leaving) = (Target::retired(live), Target::beside(live, "leaving"));
    // Another row in its place, not a changed one: a projector waiting for the old row must find it gone, and start afresh.
    rename(hold, live, &leaving).await?;
    if incoming != &retired {
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
