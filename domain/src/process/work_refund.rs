//! Provider work on refunds: what an answer means. Pure; the driver makes the call.

use chrono::{DateTime, Duration, Utc};

use super::{
    ProcessCommand, RefundRef, Task,
    work::{Step, later},
};
use crate::provider::{CallOutcome, Decline, RefundStatus};

/// How long no answer may say how a refund stands before a person is told, minutes.
pub const UNCLEAR_MINUTES: i64 = 60;

/// Pause before repeat number `tried` of a call about a refund, milliseconds: doubling from 0.5 s to an hour, since a refund may wait
/// for days at its provider.
pub const fn refund_delay_ms(tried: u32) -> i64 {
    let doublings = if tried > 13 { 13 } else { tried };
    let delay = 500_i64 << doublings;
    if delay > 3_600_000 { 3_600_000 } else { delay }
}

/// After asking for money to be sent back.
pub fn after_refund(refund: RefundRef, outcome: CallOutcome<RefundStatus>, now: DateTime<Utc>) -> Step {
    // Whatever reached the provider may not be in its books yet.
    let reached = |refund| RefundRef { uncertain_since: Some(now), ..refund };
    match outcome {
        CallOutcome::Done(RefundStatus::Succeeded { provider_reference }) => succeeded(&refund, provider_reference),
        CallOutcome::Done(RefundStatus::Failed(decline)) | CallOutcome::Declined(decline) => failed(&refund, decline),
        CallOutcome::Done(RefundStatus::Pending { .. }) => waits(reached(refund), now),
        CallOutcome::Done(RefundStatus::NotFound) => unclear(reached(refund), Task::CheckRefund, now),
        CallOutcome::NotAttempted(_) => unclear(refund, Task::Refund, now),
        // Money may have gone back: look before anything else.
        CallOutcome::Unknown(reason) => {
            let unknown = ProcessCommand::MarkRefundUnknown { refund_id: refund.refund_id, reason };
            let Step { commands, next } = unclear(reached(refund), Task::CheckRefund, now);
            Step { commands: std::iter::once(unknown).chain(commands).collect(), next }
        }
    }
}

/// After asking whether a refund was carried out.
pub fn after_refund_check(refund: RefundRef, outcome: CallOutcome<RefundStatus>, now: DateTime<Utc>) -> Step {
    match outcome {
        CallOutcome::Done(RefundStatus::Succeeded { provider_reference }) => succeeded(&refund, provider_reference),
        CallOutcome::Done(RefundStatus::Failed(decline)) => failed(&refund, decline),
        CallOutcome::Done(RefundStatus::Pending { .. }) => waits(refund, now),
        // The books would show it: the same refund may be asked for again under its own id.
        CallOutcome::Done(RefundStatus::NotFound) => unclear(refund, Task::Refund, now),
        // A read that failed says nothing.
        CallOutcome::Declined(_) | CallOutcome::NotAttempted(_) | CallOutcome::Unknown(_) => unclear(refund, Task::CheckRefund, now),
    }
}

fn succeeded(refund: &RefundRef, provider_reference: String) -> Step {
    Step { commands: vec![ProcessCommand::SucceedRefund { refund_id: refund.refund_id, provider_reference }], next: None }
}

fn failed(refund: &RefundRef, Decline { code, message }: Decline) -> Step {
    Step { commands: vec![ProcessCommand::FailRefund { refund_id: refund.refund_id, code, message }], next: None }
}

/// The provider has it, and will say how it ends.
fn waits(refund: RefundRef, now: DateTime<Utc>) -> Step {
    let tried = refund.tried.saturating_add(1);
    let next = Task::CheckRefund(RefundRef { tried, unclear_since: None, ..refund });
    Step { commands: vec![], next: Some((next, later(now, refund_delay_ms(tried)))) }
}

/// No answer says how it stands. It is gone on with for ever, and once that has lasted a person is told.
fn unclear(refund: RefundRef, next: fn(RefundRef) -> Task, now: DateTime<Utc>) -> Step {
    let refund_id = refund.refund_id;
    let (tried, since) = (refund.tried.saturating_add(1), refund.unclear_since.unwrap_or(now));
    let told_at = since + Duration::minutes(UNCLEAR_MINUTES);
    let late = now >= told_at;
    let due = later(now, refund_delay_ms(tried));
    Step {
        commands: if late { vec![ProcessCommand::LeaveRefundToPerson { refund_id, at: now }] } else { vec![] },
        // The person is told after a look, so there is one at that time.
        next: Some((next(RefundRef { tried, unclear_since: Some(since), ..refund }), if late { due } else { due.min(told_at) })),
    }
}
