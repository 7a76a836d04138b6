//! Verifies the whole log: every hash, every Merkle root, the chain of commits, the order of positions, versions and times; the
//! heads of the log and of each stream; the positions that idempotency keys name; and signed checkpoints.
//!
//! Everything is read at one moment of the database, shared by several connections, so the platform may go on meanwhile.
//!
//! - **Commits and events** ([`commits`], pure) are cut into parts of about [`PART`] positions, read and hashed in parallel; the parts are
//!   joined in order ([`chain`], pure). Memory: the parts under way.
//! - **Streams** ([`streams`], pure) need their events in another order, by stream and version. PostgreSQL sorts them (on its
//!   disk, when it must) beside the stream heads; the verifier remembers one stream. So no map of all streams is ever held.
//! - **Keys** ([`keys`]) are looked up by the database.
//!
//! What this can and cannot find: a change that leaves some hash, head, version or count as it was is found at its position, or in the
//! range in which it lies. A change whose author recomputes an event's hash is found in its commit; one whose author recomputes hashes of
//! commits, too, between the last checkpoint that holds and the place at which the chain is broken. In such a range it is found at its
//! position by the marks that commits keep of their events ([`marks`]), unless these were changed as well. A rewritten log in which
//! everything is recomputed is consistent, and only differs from checkpoints that were published before, which show that it was, and from
//! exports that were made before, which show where ([`against`]). No hash covers idempotency keys: a stored answer or request hash
//! (`log.append_key`) that was changed is not found. Nor does any cover snapshots (`log.snapshot`), which are not looked at: a changed one
//! misleads the commands that start from it, and nothing is lost when it is deleted.

pub mod against;
#[cfg(test)]
mod against_tests;
mod chain;
mod commits;
mod exchanged;
mod keys;
mod marks;
mod problems;
mod streams;
mod suspects;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use sqlx::{PgConnection, PgPool, Row as _};
use tokio::task::JoinSet;

use self::{
    chain::Chain,
    commits::{Part, PartVerifier},
    problems::Problems,
};
use crate::{
    checkpoint::SignedCheckpoint,
    error::Error,
    log_reader::{self, fixed, time},
    snapshot,
};

/// Positions read at once over one connection.
const PART: i64 = 20_000;
/// Most commits of which it is asked why they do not hash to what they claim, in a part and in all.
const MOST_UNEXPLAINED: usize = 100;

/// Something in the log that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Problem {
    /// Where it begins.
    pub position: i64,
    /// The last position that it may concern; `position` itself when the place is exact.
    pub until: i64,
    /// What.
    pub what: String,
}

impl Problem {
    fn at(position: i64, what: impl Into<String>) -> Self {
        Self { position, until: position, what: what.into() }
    }

    fn within(position: i64, until: i64, what: impl Into<String>) -> Self {
        Self { position, until, what: what.into() }
    }
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct VerifyReport {
    /// Events read.
    pub events: i64,
    /// Commits read.
    pub commits: i64,
    /// Where the log ended when the verification began.
    pub head_pos: i64,
    /// Hash of the newest commit then, hex; two logs with the same one are the same log.
    pub head_hash: String,
    /// Positions of the checkpoints that the log holds to.
    pub checkpoints: Vec<i64>,
    /// Lowest position first; at most a hundred. Empty: the log is what was written.
    pub problems: Vec<Problem>,
}

impl VerifyReport {
    /// Nothing was found.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }
}

/// How far a verification is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Commits and events, up to this position.
    Log(i64),
    /// Streams, of which so many events were read.
    Streams(i64),
}

/// A row of `log.commit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its first position.
    pub first_pos: i64,
    /// Its last position.
    pub last_pos: i64,
    /// UTC.
    pub recorded_at: DateTime<Utc>,
    /// Hash of the commit before; zeros for the first.
    pub prev_hash: [u8; 32],
    /// Its hash.
    pub hash: [u8; 32],
}

/// [`verify_against`] without checkpoints, over one connection and a second one.
///
/// # Errors
/// As there.
pub async fn verify_log(pool: &PgPool, progress: impl Fn(Stage)) -> Result<VerifyReport, Error> {
    verify_against(pool, 1, &[], progress).await
}

/// Verifies the log up to its present end. `pool`: a role that is a member of `smartpos_auditor` or `smartpos_worker`, with room for one
/// connection more than `connections`. `checkpoints`: with signatures already checked. `progress` hears how far it is, now and then.
///
/// # Errors
/// `Sql`; `Corrupt` for a head of the log that cannot even be read. Whatever else is wrong is a [`Problem`].
pub async fn verify_against(
    pool: &PgPool,
    connections: u32,
    checkpoints: &[SignedCheckpoint],
    progress: impl Fn(Stage),
) -> Result<VerifyReport, Error> {
    let mut moment = snapshot::take(pool).await?;
    let head = log_reader::head(&mut moment.keeper).await?;
    let parts = parts(&mut moment.keeper).await?;
    let name = moment.name.clone();
    let at_once = usize::try_from(connections.max(1)).unwrap_or(1);
    let log_is_read = AtomicBool::new(false);
    let commits = async {
        // In order, so that a part is dropped as soon as it is joined.
        let mut read = stream::iter(parts).map(|part| in_task(pool.clone(), name.clone(), part)).buffered(at_once);
        let mut chain = Chain::new(&head, checkpoints);
        while let Some(part) = read.try_next().await? {
            progress(Stage::Log(part.last_position().min(head.pos)));
            chain.part(part);
        }
        log_is_read.store(true, Ordering::Relaxed);
        Ok::<Chain, Error>(chain)
    };
    let others = async {
        // Both are under way at once; one is told of at a time.
        let read = |events| {
            if log_is_read.load(Ordering::Relaxed) {
                progress(Stage::Streams(events));
            }
        };
        let mut problems = streams::verify(&mut moment.keeper, &head, read).await?;
        problems.extend(keys::verify(&mut moment.keeper, &head).await?);
        problems.extend(head_time(&mut moment.keeper, head.pos).await?);
        Ok(problems)
    };
    let (mut chain, others): (Chain, Problems) = tokio::try_join!(commits, others)?;
    let replaced = marks::replaced(&mut moment.keeper, &chain.end(others)).await?;
    moment.keeper.commit().await?;
    Ok(chain.finish(replaced))
}

/// The head's time, behind which the next commit does not fall, is that of the newest commit; that of an empty log lies before all others.
async fn head_time(connection: &mut PgConnection, head_pos: i64) -> Result<Option<Problem>, Error> {
    let sql = "select coalesce(newest.first_pos, 1) from log.head h \
               left join lateral (select first_pos, recorded_at from log.commit order by first_pos desc limit 1) newest on true \
               where h.id = 1 and h.recorded_at is distinct from coalesce(newest.recorded_at, '-infinity')";
    let differs: Option<i64> = sqlx::query_scalar(sql).fetch_optional(connection).await?;
    let what = "the head of the log has another time than the newest commit";
    Ok(differs.map(|first_pos| Problem::within(first_pos, head_pos.max(first_pos), what)))
}

/// Where to cut the log: after commits, about every [`PART`] positions. Every position and every commit lies in exactly one
/// part, also those that should not exist. Walks from commit to commit, not from number to number: a first position may be
/// forged to be anywhere.
async fn parts(connection: &mut PgConnection) -> Result<Vec<(i64, i64)>, Error> {
    let sql = "with recursive cut (first_pos, last_pos) as ( \
                   (select first_pos, last_pos from log.commit where first_pos >= $1 order by first_pos limit 1) \
                   union all \
                   select c.first_pos, c.last_pos from cut cross join lateral (select first_pos, last_pos from log.commit \
                       where cut.first_pos <= 9223372036854775807 - $1 and log.commit.first_pos >= cut.first_pos + $1 \
                       order by first_pos limit 1) c) \
               select distinct last_pos from cut order by 1";
    let cuts: Vec<i64> = sqlx::query_scalar(sql).bind(PART).fetch_all(connection).await?;
    let ends: Vec<i64> = cuts.into_iter().chain([i64::MAX]).collect();
    Ok([i64::MIN].into_iter().chain(ends.iter().copied()).zip(ends.iter().copied()).collect())
}

/// [`read_part`] in a task of its own: hashing is work for a processor, not waiting. Ends with the future.
async fn in_task(pool: PgPool, moment: String, (after, until): (i64, i64)) -> Result<Part, Error> {
    let mut task = JoinSet::new();
    task.spawn(async move { read_part(&pool, &moment, after, until).await });
    let ended = |why: &str| Error::Corrupt { position: after.max(0), what: format!("reading the log from here on ended early: {why}") };
    let read = task.join_next().await.ok_or_else(|| ended("there is no task"))?;
    read.map_err(|error| ended(&error.to_string()))?
}

/// Reads and verifies one part.
async fn read_part(pool: &PgPool, moment: &str, after: i64, until: i64) -> Result<Part, Error> {
    let mut tx = snapshot::join(pool, moment).await?;
    let (commits, broken) = read_commits(&mut tx, after, until).await?;
    let mut verifier = PartVerifier::new(commits, broken);
    let mut events = log_reader::stream(&mut tx, after, until);
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => verifier.event(&event),
            Err(Error::Corrupt { position, what }) => verifier.unreadable(position, what),
            Err(error) => return Err(error),
        }
    }
    drop(events);
    tx.commit().await?;
    Ok(verifier.finish())
}

/// The commits whose first position lies in a part, and what is wrong with their rows. What cannot be read of a commit is
/// replaced by zeros, which fit nothing, so that all the rest is judged.
async fn read_commits(connection: &mut PgConnection, after: i64, until: i64) -> Result<(Vec<Commit>, Vec<Problem>), Error> {
    let sql = "select first_pos, last_pos, recorded_at, prev_hash, hash from log.commit \
               where first_pos > $1 and first_pos <= $2 order by first_pos";
    let rows = sqlx::query(sql).bind(after).bind(until).fetch_all(connection).await?;
    let (mut commits, mut broken) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in rows {
        let first_pos = row.try_get(0)?;
        let commit = Commit {
            first_pos,
            last_pos: row.try_get(1)?,
            recorded_at: or_zero(time(&row, 2, first_pos), &mut broken)?,
            prev_hash: or_zero(fixed(row.try_get(3)?, first_pos), &mut broken)?,
            hash: or_zero(fixed(row.try_get(4)?, first_pos), &mut broken)?,
        };
        commits.push(commit);
    }
    Ok((commits, broken))
}

/// A field of a commit, or zero and a problem.
fn or_zero<T: Default>(field: Result<T, Error>, broken: &mut Vec<Problem>) -> Result<T, Error> {
    match field {
        Ok(field) => Ok(field),
        Err(Error::Corrupt { position, what }) => {
            broken.push(Problem::at(position, format!("of the commit, {what}")));
            Ok(T::default())
        }
        Err(error) => Err(error),
    }
}
