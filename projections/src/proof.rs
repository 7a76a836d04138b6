//! Inclusion proofs as documents: made from the log, checked without it.

use chrono::{DateTime, Utc};
use domain::{
    envelope::{RecordedEvent, StreamKey, StreamType},
    ids::{MerchantId, Ulid},
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
    document::{self, HexHash},
    error::Error,
    log_reader::{self, fixed},
    snapshot,
    verify::Commit,
};

/// What a proof document begins with.
const FORMAT: &str = "smartpos event proof 1";

/// A proof with the checkpoint that it leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ProofDocument", into = "ProofDocument")]
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
        document::read(text).map_err(|why| TrustError::Malformed { what: "proof of an event", why })
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
/// `smartpos_worker`. `progress` hears how many commits were read.
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
    Ok(Some(Commit { first_pos, last_pos: row.try_get(1)?, recorded_at: row.try_get(2)?, prev_hash, hash }))
}

async fn events_of(connection: &mut PgConnection, commit: &Commit) -> Result<Vec<RecordedEvent>, Error> {
    log_reader::stream(connection, commit.first_pos - 1, commit.last_pos).try_collect().await
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

/// The document. Position, `recorded_at` and hashes that follow from other fields are left out, or compared with them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProofDocument {
    format: String,
    event: EventDocument,
    event_path: Vec<HexHash>,
    commit: CommitDocument,
    commit_index: u64,
    commit_path: Vec<HexHash>,
    next_commit: Option<NextDocument>,
    checkpoint: SignedCheckpoint,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EventDocument {
    position: i64,
    tenant: Ulid,
    stream_type: String,
    stream_id: Ulid,
    version: i64,
    r#type: String,
    schema_version: i16,
    slice: i16,
    occurred_at: DateTime<Utc>,
    correlation_id: Ulid,
    causation_id: Ulid,
    actor: String,
    /// As hashed; hex when it is no text.
    meta: Bytes,
    payload: Bytes,
    /// Ciphertext, hex.
    pii: Option<String>,
}

/// Exact bytes: as text where they are UTF-8.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Bytes {
    Text(String),
    Hex(String),
}

impl Bytes {
    fn of(bytes: Vec<u8>) -> Self {
        String::from_utf8(bytes).map_or_else(|error| Self::Hex(hex::encode(error.as_bytes())), Self::Text)
    }

    fn bytes(self) -> Result<Vec<u8>, String> {
        match self {
            Self::Text(text) => Ok(text.into_bytes()),
            Self::Hex(text) => hex::decode(text).map_err(|error| error.to_string()),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CommitDocument {
    first_position: i64,
    last_position: i64,
    recorded_at: DateTime<Utc>,
    prev_hash: HexHash,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NextDocument {
    recorded_at: DateTime<Utc>,
    events_root: HexHash,
    path: Vec<HexHash>,
}

impl From<SignedProof> for ProofDocument {
    fn from(signed: SignedProof) -> Self {
        let SignedProof { proof, checkpoint } = signed;
        let EventProof { event, first_pos, last_pos, prev_hash, event_path, commit_index, commit_path, next } = proof;
        let commit = CommitDocument {
            first_position: first_pos,
            last_position: last_pos,
            recorded_at: event.recorded_at,
            prev_hash: HexHash(prev_hash),
        };
        let next_commit = next.map(|next| NextDocument {
            recorded_at: DateTime::from_timestamp_micros(next.recorded_at_us).unwrap_or_default(),
            events_root: HexHash(next.events_root),
            path: next.path.into_iter().map(HexHash).collect(),
        });
        Self {
            format: FORMAT.to_owned(),
            event: event.into(),
            event_path: event_path.into_iter().map(HexHash).collect(),
            commit,
            commit_index,
            commit_path: commit_path.into_iter().map(HexHash).collect(),
            next_commit,
            checkpoint,
        }
    }
}

impl From<RecordedEvent> for EventDocument {
    fn from(event: RecordedEvent) -> Self {
        Self {
            position: event.pos,
            tenant: event.stream.tenant.0,
            stream_type: event.stream.stream_type.as_str().to_owned(),
            stream_id: event.stream.stream_id,
            version: event.version,
            r#type: event.event_type,
            schema_version: event.schema_version,
            slice: event.slice,
            occurred_at: event.occurred_at,
            correlation_id: event.correlation_id,
            causation_id: event.causation_id,
            actor: event.actor,
            meta: Bytes::of(event.meta),
            payload: Bytes::of(event.payload),
            pii: event.pii.map(hex::encode),
        }
    }
}

impl TryFrom<ProofDocument> for SignedProof {
    type Error = String;

    fn try_from(document: ProofDocument) -> Result<Self, String> {
        if document.format != FORMAT {
            return Err(format!("its format is '{}', wanted is '{FORMAT}'", document.format));
        }
        let commit = document.commit;
        let hashes = |path: Vec<HexHash>| path.into_iter().map(|hash| hash.0).collect();
        let next = document.next_commit.map(|next| NextCommit {
            recorded_at_us: next.recorded_at.timestamp_micros(),
            events_root: next.events_root.0,
            path: hashes(next.path),
        });
        let proof = EventProof {
            event: document.event.recorded(commit.recorded_at)?,
            first_pos: commit.first_position,
            last_pos: commit.last_position,
            prev_hash: commit.prev_hash.0,
            event_path: hashes(document.event_path),
            commit_index: document.commit_index,
            commit_path: hashes(document.commit_path),
            next,
        };
        Ok(Self { proof, checkpoint: document.checkpoint })
    }
}

impl EventDocument {
    fn recorded(self, recorded_at: DateTime<Utc>) -> Result<RecordedEvent, String> {
        let stream_type = StreamType::parse(&self.stream_type).ok_or_else(|| format!("stream type '{}' is not known", self.stream_type))?;
        let pii = self.pii.map(hex::decode).transpose().map_err(|error| error.to_string())?;
        let mut event = RecordedEvent {
            pos: self.position,
            stream: StreamKey { tenant: MerchantId(self.tenant), stream_type, stream_id: self.stream_id },
            version: self.version,
            event_type: self.r#type,
            schema_version: self.schema_version,
            slice: self.slice,
            occurred_at: self.occurred_at,
            recorded_at,
            correlation_id: self.correlation_id,
            causation_id: self.causation_id,
            actor: self.actor,
            meta: self.meta.bytes()?,
            payload: self.payload.bytes()?,
            pii,
            hash: [0; 32],
        };
        event.hash = domain::integrity::recorded_hash(&event);
        Ok(event)
    }
}
