//! Proves that the read models are what the log says: folds it once more in memory and compares row by row.
//!
//! Each model is read in one REPEATABLE READ transaction, so projectors may go on meanwhile; rebuilds and checks of one model
//! wait for each other or refuse, since a transaction finds tables under their present names, not those of its moment. A long log
//! is folded in several passes, each for a part of the tenants, so that only their rows are in memory at once.
//!
//! A halted stream is folded as far as the model has read it, so that a new mistake shows beside it; that the model lacks the
//! rest of it is a difference in itself, and reported as such.

mod stored;

use std::{collections::HashMap, sync::Arc};

use domain::envelope::StreamKey;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};

pub(crate) use self::stored::differing_fields;
use self::stored::{Comparison, digest};
use crate::{
    error::Error,
    fold::{Fold, fold_events},
    log_reader,
    projection::Projection,
    rebuild,
    rows::Rows,
    search::StreamName,
    tables::{self, Target, set_schema},
};

/// What a check of one projection found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct CheckReport {
    /// The projection.
    pub projection: String,
    /// The position at which rows and log were compared.
    pub position: i64,
    /// Rows in the database.
    pub rows: u64,
    /// Rows that differ, are missing or are too many: `table key: what`. At most twenty are spelled out. Empty: equal.
    pub differences: Vec<String>,
    /// How many differ in all.
    pub differing: u64,
    /// Streams that the model stopped reading, by position: what they say from there on is not in its rows.
    pub halted: Vec<HaltedStream>,
    /// SHA-256 over all rows in a fixed order, hex: equal for equal read models, wherever they are.
    pub digest: String,
}

impl CheckReport {
    /// The model is what the log says: no row differs and no stream is left out.
    pub const fn is_sound(&self) -> bool {
        self.differing == 0 && self.halted.is_empty()
    }
}

/// A stream that a model does not read to its end.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct HaltedStream {
    /// Its merchant.
    pub tenant: String,
    /// `ord_…`.
    pub stream: String,
    /// Its first event that could not be applied.
    pub position: i64,
}

/// Events up to which a model is folded in one pass.
const PASS: i64 = 2_000_000;
/// Most passes; more tenants than this share one.
const MOST_PASSES: i64 = 64;

/// [`check_all`], one model at a time and in silence.
///
/// # Errors
/// As there.
pub async fn check(pool: &PgPool) -> Result<Vec<CheckReport>, Error> {
    check_all(pool, 1, Arc::new(|_| {})).await
}

/// Hears by how many steps a check moved on; [`steps`] says how many there are.
pub type Moved = Arc<dyn Fn(i64) + Send + Sync>;

/// About how many steps [`check_all`] takes: each position that a model has read is folded, each of its rows is compared and then hashed.
///
/// # Errors
/// `Sql`.
pub async fn steps(pool: &PgPool) -> Result<i64, Error> {
    let (mut connection, mut steps) = (pool.acquire().await?, 0_i64);
    for projection in crate::all() {
        let target = Target::live(projection.as_ref());
        steps = steps.saturating_add(tables::checkpoint(&mut connection, &target).await?);
        for table in projection.tables() {
            let sql = AssertSqlSafe(format!("select count(*) from {}.{}", target.schema, table.name));
            let rows: i64 = sqlx::query_scalar(sql).fetch_one(&mut *connection).await?;
            steps = steps.saturating_add(rows.saturating_mul(2));
        }
    }
    Ok(steps)
}

/// Checks every projection, each at its own checkpoint, `connections` of them at once. `pool`: a role that is a member of
/// `smartpos_auditor` or `smartpos_worker`. Memory grows with the rows that a pass makes.
///
/// # Errors
/// `Sql`; `Corrupt` for an event that this build does not know; `BadRow`.
pub async fn check_all(pool: &PgPool, connections: u32, moved: Moved) -> Result<Vec<CheckReport>, Error> {
    let at_once = usize::try_from(connections.max(1)).unwrap_or(1);
    let tasks = stream::iter(crate::all()).map(|projection| {
        let (pool, moved) = (pool.clone(), Arc::clone(&moved));
        // A task of its own: folding is work for a processor, not waiting.
        async move {
            let name = projection.name();
            let task = tokio::spawn(async move { check_in_passes(&pool, projection.as_ref(), None, &moved).await });
            task.await
                .unwrap_or_else(|error| Err(Error::Corrupt { position: 0, what: format!("the check of {name} ended early: {error}") }))
        }
    });
    tasks.buffered(at_once).try_collect().await
}

/// Checks one projection, in as many passes as are asked for, or as the length of the log suggests. The number changes what
/// is in memory at once, and nothing in the report.
///
/// # Errors
/// As [`check_all`].
pub async fn check_in_passes(pool: &PgPool, projection: &dyn Projection, wanted: Option<i32>, moved: &Moved) -> Result<CheckReport, Error> {
    // Closed rather than kept should this end early: with the connection, the lock is given back.
    let mut connection = pool.acquire().await?;
    connection.close_on_drop();
    // Before the transaction, whose moment must not be older than the names.
    rebuild::hold_off(&mut connection, projection).await?;
    let report = check_held(&mut connection, projection, wanted, moved).await;
    rebuild::let_go(&mut connection, projection).await?;
    report
}

async fn check_held(
    connection: &mut PgConnection,
    projection: &dyn Projection,
    wanted: Option<i32>,
    moved: &Moved,
) -> Result<CheckReport, Error> {
    let target = Target::live(projection);
    let mut tx = connection.begin().await?;
    sqlx::query("set transaction isolation level repeatable read, read only").execute(&mut *tx).await?;
    sqlx::query("set local time zone 'UTC'").execute(&mut *tx).await?;
    set_schema(&mut tx, &target.schema).await?;
    let position = tables::checkpoint(&mut tx, &target).await?;
    let (halted, _) = tables::halted(&mut tx, &target).await?;
    let passes = wanted.unwrap_or_else(|| passes(position)).max(1);
    let mut report = Comparison::default();
    for pass in 0..passes {
        let mut fold = Fold::new(Rows::complete(), halted.clone());
        fold_pass(&mut tx, projection, &mut fold, position, (pass, passes), moved).await?;
        for table in projection.tables() {
            report.table(&mut tx, table, &mut fold.rows, (pass, passes), moved).await?;
        }
    }
    let (rows, digest) = digest(&mut tx, projection, moved).await?;
    tx.commit().await?;
    let Comparison { differences, differing } = report;
    Ok(CheckReport { projection: target.name, position, rows, differences, differing, halted: halted_streams(halted), digest })
}

fn halted_streams(halted: HashMap<StreamKey, i64>) -> Vec<HaltedStream> {
    let mut streams: Vec<HaltedStream> = halted
        .into_iter()
        .map(|(stream, position)| HaltedStream { tenant: stream.tenant.to_string(), stream: StreamName::of(&stream).to_string(), position })
        .collect();
    streams.sort_by(|a, b| (a.position, &a.stream).cmp(&(b.position, &b.stream)));
    streams
}

/// In how many passes a log of this length is folded.
fn passes(position: i64) -> i32 {
    i32::try_from((position / PASS + 1).clamp(1, MOST_PASSES)).unwrap_or(1)
}

/// Folds the log up to `position` into memory.
///
/// # Errors
/// `Sql`; `Corrupt` for an event that this build does not know.
pub async fn fold_to(connection: &mut PgConnection, projection: &dyn Projection, fold: &mut Fold, position: i64) -> Result<(), Error> {
    fold_pass(connection, projection, fold, position, (0, 1), &(Arc::new(|_| {}) as Moved)).await
}

/// [`fold_to`] for the tenants of one pass.
async fn fold_pass(
    connection: &mut PgConnection,
    projection: &dyn Projection,
    fold: &mut Fold,
    position: i64,
    pass: (i32, i32),
    moved: &Moved,
) -> Result<(), Error> {
    // Each pass is its share of the way.
    let share = |position: i64| position / i64::from(pass.1.max(1));
    let mut reached = 0;
    let events = log_reader::for_projection(connection, projection, position, pass);
    let events = events.inspect(|event| {
        if let Ok(event) = event {
            moved(share(event.pos) - std::mem::replace(&mut reached, share(event.pos)));
        }
    });
    fold_events(events.boxed(), projection, fold, usize::MAX).await?;
    moved(share(position) - reached);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_log_is_folded_in_more_passes_but_not_without_end() {
        assert_eq!([0, PASS - 1, PASS, 10 * PASS, i64::MAX].map(passes), [1, 1, 2, 11, 64]);
    }
}
