//! When a code that stays payable is looked at after its schedule.

use super::*;
use crate::process::work::tests::{at, attempt, id};

/// 07:10 in Bangkok; its day ends at 17:00 UTC.
const EXPIRES: i64 = 600;
const MIDNIGHT: i64 = 17 * 3_600;
const DAY: i64 = 86_400;

/// Five minutes after that midnight in Bangkok.
fn begins(midnight: i64) -> DateTime<Utc> {
    at(MIDNIGHT + midnight * DAY + 300)
}

/// When the looks of an attempt come, if each is answered and its watch ended then.
fn answered(attempt: &AttemptRef, ended: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let (mut due, mut now) = (Vec::new(), ended);
    while let Some((task, next)) = next_look(attempt.clone(), 7, true, now) {
        assert_eq!(task, Task::Inquire { attempt: attempt.clone(), mode: InquiryMode::Watch, asked: 8 });
        due.push(next);
        now = next;
        assert!(due.len() < 5, "it does not end: {due:?}");
    }
    due
}

#[test]
fn a_code_is_looked_at_after_the_end_of_the_day_of_its_deadline_and_of_the_next() {
    let due = answered(&attempt(), at(EXPIRES));
    let [first, last] = due[..] else { panic!("{due:?}") };
    assert!((begins(0)..=begins(0) + Duration::hours(3)).contains(&first), "{first}");
    assert_eq!(last, first + Duration::days(1));
}

#[test]
fn the_day_is_that_of_bangkok() {
    for (expires, midnight) in [(MIDNIGHT - 1, 0), (MIDNIGHT, 1), (DAY, 1), (DAY + MIDNIGHT - 1, 1), (DAY + MIDNIGHT, 2)] {
        let attempt = AttemptRef { expires_at: at(expires), ..attempt() };
        let [first, last] = looks(&attempt).unwrap();
        assert!((begins(midnight)..=begins(midnight) + Duration::hours(3)).contains(&first), "{expires}: {first}");
        assert_eq!(last, first + Duration::days(1));
    }
}

#[test]
fn a_watch_that_ended_after_a_look_was_due_has_made_it() {
    let [first, last] = looks(&attempt()).unwrap();
    assert_eq!(answered(&attempt(), first - Duration::seconds(1)), [first, last]);
    assert_eq!(answered(&attempt(), first), [last]);
    assert!(answered(&attempt(), last).is_empty());
}

#[test]
fn the_looks_of_many_attempts_are_spread_over_the_night() {
    let mut minutes = [0_u32; 181];
    for n in 0..10_000 {
        let [first, _] = looks(&AttemptRef { attempt_id: id(n), ..attempt() }).unwrap();
        minutes[usize::try_from((first - begins(0)).num_minutes()).unwrap()] += 1;
    }
    assert!(minutes.iter().all(|looks| *looks < 120), "some 56 a minute: {minutes:?}");
}

#[test]
fn a_look_without_an_answer_is_repeated_hourly_until_a_day_after_the_last() {
    let [first, last] = looks(&attempt()).unwrap();
    let (mut now, mut asked, mut seen) = (first, 0, Vec::new());
    while let Some((Task::Inquire { asked: next, .. }, due)) = next_look(attempt(), asked, false, now) {
        let pause = due - now;
        assert!(pause <= Duration::hours(1) && (pause >= Duration::minutes(48) || due == last), "{pause}");
        (now, asked) = (due, next);
        seen.push(now);
        assert!(seen.len() < 100, "it does not end");
    }
    assert!(seen.contains(&last), "the second look keeps its time");
    let given_up = last + Duration::days(1);
    assert!((given_up..given_up + Duration::hours(1)).contains(&now), "{now}");
}

#[test]
fn an_answer_leads_back_to_the_ends_of_days() {
    let [first, last] = looks(&attempt()).unwrap();
    let (_, again) = next_look(attempt(), 0, false, first).unwrap();
    assert_eq!(answered(&attempt(), again), [last]);
}

#[test]
fn a_card_has_no_code() {
    let card = AttemptRef { tender: Tender::OnlineCard, ..attempt() };
    assert_eq!((next_look(card.clone(), 0, true, at(EXPIRES)), next_look(card, 0, false, at(EXPIRES))), (None, None));
}
