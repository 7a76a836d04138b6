//! Provider work on attempts under way: stopping one, capturing and raising what is held. Pure; the driver makes the call.

use chrono::{DateTime, Duration, Utc};

use super::{HIDDEN_MS, Step, UNCLEAR_MINUTES, after_inquiry, books::from_books, later, retry_delay_ms, spread_ms};
use crate::process::{AttemptRef, InquiryMode, ProcessCommand, Task};
use crate::{
    payment_intent::Standing,
    provider::{AttemptStatus, AttemptView, CallOutcome},
};

/// How often a held amount is looked at when nothing else calls for it: a hold may be let go of, or captured, outside.
const HOLD_LOOK_MINUTES: i64 = 60;

/// The next look at a held amount: hourly, and just after the provider lets go of it.
pub(super) fn next_look(
    attempt: AttemptRef,
    asked: u32,
    capture_before: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> (Task, DateTime<Utc>) {
    let hourly = now + Duration::minutes(HOLD_LOOK_MINUTES);
    // The provider's word may be any instant that can be written.
    let lapse = capture_before.and_then(|at| at.checked_add_signed(Duration::seconds(5))).filter(|at| *at > now);
    let due = lapse.map_or(hourly, |at| at.min(hourly));
    (Task::Inquire { attempt, mode: InquiryMode::Watch, asked: asked.saturating_add(1) }, due)
}

/// After asking the provider to stop an attempt. Without a clear answer it is asked what it shows instead, which leads back here
/// while the attempt can still be paid.
pub fn after_stop(
    attempt: AttemptRef,
    mode: InquiryMode,
    tried: u32,
    standing: Standing,
    outcome: CallOutcome<AttemptView>,
    now: DateTime<Utc>,
) -> Step {
    match outcome {
        // The books decide, as after a question: paid (the cancel lost), over, or still there.
        CallOutcome::Done(mut view) => {
            if mode == InquiryMode::Watch && view.status == AttemptStatus::Canceled {
                view.status = AttemptStatus::Expired; // stopped because its time was up
            }
            after_inquiry(attempt, mode, tried, standing, CallOutcome::Done(view), now)
        }
        CallOutcome::Declined(_) | CallOutcome::NotAttempted(_) | CallOutcome::Unknown(_) => {
            let refused = matches!(outcome, CallOutcome::Declined(_));
            let due = if refused && tried == 0 { now } else { repeated(now, &attempt, tried) };
            Step { commands: vec![], next: Some((Task::Inquire { attempt, mode, asked: tried }, due)) }
        }
    }
}

/// What was asked of a hold: how much (of a capture), or up to how much (of an increase), by which request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Minor units.
    pub amount: i64,
    /// The log position of the request.
    pub request: i64,
    /// How often it was tried before.
    pub tried: u32,
    /// Since when nobody knows what came of it (UTC).
    pub unclear_since: Option<DateTime<Utc>>,
    /// When the last of those calls for a capture ended that may have been carried out without an answer (UTC).
    pub uncertain_since: Option<DateTime<Utc>>,
    /// A person was told.
    pub told: bool,
}

/// When a call about an attempt is repeated.
fn repeated(now: DateTime<Utc>, attempt: &AttemptRef, tried: u32) -> DateTime<Utc> {
    later(now, spread_ms(retry_delay_ms(tried), &attempt.reference, tried))
}

/// Whether the provider's books may still hide what a call did that ended then without an answer. Until then a refusal of the same
/// call says nothing: the provider may refuse it because it took the first one.
pub(super) fn may_be_hidden(uncertain_since: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
    uncertain_since.is_some_and(|since| now < later(since, HIDDEN_MS))
}

/// Nobody knows what came of it: it is gone on with, and once that has lasted a person is told.
fn unclear(
    attempt: AttemptRef,
    asked: Asked,
    mut commands: Vec<ProcessCommand>,
    next: fn(AttemptRef, Asked) -> Task,
    now: DateTime<Utc>,
) -> Step {
    let (payment_intent_id, attempt_id) = (attempt.payment_intent_id, attempt.attempt_id);
    let since = asked.unclear_since.unwrap_or(now);
    let told_at = since + Duration::minutes(UNCLEAR_MINUTES);
    let late = now >= told_at;
    if late {
        commands.push(ProcessCommand::LeaveToPerson { payment_intent_id, attempt_id, at: now });
    }
    let due = repeated(now, &attempt, asked.tried);
    let asked = Asked { tried: asked.tried.saturating_add(1), unclear_since: Some(since), told: late, ..asked };
    // The person is told after a look, so there is one at that time.
    Step { commands, next: Some((next(attempt, asked), if late { due } else { due.min(told_at) })) }
}

fn capture(attempt: AttemptRef, Asked { amount, request, tried, unclear_since, uncertain_since, told }: Asked) -> Task {
    Task::Capture { attempt, capture: amount, request, tried, unclear_since, uncertain_since, told }
}

fn increase(attempt: AttemptRef, Asked { amount, request, tried, unclear_since, told, .. }: Asked) -> Task {
    Task::Increase { attempt, total: amount, request, tried, unclear_since, told }
}

/// After a look at the books before a capture is asked for once more: what follows from them, or nothing where they show the hold, so
/// that nothing was captured and the call may be made. Of a call whose maker died (`abandoned`) it is noted before that nobody knows what it did.
pub fn before_capture_again(
    attempt: &AttemptRef,
    asked: Asked,
    abandoned: bool,
    outcome: &CallOutcome<AttemptView>,
    now: DateTime<Utc>,
) -> Option<Step> {
    match outcome {
        CallOutcome::Done(AttemptView { status: AttemptStatus::Authorized { .. }, payments, .. }) if payments.is_empty() => {
            let unclear_since = asked.unclear_since.or(Some(now));
            let noted = capture(attempt.clone(), Asked { unclear_since, uncertain_since: Some(now), ..asked });
            abandoned.then(|| Step { commands: vec![], next: Some((noted, now)) })
        }
        CallOutcome::Done(view) => Some(by_books(attempt.clone(), asked, view, now)),
        CallOutcome::Declined(_) | CallOutcome::NotAttempted(_) | CallOutcome::Unknown(_) => {
            Some(unclear(attempt.clone(), asked, vec![], capture, now))
        }
    }
}

/// What the books say of a capture. Taken but not shown yet: they are asked again.
fn by_books(attempt: AttemptRef, asked: Asked, view: &AttemptView, now: DateTime<Utc>) -> Step {
    let commands = from_books(&attempt, view, now);
    let decides = |command: &ProcessCommand| matches!(command, ProcessCommand::ConfirmPayment { .. } | ProcessCommand::EndAttempt { .. });
    if commands.iter().any(decides) {
        return Step { commands, next: None };
    }
    unclear(attempt, asked, commands, capture, now)
}

/// After asking for a capture.
pub fn after_capture(attempt: AttemptRef, asked: Asked, outcome: CallOutcome<AttemptView>, now: DateTime<Utc>) -> Step {
    let (payment_intent_id, attempt_id) = (attempt.payment_intent_id, attempt.attempt_id);
    match outcome {
        // Taken, and shown or not.
        CallOutcome::Done(view) => by_books(attempt, Asked { uncertain_since: Some(now), ..asked }, &view, now),
        // Tasks of an earlier build know only since when it is unclear; who was not even asked then waits a moment too long.
        CallOutcome::Declined(_) if may_be_hidden(asked.uncertain_since.or(asked.unclear_since), now) => {
            unclear(attempt, asked, vec![], capture, now)
        }
        CallOutcome::Declined(decline) => {
            let (code, message) = (decline.code, decline.message);
            let command = ProcessCommand::FailCapture { payment_intent_id, attempt_id, code, message };
            // The hold may be gone: its watch sees that.
            Step { commands: vec![command], next: None }
        }
        CallOutcome::NotAttempted(_) => unclear(attempt, asked, vec![], capture, now),
        CallOutcome::Unknown(reason) => {
            let since = asked.unclear_since.unwrap_or(now);
            let command = ProcessCommand::MarkAttemptUnknown { payment_intent_id, attempt_id, reason, since };
            unclear(attempt, Asked { uncertain_since: Some(now), ..asked }, vec![command], capture, now)
        }
    }
}

/// After asking for a higher hold. The call may be repeated under its key and then happens once.
pub fn after_increase(attempt: AttemptRef, asked: Asked, outcome: CallOutcome<AttemptView>, now: DateTime<Utc>) -> Step {
    let (payment_intent_id, attempt_id) = (attempt.payment_intent_id, attempt.attempt_id);
    match outcome {
        CallOutcome::Done(view) => {
            let mut commands = from_books(&attempt, &view, now);
            // The provider answered with what it held before: nothing was raised, and the next request may come.
            if let AttemptStatus::Authorized { amount, .. } = view.status
                && amount.amount != asked.amount
            {
                let (code, message) = ("not_raised".to_owned(), format!("the provider holds {} minor units", amount.amount));
                commands.push(ProcessCommand::FailIncrease { payment_intent_id, attempt_id, code, message });
            }
            Step { commands, next: None }
        }
        CallOutcome::Declined(decline) => {
            let (code, message) = (decline.code, decline.message);
            Step { commands: vec![ProcessCommand::FailIncrease { payment_intent_id, attempt_id, code, message }], next: None }
        }
        CallOutcome::NotAttempted(_) => unclear(attempt, asked, vec![], increase, now),
        CallOutcome::Unknown(reason) => {
            let since = asked.unclear_since.unwrap_or(now);
            let command = ProcessCommand::MarkAttemptUnknown { payment_intent_id, attempt_id, reason, since };
            unclear(attempt, asked, vec![command], increase, now)
        }
    }
}

#[cfg(test)]
#[path = "hold_tests.rs"]
mod tests;
