//! What is stored for ever stays readable: every event type has its JSON schema and a sample of every version in
//! `schemas/events/`.
//!
//! To change an event's shape: raise its version in the aggregate's `events!`, add the upcaster (`domain::upcast`), write a
//! sample of the new version by hand beside the old one, then `make schemas`.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use domain::{
    envelope::{RecordedEvent, StreamKey, StreamType},
    event::{DecodeError, DomainEvent, EventSpec},
    ids::{MerchantId, Ulid},
};
use serde_json::Value;

const HOW: &str = "the stored shape of an event changed. If stored payloads no longer fit it: raise the version, add an upcaster \
                   and a sample. Then `make schemas` rewrites the schemas";

fn schemas() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/events")
}

fn samples() -> PathBuf {
    schemas().join("samples")
}

fn file_name(event_type: &str, version: i16) -> String {
    format!("{event_type}.v{version}.json")
}

/// Every (type, version) that this build may meet in a log.
fn readable() -> Vec<(EventSpec, i16)> {
    DomainEvent::catalog().into_iter().flat_map(|spec| (1..=spec.version).map(move |version| (spec, version))).collect()
}

/// The same value with its keys in order, whatever features another crate of the build turned on in the parser.
fn canonical(value: Value) -> Value {
    if let Value::Object(map) = value {
        let mut entries: Vec<(String, Value)> = map.into_iter().collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        return Value::Object(entries.into_iter().map(|(key, value)| (key, canonical(value))).collect());
    }
    if let Value::Array(items) = value {
        return Value::Array(items.into_iter().map(canonical).collect());
    }
    value
}

fn schema_text(spec: EventSpec) -> String {
    format!("{:#}\n", canonical((spec.schema)().to_value()))
}

/// Names of the files in a folder, folders left out.
fn files(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.path().is_file()).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn sample(event_type: &str, version: i16) -> Result<Vec<u8>, String> {
    let name = file_name(event_type, version);
    fs::read(samples().join(&name)).map_err(|error| format!("schemas/events/samples/{name}: {error}; write one by hand"))
}

/// A payload as it comes out of the log.
fn recorded(event_type: &str, schema_version: i16, payload: Vec<u8>) -> Result<RecordedEvent, String> {
    let prefix = event_type.split('.').next().unwrap_or_default();
    let stream_type = StreamType::parse(prefix).ok_or_else(|| format!("'{event_type}' is named after no stream type"))?;
    let stream = StreamKey { tenant: MerchantId(Ulid::from(1_u128)), stream_type, stream_id: Ulid::from(2_u128) };
    Ok(RecordedEvent {
        pos: 1,
        stream,
        version: 1,
        event_type: event_type.to_owned(),
        schema_version,
        slice: stream.slice(),
        occurred_at: chrono::DateTime::UNIX_EPOCH,
        recorded_at: chrono::DateTime::UNIX_EPOCH,
        correlation_id: Ulid::from(3_u128),
        causation_id: Ulid::from(4_u128),
        actor: "process:test".to_owned(),
        meta: b"{}".to_vec(),
        payload,
        pii: None,
        hash: [0; 32],
    })
}

fn decoded(event_type: &str, version: i16) -> Result<DomainEvent, String> {
    let event = recorded(event_type, version, sample(event_type, version)?)?;
    DomainEvent::decode(&event).map_err(|error| format!("the sample {}: {error}", file_name(event_type, version)))
}

/// The field names that an object schema declares.
fn properties(schema: &Value) -> BTreeSet<String> {
    schema["properties"].as_object().into_iter().flat_map(|fields| fields.keys().cloned()).collect()
}

#[test]
fn event_types_are_unique_and_named_after_their_stream() {
    let catalog = DomainEvent::catalog();
    let types: BTreeSet<&str> = catalog.iter().map(|spec| spec.event_type).collect();
    assert_eq!(types.len(), catalog.len(), "an event type is declared twice");
    for spec in catalog {
        let (prefix, fact) = spec.event_type.split_once('.').unwrap_or_default();
        assert!(StreamType::parse(prefix).is_some(), "'{}' is named after no stream type", spec.event_type);
        let plain = !fact.is_empty() && fact.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        assert!(plain && spec.version >= 1, "'{}' v{} is not a plain name and version", spec.event_type, spec.version);
    }
}

#[test]
fn every_schema_is_the_one_on_file() {
    for spec in DomainEvent::catalog() {
        let (name, text) = (file_name(spec.event_type, spec.version), schema_text(spec));
        let on_file = fs::read_to_string(schemas().join(&name)).unwrap_or_default();
        assert!(on_file == text, "schemas/events/{name} is missing or differs: {HOW}");
    }
}

#[test]
fn the_folder_holds_exactly_what_this_build_reads() {
    let known: BTreeSet<String> = readable().iter().map(|(spec, version)| file_name(spec.event_type, *version)).collect();
    let strange: Vec<String> = files(&schemas()).union(&files(&samples())).filter(|name| !known.contains(*name)).cloned().collect();
    assert!(strange.is_empty(), "of a type or version newer than this build knows: {strange:?}");
    // The newest version is compared by content elsewhere.
    let old = readable().into_iter().filter(|(spec, version)| *version < spec.version);
    let missing: Vec<String> =
        old.map(|(spec, version)| file_name(spec.event_type, version)).filter(|name| !schemas().join(name).is_file()).collect();
    assert!(missing.is_empty(), "the schemas of old versions are kept, but these are gone: {missing:?}");
    let unproven: Vec<&String> = known.iter().filter(|name| !samples().join(name).is_file()).collect();
    assert!(unproven.is_empty(), "without a sample in schemas/events/samples/ (write one by hand): {unproven:?}");
}

#[test]
fn a_sample_of_every_version_is_read() {
    for (spec, version) in readable() {
        let event = decoded(spec.event_type, version).unwrap();
        let stored = event.encode();
        assert_eq!((stored.event_type, stored.schema_version), (spec.event_type, spec.version));
    }
}

#[test]
fn a_sample_of_the_newest_version_comes_back_unchanged() {
    for spec in DomainEvent::catalog() {
        let event = decoded(spec.event_type, spec.version).unwrap();
        let stored = event.encode();
        let again = recorded(stored.event_type, stored.schema_version, stored.payload.clone()).unwrap();
        assert_eq!(DomainEvent::decode(&again), Ok(event));
        let on_file: Value = serde_json::from_slice(&sample(spec.event_type, spec.version).unwrap()).unwrap();
        let rewritten: Value = serde_json::from_slice(&stored.payload).unwrap();
        assert_eq!(rewritten, on_file, "the sample of {} has a field that the event ignores", spec.event_type);
    }
}

#[test]
fn a_sample_of_the_newest_version_shows_every_field_of_its_schema() {
    for spec in DomainEvent::catalog() {
        let on_file: Value = serde_json::from_slice(&sample(spec.event_type, spec.version).unwrap()).unwrap();
        let shown: BTreeSet<String> = on_file.as_object().into_iter().flat_map(|fields| fields.keys().cloned()).collect();
        assert_eq!(shown, properties((spec.schema)().as_value()), "{}", spec.event_type);
    }
}

#[test]
fn what_this_build_does_not_know_is_refused_and_never_skipped() {
    for spec in DomainEvent::catalog() {
        let payload = sample(spec.event_type, spec.version).unwrap();
        for version in [0, -1, spec.version + 1] {
            let newer = recorded(spec.event_type, version, payload.clone()).unwrap();
            assert!(matches!(DomainEvent::decode(&newer), Err(DecodeError::UnknownVersion { .. })), "{} v{version}", spec.event_type);
        }
        let broken = recorded(spec.event_type, spec.version, b"[".to_vec()).unwrap();
        assert!(matches!(DomainEvent::decode(&broken), Err(DecodeError::BadPayload { .. })), "{}", spec.event_type);
        let misplaced = RecordedEvent { event_type: format!("{}_x", spec.event_type), ..broken };
        assert!(matches!(DomainEvent::decode(&misplaced), Err(DecodeError::UnknownType(_))), "{}", spec.event_type);
    }
}
