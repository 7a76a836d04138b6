//! Refunds under a payment: the balance out of which they come.

use super::{
    Created, Event, OverRefundAcknowledged, RefundFoundSent, RefundLeftToPerson, RefundReleased, RefundReserved, RefundSettled,
    RefundTakenBack, Rejection, Resolution, State, UnmatchedPayment, UnmatchedRefunded, UnmatchedReopened,
};
use crate::{ids::RefundId, merchant::is_text, money::Money};

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
        return reopened(state, payment, refund_id);
    }
    if let Some(beyond) = state.refunds_beyond.iter().find(|beyond| beyond.refund_id == refund_id) {
        return vec![RefundTakenBack { refund_id, amount: beyond.amount, refunded_total: state.refunded_total }.into()];
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
        return if open { reopened(state, payment, refund_id) } else { vec![] };
    }
    match state.refunds.get(&refund_id) {
        Some(refund) if !refund.settled => vec![RefundReleased { refund_id, amount: refund.amount }.into()],
        Some(_) | None => vec![],
    }
}

/// The refund of money beside the payment came to nothing. Where another one of it was found to have been sent, that one sent it back.
fn reopened(state: &State, payment: &UnmatchedPayment, refund_id: RefundId) -> Vec<Event> {
    let transaction_id = payment.received.transaction_id.clone();
    let other = state.refunds_beyond.iter().find(|beyond| beyond.transaction_id == transaction_id);
    let sent = other.map(|other| Event::from(UnmatchedRefunded { transaction_id: transaction_id.clone(), refund_id: other.refund_id }));
    std::iter::once(UnmatchedReopened { transaction_id, refund_id }.into()).chain(sent).collect()
}

/// A refund that a person had declared not sent was. Its reserve may have been used for another one meanwhile, or may not be free yet: it
/// counts in any case, and by how much that is too much is recorded.
pub(super) fn count_found(state: &State, refund_id: RefundId, amount: i64, transaction_id: Option<&str>) -> Vec<Event> {
    let settled = state.refunds.get(&refund_id).is_some_and(|refund| refund.settled);
    if settled || state.refunds_beyond.iter().any(|beyond| beyond.refund_id == refund_id) {
        return vec![];
    }
    let parked = transaction_id.and_then(|id| state.unmatched.iter().find(|payment| payment.received.transaction_id == id));
    // Money that was accepted is the payment itself.
    if let Some(payment) = parked.filter(|payment| payment.resolution != Some(Resolution::Accepted)) {
        return count_found_beside(state, payment, refund_id, amount);
    }
    let others = state.refunds.iter().filter(|(id, _)| **id != refund_id);
    let total = others.fold(amount, |sum, (_, refund)| sum.saturating_add(refund.amount));
    let excess = total.saturating_sub(state.captured()).max(0);
    let refunded_total = state.refunded_total.saturating_add(amount);
    vec![RefundFoundSent { refund_id, amount, refunded_total, excess, unmatched_transaction_id: None }.into()]
}

/// Somebody takes note of what was given back beyond what came. Should it become more, somebody has to look again.
pub(super) fn acknowledge(state: &State, details: &Created, amount: Money, reason: String) -> Result<Vec<Event>, Rejection> {
    if !is_text(&reason, 200) {
        return Err(Rejection::ReasonRequired);
    }
    let over_refunded = state.over_refunded();
    if over_refunded <= state.over_refund_acknowledged {
        return Err(Rejection::NotOverRefunded);
    }
    if amount != Money::new(over_refunded, details.amount.currency) {
        return Err(Rejection::OverRefundDiffers { over_refunded });
    }
    Ok(vec![OverRefundAcknowledged { over_refunded, reason }.into()])
}

fn count_found_beside(state: &State, payment: &UnmatchedPayment, refund_id: RefundId, amount: i64) -> Vec<Event> {
    let (transaction_id, own) = (payment.received.transaction_id.clone(), payment.refund_id == Some(refund_id));
    match payment.resolution {
        Some(Resolution::Refunded) if own => vec![],
        Some(Resolution::Refunding | Resolution::Refunded) if !own => {
            let (refunded_total, unmatched_transaction_id) = (state.refunded_total, Some(transaction_id));
            vec![RefundFoundSent { refund_id, amount, refunded_total, excess: amount, unmatched_transaction_id }.into()]
        }
        // Open, or kept by somebody who did not know that it had gone.
        Some(Resolution::Refunding | Resolution::Refunded | Resolution::Kept | Resolution::Accepted) | None => {
            vec![UnmatchedRefunded { transaction_id, refund_id }.into()]
        }
    }
}
