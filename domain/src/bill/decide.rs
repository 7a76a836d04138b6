//! The rules of a bill: what follows from a command, and what an event changes.

use super::{
    Allocation, Command, Event, Issued, OverpaymentParked, Paid, PaymentAllocated, PaymentReserved, RefundRecorded, RefundTakenBack,
    Rejection, ReservationReleased, State, Status, Voided, WrittenOff,
};
use crate::{
    decider::Aggregate,
    envelope::StreamType,
    ids::{PaymentIntentId, RefundId},
    merchant::is_text,
    money::Currency,
    payment_intent::Tender,
};

/// The decider.
pub struct Bill;

impl Aggregate for Bill {
    const STREAM_TYPE: StreamType = StreamType::Bill;
    const STATE_SCHEMA: i16 = 2;
    type Command = Command;
    type Event = Event;
    type State = State;
    type Rejection = Rejection;

    fn decide(state: &State, command: Command) -> Result<Vec<Event>, Rejection> {
        match command {
            Command::Issue(details) => issue(state, *details),
            Command::ReservePayment { payment_intent_id, amount, currency } => reserve(state, payment_intent_id, amount, currency),
            Command::ReleaseReservation { payment_intent_id } => {
                state.issued()?;
                let held = state.reservations.get(&payment_intent_id);
                Ok(held.map(|amount| ReservationReleased { payment_intent_id, amount: *amount }.into()).into_iter().collect())
            }
            Command::AllocatePayment { payment_intent_id, tender, amount, cash_rounding, tip, acquirer } => {
                let money = PaymentAllocated { payment_intent_id, tender, amount, cash_rounding, tip, acquirer, paid_total: 0 };
                allocate(state, money)
            }
            Command::Void { reason } => void(state, reason),
            Command::WriteOff { reason } => write_off(state, reason),
            Command::RecordRefund { refund_id, payment_intent_id, amount } => {
                record_refund(state, refund_id, payment_intent_id, amount, Limit::WhatIsLeft)
            }
            Command::RecordSentRefund { refund_id, payment_intent_id, amount } => {
                record_refund(state, refund_id, payment_intent_id, amount, Limit::AnyPayment)
            }
            Command::TakeBackRefund { refund_id, payment_intent_id } => take_back_refund(state, refund_id, payment_intent_id),
        }
    }

    fn evolve(mut state: State, event: &Event) -> State {
        match event {
            Event::Issued(details) => {
                state.status = Status::Pending;
                state.details = Some(details.clone());
            }
            Event::PaymentReserved(reserved) => {
                state.reservations.insert(reserved.payment_intent_id, reserved.amount);
            }
            Event::ReservationReleased(released) => {
                state.reservations.remove(&released.payment_intent_id);
            }
            Event::PaymentAllocated(allocated) => {
                state.reservations.remove(&allocated.payment_intent_id);
                state.paid_total = allocated.paid_total;
                if state.status == Status::Pending {
                    state.status = Status::PartiallyPaid;
                }
                let allocation = allocation_of(&mut state, allocated.payment_intent_id, allocated.tender);
                allocation.amount = allocated.amount;
                allocation.cash_rounding = allocated.cash_rounding;
                allocation.tip = allocated.tip;
            }
            Event::OverpaymentParked(parked) => {
                state.reservations.remove(&parked.payment_intent_id);
                allocation_of(&mut state, parked.payment_intent_id, parked.tender).parked = parked.amount;
            }
            Event::Paid(_) => state.status = Status::Paid,
            Event::Voided(_) => state.status = Status::Cancelled,
            Event::WrittenOff(_) => state.status = Status::WrittenOff,
            Event::RefundRecorded(recorded) => {
                state.refunds.insert(recorded.refund_id, recorded.amount);
                state.refunded_total = recorded.refunded_total;
                if let Some(allocation) = state.allocations.get_mut(&recorded.payment_intent_id) {
                    allocation.refunded = allocation.refunded.saturating_add(recorded.amount);
                }
            }
            Event::RefundTakenBack(taken) => {
                state.refunds.remove(&taken.refund_id);
                state.refunded_total = taken.refunded_total;
                if let Some(allocation) = state.allocations.get_mut(&taken.payment_intent_id) {
                    allocation.refunded = allocation.refunded.saturating_sub(taken.amount);
                }
            }
        }
        state
    }
}

fn allocation_of(state: &mut State, payment: PaymentIntentId, tender: Tender) -> &mut Allocation {
    let empty = Allocation { tender, amount: 0, parked: 0, cash_rounding: 0, tip: 0, refunded: 0 };
    state.allocations.entry(payment).or_insert(empty)
}

fn issue(state: &State, details: Issued) -> Result<Vec<Event>, Rejection> {
    if let Some(known) = &state.details {
        return if *known == details { Ok(vec![]) } else { Err(Rejection::BillIdReused) };
    }
    let lines: i128 = details.lines.iter().map(|line| i128::from(line.total)).sum();
    if lines + i128::from(details.adjustment) != i128::from(details.total) || details.total < 0 {
        return Err(Rejection::TotalsDoNotAdd);
    }
    // A bill over nothing needs no payment.
    let paid = (details.total == 0).then(|| paid_event(&details));
    Ok(std::iter::once(Event::Issued(details)).chain(paid).collect())
}

fn paid_event(details: &Issued) -> Event {
    Paid { bill_id: details.bill_id, order_ids: details.order_ids.clone(), total: details.total }.into()
}

fn reserve(state: &State, payment: PaymentIntentId, amount: i64, currency: Currency) -> Result<Vec<Event>, Rejection> {
    let details = state.issued()?;
    // Held already, or its money is here: a late repeat must not hold what nothing would free.
    if state.reservations.get(&payment) == Some(&amount) || state.allocations.contains_key(&payment) {
        return Ok(vec![]);
    }
    match state.status {
        Status::Pending | Status::PartiallyPaid => {}
        Status::Absent | Status::Paid | Status::Cancelled | Status::WrittenOff => {
            return Err(Rejection::BillNotPayable { status: state.status.as_str() });
        }
    }
    if currency != details.currency {
        return Err(Rejection::CurrencyMismatch { expected: details.currency });
    }
    if amount <= 0 {
        return Err(Rejection::AmountNotPositive);
    }
    let due = state.due();
    if amount > due {
        return Err(Rejection::AmountExceedsDue { due });
    }
    Ok(vec![PaymentReserved { payment_intent_id: payment, amount }.into()])
}

/// `money` as it came; its amount may be more than what the bill asks for.
fn allocate(state: &State, money: PaymentAllocated) -> Result<Vec<Event>, Rejection> {
    let details = state.issued()?;
    let (payment_intent_id, tender, amount) = (money.payment_intent_id, money.tender, money.amount);
    if state.allocations.contains_key(&payment_intent_id) {
        return Ok(vec![]);
    }
    if amount <= 0 {
        return Err(Rejection::AmountNotPositive);
    }
    let open = matches!(state.status, Status::Pending | Status::PartiallyPaid);
    let applied = if open { amount.min(state.outstanding()) } else { 0 };
    let paid_total = state.paid_total.saturating_add(applied);
    let mut events = Vec::new();
    if applied > 0 {
        events.push(PaymentAllocated { amount: applied, paid_total, ..money }.into());
    }
    if amount > applied {
        events.push(OverpaymentParked { payment_intent_id, tender, amount: amount - applied }.into());
    }
    if open && paid_total == details.total {
        events.push(paid_event(details));
    }
    Ok(events)
}

fn void(state: &State, reason: String) -> Result<Vec<Event>, Rejection> {
    state.issued()?;
    if state.status == Status::Cancelled {
        return Ok(vec![]);
    }
    // Money that went back altogether is no longer on the bill.
    let kept = state.allocations.values().any(|allocation| allocation.refunded < allocation.amount.saturating_add(allocation.parked));
    let open = matches!(state.status, Status::Pending | Status::PartiallyPaid);
    if !open || kept || !state.reservations.is_empty() {
        return Err(Rejection::BillHasPayments);
    }
    if !is_text(&reason, 200) {
        return Err(Rejection::ReasonRequired);
    }
    Ok(vec![Voided { reason }.into()])
}

fn write_off(state: &State, reason: String) -> Result<Vec<Event>, Rejection> {
    let details = state.issued()?;
    match state.status {
        Status::WrittenOff => return Ok(vec![]),
        Status::Pending if state.allocations.is_empty() && state.reservations.is_empty() => {}
        Status::Absent | Status::Pending | Status::PartiallyPaid | Status::Paid | Status::Cancelled => {
            return Err(Rejection::BillNotWrittenOff { status: state.status.as_str() });
        }
    }
    if !is_text(&reason, 200) {
        return Err(Rejection::ReasonRequired);
    }
    let (bill_id, order_ids) = (details.bill_id, details.order_ids.clone());
    Ok(vec![WrittenOff { bill_id, order_ids, amount: details.total, reason }.into()])
}

/// How much can be recorded as given back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Limit {
    /// What is left of what the payment brought.
    WhatIsLeft,
    /// Anything out of a payment that brought something: the money is gone.
    AnyPayment,
}

fn record_refund(state: &State, refund_id: RefundId, payment: PaymentIntentId, amount: i64, limit: Limit) -> Result<Vec<Event>, Rejection> {
    state.issued()?;
    if state.refunds.contains_key(&refund_id) {
        return Ok(vec![]);
    }
    let allocation = state.allocations.get(&payment);
    let left = |allocation: &Allocation| allocation.amount.saturating_add(allocation.parked).saturating_sub(allocation.refunded);
    let refundable = allocation.map_or(0, left).max(0);
    if amount <= 0 {
        return Err(Rejection::AmountNotPositive);
    }
    let gone = limit == Limit::AnyPayment && allocation.is_some();
    if amount > refundable && !gone {
        return Err(Rejection::RefundExceedsRefundable { refundable });
    }
    let refunded_total = state.refunded_total.saturating_add(amount);
    Ok(vec![RefundRecorded { refund_id, payment_intent_id: payment, amount, refunded_total }.into()])
}

fn take_back_refund(state: &State, refund_id: RefundId, payment_intent_id: PaymentIntentId) -> Result<Vec<Event>, Rejection> {
    state.issued()?;
    let Some(amount) = state.refunds.get(&refund_id).copied() else { return Ok(vec![]) };
    let refunded_total = state.refunded_total.saturating_sub(amount);
    Ok(vec![RefundTakenBack { refund_id, payment_intent_id, amount, refunded_total }.into()])
}
