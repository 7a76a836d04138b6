//! The pure verifiers on hand-made commits.

use std::sync::Arc;

use domain::{
    envelope::{RecordedEvent, StreamKey, StreamType},
    event::ReadEvent,
    ids::Ulid,
    integrity::{commit_hash, merkle_root, recorded_hash},
};

use uuid::Uuid;

use super::{chain::Chain, commits::PartVerifier, streams::StreamVerifier, *};
use crate::{
    log_reader::Head,
    testing::{History, MERCHANT, record},
};

type Commits = Vec<(Commit, Vec<RecordedEvent>)>;

fn commits(events: &[RecordedEvent], size: usize) -> (Commits, Head) {
    let mut prev_hash = [0; 32];
    let mut commits = Vec::new();
    for chunk in events.chunks(size) {
        let (first, last) = (&chunk[0], &chunk[chunk.len() - 1]);
        let chunk: Vec<_> = chunk.iter().cloned().map(|event| RecordedEvent { recorded_at: first.recorded_at, ..event }).collect();
        let root = merkle_root(&chunk.iter().map(|event| event.hash).collect::<Vec<_>>());
        let hash = commit_hash(&prev_hash, first.pos, first.recorded_at.timestamp_micros(), &root);
        let commit = Commit { first_pos: first.pos, last_pos: last.pos, recorded_at: first.recorded_at, prev_hash, hash };
        commits.push((commit, chunk));
        prev_hash = hash;
    }
    let head = Head { pos: i64::try_from(events.len()).unwrap(), epoch: 1, log_id: uuid::Uuid::nil(), hash: prev_hash };
    (commits, head)
}

/// As [`verify_against`] does it, cut into parts of two commits.
fn verify(commits: &[(Commit, Vec<RecordedEvent>)], head: &Head) -> Vec<Problem> {
    let mut chain = Chain::new(head, &[]);
    for part in commits.chunks(2) {
        let mut verifier = PartVerifier::new(part.iter().map(|(commit, _)| commit.clone()).collect(), Vec::new());
        part.iter().flat_map(|(_, events)| events).for_each(|event| verifier.event(event));
        chain.part(verifier.finish());
    }
    chain.end(Problems::default());
    chain.finish(Vec::new()).problems
}

fn places(problems: &[Problem]) -> Vec<(i64, i64)> {
    problems.iter().map(|problem| (problem.position, problem.until)).collect()
}

fn sample() -> (Commits, Head) {
    let events: Vec<_> = History::sale_and_refund().iter().map(|event| (***event).clone()).collect();
    commits(&events, 3)
}

fn swap(commits: &mut Commits, (a, i): (usize, usize), (b, j): (usize, usize)) {
    let (one, other) = (commits[a].1[i].clone(), commits[b].1[j].clone());
    commits[a].1[i] = RecordedEvent { pos: one.pos, recorded_at: one.recorded_at, ..other.clone() };
    commits[b].1[j] = RecordedEvent { pos: other.pos, recorded_at: other.recorded_at, ..one };
}

#[test]
fn an_untouched_log_is_sound() {
    let (commits, head) = sample();
    assert_eq!(verify(&commits, &head), []);
    assert_eq!(verify(&[], &Head { pos: 0, hash: [0; 32], ..head }), []);
}

#[test]
fn every_kind_of_change_is_found_at_its_place() {
    let (sound, head) = sample();
    let broken = |change: &dyn Fn(&mut Commits)| {
        let mut commits = sound.clone();
        change(&mut commits);
        verify(&commits, &head).first().map(|problem| (problem.position, problem.until))
    };
    let end = head.pos;
    assert_eq!(broken(&|commits| commits[1].1[1].payload.push(b' ')), Some((5, 5)), "a payload");
    assert_eq!(broken(&|commits| drop(commits[1].1.remove(1))), Some((5, 5)), "an event cut out");
    assert_eq!(broken(&|commits| drop(commits.remove(1))), Some((4, 6)), "a commit cut out");
    assert_eq!(broken(&|commits| commits[0].0.hash[0] ^= 1), Some((1, 3)), "a commit's hash");
    assert_eq!(broken(&|commits| commits[1].0.prev_hash[0] ^= 1), Some((4, 6)), "a commit's previous hash");
    assert_eq!(broken(&|commits| drop(commits.pop())), Some(((end - 1) / 3 * 3 + 1, end)), "the end cut off");
    assert_eq!(broken(&|commits| commits[2].1[0].recorded_at += chrono::TimeDelta::seconds(1)), Some((7, 7)), "a time");
    assert_eq!(
        broken(&|commits| replace(&mut commits[1].1[1])),
        Some((4, 6)),
        "an event replaced together with its hash is somewhere in its commit"
    );
}

/// Replaces an event together with its hash.
fn replace(event: &mut RecordedEvent) {
    event.payload.push(b' ');
    event.hash = recorded_hash(event);
}

/// Computes the hashes of so many commits anew, the first ones, from what stands in them.
fn recompute(commits: &mut Commits, count: usize) {
    let mut prev_hash = [0; 32];
    for (commit, events) in commits.iter_mut().take(count) {
        let root = merkle_root(&events.iter().map(|event| event.hash).collect::<Vec<_>>());
        let hash = commit_hash(&prev_hash, commit.first_pos, commit.recorded_at.timestamp_micros(), &root);
        (commit.prev_hash, commit.hash) = (prev_hash, hash);
        prev_hash = hash;
    }
}

#[test]
fn where_hashes_were_computed_anew_up_to_some_commit_the_cause_lies_anywhere_before_the_break() {
    let (sound, head) = sample();
    for (count, until) in [(2, 9), (3, 12), (sound.len(), head.pos)] {
        let mut commits = sound.clone();
        replace(&mut commits[1].1[1]);
        recompute(&mut commits, count);
        assert_eq!(places(&verify(&commits, &head)), [(1, until)], "{count}");
    }
}

#[test]
fn a_hash_changed_in_one_row_alone_is_told_of_no_other_commit() {
    let (sound, head) = sample();
    let (newest, end) = (sound.len() - 1, head.pos);
    let first = sound[newest].0.first_pos;
    for (index, of_its_own, range) in [(1, true, (4, 6)), (1, false, (4, 6)), (newest, true, (first, end)), (newest, false, (first, end))] {
        let mut commits = sound.clone();
        let commit = &mut commits[index].0;
        let hash = if of_its_own { &mut commit.hash } else { &mut commit.prev_hash };
        hash[0] ^= 1;
        let problems = verify(&commits, &head);
        assert_eq!(places(&problems), [range, range], "{problems:?}");
    }
}

#[test]
fn a_time_that_goes_back_is_wrong_in_one_of_two_commits() {
    let (mut commits, head) = sample();
    let later = chrono::TimeDelta::days(1);
    commits[1].0.recorded_at += later;
    commits[1].1.iter_mut().for_each(|event| event.recorded_at += later);
    let count = commits.len();
    recompute(&mut commits, count);
    let head = Head { hash: commits[count - 1].0.hash, ..head };
    let problems = verify(&commits, &head);
    assert_eq!(places(&problems), [(4, 9)], "{problems:?}");
}

#[test]
fn exchanged_events_are_named_both() {
    let (sound, head) = sample();
    for (one, other, places) in [((1, 0), (1, 2), [4, 6]), ((0, 1), (3, 2), [2, 12])] {
        let mut commits = sound.clone();
        swap(&mut commits, one, other);
        let problems = verify(&commits, &head);
        assert_eq!(problems.iter().map(|problem| problem.position).collect::<Vec<_>>(), places, "{problems:?}");
        assert!(problems.iter().all(|problem| problem.what.contains("exchanged")));
    }
}

/// 250 commands in one commit, each of four events of an order and then, by turns, of its bill and its payment: 2,500 events. The last one
/// is of a stream of its own.
fn of_an_import() -> (Commits, Head) {
    let mut history = History::default();
    for n in 0..250_u128 {
        let stream = |stream_type, kind: u128| StreamKey { tenant: MERCHANT, stream_type, stream_id: Ulid(10 * n + kind) };
        let (order, bill, payment) = (stream(StreamType::Order, 1), stream(StreamType::Bill, 2), stream(StreamType::PaymentIntent, 3));
        let last = stream(StreamType::Refund, 4);
        for (version, key) in [(1, order), (2, order), (3, order), (4, order), (1, bill), (1, payment), (2, bill), (2, payment), (5, order)]
        {
            history.0.push(of_command(history.0.len(), key, version, n));
        }
        history.0.push(of_command(history.0.len(), last, 1, n));
    }
    let events: Vec<_> = history.0.iter().map(|event| (***event).clone()).collect();
    commits(&events, events.len())
}

fn of_command(before: usize, stream: StreamKey, version: i64, command: u128) -> Arc<ReadEvent> {
    let event = record(i64::try_from(before).unwrap() + 1, stream, version, "order.cancelled", b"{}".to_vec());
    let mut event = RecordedEvent { causation_id: Ulid(command), ..(**event).clone() };
    event.hash = recorded_hash(&event);
    ReadEvent::shared(event)
}

#[test]
fn exchanged_events_of_a_large_commit_are_named_both_wherever_they_stand() {
    let (sound, head) = of_an_import();
    assert_eq!((head.pos, verify(&sound, &head)), (2_500, Vec::new()));
    for (one, other, what) in [
        (12, 2_404, "of different streams, whose versions show it"),
        (12, 18, "of one stream"),
        (9, 2_499, "each the only one of its stream, in different commands"),
        (9, 10, "neighbours of different commands"),
        (1_204, 1_205, "of different streams and one command, whose versions do not show it"),
    ] {
        let mut commits = sound.clone();
        swap(&mut commits, (0, one), (0, other));
        let problems = verify(&commits, &head);
        let places: Vec<i64> = problems.iter().map(|problem| problem.position).collect();
        assert_eq!(places, [one, other].map(|index| i64::try_from(index).unwrap() + 1), "{what}: {problems:?}");
        assert!(problems.iter().all(|problem| problem.what.contains("exchanged")), "{what}");
    }
}

#[test]
fn events_exchanged_between_large_commits_are_named_both() {
    let (whole, _) = of_an_import();
    let (sound, head) = commits(&whole[0].1, 1_250);
    let mut commits = sound.clone();
    swap(&mut commits, (0, 3), (1, 1_002));
    let problems = verify(&commits, &head);
    assert_eq!(problems.iter().map(|problem| problem.position).collect::<Vec<_>>(), [4, 2_253], "{problems:?}");
}

#[test]
fn an_event_replaced_with_its_hash_in_a_large_commit_is_found_as_the_commit() {
    let (mut commits, head) = of_an_import();
    replace(&mut commits[0].1[1_300]);
    assert_eq!(places(&verify(&commits, &head)), [(1, 2_500)]);
}

#[test]
fn an_event_of_no_commit_is_named() {
    let (mut commits, head) = sample();
    let extra = RecordedEvent { pos: head.pos + 1, ..commits[0].1[0].clone() };
    commits.last_mut().unwrap().1.push(extra);
    let problems = verify(&commits, &head);
    assert_eq!((problems.len(), problems[0].position), (1, head.pos + 1), "{problems:?}");
}

#[test]
fn positions_at_the_ends_of_what_there_is_are_problems_like_others() {
    let (sound, head) = sample();
    let end = head.pos;
    for (first_pos, last_pos) in [(i64::MAX, i64::MAX), (i64::MIN + 1, i64::MAX), (end + 1, i64::MAX), (i64::MAX, i64::MIN)] {
        let mut commits = sound.clone();
        let event = RecordedEvent { pos: first_pos, version: i64::MAX, ..commits[0].1[0].clone() };
        let commit = Commit { first_pos, last_pos, ..commits[0].0.clone() };
        commits.push((commit.clone(), vec![event]));
        commits.push((commit, Vec::new()));
        assert!(!verify(&commits, &head).is_empty());
        commits.rotate_right(2);
        assert!(!verify(&commits, &Head { pos: i64::MAX, ..head.clone() }).is_empty());
    }
}

/// Stream; version and position of an event, if any; version of the head, if any.
type StoredRow = (u8, Option<(i64, i64)>, Option<i64>);

#[test]
fn a_stream_is_held_to_its_versions_and_its_head() {
    let key = |n: u8| (Uuid::nil(), "order".to_owned(), Uuid::from_bytes([n; 16]));
    let check = |rows: &[StoredRow]| {
        let mut verifier = StreamVerifier::new(20);
        for (n, event, head) in rows {
            verifier.row(key(*n), *event, *head);
        }
        places(&verifier.finish().into_vec())
    };
    assert!(check(&[(1, Some((1, 4)), Some(2)), (1, Some((2, 9)), Some(2)), (2, Some((1, 5)), Some(1))]).is_empty());
    assert_eq!(check(&[(1, Some((1, 4)), Some(3)), (1, Some((3, 9)), Some(3))]), [(4, 9)], "a version is missing");
    assert_eq!(check(&[(1, Some((2, 4)), Some(2))]), [(1, 4)], "the first version is missing");
    assert_eq!(check(&[(1, Some((1, 9)), Some(2)), (1, Some((2, 4)), Some(2))]), [(4, 9)], "out of order");
    assert_eq!(check(&[(1, Some((1, 4)), Some(1)), (1, Some((2, 9)), Some(1)), (1, Some((3, 10)), Some(1))]), [(9, 9)], "beyond the head");
    assert_eq!(check(&[(1, Some((1, 4)), None)]), [(4, 4)], "no head");
    assert_eq!(check(&[(1, Some((1, 4)), Some(2))]), [(4, 21)], "the head knows more than the log");
    assert_eq!(check(&[(1, None, Some(1))]), [(1, 21)], "a head without events");
    assert_eq!(check(&[(1, Some((i64::MAX, 4)), Some(i64::MAX)), (1, Some((1, 5)), Some(i64::MAX))])[0], (1, 4), "no overflow");
}

#[test]
fn of_too_many_problems_the_lowest_positions_are_kept_whatever_the_order_of_streams() {
    let mut verifier = StreamVerifier::new(1_000);
    for n in 0..=255 {
        // The later a stream comes, the lower its position.
        let key = (Uuid::nil(), "order".to_owned(), Uuid::from_bytes([n; 16]));
        verifier.row(key, Some((1, 300 - i64::from(n))), None);
    }
    let positions: Vec<i64> = verifier.finish().into_vec().iter().map(|problem| problem.position).collect();
    assert_eq!(positions, (45..145).collect::<Vec<_>>());
}
