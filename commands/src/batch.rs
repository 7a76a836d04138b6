//! What travels to the append function: items that are all-or-nothing, grouped into one batch.

use chrono::{DateTime, Utc};
use domain::{
    envelope::{EventMeta, NewEvent, Origin, RecordedEvent, StreamKey},
    event::{Commit, ReadEvent},
    ids::Ulid,
    integrity::{HashedColumns, event_hash},
};

/// A stream that an item writes, with its version before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamWrite {
    /// The stream.
    pub key: StreamKey,
    /// The version that it must have; 0 = it must not exist.
    pub expected: i64,
    /// The version that it will have.
    pub next: i64,
}

/// A key that an item takes, for ever: an idempotency key with its answer, or a claim of uniqueness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyClaim {
    /// Whose keys.
    pub tenant: Ulid,
    /// What kind of key; for idempotency keys principal and operation.
    pub scope: String,
    /// The key.
    pub key: String,
    /// SHA-256 of the request.
    pub request_hash: [u8; 32],
    /// Field by field, so that a difference can be named.
    pub fingerprint: Option<Vec<u8>>,
    /// The answer to give on a repeat.
    pub response: Option<Vec<u8>>,
    /// What to say when another has taken it; nothing for idempotency keys.
    pub taken: Option<&'static str>,
}

/// An event with everything but its position and commit time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparedEvent {
    /// The stream.
    pub stream: StreamKey,
    /// Its place there.
    pub version: i64,
    /// Type, schema version, payload.
    pub event: NewEvent,
    /// Microseconds since 1970.
    pub occurred_at_us: i64,
    /// Correlation.
    pub correlation_id: Ulid,
    /// Causation.
    pub causation_id: Ulid,
    /// Who.
    pub actor: String,
    /// Encoded meta data.
    pub meta: Vec<u8>,
    /// 0–1023.
    pub slice: i16,
    /// Over all of the above.
    pub hash: [u8; 32],
}

impl PreparedEvent {
    /// Places an event in its stream and hashes it.
    pub fn new(stream: StreamKey, version: i64, event: NewEvent, origin: &Origin, meta: &EventMeta) -> Self {
        let meta = serde_json::to_vec(meta).unwrap_or_default();
        let occurred_at_us = origin.occurred_at.timestamp_micros();
        let slice = stream.slice();
        let hash = event_hash(&HashedColumns {
            stream,
            version,
            event_type: event.event_type,
            schema_version: event.schema_version,
            slice,
            occurred_at_us,
            correlation_id: origin.correlation_id,
            causation_id: origin.causation_id.0,
            actor: &origin.actor,
            meta: &meta,
            payload: &event.payload,
            pii: event.pii.as_deref(),
        });
        Self {
            stream,
            version,
            event,
            occurred_at_us,
            correlation_id: origin.correlation_id,
            causation_id: origin.causation_id.0,
            actor: origin.actor.clone(),
            meta,
            slice,
            hash,
        }
    }

    /// The same as the log has it.
    pub fn recorded(&self, pos: i64, recorded_at: DateTime<Utc>) -> RecordedEvent {
        RecordedEvent {
            pos,
            stream: self.stream,
            version: self.version,
            event_type: self.event.event_type.to_owned(),
            schema_version: self.event.schema_version,
            slice: self.slice,
            occurred_at: DateTime::from_timestamp_micros(self.occurred_at_us).unwrap_or_default(),
            recorded_at,
            correlation_id: self.correlation_id,
            causation_id: self.causation_id,
            actor: self.actor.clone(),
            meta: self.meta.clone(),
            payload: self.event.payload.clone(),
            pii: self.event.pii.clone(),
            hash: self.hash,
        }
    }
}

/// One command's writes: all or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendItem {
    /// The streams that it writes.
    pub streams: Vec<StreamWrite>,
    /// The keys that it takes.
    pub keys: Vec<KeyClaim>,
    /// Its events, in order.
    pub events: Vec<PreparedEvent>,
}

impl AppendItem {
    /// Bytes of payload, for the batch limit.
    pub fn size(&self) -> usize {
        self.events.iter().map(|event| event.event.payload.len() + event.meta.len() + 200).sum()
    }
}

/// A key that was taken before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// SHA-256 of the request that took it.
    pub request_hash: Vec<u8>,
    /// Field by field.
    pub fingerprint: Option<Vec<u8>>,
    /// Last position of what was written; nothing when nothing was.
    pub last_pos: Option<i64>,
    /// The answer that was given.
    pub response: Option<Vec<u8>>,
}

/// Why one item of a batch was refused. Indices count the streams or keys of the whole batch from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The stream has another version.
    Version {
        /// Which stream of the batch.
        index: usize,
        /// The version that it has.
        actual: i64,
    },
    /// The key was taken before.
    Key {
        /// Which key of the batch.
        index: usize,
        /// By what.
        stored: StoredKey,
    },
}

/// A commit's place in the chain of commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The head's hash before it.
    pub before: [u8; 32],
    /// The head's hash with it.
    pub hash: [u8; 32],
    /// UTC, by the database.
    pub recorded_at: DateTime<Utc>,
}

impl Link {
    /// The commit of a batch that was written from `first_pos` on.
    pub fn commit(&self, batch: &[AppendItem], first_pos: i64) -> Commit {
        let events = batch.iter().flat_map(|item| &item.events).zip(first_pos..);
        let events = events.map(|(event, pos)| ReadEvent::shared(event.recorded(pos, self.recorded_at))).collect();
        Commit { before: self.before, hash: self.hash, events }
    }
}

/// What the append function answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchAnswer {
    /// Everything is written; the first event has this position.
    Committed {
        /// Position of the first event.
        first_pos: i64,
        /// Where it stands in the chain of commits; nothing when there were no events, or when it was found in the log afterwards.
        link: Option<Link>,
    },
    /// Nothing is written, for these reasons.
    Refused(Vec<Refusal>),
    /// The database refused the batch as a whole; nothing is written.
    Failed(String),
    /// The database could not be reached in time.
    Lost {
        /// The batch may have been written after all.
        attempted: bool,
    },
}
