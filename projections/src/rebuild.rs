//! Rebuilds a projection beside the live one and takes its place.
//!
//! The copy folds the log into a schema of its own while the live one goes on; at the end the live projector is held for the
//! last few events and both change places in one transaction. Readers never see an empty table. A rebuild also releases the
//! streams that a since-corrected mistake had halted.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, PgPool};

use crate::{
    error::Error,
    install::{add_checkpoint, install_tables, replace_views},
    log_reader::LogReader,
    projection::Projection,
    runner::Projector,
    tables::{self, Target},
};

/// Events read at once.
const RANGE: usize = 500;
/// So few events behind that the live projector may be held for them.
const CLOSE: i64 = 2_000;

/// Folds `projection` anew and puts the result into service. `owner`: may create schemas, two connections; `worker`: a member of
/// `smartpos_worker`. `progress` hears the position reached. Says at which position the change took place.
///
/// # Errors
/// `Sql`; `Corrupt` for an event that this build does not know; `Rebuild` when another rebuild is under way.
pub async fn rebuild(
    owner: &PgPool,
    worker: &PgPool,
    projection: Arc<dyn Projection>,
    mut progress: impl FnMut(i64),
) -> Result<i64, Error> {
    let live = Target::live(projection.as_ref());
    let shadow = Target { name: format!("{}#rebuild", live.name), version: live.version, schema: format!("{}_rebuild", live.schema) };
    let mut guard = owner.acquire().await?;
    let lock = format!("smartpos rebuild {}", live.schema);
    let free: bool = sqlx::query_scalar("select pg_try_advisory_lock(hashtextextended($1, 0))").bind(&lock).fetch_one(&mut *guard).await?;
    if !free {
        return Err(Error::Rebuild { projection: projection.name(), what: "another one is under way".to_owned() });
    }
    let result = rebuild_locked(owner, worker, &projection, &live, &shadow, &mut progress).await;
    sqlx::query("select pg_advisory_unlock(hashtextextended($1, 0))").bind(&lock).execute(&mut *guard).await?;
    result
}

async fn rebuild_locked(
    owner: &PgPool,
    worker: &PgPool,
    projection: &Arc<dyn Projection>,
    live: &Target,
    shadow: &Target,
    progress: &mut impl FnMut(i64),
) -> Result<i64, Error> {
    prepare(owner, projection.as_ref(), shadow).await?;
    let reader = LogReader::new(worker.clone());
    let mut projector = Projector::new(shadow.clone(), Arc::clone(projection), worker.clone());
    loop {
        let position = projector.resume().await?;
        if reader.head().await?.pos - position <= CLOSE {
            break;
        }
        let events = reader.range(position, RANGE).await?;
        projector.fold_and_write(events).await?;
        progress(projector.position());
    }
    // From here on the live projector waits for this lock; the log may grow, but no further than it has read.
    let mut hold = owner.begin().await?;
    let sql = "select pos from read.checkpoint where name = $1 and version = $2 for update";
    let goal: i64 = sqlx::query_scalar(sql).bind(&live.name).bind(live.version).fetch_one(&mut *hold).await?;
    loop {
        let position = projector.resume().await?;
        let left = usize::try_from(goal - position).unwrap_or(0);
        if left == 0 {
            break;
        }
        projector.fold_and_write(reader.range(position, left.min(RANGE)).await?).await?;
        progress(projector.position());
    }
    let position = projector.resume().await?;
    for sql in [format!("drop schema {} cascade", live.schema), format!("alter schema {} rename to {}", shadow.schema, live.schema)] {
        sqlx::query(AssertSqlSafe(sql)).execute(&mut *hold).await?;
    }
    for sql in [
        "delete from read.quarantine where name = $1 and version = $3 and name <> $2",
        "update read.quarantine set name = $1 where name = $2 and version = $3",
        // Another row in its place, not a changed one: a projector waiting for the old row must find it gone, and start afresh.
        "delete from read.checkpoint where name = $1 and version = $3 and name <> $2",
        "update read.checkpoint set name = $1 where name = $2 and version = $3",
    ] {
        sqlx::query(sql).bind(&live.name).bind(&shadow.name).bind(live.version).execute(&mut *hold).await?;
    }
    replace_views(&mut hold, projection.as_ref()).await?;
    hold.commit().await?;
    Ok(position)
}

/// An empty schema and a checkpoint at 0, whatever an earlier rebuild left behind.
async fn prepare(owner: &PgPool, projection: &dyn Projection, shadow: &Target) -> Result<(), Error> {
    let mut tx = owner.begin().await?;
    sqlx::query(AssertSqlSafe(format!("drop schema if exists {} cascade", shadow.schema))).execute(&mut *tx).await?;
    install_tables(&mut tx, projection, &shadow.schema).await?;
    sqlx::query("delete from read.quarantine where name = $1").bind(&shadow.name).execute(&mut *tx).await?;
    sqlx::query("delete from read.checkpoint where name = $1").bind(&shadow.name).execute(&mut *tx).await?;
    add_checkpoint(&mut tx, &shadow.name, shadow.version).await?;
    Ok(tx.commit().await?)
}

/// Empties a projection and lets its projector fold it again in place. Simpler than [`rebuild`], but readers see it grow.
///
/// # Errors
/// `Sql`.
pub async fn reset(worker: &PgPool, projection: &dyn Projection) -> Result<(), Error> {
    tables::wipe(worker, projection, &Target::live(projection), 0).await
}
