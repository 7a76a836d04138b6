//! Appending: everything or nothing, dense positions, keys, the chain.

use commands::{
    batch::{AppendItem, BatchAnswer, KeyClaim, Link},
    event_log::{Appender, EventLog},
};
use domain::integrity::{commit_hash, merkle_root};
use projections::log_reader::LogSource;
use support::{SeededIds, item, key_claim, stream};

use crate::{
    stage::{Stage, append, connected},
    told::{Told, appended, seen, stored},
};

/// An item on a new stream that takes these keys.
fn keyed(ids: &SeededIds, keys: Vec<KeyClaim>) -> AppendItem {
    AppendItem { keys, ..item(ids, &[(stream(ids), 0)], 1) }
}

/// The head's place and the whole log.
async fn log<S: Stage>(stage: &S, told: &mut Told) {
    told.that("the head", stored(EventLog::head(&stage.log()).await).map(|head| (head.pos, head.epoch)));
    told.that("the log", stored(stage.log().read(0, 1000).await).map(|events| seen(&events)));
}

pub async fn a_batch_is_written_whole_and_its_positions_are_dense<S: Stage>(stage: &S, told: &mut Told) {
    let ids = SeededIds::new(1);
    let [one, other, third] = std::array::from_fn(|_| stream(&ids));
    told.that("one item", append(stage, &[item(&ids, &[(one, 0)], 2)]).await);
    told.that("three", append(stage, &[item(&ids, &[(other, 0)], 1), item(&ids, &[(one, 2)], 3), item(&ids, &[(third, 0)], 1)]).await);
    told.that("two streams in one item", append(stage, &[item(&ids, &[(one, 5), (third, 1)], 2)]).await);
    told.that("nothing at all", append(stage, &[]).await);
    log(stage, told).await;
}

pub async fn every_reason_of_a_refusal_is_told_and_nothing_is_written<S: Stage>(stage: &S, told: &mut Told) {
    let ids = SeededIds::new(2);
    let [one, other, fresh] = std::array::from_fn(|_| stream(&ids));
    told.that("before", append(stage, &[AppendItem { keys: vec![key_claim("taken")], ..item(&ids, &[(one, 0), (other, 0)], 2) }]).await);
    let good = item(&ids, &[(fresh, 0)], 1);
    let stale = item(&ids, &[(one, 1), (other, 2)], 1);
    told.that("one of two is stale", append(stage, &[good.clone(), stale.clone()]).await);
    told.that("from the future", append(stage, &[item(&ids, &[(fresh, 3)], 1)]).await);
    told.that("new, but it exists", append(stage, &[item(&ids, &[(other, 0)], 1)]).await);
    let repeated = keyed(&ids, vec![key_claim("free"), key_claim("taken")]);
    told.that("versions and keys", append(stage, &[stale, repeated, item(&ids, &[(other, 9)], 1)]).await);
    told.that("the key beside the taken one", stored(stage.log().find_key(key_claim("").tenant, "test", "free").await));
    told.that("the good one alone", append(stage, &[good]).await);
    log(stage, told).await;
}

pub async fn a_taken_key_tells_what_took_it_whatever_body_comes<S: Stage>(stage: &S, told: &mut Told) {
    let ids = SeededIds::new(3);
    let first = KeyClaim { fingerprint: Some(vec![1, 2]), ..key_claim("first") };
    told.that("taken", append(stage, &[keyed(&ids, vec![first.clone(), key_claim("second")])]).await);
    told.that("the same again", append(stage, &[keyed(&ids, vec![first.clone()])]).await);
    let body = KeyClaim { request_hash: [9; 32], response: None, ..first.clone() };
    told.that("with another body", append(stage, &[keyed(&ids, vec![body])]).await);
    told.that("under another scope", append(stage, &[keyed(&ids, vec![KeyClaim { scope: "other".to_owned(), ..first.clone() }])]).await);
    let tenant = support::stream(&ids).stream_id;
    told.that("of another tenant", append(stage, &[keyed(&ids, vec![KeyClaim { tenant, ..first.clone() }])]).await);
    for (tenant, scope, key) in
        [(first.tenant, "test", "first"), (first.tenant, "test", "none"), (tenant, "test", "first"), (tenant, "test", "second")]
    {
        told.that(format!("{scope} {key}"), stored(stage.log().find_key(tenant, scope, key).await));
    }
}

pub async fn a_key_without_events_has_no_position<S: Stage>(stage: &S, told: &mut Told) {
    let ids = SeededIds::new(4);
    let empty = AppendItem { streams: Vec::new(), keys: vec![key_claim("empty")], events: Vec::new() };
    told.that("alone", append(stage, std::slice::from_ref(&empty)).await);
    told.that("its answer", stored(stage.log().find_key(key_claim("").tenant, "test", "empty").await));
    told.that("again", append(stage, &[empty]).await);
    let beside = AppendItem { streams: Vec::new(), keys: vec![key_claim("beside")], events: Vec::new() };
    told.that(
        "between others",
        append(stage, &[keyed(&ids, vec![key_claim("before")]), beside, keyed(&ids, vec![key_claim("after")])]).await,
    );
    for key in ["before", "beside", "after"] {
        told.that(key, stored(stage.log().find_key(key_claim("").tenant, "test", key).await));
    }
    log(stage, told).await;
}

pub async fn a_batch_that_contradicts_itself_is_refused_as_a_whole<S: Stage>(stage: &S, told: &mut Told) {
    let ids = SeededIds::new(5);
    let [one, other] = std::array::from_fn(|_| stream(&ids));
    let twice = [item(&ids, &[(one, 0)], 1), item(&ids, &[(one, 0)], 1)];
    told.that("one version twice", append(stage, &twice).await);
    told.that("one after the other", append(stage, &[item(&ids, &[(one, 0)], 1), item(&ids, &[(one, 1)], 1)]).await);
    told.that("a key twice", append(stage, &[keyed(&ids, vec![key_claim("k")]), keyed(&ids, vec![key_claim("k")])]).await);
    told.that("a word that cannot be stored", append(stage, &[keyed(&ids, vec![key_claim("nul\0")])]).await);
    told.that("a good one", append(stage, &[item(&ids, &[(other, 0)], 1)]).await);
    log(stage, told).await;
}

pub async fn each_commit_is_linked_to_the_one_before_by_one_time_and_one_root<S: Stage>(stage: &S, told: &mut Told) {
    let ids = SeededIds::new(6);
    let (source, mut prev, mut at) = (stage.source(), [0; 32], None);
    told.that("an empty log", source.head().await.map(|head| (head.pos, head.hash)).ok());
    for counts in [vec![1], vec![3, 1], vec![2, 2, 5]] {
        let batch: Vec<AppendItem> = counts.iter().map(|count| item(&ids, &[(stream(&ids), 0)], *count)).collect();
        let answer = connected(stage).await.append(&batch).await;
        let Ok(BatchAnswer::Committed { first_pos, link: Some(told_link) }) = answer else { panic!("a new stream is free") };
        let head = source.head().await.expect("the log answers");
        let events = source.range(first_pos - 1, 100).await.expect("the log answers");
        let times: Vec<_> = events.iter().map(|event| event.recorded_at).collect();
        let hashes: Vec<[u8; 32]> = events.iter().map(|event| event.hash).collect();
        let link = commit_hash(&prev, first_pos, times[0].timestamp_micros(), &merkle_root(&hashes));
        told.that("position of the head, number of events", (head.pos, events.len()));
        told.that("one time, not before the last", times.iter().all(|time| *time == times[0] && Some(*time) >= at));
        told.that("the chain", head.hash == link);
        told.that("as the writer was told", told_link == Link { before: prev, hash: link, recorded_at: times[0] });
        let commit = told_link.commit(&batch, first_pos);
        told.that("what it makes of that", commit.events.iter().map(|event| &***event).eq(events.iter().map(|event| &***event)));
        (prev, at) = (head.hash, Some(times[0]));
    }
    let empty = AppendItem { streams: Vec::new(), keys: vec![key_claim("empty")], events: Vec::new() };
    told.that("a key alone", append(stage, &[empty]).await);
    told.that("makes no link", source.head().await.map(|head| head.hash == prev).ok());
}

pub async fn a_commit_whose_answer_was_lost_is_found_and_its_repeat_is_known<S: Stage>(stage: &S, told: &mut Told) {
    let ids = SeededIds::new(7);
    let mut appender = connected(stage).await;
    told.that("answered", appended(appender.append(&[item(&ids, &[(stream(&ids), 0)], 1)]).await));
    let key = stream(&ids);
    let wanted = AppendItem { keys: vec![key_claim("wanted")], ..item(&ids, &[(key, 0)], 2) };
    let [first, second] = [wanted.events[0].hash, wanted.events[1].hash];
    stage.lose_answers(true);
    told.that("lost", appended(appender.append(std::slice::from_ref(&wanted)).await));
    stage.lose_answers(false);
    appender.disconnect();
    told.that("connected again", stored(appender.connect().await));
    told.that("its first event", stored(appender.find_written(key, 1, &first).await));
    told.that("its second", stored(appender.find_written(key, 2, &second).await));
    told.that("another at its place", stored(appender.find_written(key, 2, &first).await));
    told.that("one that is not there", stored(appender.find_written(key, 3, &first).await));
    told.that("the same again", appended(appender.append(&[wanted]).await));
    let repeat = AppendItem { keys: vec![key_claim("wanted")], ..item(&ids, &[(stream(&ids), 0)], 1) };
    told.that("decided anew, under the same key", appended(appender.append(&[repeat]).await));
    log(stage, told).await;
}

pub async fn nothing_goes_over_a_connection_that_is_not_there<S: Stage>(stage: &S, told: &mut Told) {
    let ids = SeededIds::new(8);
    let (mut appender, key) = (stage.appender(), stream(&ids));
    let wanted = item(&ids, &[(key, 0)], 1);
    let hash = wanted.events[0].hash;
    told.that("never connected", appended(appender.append(std::slice::from_ref(&wanted)).await));
    told.that("connected", stored(appender.connect().await));
    told.that("once more", stored(appender.connect().await));
    told.that("appended", appended(appender.append(&[wanted]).await));
    told.that("found", stored(appender.find_written(key, 1, &hash).await));
    appender.disconnect();
    told.that("given up", appended(appender.append(&[item(&ids, &[(key, 1)], 1)]).await));
    told.that("and not asked", stored(appender.find_written(key, 1, &hash).await));
    log(stage, told).await;
}
