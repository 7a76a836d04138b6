//! Provider work on refunds: what an answer means. Pure; the driver makes the call.

use chrono::{DateTime, Utc};

use super::{
    ProcessCommand, Task,
    work::{Step, later},
};
use crate::{
    ids::RefundId,
    money::Money,
    provider::{CallOutcome, Decline, RefundStatus},
    refund::ProviderPayment,
};

/// Pause before repeat number `tried` of a call about a refund, milliseconds: doubling from 0.5 s to an hour, since a refund may wait
/// for days at its provider.
pub const fn refund_delay_ms(tried: u32) -> i64 {
    let doublings = if tried > 13 { 13 } else { tried };
    let delay = 500_i64 << doublings;
    if delay > 3_600_000 { 3_600_000 } else { delay }
}

/// After asking for money to be sent back.
pub fn after_refund(
    refund_id: RefundId,
    amount: Money,
    payment: ProviderPayment,
    tried: u32,
    uncertain_since: Option<DateTime<Utc>>,
    outcome: CallOutcome<RefundStatus>,
    now: DateTime<Utc>,
) -> Step {
    let tried = tried.saturating_add(1);
    let due = later(now, refund_delay_ms(tried));
    match outcome {
        CallOutcome::Done(RefundStatus::Succeeded { provider_reference }) => {
            let command = ProcessCommand::SucceedRefund { refund_id, provider_reference };
            Step { commands: vec![command], next: None }
        }
        CallOutcome::Done(RefundStatus::Failed(decline)) | CallOutcome::Declined(decline) => {
            let (code, message) = (decline.code, decline.message);
            Step { commands: vec![ProcessCommand::FailRefund { refund_id, code, message }], next: None }
        }
        CallOutcome::Done(RefundStatus::Pending { .. } | RefundStatus::NotFound) => {
            let next = Some((Task::CheckRefund { refund_id, amount, payment, tried, uncertain_since: Some(now) }, due));
            Step { commands: vec![], next }
        }
        CallOutcome::NotAttempted(_) => {
            Step { commands: vec![], next: Some((Task::Refund { refund_id, amount, payment, tried, uncertain_since }, due)) }
        }
        // Money may have gone back: look before anything else.
        CallOutcome::Unknown(reason) => {
            let next = Some((Task::CheckRefund { refund_id, amount, payment, tried, uncertain_since: Some(now) }, due));
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
    uncertain_since: Option<DateTime<Utc>>,
    outcome: CallOutcome<RefundStatus>,
    now: DateTime<Utc>,
) -> Step {
    let tried = tried.saturating_add(1);
    let due = later(now, refund_delay_ms(tried));
    match outcome {
        CallOutcome::Done(RefundStatus::Succeeded { provider_reference }) => {
            Step { commands: vec![ProcessCommand::SucceedRefund { refund_id, provider_reference }], next: None }
        }
        CallOutcome::Done(RefundStatus::Failed(Decline { code, message })) => {
            Step { commands: vec![ProcessCommand::FailRefund { refund_id, code, message }], next: None }
        }
        // The books would show it: the same refund may be asked for again under its own id.
        CallOutcome::Done(RefundStatus::NotFound) => {
            Step { commands: vec![], next: Some((Task::Refund { refund_id, amount, payment, tried, uncertain_since }, due)) }
        }
        // A read that failed says nothing.
        CallOutcome::Done(RefundStatus::Pending { .. })
        | CallOutcome::Declined(_)
        | CallOutcome::NotAttempted(_)
        | CallOutcome::Unknown(_) => {
            Step { commands: vec![], next: Some((Task::CheckRefund { refund_id, amount, payment, tried, uncertain_since }, due)) }
        }
    }
}
