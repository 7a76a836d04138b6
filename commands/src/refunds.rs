//! Use cases of refunds: decided by the payment, followed by the refund's own stream.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::{
    bill::{self, Bill},
    ids::{PaymentIntentId, RefundId, StoreId},
    money::Money,
    payment_intent::{self, PaymentIntent, Tender},
    process::RefundRef,
    refund::{self, Breakdown, Destination, ProviderPayment, Refund, Requested, Status},
    store::Store,
};

use crate::{error::CommandError, handle::UnitOfWork, payments, tenants::trading_store};

/// A refund to be requested.
#[derive(Debug, Clone)]
pub struct NewRefund {
    /// The refund to be.
    pub refund_id: RefundId,
    /// The payment.
    pub payment_intent_id: PaymentIntentId,
    /// How much; without it all that can still be given back.
    pub amount: Option<Money>,
    /// By which way.
    pub destination: Destination,
    /// Why.
    pub reason: String,
    /// When it was given, for historical refunds; otherwise now.
    pub given_at: Option<DateTime<Utc>>,
    /// What is given back, where that is known.
    pub breakdown: Option<Breakdown>,
    /// The refund of the same payment that failed and that this one follows up.
    pub fallback_of: Option<RefundId>,
}

/// A refund without a payment, already given.
#[derive(Debug, Clone)]
pub struct UnlinkedRefund {
    /// The refund to be.
    pub refund_id: RefundId,
    /// Where.
    pub store_id: StoreId,
    /// How much.
    pub amount: Money,
    /// How it was given; a tender that is recorded.
    pub tender: Tender,
    /// Who moved the money for the shop.
    pub acquirer: Option<String>,
    /// Why.
    pub reason: String,
    /// When it was given.
    pub given_at: DateTime<Utc>,
    /// What was given back, where that is known.
    pub breakdown: Option<Breakdown>,
}

/// Records a refund whose payment is not known here (a credit note for a sale of another system).
///
/// # Errors
/// Any rejection of a refund; `StoreNotFound`, `StoreNotActive`.
pub async fn record_unlinked(unit: &mut UnitOfWork, new: UnlinkedRefund) -> Result<Arc<refund::State>, CommandError> {
    let store = trading_store(unit, new.store_id).await?;
    if new.amount.currency != store.currency {
        return Err(CommandError::Rejected(refund::Rejection::CurrencyMismatch { expected: store.currency }.into()));
    }
    let requested = Requested {
        refund_id: new.refund_id,
        payment_intent_id: None,
        bill_id: None,
        store_id: new.store_id,
        business_date: store.business_date(new.given_at),
        amount: new.amount,
        cash_rounding: 0,
        tender: new.tender,
        acquirer: new.acquirer,
        destination: Destination::Original,
        reason: new.reason,
        provider: None,
        breakdown: new.breakdown,
        unmatched: false,
        fallback_of: None,
    };
    unit.decide::<Refund>(new.refund_id, refund::Command::Request(Box::new(requested))).await?;
    unit.decide::<Refund>(new.refund_id, refund::Command::Succeed { provider_reference: None }).await
}

/// Requests a refund within what was captured. Money that staff hand back is recorded as gone at once; money that a
/// provider sends back waits for the provider.
///
/// # Errors
/// Any rejection of a refund, a payment intent or a bill.
pub async fn request(unit: &mut UnitOfWork, new: NewRefund) -> Result<Arc<refund::State>, CommandError> {
    let payment = payments::concerns(unit, new.payment_intent_id).await?;
    let not_found = || CommandError::Rejected(payment_intent::Rejection::PaymentIntentNotFound.into());
    let details = payment.details.as_ref().ok_or_else(not_found)?;
    let currency = details.amount.currency;
    let amount = new.amount.unwrap_or(Money::new(payment.refundable(), currency));
    let (refund_id, payment_intent_id) = (new.refund_id, new.payment_intent_id);
    if let Some(failed) = new.fallback_of {
        check_failed(unit, failed, payment_intent_id).await?;
    }
    unit.decide::<PaymentIntent>(payment_intent_id, payment_intent::Command::ReserveRefund { refund_id, amount }).await?;
    let store = unit.state::<Store>(details.store_id).await?;
    let given_at = new.given_at.unwrap_or_else(|| unit.now());
    let requested = Requested {
        refund_id,
        payment_intent_id: Some(payment_intent_id),
        bill_id: details.bill_id,
        store_id: details.store_id,
        business_date: store.details.as_ref().map_or(given_at.date_naive(), |store| store.business_date(given_at)),
        amount,
        cash_rounding: cash_rounding(&payment, amount, new.destination),
        tender: details.tender,
        acquirer: payment.payment.as_ref().and_then(|payment| payment.acquirer.clone()),
        destination: new.destination,
        reason: new.reason,
        provider: provider_payment(&payment).map(Box::new),
        breakdown: new.breakdown,
        unmatched: false,
        fallback_of: new.fallback_of,
    };
    let by_provider = requested.destination == Destination::Original && !details.tender.is_recorded();
    if by_provider && requested.provider.is_none() {
        return Err(CommandError::Rejected(payment_intent::Rejection::RefundNeedsAttempt.into()));
    }
    let state = unit.decide::<Refund>(refund_id, refund::Command::Request(Box::new(requested))).await?;
    if by_provider {
        return Ok(state);
    }
    let state = unit.decide::<Refund>(refund_id, refund::Command::Succeed { provider_reference: None }).await?;
    unit.decide::<PaymentIntent>(payment_intent_id, payment_intent::Command::SettleRefund { refund_id }).await?;
    if let Some(bill_id) = details.bill_id {
        let command = bill::Command::RecordRefund { refund_id, payment_intent_id, amount: amount.amount };
        unit.decide::<Bill>(bill_id, command).await?;
    }
    Ok(state)
}

/// A refund can follow up only one of the same payment that failed.
async fn check_failed(unit: &mut UnitOfWork, refund_id: RefundId, payment: PaymentIntentId) -> Result<(), CommandError> {
    let earlier = unit.state::<Refund>(refund_id).await?;
    let same = earlier.details.as_ref().is_some_and(|details| details.payment_intent_id == Some(payment) && !details.unmatched);
    if same && earlier.status == Status::Failed {
        return Ok(());
    }
    Err(CommandError::Rejected(refund::Rejection::FallbackNotOfFailure.into()))
}

/// The provider refused a refund in answer to a call, or its books show that what it had called done did not happen: then somebody must be
/// told.
///
/// # Errors
/// Any rejection of a refund.
pub async fn fail(unit: &mut UnitOfWork, refund_id: RefundId, code: String, message: String, refused: bool) -> Result<(), CommandError> {
    let before = concerns(unit, refund_id).await?;
    let alarm = before.status == Status::Succeeded;
    let after = unit.decide::<Refund>(refund_id, refund::Command::Fail { code, message, refused }).await?;
    if alarm && after.status == Status::Failed {
        metrics::counter!("smartpos_refunds_taken_back_total").increment(1);
        tracing::error!(%refund_id, "a refund that had succeeded failed: its money did not go back");
    }
    Ok(())
}

/// The refund, with its store noted.
pub(crate) async fn concerns(unit: &mut UnitOfWork, refund_id: RefundId) -> Result<Arc<refund::State>, CommandError> {
    let state = unit.state::<Refund>(refund_id).await?;
    if let Some(details) = &state.details {
        unit.concerns_store(details.store_id);
    }
    Ok(state)
}

/// Refunds of a payment that its provider may know more of than we do: under way there, said to be done, or declared not sent by a
/// person.
///
/// # Errors
/// `Unavailable`, `Corrupt`.
pub async fn at_provider(unit: &mut UnitOfWork, payment: PaymentIntentId) -> Result<Vec<RefundRef>, CommandError> {
    let state = unit.state::<PaymentIntent>(payment).await?;
    let mut found = Vec::new();
    for refund_id in state.refunds_at_provider() {
        let refund = unit.state::<Refund>(refund_id).await?;
        let Some(Requested { destination: Destination::Original, amount, provider: Some(payment), .. }) = &refund.details else { continue };
        if matches!(refund.status, Status::Pending | Status::Succeeded) || refund.is_declared_unsent() {
            found.push(RefundRef::new(refund_id, *amount, (**payment).clone()));
        }
    }
    Ok(found)
}

/// Only the payment that closed a bill was rounded, so only the refund that empties it takes the rounding back.
fn cash_rounding(payment: &payment_intent::State, amount: Money, destination: Destination) -> i64 {
    let by_hand = destination == Destination::Cash || payment.details.as_ref().is_some_and(|details| details.tender == Tender::Cash);
    let empties = amount.amount == payment.refundable();
    payment.payment.as_ref().filter(|_| by_hand && empties).map_or(0, |paid| paid.cash_rounding)
}

fn provider_payment(payment: &payment_intent::State) -> Option<ProviderPayment> {
    let captured = payment.payment.as_ref()?;
    payment.provider_payment(captured.attempt_id?, captured.transaction_id.as_deref()?, captured.amount, captured.paid_at)
}
