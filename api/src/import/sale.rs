//! Rows and what they become: the data between reading, planning and writing.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use commands::tenants::NewStore;
use csv::StringRecord;
use domain::{
    ids::{BillId, LineId, OrderId, PaymentIntentId, RefundId, StoreId},
    money::Money,
    order::OrderType,
    payment_intent::Tender,
    pricing::TaxClass,
    refund::Destination,
};
use serde::Serialize;

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
    /// Minor units for one piece.
    pub unit_price: i64,
    /// Class of tax.
    pub tax_class: TaxClass,
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
    /// How it was paid; nothing when it was not, or costs nothing.
    pub payment: Option<SalePayment>,
}

/// Money given back out of the payment of an order that came before. Serialised it is the body of the idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefundUnit {
    /// The refund's own key in the source.
    pub key: String,
    /// The refund.
    pub refund_id: RefundId,
    /// The key of the order that is refunded.
    pub of: String,
    /// Its payment.
    pub payment_intent_id: PaymentIntentId,
    /// How that was paid.
    pub tender: Tender,
    /// By which way the money goes back.
    pub destination: Destination,
    /// How much, above zero.
    pub amount: Money,
    /// When, UTC.
    pub given_at: DateTime<Utc>,
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
    /// Left out, under this reason.
    Skipped(String),
}
