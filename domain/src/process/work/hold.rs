//! Provider work on attempts under way: stopping one, capturing and raising what is held. Pure; the driver makes the call.

use chrono::{DateTime, Duration, Utc};

use super::{Step, after_inquiry, books::from_books, later, retry_delay_ms, spread_ms};
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
}

/// When a call about an attempt is repeated.
fn repeated(now: DateTime<Utc>, attempt: &AttemptRef, tried: u32) -> DateTime<Utc> {
    later(now, spread_ms(retry_delay_ms(tried), &attempt.reference, tried))
}

/// After asking for a capture. A hold is captured once, so the call may be repeated.
pub fn after_capture(attempt: AttemptRef, asked: Asked, outcome: CallOutcome<AttemptView>, now: DateTime<Utc>) -> Step {
    let (payment_intent_id, attempt_id) = (attempt.payment_intent_id, attempt.attempt_id);
    let Asked { amount: capture, request, tried } = asked;
    let again = |attempt: AttemptRef| {
        let due = repeated(now, &attempt, tried);
        (Task::Capture { attempt, capture, request, tried: tried.saturating_add(1) }, due)
    };
    match outcome {
        CallOutcome::Done(view) => {
            let commands = from_books(&attempt, &view, now);
            let decided =
                commands.iter().any(|command| matches!(command, ProcessCommand::ConfirmPayment { .. } | ProcessCommand::EndAttempt { .. }));
            // Taken but not shown yet: ask again.
            Step { commands, next: if decided { None } else { Some(again(attempt)) } }
        }
        CallOutcome::Declined(decline) => {
            let (code, message) = (decline.code, decline.message);
            let command = ProcessCommand::FailCapture { payment_intent_id, attempt_id, code, message };
            // The hold may be gone: its watch sees that.
            Step { commands: vec![command], next: None }
        }
        CallOutcome::NotAttempted(_) => Step { commands: vec![], next: Some(again(attempt)) },
        CallOutcome::Unknown(reason) => {
            let command = ProcessCommand::MarkAttemptUnknown { payment_intent_id, attempt_id, reason, since: now };
            Step { commands: vec![command], next: Some(again(attempt)) }
        }
    }
}

/// After asking for a higher hold. The call may be repeated under its key and then happens once.
pub fn after_increase(attempt: AttemptRef, asked: Asked, outcome: CallOutcome<AttemptView>, now: DateTime<Utc>) -> Step {
    let (payment_intent_id, attempt_id) = (attempt.payment_intent_id, attempt.attempt_id);
    let Asked { amount: total, request, tried } = asked;
    let again = |attempt: AttemptRef| {
        let due = repeated(now, &attempt, tried);
        (Task::Increase { attempt, total, request, tried: tried.saturating_add(1) }, due)
    };
    match outcome {
        CallOutcome::Done(view) => {
            let mut commands = from_books(&attempt, &view, now);
            // The provider answered with what it held before: nothing was raised, and the next request may come.
            if let AttemptStatus::Authorized { amount, .. } = view.status
                && amount.amount != total
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
        CallOutcome::NotAttempted(_) => Step { commands: vec![], next: Some(again(attempt)) },
        CallOutcome::Unknown(reason) => {
            let command = ProcessCommand::MarkAttemptUnknown { payment_intent_id, attempt_id, reason, since: now };
            Step { commands: vec![command], next: Some(again(attempt)) }
        }
    }
}

#[cfg(test)]
#[path = "hold_tests.rs"]
mod tests;
