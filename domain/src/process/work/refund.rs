//! Provider work on refunds: what an answer means. Pure; the driver makes the call.

use chrono::{DateTime, Duration, Utc};

use super::{Step, UNCLEAR_MINUTES, hold::may_be_hidden, later, spread_ms};
use crate::process::{ProcessCommand, RefundRef, Task};
use crate::{
    provider::{CallOutcome, Decline, RefundStatus},
    refund::{State, Status},
};

/// How long the provider's books are looked at after a person has decided a refund, days.
pub const LOOKED_ON_DAYS: i64 = 30;

/// What is still to be heard of a refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// How it ends; it may be asked for again.
    Outcome,
    /// Whether the books bear a person out, who has decided. It is never asked for again: its money may have gone another way.
    Books {
        /// The person found that it went back.
        sent: bool,
    },
    /// Nothing: the provider has said how it ended.
    Nothing,
}

/// What is still to be heard of a refund, by what is known of it.
pub fn awaited(refund: &State) -> Awaited {
    let sent = refund.resolved_by_person.as_ref().map(|said| said.sent);
    match (refund.status, sent) {
        (Status::Absent | Status::Pending, _) => Awaited::Outcome,
        (Status::Succeeded, Some(true)) if refund.provider_reference.is_none() => Awaited::Books { sent: true },
        (Status::Failed, Some(false)) => Awaited::Books { sent: false },
        (Status::Succeeded | Status::Failed, _) => Awaited::Nothing,
    }
}

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
        // The repeat of what was taken is refused as well, and the books may not show it yet.
        CallOutcome::Declined(_) if may_be_hidden(refund.uncertain_since, now) => unclear(refund, Task::CheckRefund, now),
        CallOutcome::Declined(decline) => ended(&refund, decline, true),
        CallOutcome::Done(RefundStatus::Failed(decline)) => failed(&refund, decline),
        CallOutcome::Done(RefundStatus::Pending { .. }) => waits(reached(refund), now),
        CallOutcome::Done(RefundStatus::NotFound) => unclear(reached(refund), Task::CheckRefund, now),
        CallOutcome::NotAttempted(_) => unclear(refund, Task::Refund, now),
        // Money may have gone back: look before anything else.
        CallOutcome::Unknown(reason) => {
            let since = refund.unclear_since.unwrap_or(now);
            let unknown = ProcessCommand::MarkRefundUnknown { refund_id: refund.refund_id, reason, since };
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

/// After asking whether a refund was carried out that a person has decided meanwhile.
pub fn after_decided_check(refund: RefundRef, sent: bool, outcome: CallOutcome<RefundStatus>, now: DateTime<Utc>) -> Step {
    // What the provider still has counts from its last word.
    let waits = matches!(outcome, CallOutcome::Done(RefundStatus::Pending { .. }));
    let commands = match outcome {
        CallOutcome::Done(RefundStatus::Failed(decline)) => return failed(&refund, decline),
        CallOutcome::Done(RefundStatus::Succeeded { provider_reference }) if sent => return succeeded(&refund, provider_reference),
        // It may have been another refund that the books show: then they are looked at on.
        CallOutcome::Done(RefundStatus::Succeeded { provider_reference }) => succeeded(&refund, provider_reference).commands,
        CallOutcome::Done(RefundStatus::Pending { .. } | RefundStatus::NotFound)
        | CallOutcome::Declined(_)
        | CallOutcome::NotAttempted(_)
        | CallOutcome::Unknown(_) => vec![],
    };
    let (tried, since) = (refund.tried.saturating_add(1), refund.decided_since.filter(|_| !waits).unwrap_or(now));
    let over = now >= since + Duration::days(LOOKED_ON_DAYS);
    let next = Task::CheckRefund(RefundRef { tried, decided_since: Some(since), ..refund });
    Step { commands, next: (!over).then(|| (next, later(now, refund_delay_ms(tried)))) }
}

fn succeeded(refund: &RefundRef, provider_reference: String) -> Step {
    Step { commands: vec![ProcessCommand::SucceedRefund { refund_id: refund.refund_id, provider_reference }], next: None }
}

/// By the provider's books.
fn failed(refund: &RefundRef, decline: Decline) -> Step {
    ended(refund, decline, false)
}

fn ended(refund: &RefundRef, Decline { code, message }: Decline, refused: bool) -> Step {
    Step { commands: vec![ProcessCommand::FailRefund { refund_id: refund.refund_id, code, message, refused }], next: None }
}

/// When a call about a refund is repeated.
fn repeated(now: DateTime<Utc>, refund: &RefundRef, tried: u32) -> DateTime<Utc> {
    later(now, spread_ms(refund_delay_ms(tried), &refund.refund_id.to_string(), tried))
}

/// The provider has it, and will say how it ends.
fn waits(refund: RefundRef, now: DateTime<Utc>) -> Step {
    let tried = refund.tried.saturating_add(1);
    let due = repeated(now, &refund, tried);
    let next = Task::CheckRefund(RefundRef { tried, unclear_since: None, ..refund });
    Step { commands: vec![], next: Some((next, due)) }
}

/// No answer says how it stands. It is gone on with for ever, and once that has lasted a person is told.
fn unclear(refund: RefundRef, next: fn(RefundRef) -> Task, now: DateTime<Utc>) -> Step {
    let refund_id = refund.refund_id;
    let (tried, since) = (refund.tried.saturating_add(1), refund.unclear_since.unwrap_or(now));
    let told_at = since + Duration::minutes(UNCLEAR_MINUTES);
    let late = now >= told_at;
    let due = repeated(now, &refund, tried);
    Step {
        commands: if late { vec![ProcessCommand::LeaveRefundToPerson { refund_id, at: now }] } else { vec![] },
        // The person is told after a look, so there is one at that time.
        next: Some((next(RefundRef { tried, unclear_since: Some(since), ..refund }), if late { due } else { due.min(told_at) })),
    }
}

#[cfg(test)]
#[path = "refund_tests.rs"]
mod tests;
