//! The net under the schedule: a code that nobody can stop is looked at once more at the end of two days. Pure; the driver makes the call.
//!
//! Whatever these looks find is recorded as a late call-back would record it. They are no step of the ladder: nobody waits for them, and
//! they are watches, which wait behind everything that somebody waits for.

use chrono::{DateTime, Days, Duration, NaiveTime, Utc};

use super::{later, share_ms, spread_ms};
use crate::{
    payment_intent::Tender,
    process::{AttemptRef, InquiryMode, Task},
};

/// The banks keep their books by the day in Bangkok, seven hours ahead of UTC, without summer time.
const BANGKOK_AHEAD: Duration = Duration::hours(7);

/// How long after midnight the first look may come: a payment of the last minute must be in the books.
const AFTER_MIDNIGHT: Duration = Duration::minutes(5);

/// Over how long the looks of a night are spread, milliseconds: those of ten thousand attempts, up to three calls each, stay below
/// five calls a second.
const NIGHT_MS: i64 = 3 * 3_600_000;

/// Pause after a look without an answer, milliseconds.
const SILENCE_MS: i64 = 3_600_000;

/// For how long after the last of them a look without an answer is repeated.
const GIVEN_UP_AFTER: Duration = Duration::hours(24);

/// What follows on a watch that has ended, or on such a look: a look after the end of the day of the attempt's deadline, then one after the
/// end of the next day. One without an answer is repeated hourly, to a day after the last. Nothing when both are past, and for
/// what is not paid by a code.
pub fn next_look(attempt: AttemptRef, asked: u32, answered: bool, now: DateTime<Utc>) -> Option<(Task, DateTime<Utc>)> {
    if attempt.tender != Tender::PromptPay {
        return None;
    }
    let [first, last] = looks(&attempt)?;
    let planned = [first, last].into_iter().find(|due| *due > now);
    let repeats = !answered && now < last + GIVEN_UP_AFTER;
    let again = repeats.then(|| later(now, spread_ms(SILENCE_MS, &attempt.reference, asked)));
    let due = planned.into_iter().chain(again).min()?;
    Some((Task::Inquire { attempt, mode: InquiryMode::Watch, asked: asked.saturating_add(1) }, due))
}

/// When an attempt is looked at: at the same time of both nights, each attempt at its own.
fn looks(attempt: &AttemptRef) -> Option<[DateTime<Utc>; 2]> {
    let day = (attempt.expires_at + BANGKOK_AHEAD).date_naive();
    let share = Duration::milliseconds(share_ms(NIGHT_MS, 1, &attempt.attempt_id.to_string(), 0));
    let after = |days: u64| {
        let midnight = day.checked_add_days(Days::new(days))?.and_time(NaiveTime::MIN).and_utc() - BANGKOK_AHEAD;
        Some(midnight + AFTER_MIDNIGHT + share)
    };
    Some([after(1)?, after(2)?])
}

#[cfg(test)]
#[path = "day_end_tests.rs"]
mod tests;
