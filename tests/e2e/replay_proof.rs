//! `replay checkpoint`, `prove` and `check-proof`: what can be shown to someone who has no access to anything.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use domain::ids::EventId;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use support::{Replayed, ScratchDir, TestDatabase, TestPlatform, eventually, item, nobody, replay, replay_command, stream};

/// Commits of 3, 1, 5, 1 and 2 events.
async fn written() -> TestDatabase {
    let database = TestDatabase::new().await;
    let write = database.write_side();
    for count in [3, 1, 5, 1, 2] {
        write.committer.append(item(&write.ids, &[(stream(&write.ids), 0)], count)).await.unwrap();
    }
    write.stop().await;
    assert_eq!(database.head().await.pos, 12);
    database
}

struct Auditor {
    dir: ScratchDir,
    checkpoint: PathBuf,
    public: String,
}

async fn auditor(database: &TestDatabase) -> Auditor {
    let dir = ScratchDir::new("replay-proof");
    let key = dir.path().join("auditor.pem");
    let key = key.to_str().unwrap();
    let made = replay(database, &["checkpoint", "--new-key", key]).await.sound();
    let public = made.lines[0]["public_key"].as_str().unwrap().to_owned();
    let checkpoint = dir.path().join("checkpoint.json");
    let signed = replay(database, &["checkpoint", "--key", key]).await.sound();
    std::fs::write(&checkpoint, signed.lines[0].to_string()).unwrap();
    Auditor { dir, checkpoint, public }
}

impl Auditor {
    async fn prove(&self, database: &TestDatabase, position: i64) -> Replayed {
        replay(database, &["prove", &position.to_string(), "--checkpoint", self.checkpoint.to_str().unwrap()]).await
    }

    /// Checks a proof with a database URL that leads nowhere.
    async fn check(&self, proof: &Value) -> i32 {
        self.check_text(&proof.to_string()).await
    }

    async fn check_text(&self, proof: &str) -> i32 {
        let file = self.dir.path().join("proof.json");
        std::fs::write(&file, proof).unwrap();
        check_file(&file, &self.public).await
    }
}

async fn check_file(file: &Path, public: &str) -> i32 {
    let mut command = std::process::Command::new(support::replay_program());
    command.args(["check-proof", file.to_str().unwrap(), "--public-key", public]).env_remove("DATABASE_URL");
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap().status.code().unwrap()
}

#[tokio::test]
async fn every_event_is_proven_by_a_file_alone() {
    let database = written().await;
    let auditor = auditor(&database).await;
    for position in 1..=12 {
        let proof = auditor.prove(&database, position).await.sound();
        assert_eq!(proof.lines[0]["event"]["position"], position);
        assert_eq!(auditor.check(&proof.lines[0]).await, 0, "{position}");
    }
    assert_eq!(auditor.prove(&database, 13).await.code, 2, "beyond the checkpoint");
    // The log grows; the old checkpoint still proves what it covers.
    let write = database.write_side();
    write.committer.append(item(&write.ids, &[(stream(&write.ids), 0)], 4)).await.unwrap();
    write.stop().await;
    for position in [1, 12] {
        assert_eq!(auditor.check(&auditor.prove(&database, position).await.sound().lines[0]).await, 0);
    }
    assert_eq!(auditor.prove(&database, 13).await.code, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_proven_by_its_id_whether_merchants_are_told_of_it_or_not() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    platform.billed(&shop, 40_00).await;
    platform.settled().await;
    let database = &platform.database;
    let auditor = auditor(database).await;
    let told = platform.get(&shop.admin, "/v1/events?limit=200").await.ok().body["data"].as_array().unwrap().clone();
    let prove = async |id: &str| replay(database, &["prove", id, "--checkpoint", auditor.checkpoint.to_str().unwrap()]).await;
    let by_id = prove(told.last().unwrap()["id"].as_str().unwrap()).await.sound();
    assert_eq!(by_id.lines, auditor.prove(database, told.last().unwrap()["position"].as_i64().unwrap()).await.sound().lines);
    assert_eq!(auditor.check(&by_id.lines[0]).await, 0);
    // Nobody is told of merchants; the log has them.
    let registered = database.log().await.into_iter().find(|event| event.event_type == "merchant.registered").unwrap();
    let outside = registered.event_id().to_string();
    assert!(told.iter().all(|event| event["id"] != outside.as_str()));
    assert_eq!(prove(&outside).await.sound().lines, auditor.prove(database, registered.pos).await.sound().lines);
    let no_event = EventId::of(registered.pos, &[7; 32]).to_string();
    let (nowhere, before) = (EventId::of(0, &registered.hash).to_string(), nobody::<EventId>().to_string());
    for bad in [&no_event, &nowhere, &before, "evt_1", "0", "first"] {
        let refused = prove(bad).await;
        assert!(refused.code == 2 && refused.lines.is_empty(), "{refused:?}");
    }
    platform.stop().await;
}

/// Every place in a document that holds a value.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, field)| places(field, &format!("{at}/{name}"), found)),
        Value::Array(items) => items.iter().enumerate().for_each(|(index, item)| places(item, &format!("{at}/{index}"), found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => found.push(at.to_owned()),
    }
}

/// The same kind of value, and another one.
fn altered(value: &Value) -> Vec<Value> {
    match value {
        Value::Number(number) => [-1, 1].map(|by| json!(number.as_i64().unwrap() + by)).to_vec(),
        Value::String(text) => {
            // Another character of the kind in each of three places, so that hex stays hex and ids stay ids.
            let change = |index: usize| {
                let mut letters: Vec<char> = text.chars().collect();
                letters[index] = match letters[index] {
                    '1' => '2',
                    digit if digit.is_ascii_digit() => '1',
                    'a' => 'b',
                    'A' => 'B',
                    letter if letter.is_ascii_uppercase() => 'A',
                    _ => 'a',
                };
                json!(letters.into_iter().collect::<String>())
            };
            let places = [0, text.len() / 2, text.len().saturating_sub(1)];
            if text.is_empty() { vec![json!("a")] } else { places.into_iter().map(change).collect() }
        }
        Value::Null => vec![json!("00"), json!(0)],
        other @ (Value::Bool(_) | Value::Array(_) | Value::Object(_)) => panic!("{other} is in no proof"),
    }
}

#[tokio::test]
async fn a_proof_with_any_field_changed_proves_nothing() {
    let database = written().await;
    let auditor = auditor(&database).await;
    // In the middle of a commit in the middle of the log, and in the last commit.
    for position in [6, 12] {
        let proof = auditor.prove(&database, position).await.sound().lines[0].clone();
        let mut found = Vec::new();
        places(&proof, "", &mut found);
        assert!(found.len() > 30, "{found:?}");
        for place in &found {
            for value in altered(proof.pointer(place).unwrap()) {
                let mut changed = proof.clone();
                *changed.pointer_mut(place).unwrap() = value.clone();
                assert_eq!(auditor.check(&changed).await, 1, "{place} = {value}");
            }
        }
        for path in ["/event_path", "/commit_path"] {
            let mut changed = proof.clone();
            changed.pointer_mut(path).unwrap().as_array_mut().unwrap().pop();
            assert_eq!(auditor.check(&changed).await, 1, "{path} shortened");
        }
        for field in proof.as_object().unwrap().keys() {
            let mut changed = proof.clone();
            changed.as_object_mut().unwrap().remove(field);
            // A last commit has nothing after it, which is what an absent field says.
            let sound = field == "next_commit" && proof[field].is_null();
            assert_eq!(auditor.check(&changed).await, 1, "{field} removed (sound: {sound})");
        }
        let mut more = proof.clone();
        more["note"] = json!("x");
        assert_eq!(auditor.check(&more).await, 1);
    }
}

#[tokio::test]
async fn a_proof_with_a_time_that_is_hashed_like_the_stored_one_proves_nothing() {
    let database = written().await;
    let auditor = auditor(&database).await;
    let proof = auditor.prove(&database, 6).await.sound().lines[0].clone();
    let time = |place: &str| proof.pointer(place).unwrap().as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    let later = |place: &str| json!(time(place) + chrono::TimeDelta::nanoseconds(1));
    let (occurred, recorded) = ("/event/occurred_at", "/commit/recorded_at");
    assert_eq!(proof.pointer(occurred), Some(&json!("2026-11-20T05:00:00Z")));
    let leap_second = json!("2026-11-20T04:59:60Z");
    for (place, value) in [(occurred, leap_second), (occurred, later(occurred)), (recorded, later(recorded))] {
        let mut changed = proof.clone();
        *changed.pointer_mut(place).unwrap() = value.clone();
        assert_eq!(auditor.check(&changed).await, 1, "{place} = {value}");
    }
    assert_eq!(auditor.check(&proof).await, 0);
}

#[tokio::test]
async fn a_proof_that_says_a_field_twice_proves_nothing() {
    let database = written().await;
    let auditor = auditor(&database).await;
    let text = auditor.prove(&database, 6).await.sound().lines[0].to_string();
    assert_eq!(auditor.check_text(&text).await, 0);
    // At the top, in the event, in its payload's wrapping and in the checkpoint: readers that take the first would be misled.
    for (place, false_one) in [
        ("\"commit_index\":", "\"commit_index\":7,"),
        ("\"actor\":", "\"actor\":\"user:another\","),
        ("\"payload\":{", "\"payload\":{\"text\":\"{}\"},"),
        ("\"epoch\":", "\"epoch\":9,"),
    ] {
        let twice = text.replacen(place, &format!("{false_one}{place}"), 1);
        assert_ne!(twice, text, "{place}");
        assert_eq!(auditor.check_text(&twice).await, 1, "{place}");
    }
    let wrapped = text.replacen("\"payload\":{", "\"payload\":{\"text\":\"{}\",", 1);
    assert_eq!(auditor.check_text(&wrapped).await, 1);
}

#[tokio::test]
async fn a_proof_says_nothing_under_another_key() {
    let database = written().await;
    let (one, other) = (auditor(&database).await, auditor(&database).await);
    let proof = one.prove(&database, 5).await.sound();
    let file = one.dir.path().join("event.json");
    std::fs::write(&file, proof.lines[0].to_string()).unwrap();
    assert_eq!(check_file(&file, &one.public).await, 0);
    assert_eq!(check_file(&file, &other.public).await, 1);
    assert_eq!(check_file(Path::new("nowhere.json"), &one.public).await, 2);
}

#[tokio::test]
async fn a_checked_proof_says_whose_event_it_is_and_of_which_log() {
    let database = written().await;
    let auditor = auditor(&database).await;
    let proof = auditor.prove(&database, 6).await.sound().lines[0].clone();
    let file = auditor.dir.path().join("event.json");
    std::fs::write(&file, proof.to_string()).unwrap();
    let check = async |more: &[&str]| {
        let arguments = [&["check-proof", file.to_str().unwrap(), "--public-key", &auditor.public], more].concat();
        replay(&database, &arguments).await
    };
    let line = check(&[]).await.sound().lines[0].clone();
    for field in ["position", "tenant", "version", "type", "actor"] {
        let wanted = &proof["event"][field];
        // Ids are bare in a proof and carry their kind's prefix where people read them.
        assert!(line[field] == *wanted || line[field].as_str().unwrap().ends_with(wanted.as_str().unwrap()), "{field} in {line}");
    }
    assert!(line["stream"].as_str().unwrap().ends_with(proof["event"]["stream_id"].as_str().unwrap()), "{line}");
    let recorded = |value: &Value| value["recorded_at"].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    assert_eq!(recorded(&line), recorded(&proof["commit"]));
    assert_eq!((&line["log_id"], &line["epoch"]), (&proof["checkpoint"]["log_id"], &proof["checkpoint"]["epoch"]));
    check(&["--log-id", line["log_id"].as_str().unwrap()]).await.sound();
    let other = check(&["--log-id", "00000000-0000-0000-0000-000000000001"]).await;
    assert_eq!((other.code, &other.lines[0]["proven"]), (1, &json!(false)));
}

/// What a command said on standard output, and the digest that it told on standard error.
async fn told(mut command: Command) -> (Vec<u8>, String) {
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{errors}");
    let last = errors.lines().last().unwrap_or_else(|| panic!("no digest"));
    let in_json = serde_json::from_str::<Value>(last).ok().and_then(|line| line["digest"].as_str().map(str::to_owned));
    (output.stdout, in_json.unwrap_or_else(|| last.strip_prefix("digest ").unwrap().to_owned()))
}

#[tokio::test]
async fn the_digest_of_a_document_is_told_beside_it() {
    let database = written().await;
    let auditor = auditor(&database).await;
    let (key, checkpoint) = (auditor.dir.path().join("auditor.pem"), auditor.checkpoint.to_str().unwrap());
    for arguments in [
        &["checkpoint", "--key", key.to_str().unwrap()][..],
        &["prove", "6", "--checkpoint", checkpoint],
        &["export", "--out", "-", "--from", "3"],
    ] {
        let (document, digest) = told(replay_command(&database, arguments)).await;
        assert_eq!(digest, hex::encode(Sha256::digest(&document)), "{arguments:?}");
        assert!(!document.is_empty() && !String::from_utf8(document.clone()).unwrap().contains(&digest), "{arguments:?}");
        assert_eq!(told(replay_command(&database, &[arguments, &["--json"]].concat())).await, (document, digest), "{arguments:?}");
    }
}

#[tokio::test]
async fn a_document_that_nobody_takes_is_a_fault_and_no_panic() {
    let database = written().await;
    let auditor = auditor(&database).await;
    let (key, checkpoint) = (auditor.dir.path().join("auditor.pem"), auditor.checkpoint.to_str().unwrap());
    for arguments in [vec!["checkpoint", "--key", key.to_str().unwrap()], vec!["prove", "6", "--checkpoint", checkpoint]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = support::replay_command(&database, &arguments);
        command.stdout(writer);
        let status = tokio::task::spawn_blocking(move || command.status()).await.unwrap().unwrap();
        assert_eq!(status.code(), Some(3), "{arguments:?}");
    }
}

#[tokio::test]
async fn a_key_is_private_and_never_overwritten_and_the_same_head_is_signed_the_same() {
    let database = written().await;
    let auditor = auditor(&database).await;
    let key = auditor.dir.path().join("auditor.pem");
    let before = std::fs::read(&key).unwrap();
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(replay(&database, &["checkpoint", "--new-key", key.to_str().unwrap()]).await.code, 2);
    assert_eq!(std::fs::read(&key).unwrap(), before);
    let again = replay(&database, &["checkpoint", "--key", key.to_str().unwrap()]).await.sound();
    assert_eq!(again.lines[0].to_string(), std::fs::read_to_string(&auditor.checkpoint).unwrap());
    assert_eq!((&again.lines[0]["position"], &again.lines[0]["commits"]), (&json!(12), &json!(5)));
    let head: String = sqlx::query_scalar("select encode(hash, 'hex') from log.head").fetch_one(&database.admin).await.unwrap();
    assert_eq!(again.lines[0]["head_hash"], head);
    let empty = TestDatabase::new().await;
    assert_eq!(replay(&empty, &["checkpoint", "--key", key.to_str().unwrap()]).await.code, 2, "nothing to sign");
}

/// Keeps checkpoints in a directory of this name, which is made unless it is there; works inside the auditor's own, so that it ends with the test.
fn keeper(database: &TestDatabase, auditor: &Auditor, name: &str) -> (Child, PathBuf) {
    let (key, kept) = (auditor.dir.path().join("auditor.pem"), auditor.dir.path().join(name));
    std::fs::create_dir_all(&kept).unwrap();
    let arguments = ["checkpoint", "--key", key.to_str().unwrap(), "--every", "1s", "--out", kept.to_str().unwrap(), "--json"];
    let mut command = replay_command(database, &arguments);
    command.current_dir(auditor.dir.path()).stdout(Stdio::null()).stderr(Stdio::piped());
    (command.spawn().unwrap(), kept)
}

/// The file of a position, once it is there: always as a whole.
async fn kept_at(dir: &Path, position: i64) -> PathBuf {
    let file = dir.join(format!("checkpoint-{position:019}.json"));
    eventually("the checkpoint is kept", Duration::from_secs(15), || async {
        let content = std::fs::read_to_string(&file).ok()?;
        assert!(content.ends_with("}\n"), "{content}");
        Some(())
    })
    .await;
    file
}

/// How a process ended, and what it said on standard error.
async fn ended(process: Child) -> (Option<i32>, String) {
    let output = tokio::task::spawn_blocking(move || process.wait_with_output()).await.unwrap().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// Why a process signed nothing more: the position, and what is wrong there.
async fn not_signed(process: Child) -> (i64, String) {
    let (code, errors) = ended(process).await;
    let told: Value = serde_json::from_str(errors.trim()).unwrap();
    assert_eq!((code, &told["error"]), (Some(1), &json!("wrong")), "{errors}");
    (told["position"].as_i64().unwrap(), told["what"].as_str().unwrap().to_owned())
}

/// Ends a process by Ctrl-C, which is the way to end it.
async fn interrupted(process: Child) {
    assert!(Command::new("kill").args(["-INT", &process.id().to_string()]).status().unwrap().success());
    assert_eq!(ended(process).await, (Some(0), String::new()));
}

#[tokio::test]
async fn checkpoints_are_gone_on_from_by_a_keeper_that_is_started_again_and_only_from_its_own_of_this_log() {
    let database = written().await;
    let (ours, theirs) = (auditor(&database).await, auditor(&database).await);
    let (process, kept) = keeper(&database, &ours, "kept");
    let first = kept_at(&kept, 12).await;
    interrupted(process).await;
    let write = database.write_side();
    write.committer.append(item(&write.ids, &[(stream(&write.ids), 0)], 4)).await.unwrap();
    write.stop().await;
    let (process, _) = keeper(&database, &ours, "kept");
    let second = kept_at(&kept, 16).await;
    interrupted(process).await;
    assert_eq!(std::fs::read_dir(&kept).unwrap().count(), 2);

    let sound = std::fs::read_to_string(&second).unwrap();
    for (content, wanted) in [
        (sound[..sound.len() / 2].to_owned(), "not a checkpoint"),
        (std::fs::read_to_string(&theirs.checkpoint).unwrap(), "signed by another key"),
        (sound.replace("\"commits\":6", "\"commits\":7"), "signature does not fit"),
        (std::fs::read_to_string(&first).unwrap(), "of position 12"),
    ] {
        std::fs::write(&second, content).unwrap();
        let (position, what) = not_signed(keeper(&database, &ours, "kept").0).await;
        assert!(position == 16 && what.contains(wanted), "{position}: {what}");
    }
    std::fs::write(&second, sound).unwrap();
    sqlx::raw_sql("update log.head set log_id = gen_random_uuid()").execute(&database.admin).await.unwrap();
    let (_, what) = not_signed(keeper(&database, &ours, "kept").0).await;
    assert!(what.contains("another log"), "{what}");
    assert_eq!(std::fs::read_dir(&kept).unwrap().count(), 2);
}

/// How many of the auditor's statements wait for a lock.
async fn waiting(database: &TestDatabase) -> i64 {
    let sql = "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'replay' \
               and wait_event_type = 'Lock'";
    sqlx::query_scalar(sql).fetch_one(&database.admin).await.unwrap()
}

#[tokio::test]
async fn checkpoints_are_ended_by_ctrl_c_while_the_database_does_not_answer() {
    let database = written().await;
    let auditor = auditor(&database).await;
    // The quickest, since a slow machine makes any one slower.
    let mut quickest = Duration::MAX;
    for _ in 0..3 {
        let mut held = database.admin.begin().await.unwrap();
        sqlx::raw_sql("lock table log.commit in access exclusive mode").execute(&mut *held).await.unwrap();
        let (process, kept) = keeper(&database, &auditor, "kept");
        eventually("the keeper waits for the database", Duration::from_secs(15), || async {
            (waiting(&database).await == 1).then_some(())
        })
        .await;
        let asked = std::time::Instant::now();
        interrupted(process).await;
        quickest = quickest.min(asked.elapsed());
        held.rollback().await.unwrap();
        assert_eq!(std::fs::read_dir(&kept).unwrap().count(), 0);
        // What the server did for it ends once the lock is gone.
        eventually("nobody waits any more", Duration::from_secs(15), || async { (waiting(&database).await == 0).then_some(()) }).await;
    }
    assert!(quickest < Duration::from_secs(10), "{quickest:?}");
}

#[tokio::test]
async fn checkpoints_are_kept_whenever_the_log_has_grown_until_it_does_not_continue_what_was_signed() {
    let database = written().await;
    let auditor = auditor(&database).await;
    let (process, kept) = keeper(&database, &auditor, "kept");
    let first = kept_at(&kept, 12).await;
    let write = database.write_side();
    write.committer.append(item(&write.ids, &[(stream(&write.ids), 0)], 4)).await.unwrap();
    write.stop().await;
    let second = kept_at(&kept, 16).await;
    let arguments =
        ["verify", "--checkpoint", first.to_str().unwrap(), "--checkpoint", second.to_str().unwrap(), "--public-key", &auditor.public];
    assert_eq!(replay(&database, &arguments).await.sound().lines[0]["checkpoints"], json!([12, 16]));
    assert_eq!(std::fs::read_dir(&kept).unwrap().count(), 2, "one for each head that was seen");

    // A chain in itself, which whoever never saw the log before would sign, and not the one that was signed.
    let rewrite = "set session_replication_role = replica; update log.commit set hash = sha256('x') where first_pos = 13; \
                   update log.head set hash = sha256('x'); set session_replication_role = origin";
    sqlx::raw_sql(rewrite).execute(&database.admin).await.unwrap();
    assert_eq!(not_signed(process).await.0, 16);
    // Nor does one that is started again sign it beside what was signed before.
    let (position, what) = not_signed(keeper(&database, &auditor, "kept").0).await;
    assert!(position == 16 && what.contains("another log"), "{position}: {what}");
    assert_eq!(std::fs::read_dir(&kept).unwrap().count(), 2);

    let (process, kept) = keeper(&database, &auditor, "kept-anew");
    kept_at(&kept, 16).await;
    interrupted(process).await;
    let key = auditor.dir.path().join("auditor.pem");
    let key = key.to_str().unwrap();
    for arguments in [
        vec!["checkpoint", "--key", key, "--every", "1s"],
        vec!["checkpoint", "--key", key, "--every", "soon", "--out", kept.to_str().unwrap()],
        vec!["checkpoint", "--key", key, "--every", "1s", "--out", "/nowhere"],
    ] {
        assert_eq!(replay(&database, &arguments).await.code, 2, "{arguments:?}");
    }
}

#[tokio::test]
async fn a_broken_chain_is_not_signed_and_a_rewritten_log_proves_nothing() {
    let database = written().await;
    let auditor = auditor(&database).await;
    let tamper = "set session_replication_role = replica; update log.event set payload = payload || ' ', hash = sha256('x') where pos = 6; \
                  update log.commit set hash = sha256('x') where first_pos = 5; set session_replication_role = origin";
    sqlx::raw_sql(tamper).execute(&database.admin).await.unwrap();
    let key = auditor.dir.path().join("auditor.pem");
    let signed = replay(&database, &["checkpoint", "--key", key.to_str().unwrap()]).await;
    let proven = auditor.prove(&database, 6).await;
    // Nothing stands where the document would; what is wrong is an object like any other failure.
    for (refused, position) in [(signed, 10), (proven, 6)] {
        let told: Value = serde_json::from_str(refused.errors.trim()).unwrap();
        assert_eq!((refused.code, refused.lines.len(), &told["error"]), (1, 0, &json!("wrong")), "{told}");
        assert!(told["position"] == position && told["what"].is_string(), "{told}");
    }
}
