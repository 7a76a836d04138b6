//! A proof as JSON: ids as bare ULIDs, times in RFC 3339, hashes in hex, payload and meta as they were hashed.

use chrono::{DateTime, Utc};
use domain::{
    envelope::{RecordedEvent, StreamKey, StreamType},
    ids::{MerchantId, Ulid},
    integrity::proof::{EventProof, NextCommit},
};
use serde::{Deserialize, Serialize};

use super::SignedProof;
use crate::{checkpoint::SignedCheckpoint, document::HexHash};

/// What a proof document begins with.
const FORMAT: &str = "smartpos event proof 1";

/// The document. Position, `recorded_at` and hashes that follow from other fields are left out, or compared with them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProofDocument {
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
            event: document.event.recorded(as_hashed(commit.recorded_at)?)?,
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
            occurred_at: as_hashed(self.occurred_at)?,
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

/// The time, when it says no more than the microseconds that a hash covers: parts of one, or a leap second, would be proven by the hash of
/// another time.
fn as_hashed(time: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    let hashed = DateTime::from_timestamp_micros(time.timestamp_micros());
    if hashed == Some(time) { Ok(time) } else { Err(format!("the time {time} is not one in whole microseconds")) }
}

#[cfg(test)]
mod tests {
    use domain::integrity::checkpoint::Checkpoint;

    use super::*;
    use crate::{checkpoint::PrivateKey, testing::blank_event};

    /// A proof whose hashes prove nothing, of an event in the first second of a day.
    fn document() -> String {
        let midnight = "2026-05-02T00:00:00.5Z".parse().unwrap();
        let event = RecordedEvent { occurred_at: midnight, recorded_at: midnight, ..(**blank_event(1)).clone() };
        let proof = EventProof {
            event: RecordedEvent { hash: domain::integrity::recorded_hash(&event), ..event },
            first_pos: 1,
            last_pos: 1,
            prev_hash: [0; 32],
            event_path: Vec::new(),
            commit_index: 0,
            commit_path: Vec::new(),
            next: None,
        };
        let checkpoint =
            Checkpoint { log_id: [1; 16], epoch: 1, position: 1, head_hash: [4; 32], recorded_at_us: 5, commits: 1, root: [7; 32] };
        let checkpoint = SignedCheckpoint::sign(checkpoint, &PrivateKey::from_seed(&[7; 32]));
        serde_json::to_string(&SignedProof { proof, checkpoint }).unwrap()
    }

    #[test]
    fn a_time_that_is_hashed_like_another_one_is_refused() {
        let document = document();
        let read = SignedProof::read(&document).unwrap();
        for field in ["occurred_at", "recorded_at"] {
            let stored = format!("\"{field}\":\"2026-05-02T00:00:00.500Z\"");
            for other in ["2026-05-01T23:59:60.500Z", "2026-05-02T00:00:00.500000999Z"] {
                let time: DateTime<Utc> = other.parse().unwrap();
                assert_eq!(time.timestamp_micros(), read.proof.event.recorded_at.timestamp_micros());
                let changed = document.replacen(&stored, &format!("\"{field}\":\"{other}\""), 1);
                assert_ne!(changed, document, "{field}");
                let error = SignedProof::read(&changed).unwrap_err().to_string();
                assert!(error.contains("whole microseconds"), "{field} {other}: {error}");
            }
        }
    }
}
