//! Rows and what they become: the data between reading, planning and writing.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use commands::tenants::NewStore;
use csv::StringRecord;
use domain::{
    ids::{BillId, LedgerAdjustmentId, LineId, OrderId, PaymentIntentId, RefundId, StoreId},
    money::Money,
    order::OrderType,
    payment_intent::Tender,
    pricing::{TaxClass, WHOLE_MILLI},
    refund::{Breakdown, Destination},
};
use rust_decimal::Decimal;
use serde::{Serialize, Serializer};

/// A row as it was read.
#[derive(Debug, Clone)]
pub struct Row {
    /// Line of the file on which it begins; the header is on line 1.
    pub line: u64,
    /// Byte of the unpacked file at which it ends.
    pub end: u64,
    /// The cells, as many as the header has.
    pub cells: StringRecord,
}

/// Why rows make no sale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowProblem {
    /// The line at fault.
    pub line: u64,
    /// What is wrong.
    pub reason: String,
}

// What a unit means must not change its key when a later build learns more: what is as it always was is left out.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
const fn is_zero(amount: &i64) -> bool {
    *amount == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
const fn is_one_piece(price_base_milli: &i64) -> bool {
    *price_base_milli == WHOLE_MILLI
}

/// A line to be sold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SaleLine {
    /// The line.
    pub line_id: LineId,
    /// The catalogue's code.
    pub item_code: String,
    /// Name as sold.
    pub name: String,
    /// Thousandths of a piece.
    pub quantity_milli: i64,
    /// Minor units for `price_base_milli`.
    pub unit_price: i64,
    /// The quantity that the price buys, thousandths.
    #[serde(skip_serializing_if = "is_one_piece")]
    pub price_base_milli: i64,
    /// Class of tax.
    pub tax_class: TaxClass,
    /// Below zero it becomes an adjustment.
    #[serde(skip)]
    pub may_adjust: bool,
}

/// An untaxed amount outside the lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SaleAdjustment {
    /// Minor units, signed, not zero.
    pub amount: i64,
    /// What it is.
    pub reason: String,
}

/// What was paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SalePayment {
    /// The payment.
    pub payment_intent_id: PaymentIntentId,
    /// How.
    pub tender: Tender,
    /// How much.
    pub amount: Money,
    /// The tip beside it, minor units.
    #[serde(skip_serializing_if = "is_zero")]
    pub tip: i64,
    /// Who took the money in for the shop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acquirer: Option<String>,
    /// Why the payer contests it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dispute: Option<String>,
    /// When, UTC.
    pub paid_at: DateTime<Utc>,
    /// Approval code or invoice number.
    pub transaction_id: Option<String>,
    /// The source's own reference.
    pub merchant_reference: Option<String>,
}

/// One order with its bill and its payment: written whole or not at all. Serialised it is the body of the idempotency
/// key, so that a row that now means something else is noticed.
#[derive(Debug, Clone, Serialize)]
pub struct SaleUnit {
    /// The order's key in the source.
    pub key: String,
    /// The order.
    pub order_id: OrderId,
    /// Its bill.
    pub bill_id: BillId,
    /// Where.
    pub store_id: StoreId,
    /// The store, should it have to be opened.
    #[serde(skip)]
    pub store: Arc<NewStore>,
    /// When it was opened, UTC.
    pub opened_at: DateTime<Utc>,
    /// When the bill was issued, UTC; when the order was opened without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued_at: Option<DateTime<Utc>>,
    /// Number for people.
    pub order_number: Option<String>,
    /// How it was served.
    pub order_type: OrderType,
    /// What was sold.
    pub lines: Vec<SaleLine>,
    /// Amounts outside the lines.
    pub adjustments: Vec<SaleAdjustment>,
    /// What the bill asks for.
    pub total: Money,
    /// The tax in it.
    #[serde(skip)]
    pub tax: i64,
    /// How it was paid; nothing when it was not, or costs nothing.
    pub payment: Option<SalePayment>,
    /// Why nobody will pay it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_off: Option<String>,
    /// What rounding its lines to minor units changed.
    #[serde(skip)]
    pub rounding: LineRounding,
}

/// What rounding lines to minor units changed: rounded less exact, in minor units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LineRounding {
    /// How many lines were not exact.
    pub lines: u64,
    /// Their differences, summed exactly.
    pub difference: Decimal,
}

/// Money given back. Serialised it is the body of the idempotency key, see [`RefundMeaning`].
#[derive(Debug, Clone)]
pub struct RefundUnit {
    /// The refund's own key in the source.
    pub key: String,
    /// The refund.
    pub refund_id: RefundId,
    /// Out of which sale; nothing when that is not known.
    pub link: Option<RefundLink>,
    /// Where.
    pub store_id: StoreId,
    /// The store, should it have to be opened.
    pub store: Arc<NewStore>,
    /// How the sale was paid, or the money given.
    pub tender: Tender,
    /// Who moved the money for the shop, of an unlinked refund.
    pub acquirer: Option<String>,
    /// How much, above zero.
    pub amount: Money,
    /// When, UTC.
    pub given_at: DateTime<Utc>,
    /// Why.
    pub reason: String,
    /// What is given back.
    pub breakdown: Breakdown,
    /// What rounding its lines to minor units changed.
    pub rounding: LineRounding,
}

/// What a refund means, as its idempotency key knows it.
#[derive(Serialize)]
struct RefundMeaning<'a> {
    key: &'a str,
    refund_id: RefundId,
    #[serde(flatten)]
    link: Option<&'a RefundLink>,
    tender: Tender,
    amount: Money,
    given_at: DateTime<Utc>,
    reason: &'a str,
    #[serde(flatten)]
    by_itself: Option<ByItself<'a>>,
}

/// What a refund means beyond that when no sale says it. Keys of refunds with a sale are older than these fields.
#[derive(Serialize)]
struct ByItself<'a> {
    store_id: StoreId,
    #[serde(skip_serializing_if = "Option::is_none")]
    acquirer: Option<&'a str>,
    breakdown: &'a Breakdown,
}

impl Serialize for RefundUnit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let by_itself = || ByItself { store_id: self.store_id, acquirer: self.acquirer.as_deref(), breakdown: &self.breakdown };
        let meaning = RefundMeaning {
            key: &self.key,
            refund_id: self.refund_id,
            link: self.link.as_ref(),
            tender: self.tender,
            amount: self.amount,
            given_at: self.given_at,
            reason: &self.reason,
            by_itself: self.link.is_none().then(by_itself),
        };
        meaning.serialize(serializer)
    }
}

/// The sale out of whose payment money is given back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefundLink {
    /// What a message calls the sale.
    pub of: String,
    /// Its payment.
    pub payment_intent_id: PaymentIntentId,
    /// By which way the money goes back.
    pub destination: Destination,
}

/// An amount on the books. Serialised it is the body of the idempotency key.
#[derive(Debug, Clone, Serialize)]
pub struct LedgerUnit {
    /// Its key in the source.
    pub key: String,
    /// The adjustment.
    pub ledger_adjustment_id: LedgerAdjustmentId,
    /// Where.
    pub store_id: StoreId,
    /// The store, should it have to be opened.
    #[serde(skip)]
    pub store: Arc<NewStore>,
    /// Signed.
    pub amount: Money,
    /// When, UTC.
    pub adjusted_at: DateTime<Utc>,
    /// Why.
    pub reason: String,
}

/// What the rows of one order come to.
#[derive(Debug, Clone)]
pub enum Planned {
    /// To be written.
    Sale(Box<SaleUnit>),
    /// To be given back.
    Refund(Box<RefundUnit>),
    /// To be put on the books.
    Ledger(Box<LedgerUnit>),
    /// Left out, under this reason.
    Skipped(String),
}

#[cfg(test)]
#[path = "sale_tests.rs"]
mod tests;
