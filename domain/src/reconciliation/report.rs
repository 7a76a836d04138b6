//! What a reconciliation found: sums of both sides, and each difference once.

use std::collections::BTreeMap;

use super::{Booked, Kind, ListRow, Listed, Named};
use crate::money::{Currency, Money, MoneyError};

/// Rows and their sum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Total {
    /// How many.
    pub rows: u64,
    /// Minor units; of refunds negative.
    pub gross: i64,
}

/// By currency and kind.
pub type Totals = BTreeMap<(Currency, Kind), Total>;

/// What a list says beside the amounts that moved, minor units, summed over the rows that say it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Charges {
    /// Kept by the provider.
    pub fee: i64,
    /// Paid out.
    pub net: i64,
}

/// In what a row and the movement of the same name differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aspect {
    /// Two currencies.
    Currency,
    /// Two amounts.
    Amount,
    /// Not in what moved: in the list the net is not the gross less the fee.
    Fee,
}

/// One difference. A row that differs in several ways is told once, by the first of these words that fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// The list shows again what it showed before, and the log has it once.
    ListedTwice {
        /// The later row.
        listed: Listed,
        /// Line of the first.
        first_line: u64,
    },
    /// The log does not have what the list shows.
    MissingHere {
        /// The row.
        listed: Listed,
        /// The intent that its reference belongs to, if any does.
        intent: Option<Named>,
        /// The list also shows money that went back under this row's name or reference.
        went_back: bool,
    },
    /// Both have it, but not alike.
    Differs {
        /// In what.
        aspect: Aspect,
        /// The row.
        listed: Listed,
        /// As the log has it.
        booked: Booked,
    },
    /// The list does not show what the log has in the period.
    MissingInList {
        /// As the log has it.
        booked: Booked,
    },
}

impl Difference {
    /// Its stable word.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::ListedTwice { .. } => "listed_twice",
            Self::MissingHere { .. } => "missing_here",
            Self::Differs { aspect: Aspect::Currency, .. } => "currency_differs",
            Self::Differs { aspect: Aspect::Amount, .. } => "amount_differs",
            Self::Differs { aspect: Aspect::Fee, .. } => "fee_does_not_add",
            Self::MissingInList { .. } => "missing_in_list",
        }
    }

    /// The row of the list, where there is one.
    pub const fn listed(&self) -> Option<&Listed> {
        match self {
            Self::ListedTwice { listed, .. } | Self::MissingHere { listed, .. } | Self::Differs { listed, .. } => Some(listed),
            Self::MissingInList { .. } => None,
        }
    }

    /// The movement of the log, where there is one.
    pub const fn booked(&self) -> Option<&Booked> {
        match self {
            Self::Differs { booked, .. } | Self::MissingInList { booked } => Some(booked),
            Self::ListedTwice { .. } | Self::MissingHere { .. } => None,
        }
    }

    /// The intent whose money is missing here, where the row's reference names one.
    pub const fn intent(&self) -> Option<&Named> {
        match self {
            Self::MissingHere { intent, .. } => intent.as_ref(),
            Self::ListedTwice { .. } | Self::Differs { .. } | Self::MissingInList { .. } => None,
        }
    }

    /// A person may resolve that intent with this row: it is left to one, the row shows exactly what is owed, and the list does not show that
    /// any of it went back. What came and went again pays nothing.
    pub fn is_resolvable(&self) -> bool {
        match self {
            Self::MissingHere { listed, intent: Some(intent), went_back: false } => {
                listed.row.kind == Kind::Payment && intent.left_to_person == Some(listed.row.gross)
            }
            Self::MissingHere { .. } | Self::ListedTwice { .. } | Self::Differs { .. } | Self::MissingInList { .. } => false,
        }
    }
}

/// What a reconciliation found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// All rows of the list.
    pub listed: Totals,
    /// What of the log was held against it.
    pub booked: Totals,
    /// What both have alike.
    pub matched: Totals,
    /// What the list says of fees and payouts.
    pub charges: BTreeMap<Currency, Charges>,
    /// Those of the list's rows in the order of lines, then what the list does not show, oldest first.
    pub differences: Vec<Difference>,
}

impl Report {
    /// Both sides say the same.
    pub fn agrees(&self) -> bool {
        self.differences.is_empty()
    }

    /// How many rows both have alike.
    pub fn matched_rows(&self) -> u64 {
        self.matched.values().map(|total| total.rows).sum()
    }

    pub(super) fn take_listed(&mut self, row: &ListRow) -> Result<(), MoneyError> {
        if row.fee.is_some() || row.net.is_some() {
            let charges = self.charges.entry(row.gross.currency).or_default();
            charges.fee = sum(charges.fee, row.fee.unwrap_or(0))?;
            charges.net = sum(charges.net, row.net.unwrap_or(0))?;
        }
        count(&mut self.listed, row.kind, row.gross)
    }

    /// A row and the movement of the same name.
    pub(super) fn take_pair(&mut self, listed: &Listed, booked: &Booked) -> Result<(), MoneyError> {
        count(&mut self.booked, booked.kind, booked.gross)?;
        let Some(aspect) = difference(&listed.row, booked) else {
            return count(&mut self.matched, booked.kind, booked.gross);
        };
        self.differences.push(Difference::Differs { aspect, listed: listed.clone(), booked: booked.clone() });
        Ok(())
    }

    pub(super) fn take_missing(&mut self, booked: &Booked) -> Result<(), MoneyError> {
        count(&mut self.booked, booked.kind, booked.gross)?;
        self.differences.push(Difference::MissingInList { booked: booked.clone() });
        Ok(())
    }
}

fn difference(row: &ListRow, booked: &Booked) -> Option<Aspect> {
    if row.gross.currency != booked.gross.currency {
        Some(Aspect::Currency)
    } else if row.gross.amount != booked.gross.amount {
        Some(Aspect::Amount)
    } else if row.fee_adds() {
        None
    } else {
        Some(Aspect::Fee)
    }
}

fn count(totals: &mut Totals, kind: Kind, gross: Money) -> Result<(), MoneyError> {
    let total = totals.entry((gross.currency, kind)).or_default();
    total.rows += 1;
    total.gross = sum(total.gross, gross.amount)?;
    Ok(())
}

fn sum(before: i64, more: i64) -> Result<i64, MoneyError> {
    before.checked_add(more).ok_or(MoneyError::Overflow)
}
