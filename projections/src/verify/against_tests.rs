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

/// Of these the events from one position to another.
fn range(from: i64, to: i64) -> Vec<ExportedEvent> {
    export(to).into_iter().filter(|event| event.position >= from).collect()
}

/// Gives stored events the positions from 1 on.
fn numbered(log: impl IntoIterator<Item = StoredEvent>) -> Vec<StoredEvent> {
    log.into_iter().zip(1..).map(|(event, position)| StoredEvent { position, ..event }).collect()
}

fn stored(position: i64, n: i64) -> StoredEvent {
    StoredEvent { position, hash: Some(hash(n)), recorded_at: Some(time()) }
}

fn log(count: i64) -> Vec<StoredEvent> {
    (1..=count).map(|n| stored(n, n)).collect()
}

/// As [`super::against::compare`] does it, in pages of 100 rows.
fn found(export: Vec<ExportedEvent>, log: &[StoredEvent]) -> Vec<Problem> {
    let (mut comparer, mut read) = (Comparer::default(), None);
    let mut export = export.into_iter().map(Ok::<_, Infallible>);
    while comparer.take_exported(&mut export).unwrap() {
        while comparer.lacks_stored() {
            let from = *read.get_or_insert_with(|| log.partition_point(|event| event.position <= comparer.reads_after()));
            let page = log[from..].iter().take(100).cloned().collect::<Vec<_>>();
            read = Some(from + page.len());
            comparer.take_stored(page);
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
        assert_eq!(positions(&found(export(1_000), &numbered(gap))), places, "moved up");
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
        let problems = found(export(1_000), &numbered(longer));
        assert_eq!(positions(&problems), [place]);
        assert!(problems[0].what.contains("put in"), "{problems:?}");
    }
}

/// The log with so many events put in at a position.
fn longer_by(count: i64, at: usize) -> Vec<StoredEvent> {
    let mut longer = log(1_000);
    longer.splice(at - 1..at - 1, (1..=count).map(|n| stored(0, -n)));
    numbered(longer)
}

/// The log with so many events removed from a position on.
fn shorter_by(count: usize, at: usize) -> Vec<StoredEvent> {
    let mut shorter = log(1_000);
    shorter.drain(at - 1..at - 1 + count);
    numbered(shorter)
}

#[test]
fn what_changed_before_an_exported_range_is_no_fault_of_an_event_in_it() {
    for (from, to) in [(300, 300), (300, 310), (300, 900)] {
        for (count, at) in [(1, 1), (1, 299), (1, 300), (200, 17)] {
            let problems = found(range(from, to), &longer_by(count, at));
            let [Problem { position: 1, until, what }] = &problems[..] else { panic!("{problems:?}") };
            assert!(*until == 299 + count && what.contains(&format!("begins {count} position")) && what.contains("later"), "{what}");
        }
        for (count, at) in [(1, 1), (1, 299), (200, 17)] {
            let problems = found(range(from, to), &shorter_by(count, at));
            let [Problem { position: 1, until: 299, what }] = &problems[..] else { panic!("{problems:?}") };
            assert!(what.contains(&format!("begins {count} position")) && what.contains("earlier"), "{what}");
        }
    }
}

#[test]
fn what_changed_within_an_exported_range_is_named_as_in_a_whole_export() {
    for place in [300, 301, 400, 900] {
        let at = usize::try_from(place).unwrap();
        let mut replaced = log(1_000);
        replaced[at - 1] = stored(place, -1);
        // Of the last one it cannot be known: the range does not say what comes after it.
        let removed = if place == 900 { "another" } else { "missing" };
        for (log, wanted) in [(replaced, "replaced"), (shorter_by(1, at), removed)] {
            let problems = found(range(300, 900), &log);
            assert_eq!(positions(&problems), [place], "{wanted}");
            assert!(problems[0].what.contains(wanted), "{problems:?}");
        }
        if place > 300 {
            assert_eq!(positions(&found(range(300, 900), &longer_by(1, at))), [place], "put in");
        }
    }
    // Both: the range as a whole, and one of its events, at the place that it has now.
    let mut log = shorter_by(7, 20);
    log[500].hash = Some(hash(-1));
    let problems = found(range(300, 900), &log);
    assert!(
        matches!(&problems[..], [whole, Problem { position: 501, until: 501, .. }] if whole.what.contains("7 positions earlier")),
        "{problems:?}"
    );
    assert_eq!(found(range(300, 900), &self::log(1_000)), []);
}

#[test]
fn an_export_of_another_log_is_said_to_be_perhaps_that() {
    let other: Vec<StoredEvent> = (1..=1_000).map(|n| stored(n, -n)).collect();
    for (from, to) in [(1, 1_000), (300, 310), (300, 1_500)] {
        let problems = found(range(from, to), &other);
        let [Problem { position, until, what }] = &problems[..] else { panic!("{problems:?}") };
        assert!((*position, *until) == (from, to) && what.contains("perhaps the export of another log"), "{problems:?}");
    }
    assert_eq!(positions(&found(range(1_001, 1_003), &other)), [1_001, 1_002, 1_003], "the log ends before: missing, each of them");
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
