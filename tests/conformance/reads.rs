//! Reading the log: streams, ranges, versions at one moment, keys, snapshots, head and epoch.

use commands::event_log::EventLog;
use domain::{
    clock::IdSource as _,
    envelope::{StreamKey, StreamType},
    ids::MerchantId,
};
use projections::log_reader::LogSource;
use support::{SeededIds, item, stream};

use crate::{
    stage::{Stage, append},
    told::{Told, read, seen, stored},
};

/// A log of eight events: five on the first stream, three on the second.
async fn filled<S: Stage>(stage: &S, ids: &SeededIds) -> (StreamKey, StreamKey) {
    let (one, other) = (stream(ids), stream(ids));
    for batch in
        [vec![item(ids, &[(one, 0)], 2)], vec![item(ids, &[(other, 0)], 3), item(ids, &[(one, 2)], 1)], vec![item(ids, &[(one, 3)], 2)]]
    {
        append(stage, &batch).await.expect("a log to read");
    }
    (one, other)
}

/// Of another tenant, with the same id.
fn of_another(key: StreamKey, ids: &SeededIds) -> StreamKey {
    StreamKey { tenant: MerchantId(ids.next()), ..key }
}

pub async fn a_stream_is_read_in_order_after_a_version_and_by_its_owner_alone<S: Stage>(stage: &S, told: &mut Told) {
    let ids = SeededIds::new(21);
    let (one, other) = filled(stage, &ids).await;
    let log = stage.log();
    for after in [-1, 0, 2, 4, 5, 9] {
        told.that(format!("after {after}"), stored(log.load_stream(one, after).await).map(|events| seen(&events)));
    }
    told.that("the other", stored(log.load_stream(other, 1).await).map(|events| seen(&events)));
    told.that("of another tenant", stored(log.load_stream(of_another(one, &ids), 0).await).map(|events| seen(&events)));
    let kind = StreamKey { stream_type: StreamType::Bill, ..one };
    told.that("of another kind", stored(log.load_stream(kind, 0).await).map(|events| seen(&events)));
    told.that("unknown", stored(log.load_stream(stream(&ids), 0).await).map(|events| seen(&events)));
}

pub async fn a_range_is_what_lies_between_two_positions<S: Stage>(stage: &S, told: &mut Told) {
    let (log, source) = (stage.log(), stage.source());
    told.that("of an empty log", stored(log.read(0, 10).await).map(|events| seen(&events)));
    told.that("before an empty log", stored(log.read(-1, 1).await).map(|events| seen(&events)));
    filled(stage, &SeededIds::new(22)).await;
    for (after, limit) in [(0, 3), (3, 3), (6, 3), (8, 3), (20, 3), (0, 0), (-1, 1), (-2, 4), (0, i64::MAX), (5, i64::MAX)] {
        told.that(format!("{limit} after {after}"), stored(log.read(after, limit).await).map(|events| seen(&events)));
    }
    for (after, limit) in [(0, 3), (6, 100), (8, 1), (20, 5), (2, 0)] {
        let events = read(source.range(after, limit).await);
        told.that(format!("by the feed, {limit} after {after}"), events.map(|events| seen(events.iter().map(|event| &***event))));
    }
}

pub async fn versions_are_compared_at_one_moment_and_within_one_tenant<S: Stage>(stage: &S, told: &mut Told) {
    let ids = SeededIds::new(23);
    let (one, other) = filled(stage, &ids).await;
    let (log, none) = (stage.log(), stream(&ids));
    let stranger = of_another(one, &ids);
    for versions in [
        vec![],
        vec![(one, 5)],
        vec![(one, 5), (other, 3)],
        vec![(one, 5), (other, 2)],
        vec![(one, 4)],
        vec![(none, 0), (one, 5)],
        vec![(none, 1)],
    ] {
        let shown: Vec<i64> = versions.iter().map(|(_, version)| *version).collect();
        told.that(format!("{shown:?}"), stored(log.stand_at(one.tenant, &versions).await));
    }
    told.that("the owner's stream, asked by another", stored(log.stand_at(stranger.tenant, &[(one, 5)]).await));
    told.that("which for them is none", stored(log.stand_at(stranger.tenant, &[(one, 0)]).await));
    told.that("theirs is none", stored(log.stand_at(stranger.tenant, &[(stranger, 0)]).await));
}

pub async fn a_newer_snapshot_stays_and_another_schema_replaces<S: Stage>(stage: &S, told: &mut Told) {
    let (log, key) = (stage.log(), stream(&SeededIds::new(24)));
    told.that("none", stored(log.load_snapshot(key, 1).await));
    for (version, schema, state) in
        [(100, 1, "a"), (200, 1, "b"), (150, 1, "late"), (200, 1, "equal"), (120, 2, "other schema"), (300, 2, "c")]
    {
        told.that(format!("keep {version}"), stored(log.save_snapshot(key, version, schema, state.as_bytes().to_vec()).await));
        for asked in [1, 2] {
            told.that(format!("of schema {asked}"), stored(log.load_snapshot(key, asked).await));
        }
    }
    told.that("of another stream", stored(log.load_snapshot(stream(&SeededIds::new(25)), 2).await));
}

pub async fn an_epoch_is_raised_and_nothing_else_moves<S: Stage>(stage: &S, told: &mut Told) {
    let ids = SeededIds::new(26);
    filled(stage, &ids).await;
    let (log, source) = (stage.log(), stage.source());
    let before = EventLog::head(&log).await.expect("the log answers");
    let hash = source.head().await.expect("the log answers").hash;
    told.that("raised", stored(log.raise_epoch(0).await));
    told.that("and again", stored(log.raise_epoch(1).await));
    told.that("beyond one that was seen elsewhere", stored(log.raise_epoch(7).await));
    told.that("the head", stored(EventLog::head(&log).await).map(|head| (head.pos, head.epoch, head.log_id == before.log_id)));
    told.that(
        "as the feed sees it",
        read(source.head().await).map(|head| (head.pos, head.epoch, head.hash == hash, head.log_id == before.log_id)),
    );
    told.that("appends go on", append(stage, &[item(&ids, &[(stream(&ids), 0)], 1)]).await);
}
