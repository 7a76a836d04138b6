//! The rules of a payment intent: what follows from a command, and what an event changes.

use chrono::{DateTime, NaiveDate, Utc};

use super::{
    ActionRequired, Attempt, AttemptFailed, AttemptStarted, CancelRequested, Canceled, Command, Created, Disputed, Event, Expired,
    OutcomeUnknown, PaymentReport, RefundEntry, RefundReleased, RefundReserved, RefundSettled, Rejection, State, Status, Succeeded,
    UnmatchedPaymentReceived, UnmatchedReason,
};
use crate::{
    decider::Aggregate,
    envelope::StreamType,
    ids::{AttemptId, RefundId},
    merchant::is_text,
    money::Money,
    order::MAX_PRICE,
};

/// The decider.
pub struct PaymentIntent;

impl Aggregate for PaymentIntent {
    const STREAM_TYPE: StreamType = StreamType::PaymentIntent;
    const STATE_SCHEMA: i16 = 2;
    type Command = Command;
    type Event = Event;
    type State = State;
    type Rejection = Rejection;

    fn decide(state: &State, command: Command) -> Result<Vec<Event>, Rejection> {
        let details = match command {
            Command::Create(details) => return create(state, *details),
            Command::StartAttempt { .. }
            | Command::RequireAction { .. }
            | Command::FailAttempt { .. }
            | Command::MarkOutcomeUnknown { .. }
            | Command::RecordTender(_)
            | Command::Dispute { .. }
            | Command::ConfirmFromProvider(_)
            | Command::Cancel { .. }
            | Command::ConfirmCancel
            | Command::Expire { .. }
            | Command::ReserveRefund { .. }
            | Command::SettleRefund { .. }
            | Command::ReleaseRefund { .. } => state.created()?,
        };
        match command {
            Command::Create(_) => Ok(vec![]), // answered above
            Command::StartAttempt { attempt_id, provider, reference, started_at } => {
                start_attempt(state, details, attempt_id, provider, reference, started_at)
            }
            Command::RequireAction { attempt_id, qr_payload } => Ok(require_action(state, attempt_id, qr_payload)),
            Command::FailAttempt { attempt_id, code, message } => Ok(fail_attempt(state, details, attempt_id, code, message)),
            Command::MarkOutcomeUnknown { attempt_id, reason } => {
                let news = state.status == Status::Processing && state.live_attempt(attempt_id).is_some_and(|attempt| !attempt.unknown);
                Ok(if news { vec![OutcomeUnknown { attempt_id, reason }.into()] } else { vec![] })
            }
            Command::RecordTender(report) => record_tender(state, details, report),
            Command::Dispute { reason, disputed_at, business_date } => dispute(state, details, reason, disputed_at, business_date),
            Command::ConfirmFromProvider(report) => Ok(confirm_from_provider(state, details, report)),
            Command::Cancel { reason } => cancel(state, details, reason),
            Command::ConfirmCancel => match (&state.cancel_requested, state.is_open()) {
                (Some(reason), true) => Ok(vec![Canceled { bill_id: details.bill_id, reason: reason.clone() }.into()]),
                (_, false) => Ok(vec![]),
                (None, true) => Err(Rejection::AttemptUnresolved),
            },
            Command::Expire { attempt_id } => {
                let last = state.attempt.as_ref().is_some_and(|attempt| attempt.started.attempt_id == attempt_id);
                Ok(if last && state.is_open() { vec![Expired { bill_id: details.bill_id }.into()] } else { vec![] })
            }
            Command::ReserveRefund { refund_id, amount } => reserve_refund(state, refund_id, amount),
            Command::SettleRefund { refund_id } => settle_refund(state, refund_id),
            Command::ReleaseRefund { refund_id } => Ok(release_refund(state, refund_id)),
        }
    }

    fn evolve(mut state: State, event: &Event) -> State {
        match event {
            Event::Created(details) => {
                state.status = Status::RequiresPaymentMethod;
                state.details = Some(details.clone());
            }
            Event::AttemptStarted(started) => {
                state.status = Status::Processing;
                state.earlier.extend(state.attempt.take().map(|attempt| attempt.started));
                state.attempt = Some(Attempt { started: started.clone(), qr_payload: None, unknown: false, failed: None });
            }
            Event::ActionRequired(action) => {
                state.status = Status::RequiresAction;
                if let Some(attempt) = &mut state.attempt {
                    attempt.qr_payload = Some(action.qr_payload.clone());
                    attempt.unknown = false;
                }
            }
            Event::AttemptFailed(failed) => {
                state.status = Status::RequiresPaymentMethod;
                if let Some(attempt) = &mut state.attempt {
                    attempt.failed = Some(failed.clone());
                }
            }
            Event::OutcomeUnknown(_) => {
                if let Some(attempt) = &mut state.attempt {
                    attempt.unknown = true;
                }
            }
            Event::Succeeded(payment) => {
                state.status = Status::Succeeded;
                state.payment = Some(payment.clone());
            }
            Event::Disputed(disputed) => state.dispute = Some(disputed.clone()),
            Event::UnmatchedPaymentReceived(payment) => state.unmatched.push(payment.clone()),
            Event::CancelRequested(requested) => state.cancel_requested = Some(requested.reason.clone()),
            Event::Canceled(_) => state.status = Status::Canceled,
            Event::Expired(_) => state.status = Status::Expired,
            Event::RefundReserved(reserved) => {
                state.refunds.insert(reserved.refund_id, RefundEntry { amount: reserved.amount, settled: false });
            }
            Event::RefundSettled(settled) => {
                state.refunded_total = settled.refunded_total;
                if let Some(refund) = state.refunds.get_mut(&settled.refund_id) {
                    refund.settled = true;
                }
            }
            Event::RefundReleased(released) => {
                state.refunds.remove(&released.refund_id);
            }
        }
        state
    }
}

fn create(state: &State, details: Created) -> Result<Vec<Event>, Rejection> {
    if state.status != Status::Absent {
        return Err(Rejection::PaymentIntentIdReused);
    }
    if !(1..=MAX_PRICE).contains(&details.amount.amount) {
        return Err(Rejection::AmountNotPositive);
    }
    if details.merchant_reference.as_deref().is_some_and(|text| !is_text(text, 64)) {
        return Err(Rejection::ReferenceInvalid);
    }
    if !details.tender.is_recorded() && details.expires_at.is_none() {
        return Err(Rejection::ExpiryRequired);
    }
    Ok(vec![details.into()])
}

fn start_attempt(
    state: &State,
    details: &Created,
    attempt_id: AttemptId,
    provider: String,
    reference: String,
    started_at: DateTime<Utc>,
) -> Result<Vec<Event>, Rejection> {
    // Live or dead: an attempt is the provider's idempotency key and starts once.
    if state.attempt.as_ref().is_some_and(|attempt| attempt.started.attempt_id == attempt_id) {
        return Ok(vec![]);
    }
    let Some(expires_at) = details.expires_at.filter(|_| !details.tender.is_recorded()) else { return Err(Rejection::TenderIsRecorded) };
    match state.status {
        Status::RequiresPaymentMethod if state.cancel_requested.is_none() => {
            let (payment_intent_id, amount) = (details.payment_intent_id, details.amount);
            Ok(vec![AttemptStarted { payment_intent_id, attempt_id, provider, reference, amount, started_at, expires_at }.into()])
        }
        Status::Processing | Status::RequiresAction => Err(Rejection::AttemptInProgress),
        Status::Absent | Status::RequiresPaymentMethod | Status::Succeeded | Status::Canceled | Status::Expired => {
            Err(Rejection::PaymentIntentNotOpen { status: state.status.as_str() })
        }
    }
}

fn require_action(state: &State, attempt_id: AttemptId, qr_payload: String) -> Vec<Event> {
    let awaited = state.status == Status::Processing && state.live_attempt(attempt_id).is_some();
    if awaited { vec![ActionRequired { attempt_id, qr_payload }.into()] } else { vec![] }
}

fn fail_attempt(state: &State, details: &Created, attempt_id: AttemptId, code: String, message: String) -> Vec<Event> {
    // With a QR on the payer's screen a late refusal proves nothing: the watch decides.
    if state.status != Status::Processing || state.live_attempt(attempt_id).is_none() {
        return vec![];
    }
    vec![AttemptFailed { attempt_id, bill_id: details.bill_id, code, message }.into()]
}

fn record_tender(state: &State, details: &Created, report: PaymentReport) -> Result<Vec<Event>, Rejection> {
    if !details.tender.is_recorded() {
        return Err(Rejection::TenderNotRecorded);
    }
    match state.status {
        Status::Succeeded => return Ok(vec![]),
        Status::RequiresPaymentMethod => {}
        Status::Absent | Status::Processing | Status::RequiresAction | Status::Canceled | Status::Expired => {
            return Err(Rejection::PaymentIntentNotOpen { status: state.status.as_str() });
        }
    }
    if report.amount != details.amount {
        return Err(Rejection::TenderAmountDiffers);
    }
    if !(0..=MAX_PRICE).contains(&report.tip) {
        return Err(Rejection::TipInvalid);
    }
    if report.acquirer.as_deref().is_some_and(|text| !is_text(text, 64)) {
        return Err(Rejection::AcquirerInvalid);
    }
    let collected = details.amount.amount.saturating_add(report.cash_rounding).saturating_add(report.tip);
    if report.cash_received.is_some_and(|received| received < collected) {
        return Err(Rejection::TenderedBelowAmount);
    }
    Ok(vec![succeeded(details, report, collected).into()])
}

fn succeeded(details: &Created, report: PaymentReport, collected: i64) -> Succeeded {
    Succeeded {
        payment_intent_id: details.payment_intent_id,
        bill_id: details.bill_id,
        tender: details.tender,
        attempt_id: report.attempt_id,
        transaction_id: report.transaction_id,
        amount: report.amount,
        paid_at: report.paid_at,
        evidence: report.evidence,
        cash_received: report.cash_received,
        cash_change: report.cash_received.map(|received| received.saturating_sub(collected)),
        cash_rounding: report.cash_rounding,
        tip: report.tip,
        acquirer: report.acquirer,
    }
}

fn dispute(
    state: &State,
    details: &Created,
    reason: String,
    disputed_at: DateTime<Utc>,
    business_date: NaiveDate,
) -> Result<Vec<Event>, Rejection> {
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
    };
    Ok(vec![disputed.into()])
}

/// Never refuses: money that the provider shows is a fact, whatever state we are in.
fn confirm_from_provider(state: &State, details: &Created, report: PaymentReport) -> Vec<Event> {
    let transaction_id = report.transaction_id.clone().unwrap_or_default();
    if state.knows_transaction(&transaction_id) {
        return vec![];
    }
    let why = match state.status {
        Status::Succeeded => UnmatchedReason::Duplicate,
        Status::Canceled | Status::Expired => UnmatchedReason::Late,
        Status::Absent | Status::RequiresPaymentMethod | Status::Processing | Status::RequiresAction => {
            if report.amount == details.amount {
                let collected = report.amount.amount;
                return vec![succeeded(details, report, collected).into()];
            }
            UnmatchedReason::AmountDiffers
        }
    };
    vec![UnmatchedPaymentReceived { why, transaction_id, amount: report.amount, paid_at: report.paid_at }.into()]
}

fn cancel(state: &State, details: &Created, reason: String) -> Result<Vec<Event>, Rejection> {
    if !is_text(&reason, 200) {
        return Err(Rejection::ReasonRequired);
    }
    match (state.status, &state.attempt) {
        (Status::Canceled, _) => Ok(vec![]),
        (Status::RequiresPaymentMethod, _) => Ok(vec![Canceled { bill_id: details.bill_id, reason }.into()]),
        (Status::Processing | Status::RequiresAction, _) if state.cancel_requested.is_some() => Ok(vec![]),
        (Status::Processing | Status::RequiresAction, Some(attempt)) => {
            Ok(vec![CancelRequested { attempt: attempt.started.clone(), reason }.into()])
        }
        (Status::Absent | Status::Succeeded | Status::Expired | Status::Processing | Status::RequiresAction, _) => {
            Err(Rejection::PaymentIntentNotOpen { status: state.status.as_str() })
        }
    }
}

fn reserve_refund(state: &State, refund_id: RefundId, amount: Money) -> Result<Vec<Event>, Rejection> {
    if state.refunds.contains_key(&refund_id) {
        return Ok(vec![]);
    }
    let Some(payment) = &state.payment else { return Err(Rejection::NotCaptured { status: state.status.as_str() }) };
    if state.dispute.is_some() {
        return Err(Rejection::PaymentDisputed);
    }
    if amount.currency != payment.amount.currency {
        return Err(Rejection::CurrencyMismatch);
    }
    if !amount.is_positive() {
        return Err(Rejection::AmountNotPositive);
    }
    let refundable = state.refundable();
    if amount.amount > refundable {
        return Err(Rejection::RefundExceedsCaptured { refundable });
    }
    Ok(vec![RefundReserved { refund_id, amount: amount.amount }.into()])
}

fn settle_refund(state: &State, refund_id: RefundId) -> Result<Vec<Event>, Rejection> {
    let refund = state.refunds.get(&refund_id).ok_or(Rejection::RefundUnknown)?;
    if refund.settled {
        return Ok(vec![]);
    }
    let refunded_total = state.refunded_total.saturating_add(refund.amount);
    Ok(vec![RefundSettled { refund_id, amount: refund.amount, refunded_total }.into()])
}

fn release_refund(state: &State, refund_id: RefundId) -> Vec<Event> {
    match state.refunds.get(&refund_id) {
        Some(refund) if !refund.settled => vec![RefundReleased { refund_id, amount: refund.amount }.into()],
        Some(_) | None => vec![],
    }
}
