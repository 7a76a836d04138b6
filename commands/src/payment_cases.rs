//! Use cases beside the straight way of a payment: changes, captures, parked money, disputes, what a person decides.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::{
    bill::{self, Bill},
    ids::{PaymentIntentId, RefundId},
    payment_intent::{self, Command, DisputeOutcome, PaymentIntent, Update, Verdict},
    refund::{self, Destination, Refund, Requested},
};

use crate::{
    error::CommandError,
    handle::UnitOfWork,
    payments::{self, business_date, claim_reference, concerns},
};

/// What somebody decides about parked money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The late full payment counts after all.
    Accept,
    /// It goes back the way it came.
    Refund,
    /// It stays with the merchant.
    Keep,
}

/// Changes what is asked for before an attempt is alive. A reference is used once per merchant, whenever it is said.
///
/// # Errors
/// Any rejection of a payment intent; `StaleVersion` when `If-Match` is not its version.
pub async fn update(unit: &mut UnitOfWork, id: PaymentIntentId, update: Update) -> Result<Arc<payment_intent::State>, CommandError> {
    let before = concerns(unit, id).await?;
    let after = ask(unit, id, Command::Update(update)).await?;
    if let (Some(before), Some(after)) = (&before.details, &after.details)
        && let Some(reference) = after.merchant_reference.as_deref()
        && before.merchant_reference != after.merchant_reference
    {
        claim_reference(unit, id, after.store_id, reference);
    }
    Ok(after)
}

/// One command to an intent that changes no other stream: a capture, an increase.
///
/// # Errors
/// Any rejection of a payment intent; `StaleVersion` when `If-Match` is not its version.
pub async fn ask(unit: &mut UnitOfWork, id: PaymentIntentId, command: Command) -> Result<Arc<payment_intent::State>, CommandError> {
    unit.check_if_match::<PaymentIntent>(id).await?;
    concerns(unit, id).await?;
    unit.decide::<PaymentIntent>(id, command).await
}

/// A person says what happened to an attempt whose provider does not tell. Frees the bill when nothing was paid.
///
/// # Errors
/// Any rejection of a payment intent; `StaleVersion` when `If-Match` is not its version.
pub async fn resolve_by_person(
    unit: &mut UnitOfWork,
    id: PaymentIntentId,
    finding: payment_intent::Finding,
    statement_reference: String,
) -> Result<Arc<payment_intent::State>, CommandError> {
    let paid = finding != payment_intent::Finding::NotPaid;
    let before = concerns(unit, id).await?;
    let state = ask(unit, id, Command::ResolveByPerson { finding, statement_reference }).await?;
    // A hold that stands although its capture came to nothing still holds the bill.
    let ended = !paid && state.status != before.status;
    if let (true, Some(bill_id)) = (ended, state.details.as_ref().and_then(|details| details.bill_id)) {
        unit.decide::<Bill>(bill_id, bill::Command::ReleaseReservation { payment_intent_id: id }).await?;
    }
    Ok(state)
}

/// A person says that the payer contests the payment, or one transaction beside it.
///
/// # Errors
/// `UnmatchedNotFound` for a transaction that is not known here; those of [`payments::dispute`].
pub async fn dispute_by_person(
    unit: &mut UnitOfWork,
    id: PaymentIntentId,
    transaction_id: Option<String>,
    reason: String,
    disputed_at: DateTime<Utc>,
) -> Result<Arc<payment_intent::State>, CommandError> {
    must_be_known(unit, id, transaction_id.as_deref()).await?;
    payments::dispute(unit, id, transaction_id, reason, disputed_at).await
}

/// A person says how a dispute ended.
///
/// # Errors
/// `UnmatchedNotFound` for a transaction that is not known here; those of [`resolve_dispute`].
pub async fn resolve_dispute_by_person(
    unit: &mut UnitOfWork,
    id: PaymentIntentId,
    transaction_id: Option<String>,
    outcome: DisputeOutcome,
    resolved_at: DateTime<Utc>,
) -> Result<Arc<payment_intent::State>, CommandError> {
    must_be_known(unit, id, transaction_id.as_deref()).await?;
    resolve_dispute(unit, id, transaction_id, outcome, resolved_at).await
}

/// The books may know the payment by another name than ours; a person who names what is not here is mistaken.
async fn must_be_known(unit: &mut UnitOfWork, id: PaymentIntentId, transaction_id: Option<&str>) -> Result<(), CommandError> {
    let Some(transaction_id) = transaction_id else { return Ok(()) };
    let state = unit.state::<PaymentIntent>(id).await?;
    if state.details.is_some() && !state.knows_transaction(transaction_id) {
        return Err(CommandError::Rejected(payment_intent::Rejection::UnmatchedNotFound.into()));
    }
    Ok(())
}

/// The dispute is decided.
///
/// # Errors
/// Any rejection of a payment intent.
pub async fn resolve_dispute(
    unit: &mut UnitOfWork,
    id: PaymentIntentId,
    transaction_id: Option<String>,
    outcome: DisputeOutcome,
    resolved_at: DateTime<Utc>,
) -> Result<Arc<payment_intent::State>, CommandError> {
    let business_date = business_date(unit, id, resolved_at).await?;
    unit.decide::<PaymentIntent>(id, Command::ResolveDispute { transaction_id, outcome, resolved_at, business_date }).await
}

/// Somebody decides about money that does not close the intent. To send it back, a refund out of that very transaction follows.
///
/// # Errors
/// Any rejection of a payment intent or a refund.
pub async fn resolve_unmatched(
    unit: &mut UnitOfWork,
    id: PaymentIntentId,
    transaction_id: &str,
    decision: Decision,
    reason: String,
) -> Result<Arc<payment_intent::State>, CommandError> {
    let before = concerns(unit, id).await?;
    let refund_id: RefundId = unit.next_id();
    let verdict = match decision {
        Decision::Accept => Verdict::Accept,
        Decision::Refund => Verdict::Refund(refund_id),
        Decision::Keep => Verdict::Keep,
    };
    let command = Command::ResolveUnmatched { transaction_id: transaction_id.to_owned(), verdict, reason: reason.clone() };
    let after = unit.decide::<PaymentIntent>(id, command).await?;
    if decision == Decision::Refund {
        request_refund(unit, &before, refund_id, transaction_id, reason).await?;
    }
    Ok(after)
}

async fn request_refund(
    unit: &mut UnitOfWork,
    state: &payment_intent::State,
    refund_id: RefundId,
    transaction_id: &str,
    reason: String,
) -> Result<(), CommandError> {
    let missing = || CommandError::Rejected(payment_intent::Rejection::UnmatchedNotFound.into());
    let details = state.details.as_ref().ok_or_else(missing)?;
    let found = state.unmatched.iter().find(|payment| payment.received.transaction_id == transaction_id);
    let received = &found.ok_or_else(missing)?.received;
    let attempt = received.attempt_id.and_then(|id| state.attempt_named(id)).ok_or_else(missing)?;
    let now = unit.now();
    let payment = state.provider_payment(attempt.attempt_id, transaction_id, received.amount, received.paid_at);
    let requested = Requested {
        refund_id,
        payment_intent_id: Some(details.payment_intent_id),
        bill_id: None,
        store_id: details.store_id,
        business_date: business_date(unit, details.payment_intent_id, now).await?,
        amount: received.amount,
        cash_rounding: 0,
        tender: attempt.tender,
        acquirer: None,
        destination: Destination::Original,
        reason,
        provider: payment.map(Box::new),
        breakdown: None,
        unmatched: true,
        fallback_of: None,
    };
    unit.decide::<Refund>(refund_id, refund::Command::Request(Box::new(requested))).await.map(drop)
}
