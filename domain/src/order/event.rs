//! Facts of an order: what is stored for ever.

use chrono::NaiveDate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    event::events,
    ids::{BillId, LineId, OrderId, StoreId},
    money::Currency,
    pricing::{Discount, TaxClass, TaxProfile},
};

/// How the purchase is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrderType {
    /// At a table.
    DineIn,
    /// Over the counter.
    #[default]
    Takeaway,
    /// Brought to the customer.
    Delivery,
}

/// Order opened at a store, with the store's rules frozen in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Opened {
    /// The order.
    pub order_id: OrderId,
    /// Where.
    pub store_id: StoreId,
    /// The store's currency.
    pub currency: Currency,
    /// The store's tax profile at that moment.
    pub tax_profile: TaxProfile,
    /// The store's business date at that moment.
    pub business_date: NaiveDate,
    /// How it is served.
    pub order_type: OrderType,
    /// Table, for dine-in.
    pub table_number: Option<String>,
    /// Number for people, given by the terminal or an import.
    pub order_number: Option<String>,
}

/// A line added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LineAdded {
    /// The line; unique within the order.
    pub line_id: LineId,
    /// The catalogue's code.
    pub item_code: String,
    /// Name as sold.
    pub name: String,
    /// Thousandths of a piece; positive.
    pub quantity_milli: i64,
    /// Minor units for `price_base_milli`; not negative.
    pub unit_price: i64,
    /// The quantity that `unit_price` buys, thousandths: 1,000 for the price of one piece. With 10,000 a price of 0.1 minor
    /// units is exact: 1 for ten pieces.
    pub price_base_milli: i64,
    /// Class of tax.
    pub tax_class: TaxClass,
    /// Discount of this line.
    pub discount: Option<Discount>,
}

/// Lines added together, at least two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LinesAdded {
    /// In order.
    pub lines: Vec<LineAdded>,
}

/// Quantity of a line changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LineQuantityChanged {
    /// The line.
    pub line_id: LineId,
    /// By how much, thousandths, signed.
    pub delta_milli: i64,
    /// What it is now, thousandths; positive.
    pub quantity_milli: i64,
}

/// A line taken off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LineVoided {
    /// The line.
    pub line_id: LineId,
    /// Why.
    pub reason: String,
}

/// A discount on the whole order; replaces an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiscountApplied {
    /// How much.
    pub discount: Discount,
    /// Why.
    pub reason: String,
}

/// The discount taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiscountRemoved {}

/// An untaxed amount outside the lines, so that the total is what was really charged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AdjustmentAdded {
    /// Minor units, signed, not zero.
    pub amount: i64,
    /// Why.
    pub reason: String,
    /// Sum of all adjustments now, minor units.
    pub adjustment_total: i64,
}

/// A bill was made; lines are frozen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Billed {
    /// The bill.
    pub bill_id: BillId,
    /// What it asks for, minor units.
    pub total: i64,
}

/// The bill was voided; lines may change again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reopened {
    /// The voided bill.
    pub bill_id: BillId,
}

/// All bills are paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Completed {
    /// The bill that was paid.
    pub bill_id: BillId,
}

/// Given up before billing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cancelled {
    /// Why.
    pub reason: String,
}

events! {
    /// Facts of an order.
    {
        /// Opened at a store.
        Opened = "order.opened" v 1;
        /// A line added.
        LineAdded = "order.line_added" v 2;
        /// Lines added together.
        LinesAdded = "order.lines_added" v 1;
        /// Quantity of a line changed.
        LineQuantityChanged = "order.line_quantity_changed" v 1;
        /// A line taken off.
        LineVoided = "order.line_voided" v 1;
        /// A discount on the whole order.
        DiscountApplied = "order.discount_applied" v 1;
        /// The discount taken back.
        DiscountRemoved = "order.discount_removed" v 1;
        /// An untaxed amount outside the lines.
        AdjustmentAdded = "order.adjustment_added" v 1;
        /// A bill was made.
        Billed = "order.billed" v 1;
        /// The bill was voided.
        Reopened = "order.reopened" v 1;
        /// All bills are paid.
        Completed = "order.completed" v 1;
        /// Given up before billing.
        Cancelled = "order.cancelled" v 1;
    }
}
