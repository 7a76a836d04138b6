//! Inclusion proofs: made from the log, published as a [`document`], checked without the log.

mod document;

use domain::{
    envelope::RecordedEvent,
    integrity::{
        merkle::{self, Hash, PathBuilder, merkle_root},
        proof::{EventProof, NextCommit},
    },
};
use futures_util::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgPool, Row as _};

use crate::{
    checkpoint::{SignedCheckpoint, TrustError},
    error::Error,
    log_reader::{self, fixed, time},
    snapshot,
    verify::Commit,
};

/// A proof with the checkpoint that it leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "document::ProofDocument", into = "document::ProofDocument")]
pub struct SignedProof {
    /// The proof.
    pub proof: EventProof,
    /// Where it leads.
    pub checkpoint: SignedCheckpoint,
}

impl SignedProof {
    /// Reads a document.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn read(text: &str) -> Result<Self, TrustError> {
        crate::document::read(text).map_err(|why| TrustError::Malformed { what: "proof of an event", why })
    }

    /// Whether the event stands where it says, in the log whose checkpoint `trusted` signed.
    ///
    /// # Errors
    /// What is not to be trusted.
    pub fn verify(&self, trusted: &[u8; 32]) -> Result<(), TrustError> {
        self.checkpoint.verify(trusted)?;
        Ok(self.proof.verify(&self.checkpoint.checkpoint)?)
    }
}

/// Proves the event at `position` against a checkpoint at or after it, whose signature is already checked. `pool`: a role that is a member of
/// `smartpos_auditor` or `smartpos_worker`. `progress` hears how many commits were read.
///
/// # Errors
/// `Sql`; `Corrupt` when the log no longer leads to the checkpoint.
pub async fn prove(pool: &PgPool, position: i64, checkpoint: &SignedCheckpoint, progress: impl FnMut(u64)) -> Result<SignedProof, Error> {
    let corrupt = |what: &str| Error::Corrupt { position, what: what.to_owned() };
    let mut moment = snapshot::take(pool).await?;
    let connection = &mut *moment.keeper;
    let commit = commit_at(connection, position).await?.ok_or_else(|| corrupt("the event belongs to no commit"))?;
    let events = events_of(connection, &commit).await?;
    let index = events.iter().position(|event| event.pos == position).ok_or_else(|| corrupt("the event is missing"))?;
    let hashes: Vec<Hash> = events.iter().map(|event| event.hash).collect();
    let index_in_commit = u64::try_from(index).unwrap_or(u64::MAX);
    let before: i64 = sqlx::query_scalar("select count(*) from log.commit where first_pos < $1")
        .bind(commit.first_pos)
        .fetch_one(&mut *connection)
        .await?;
    let commit_index = before.unsigned_abs();
    let (commit_path, next_path) = commit_paths(connection, commit_index, checkpoint, progress).await?;
    let next = if commit.last_pos < checkpoint.checkpoint.position {
        let next = commit_at(connection, commit.last_pos + 1).await?.ok_or_else(|| corrupt("the commit after its own is missing"))?;
        let hashes: Vec<Hash> = events_of(connection, &next).await?.iter().map(|event| event.hash).collect();
        Some(NextCommit { recorded_at_us: next.recorded_at.timestamp_micros(), events_root: merkle_root(&hashes), path: next_path })
    } else {
        None
    };
    moment.keeper.commit().await?;
    let event = events.into_iter().nth(index).ok_or_else(|| corrupt("the event is missing"))?;
    let proof = EventProof {
        event,
        first_pos: commit.first_pos,
        last_pos: commit.last_pos,
        prev_hash: commit.prev_hash,
        event_path: merkle::path(&hashes, index_in_commit),
        commit_index,
        commit_path,
        next,
    };
    proof.verify(&checkpoint.checkpoint).map_err(|error| corrupt(&format!("the log does not lead to the checkpoint: {error}")))?;
    Ok(SignedProof { proof, checkpoint: checkpoint.clone() })
}

async fn commit_at(connection: &mut PgConnection, position: i64) -> Result<Option<Commit>, Error> {
    let sql =
        "select first_pos, last_pos, recorded_at, prev_hash, hash from log.commit where first_pos <= $1 order by first_pos desc limit 1";
    let Some(row) = sqlx::query(sql).bind(position).fetch_optional(connection).await? else { return Ok(None) };
    let first_pos: i64 = row.try_get(0)?;
    let (prev_hash, hash) = (fixed(row.try_get(3)?, first_pos)?, fixed(row.try_get(4)?, first_pos)?);
    Ok(Some(Commit { first_pos, last_pos: row.try_get(1)?, recorded_at: time(&row, 2, first_pos)?, prev_hash, hash }))
}

async fn events_of(connection: &mut PgConnection, commit: &Commit) -> Result<Vec<RecordedEvent>, Error> {
    log_reader::stream(connection, commit.first_pos.saturating_sub(1), commit.last_pos).try_collect().await
}

/// The paths of the commit and of the one after it, in the tree of the checkpoint.
async fn commit_paths(
    connection: &mut PgConnection,
    index: u64,
    checkpoint: &SignedCheckpoint,
    mut progress: impl FnMut(u64),
) -> Result<(Vec<Hash>, Vec<Hash>), Error> {
    let size = checkpoint.checkpoint.commits;
    let (mut path, mut next) = (PathBuilder::new(index, size), PathBuilder::new(index.saturating_add(1), size));
    let sql = "select first_pos, hash from log.commit where first_pos <= $1 order by first_pos";
    let mut rows = sqlx::query(sql).bind(checkpoint.checkpoint.position).fetch(connection);
    let mut read = 0_u64;
    while let Some(row) = rows.try_next().await? {
        let hash = fixed(row.try_get(1)?, row.try_get(0)?)?;
        path.push(&hash);
        next.push(&hash);
        read += 1;
        if read.is_multiple_of(10_000) {
            progress(read);
        }
    }
    Ok((path.finish(), next.finish()))
}
