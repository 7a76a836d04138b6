//! The part of a mapping that says how an order was paid, and which rows are no sale.

use std::collections::BTreeMap;

use domain::payment_intent::Tender;
use serde::Deserialize;

use super::mapping::Field;
use super::mapping_order::TimeMapping;

/// How it was paid.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaymentMapping {
    /// What was paid, major units; what the order costs without it.
    pub amount: Option<Field>,
    /// Which tender.
    pub tender: TenderMapping,
    /// When; when the order was opened without it.
    pub paid_at: Option<TimeMapping>,
    /// Approval code or invoice number.
    pub transaction_id: Option<Field>,
}

/// Which tender: one for all, or by the value of a column.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenderMapping {
    /// Column with the tender.
    pub column: Option<String>,
    /// Value in the file → tender; other values are refused.
    #[serde(default)]
    pub values: BTreeMap<String, TenderWord>,
    /// The tender of all rows.
    pub constant: Option<TenderWord>,
}

/// Tenders that an import can record. A provider's tender (PromptPay) is confirmed by its provider only: a historical
/// one is recorded as `card` or `invoice`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TenderWord {
    /// Notes and coins.
    Cash,
    /// Taken by an outside terminal.
    Card,
    /// On account.
    Invoice,
    /// Not paid: the bill stays open.
    Unpaid,
}

impl TenderWord {
    /// The domain's tender; nothing when no payment was made.
    pub const fn tender(self) -> Option<Tender> {
        match self {
            Self::Cash => Some(Tender::Cash),
            Self::Card => Some(Tender::Card),
            Self::Invoice => Some(Tender::Invoice),
            Self::Unpaid => None,
        }
    }
}

/// A pseudonym of the customer, kept with the payment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustomerMapping {
    /// Column with the pseudonym; may be empty.
    pub column: String,
    /// Must be `true`: names, card numbers and telephone numbers have no place in the log.
    pub pseudonymous: bool,
    /// Where it is kept.
    pub keep_as: KeepAs,
}

/// Where a pseudonym is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeepAs {
    /// `merchant_reference` of the payment.
    MerchantReference,
    /// `transaction_id` of the payment.
    TransactionId,
}

/// What to do with orders below zero.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefundMapping {
    /// What to do.
    pub negative: Negative,
    /// With `skip` the reason under which they are counted; with `refund` why money was given back, where
    /// `reason_column` does not say.
    pub reason: Option<String>,
    /// With `refund`: column with the key of the order that is refunded.
    pub of: Option<String>,
    /// With `refund`: column that says why; may be empty.
    pub reason_column: Option<String>,
}

/// What to do with orders below zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Negative {
    /// They are bad.
    Refuse,
    /// They are left out and counted.
    Skip,
    /// They give back money out of the payment of the order that they name.
    Refund,
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
