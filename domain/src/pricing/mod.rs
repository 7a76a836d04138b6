//! Pricing: what an order costs, once, exactly.
//!
//! [`price`] turns lines and a [`TaxProfile`] into frozen figures ([`Priced`]); [`allocate_parts`] cuts frozen figures into
//! child bills without ever going back to rates. All amounts are minor units of one currency in `i64`, products are taken
//! in `i128`, rates are basis points (700 = 7 %), quantities are thousandths. Nothing here panics; out of range is an error.

mod price;
mod profile;
mod split;
#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use price::{piece_price, price};
pub use profile::{CashRounding, CashRoundingPolicy, Rounding, ServiceCharge, TaxMode, TaxProfile};
pub use split::allocate_parts;

use crate::{ids::LineId, money::Currency};

/// One hundred percent, in basis points.
pub const WHOLE_BASIS_POINTS: u32 = 10_000;
/// One piece, in thousandths.
pub const WHOLE_MILLI: i64 = 1_000;

/// Why something could not be priced or divided.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PricingError {
    /// A figure does not fit in 64 bits.
    #[error("an amount is out of range")]
    Overflow,
    /// The adjustment takes away more than the lines cost.
    #[error("the total would be negative")]
    NegativeTotal,
    /// More than one hundred percent, or more than the amount it is taken from.
    #[error("the discount is larger than what it is taken from")]
    DiscountTooLarge,
    /// A discount amount below zero.
    #[error("the discount is negative")]
    DiscountNegative,
    /// A line with a quantity below zero.
    #[error("the quantity of line {0} is negative")]
    QuantityNegative(LineId),
    /// A line with a unit price below zero.
    #[error("the price of line {0} is negative")]
    PriceNegative(LineId),
    /// A price for no quantity.
    #[error("the price of line {0} is for no quantity")]
    PriceBaseNotPositive(LineId),
    /// One line given twice, in a document or in one part of a split.
    #[error("line {0} is given twice")]
    DuplicateLine(LineId),
    /// The tax profile breaks a rule of [`TaxProfile::validate`].
    #[error("the tax profile is not usable: {0}")]
    BadProfile(&'static str),
    /// A split with no parts, or a part with no lines.
    #[error("a part of the split is empty")]
    PartEmpty,
    /// A part names a line that the bill does not have.
    #[error("line {0} is not on the bill")]
    LineNotOnBill(LineId),
    /// A part takes nothing, or less, of a line.
    #[error("a part takes no quantity of line {0}")]
    PartQuantityNotPositive(LineId),
    /// The parts take more of a line than there is.
    #[error("the parts take more of line {0} than the bill has")]
    QuantityExceedsLine(LineId),
    /// The parts leave some of a line to nobody.
    #[error("the parts leave some of line {0} to nobody")]
    LineLeftOver(LineId),
    /// Frozen figures that [`price`] cannot have made.
    #[error("the figures of the bill are inconsistent: {0}")]
    InconsistentFigures(&'static str),
}

/// How a line is taxed. The order is the order of [`Priced::taxes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaxClass {
    /// At the standard rate of the profile.
    Standard,
    /// Taxable at 0 %; shown as such on a tax document.
    Zero,
    /// Outside the tax altogether.
    Exempt,
    /// Not taxed but itself a tax, as an outside source states it: the whole line is tax, without a base.
    Stated,
}

impl TaxClass {
    /// Every class, in document order.
    pub const ALL: [Self; 4] = [Self::Standard, Self::Zero, Self::Exempt, Self::Stated];
}

/// A reduction of a line or of the whole document. It never takes more than there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Discount {
    /// A share of what it is taken from, 0 to 10,000 basis points.
    Percent {
        /// 1,000 is 10 %.
        basis_points: u32,
    },
    /// A fixed sum, not negative.
    Amount {
        /// Minor units.
        amount: i64,
    },
}

/// What is sold, before any arithmetic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PricingLine {
    /// Unique within the document.
    pub line_id: LineId,
    /// Thousandths, not negative: 1,000 is one piece, 250 is a quarter of a kilogram sold by the kilogram.
    pub quantity_milli: i64,
    /// Minor units for [`Self::price_base_milli`], not negative; with or without tax as the profile's mode says.
    pub unit_price: i64,
    /// The quantity that the unit price buys, thousandths, above zero: 1,000 for the price of one piece.
    pub price_base_milli: i64,
    /// How the line is taxed.
    pub tax_class: TaxClass,
    /// Taken from this line before the document's discount.
    pub discount: Option<Discount>,
}

/// The frozen figures of one line, minor units, none negative.
///
/// Always `net + tax == total` and `gross − discount + service_charge == ` (`net` in exclusive mode, `total` in inclusive and for
/// lines that are themselves a tax).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PricedLine {
    /// The line it prices.
    pub line_id: LineId,
    /// Thousandths of a unit on this document.
    pub quantity_milli: i64,
    /// How the line is taxed.
    pub tax_class: TaxClass,
    /// Quantity times unit price, rounded.
    pub gross: i64,
    /// The line's own discount and its share of the document's.
    pub discount: i64,
    /// Its share of the service charge.
    pub service_charge: i64,
    /// Its share of the document's tax.
    pub tax: i64,
    /// The value without tax.
    pub net: i64,
    /// What the payer owes for this line, with tax.
    pub total: i64,
}

/// The tax of one class on one document, minor units. Equals the sum of the class's lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaxTotal {
    /// The class.
    pub tax_class: TaxClass,
    /// The rate that was applied; 0 for zero-rated, exempt and stated.
    pub rate_basis_points: u32,
    /// The value without tax.
    pub base: i64,
    /// The tax, rounded once for the document.
    pub tax: i64,
}

/// The frozen figures of one document, minor units of `currency`.
///
/// Always `total == Σ lines.total + adjustment`, never negative, and every other sum equals the sum over `lines`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Priced {
    /// Of every amount here.
    pub currency: Currency,
    /// Whether `gross`, `discount` and `service_charge` contain the tax.
    pub mode: TaxMode,
    /// How figures derived from these are rounded.
    pub rounding: Rounding,
    /// In the order they were given.
    pub lines: Vec<PricedLine>,
    /// Sum of gross.
    pub subtotal: i64,
    /// Sum of discounts of lines and document.
    pub discount: i64,
    /// Sum of service charge.
    pub service_charge: i64,
    /// Sum of tax.
    pub tax: i64,
    /// Signed, untaxed, outside the lines.
    pub adjustment: i64,
    /// What the payer owes, before cash rounding.
    pub total: i64,
    /// One entry per class that has lines, in the order of [`TaxClass`].
    pub taxes: Vec<TaxTotal>,
}

/// A child of a split by item: a document in its own right, with the invariants of [`Priced`].
pub type ChildBill = Priced;
