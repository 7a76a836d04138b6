//! Items for the committer that no use case made: any streams, any versions.

use commands::batch::{AppendItem, KeyClaim, PreparedEvent, StreamWrite};
use domain::{
    clock::{Clock, IdSource},
    envelope::{EventMeta, NewEvent, Origin, StreamKey, StreamType},
    ids::{CommandId, MerchantId, Ulid},
};

use crate::{ManualClock, SeededIds};

/// A stream of a tenant that stands for none in particular.
pub fn stream(ids: &SeededIds) -> StreamKey {
    StreamKey { tenant: MerchantId(Ulid::from_bytes([7; 16])), stream_type: StreamType::Order, stream_id: ids.next() }
}

/// An item that puts `count` events on each stream, which must have the version given with it.
pub fn item(ids: &SeededIds, streams: &[(StreamKey, i64)], count: i64) -> AppendItem {
    let origin = Origin {
        occurred_at: ManualClock::default().now(),
        correlation_id: ids.next(),
        causation_id: CommandId(ids.next()),
        actor: "test".to_owned(),
        device: None,
        operation: None,
    };
    let event = |key: StreamKey, version: i64| {
        let payload = format!(r#"{{"reason":"version {version}"}}"#).into_bytes();
        let event = NewEvent { event_type: "order.cancelled", schema_version: 1, payload, pii: None };
        PreparedEvent::new(key, version, event, &origin, &EventMeta::default())
    };
    AppendItem {
        streams: streams.iter().map(|(key, expected)| StreamWrite { key: *key, expected: *expected, next: expected + count }).collect(),
        keys: Vec::new(),
        events: streams.iter().flat_map(|(key, expected)| (1..=count).map(move |n| event(*key, expected + n))).collect(),
    }
}

/// An idempotency key without a request behind it.
pub fn key_claim(name: &str) -> KeyClaim {
    KeyClaim {
        tenant: Ulid::from_bytes([7; 16]),
        scope: "test".to_owned(),
        key: name.to_owned(),
        request_hash: [1; 32],
        fingerprint: None,
        response: Some(name.as_bytes().to_vec()),
        taken: None,
    }
}
