//! Provider work on attempts under way: stopping one, capturing and raising what is held. Pure; the driver makes the call.

use chrono::{DateTime, Duration, Utc};

use super::{
    AttemptRef, InquiryMode, ProcessCommand, Task,
    work::{Step, after_inquiry, from_books, later, retry_delay_ms},
};
use crate::provider::{AttemptStatus, AttemptView, CallOutcome};

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
    let lapse = capture_before.map(|at| at + Duration::seconds(5)).filter(|at| *at > now);
    let due = lapse.map_or(hourly, |at| at.min(hourly));
    (Task::Inquire { attempt, mode: InquiryMode::Watch, asked: asked.saturating_add(1) }, due)
}

/// After asking the provider to stop an attempt. One that cannot stop it is asked what it shows instead.
pub fn after_stop(attempt: AttemptRef, mode: InquiryMode, tried: u32, outcome: CallOutcome<AttemptView>, now: DateTime<Utc>) -> Step {
    let again = |attempt: AttemptRef| (Task::Stop { attempt, mode, tried: tried.saturating_add(1) }, later(now, retry_delay_ms(tried)));
    match outcome {
        // The books decide, as after a question: paid (the cancel lost), over, or still there.
        CallOutcome::Done(mut view) => {
            if mode == InquiryMode::Watch && view.status == AttemptStatus::Canceled {
                view.status = AttemptStatus::Expired; // stopped because its time was up
            }
            after_inquiry(attempt, mode, tried, CallOutcome::Done(view), now)
        }
        CallOutcome::Declined(_) => {
            let due = if tried == 0 { now } else { later(now, retry_delay_ms(tried)) };
            Step { commands: vec![], next: Some((Task::Inquire { attempt, mode, asked: tried }, due)) }
        }
        CallOutcome::NotAttempted(_) | CallOutcome::Unknown(_) => Step { commands: vec![], next: Some(again(attempt)) },
    }
}

/// After asking for a capture. The call may be repeated under its key and then happens once.
pub fn after_capture(attempt: AttemptRef, capture: i64, tried: u32, outcome: CallOutcome<AttemptView>, now: DateTime<Utc>) -> Step {
    let (payment_intent_id, attempt_id) = (attempt.payment_intent_id, attempt.attempt_id);
    let again =
        |attempt: AttemptRef| (Task::Capture { attempt, capture, tried: tried.saturating_add(1) }, later(now, retry_delay_ms(tried)));
    match outcome {
        CallOutcome::Done(view) => {
            let commands = from_books(&attempt, &view, now);
            let decided =
                commands.iter().any(|command| matches!(command, ProcessCommand::ConfirmPayment { .. } | ProcessCommand::EndAttempt { .. }));
            // Taken but not shown yet: look again under the same key.
            Step { commands, next: if decided { None } else { Some(again(attempt)) } }
        }
        CallOutcome::Declined(decline) => {
            let (code, message) = (decline.code, decline.message);
            let command = ProcessCommand::FailCapture { payment_intent_id, attempt_id, code, message };
            // The hold may be gone: the books say so.
            Step { commands: vec![command], next: Some((Task::Inquire { attempt, mode: InquiryMode::Watch, asked: 0 }, now)) }
        }
        CallOutcome::NotAttempted(_) => Step { commands: vec![], next: Some(again(attempt)) },
        CallOutcome::Unknown(reason) => {
            let command = ProcessCommand::MarkAttemptUnknown { payment_intent_id, attempt_id, reason, since: now };
            Step { commands: vec![command], next: Some(again(attempt)) }
        }
    }
}

/// After asking for a higher hold. The call may be repeated under its key and then happens once.
pub fn after_increase(attempt: AttemptRef, total: i64, tried: u32, outcome: CallOutcome<AttemptView>, now: DateTime<Utc>) -> Step {
    let (payment_intent_id, attempt_id) = (attempt.payment_intent_id, attempt.attempt_id);
    let again =
        |attempt: AttemptRef| (Task::Increase { attempt, total, tried: tried.saturating_add(1) }, later(now, retry_delay_ms(tried)));
    match outcome {
        CallOutcome::Done(view) => Step { commands: from_books(&attempt, &view, now), next: None },
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
#[path = "work_hold_tests.rs"]
mod tests;
