//! Rows of read models: written with their checkpoint, or not at all.

use std::collections::BTreeMap;

use commands::event_log::EventLog;
use domain::envelope::StreamKey;
use projections::{
    fold::Quarantined,
    models::bills::Bills,
    row_store::{RowStore, Standing, Target},
    rows::Changes,
};
use support::{SeededIds, item, stream};

use crate::{
    stage::{Stage, append},
    told::{Told, read},
};

const TENANT: &str = "01010101-0101-0101-0101-010101010101";

/// Rows of `bill_orders`, each under its key with the same word.
pub fn rows(keys: &[&str], word: &str) -> Vec<Changes> {
    let row = |key: &&str| format!(r#"{{"key":"{key}","tenant":"{TENANT}","store_id":"s","bill_id":"b","order_id":"{word}"}}"#);
    vec![Changes { table: "bill_orders", rows: keys.iter().map(row).collect() }]
}

pub fn target() -> Target {
    Target::live(&Bills)
}

/// Where the copy stands, without the identity that only one database gives it.
pub async fn standing<S: Stage>(stage: &S) -> Standing {
    stage.log().standing(&target()).await.expect("the copy is there").0
}

async fn stands<S: Stage>(stage: &S, told: &mut Told) {
    let stands = read(stage.log().standing(&target()).await);
    told.that("it stands", stands.map(|(at, halted)| (at.pos, at.halted, halted.into_iter().collect::<BTreeMap<_, _>>())));
}

/// The word of each row that is there.
pub async fn words<S: Stage>(stage: &S, keys: &[&str]) -> Result<BTreeMap<String, String>, &'static str> {
    Ok(words_at(stage, standing(stage).await, keys).await?.unwrap_or_default())
}

/// The same, if the copy stands there.
async fn words_at<S: Stage>(stage: &S, at: Standing, keys: &[&str]) -> Result<Option<BTreeMap<String, String>>, &'static str> {
    let asked = keys.iter().map(|key| ("bill_orders", (*key).to_owned())).collect();
    let Some(loaded) = read(stage.log().load(&target(), at, asked).await)? else { return Ok(None) };
    let word = |(key, row): (String, String)| {
        let row: serde_json::Value = serde_json::from_str(&row).expect("a row is JSON");
        (key, row["order_id"].to_string())
    };
    Ok(Some(loaded.into_iter().flat_map(|(_, _, found)| found).map(word).collect()))
}

/// The hashes of what lies between two positions.
pub async fn hashes<S: Stage>(stage: &S, after: i64, to: i64) -> Vec<[u8; 32]> {
    let events = stage.log().read(after, to - after).await.expect("the log answers");
    events.iter().map(|event| event.hash).collect()
}

/// A log of so many events.
pub async fn logged<S: Stage>(stage: &S, seed: u64, events: i64) -> StreamKey {
    let ids = SeededIds::new(seed);
    let key = stream(&ids);
    append(stage, &[item(&ids, &[(key, 0)], events)]).await.expect("a new stream is free");
    key
}

/// Writes rows of the first events, to `to`, as a projector that saw the copy at `from`.
pub async fn write<S: Stage>(stage: &S, from: Standing, to: i64, changes: &[Changes]) -> Result<bool, &'static str> {
    let events = hashes(stage, from.pos, to).await;
    read(stage.log().commit(&target(), from, to, &events, changes, &[]).await)
}

pub async fn rows_and_checkpoint_move_together_and_the_twin_comes_second<S: Stage>(stage: &S, told: &mut Told) {
    stage.install().await;
    logged(stage, 31, 6).await;
    stands(stage, told).await;
    let first = standing(stage).await;
    told.that("written", write(stage, first, 2, &rows(&["a", "b"], "one")).await);
    told.that("the twin", write(stage, first, 3, &rows(&["a", "c"], "twin")).await);
    stands(stage, told).await;
    told.that("rows", words(stage, &["a", "b", "c"]).await);
    let second = standing(stage).await;
    told.that("replaced and added", write(stage, second, 5, &rows(&["b", "c"], "two")).await);
    told.that("nothing but the checkpoint", write(stage, standing(stage).await, 6, &[]).await);
    told.that("another copy", write(stage, Standing { copy: -1, ..standing(stage).await }, 6, &rows(&["a"], "other")).await);
    stands(stage, told).await;
    told.that("rows", words(stage, &["a", "b", "c", "none"]).await);
    told.that("none of none", words(stage, &[]).await);
}

pub async fn rows_are_loaded_only_as_of_the_place_where_their_copy_stands<S: Stage>(stage: &S, told: &mut Told) {
    stage.install().await;
    logged(stage, 34, 4).await;
    let first = standing(stage).await;
    told.that("none yet", words_at(stage, first, &["a"]).await);
    told.that("written", write(stage, first, 2, &rows(&["a"], "one")).await);
    let second = standing(stage).await;
    told.that("where it stands", words_at(stage, second, &["a", "b"]).await);
    told.that("where it stood", words_at(stage, first, &["a", "b"]).await);
    told.that("where it will stand", words_at(stage, Standing { pos: 3, ..second }, &["a"]).await);
    told.that("another copy", words_at(stage, Standing { copy: -1, ..second }, &["a"]).await);
}

pub async fn rows_of_events_that_the_log_does_not_hold_are_refused<S: Stage>(stage: &S, told: &mut Told) {
    stage.install().await;
    logged(stage, 32, 4).await;
    let (from, held) = (standing(stage).await, hashes(stage, 0, 4).await);
    let mut void = held.clone();
    void[1] = [7; 32];
    let log = stage.log();
    for (step, to, events) in [
        ("another event", 4, &void[..]),
        ("too few", 4, &held[..3]),
        ("too many", 3, &held[..]),
        ("beyond the end", 6, &held[..]),
        ("none", 2, &[]),
        ("what it holds", 4, &held[..]),
    ] {
        told.that(step, read(log.commit(&target(), from, to, events, &rows(&["a"], step), &[]).await));
    }
    stands(stage, told).await;
    told.that("rows", words(stage, &["a"]).await);
}

pub async fn rows_in_memory_of_an_event_that_the_log_does_not_hold_are_refused<S: Stage>(stage: &S, told: &mut Told) {
    stage.install().await;
    logged(stage, 34, 4).await;
    told.that("as far as memory goes", write(stage, standing(stage).await, 2, &rows(&["a"], "first")).await);
    let (from, held) = (standing(stage).await, hashes(stage, 1, 4).await);
    let mut void = held.clone();
    void[0] = [7; 32];
    let log = stage.log();
    for (step, events) in [("from another event", &void), ("from the one that it holds", &held)] {
        told.that(step, read(log.commit(&target(), from, 4, events, &rows(&["a"], step), &[]).await));
    }
    stands(stage, told).await;
    told.that("rows", words(stage, &["a"]).await);
}

pub async fn a_halted_stream_is_noted_once_and_moves_where_the_copy_stands<S: Stage>(stage: &S, told: &mut Told) {
    stage.install().await;
    let key = logged(stage, 33, 5).await;
    let log = stage.log();
    let halt = |pos: i64| [Quarantined { stream: key, pos, error: "poison".to_owned() }];
    let at = standing(stage).await;
    told.that("halted", read(log.commit(&target(), at, 2, &hashes(stage, 0, 2).await, &[], &halt(2)).await));
    stands(stage, told).await;
    let without = Standing { halted: 0, ..standing(stage).await };
    told.that("by one who does not know of it", write(stage, without, 3, &rows(&["a"], "blind")).await);
    let at = standing(stage).await;
    told.that("halted again", read(log.commit(&target(), at, 4, &hashes(stage, 2, 4).await, &[], &halt(4)).await));
    stands(stage, told).await;
    told.that("goes on", write(stage, standing(stage).await, 5, &rows(&["a"], "seeing")).await);
    stands(stage, told).await;
}

pub async fn a_copy_beyond_the_log_is_wiped_and_folded_again<S: Stage>(stage: &S, told: &mut Told) {
    stage.install().await;
    let key = logged(stage, 34, 5).await;
    let (log, at) = (stage.log(), standing(stage).await);
    let halt = [Quarantined { stream: key, pos: 3, error: "poison".to_owned() }];
    told.that("written", read(log.commit(&target(), at, 4, &hashes(stage, 0, 4).await, &rows(&["a", "b"], "old"), &halt).await));
    told.that("not beyond", read(log.wipe(&Bills, &target(), 4).await));
    stands(stage, told).await;
    told.that("beyond", read(log.wipe(&Bills, &target(), 3).await));
    stands(stage, told).await;
    told.that("no rows", words(stage, &["a", "b"]).await);
    told.that(
        "by one who saw the old",
        write(stage, Standing { pos: 4, halted: 1, ..standing(stage).await }, 5, &rows(&["a"], "old")).await,
    );
    told.that("folded again", write(stage, standing(stage).await, 5, &rows(&["b"], "new")).await);
    told.that("wiped again, with nothing to wipe", read(log.wipe(&Bills, &target(), 5).await));
    stands(stage, told).await;
    told.that("rows", words(stage, &["a", "b"]).await);
}
