//! The part of a mapping that says which rows are no sale.

use serde::Deserialize;

use super::mapping::Field;

/// Rows that only change what the books say: recorded as ledger adjustments, one per row.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerMapping {
    /// Why.
    pub reason: Field,
    /// Signed, major units: above zero in the store's favour.
    pub amount: Field,
    /// All of these must hold; at least one.
    pub when: Vec<Condition>,
}

/// Rows that are no sale: left out and counted.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkipMapping {
    /// Under which reason they are counted.
    pub reason: String,
    /// All of these must hold; at least one.
    pub when: Vec<Condition>,
}

/// A test on one cell; all that it names must hold.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// Name of the column.
    pub column: String,
    /// The cell is one of these.
    pub is: Option<Vec<String>>,
    /// The cell begins with this.
    pub starts_with: Option<String>,
    /// The cell is empty, or is not.
    pub empty: Option<bool>,
    /// The cell is a number of this sign.
    pub sign: Option<Sign>,
}

/// Sign of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sign {
    /// Below zero.
    Negative,
    /// Zero.
    Zero,
    /// Above zero.
    Positive,
}
