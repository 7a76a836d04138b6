//! The pure comparison of the log with an export, on hand-made events.

use std::convert::Infallible;

use chrono::{DateTime, Utc};

use super::{
    Problem,
    against::{Comparer, ExportedEvent, StoredEvent},
};

/// An event by its number: number and hash are as good as each other here.
fn hash(n: i64) -> [u8; 32] {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&n.to_be_bytes());
    hash
}

fn time() -> DateTime<Utc> {
    DateTime::from_timestamp(1_780_000_000, 0).unwrap()
}

/// Events `1..=count`, each at the position that is its number.
fn export(count: i64) -> Vec<ExportedEvent> {
    (1..=count).map(|n| ExportedEvent { position: n, hash: hash(n), recorded_at: time() }).collect()
}

fn stored(position: i64, n: i64) -> StoredEvent {
    StoredEvent { position, hash: Some(hash(n)), recorded_at: Some(time()) }
}

fn log(count: i64) -> Vec<StoredEvent> {
    (1..=count).map(|n| stored(n, n)).collect()
}

/// As [`super::against::compare`] does it, in pages of 100 rows.
fn found(export: Vec<ExportedEvent>, log: &[StoredEvent]) -> Vec<Problem> {
    let (mut comparer, mut pages) = (Comparer::default(), log.chunks(100));
    let mut export = export.into_iter().map(Ok::<_, Infallible>);
    while comparer.take_exported(&mut export).unwrap() {
        while comparer.lacks_stored() {
            comparer.take_stored(pages.next().unwrap_or_default().to_vec());
        }
        comparer.step();
    }
    comparer.finish()
}

fn positions(problems: &[Problem]) -> Vec<i64> {
    assert!(problems.iter().all(|problem| problem.until == problem.position), "{problems:?}");
    problems.iter().map(|problem| problem.position).collect()
}

#[test]
fn a_log_that_is_what_was_exported_and_longer_is_sound() {
    assert_eq!(found(export(1_000), &log(1_000)), []);
    assert_eq!(found(export(1_000), &log(2_000)), []);
    assert_eq!(found(Vec::new(), &log(10)), []);
}

#[test]
fn replaced_events_are_named_where_they_are_however_many() {
    for places in [vec![1], vec![1_000], vec![500, 501], vec![3, 400, 999], (200..270).collect::<Vec<_>>()] {
        let mut log = log(1_500);
        for place in &places {
            log[usize::try_from(*place).unwrap() - 1] = stored(*place, -place);
        }
        let problems = found(export(1_000), &log);
        assert_eq!(positions(&problems), places);
        assert!(problems.iter().all(|problem| problem.what.contains("replaced")), "{problems:?}");
    }
}

#[test]
fn removed_events_are_named_whether_those_behind_moved_up_or_not() {
    for places in [vec![1], vec![1_000], vec![500, 501], vec![3, 400], (300..390).collect::<Vec<_>>()] {
        let mut gap = log(1_000);
        gap.retain(|event| !places.contains(&event.position));
        let problems = found(export(1_000), &gap);
        assert_eq!(positions(&problems), places);
        assert!(problems.iter().all(|problem| problem.what.contains("missing")), "{problems:?}");
        let closed: Vec<StoredEvent> = gap.into_iter().zip(1..).map(|(event, position)| StoredEvent { position, ..event }).collect();
        assert_eq!(positions(&found(export(1_000), &closed)), places, "moved up");
    }
    // A cut longer than what is looked at together: the lowest hundred places.
    let cut: Vec<StoredEvent> = log(2_000).into_iter().filter(|event| !(101..=900).contains(&event.position)).collect();
    assert_eq!(positions(&found(export(2_000), &cut)), (101..=200).collect::<Vec<_>>());
}

#[test]
fn an_event_that_was_put_in_is_named_alone() {
    for place in [1, 2, 257, 1_000] {
        let mut longer = log(1_000);
        longer.insert(usize::try_from(place).unwrap() - 1, stored(0, -7));
        let longer: Vec<StoredEvent> = longer.into_iter().zip(1..).map(|(event, position)| StoredEvent { position, ..event }).collect();
        let problems = found(export(1_000), &longer);
        assert_eq!(positions(&problems), [place]);
        assert!(problems[0].what.contains("put in"), "{problems:?}");
    }
}

#[test]
fn events_that_changed_places_are_named_both() {
    for (a, b) in [(1, 2), (5, 9), (100, 900)] {
        let mut log = log(1_000);
        log[a - 1].hash = Some(hash(i64::try_from(b).unwrap()));
        log[b - 1].hash = Some(hash(i64::try_from(a).unwrap()));
        let problems = found(export(1_000), &log);
        assert_eq!(positions(&problems), [a, b].map(|place| i64::try_from(place).unwrap()));
        assert!(problems.iter().all(|problem| problem.what.contains("exchanged")), "{problems:?}");
    }
}

#[test]
fn another_time_or_position_is_a_difference_too_and_so_is_what_cannot_be_read() {
    let mut log = log(20);
    log[6].recorded_at = Some(time() + chrono::TimeDelta::microseconds(1));
    log[8].recorded_at = None;
    log[10].hash = None;
    assert_eq!(positions(&found(export(20), &log)), [7, 9, 11]);
    let moved: Vec<StoredEvent> = (1..=20).map(|n| if n > 10 { stored(n + 5, n) } else { stored(n, n) }).collect();
    assert_eq!(positions(&found(export(20), &moved)), [16], "the first one tells of all that moved with it");
    let extremes = [stored(i64::MIN, 1), stored(0, 2), stored(i64::MAX, 3)];
    assert!(!found(export(20), &extremes).is_empty(), "no overflow");
}
