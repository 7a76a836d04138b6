//! The mapping: a TOML file that says what the columns of a CSV file mean. Written for people in `docs/import.md`.
//!
//! [`Mapping::parse`] refuses whatever it does not know and checks every value that does not depend on the file, so that
//! a mistake is named before the first row is read.

use std::{collections::BTreeMap, path::Path};

use domain::{
    ids::{MerchantId, StoreId},
    money::Currency,
    pricing::TaxProfile,
};
use serde::Deserialize;

use super::{
    error::MappingError,
    mapping_order::{AdjustmentMapping, BillMapping, DifferenceMapping, LineMapping, OrderMapping, TimeMapping},
    mapping_payment::{CustomerMapping, PaymentMapping, RefundMapping},
    mapping_rows::{LedgerMapping, SkipMapping},
    value::{DecimalSign, LocalClock},
};

/// What the columns of a file mean.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// Name of the data set, part of every id and key: 1–64 characters of A-Z, a-z, 0-9, '-', '_' and '.'.
    pub source: String,
    /// How the file is written.
    #[serde(default)]
    pub file: FileFormat,
    /// Whose sales.
    pub merchant: MerchantMapping,
    /// Where.
    pub store: StoreMapping,
    /// Which rows make an order, and when.
    pub order: OrderMapping,
    /// When it was billed.
    pub bill: Option<BillMapping>,
    /// The lines that each row gives; at least one.
    #[serde(rename = "line")]
    pub lines: Vec<LineMapping>,
    /// Columns that are signed, untaxed amounts outside the lines.
    #[serde(default, rename = "adjustment")]
    pub adjustments: Vec<AdjustmentMapping>,
    /// What to do when the amount paid is not what the order costs; without it the order is refused.
    pub difference: Option<DifferenceMapping>,
    /// How it was paid.
    pub payment: PaymentMapping,
    /// A pseudonym of the customer.
    pub customer: Option<CustomerMapping>,
    /// What to do with orders below zero; without it they are refused.
    pub refund: Option<RefundMapping>,
    /// Rows that are no sale.
    #[serde(default, rename = "skip")]
    pub skips: Vec<SkipMapping>,
    /// Rows that only change what the books say.
    #[serde(default, rename = "ledger")]
    pub ledger: Vec<LedgerMapping>,
}

/// How the file is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileFormat {
    /// One ASCII character between cells.
    pub delimiter: char,
    /// Before the decimals of amounts and quantities.
    pub decimal: DecimalSign,
}

impl Default for FileFormat {
    fn default() -> Self {
        Self { delimiter: ',', decimal: DecimalSign::Point }
    }
}

/// Whose sales.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MerchantMapping {
    /// An id (`psp_…`), or a short code from which the id follows.
    pub psp: String,
    /// Short code, unique within the PSP.
    pub code: String,
    /// Name for people.
    pub name: String,
    /// The tenant; without it the id follows from PSP and code.
    pub id: Option<MerchantId>,
}

/// A cell of each row, or the same text for all.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// Name of the column.
    pub column: Option<String>,
    /// Text for all rows.
    pub constant: Option<String>,
    /// Text where the cell is empty.
    pub default: Option<String>,
}

/// Where the sales were made.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreMapping {
    /// Which store; looked up in `known`.
    pub value: Field,
    /// ISO 4217 code of all amounts.
    pub currency: Currency,
    /// IANA zone of the stores.
    pub zone: String,
    /// Local time at which a business day begins, `HH:MM`.
    #[serde(default = "midnight")]
    pub day_starts_at: String,
    /// Tax on the prices.
    pub tax: TaxChoice,
    /// The profile, when `tax` is `explicit`.
    pub tax_profile: Option<TaxProfile>,
    /// What to do with a value that `known` does not have.
    #[serde(default)]
    pub unlisted: Unlisted,
    /// Value in the file → store.
    #[serde(default)]
    pub known: BTreeMap<String, KnownStore>,
}

fn midnight() -> String {
    "00:00".to_owned()
}

/// Tax on the prices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaxChoice {
    /// No tax.
    Untaxed,
    /// Thai VAT of 7 % within the prices.
    ThaiInclusive,
    /// Thai VAT of 7 % on top of the prices.
    ThaiExclusive,
    /// As `tax_profile` says.
    Explicit,
}

/// What to do with a store that is not listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unlisted {
    /// The order is bad.
    #[default]
    Refuse,
    /// A store is opened with code and name made from the value.
    Open,
}

/// A store by its value in the file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownStore {
    /// Short code, unique within the merchant.
    pub code: String,
    /// Name for people.
    pub name: String,
    /// The store, where it exists already; otherwise an id that follows from merchant and value.
    pub id: Option<StoreId>,
}

impl Mapping {
    /// Reads and checks a mapping.
    ///
    /// # Errors
    /// [`MappingError`], naming the key.
    pub fn load(path: &Path) -> Result<Self, MappingError> {
        let text = std::fs::read_to_string(path).map_err(|error| MappingError::Unreadable { path: path.to_owned(), error })?;
        Self::parse(&text)
    }

    /// Reads and checks the text of a mapping.
    ///
    /// # Errors
    /// `Syntax` or `Key`, naming the key.
    pub fn parse(text: &str) -> Result<Self, MappingError> {
        let mapping: Self = toml::from_str(text)?;
        super::check::check(&mapping)?;
        Ok(mapping)
    }

    /// The tax profile of the stores.
    pub fn tax_profile(&self) -> Option<TaxProfile> {
        match self.store.tax {
            TaxChoice::Untaxed => Some(TaxProfile::untaxed()),
            TaxChoice::ThaiInclusive => Some(TaxProfile::thai_vat_inclusive()),
            TaxChoice::ThaiExclusive => Some(TaxProfile::thai_vat_exclusive()),
            TaxChoice::Explicit => self.store.tax_profile.clone(),
        }
    }

    /// The clock by which a column of times is read.
    pub(super) fn clock(&self, time: &TimeMapping) -> Result<LocalClock, String> {
        LocalClock::new(time.zone.as_deref().unwrap_or(&self.store.zone))
    }
}
