//! `replay verify` against someone who owns the database: whatever is done to the log is found, and where.

use std::path::{Path, PathBuf};

use commands::database::Role;
use domain::{envelope::RecordedEvent, integrity::recorded_hash};
use serde_json::Value;
use sqlx::AssertSqlSafe;
use support::{Replayed, ScratchDir, TestDatabase, item, key_claim, replay, stream};

/// A log of nine positions in four commits: 1–3, 4–5, 6–8, 9.
async fn written() -> TestDatabase {
    let database = TestDatabase::new().await;
    let write = database.write_side();
    let ids = &write.ids;
    let (a, b, c) = (stream(ids), stream(ids), stream(ids));
    let mut first = item(ids, &[(a, 0)], 3);
    first.keys.push(key_claim("a key"));
    for item in [first, item(ids, &[(b, 0), (c, 0)], 1), item(ids, &[(a, 3), (b, 1), (c, 1)], 1), item(ids, &[(a, 4)], 1)] {
        write.committer.append(item).await.unwrap();
    }
    write.stop().await;
    assert_eq!(database.head().await.pos, 9);
    database
}

/// As the owner of the database, whom no trigger stops.
async fn tamper(database: &TestDatabase, sql: &str) {
    let sql = format!("set session_replication_role = replica; {sql}; set session_replication_role = origin");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&database.admin).await.unwrap();
}

/// Where the first problem is, from and until.
fn first(replayed: &Replayed) -> (i64, i64) {
    assert_eq!(replayed.code, 1, "{replayed:?}");
    let problem = &replayed.lines[0];
    (problem["position"].as_i64().unwrap(), problem["until"].as_i64().unwrap())
}

async fn found_after(sql: &str) -> (i64, i64) {
    let database = written().await;
    tamper(&database, sql).await;
    first(&replay(&database, &["verify"]).await)
}

/// Every problem that was told, as first and last position.
fn places(found: &Replayed) -> Vec<(i64, i64)> {
    assert_eq!(found.code, 1, "{found:?}");
    let problems = found.lines.iter().filter(|line| line["what"].is_string());
    problems.map(|line| (line["position"].as_i64().unwrap(), line["until"].as_i64().unwrap())).collect()
}

/// Every problem that `replay verify` tells, as first and last position.
async fn problems(database: &TestDatabase) -> Vec<(i64, i64)> {
    places(&replay(database, &["verify"]).await)
}

/// Asserts that a change at a position is named exactly there, and that no other problem leaves the position out.
async fn assert_named_after(sql: &str, position: i64) {
    let database = written().await;
    tamper(&database, sql).await;
    let found = problems(&database).await;
    assert!(found.contains(&(position, position)), "{sql}: {found:?}");
    assert!(found.iter().all(|(first, last)| (*first..=*last).contains(&position)), "{sql}: {found:?}");
}

/// Gives an event another payload and the hash that goes with it.
async fn replace_with_hash(database: &TestDatabase, position: i64) {
    let log = database.log().await;
    let mut event: RecordedEvent = log.into_iter().find(|event| event.pos == position).unwrap();
    event.payload = br#"{"reason":"another"}"#.to_vec();
    event.hash = recorded_hash(&event);
    tamper(
        database,
        &format!(
            "update log.event set payload = '\\x{}', hash = '\\x{}' where pos = {position}",
            hex::encode(&event.payload),
            hex::encode(event.hash)
        ),
    )
    .await;
}

/// Recomputes the chain of commits from the event hashes as they stand, as a forger would, up to the commit that begins at `last`; gives
/// the hash of that. Nothing that follows knows it.
async fn recompute_until(database: &TestDatabase, last: i64) -> [u8; 32] {
    let log = database.log().await;
    let commits: Vec<(i64, i64, chrono::DateTime<chrono::Utc>)> =
        sqlx::query_as("select first_pos, last_pos, recorded_at from log.commit where first_pos <= $1 order by first_pos")
            .bind(last)
            .fetch_all(&database.admin)
            .await
            .unwrap();
    let mut previous = [0; 32];
    for (first_pos, last_pos, recorded_at) in commits {
        let hashes: Vec<[u8; 32]> =
            log.iter().filter(|event| (first_pos..=last_pos).contains(&event.pos)).map(|event| event.hash).collect();
        let root = domain::integrity::merkle_root(&hashes);
        let hash = domain::integrity::commit_hash(&previous, first_pos, recorded_at.timestamp_micros(), &root);
        let (prev, next) = (hex::encode(previous), hex::encode(hash));
        tamper(database, &format!("update log.commit set prev_hash = '\\x{prev}', hash = '\\x{next}' where first_pos = {first_pos}")).await;
        previous = hash;
    }
    previous
}

/// Recomputes every commit, and the head.
async fn recompute_chain(database: &TestDatabase) {
    let newest = recompute_until(database, i64::MAX).await;
    tamper(database, &format!("update log.head set hash = '\\x{}'", hex::encode(newest))).await;
}

/// A key, its public half, and a checkpoint of the database signed with it.
async fn checkpoint(database: &TestDatabase, dir: &ScratchDir) -> (PathBuf, String) {
    let (key, file) = (dir.path().join("auditor.pem"), dir.path().join("checkpoint.json"));
    let made = replay(database, &["checkpoint", "--new-key", key.to_str().unwrap()]).await.sound();
    let public = made.lines[0]["public_key"].as_str().unwrap().to_owned();
    let signed = replay(database, &["checkpoint", "--key", key.to_str().unwrap()]).await.sound();
    std::fs::write(&file, signed.lines[0].to_string()).unwrap();
    (file, public)
}

async fn verify_with(database: &TestDatabase, (file, public): &(PathBuf, String)) -> Replayed {
    replay(database, &["verify", "--checkpoint", file.to_str().unwrap(), "--public-key", public]).await
}

#[tokio::test]
async fn a_log_as_it_was_written_is_sound_and_always_answers_the_same() {
    let database = written().await;
    let one = replay(&database, &["verify"]).await.sound();
    assert_eq!(one.lines.len(), 1);
    assert_eq!((&one.lines[0]["events"], &one.lines[0]["commits"]), (&Value::from(9), &Value::from(4)));
    let head: String = sqlx::query_scalar("select encode(hash, 'hex') from log.head").fetch_one(&database.admin).await.unwrap();
    assert_eq!(one.lines[0]["head_hash"], head);
    let again = replay(&database, &["verify", "--connections", "1"]).await.sound();
    assert_eq!((one.digest.len(), &one.digest), (64, &again.digest));
    let mut text = support::replay_command(&database, &["verify"]);
    let output = tokio::task::spawn_blocking(move || text.output()).await.unwrap().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.ends_with(&format!("digest {}\n", one.digest)), "{shown}");
    let empty = TestDatabase::new().await;
    replay(&empty, &["verify"]).await.sound();
}

#[tokio::test]
async fn a_changed_row_is_found_at_its_position() {
    for column in [
        "payload = payload || ' '",
        "meta = '{\"x\":1}'",
        "actor = 'user:other'",
        "type = 'order.completed'",
        "slice = slice + 1",
        "pii = ''",
        "occurred_at = occurred_at + interval '1 microsecond'",
        "recorded_at = recorded_at + interval '1 microsecond'",
        "causation_id = gen_random_uuid()",
        "stream_type = 'nonsense'",
        "hash = '\\x00'",
        "hash = sha256('x')",
    ] {
        assert_named_after(&format!("update log.event set {column} where pos = 7"), 7).await;
    }
}

#[tokio::test]
async fn a_changed_commit_or_head_is_found() {
    assert_eq!(found_after("update log.commit set hash = sha256('x') where first_pos = 4").await.0, 4);
    assert_eq!(found_after("update log.commit set prev_hash = sha256('x') where first_pos = 4").await.0, 4);
    assert_eq!(found_after("update log.commit set recorded_at = recorded_at + interval '1 ms' where first_pos = 4").await.0, 4);
    assert_eq!(found_after("update log.commit set last_pos = 6 where first_pos = 4").await, (4, 6));
    assert_eq!(found_after("update log.commit set hash = '' where first_pos = 4").await.0, 4);
    assert_eq!(found_after("delete from log.commit where first_pos = 4").await.0, 4);
    assert_eq!(found_after("update log.commit set hash = sha256('x') where first_pos = 9").await, (9, 9));
    // It may be the head, or whatever the hash of the newest commit was computed from.
    assert_eq!(found_after("update log.head set hash = sha256('x')").await, (1, 9));
    assert_eq!(found_after("update log.head set pos = 8").await, (9, 9));
}

#[tokio::test]
async fn a_head_with_another_time_than_the_newest_commit_is_found() {
    for time in ["'2099-01-01'", "'2001-01-01'", "recorded_at - interval '1 microsecond'", "'infinity'", "'-infinity'"] {
        assert_eq!(found_after(&format!("update log.head set recorded_at = {time}")).await, (9, 9), "{time}");
    }
    let empty = TestDatabase::new().await;
    tamper(&empty, "update log.head set recorded_at = '2099-01-01'").await;
    assert_eq!(problems(&empty).await, [(1, 1)]);
}

#[tokio::test]
async fn figures_of_a_log_with_a_time_that_is_none_are_refused_at_its_position() {
    let database = written().await;
    keep(&database).await;
    for time in ["'infinity'", "'-infinity'", "'294276-12-31 00:00:00Z'"] {
        tamper(&database, &format!("update log.event set recorded_at = {time} where pos in (7, 9)")).await;
        let refused = replay(&database, &["stats"]).await;
        let told: Value = serde_json::from_str(refused.errors.trim()).unwrap();
        assert!(refused.code == 3 && refused.lines.is_empty() && told["error"] == "fault", "{time}: {refused:?}");
        assert!(told["what"].as_str().unwrap().contains("log position 7: a time is"), "{time}: {told}");
        restore(&database).await;
    }
    replay(&database, &["stats"]).await.sound();
}

/// What is tampered with.
const TABLES: [&str; 5] = ["event", "commit", "head", "stream_head", "append_key"];

/// Keeps the log as it is, for [`restore`].
async fn keep(database: &TestDatabase) {
    let copies: Vec<String> = TABLES.iter().map(|table| format!("create table kept.{table} as table log.{table};")).collect();
    let sql = format!("create schema kept; {}", copies.concat());
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&database.admin).await.unwrap();
}

async fn restore(database: &TestDatabase) {
    let copies = TABLES.map(|table| format!("delete from log.{table}; insert into log.{table} table kept.{table}"));
    tamper(database, &copies.join("; ")).await;
}

#[tokio::test]
async fn a_time_that_is_none_is_found_like_any_other_change() {
    let database = written().await;
    let dir = ScratchDir::new("replay-infinite");
    let _ = checkpoint(&database, &dir).await;
    let key = dir.path().join("auditor.pem");
    keep(&database).await;
    for time in ["'infinity'", "'-infinity'", "'294276-12-31 00:00:00Z'", "'4713-01-01 00:00:00Z BC'"] {
        for column in ["occurred_at", "recorded_at"] {
            tamper(&database, &format!("update log.event set {column} = {time} where pos = 7")).await;
            assert_eq!(first(&replay(&database, &["verify"]).await), (7, 7), "{column} {time}");
            restore(&database).await;
        }
        tamper(&database, &format!("update log.commit set recorded_at = {time} where first_pos = 4")).await;
        assert_eq!(first(&replay(&database, &["verify"]).await).0, 4, "{time}");
        restore(&database).await;
    }
    tamper(&database, "update log.commit set recorded_at = 'infinity' where first_pos = 4").await;
    let signed = replay(&database, &["checkpoint", "--key", key.to_str().unwrap()]).await;
    assert_eq!((signed.code, signed.lines.len()), (1, 0), "not signed: {signed:?}");
}

#[tokio::test]
async fn a_row_that_cannot_be_read_hides_nothing_else() {
    let database = written().await;
    keep(&database).await;
    let payloads = "update log.event set payload = payload || ' ' where pos in (2, 9)";
    for unreadable in [
        "update log.commit set hash = substr(hash, 2) where first_pos = 4",
        "update log.commit set prev_hash = '' where first_pos = 4",
        "update log.commit set recorded_at = 'infinity' where first_pos = 4",
        "update log.event set occurred_at = 'infinity' where pos = 4",
        "insert into log.commit select 9000000000000000000, 9000000000000000000, recorded_at, hash, hash from log.commit where first_pos = 4",
        "insert into log.commit select 9223372036854775807, 9223372036854775807, recorded_at, hash, hash from log.commit where first_pos = 4",
        "insert into log.commit select -9223372036854775807, 9223372036854775807, recorded_at, hash, hash from log.commit where first_pos = 4",
        "update log.commit set last_pos = 9223372036854775807 where first_pos = 4",
        "update log.stream_head set version = 9223372036854775807",
        "update log.append_key set first_pos = 9223372036854775807, last_pos = 9223372036854775807",
        "update log.head set pos = 9223372036854775807",
    ] {
        tamper(&database, &format!("{unreadable}; {payloads}")).await;
        let found = replay(&database, &["verify"]).await;
        restore(&database).await;
        assert_eq!(found.code, 1, "{unreadable}: {found:?}");
        let exact = |line: &&Value| line["what"].as_str().is_some_and(|what| what.contains("the event does not hash"));
        let positions: Vec<i64> = found.lines.iter().filter(exact).map(|line| line["position"].as_i64().unwrap()).collect();
        assert_eq!(positions, [2, 9], "{unreadable}: {found:?}");
        assert!(found.lines.len() > 3, "{unreadable}: {found:?}");
    }
}

#[tokio::test]
async fn a_deleted_row_is_found_at_its_position() {
    for position in [1, 4, 5, 7, 9] {
        assert_named_after(&format!("delete from log.event where pos = {position}"), position).await;
    }
    let database = written().await;
    tamper(&database, "delete from log.event where pos between 2 and 7").await;
    let found = problems(&database).await;
    assert!([(2, 3), (4, 5), (6, 7)].iter().all(|missing| found.contains(missing)), "{found:?}");
}

/// The last commit cut off, and the head moved back to the one before.
const CUT: &str = "delete from log.event where pos = 9; delete from log.commit where first_pos = 9";
const HEAD_BACK: &str =
    "update log.head set (pos, hash, recorded_at) = (select last_pos, hash, recorded_at from log.commit where first_pos = 6)";

#[tokio::test]
async fn a_deleted_end_is_found_though_the_head_was_moved_back() {
    let cut = format!("{CUT}; {HEAD_BACK}");
    // The head of the stream, which the forger forgot, knows one more: it stood somewhere behind its newest event.
    assert_eq!(found_after(&cut).await, (6, 9));
    // So does an idempotency key.
    let cut_two =
        format!("{cut}; update log.append_key set first_pos = 9, last_pos = 9; update log.stream_head set version = 4 where version = 5");
    assert_eq!(found_after(&cut_two).await, (9, 9));
}

#[tokio::test]
async fn a_deleted_end_with_nothing_forgotten_is_found_by_a_checkpoint_only() {
    let database = written().await;
    let dir = ScratchDir::new("replay-end");
    let checkpoint = checkpoint(&database, &dir).await;
    assert_eq!(verify_with(&database, &checkpoint).await.sound().lines[0]["checkpoints"], serde_json::json!([9]));
    tamper(&database, &format!("{CUT}; {HEAD_BACK}; update log.stream_head set version = 4 where version = 5")).await;
    replay(&database, &["verify"]).await.sound();
    assert_eq!(first(&verify_with(&database, &checkpoint).await), (9, 9));
}

#[tokio::test]
async fn rows_that_changed_places_are_both_named() {
    let swap = |a: i64, b: i64| {
        format!(
            "update log.event set pos = -{a} where pos = {a}; update log.event set pos = {a} where pos = {b}; update log.event set pos = {b} where pos = -{a}"
        )
    };
    // Within one commit, of one stream and of several; and across commits.
    let partition = "alter table log.event attach partition log.spare default";
    for (a, b) in [(1, 3), (6, 8), (5, 7)] {
        let database = written().await;
        // Somewhere for the row to wait, as a forger would make one.
        sqlx::raw_sql(AssertSqlSafe(format!("create table log.spare (like log.event including all); {partition}")))
            .execute(&database.admin)
            .await
            .unwrap();
        tamper(&database, &swap(a, b)).await;
        let found = replay(&database, &["verify"]).await;
        assert_eq!(first(&found), (a, a), "{found:?}");
        let exchanged: Vec<i64> = found
            .lines
            .iter()
            .filter(|line| line["what"].as_str().is_some_and(|what| what.contains("exchanged")))
            .map(|line| line["position"].as_i64().unwrap())
            .collect();
        assert_eq!(exchanged, [a, b], "{found:?}");
    }
}

/// A copy of the row at 8 as the next version of its stream, at 10.
const APPEND: &str = "insert into log.event select 10, tenant, stream_type, stream_id, version + 1, type, schema_version, slice, \
                      occurred_at, recorded_at, correlation_id, causation_id, actor, meta, payload, pii, hash from log.event where pos = 8";
const APPEND_COMMIT: &str = "insert into log.commit select 10, 10, recorded_at, hash, sha256('x') from log.commit where first_pos = 9";

#[tokio::test]
async fn an_appended_row_is_found_at_its_position_with_or_without_a_commit() {
    assert_eq!(found_after(APPEND).await, (10, 10));
    assert_eq!(found_after(&format!("{APPEND}; {APPEND_COMMIT}")).await, (10, 10), "a commit that does not hash");
    let database = written().await;
    tamper(&database, &format!("{APPEND}; {APPEND_COMMIT}; update log.head set pos = 10")).await;
    replace_with_hash(&database, 10).await;
    recompute_chain(&database).await;
    // Every hash is right; only the head of the stream does not know the version.
    assert_eq!(first(&replay(&database, &["verify"]).await), (10, 10));
}

#[tokio::test]
async fn an_event_replaced_with_its_hash_is_found_in_its_commit_and_at_its_position() {
    let database = written().await;
    replace_with_hash(&database, 7).await;
    assert_eq!(problems(&database).await, [(6, 8), (7, 7)]);
}

#[tokio::test]
async fn an_event_whose_commit_was_computed_anew_is_found_before_the_break_and_at_its_position() {
    // Of one commit in the middle; of two that follow each other; of the newest one; and of all but the head.
    for (position, last, until) in [(7, 6, 9), (2, 4, 8), (9, 9, 9), (5, 9, 9)] {
        let database = written().await;
        replace_with_hash(&database, position).await;
        recompute_until(&database, last).await;
        let found = problems(&database).await;
        let whole = (1, until);
        assert_eq!(found, [whole, (position, position)], "{position}, up to {last}");
    }
}

#[tokio::test]
async fn before_a_checkpoint_that_holds_nothing_is_in_doubt() {
    let database = written().await;
    let dir = ScratchDir::new("replay-in-doubt");
    let checkpoint = checkpoint(&database, &dir).await;
    let write = database.write_side();
    write.committer.append(item(&write.ids, &[(stream(&write.ids), 0)], 3)).await.unwrap();
    write.stop().await;
    verify_with(&database, &checkpoint).await.sound();
    replace_with_hash(&database, 11).await;
    recompute_until(&database, 10).await;
    assert_eq!(problems(&database).await, [(1, 12), (11, 11)]);
    assert_eq!(places(&verify_with(&database, &checkpoint).await), [(10, 12), (11, 11)]);
}

/// The newest event of one stream, at 8, made the next version of another one, whose newest event stands at 7; the head of that knows it.
const GIVEN_TO_ANOTHER: &str = "update log.event e set (tenant, stream_type, stream_id, version) = \
                                    (select tenant, stream_type, stream_id, version + 1 from log.event where pos = 7) where e.pos = 8; \
                                update log.stream_head h set version = e.version from log.event e where e.pos = 8 \
                                    and (h.tenant, h.stream_type, h.stream_id) = (e.tenant, e.stream_type, e.stream_id)";

#[tokio::test]
async fn an_event_replaced_by_one_of_another_stream_is_found_behind_the_rest_of_its_own_and_at_its_position() {
    let database = written().await;
    tamper(&database, GIVEN_TO_ANOTHER).await;
    replace_with_hash(&database, 8).await;
    recompute_chain(&database).await;
    // Its own stream ends at 5 now; it might as well have been cut off at the end.
    assert_eq!(problems(&database).await, [(5, 10), (8, 8)]);
    tamper(&database, "update log.commit set marks = null").await;
    assert_eq!(problems(&database).await, [(5, 10)]);
}

#[tokio::test]
async fn without_the_mark_of_an_event_the_range_is_all_that_is_known() {
    for gone in ["marks = null", "marks = ''", "marks = substring(marks for 8)"] {
        let database = written().await;
        replace_with_hash(&database, 7).await;
        tamper(&database, &format!("update log.commit set {gone} where first_pos = 6")).await;
        assert_eq!(problems(&database).await, [(6, 8)], "{gone}");
        recompute_until(&database, 6).await;
        assert_eq!(problems(&database).await, [(1, 9)], "{gone}");
    }
    // Marks alone say nothing: no hash covers them.
    let database = written().await;
    tamper(&database, "update log.commit set marks = sha256('x')").await;
    replay(&database, &["verify"]).await.sound();
}

#[tokio::test]
async fn a_log_rewritten_with_all_its_hashes_differs_from_a_checkpoint_only() {
    let database = written().await;
    let dir = ScratchDir::new("replay-rewritten");
    let checkpoint = checkpoint(&database, &dir).await;
    replace_with_hash(&database, 7).await;
    recompute_chain(&database).await;
    replay(&database, &["verify"]).await.sound();
    // The marks were forgotten.
    assert_eq!(places(&verify_with(&database, &checkpoint).await), [(1, 9), (7, 7)]);
    tamper(&database, "update log.commit set marks = null").await;
    assert_eq!(places(&verify_with(&database, &checkpoint).await), [(1, 9)]);
}

/// The whole log in JSON lines, as an auditor kept it.
async fn export(database: &TestDatabase, dir: &ScratchDir) -> PathBuf {
    let file = dir.path().join("kept.jsonl");
    replay(database, &["export", "--out", file.to_str().unwrap()]).await.sound();
    file
}

async fn verify_against(database: &TestDatabase, export: &Path) -> Replayed {
    replay(database, &["verify", "--against", export.to_str().unwrap()]).await
}

/// Position and words of every problem; each is at one position exactly.
fn exact(replayed: &Replayed) -> Vec<(i64, &str)> {
    assert_eq!(replayed.code, 1, "{replayed:?}");
    let problems = replayed.lines.iter().filter(|line| line["what"].is_string());
    problems
        .map(|line| {
            assert_eq!(line["position"], line["until"], "{replayed:?}");
            (line["position"].as_i64().unwrap(), line["what"].as_str().unwrap())
        })
        .collect()
}

#[tokio::test]
async fn a_log_that_grew_since_an_export_still_holds_it() {
    let database = written().await;
    let dir = ScratchDir::new("replay-against");
    let kept = dir.path().join("kept.jsonl");
    let summary = replay(&database, &["export", "--out", kept.to_str().unwrap()]).await.sound();
    let write = database.write_side();
    write.committer.append(item(&write.ids, &[(stream(&write.ids), 0)], 4)).await.unwrap();
    write.stop().await;
    let sound = verify_against(&database, &kept).await.sound();
    assert_eq!(sound.lines.len(), 2);
    let line = &sound.lines[1];
    assert_eq!((&line["events"], &line["first"], &line["last"]), (&Value::from(9), &Value::from(1), &Value::from(9)));
    assert_eq!((&line["not_covered"], &line["problems"]), (&Value::from(4), &Value::from(0)));
    assert_eq!(line["against"], summary.lines[0]["sha256"], "what the export told of the file");
    let moved = dir.path().join("moved.jsonl");
    std::fs::copy(&kept, &moved).unwrap();
    assert_eq!(verify_against(&database, &moved).await.sound().digest, sound.digest, "the same question, wherever the file lies");
    // A part of the log, and two parts one after the other; exports before and after another are asked together.
    let (middle, rest) = (dir.path().join("middle.jsonl"), dir.path().join("rest.jsonl"));
    for (file, from, to) in [(&middle, "3", "7"), (&rest, "8", "13")] {
        replay(&database, &["export", "--out", file.to_str().unwrap(), "--from", from, "--to", to]).await.sound();
    }
    let both = ["verify", "--against", middle.to_str().unwrap(), "--against", rest.to_str().unwrap()];
    assert_eq!(replay(&database, &both).await.sound().lines.len(), 3);
    let joined = dir.path().join("joined.jsonl");
    std::fs::write(&joined, [std::fs::read(&middle).unwrap(), std::fs::read(&rest).unwrap()].concat()).unwrap();
    assert_eq!(verify_against(&database, &joined).await.sound().lines[1]["events"], 11);
}

#[tokio::test]
async fn an_event_of_a_log_rewritten_with_all_its_hashes_is_found_at_its_position_by_an_export() {
    for position in [1, 7, 9] {
        let database = written().await;
        let dir = ScratchDir::new("replay-against-rewritten");
        let kept = export(&database, &dir).await;
        verify_against(&database, &kept).await.sound();
        replace_with_hash(&database, position).await;
        recompute_chain(&database).await;
        replay(&database, &["verify"]).await.sound();
        let found = verify_against(&database, &kept).await;
        let [(place, what)] = exact(&found)[..] else { panic!("{found:?}") };
        assert!(place == position && what.contains("replaced"), "{found:?}");
    }
}

/// Another event at 9, in a commit of its own and the first of a stream; what was there stands at 10 now.
const PUT_IN: &str = "update log.commit set first_pos = 10, last_pos = 10 where first_pos = 9; update log.event set pos = 10 where pos = 9; \
                      insert into log.event select 9, tenant, stream_type, gen_random_uuid(), 1, type, schema_version, slice, occurred_at, \
                      recorded_at, correlation_id, causation_id, actor, meta, payload, pii, hash from log.event where pos = 8; \
                      insert into log.commit select 9, 9, recorded_at, hash, hash from log.commit where first_pos = 6; \
                      insert into log.stream_head select tenant, stream_type, stream_id, 1 from log.event where pos = 9; \
                      update log.head set pos = 10";

#[tokio::test]
async fn an_event_put_in_removed_or_exchanged_and_all_hashes_computed_anew_is_found_at_its_position_by_an_export() {
    let database = written().await;
    let dir = ScratchDir::new("replay-against-moved");
    let kept = export(&database, &dir).await;
    keep(&database).await;

    tamper(&database, PUT_IN).await;
    replace_with_hash(&database, 9).await;
    recompute_chain(&database).await;
    replay(&database, &["verify"]).await.sound();
    let found = verify_against(&database, &kept).await;
    assert!(matches!(exact(&found)[..], [(9, what)] if what.contains("put in")), "{found:?}");
    restore(&database).await;

    // The last one, which nothing follows.
    tamper(&database, &format!("{CUT}; {HEAD_BACK}; update log.stream_head set version = 4 where version = 5")).await;
    recompute_chain(&database).await;
    replay(&database, &["verify"]).await.sound();
    let found = verify_against(&database, &kept).await;
    assert!(matches!(exact(&found)[..], [(9, what)] if what.contains("missing")), "{found:?}");
    restore(&database).await;

    // Of two streams, so that each stream is still in order.
    let exchange = "update log.event set pos = 4999999 where pos = 6; update log.event set pos = 6 where pos = 8; \
                    update log.event set pos = 8 where pos = 4999999";
    tamper(&database, exchange).await;
    recompute_chain(&database).await;
    replay(&database, &["verify"]).await.sound();
    let found = verify_against(&database, &kept).await;
    let [(6, one), (8, other)] = exact(&found)[..] else { panic!("{found:?}") };
    assert!(one.contains("exchanged") && other.contains("exchanged"), "{found:?}");
    restore(&database).await;

    // A time that a whole commit agrees on.
    let later = "update log.commit set recorded_at = recorded_at + interval '1 microsecond' where first_pos = 9; \
                 update log.event set recorded_at = recorded_at + interval '1 microsecond' where pos = 9; \
                 update log.head set recorded_at = recorded_at + interval '1 microsecond'";
    tamper(&database, later).await;
    recompute_chain(&database).await;
    replay(&database, &["verify"]).await.sound();
    let found = verify_against(&database, &kept).await;
    assert!(matches!(exact(&found)[..], [(9, what)] if what.contains("recorded_at")), "{found:?}");
    restore(&database).await;
    verify_against(&database, &kept).await.sound();
}

#[tokio::test]
async fn an_export_of_a_range_accuses_no_event_of_what_happened_before_it_and_one_of_another_log_none_at_all() {
    let database = written().await;
    let dir = ScratchDir::new("replay-against-range");
    let last = dir.path().join("last.jsonl");
    replay(&database, &["export", "--from", "9", "--out", last.to_str().unwrap()]).await.sound();
    tamper(&database, PUT_IN).await;
    replace_with_hash(&database, 9).await;
    recompute_chain(&database).await;
    replay(&database, &["verify"]).await.sound();
    // A second write side makes other ids than the first one of any database does.
    let another = TestDatabase::new().await;
    another.write_side().stop().await;
    let write = another.write_side();
    write.committer.append(item(&write.ids, &[(stream(&write.ids), 0)], 9)).await.unwrap();
    write.stop().await;
    let whole = export(&another, &dir).await;
    for (file, place, wanted) in [(&last, (1, 9), "begins 1 position later"), (&whole, (1, 9), "another log")] {
        let found = verify_against(&database, file).await;
        let problems: Vec<&Value> = found.lines.iter().filter(|line| line["what"].is_string()).collect();
        let [problem] = problems[..] else { panic!("{found:?}") };
        assert_eq!((&problem["position"], &problem["until"]), (&Value::from(place.0), &Value::from(place.1)));
        assert!(found.code == 1 && problem["what"].as_str().unwrap().contains(wanted), "{found:?}");
    }
}

#[tokio::test]
async fn a_file_that_is_no_whole_export_is_not_compared_with() {
    let database = written().await;
    let dir = ScratchDir::new("replay-against-usage");
    let kept = std::fs::read_to_string(export(&database, &dir).await).unwrap();
    let parquet = dir.path().join("kept.parquet");
    replay(&database, &["export", "--format", "parquet", "--out", parquet.to_str().unwrap()]).await.sound();
    let lines: Vec<&str> = kept.lines().collect();
    let file = dir.path().join("file.jsonl");
    for (content, why) in [
        (String::new(), "no event"),
        ("{}\n".to_owned(), "line 1"),
        (kept.replacen("\"hash\":\"", "\"hash\":\"zz", 1), "line 1"),
        (kept.replacen("\"position\":1,", "\"position\":0,", 1), "line 1"),
        ([&lines[..4], &lines[5..]].concat().join("\n"), "line 5: position 6"),
        ([&lines[..], &lines[..]].concat().join("\n"), "line 10: position 1"),
        (format!("{kept}{{\"position\":10"), "line 10"),
    ] {
        std::fs::write(&file, &content).unwrap();
        let refused = verify_against(&database, &file).await;
        assert!(refused.code == 2 && refused.digest.is_empty() && refused.errors.contains(why), "{why}: {refused:?}");
        // By its first line it is refused before anything is verified; by a later one after what was verified is told.
        let told: Vec<&Value> = refused.lines.iter().map(|line| &line["events"]).collect();
        let verified = Value::from(9);
        let expected = if matches!(why, "no event" | "line 1") { vec![] } else { vec![&verified] };
        assert_eq!(told, expected, "{why}: {refused:?}");
    }
    assert_eq!(verify_against(&database, &parquet).await.code, 2);
    assert_eq!(verify_against(&database, &dir.path().join("nowhere.jsonl")).await.code, 2);
}

#[tokio::test]
async fn what_was_found_is_told_whatever_the_file_is_that_it_was_to_be_compared_with() {
    let database = written().await;
    let dir = ScratchDir::new("replay-against-bad-file");
    let kept = export(&database, &dir).await;
    let bad = dir.path().join("bad.jsonl");
    let whole = std::fs::read_to_string(&kept).unwrap();
    std::fs::write(&bad, whole.replacen("\"position\":7,", "\"position\":8,", 1)).unwrap();
    let both = ["verify", "--against", bad.to_str().unwrap(), "--against", kept.to_str().unwrap()];

    // By the comparison with the other file.
    keep(&database).await;
    replace_with_hash(&database, 7).await;
    recompute_chain(&database).await;
    let found = replay(&database, &both).await;
    assert!(found.code == 1 && found.digest.is_empty() && found.errors.contains("line 7: position 8"), "{found:?}");
    assert_eq!(exact(&found).len(), 1, "{found:?}");
    assert_eq!(exact(&found)[0].0, 7, "{found:?}");
    restore(&database).await;

    // By the verification itself.
    tamper(&database, "update log.event set actor = 'x' where pos = 3").await;
    let found = verify_against(&database, &bad).await;
    assert!(found.code == 1 && found.digest.is_empty() && found.errors.contains("line 7: position 8"), "{found:?}");
    assert_eq!(first(&found), (3, 3));
}

#[tokio::test]
async fn a_log_of_several_parts_is_one_chain_and_a_change_in_any_is_found() {
    let database = TestDatabase::new().await;
    let write = database.write_side();
    for _ in 0..101 {
        write.committer.append(item(&write.ids, &[(stream(&write.ids), 0)], 499)).await.unwrap();
    }
    write.stop().await;
    let dir = ScratchDir::new("replay-parts");
    let checkpoint = checkpoint(&database, &dir).await;
    let sound = verify_with(&database, &checkpoint).await.sound();
    assert_eq!((&sound.lines[0]["events"], &sound.lines[0]["commits"]), (&Value::from(101 * 499), &Value::from(101)));
    for position in [50_000, 25_000, 19_961, 3] {
        tamper(&database, &format!("update log.event set actor = 'x' where pos = {position}")).await;
        assert_eq!(first(&replay(&database, &["verify"]).await), (position, position));
    }
}

#[tokio::test]
async fn verifying_goes_on_while_the_log_grows() {
    let database = written().await;
    let write = database.write_side();
    let (ids, committer) = (write.ids.clone(), write.committer.clone());
    let writer = tokio::spawn(async move {
        for _ in 0..200 {
            committer.append(item(&ids, &[(stream(&ids), 0)], 3)).await.unwrap();
        }
    });
    for _ in 0..5 {
        replay(&database, &["verify"]).await.sound();
    }
    writer.await.unwrap();
    write.stop().await;
    let report = projections::verify::verify_log(&database.pool(Role::Worker), |_| {}).await.unwrap();
    assert_eq!((report.events, report.is_sound()), (609, true));
}

#[tokio::test]
async fn a_question_that_cannot_be_asked_ends_in_two_and_no_database_in_three() {
    let database = written().await;
    let dir = ScratchDir::new("replay-usage");
    let (file, public) = checkpoint(&database, &dir).await;
    let file = file.to_str().unwrap();
    let other = "00".repeat(32);
    for arguments in [
        vec!["verify", "--nonsense"],
        vec!["verify", "--checkpoint", file],
        vec!["verify", "--checkpoint", file, "--public-key", "zz"],
        vec!["verify", "--checkpoint", file, "--public-key", &other],
        vec!["verify", "--checkpoint", "nowhere.json", "--public-key", &public],
    ] {
        let replayed = replay(&database, &arguments).await;
        assert_eq!(replayed.code, 2, "{replayed:?}");
        let told: Value = serde_json::from_str(replayed.errors.trim()).unwrap();
        assert!(told["error"] == "usage" && told["what"].is_string() && replayed.lines.is_empty(), "{replayed:?}");
    }
    let mut unreachable = support::replay_command(&database, &["verify"]);
    unreachable.env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none");
    let status = tokio::task::spawn_blocking(move || unreachable.output()).await.unwrap().unwrap().status;
    assert_eq!(status.code(), Some(3));
}
