//! Refunds on which a person has decided, out of a statement, and what the provider's books say of them later.

use std::sync::Arc;

use domain::{
    bill::{self, Bill},
    ids::{PaymentIntentId, RefundId},
    payment_intent::{self, PaymentIntent},
    refund::{self, Destination, Refund, Requested, Status},
};

use crate::{bills, error::CommandError, handle::UnitOfWork, payments, refunds::concerns};

/// A person says, out of a statement, how a refund ended that was left to one.
///
/// # Errors
/// Any rejection of a refund; `StaleVersion` when `If-Match` is not its version.
pub async fn resolve_by_person(
    unit: &mut UnitOfWork,
    refund_id: RefundId,
    sent: bool,
    statement_reference: String,
) -> Result<Arc<refund::State>, CommandError> {
    unit.check_if_match::<Refund>(refund_id).await?;
    concerns(unit, refund_id).await?;
    unit.decide::<Refund>(refund_id, refund::Command::ResolveByPerson { sent, statement_reference }).await
}

/// The provider's books show that the money of a refund went back. Where a person had declared it not sent, somebody must be told.
///
/// # Errors
/// Any rejection of a refund.
pub async fn succeed(unit: &mut UnitOfWork, refund_id: RefundId, provider_reference: String) -> Result<(), CommandError> {
    let before = concerns(unit, refund_id).await?;
    let alarm = before.is_declared_unsent();
    if alarm && may_be_another(unit, &before, &provider_reference).await? {
        return Ok(());
    }
    let command = refund::Command::Succeed { provider_reference: Some(provider_reference) };
    let after = unit.decide::<Refund>(refund_id, command).await?;
    if alarm && after.status == Status::Succeeded {
        metrics::counter!("smartpos_refunds_found_sent_total").increment(1);
        tracing::error!(%refund_id, "a refund that a person had declared not sent was sent: its money is gone");
    }
    Ok(())
}

/// Whether what the books show is, or may be, another refund of the same money: some providers tell that a payment went back and not by
/// which refund, and then one that is under way or done explains it.
async fn may_be_another(unit: &mut UnitOfWork, refund: &refund::State, provider_reference: &str) -> Result<bool, CommandError> {
    let Some(Requested { refund_id, payment_intent_id: Some(intent), provider: Some(payment), .. }) = &refund.details else {
        return Ok(false);
    };
    // Another one was asked for before the books could show it, so that whoever knows the log knows of it.
    unit.rest_on_reads();
    let nameless = payment.went_back_as_a_whole(provider_reference);
    let known = unit.state::<PaymentIntent>(*intent).await?.refunds_at_provider();
    for other in known {
        let state = unit.state::<Refund>(other).await?;
        let Some(Requested { destination: Destination::Original, provider: Some(theirs), .. }) = &state.details else { continue };
        let same = other != *refund_id && theirs.transaction_id == payment.transaction_id;
        let named = state.provider_reference.as_deref() == Some(provider_reference);
        let explains = match state.status {
            Status::Pending => nameless,
            Status::Succeeded => nameless || named,
            Status::Absent | Status::Failed => false,
        };
        if same && explains {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A refund that a person had declared not sent was: its payment counts it, and the bill that this payment paid.
///
/// # Errors
/// Any rejection of a bill.
pub async fn count_found(
    unit: &mut UnitOfWork,
    payment_intent_id: PaymentIntentId,
    refund_id: RefundId,
    amount: i64,
    unmatched_transaction_id: Option<String>,
) -> Result<(), CommandError> {
    payments::concerns(unit, payment_intent_id).await?;
    let command = payment_intent::Command::CountFoundRefund { refund_id, amount, unmatched_transaction_id };
    let intent = unit.decide::<PaymentIntent>(payment_intent_id, command).await?;
    let excess = intent.over_refunded();
    if excess > 0 {
        tracing::error!(%payment_intent_id, %refund_id, excess, "more was given back of a payment than it brought");
    }
    // Money beside the payment never was on its bill.
    let of_payment = intent.refunds.contains_key(&refund_id);
    if let Some(bill_id) = intent.details.as_ref().and_then(|details| details.bill_id).filter(|_| of_payment) {
        bills::concerns(unit, bill_id).await?;
        unit.decide::<Bill>(bill_id, bill::Command::RecordSentRefund { refund_id, payment_intent_id, amount }).await?;
    }
    Ok(())
}
