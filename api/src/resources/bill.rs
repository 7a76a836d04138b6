//! Bills as callers see them.

use chrono::NaiveDate;
use domain::{
    bill::{self, Issued, Status},
    money::{Currency, Money},
    payment_intent::Tender,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{MoneySchema, Resource, TaxLine, TenderSchema, order::Totals};

/// A request for payment, with figures frozen from the order.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Bill)]
pub struct BillResource {
    /// `bill_…`.
    #[schema(examples("bill_01HZY3T5V6W7X8Y9Z0A1B2C3D4"))]
    pub id: String,
    /// `sto_…`.
    pub store_id: String,
    /// `ord_…` of each order on it.
    pub order_ids: Vec<String>,
    /// `pending`, `partially_paid`, `paid`, `cancelled` or `written_off`.
    #[schema(examples("pending"))]
    pub status: &'static str,
    /// The store's business date at issue.
    #[schema(value_type = String, format = Date)]
    pub business_date: NaiveDate,
    /// Of every amount on it.
    #[schema(value_type = String, examples("THB"))]
    pub currency: Currency,
    /// Lines in order.
    pub lines: Vec<BillLine>,
    /// The figures.
    pub totals: Totals,
    /// Tax by class.
    pub taxes: Vec<TaxLine>,
    /// Neither settled nor held by a payment under way.
    #[schema(value_type = MoneySchema)]
    pub due: Money,
    /// Settled.
    #[schema(value_type = MoneySchema)]
    pub paid: Money,
    /// Held by payments under way.
    #[schema(value_type = MoneySchema)]
    pub reserved: Money,
    /// Given back.
    #[schema(value_type = MoneySchema)]
    pub refunded: Money,
    /// Money that arrived and that nothing on the bill asks for.
    #[schema(value_type = MoneySchema)]
    pub parked: Money,
    /// Money on the bill, by payment.
    pub payments: Vec<BillPayment>,
    /// Version, as in `ETag`.
    pub version: i64,
}

/// A line of a bill.
#[derive(Debug, Serialize, ToSchema)]
pub struct BillLine {
    /// `lin_…` of the order line.
    pub id: String,
    /// `ord_…` that it comes from.
    pub order_id: String,
    /// The catalogue's code.
    pub item_code: String,
    /// Name as sold.
    pub name: String,
    /// Thousandths of a piece.
    pub quantity_milli: i64,
    /// For one piece.
    #[schema(value_type = MoneySchema)]
    pub unit_price: Money,
    /// Quantity × price.
    #[schema(value_type = MoneySchema)]
    pub gross: Money,
    /// All discounts on it.
    #[schema(value_type = MoneySchema)]
    pub discount: Money,
    /// Its part of the service charge.
    #[schema(value_type = MoneySchema)]
    pub service_charge: Money,
    /// Its part of the tax.
    #[schema(value_type = MoneySchema)]
    pub tax: Money,
    /// What it adds to the total.
    #[schema(value_type = MoneySchema)]
    pub total: Money,
}

/// Money of one payment on a bill.
#[derive(Debug, Serialize, ToSchema)]
pub struct BillPayment {
    /// `pay_…`.
    pub payment_id: String,
    /// How it was tendered.
    #[schema(value_type = TenderSchema)]
    pub tender: Tender,
    /// What it settles.
    #[schema(value_type = MoneySchema)]
    pub amount: Money,
    /// What it brought beyond what was due.
    #[schema(value_type = MoneySchema)]
    pub parked: Money,
    /// Cash rounding collected beside it, signed.
    #[schema(value_type = MoneySchema)]
    pub cash_rounding: Money,
    /// Given back of it.
    #[schema(value_type = MoneySchema)]
    pub refunded: Money,
}

impl Resource<bill::State> for BillResource {
    fn of(state: &bill::State, version: i64) -> Option<Self> {
        let details = state.details.as_ref()?;
        let currency = details.currency;
        let money = |amount| Money::new(amount, currency);
        Some(Self {
            id: details.bill_id.to_string(),
            store_id: details.store_id.to_string(),
            order_ids: details.order_ids.iter().map(ToString::to_string).collect(),
            status: state.status.as_str(),
            business_date: details.business_date,
            currency,
            lines: details.lines.iter().map(|line| line_of(line, currency)).collect(),
            totals: totals(details),
            taxes: details.taxes.iter().map(|tax| TaxLine::of(tax, currency)).collect(),
            due: money(if matches!(state.status, Status::Cancelled | Status::WrittenOff) { 0 } else { state.due() }),
            paid: money(state.paid_total),
            reserved: money(state.reservations.values().sum()),
            refunded: money(state.refunded_total),
            parked: money(state.allocations.values().map(|allocation| allocation.parked).sum()),
            payments: payments(state, currency),
            version,
        })
    }
}

fn totals(details: &Issued) -> Totals {
    let money = |amount| Money::new(amount, details.currency);
    Totals {
        subtotal: money(details.subtotal),
        discount: money(details.discount),
        service_charge: money(details.service_charge),
        tax: money(details.tax),
        adjustment: money(details.adjustment),
        total: money(details.total),
    }
}

fn line_of(line: &bill::BillLine, currency: Currency) -> BillLine {
    let money = |amount| Money::new(amount, currency);
    BillLine {
        id: line.line_id.to_string(),
        order_id: line.order_id.to_string(),
        item_code: line.item_code.clone(),
        name: line.name.clone(),
        quantity_milli: line.quantity_milli,
        unit_price: money(line.unit_price),
        gross: money(line.gross),
        discount: money(line.discount),
        service_charge: money(line.service_charge),
        tax: money(line.tax),
        total: money(line.total),
    }
}

fn payments(state: &bill::State, currency: Currency) -> Vec<BillPayment> {
    let money = |amount| Money::new(amount, currency);
    let shown = state.allocations.iter().map(|(id, allocation)| BillPayment {
        payment_id: id.payment_id().to_string(),
        tender: allocation.tender,
        amount: money(allocation.amount),
        parked: money(allocation.parked),
        cash_rounding: money(allocation.cash_rounding),
        refunded: money(allocation.refunded),
    });
    shown.collect()
}

/// The status that a word means.
pub fn status_of(word: &str) -> Option<Status> {
    [Status::Pending, Status::PartiallyPaid, Status::Paid, Status::Cancelled, Status::WrittenOff]
        .into_iter()
        .find(|status| status.as_str() == word)
}
