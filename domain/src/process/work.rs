//! Provider work: what a provider's answer means, and whether to ask again. Pure; the driver makes the call.
//!
//! An unknown outcome climbs a ladder: the call is repeated only where the provider treats the repeat as the same thing,
//! the books are asked on a schedule to the deadline and beyond it, and nothing is declared failed without proof.

use chrono::{DateTime, Duration, Utc};

use super::{AttemptRef, InquiryMode, ProcessCommand, Task};
use crate::{
    ids::RefundId,
    money::Money,
    payment_intent::{Evidence, PaymentReport},
    provider::{AttemptStatus, AttemptView, CallOutcome, Decline, NextAction, PaymentSeen, RefundStatus},
    refund::ProviderPayment,
};

/// After the deadline, how long a payment may still be invisible at the provider, milliseconds.
pub const SETTLING_MARGIN_MS: i64 = 5_000;

/// Inquiries after the attempt ended without a payment: minutes after the deadline. Late money is found by these.
const LATE_INQUIRY_MINUTES: [i64; 4] = [1, 5, 15, 60];

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

/// What follows from an answer.
#[derive(Debug, Clone, Default)]
pub struct Step {
    /// Commands to append, each on its own.
    pub commands: Vec<ProcessCommand>,
    /// The task that replaces this one, and when it is due; nothing when it is done.
    pub next: Option<(Task, DateTime<Utc>)>,
}

fn later(now: DateTime<Utc>, ms: i64) -> DateTime<Utc> {
    now + Duration::milliseconds(ms)
}

/// After asking for a QR.
pub fn after_create(attempt: AttemptRef, tried: u32, outcome: CallOutcome<AttemptView>, now: DateTime<Utc>) -> Step {
    let (payment_intent_id, attempt_id) = (attempt.payment_intent_id, attempt.attempt_id);
    // The reference is the same on every repeat, so a repeat makes no second thing to pay; after the deadline nobody needs a QR.
    let again = |attempt: AttemptRef| {
        let due = later(now, retry_delay_ms(tried));
        (due < attempt.expires_at).then(|| (Task::CreateQr { attempt, tried: tried.saturating_add(1) }, due))
    };
    match outcome {
        CallOutcome::Done(view) => {
            let AttemptStatus::ActionRequired(NextAction::ShowQr { payload }) = view.status else { return Step::default() };
            let command = ProcessCommand::RequireAction { payment_intent_id, attempt_id, qr_payload: payload };
            Step { commands: vec![command], next: None }
        }
        CallOutcome::Declined(decline) => {
            let (code, message) = (decline.code, decline.message);
            Step { commands: vec![ProcessCommand::FailAttempt { payment_intent_id, attempt_id, code, message }], next: None }
        }
        CallOutcome::NotAttempted(_) => Step { commands: vec![], next: again(attempt) },
        CallOutcome::Unknown(reason) => {
            let command = ProcessCommand::MarkAttemptUnknown { payment_intent_id, attempt_id, reason };
            Step { commands: vec![command], next: again(attempt) }
        }
    }
}

/// After asking what was paid.
pub fn after_inquiry(attempt: AttemptRef, mode: InquiryMode, asked: u32, outcome: CallOutcome<AttemptView>, now: DateTime<Utc>) -> Step {
    let payment_intent_id = attempt.payment_intent_id;
    let seen = match outcome {
        CallOutcome::Done(view) => view.payments,
        // A read that failed says nothing; ask again on the schedule.
        CallOutcome::Declined(_) | CallOutcome::NotAttempted(_) | CallOutcome::Unknown(_) => {
            let due = later(now, silence_delay_ms(asked));
            let next = Some((Task::Inquire { attempt, mode, asked: asked.saturating_add(1) }, due));
            return Step { commands: vec![], next };
        }
    };
    let kept: Vec<&PaymentSeen> = seen.iter().filter(|payment| !payment.is_reversed()).collect();
    let mut commands: Vec<ProcessCommand> = kept.iter().map(|payment| confirm(&attempt, payment)).collect();
    // Another amount does not close the intent: it is recorded and the watch goes on, so that the intent still ends.
    let closes = kept.iter().any(|payment| payment.amount == attempt.amount);
    if closes || (mode == InquiryMode::Cancel && !commands.is_empty()) {
        return Step { commands, next: None };
    }
    match mode {
        InquiryMode::Cancel => Step { commands: vec![ProcessCommand::ConfirmCancel { payment_intent_id }], next: None },
        InquiryMode::Watch => {
            if now >= later(attempt.expires_at, SETTLING_MARGIN_MS) {
                commands.push(ProcessCommand::ExpirePayment { payment_intent_id, attempt_id: attempt.attempt_id });
            }
            Step { commands, next: next_watch(attempt, asked, now) }
        }
    }
}

/// How often a call-back's transaction is looked for before it is left to a person: about half an hour.
pub const HINT_TRIES: u32 = 60;

/// A call-back to be followed: who spoke of which transaction on which reference, and how often it was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// The provider's name.
    pub provider: String,
    /// Our reference, or the provider's own name for the attempt.
    pub reference: String,
    /// The provider's transaction, if it spoke of one.
    pub transaction_id: Option<String>,
    /// How often it was not found.
    pub tried: u32,
}

/// After asking what was paid because a call-back said so. Everything in the books counts; the hint is done once the books
/// show the very transaction that it spoke of, since they may lag behind the call-back.
pub fn after_hint(attempt: &AttemptRef, hint: Hint, outcome: CallOutcome<AttemptView>, now: DateTime<Utc>) -> Step {
    let CallOutcome::Done(view) = outcome else { return Step { commands: vec![], next: look_again(hint, now) } };
    let seen = view.payments;
    let commands = seen.iter().filter(|payment| !payment.is_reversed()).map(|payment| confirm(attempt, payment)).collect();
    let shown = |transaction_id: &String| seen.iter().any(|payment| payment.transaction_id == *transaction_id);
    let found = hint.transaction_id.as_ref().is_none_or(shown);
    Step { commands, next: if found { None } else { look_again(hint, now) } }
}

/// The next look for a call-back's transaction; nothing when it was looked for often enough.
pub fn look_again(hint: Hint, now: DateTime<Utc>) -> Option<(Task, DateTime<Utc>)> {
    let Hint { provider, reference, transaction_id, tried } = hint;
    let task = Task::FollowHint { provider, reference, transaction_id, tried: tried.saturating_add(1) };
    (tried < HINT_TRIES).then(|| (task, later(now, retry_delay_ms(tried))))
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

fn confirm(attempt: &AttemptRef, payment: &PaymentSeen) -> ProcessCommand {
    ProcessCommand::ConfirmPayment {
        payment_intent_id: attempt.payment_intent_id,
        report: PaymentReport {
            attempt_id: Some(attempt.attempt_id),
            transaction_id: Some(payment.transaction_id.clone()),
            amount: payment.amount,
            paid_at: payment.paid_at,
            evidence: Evidence::Inquiry,
            cash_received: None,
            cash_rounding: 0,
            tip: 0,
            acquirer: None,
        },
    }
}

/// After asking for money to be sent back.
pub fn after_refund(
    refund_id: RefundId,
    amount: Money,
    payment: ProviderPayment,
    tried: u32,
    outcome: CallOutcome<RefundStatus>,
    now: DateTime<Utc>,
) -> Step {
    match outcome {
        CallOutcome::Done(RefundStatus::Succeeded { provider_reference }) => {
            let command = ProcessCommand::SucceedRefund { refund_id, provider_reference };
            Step { commands: vec![command], next: None }
        }
        CallOutcome::Done(RefundStatus::Failed(decline)) => {
            let (code, message) = (decline.code, decline.message);
            Step { commands: vec![ProcessCommand::FailRefund { refund_id, code, message }], next: None }
        }
        CallOutcome::Done(RefundStatus::Pending { .. } | RefundStatus::NotFound) => {
            let tried = tried.saturating_add(1);
            let next = Some((Task::CheckRefund { refund_id, amount, payment, tried }, later(now, retry_delay_ms(tried))));
            Step { commands: vec![], next }
        }
        CallOutcome::Declined(decline) => {
            let (code, message) = (decline.code, decline.message);
            Step { commands: vec![ProcessCommand::FailRefund { refund_id, code, message }], next: None }
        }
        CallOutcome::NotAttempted(_) => {
            let tried = tried.saturating_add(1);
            Step { commands: vec![], next: Some((Task::Refund { refund_id, amount, payment, tried }, later(now, retry_delay_ms(tried)))) }
        }
        // Money may have gone back: look before anything else.
        CallOutcome::Unknown(reason) => {
            let tried = tried.saturating_add(1);
            let next = Some((Task::CheckRefund { refund_id, amount, payment, tried }, later(now, retry_delay_ms(tried))));
            Step { commands: vec![ProcessCommand::MarkRefundUnknown { refund_id, reason }], next }
        }
    }
}

/// After asking whether a refund was carried out.
pub fn after_refund_check(
    refund_id: RefundId,
    amount: Money,
    payment: ProviderPayment,
    tried: u32,
    outcome: CallOutcome<RefundStatus>,
    now: DateTime<Utc>,
) -> Step {
    let tried = tried.saturating_add(1);
    let due = later(now, retry_delay_ms(tried));
    match outcome {
        CallOutcome::Done(RefundStatus::Succeeded { provider_reference }) => {
            Step { commands: vec![ProcessCommand::SucceedRefund { refund_id, provider_reference }], next: None }
        }
        CallOutcome::Done(RefundStatus::Failed(Decline { code, message })) => {
            Step { commands: vec![ProcessCommand::FailRefund { refund_id, code, message }], next: None }
        }
        // The books would show it: the same refund may be asked for again under its own id.
        CallOutcome::Done(RefundStatus::NotFound) => {
            Step { commands: vec![], next: Some((Task::Refund { refund_id, amount, payment, tried }, due)) }
        }
        // A read that failed says nothing.
        CallOutcome::Done(RefundStatus::Pending { .. })
        | CallOutcome::Declined(_)
        | CallOutcome::NotAttempted(_)
        | CallOutcome::Unknown(_) => Step { commands: vec![], next: Some((Task::CheckRefund { refund_id, amount, payment, tried }, due)) },
    }
}

#[cfg(test)]
#[path = "work_tests.rs"]
mod tests;
