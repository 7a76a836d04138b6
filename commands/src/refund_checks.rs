//! Refunds that a call-back may speak of. Call-backs name a payment, not which of its refunds moved, and a refund that had succeeded
//! may fail later: so each refund of the payment is looked up in the provider's books.

use std::sync::{Arc, Mutex, PoisonError};

use domain::{
    ids::PaymentIntentId,
    payment_intent,
    process::{ProcessCommand, RefundRef, work},
    provider::{CallOutcome, RefundStatus},
};

use crate::{
    error::CommandError,
    handle::{Caller, CommandHandler},
    process_store::ProcessStore,
    provider_calls::Calls,
    refunds,
};

/// What the provider's books say of a payment's refunds.
#[derive(Debug, Default)]
pub struct Looked {
    /// What follows.
    pub commands: Vec<ProcessCommand>,
    /// About one of them there was no answer.
    pub unanswered: bool,
}

/// Whether a payment in this state has refunds that [`look`] would look for.
pub fn may_have_some(payment: &payment_intent::State) -> bool {
    !payment.refunds_at_provider().is_empty()
}

/// Asks the provider about each refund of a payment that is under way or was called done; none of it costs a call for a payment
/// without refunds.
///
/// # Errors
/// `Unavailable`, `Corrupt`.
pub async fn look<S: ProcessStore>(
    handler: &CommandHandler,
    caller: &Caller,
    calls: &Calls<S>,
    payment: PaymentIntentId,
) -> Result<Looked, CommandError> {
    let mut looked = Looked::default();
    for refund in known(handler, caller, payment).await? {
        let now = handler.clock().now();
        let outcome = calls.inquire_refund(caller.tenant, &refund, now).await;
        match &outcome {
            CallOutcome::Done(RefundStatus::Succeeded { .. } | RefundStatus::Failed(_)) => {}
            // Its own task goes on asking.
            CallOutcome::Done(RefundStatus::Pending { .. } | RefundStatus::NotFound) | CallOutcome::Declined(_) => continue,
            CallOutcome::NotAttempted(_) | CallOutcome::Unknown(_) => {
                looked.unanswered = true;
                continue;
            }
        }
        looked.commands.extend(work::refund::after_refund_check(refund, outcome, now).commands);
    }
    Ok(looked)
}

async fn known(handler: &CommandHandler, caller: &Caller, payment: PaymentIntentId) -> Result<Vec<RefundRef>, CommandError> {
    let found = Arc::new(Mutex::new(Vec::new()));
    handler
        .transact(caller, |unit| {
            let found = Arc::clone(&found);
            Box::pin(async move {
                let refunds = refunds::at_provider(unit, payment).await?;
                *found.lock().unwrap_or_else(PoisonError::into_inner) = refunds;
                Ok(unit.done())
            })
        })
        .await?;
    Ok(std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner)))
}
