//! Beside the straight way: changes before an attempt, parked money, disputes, what a person decides.

use chrono::{DateTime, NaiveDate, Utc};

use super::{
    CaptureFailed, Created, DisputeOutcome, DisputeResolved, Disputed, Event, Evidence, Finding, IncreaseFailed, LeftToPerson,
    PaymentReport, ProviderConfirmed, Rejection, Resolution, ResolvedByPerson, State, Status, UnmatchedPayment, UnmatchedReason,
    UnmatchedResolved, Update, Updated, Verdict,
    decide::{failed, succeeded},
};
use crate::{ids::AttemptId, merchant::is_text, money::Money, order::MAX_PRICE};

/// What a caller says in its own words, when it creates an intent and when it changes one.
pub(super) fn check_texts(reference: Option<&str>, description: Option<&str>, terminal: Option<&str>) -> Result<(), Rejection> {
    let is_wrong = |text: Option<&str>, most| text.is_some_and(|text| !is_text(text, most));
    if is_wrong(reference, 64) {
        return Err(Rejection::ReferenceInvalid);
    }
    if is_wrong(description, 200) {
        return Err(Rejection::DescriptionInvalid);
    }
    if is_wrong(terminal, 64) {
        return Err(Rejection::TerminalInvalid);
    }
    Ok(())
}

pub(super) fn update(state: &State, details: &Created, update: Update) -> Result<Vec<Event>, Rejection> {
    match state.status {
        Status::RequiresPaymentMethod => {}
        Status::Processing | Status::RequiresAction | Status::RequiresCapture => return Err(Rejection::AttemptInProgress),
        Status::Absent | Status::Succeeded | Status::Canceled | Status::Expired | Status::Failed => {
            return Err(Rejection::PaymentIntentNotOpen { status: state.status.as_str() });
        }
    }
    let Created { merchant_reference, description, merchant_terminal_id, .. } = details.clone();
    let before = Updated { amount: details.amount, tender: details.tender, merchant_reference, description, merchant_terminal_id };
    let updated = Updated {
        amount: update.amount.unwrap_or(before.amount),
        tender: update.tender.unwrap_or(before.tender),
        merchant_reference: update.merchant_reference.or_else(|| before.merchant_reference.clone()),
        description: update.description.or_else(|| before.description.clone()),
        merchant_terminal_id: update.merchant_terminal_id.or_else(|| before.merchant_terminal_id.clone()),
    };
    if details.tender.is_recorded() || updated.tender.is_recorded() {
        return Err(Rejection::TenderNotProvided);
    }
    if updated.amount.currency != details.amount.currency {
        return Err(Rejection::CurrencyMismatch);
    }
    if !(1..=MAX_PRICE).contains(&updated.amount.amount) {
        return Err(Rejection::AmountNotPositive);
    }
    if updated.amount != details.amount && details.bill_id.is_some() {
        return Err(Rejection::BillAmountFixed);
    }
    check_texts(updated.merchant_reference.as_deref(), updated.description.as_deref(), updated.merchant_terminal_id.as_deref())?;
    Ok(if updated == before { vec![] } else { vec![updated.into()] })
}

pub(super) fn leave_to_person(state: &State, attempt_id: AttemptId, at: DateTime<Utc>) -> Vec<Event> {
    let asked = state.live_attempt(attempt_id).is_some_and(|attempt| attempt.left_to_person.is_none());
    if asked && state.is_open() { vec![LeftToPerson { attempt_id, at }.into()] } else { vec![] }
}

/// Only where the provider does not tell: a person's word never contradicts the books.
pub(super) fn resolve_by_person(
    state: &State,
    details: &Created,
    finding: Finding,
    statement_reference: String,
) -> Result<Vec<Event>, Rejection> {
    if !is_text(&statement_reference, 200) {
        return Err(Rejection::ReasonRequired);
    }
    let attempt = state.left_to_person().ok_or(Rejection::OutcomeNotUnknown)?;
    let attempt_id = attempt.started.attempt_id;
    match finding {
        Finding::NotPaid => {
            let resolved = ResolvedByPerson { attempt_id, paid: false, statement_reference: statement_reference.clone() };
            let code = "not_on_statement".to_owned();
            let ended = match state.held() {
                // The hold stands as before: its watch looks on, and whatever the books show counts.
                Some(_) if attempt.capturing.is_some() => vec![CaptureFailed { attempt_id, code, message: statement_reference }.into()],
                Some(_) if attempt.increasing.is_some() => vec![IncreaseFailed { attempt_id, code, message: statement_reference }.into()],
                // Nothing was asked for that could have come to something.
                Some(_) if state.cancel_requested.is_none() => return Err(Rejection::OutcomeNotUnknown),
                Some(_) | None => failed(state, details, attempt_id, code, statement_reference),
            };
            Ok(std::iter::once(resolved.into()).chain(ended).collect())
        }
        Finding::Paid { transaction_id, amount, paid_at } => {
            // Of a hold what was captured, otherwise what is owed.
            let fits = state.held().map_or(amount == details.amount, |held| {
                attempt.capturing.is_some() && amount.currency == held.amount.currency && (1..=held.amount.amount).contains(&amount.amount)
            });
            if !fits {
                return Err(Rejection::TenderAmountDiffers);
            }
            let resolved = ResolvedByPerson { attempt_id, paid: true, statement_reference };
            let report = by_statement(attempt_id, transaction_id, amount, paid_at);
            Ok(vec![resolved.into(), succeeded(details, report, amount.amount).into()])
        }
    }
}

/// The first sight of the very payment that a person found is no second one.
pub(super) fn confirms_person(state: &State, report: &PaymentReport, transaction_id: &str) -> Option<ProviderConfirmed> {
    let found = state.payment.as_ref().filter(|payment| payment.evidence == Evidence::Statement)?;
    let attempt_id = report.attempt_id.filter(|attempt_id| found.attempt_id == Some(*attempt_id))?;
    let parked = state.unmatched.iter().any(|payment| payment.received.transaction_id == transaction_id);
    let confirms = found.amount == report.amount && !parked;
    confirms.then(|| ProviderConfirmed { attempt_id, transaction_id: transaction_id.to_owned(), paid_at: report.paid_at })
}

fn by_statement(attempt_id: AttemptId, transaction_id: String, amount: Money, paid_at: DateTime<Utc>) -> PaymentReport {
    PaymentReport {
        attempt_id: Some(attempt_id),
        transaction_id: Some(transaction_id),
        amount,
        paid_at,
        evidence: Evidence::Statement,
        cash_received: None,
        cash_rounding: 0,
        tip: 0,
        acquirer: None,
    }
}

pub(super) fn resolve_unmatched(
    state: &State,
    details: &Created,
    transaction_id: &str,
    verdict: Verdict,
    reason: String,
) -> Result<Vec<Event>, Rejection> {
    if !is_text(&reason, 200) {
        return Err(Rejection::ReasonRequired);
    }
    let found = state.unmatched.iter().find(|payment| payment.received.transaction_id == transaction_id);
    let payment = found.ok_or(Rejection::UnmatchedNotFound)?;
    let (resolution, refund_id) = match verdict {
        Verdict::Accept => (Resolution::Accepted, None),
        Verdict::Refund(refund_id) => (Resolution::Refunding, Some(refund_id)),
        Verdict::Keep => (Resolution::Kept, None),
    };
    match payment.resolution {
        Some(_) if payment.refund_id == refund_id && payment.resolution == Some(resolution) => return Ok(vec![]),
        Some(_) => return Err(Rejection::UnmatchedNotFound),
        // What the payer may get by the dispute, or has got, goes back by no refund, and nobody keeps it.
        None if payment.is_contested() => return Err(Rejection::PaymentDisputed),
        None => {}
    }
    let received = &payment.received;
    if resolution == Resolution::Refunding && received.attempt_id.and_then(|id| state.attempt_named(id)).is_none() {
        return Err(Rejection::UnmatchedNotRefundable);
    }
    let resolved = UnmatchedResolved { transaction_id: transaction_id.to_owned(), resolution, refund_id, reason };
    if resolution != Resolution::Accepted {
        return Ok(vec![resolved.into()]);
    }
    let over = matches!(state.status, Status::Canceled | Status::Expired | Status::Failed);
    if !over || received.why != UnmatchedReason::Late || received.amount != details.amount {
        return Err(Rejection::UnmatchedNotAcceptable);
    }
    let report = PaymentReport {
        attempt_id: received.attempt_id,
        transaction_id: Some(received.transaction_id.clone()),
        amount: received.amount,
        paid_at: received.paid_at,
        evidence: Evidence::Inquiry,
        cash_received: None,
        cash_rounding: 0,
        tip: 0,
        acquirer: None,
    };
    Ok(vec![resolved.into(), succeeded(details, report, received.amount.amount).into()])
}

pub(super) fn dispute(
    state: &State,
    details: &Created,
    transaction_id: Option<&str>,
    reason: String,
    disputed_at: DateTime<Utc>,
    business_date: NaiveDate,
) -> Result<Vec<Event>, Rejection> {
    if let Some(beside) = transaction_id.and_then(|transaction_id| state.money_beside(transaction_id)) {
        return dispute_beside(state, details, beside, reason, disputed_at, business_date);
    }
    if state.dispute.is_some() {
        return Ok(vec![]);
    }
    let Some(payment) = &state.payment else { return Err(Rejection::NotCaptured { status: state.status.as_str() }) };
    if !is_text(&reason, 200) {
        return Err(Rejection::ReasonRequired);
    }
    let refundable = state.refundable();
    if refundable <= 0 {
        return Err(Rejection::RefundExceedsCaptured { refundable });
    }
    let disputed = Disputed {
        payment_intent_id: details.payment_intent_id,
        store_id: details.store_id,
        bill_id: details.bill_id,
        business_date,
        tender: payment.tender,
        acquirer: payment.acquirer.clone(),
        amount: Money::new(refundable, payment.amount.currency),
        reason,
        disputed_at,
        unmatched_transaction_id: None,
    };
    Ok(vec![disputed.into()])
}

/// The payer contests money that closed nothing: of the payment nothing is contested.
fn dispute_beside(
    state: &State,
    details: &Created,
    beside: &UnmatchedPayment,
    reason: String,
    disputed_at: DateTime<Utc>,
    business_date: NaiveDate,
) -> Result<Vec<Event>, Rejection> {
    if beside.dispute.is_some() {
        return Ok(vec![]);
    }
    if !is_text(&reason, 200) {
        return Err(Rejection::ReasonRequired);
    }
    let received = &beside.received;
    let attempt = received.attempt_id.and_then(|attempt_id| state.attempt_named(attempt_id));
    let disputed = Disputed {
        payment_intent_id: details.payment_intent_id,
        store_id: details.store_id,
        bill_id: None,
        business_date,
        tender: attempt.map_or(details.tender, |attempt| attempt.tender),
        acquirer: None,
        amount: received.amount,
        reason,
        disputed_at,
        unmatched_transaction_id: Some(received.transaction_id.clone()),
    };
    Ok(vec![disputed.into()])
}

pub(super) fn resolve_dispute(
    state: &State,
    transaction_id: Option<&str>,
    outcome: DisputeOutcome,
    resolved_at: DateTime<Utc>,
    business_date: NaiveDate,
) -> Result<Vec<Event>, Rejection> {
    let (dispute, decided) = match transaction_id.and_then(|transaction_id| state.money_beside(transaction_id)) {
        Some(beside) => (&beside.dispute, beside.dispute_outcome),
        None => (&state.dispute, state.dispute_outcome),
    };
    let disputed = dispute.as_ref().ok_or(Rejection::NotDisputed)?;
    match decided {
        Some(known) if known == outcome => return Ok(vec![]),
        Some(_) => return Err(Rejection::NotDisputed),
        None => {}
    }
    let resolved = DisputeResolved {
        payment_intent_id: disputed.payment_intent_id,
        store_id: disputed.store_id,
        business_date,
        tender: disputed.tender,
        acquirer: disputed.acquirer.clone(),
        outcome,
        amount: disputed.amount,
        resolved_at,
        unmatched_transaction_id: disputed.unmatched_transaction_id.clone(),
    };
    Ok(vec![resolved.into()])
}
