//! `replay export`: the log for other tools, byte for byte what was stored.

use std::fs::File;

use commands::batch::PreparedEvent;
use domain::{
    clock::{Clock, IdSource},
    envelope::{EventMeta, NewEvent, Origin, RecordedEvent},
    ids::CommandId,
};
use parquet::{
    file::reader::{FileReader, SerializedFileReader},
    record::RowAccessor,
};
use serde_json::{Value, value::RawValue};
use support::{ScratchDir, TestDatabase, item, replay, replay_command, stream};

/// Payloads whose form JSON tools like to change; personal data on every second event.
async fn written() -> TestDatabase {
    let database = TestDatabase::new().await;
    let write = database.write_side();
    for (n, payload) in ["{}", r#"{"b":1,"a":[1.50,"ก\n\t"]}"#, r#"{"n":12345678901234567890}"#, r#"{"reason":"x","reason2":"\u0e01"}"#]
        .into_iter()
        .enumerate()
    {
        let key = stream(&write.ids);
        let mut entry = item(&write.ids, &[(key, 0)], 1);
        let origin = Origin {
            occurred_at: write.clock.now(),
            correlation_id: write.ids.next(),
            causation_id: CommandId(write.ids.next()),
            actor: "user:\"ก\"".to_owned(),
            device: None,
            operation: None,
        };
        let pii = (n % 2 == 1).then(|| vec![0, 255, 7]);
        let event = NewEvent { event_type: "order.cancelled", schema_version: 1, payload: payload.as_bytes().to_vec(), pii };
        entry.events = vec![PreparedEvent::new(key, 1, event, &origin, &EventMeta::default())];
        write.committer.append(entry).await.unwrap();
    }
    for _ in 0..6 {
        write.committer.append(item(&write.ids, &[(stream(&write.ids), 0)], 10)).await.unwrap();
    }
    write.stop().await;
    assert_eq!(database.head().await.pos, 64);
    database
}

#[tokio::test]
async fn json_lines_hold_every_event_with_its_payload_byte_for_byte() {
    let database = written().await;
    let dir = ScratchDir::new("replay-jsonl");
    let path = dir.path().join("log.jsonl");
    let out = path.to_str().unwrap();
    let summary = replay(&database, &["export", "--format", "jsonl", "--out", out]).await.sound();
    assert_eq!(summary.lines[0]["events"], 64);
    let text = std::fs::read_to_string(&path).unwrap();
    let log = database.log().await;
    assert_eq!(text.lines().count(), log.len());
    for (line, event) in text.lines().zip(&log) {
        #[derive(serde::Deserialize)]
        struct Line<'a> {
            position: i64,
            #[serde(borrow)]
            payload: &'a RawValue,
            pii: Option<String>,
            actor: String,
        }
        let line: Line<'_> = serde_json::from_str(line).unwrap();
        assert_eq!(
            (line.position, line.payload.get().as_bytes(), line.actor.as_str()),
            (event.pos, event.payload.as_slice(), event.actor.as_str())
        );
        assert_eq!(line.pii.as_deref(), event.pii.as_ref().map(|_| "00ff07"), "ciphertext");
    }
    // The same to standard output, and in pieces.
    let mut command = replay_command(&database, &["export", "--out", "-", "--to", "30"]);
    let first = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let mut command = replay_command(&database, &["export", "--out", "-", "--from", "31"]);
    let second = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert_eq!([first.stdout, second.stdout].concat(), text.as_bytes());
    assert_eq!(replay(&database, &["export", "--out", out]).await.code, 2, "a file that exists is not overwritten");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[tokio::test]
async fn a_range_that_lacks_a_position_is_not_exported() {
    let database = written().await;
    let tamper =
        "set session_replication_role = replica; delete from log.event where pos in (20, 64); set session_replication_role = origin";
    sqlx::raw_sql(tamper).execute(&database.admin).await.unwrap();
    let dir = ScratchDir::new("replay-gap");
    let export = async |name: &str, from: &str, to: &str| {
        let path = dir.path().join(name);
        replay(&database, &["export", "--out", path.to_str().unwrap(), "--from", from, "--to", to]).await
    };
    for (name, from, to, missing) in [("a", "1", "40", "position 20"), ("b", "20", "30", "position 20"), ("c", "21", "64", "position 64")] {
        let refused = export(name, from, to).await;
        assert!(refused.code == 3 && refused.lines.is_empty() && refused.errors.contains(missing), "{refused:?}");
    }
    export("d", "21", "63").await.sound();
}

/// What is compared of an event.
#[derive(Debug, PartialEq)]
struct Columns {
    position: i64,
    stream_id: String,
    version: i64,
    actor: String,
    recorded_at_us: i64,
    payload: Vec<u8>,
    pii: Option<Vec<u8>>,
    hash: Vec<u8>,
}

fn columns_of(event: &RecordedEvent) -> Columns {
    Columns {
        position: event.pos,
        stream_id: event.stream.stream_id.to_string(),
        version: event.version,
        actor: event.actor.clone(),
        recorded_at_us: event.recorded_at.timestamp_micros(),
        payload: event.payload.clone(),
        pii: event.pii.clone(),
        hash: event.hash.to_vec(),
    }
}

#[tokio::test]
async fn parquet_reads_back_with_typed_columns() {
    let database = written().await;
    let dir = ScratchDir::new("replay-parquet");
    let path = dir.path().join("log.parquet");
    let summary = replay(&database, &["export", "--format", "parquet", "--out", path.to_str().unwrap(), "--from", "2"]).await.sound();
    let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
    assert_eq!(reader.metadata().file_metadata().num_rows(), 63);
    let rows: Vec<_> = reader
        .get_row_iter(None)
        .unwrap()
        .map(|row| {
            let row = row.unwrap();
            Columns {
                position: row.get_long(0).unwrap(),
                stream_id: row.get_string(3).unwrap().clone(),
                version: row.get_long(4).unwrap(),
                actor: row.get_string(12).unwrap().clone(),
                recorded_at_us: row.get_timestamp_micros(9).unwrap(),
                payload: row.get_string(14).unwrap().clone().into_bytes(),
                pii: row.get_bytes(15).ok().map(|bytes| bytes.data().to_vec()),
                hash: row.get_bytes(16).unwrap().data().to_vec(),
            }
        })
        .collect();
    let log = database.log().await;
    assert_eq!(rows, log[1..].iter().map(columns_of).collect::<Vec<_>>());
    let again = dir.path().join("again.parquet");
    let second = replay(&database, &["export", "--format", "parquet", "--out", again.to_str().unwrap(), "--from", "2"]).await.sound();
    assert_eq!(second.digest, summary.digest, "the same range, the same bytes");
    assert_eq!(std::fs::read(again).unwrap(), std::fs::read(path).unwrap());
    assert_ne!(summary.lines[0]["sha256"], Value::Null);
}
