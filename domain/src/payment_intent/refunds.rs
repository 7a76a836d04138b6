//! Refunds under a payment: the balance out of which they come.

use super::{
    Event, RefundLeftToPerson, RefundReleased, RefundReserved, RefundSettled, RefundTakenBack, Rejection, Resolution, State,
    UnmatchedPayment, UnmatchedRefunded, UnmatchedReopened,
};
use crate::{ids::RefundId, money::Money};

/// The money beside the payment that this refund sends back.
fn beside(state: &State, refund_id: RefundId) -> Option<&UnmatchedPayment> {
    state.unmatched.iter().find(|payment| payment.refund_id == Some(refund_id))
}

/// Sets money aside, never more than what was captured and not yet given back.
pub(super) fn reserve(state: &State, refund_id: RefundId, amount: Money) -> Result<Vec<Event>, Rejection> {
    if state.refunds.contains_key(&refund_id) {
        return Ok(vec![]);
    }
    let Some(payment) = &state.payment else { return Err(Rejection::NotCaptured { status: state.status.as_str() }) };
    if state.is_contested() {
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

/// The refund was carried out, of the payment or of money beside it.
pub(super) fn settle(state: &State, refund_id: RefundId) -> Result<Vec<Event>, Rejection> {
    if let Some(payment) = beside(state, refund_id) {
        let done = payment.resolution == Some(Resolution::Refunded);
        let transaction_id = payment.received.transaction_id.clone();
        return Ok(if done { vec![] } else { vec![UnmatchedRefunded { transaction_id, refund_id }.into()] });
    }
    let refund = state.refunds.get(&refund_id).ok_or(Rejection::RefundUnknown)?;
    if refund.settled {
        return Ok(vec![]);
    }
    let refunded_total = state.refunded_total.saturating_add(refund.amount);
    Ok(vec![RefundSettled { refund_id, amount: refund.amount, refunded_total }.into()])
}

/// The refund did not happen after all. The balance is as before it, and somebody has to look: the payer lacks the money.
pub(super) fn take_back(state: &State, refund_id: RefundId) -> Vec<Event> {
    if let Some(payment) = beside(state, refund_id) {
        let transaction_id = payment.received.transaction_id.clone();
        return vec![UnmatchedReopened { transaction_id, refund_id }.into()];
    }
    match state.refunds.get(&refund_id) {
        Some(refund) if refund.settled => {
            let refunded_total = state.refunded_total.saturating_sub(refund.amount);
            vec![RefundTakenBack { refund_id, amount: refund.amount, refunded_total }.into()]
        }
        // Not settled here yet: nothing was given back.
        Some(refund) => vec![RefundReleased { refund_id, amount: refund.amount }.into()],
        None => vec![],
    }
}

/// Nobody knows how a refund under way stands; said once.
pub(super) fn leave_to_person(state: &State, refund_id: RefundId) -> Vec<Event> {
    let under_way = match beside(state, refund_id) {
        Some(payment) => payment.resolution == Some(Resolution::Refunding),
        None => state.refunds.get(&refund_id).is_some_and(|refund| !refund.settled),
    };
    let told = state.refunds_left_to_person.contains(&refund_id);
    if under_way && !told { vec![RefundLeftToPerson { refund_id }.into()] } else { vec![] }
}

/// The refund came to nothing.
pub(super) fn release(state: &State, refund_id: RefundId) -> Vec<Event> {
    if let Some(payment) = beside(state, refund_id) {
        let open = payment.resolution == Some(Resolution::Refunding);
        let transaction_id = payment.received.transaction_id.clone();
        return if open { vec![UnmatchedReopened { transaction_id, refund_id }.into()] } else { vec![] };
    }
    match state.refunds.get(&refund_id) {
        Some(refund) if !refund.settled => vec![RefundReleased { refund_id, amount: refund.amount }.into()],
        Some(_) | None => vec![],
    }
}
