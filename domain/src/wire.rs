//! How a stored event travels over the bus: one JSON object per message.
//!
//! `{pos, tenant, stream_type, stream_id, version, type, schema_version, slice, occurred_at_us, recorded_at_us,
//! correlation_id, causation_id, actor, meta, payload, pii, hash}`: ids as bare ULIDs, times as microseconds since 1970
//! (UTC), `meta` and `payload` as the exact JSON that was hashed, `pii` and `hash` in lower-case hex. The log stays the
//! truth: a message that does not decode, or whose hash is not [`crate::integrity::recorded_hash`], is read from there.

use chrono::DateTime;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    envelope::{RecordedEvent, StreamKey, StreamType},
    ids::{MerchantId, Ulid},
};

#[derive(Serialize, Deserialize)]
struct Message<'a> {
    pos: i64,
    tenant: Ulid,
    #[serde(borrow)]
    stream_type: std::borrow::Cow<'a, str>,
    stream_id: Ulid,
    version: i64,
    r#type: String,
    schema_version: i16,
    slice: i16,
    occurred_at_us: i64,
    recorded_at_us: i64,
    correlation_id: Ulid,
    causation_id: Ulid,
    actor: String,
    // Raw, so that not one byte differs from what was hashed; nothing when the stored bytes are not JSON.
    #[serde(borrow)]
    meta: Option<&'a RawValue>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    pii: Option<String>,
    hash: String,
}

/// Larger payloads stay behind: with its headers and the rest a message must fit into the megabyte that a server allows unless told.
const MAX_PAYLOAD: usize = 700 * 1024;

/// The message of an event. A payload that is too large, one that is not JSON, or has blanks around it, does not survive the way: its reader
/// notices (no payload, or another hash) and takes the event from the log.
pub fn encode(event: &RecordedEvent) -> Vec<u8> {
    let message = Message {
        pos: event.pos,
        tenant: event.stream.tenant.0,
        stream_type: event.stream.stream_type.as_str().into(),
        stream_id: event.stream.stream_id,
        version: event.version,
        r#type: event.event_type.clone(),
        schema_version: event.schema_version,
        slice: event.slice,
        occurred_at_us: event.occurred_at.timestamp_micros(),
        recorded_at_us: event.recorded_at.timestamp_micros(),
        correlation_id: event.correlation_id,
        causation_id: event.causation_id,
        actor: event.actor.clone(),
        meta: serde_json::from_slice(&event.meta).ok(),
        payload: if event.payload.len() > MAX_PAYLOAD { None } else { serde_json::from_slice(&event.payload).ok() },
        pii: event.pii.as_deref().map(hex::encode),
        hash: hex::encode(event.hash),
    };
    // Plain numbers and texts: serialising them cannot fail; an empty message would not decode.
    serde_json::to_vec(&message).unwrap_or_default()
}

/// The event of a message. The hash is carried, not checked: compare it with [`crate::integrity::recorded_hash`].
///
/// # Errors
/// What is wrong with the message, for a log line.
pub fn decode(body: &[u8]) -> Result<RecordedEvent, String> {
    let message: Message<'_> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let stream_type =
        StreamType::parse(&message.stream_type).ok_or_else(|| format!("stream type '{}' is not known", message.stream_type))?;
    let time = |us: i64| DateTime::from_timestamp_micros(us).ok_or_else(|| format!("{us} is not a time"));
    let raw = |value: Option<&RawValue>| value.map(|value| value.get().as_bytes().to_vec()).ok_or("meta or payload is missing");
    let mut hash = [0; 32];
    hex::decode_to_slice(&message.hash, &mut hash).map_err(|_| "the hash is not 64 hex digits")?;
    let pii = match &message.pii {
        None => None,
        Some(text) => Some(hex::decode(text).map_err(|_| "pii is not hex")?),
    };
    Ok(RecordedEvent {
        pos: message.pos,
        stream: StreamKey { tenant: MerchantId(message.tenant), stream_type, stream_id: message.stream_id },
        version: message.version,
        event_type: message.r#type,
        schema_version: message.schema_version,
        slice: message.slice,
        occurred_at: time(message.occurred_at_us)?,
        recorded_at: time(message.recorded_at_us)?,
        correlation_id: message.correlation_id,
        causation_id: message.causation_id,
        actor: message.actor,
        meta: raw(message.meta)?,
        payload: raw(message.payload)?,
        pii,
        hash,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::integrity::recorded_hash;

    fn event(payload: &str, pii: Option<Vec<u8>>) -> RecordedEvent {
        let time = DateTime::from_timestamp_micros(1_777_000_000_123_456).unwrap();
        let stream = StreamKey {
            tenant: MerchantId(Ulid::from_bytes([1; 16])),
            stream_type: StreamType::Order,
            stream_id: Ulid::from_bytes([2; 16]),
        };
        let mut event = RecordedEvent {
            pos: 42,
            stream,
            version: 3,
            event_type: "order.line_added".into(),
            schema_version: 1,
            slice: stream.slice(),
            occurred_at: time,
            recorded_at: time,
            correlation_id: Ulid::from_bytes([3; 16]),
            causation_id: Ulid::from_bytes([4; 16]),
            actor: "device:\"ก\"".into(),
            meta: b"{}".to_vec(),
            payload: payload.as_bytes().to_vec(),
            pii,
            hash: [0; 32],
        };
        event.hash = recorded_hash(&event);
        event
    }

    #[test]
    fn an_event_survives_the_way_byte_for_byte() {
        for payload in ["{}", "{\"b\" : 1,  \"a\":[1.50, \"\\u0e01\\n\"]}", "{\"n\":12345678901234567890}"] {
            for pii in [None, Some(vec![0, 255, 16])] {
                let sent = event(payload, pii);
                let received = decode(&encode(&sent)).unwrap();
                assert_eq!(received, sent);
                assert_eq!(recorded_hash(&received), sent.hash);
            }
        }
    }

    #[test]
    fn a_payload_that_no_message_may_carry_stays_in_the_log() {
        let large = event(&format!("\"{}\"", "x".repeat(MAX_PAYLOAD)), None);
        let message = encode(&large);
        assert!(message.len() < 2_000, "{}", message.len());
        assert!(decode(&message).is_err(), "its reader must take it from the log");
    }

    #[test]
    fn what_cannot_travel_is_noticed() {
        assert!(decode(&encode(&event("not json", None))).is_err());
        let padded = event(" {} ", None);
        assert_ne!(recorded_hash(&decode(&encode(&padded)).unwrap()), padded.hash);
        assert!(decode(b"").is_err());
    }
}
