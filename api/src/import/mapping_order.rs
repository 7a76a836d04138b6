//! The part of a mapping that says which rows make an order and what it costs.

use domain::{order::OrderType, pricing::TaxClass};
use serde::Deserialize;

use super::mapping::Field;

/// A local time in a column.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeMapping {
    /// Name of the column.
    pub column: String,
    /// `strftime` format.
    pub format: String,
    /// IANA zone; the stores' zone without it.
    pub zone: Option<String>,
}

/// Which rows make an order.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderMapping {
    /// Column whose value names the order, for ever.
    pub key: String,
    /// One row each, or all rows that follow each other with the same key.
    #[serde(default)]
    pub rows: Grouping,
    /// With `consecutive`: how many rows apart rows of one order may stand; 1, right after each other, without it.
    pub within: Option<u64>,
    /// When it was opened.
    pub opened_at: TimeMapping,
    /// Number for people.
    pub number: Option<Field>,
    /// How it was served.
    #[serde(default, rename = "type")]
    pub order_type: OrderType,
}

/// When the bill was issued.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BillMapping {
    /// Local time; when the order was opened without it.
    pub issued_at: TimeMapping,
}

/// How rows make orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grouping {
    /// One row is one order.
    #[default]
    Single,
    /// Rows that follow each other with the same key are one order.
    Consecutive,
}

/// A line that each row gives.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LineMapping {
    /// The catalogue's code.
    pub item_code: Field,
    /// Name as sold.
    pub name: Field,
    /// Pieces; one without it.
    pub quantity: Option<Field>,
    /// Price of one piece, major units.
    pub unit_price: Option<Field>,
    /// Price of the whole line, major units; instead of `unit_price`.
    pub amount: Option<Field>,
    /// Class of tax.
    #[serde(default = "standard")]
    pub tax_class: TaxClass,
    /// Give no line where the price is empty or zero.
    #[serde(default)]
    pub omit_zero: bool,
    /// Most decimals of `unit_price`; those of the currency without it.
    pub price_decimals: Option<u32>,
    /// What becomes of a line below zero.
    #[serde(default)]
    pub negative: NegativeLine,
}

/// What becomes of a line below zero in an order above zero, or the other way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NegativeLine {
    /// The order is bad.
    #[default]
    Refuse,
    /// An adjustment of the order under the line's name.
    Adjust,
}

const fn standard() -> TaxClass {
    TaxClass::Standard
}

/// A signed, untaxed amount outside the lines.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdjustmentMapping {
    /// Column with major units; empty is zero.
    pub column: String,
    /// What it is.
    pub reason: String,
}

/// The amount paid may differ from what the order costs: the difference becomes an adjustment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DifferenceMapping {
    /// What it is.
    pub reason: String,
    /// Largest difference either way, major units with a decimal point; any without it.
    pub limit: Option<String>,
}
