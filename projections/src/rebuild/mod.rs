//! Rebuilds a projection beside the live one, compares the two, and takes its place; the old one stays for a way back.
//!
//! 1. [`bulk`]: the log up to the live checkpoint is folded into a schema of its own, by several connections at once. Rows
//!    that are new go in by COPY, rows that come back by upsert; memory is bounded. Nobody reads that schema yet.
//! 2. The copy follows the live one, which is held for the last few events; at that moment a snapshot is taken.
//! 3. [`compare`]: both are compared row by row in the snapshot, while the live one goes on. A difference means that the live
//!    one is not what the log says, or that this build folds differently without a new version; it is shown, and nothing
//!    changes places unless that was asked for.
//! 4. [`switch`]: the live one is held once more and both change places in one transaction. Readers never see an empty table.
//!    The old one keeps its checkpoint under another name; [`rollback`] catches it up and puts it back the same way.
//!
//! Killed at any moment before the switch, a rebuild leaves a schema that nobody reads and the next one drops. A rebuild also
//! releases the streams that a since-corrected mistake had halted; that is a difference, too.

mod bulk;
mod compare;
mod copy;
mod switch;

use std::sync::Arc;

use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres, pool::PoolConnection};

pub use self::compare::Difference;
use crate::{
    error::Error,
    install::{add_checkpoint, drop_indexes_of_readers, install_closed, make_index, open_to_readers},
    log_reader::LogReader,
    projection::Projection,
    snapshot,
    tables::{self, Target},
};

/// How far a rebuild or rollback is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The log is folded.
    Folding {
        /// So far.
        position: i64,
        /// Up to here.
        of: i64,
    },
    /// The indexes that only readers need are made, now that the rows are in.
    Indexing {
        /// Made so far.
        done: usize,
        /// In all.
        of: usize,
    },
    /// Live and rebuilt rows are compared, table by table.
    Comparing {
        /// Rebuilt rows compared so far.
        rows: i64,
        /// Rebuilt rows in all.
        of: i64,
    },
}

/// Rows in memory of each connection, as a rule.
pub const ROWS_IN_MEMORY: usize = 20_000;

/// How a rebuild is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Connections that fold side by side.
    pub connections: u32,
    /// Rows that each of them keeps in memory before it writes them: [`ROWS_IN_MEMORY`], unless memory is short.
    pub rows_in_memory: usize,
    /// Take over even where the live rows differ.
    pub accept_differences: bool,
}

/// What a rebuild found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebuildReport {
    /// The projection.
    pub projection: &'static str,
    /// Where both were compared.
    pub compared_at: i64,
    /// Rows of the new one there.
    pub rows: i64,
    /// Rows that differ in all.
    pub differing: i64,
    /// The first of them, by table and key.
    pub differences: Vec<Difference>,
    /// Where the new one took over; none when it did not.
    pub switched_at: Option<i64>,
}

impl Target {
    fn beside(live: &Self, suffix: &str) -> Self {
        Self { name: format!("{}#{suffix}", live.name), version: live.version, schema: format!("{}_{suffix}", live.schema) }
    }

    fn shadow(live: &Self) -> Self {
        Self::beside(live, "rebuild")
    }

    /// Where the copy waits that the last rebuild or rollback replaced.
    pub(crate) fn retired(live: &Self) -> Self {
        Self::beside(live, "retired")
    }
}

/// Folds `projection` anew, compares, and puts the result into service. `owner`: may create schemas, two connections;
/// `worker`: a member of `smartpos_worker`, two connections more than `wanted` says. `progress` hears of every stage.
///
/// # Errors
/// `Sql`; `Corrupt` for an event that this build does not know or that is missing, and for a part that ended early; `Rebuild` when another
/// one, a check or a diff is under way; `AheadOfLog`.
pub async fn rebuild(
    owner: &PgPool,
    worker: &PgPool,
    projection: Arc<dyn Projection>,
    wanted: Wanted,
    mut progress: impl FnMut(Stage),
) -> Result<RebuildReport, Error> {
    let live = Target::live(projection.as_ref());
    let guard = Guard::take(owner, projection.as_ref()).await?;
    let result = rebuild_guarded(owner, worker, &projection, &live, wanted, &mut progress).await;
    guard.release().await?;
    result
}

async fn rebuild_guarded(
    owner: &PgPool,
    worker: &PgPool,
    projection: &Arc<dyn Projection>,
    live: &Target,
    wanted: Wanted,
    progress: &mut impl FnMut(Stage),
) -> Result<RebuildReport, Error> {
    let shadow = Target::shadow(live);
    let goal = tables::checkpoint(&mut *worker.acquire().await?, live).await?;
    let head = LogReader::new(worker.clone()).head().await?.pos;
    if goal > head {
        return Err(Error::AheadOfLog { after: goal, head });
    }
    let mut indexes = prepare(owner, projection.as_ref(), &shadow).await?;
    match bulk::fold(worker, projection, &shadow, goal, wanted, progress).await {
        Ok(()) => {}
        // Some row is refused by the database: the careful way finds the event and sets its stream aside.
        Err(error) if error.is_bad_data() => indexes = prepare(owner, projection.as_ref(), &shadow).await?,
        Err(error) => return Err(error),
    }
    let mut tx = owner.begin().await?;
    let count = indexes.len();
    for (done, index) in indexes.into_iter().enumerate() {
        progress(Stage::Indexing { done, of: count });
        make_index(&mut tx, index).await?;
    }
    open_to_readers(&mut tx, projection.as_ref(), &shadow.schema).await?;
    tx.commit().await?;

    let mut follower = switch::Follower::new(worker, projection, &shadow);
    let hold = follower.meet(owner, live, progress).await?;
    let mut moment = snapshot::take(worker).await?;
    hold.rollback().await?;
    let compared_at = follower.position();
    let comparison = compare::compare(&mut moment.keeper, projection.as_ref(), live, &shadow, progress).await?;
    moment.keeper.commit().await?;

    let accepted = comparison.differing == 0 || wanted.accept_differences;
    let switched_at = if accepted {
        Some(follower.take_over(owner, projection.as_ref(), live, &shadow, progress).await?)
    } else {
        drop_shadow(owner, &shadow).await?;
        None
    };
    let compare::Comparison { rows, differing, differences } = comparison;
    Ok(RebuildReport { projection: projection.name(), compared_at, rows, differing, differences, switched_at })
}

/// Puts the projection that the last rebuild (or rollback) replaced back into service: catches it up, then both change places
/// in one transaction. Doing it again undoes it. `owner`, `worker`: as for [`rebuild`]. Says where the change took place.
///
/// # Errors
/// `Rebuild` when there is nothing to go back to; else as [`rebuild`].
pub async fn rollback(
    owner: &PgPool,
    worker: &PgPool,
    projection: Arc<dyn Projection>,
    mut progress: impl FnMut(Stage),
) -> Result<i64, Error> {
    let live = Target::live(projection.as_ref());
    let retired = Target::retired(&live);
    let guard = Guard::take(owner, projection.as_ref()).await?;
    let result = async {
        let sql = "select exists (select from read.checkpoint where name = $1 and version = $2)";
        let exists: bool = sqlx::query_scalar(sql).bind(&retired.name).bind(retired.version).fetch_one(worker).await?;
        if !exists {
            let what = "there is no earlier copy of this version to go back to".to_owned();
            return Err(Error::Rebuild { projection: projection.name(), what });
        }
        let mut follower = switch::Follower::new(worker, &projection, &retired);
        follower.take_over(owner, projection.as_ref(), &live, &retired, &mut progress).await
    }
    .await;
    guard.release().await?;
    result
}

/// Empty tables in a schema of their own and a checkpoint at 0, whatever an earlier rebuild left behind. Gives the indexes that are
/// still to be made once the tables are full.
async fn prepare(owner: &PgPool, projection: &dyn Projection, shadow: &Target) -> Result<Vec<String>, Error> {
    drop_shadow(owner, shadow).await?;
    let mut tx = owner.begin().await?;
    install_closed(&mut tx, projection, &shadow.schema).await?;
    let indexes = drop_indexes_of_readers(&mut tx, &shadow.schema).await?;
    add_checkpoint(&mut tx, &shadow.name, shadow.version).await?;
    tx.commit().await?;
    Ok(indexes)
}

async fn drop_shadow(owner: &PgPool, shadow: &Target) -> Result<(), Error> {
    let mut tx = owner.begin().await?;
    sqlx::query(AssertSqlSafe(format!("drop schema if exists {} cascade", shadow.schema))).execute(&mut *tx).await?;
    for table in ["quarantine", "checkpoint"] {
        let sql = AssertSqlSafe(format!("delete from read.{table} where name = $1 and version = $2"));
        sqlx::query(sql).bind(&shadow.name).bind(shadow.version).execute(&mut *tx).await?;
    }
    Ok(tx.commit().await?)
}

/// Waits until no rebuild or rollback of a projection is under way, and keeps others from beginning, until [`let_go`] or the end
/// of the connection: its tables keep their names. Takes no snapshot that lasts.
///
/// # Errors
/// `Sql`.
pub async fn hold_off(connection: &mut PgConnection, projection: &dyn Projection) -> Result<(), Error> {
    let sql = "select pg_advisory_lock_shared(hashtextextended($1, 0))";
    sqlx::query(sql).bind(lock_name(projection)).execute(connection).await?;
    Ok(())
}

/// Ends [`hold_off`].
///
/// # Errors
/// `Sql`.
pub async fn let_go(connection: &mut PgConnection, projection: &dyn Projection) -> Result<(), Error> {
    let sql = "select pg_advisory_unlock_shared(hashtextextended($1, 0))";
    sqlx::query(sql).bind(lock_name(projection)).execute(connection).await?;
    Ok(())
}

fn lock_name(projection: &dyn Projection) -> String {
    format!("smartpos rebuild {}", projection.schema())
}

/// One rebuild or rollback of a projection at a time; ends with its connection, however the process ends.
struct Guard {
    connection: PoolConnection<Postgres>,
    lock: String,
}

impl Guard {
    async fn take(owner: &PgPool, projection: &dyn Projection) -> Result<Self, Error> {
        let mut connection = owner.acquire().await?;
        let lock = lock_name(projection);
        let sql = "select pg_try_advisory_lock(hashtextextended($1, 0))";
        let free: bool = sqlx::query_scalar(sql).bind(&lock).fetch_one(&mut *connection).await?;
        if free {
            Ok(Self { connection, lock })
        } else {
            Err(Error::Rebuild { projection: projection.name(), what: "another one, a check or a diff is under way".to_owned() })
        }
    }

    async fn release(mut self) -> Result<(), Error> {
        sqlx::query("select pg_advisory_unlock(hashtextextended($1, 0))").bind(&self.lock).execute(&mut *self.connection).await?;
        Ok(())
    }
}

/// Empties a projection and lets its projector fold it again in place. Simpler than [`rebuild`], but readers see it grow, and
/// there is no way back.
///
/// # Errors
/// `Sql`.
pub async fn reset(worker: &PgPool, projection: &dyn Projection) -> Result<(), Error> {
    tables::wipe(worker, projection, &Target::live(projection), 0).await
}
