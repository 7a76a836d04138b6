//! The part of a mapping that says how an order was paid, or given back.

use std::collections::BTreeMap;

use domain::payment_intent::Tender;
use serde::Deserialize;

use super::{mapping::Field, mapping_order::TimeMapping, mapping_rows::Condition};

/// How it was paid.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaymentMapping {
    /// What was paid, tip included, major units; what the order costs (and the tip) without it.
    pub amount: Option<Field>,
    /// The tip in it, major units; empty is none.
    pub tip: Option<Field>,
    /// Who took the money in for the shop; may be empty.
    pub acquirer: Option<Field>,
    /// Which payments the payer contests.
    pub dispute: Option<DisputeMapping>,
    /// Why bills are written off, for the tender `written_off`.
    pub write_off_reason: Option<String>,
    /// Which tender.
    pub tender: TenderMapping,
    /// When; when the order was opened without it.
    pub paid_at: Option<TimeMapping>,
    /// Approval code or invoice number.
    pub transaction_id: Option<Field>,
}

/// Payments that the payer contests.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DisputeMapping {
    /// Why, as far as the file says.
    pub reason: String,
    /// All of these must hold for the order's first row; at least one.
    pub when: Vec<Condition>,
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
    /// Paid, but the file does not say how.
    Unknown,
    /// Not paid: the bill stays open.
    Unpaid,
    /// Not paid, and nobody will: the bill is written off.
    WrittenOff,
}

impl TenderWord {
    /// The domain's tender; nothing when no payment was made.
    pub const fn tender(self) -> Option<Tender> {
        match self {
            Self::Cash => Some(Tender::Cash),
            Self::Card => Some(Tender::Card),
            Self::Invoice => Some(Tender::Invoice),
            Self::Unknown => Some(Tender::Unknown),
            Self::Unpaid | Self::WrittenOff => None,
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
    /// With `refund`: columns by which rows find the rows of the sale that they take back, where none names it.
    #[serde(rename = "match")]
    pub matching: Option<Vec<String>>,
    /// With `refund`: what becomes of refunds whose sale is not found.
    #[serde(default)]
    pub unlinked: Unlinked,
    /// With `unlinked = "record"`: how their money was given; as `payment.tender` without it.
    pub tender: Option<TenderMapping>,
    /// With `refund`: column that says why; may be empty.
    pub reason_column: Option<String>,
}

/// What becomes of refunds whose sale is not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unlinked {
    /// They are bad.
    #[default]
    Refuse,
    /// They are recorded without a payment.
    Record,
}

/// What to do with orders below zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Negative {
    /// They are bad.
    Refuse,
    /// They are left out and counted.
    Skip,
    /// They give back money: out of the payment of the order that they name or match, or without one.
    Refund,
}
