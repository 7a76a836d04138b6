//! Facts of a bill: what is stored for ever.

use chrono::NaiveDate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    event::events,
    ids::{BillId, LineId, OrderId, PaymentIntentId, RefundId, StoreId},
    money::Currency,
    payment_intent::Tender,
    pricing::{TaxProfile, TaxTotal},
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
    /// Minor units for one piece, rounded; a finer price stands exactly on the order's line.
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
    /// Tip collected beside `amount`, minor units; not the shop's revenue, not part of the total.
    pub tip: i64,
    /// Who takes the money in for the shop (acquirer, terminal operator), in the shop's own word.
    pub acquirer: Option<String>,
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

/// What is due will not be collected: a free meal, a guest who left. The total stays on the bill, no money came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WrittenOff {
    /// The bill.
    pub bill_id: BillId,
    /// The orders that can be completed.
    pub order_ids: Vec<OrderId>,
    /// Minor units given up: the whole total.
    pub amount: i64,
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

/// A refund of this bill did not happen after all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefundTakenBack {
    /// The refund.
    pub refund_id: RefundId,
    /// Out of which payment.
    pub payment_intent_id: PaymentIntentId,
    /// Minor units that did not go back.
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
        PaymentAllocated = "bill.payment_allocated" v 2;
        /// Money beyond what was due.
        OverpaymentParked = "bill.overpayment_parked" v 1;
        /// The whole total is settled.
        Paid = "bill.paid" v 1;
        /// Taken back before any money.
        Voided = "bill.voided" v 1;
        /// What is due will not be collected.
        WrittenOff = "bill.written_off" v 1;
        /// Money of this bill was given back.
        RefundRecorded = "bill.refund_recorded" v 1;
        /// It did not happen after all.
        RefundTakenBack = "bill.refund_taken_back" v 1;
    }
}
