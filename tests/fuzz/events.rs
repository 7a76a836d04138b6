//! Stored events: as they travel over the bus, and as payloads of any version.

use std::path::Path;

use domain::{
    envelope::{NewEvent, RecordedEvent, StreamKey, StreamType},
    event::DomainEvent,
    ids::{MerchantId, Ulid},
    integrity::recorded_hash,
    wire,
};

use crate::{Tally, edits::Samples, fuzz};

fn samples() -> Samples {
    Samples::in_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/events/samples"))
}

/// `bill.paid.v1.json`: type and version.
fn named(file: &str) -> (&str, i16) {
    let (event_type, version) = file.trim_end_matches(".json").rsplit_once(".v").unwrap();
    (event_type, version.parse().unwrap())
}

/// An event with this payload, as the log would have it.
fn recorded(event_type: &str, schema_version: i16, payload: Vec<u8>) -> RecordedEvent {
    let stream_type = StreamType::parse(event_type.split('.').next().unwrap()).unwrap();
    let stream = StreamKey { tenant: MerchantId(Ulid::from(1_u128)), stream_type, stream_id: Ulid::from(2_u128) };
    let at = chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    let mut event = RecordedEvent {
        pos: 7,
        stream,
        version: 1,
        event_type: event_type.to_owned(),
        schema_version,
        slice: stream.slice(),
        occurred_at: at,
        recorded_at: at,
        correlation_id: Ulid::from(3_u128),
        causation_id: Ulid::from(4_u128),
        actor: "process:test".to_owned(),
        meta: b"{}".to_vec(),
        payload,
        pii: (schema_version == 1).then(|| vec![1, 2, 255]),
        hash: [0; 32],
    };
    event.hash = recorded_hash(&event);
    event
}

#[test]
fn a_payload_of_any_version_is_an_event_or_an_error() {
    let tally = Tally::default();
    let samples = samples();
    let names = samples.names.clone();
    fuzz!(2_500, samples, |input| {
        let (event_type, version) = named(&names[input.sample]);
        let Ok(event) = DomainEvent::decode(&recorded(event_type, version, input.bytes.clone())) else { return tally.refused() };
        tally.accepted();
        let NewEvent { event_type, schema_version, payload, .. } = event.encode();
        assert_eq!(DomainEvent::decode(&recorded(event_type, schema_version, payload)), Ok(event), "what is written is what is read");
    });
    tally.has_seen_both("payloads");
}

#[test]
fn a_message_of_the_bus_is_the_event_or_is_noticed() {
    let tally = Tally::default();
    let payloads = samples();
    let events: Vec<RecordedEvent> = payloads
        .names
        .iter()
        .zip(&payloads.samples)
        .map(|(name, payload)| recorded(named(name).0, named(name).1, payload.trim_ascii().to_vec()))
        .collect();
    let messages = Samples::these(events.iter().map(wire::encode).collect());
    fuzz!(1_500, messages, |input| {
        let Ok(event) = wire::decode(&input.bytes) else { return tally.refused() };
        assert_eq!(wire::decode(&wire::encode(&event)).as_ref(), Ok(&event));
        if recorded_hash(&event) != event.hash {
            return tally.refused();
        }
        tally.accepted();
        // Position and time of recording are covered by the commit and not by the hash.
        let original = &events[input.sample];
        let same = |of: &RecordedEvent| RecordedEvent { pos: of.pos, recorded_at: of.recorded_at, ..event.clone() } == *of;
        assert!(same(original) || events.iter().any(same), "an altered event passes for the stored one");
    });
    tally.has_seen_both("messages");
}
