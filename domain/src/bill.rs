//! Bill: one payer's request for payment, with figures frozen from the order. Stream `bill-{BillId}`.
//!
//! `pending → partially_paid → paid`; `cancelled` (voided) only without money on it.
//! Invariants: figures never change after issue; paid + reserved ≤ total (money beyond that is parked, never dropped);
//! refunded ≤ paid, per payment and in all. Refunds are derived figures, not a state.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    decider::Aggregate,
    envelope::StreamType,
    event::events,
    ids::{BillId, LineId, OrderId, PaymentIntentId, RefundId, StoreId},
    merchant::is_text,
    money::Currency,
    payment_intent::Tender,
    pricing::{TaxProfile, TaxTotal},
    rejection::rejections,
};

/// One line as billed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BillLine {
    /// The order line.
    pub line_id: LineId,
    /// The order that it comes from; bills may join orders.
    pub order_id: OrderId,
    /// The catalogue's code.
    pub item_code: String,
    /// Name as sold.
    pub name: String,
    /// Thousandths of a piece.
    pub quantity_milli: i64,
    /// Minor units for one piece.
    pub unit_price: i64,
    /// Quantity × price, rounded, minor units.
    pub gross: i64,
    /// All discounts on it, minor units.
    pub discount: i64,
    /// Its part of the service charge.
    pub service_charge: i64,
    /// Its part of the tax.
    pub tax: i64,
    /// What it adds to the bill's total.
    pub total: i64,
}

/// Bill issued with frozen figures. All amounts in minor units of `currency`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Issued {
    /// The bill.
    pub bill_id: BillId,
    /// Where.
    pub store_id: StoreId,
    /// The orders on it.
    pub order_ids: Vec<OrderId>,
    /// The store's business date at issue.
    pub business_date: NaiveDate,
    /// Of every amount on it.
    pub currency: Currency,
    /// As frozen in the order.
    pub tax_profile: TaxProfile,
    /// Lines in order.
    pub lines: Vec<BillLine>,
    /// Sum of gross.
    pub subtotal: i64,
    /// Sum of discounts.
    pub discount: i64,
    /// Service charge.
    pub service_charge: i64,
    /// Tax (contained in the total, whatever the mode).
    pub tax: i64,
    /// Untaxed amount outside the lines, signed.
    pub adjustment: i64,
    /// What is asked for.
    pub total: i64,
    /// Tax by class.
    pub taxes: Vec<TaxTotal>,
}

/// A payment under way holds part of what is due, so that two devices cannot take it twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PaymentReserved {
    /// The payment under way.
    pub payment_intent_id: PaymentIntentId,
    /// Minor units held.
    pub amount: i64,
}

/// The payment under way came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReservationReleased {
    /// The payment.
    pub payment_intent_id: PaymentIntentId,
    /// Minor units freed.
    pub amount: i64,
}

/// Captured money put against the bill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PaymentAllocated {
    /// The payment.
    pub payment_intent_id: PaymentIntentId,
    /// How it was tendered.
    pub tender: Tender,
    /// Minor units that settle the bill.
    pub amount: i64,
    /// Cash rounding collected beside `amount`, signed, minor units; untaxed, not part of the total.
    pub cash_rounding: i64,
    /// Sum settled now.
    pub paid_total: i64,
}

/// Money beyond what was due: kept on record until someone sends it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OverpaymentParked {
    /// The payment.
    pub payment_intent_id: PaymentIntentId,
    /// How it was tendered.
    pub tender: Tender,
    /// Minor units that nothing on this bill asks for.
    pub amount: i64,
}

/// The whole total is settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Paid {
    /// The bill.
    pub bill_id: BillId,
    /// The orders that can be completed.
    pub order_ids: Vec<OrderId>,
    /// Minor units.
    pub total: i64,
}

/// Taken back before any money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Voided {
    /// Why.
    pub reason: String,
}

/// Money of this bill was given back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefundRecorded {
    /// The refund.
    pub refund_id: RefundId,
    /// Out of which payment.
    pub payment_intent_id: PaymentIntentId,
    /// Minor units.
    pub amount: i64,
    /// Sum given back now.
    pub refunded_total: i64,
}

events! {
    /// Facts of a bill.
    {
        /// Issued with frozen figures.
        Issued = "bill.issued" v 1;
        /// Part of what is due is held by a payment under way.
        PaymentReserved = "bill.payment_reserved" v 1;
        /// The payment under way came to nothing.
        ReservationReleased = "bill.reservation_released" v 1;
        /// Captured money put against the bill.
        PaymentAllocated = "bill.payment_allocated" v 1;
        /// Money beyond what was due.
        OverpaymentParked = "bill.overpayment_parked" v 1;
        /// The whole total is settled.
        Paid = "bill.paid" v 1;
        /// Taken back before any money.
        Voided = "bill.voided" v 1;
        /// Money of this bill was given back.
        RefundRecorded = "bill.refund_recorded" v 1;
    }
}

/// What can be asked of a bill.
#[derive(Debug, Clone)]
pub enum Command {
    /// Issue it.
    Issue(Box<Issued>),
    /// Hold part of what is due for a payment about to start.
    ReservePayment {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// Minor units.
        amount: i64,
        /// Must be the bill's.
        currency: Currency,
    },
    /// Free what a failed payment held.
    ReleaseReservation {
        /// The payment.
        payment_intent_id: PaymentIntentId,
    },
    /// Put captured money against the bill. Never refused for a bill that exists: money that came is recorded.
    AllocatePayment {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// How it was tendered.
        tender: Tender,
        /// Minor units that arrived, without cash rounding.
        amount: i64,
        /// Cash rounding collected beside it, signed.
        cash_rounding: i64,
    },
    /// Take it back.
    Void {
        /// Why.
        reason: String,
    },
    /// Record money given back.
    RecordRefund {
        /// The refund.
        refund_id: RefundId,
        /// Out of which payment.
        payment_intent_id: PaymentIntentId,
        /// Minor units.
        amount: i64,
    },
}

rejections! {
    /// Rules of a bill.
    {
        BillNotFound => Missing, "the bill does not exist";
        BillIdReused => State, "a bill with this id exists already";
        TotalsDoNotAdd => Invalid, "the lines of the bill do not add up to its total";
        BillNotPayable { status: &'static str } => State, "the bill is {status} and takes no payment";
        AmountNotPositive => Invalid, "the amount must be positive";
        AmountExceedsDue { due: i64 } => State, "the amount is more than what is still due ({due} minor units)";
        CurrencyMismatch { expected: Currency } => Invalid, "the bill is in {expected}";
        BillHasPayments => State, "money is on the bill or under way; refund or cancel it first";
        ReasonRequired => Invalid, "a reason of 1 to 200 characters is required";
        RefundExceedsRefundable { refundable: i64 } => State, "at most {refundable} minor units of this payment can be given back";
    }
}

/// Life of a bill.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Never issued.
    #[default]
    Absent,
    /// Nothing settled yet.
    Pending,
    /// Settled in part.
    PartiallyPaid,
    /// Settled.
    Paid,
    /// Taken back.
    Cancelled,
}

impl Status {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Pending => "pending",
            Self::PartiallyPaid => "partially_paid",
            Self::Paid => "paid",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Money of one payment on this bill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    /// How it was tendered.
    pub tender: Tender,
    /// Minor units that settle the bill.
    pub amount: i64,
    /// Minor units beyond what was due.
    pub parked: i64,
    /// Cash rounding, signed.
    pub cash_rounding: i64,
    /// Given back so far.
    pub refunded: i64,
}

/// What is remembered. Amounts in minor units.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Life.
    pub status: Status,
    /// As issued.
    pub details: Option<Issued>,
    /// Held by payments under way.
    pub reservations: BTreeMap<PaymentIntentId, i64>,
    /// Money on the bill.
    pub allocations: BTreeMap<PaymentIntentId, Allocation>,
    /// Refunds recorded.
    pub refunds: BTreeMap<RefundId, i64>,
    /// Sum settled.
    pub paid_total: i64,
    /// Sum given back.
    pub refunded_total: i64,
}

impl State {
    /// What is neither settled nor held by a payment under way, minor units.
    pub fn due(&self) -> i64 {
        self.outstanding().saturating_sub(self.reservations.values().sum())
    }

    /// What is not settled, minor units.
    pub fn outstanding(&self) -> i64 {
        self.details.as_ref().map_or(0, |details| details.total.saturating_sub(self.paid_total))
    }

    fn issued(&self) -> Result<&Issued, Rejection> {
        self.details.as_ref().ok_or(Rejection::BillNotFound)
    }
}

/// The decider.
pub struct Bill;

impl Aggregate for Bill {
    const STREAM_TYPE: StreamType = StreamType::Bill;
    const STATE_SCHEMA: i16 = 1;
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
            Command::AllocatePayment { payment_intent_id, tender, amount, cash_rounding } => {
                allocate(state, payment_intent_id, tender, amount, cash_rounding)
            }
            Command::Void { reason } => void(state, reason),
            Command::RecordRefund { refund_id, payment_intent_id, amount } => record_refund(state, refund_id, payment_intent_id, amount),
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
            }
            Event::OverpaymentParked(parked) => {
                state.reservations.remove(&parked.payment_intent_id);
                allocation_of(&mut state, parked.payment_intent_id, parked.tender).parked = parked.amount;
            }
            Event::Paid(_) => state.status = Status::Paid,
            Event::Voided(_) => state.status = Status::Cancelled,
            Event::RefundRecorded(recorded) => {
                state.refunds.insert(recorded.refund_id, recorded.amount);
                state.refunded_total = recorded.refunded_total;
                if let Some(allocation) = state.allocations.get_mut(&recorded.payment_intent_id) {
                    allocation.refunded = allocation.refunded.saturating_add(recorded.amount);
                }
            }
        }
        state
    }
}

fn allocation_of(state: &mut State, payment: PaymentIntentId, tender: Tender) -> &mut Allocation {
    let empty = Allocation { tender, amount: 0, parked: 0, cash_rounding: 0, refunded: 0 };
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
        Status::Absent | Status::Paid | Status::Cancelled => {
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

fn allocate(state: &State, payment: PaymentIntentId, tender: Tender, amount: i64, cash_rounding: i64) -> Result<Vec<Event>, Rejection> {
    let details = state.issued()?;
    if state.allocations.contains_key(&payment) {
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
        events.push(PaymentAllocated { payment_intent_id: payment, tender, amount: applied, cash_rounding, paid_total }.into());
    }
    if amount > applied {
        events.push(OverpaymentParked { payment_intent_id: payment, tender, amount: amount - applied }.into());
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
    let money = state.status != Status::Pending || !state.reservations.is_empty() || !state.allocations.is_empty();
    if money {
        return Err(Rejection::BillHasPayments);
    }
    if !is_text(&reason, 200) {
        return Err(Rejection::ReasonRequired);
    }
    Ok(vec![Voided { reason }.into()])
}

fn record_refund(state: &State, refund_id: RefundId, payment: PaymentIntentId, amount: i64) -> Result<Vec<Event>, Rejection> {
    state.issued()?;
    if state.refunds.contains_key(&refund_id) {
        return Ok(vec![]);
    }
    let refundable = state
        .allocations
        .get(&payment)
        .map_or(0, |allocation| allocation.amount.saturating_add(allocation.parked).saturating_sub(allocation.refunded));
    if amount <= 0 {
        return Err(Rejection::AmountNotPositive);
    }
    if amount > refundable {
        return Err(Rejection::RefundExceedsRefundable { refundable });
    }
    let refunded_total = state.refunded_total.saturating_add(amount);
    Ok(vec![RefundRecorded { refund_id, payment_intent_id: payment, amount, refunded_total }.into()])
}

#[cfg(test)]
#[path = "bill_tests.rs"]
mod tests;
