//! Hundreds of operations drawn from a seed.

use std::collections::BTreeMap;

use commands::{
    batch::{AppendItem, BatchAnswer},
    event_log::{Appender, EventLog},
    process_store::{Leaves, ProcessStore},
};
use domain::envelope::StreamKey;
use projections::{models::bills::Bills, row_store::RowStore as _};
use support::{SeededIds, item, key_claim, stream};

use crate::{
    dice::Dice,
    rows::{self, logged, standing, words},
    stage::{Stage, connected},
    tasks::{after, attempt, held, lapse, left, managed, remove, replace, tenant, watch},
    told::{Told, appended, read, seen, stored},
};

const OPERATIONS: usize = 250;

/// What a writer remembers: the versions that it saw last.
struct Writer {
    dice: Dice,
    ids: SeededIds,
    streams: Vec<StreamKey>,
    versions: BTreeMap<StreamKey, i64>,
}

impl Writer {
    fn new(seed: u64) -> Self {
        let ids = SeededIds::new(seed);
        let streams = (0..6).map(|_| stream(&ids)).collect();
        Self { dice: Dice::new(seed), ids, streams, versions: BTreeMap::new() }
    }

    fn version(&self, key: StreamKey) -> i64 {
        self.versions.get(&key).copied().unwrap_or(0)
    }

    /// A batch of items on streams of their own; now and then one is stale, or takes a key that may be taken.
    fn batch(&mut self) -> Vec<AppendItem> {
        self.dice.shuffle(&mut self.streams);
        let items = usize::try_from(self.dice.between(1, 3)).unwrap_or(1);
        (0..items).map(|n| self.item(self.streams[n])).collect()
    }

    fn item(&mut self, key: StreamKey) -> AppendItem {
        let known = self.version(key);
        let expected = if self.dice.percent(15) { (known - 1).max(0) } else { known };
        let mut item = item(&self.ids, &[(key, expected)], i64::try_from(self.dice.between(1, 3)).unwrap_or(1));
        if self.dice.percent(30) {
            item.keys.push(key_claim(&format!("key {}", self.dice.below(25))));
        }
        item
    }

    fn wrote(&mut self, batch: &[AppendItem]) {
        self.versions.extend(batch.iter().flat_map(|item| &item.streams).map(|write| (write.key, write.next)));
    }
}

pub async fn whatever_is_appended_and_read<S: Stage>(stage: &S, told: &mut Told, seed: u64) {
    let (mut writer, log, mut appender) = (Writer::new(seed), stage.log(), connected(stage).await);
    for step in 0..OPERATIONS {
        let key = *writer.dice.pick(&writer.streams);
        let number = i64::try_from(writer.dice.below(12)).unwrap_or(0);
        match writer.dice.below(10) {
            0..=4 => {
                let batch = writer.batch();
                let answer = appended(appender.append(&batch).await);
                if matches!(answer, Ok(BatchAnswer::Committed { .. })) {
                    writer.wrote(&batch);
                }
                told.that(format!("{step}: append of {}", batch.len()), answer);
            }
            5 => told.that(format!("{step}: load"), stored(log.load_stream(key, number).await).map(|events| seen(&events))),
            6 => told.that(format!("{step}: read"), stored(log.read(number * 20, number + 1).await).map(|events| seen(&events))),
            7 => {
                let versions = [(key, writer.version(key) - i64::from(number == 0))];
                told.that(format!("{step}: stand at"), stored(log.stand_at(key.tenant, &versions).await));
            }
            8 => {
                let found = log.find_key(key_claim("").tenant, "test", &format!("key {number}")).await;
                told.that(format!("{step}: find key"), stored(found));
            }
            _ => told.that(format!("{step}: head"), stored(EventLog::head(&log).await).map(|head| (head.pos, head.epoch))),
        }
    }
    told.that("the whole log", stored(log.read(0, i64::MAX).await).map(|events| seen(&events)));
}

pub async fn whatever_is_done_with_tasks<S: Stage>(stage: &S, told: &mut Told, seed: u64) {
    let (mut dice, store, mut checkpoint, mut now) = (Dice::new(seed), managed(stage).await, 0, 0);
    for step in 0..OPERATIONS {
        let key = format!("task {}", dice.below(12));
        let task = if dice.percent(30) { watch() } else { lapse(dice.below(50)) };
        // No two are due at once: which of them comes first nobody promises.
        let due =
            after(now + i64::try_from(dice.below(9)).unwrap_or(0) - 3) + chrono::Duration::milliseconds(i64::try_from(step).unwrap_or(0));
        match dice.below(12) {
            0..=3 => {
                let from = if dice.percent(15) { checkpoint - 1 } else { checkpoint };
                let reference = Leaves::Reference { tenant: tenant(), attempt: Box::new(attempt("scb", &key)) };
                let moved = stored(store.advance(from, (from + 2, None), vec![left(&key, task, due), reference], vec![]).await);
                checkpoint += 2 * i64::from(matches!(moved, Ok(Some(_))));
                told.that(format!("{step}: advance"), moved);
            }
            4..=6 => {
                let count = i64::try_from(dice.between(1, 4)).unwrap_or(1);
                told.that(format!("{step}: lease"), stored(store.lease(after(now), 5.0, count).await).map(held));
            }
            7 => told.that(format!("{step}: renew"), stored(store.renew(std::slice::from_ref(&key), after(now), 5.0).await)),
            8 => told.that(format!("{step}: put back"), stored(store.put_back(&key, due).await)),
            9 => told.that(format!("{step}: replace"), replace(&store, &key, task, due).await),
            10 => told.that(format!("{step}: remove"), remove(&store, &key).await),
            _ => told.that(format!("{step}: attempt of"), stored(store.attempt_of("scb", &key).await)),
        }
        now += i64::try_from(dice.below(3)).unwrap_or(0);
    }
    told.that("in the end", stored(store.checkpoint().await));
    told.that("all that is left", stored(store.lease(after(now + 1000), 5.0, 100).await).map(held));
}

pub async fn whatever_is_written_into_rows<S: Stage>(stage: &S, told: &mut Told, seed: u64) {
    stage.install().await;
    let (mut dice, keys) = (Dice::new(seed), ["a", "b", "c", "d", "e", "f"]);
    logged(stage, seed, 60).await;
    let mut seen = standing(stage).await;
    for step in 0..OPERATIONS / 3 {
        let changed: Vec<&str> = keys.iter().copied().filter(|_| dice.percent(40)).collect();
        match dice.below(10) {
            0..=5 => {
                // Now and then what was seen is what stood there before.
                if dice.percent(80) {
                    seen = standing(stage).await;
                }
                let to = (seen.pos + i64::try_from(dice.below(4)).unwrap_or(0)).min(60);
                told.that(format!("{step}: write"), rows::write(stage, seen, to, &rows::rows(&changed, &format!("word {step}"))).await);
            }
            6..=8 => told.that(format!("{step}: read"), words(stage, &changed).await),
            _ => {
                let limit = i64::try_from(dice.below(60)).unwrap_or(0);
                told.that(format!("{step}: wipe"), read(stage.log().wipe(&Bills, &rows::target(), limit).await));
            }
        }
    }
    told.that("in the end", (standing(stage).await.pos, words(stage, &keys).await));
}
