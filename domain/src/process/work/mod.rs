//! Provider work: what a provider's answer means, and whether to ask again. Pure; the driver makes the call.
//!
//! An unknown outcome climbs a ladder: the call is repeated only where the provider treats the repeat as the same thing,
//! the books are asked on a schedule to the deadline and beyond it, and nothing is declared failed without proof.

use chrono::{DateTime, Duration, Utc};
use sha2::{Digest as _, Sha256};

pub mod books;
pub mod day_end;
pub mod hint;
pub mod hold;
pub mod lapse;
pub mod refund;

use books::{closes, from_books};

use super::{AttemptRef, InquiryMode, ProcessCommand, Task};
use crate::{
    payment_intent::Standing,
    provider::{AttemptStatus, AttemptView, CallOutcome, NO_PLACE},
};

/// After the deadline, how long a payment may still be invisible at the provider, milliseconds.
pub const SETTLING_MARGIN_MS: i64 = 5_000;

/// The longest that a call on a provider may take, milliseconds; the guard around every connector ends it then.
pub const LONGEST_CALL_MS: i64 = 30_000;

/// How long after a call without an answer a provider's books may hide what it did, milliseconds.
const HIDDEN_MS: i64 = 120_000;

/// Inquiries after the attempt ended without a payment: minutes after the deadline. Late money is found by these.
const LATE_INQUIRY_MINUTES: [i64; 4] = [1, 5, 15, 60];

/// How long no answer may say what came of a refund, of a capture or of an increase before a person is told, minutes.
pub const UNCLEAR_MINUTES: i64 = 60;

/// Pause before inquiry number `asked` (0 = first), milliseconds: 3 s, 6 s, 12 s, then every 30 s.
pub const fn inquiry_delay_ms(asked: u32) -> i64 {
    match asked {
        0 => 3_000,
        1 => 6_000,
        2 => 12_000,
        _ => 30_000,
    }
}

/// Pause after a read that gave no answer, milliseconds: doubling from 3 s to 10 minutes, so that a provider that is away or
/// no longer configured is asked ever more rarely, but never given up.
pub const fn silence_delay_ms(asked: u32) -> i64 {
    let doublings = if asked > 8 { 8 } else { asked };
    let delay = 3_000_i64 << doublings;
    if delay > 600_000 { 600_000 } else { delay }
}

/// Pause before repeat number `tried` of a call, milliseconds: doubling from 0.5 s to 30 s.
pub const fn retry_delay_ms(tried: u32) -> i64 {
    let doublings = if tried > 6 { 6 } else { tried };
    let delay = 500_i64 << doublings;
    if delay > 30_000 { 30_000 } else { delay }
}

/// A pause less up to a fifth of it, milliseconds, so that calls that failed together are not repeated together. It follows from what the
/// call is about and from how often it was tried: whoever decides a step once more decides the same.
pub fn spread_ms(pause_ms: i64, of: &str, tried: u32) -> i64 {
    pause_ms.saturating_sub(share_ms(pause_ms, 5, of, tried))
}

/// Anything from nothing to one of so many parts of a time, milliseconds; the same for the same call and the same try.
fn share_ms(whole_ms: i64, parts: u8, of: &str, tried: u32) -> i64 {
    let digest = Sha256::new().chain_update(of).chain_update(tried.to_be_bytes()).finalize();
    let dice = digest.first_chunk().map_or(0, |first| u16::from_be_bytes(*first));
    let share = i128::from(whole_ms) * i128::from(dice) / (i128::from(parts) * i128::from(u16::MAX));
    i64::try_from(share).unwrap_or(0)
}

/// What follows from an answer.
#[derive(Debug, Clone, Default)]
pub struct Step {
    /// Commands to append, each on its own.
    pub commands: Vec<ProcessCommand>,
    /// The task that replaces this one, and when it is due; nothing when it is done.
    pub next: Option<(Task, DateTime<Utc>)>,
}

pub(super) fn later(now: DateTime<Utc>, ms: i64) -> DateTime<Utc> {
    now + Duration::milliseconds(ms)
}

/// After beginning an attempt.
pub fn after_start(mut start: Start, outcome: CallOutcome<AttemptView>, now: DateTime<Utc>) -> Step {
    let (payment_intent_id, attempt_id) = (start.attempt.payment_intent_id, start.attempt.attempt_id);
    match outcome {
        CallOutcome::Done(view) => Step { commands: from_books(&start.attempt, &view, now), next: None },
        CallOutcome::Declined(decline) => {
            let (code, message) = (decline.code, decline.message);
            Step { commands: vec![ProcessCommand::FailAttempt { payment_intent_id, attempt_id, code, message }], next: None }
        }
        // Our own crowd says nothing about the account, which is not left for another one because of it.
        CallOutcome::NotAttempted(reason) if reason.ends_with(NO_PLACE) => {
            Step { commands: vec![], next: start.once_there_is_a_place(now) }
        }
        CallOutcome::NotAttempted(_) => Step { commands: vec![], next: start.again(now) },
        CallOutcome::Unknown(reason) => {
            let command = ProcessCommand::MarkAttemptUnknown { payment_intent_id, attempt_id, reason, since: now };
            start.uncertain_since = Some(now);
            Step { commands: vec![command], next: start.again(now) }
        }
    }
}

/// Whether an attempt may be begun now: the intent still waits for it, and the call ends before the attempt's time does.
pub fn may_start(standing: Standing, attempt: &AttemptRef, now: DateTime<Utc>) -> bool {
    standing.begins && later(now, LONGEST_CALL_MS) <= attempt.expires_at
}

/// From when on an empty look proves, after a request to stop, that an unanswered call did nothing: no call begins after the
/// request, the last one has ended, and the books show what it did.
pub(super) fn proven_after_stop(requested_at: DateTime<Utc>) -> DateTime<Utc> {
    later(requested_at, LONGEST_CALL_MS + HIDDEN_MS)
}

/// An attempt to be begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Which.
    pub attempt: AttemptRef,
    /// For a card: the provider's token.
    pub card_token: Option<String>,
    /// Where the payer's browser goes after an action.
    pub return_url: Option<String>,
    /// How often it was tried before.
    pub tried: u32,
    /// When the last try had ended of which nobody knows what it did (UTC).
    pub uncertain_since: Option<DateTime<Utc>>,
}

impl Start {
    /// The identifiers are the same on every repeat, so a repeat makes no second thing to pay; after the deadline nobody needs it.
    fn again(mut self, now: DateTime<Utc>) -> Option<(Task, DateTime<Utc>)> {
        let due = later(now, spread_ms(retry_delay_ms(self.tried), &self.attempt.reference, self.tried));
        self.tried = self.tried.saturating_add(1);
        self.due(due)
    }

    /// The same when it was not called for want of a place: that was no try.
    fn once_there_is_a_place(self, now: DateTime<Utc>) -> Option<(Task, DateTime<Utc>)> {
        let due = later(now, spread_ms(retry_delay_ms(0), &self.attempt.reference, self.tried));
        self.due(due)
    }

    fn due(self, due: DateTime<Utc>) -> Option<(Task, DateTime<Utc>)> {
        let Self { attempt, card_token, return_url, tried, uncertain_since } = self;
        (later(due, LONGEST_CALL_MS) <= attempt.expires_at)
            .then_some((Task::Start { attempt, card_token, return_url, tried, uncertain_since }, due))
    }
}

/// After asking what was paid.
pub fn after_inquiry(
    mut attempt: AttemptRef,
    mode: InquiryMode,
    asked: u32,
    standing: Standing,
    outcome: CallOutcome<AttemptView>,
    now: DateTime<Utc>,
) -> Step {
    let (payment_intent_id, attempt_id) = (attempt.payment_intent_id, attempt.attempt_id);
    let late = now >= resolves_by(attempt.expires_at);
    let view = match outcome {
        CallOutcome::Done(view) => view,
        // A read that failed says nothing; ask again on the schedule. When that is over a person is told, if anybody still waits.
        CallOutcome::Declined(_) | CallOutcome::NotAttempted(_) | CallOutcome::Unknown(_) => {
            if late && !standing.awaited {
                return Step::default();
            }
            let commands = if late { vec![ProcessCommand::LeaveToPerson { payment_intent_id, attempt_id, at: now }] } else { vec![] };
            let due = later(now, spread_ms(silence_delay_ms(asked), &attempt.reference, asked));
            // The person is told after a look, so there is one at the published time.
            let due = if late { due } else { due.min(resolves_by(attempt.expires_at)) };
            let next = Some((Task::Inquire { attempt, mode, asked: asked.saturating_add(1) }, due));
            return Step { commands, next };
        }
    };
    let mut commands = from_books(&attempt, &view, now);
    attempt.provider_id = attempt.provider_id.take().or_else(|| view.provider_id.clone());
    // Another amount does not close the intent: it is recorded, and the intent still ends.
    if closes(&attempt, &view) {
        return Step { commands, next: None };
    }
    let proven = !standing.unanswered || now >= later(attempt.expires_at, SETTLING_MARGIN_MS);
    match (mode, &view.status) {
        (InquiryMode::Cancel, AttemptStatus::NotFound | AttemptStatus::Paid) if proven => {
            commands.push(ProcessCommand::ConfirmCancel { payment_intent_id });
            Step { commands, next: None }
        }
        (_, AttemptStatus::Failed(_) | AttemptStatus::Canceled | AttemptStatus::Expired) if mode == InquiryMode::Cancel => {
            Step { commands, next: None }
        }
        (InquiryMode::Cancel, _) => {
            if late && !standing.awaited {
                return Step { commands, next: None };
            }
            if late {
                commands.push(ProcessCommand::LeaveToPerson { payment_intent_id, attempt_id, at: now });
            }
            let due = later(now, retry_delay_ms(asked.saturating_add(2)));
            Step { commands, next: Some((Task::Stop { attempt, mode, tried: asked.saturating_add(1) }, due)) }
        }
        (InquiryMode::Watch, _) => watch(attempt, asked, standing, &view.status, commands, now),
    }
}

/// What the watch does when the money is not here.
fn watch(
    attempt: AttemptRef,
    asked: u32,
    standing: Standing,
    status: &AttemptStatus,
    mut commands: Vec<ProcessCommand>,
    now: DateTime<Utc>,
) -> Step {
    let (payment_intent_id, attempt_id) = (attempt.payment_intent_id, attempt.attempt_id);
    let over = now >= later(attempt.expires_at, SETTLING_MARGIN_MS);
    let late = now >= resolves_by(attempt.expires_at);
    let pause = silence_delay_ms(if late { 8 } else { asked.min(4) });
    let stop = |attempt| (Task::Stop { attempt, mode: InquiryMode::Watch, tried: asked.saturating_add(1) }, later(now, pause));
    match status {
        // Nobody waits for this attempt any more, so nothing of the payer's may stay held.
        AttemptStatus::Authorized { .. } if !standing.awaited => {
            return Step { commands, next: Some(stop(attempt)) };
        }
        AttemptStatus::Authorized { capture_before, .. } => {
            let next = Some(hold::next_look(attempt, asked, *capture_before, now));
            return Step { commands, next };
        }
        AttemptStatus::NotFound | AttemptStatus::Paid if over => {
            commands.push(ProcessCommand::ExpirePayment { payment_intent_id, attempt_id });
        }
        // Whatever can be said of it was said to the end of the schedule, and the intent does not wait for it.
        AttemptStatus::Pending | AttemptStatus::ActionRequired(_) | AttemptStatus::Unrecognized(_) if late && !standing.awaited => {
            return Step { commands, next: None };
        }
        // Still payable there: it must be stopped before its time can be up here, and as soon as nobody waits for it.
        AttemptStatus::Pending | AttemptStatus::ActionRequired(_) if over || !standing.awaited => {
            if late {
                commands.push(ProcessCommand::LeaveToPerson { payment_intent_id, attempt_id, at: now });
            }
            return Step { commands, next: Some(stop(attempt)) };
        }
        AttemptStatus::Unrecognized(_) if late => {
            commands.push(ProcessCommand::LeaveToPerson { payment_intent_id, attempt_id, at: now });
            let due = later(now, silence_delay_ms(8));
            return Step {
                commands,
                next: Some((Task::Inquire { attempt, mode: InquiryMode::Watch, asked: asked.saturating_add(1) }, due)),
            };
        }
        AttemptStatus::NotFound
        | AttemptStatus::ActionRequired(_)
        | AttemptStatus::Pending
        | AttemptStatus::Paid
        | AttemptStatus::Failed(_)
        | AttemptStatus::Canceled
        | AttemptStatus::Expired
        | AttemptStatus::Unrecognized(_) => {}
    }
    Step { commands, next: next_watch(attempt, asked, now) }
}

/// The published worst case: by then an outcome is known or a person is told.
pub fn resolves_by(expires_at: DateTime<Utc>) -> DateTime<Utc> {
    let last = LATE_INQUIRY_MINUTES.iter().copied().max().unwrap_or(0);
    later(expires_at, SETTLING_MARGIN_MS) + Duration::minutes(last)
}

fn next_watch(attempt: AttemptRef, asked: u32, now: DateTime<Utc>) -> Option<(Task, DateTime<Utc>)> {
    let deadline = later(attempt.expires_at, SETTLING_MARGIN_MS);
    let due = if now < deadline {
        later(now, inquiry_delay_ms(asked.saturating_add(1))).min(deadline)
    } else {
        LATE_INQUIRY_MINUTES.iter().map(|minutes| deadline + Duration::minutes(*minutes)).find(|due| *due > now)?
    };
    Some((Task::Inquire { attempt, mode: InquiryMode::Watch, asked: asked.saturating_add(1) }, due))
}

#[cfg(test)]
mod tests;
