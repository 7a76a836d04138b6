//! The proof that the log was not altered: a hash per event, a Merkle root per commit, a chain over commits.
//!
//! `event_hash` covers every column except position and `recorded_at`, which the lock decides; those are covered by the
//! commit: `hash = SHA-256(prev ‖ first_pos ‖ recorded_at µs ‖ merkle_root)`. Integers are big endian.
//!
//! A [`checkpoint`] says where the log stood; signed and published, it holds whoever owns the database to it. A [`proof`] ties
//! one event to a checkpoint, for someone who has neither the log nor the database.

pub mod checkpoint;
pub mod merkle;
pub mod proof;

pub use merkle::merkle_root;
use sha2::{Digest, Sha256};

use crate::envelope::{RecordedEvent, StreamKey};
use crate::ids::Ulid;

/// The columns that an event hash covers.
#[derive(Debug, Clone, Copy)]
pub struct HashedColumns<'a> {
    /// The stream.
    pub stream: StreamKey,
    /// Place in the stream.
    pub version: i64,
    /// `order.opened`.
    pub event_type: &'a str,
    /// Version of the payload's shape.
    pub schema_version: i16,
    /// 0–1023.
    pub slice: i16,
    /// Microseconds since 1970, UTC.
    pub occurred_at_us: i64,
    /// Correlation.
    pub correlation_id: Ulid,
    /// Causation.
    pub causation_id: Ulid,
    /// Who.
    pub actor: &'a str,
    /// Encoded meta data.
    pub meta: &'a [u8],
    /// Exact payload.
    pub payload: &'a [u8],
    /// Personal data as ciphertext.
    pub pii: Option<&'a [u8]>,
}

/// SHA-256 over a fixed framing: a domain tag, then each column, variable ones preceded by their length as u32.
pub fn event_hash(columns: &HashedColumns<'_>) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(b"smartpos event 1");
    hasher.update(columns.stream.tenant.0.to_bytes());
    variable(&mut hasher, columns.stream.stream_type.as_str().as_bytes());
    hasher.update(columns.stream.stream_id.to_bytes());
    hasher.update(columns.version.to_be_bytes());
    variable(&mut hasher, columns.event_type.as_bytes());
    hasher.update(columns.schema_version.to_be_bytes());
    hasher.update(columns.slice.to_be_bytes());
    hasher.update(columns.occurred_at_us.to_be_bytes());
    hasher.update(columns.correlation_id.to_bytes());
    hasher.update(columns.causation_id.to_bytes());
    variable(&mut hasher, columns.actor.as_bytes());
    variable(&mut hasher, columns.meta);
    variable(&mut hasher, columns.payload);
    match columns.pii {
        None => hasher.update([0]),
        Some(pii) => {
            hasher.update([1]);
            variable(&mut hasher, pii);
        }
    }
    hasher.finalize().into()
}

fn variable(hasher: &mut Sha256, bytes: &[u8]) {
    hasher.update(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    hasher.update(bytes);
}

/// The hash that a stored event should have.
pub fn recorded_hash(event: &RecordedEvent) -> [u8; 32] {
    event_hash(&HashedColumns {
        stream: event.stream,
        version: event.version,
        event_type: &event.event_type,
        schema_version: event.schema_version,
        slice: event.slice,
        occurred_at_us: event.occurred_at.timestamp_micros(),
        correlation_id: event.correlation_id,
        causation_id: event.causation_id,
        actor: &event.actor,
        meta: &event.meta,
        payload: &event.payload,
        pii: event.pii.as_deref(),
    })
}

/// The hash of a commit.
pub fn commit_hash(prev: &[u8; 32], first_pos: i64, recorded_at_us: i64, root: &[u8; 32]) -> [u8; 32] {
    digest(&[prev, &first_pos.to_be_bytes(), &recorded_at_us.to_be_bytes(), root])
}

fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}
