//! Reconciliation: a provider's settlement list held against what the log says of the same account. Pure; it decides nothing and
//! moves nothing.
//!
//! Invariant: every row of the list, and every movement of the log that belongs into the period or is named by the list, is in the
//! report exactly once: as matched, or in one difference.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use chrono::{DateTime, Utc};

use crate::{
    ids::{PaymentIntentId, RefundId},
    money::{Money, MoneyError},
    payment_intent::Status,
};

mod list;
mod report;

pub use list::{COLUMNS, Kind, ListRow};
pub use report::{Aspect, Charges, Difference, Report, Total, Totals};

/// A row with its place in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// No two rows have the same; 1 is the header.
    pub line: u64,
    /// As it stands there.
    pub row: ListRow,
}

/// Money that moved, as the log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Booked {
    /// Which way.
    pub kind: Kind,
    /// The provider's name of it, as its lists have it.
    pub transaction_id: String,
    /// Our reference at the provider.
    pub reference: String,
    /// Minor units; of a payment positive, of a refund negative.
    pub gross: Money,
    /// When (UTC): of a payment by the provider's clock, of a refund when it was known here.
    pub at: DateTime<Utc>,
    /// The intent on which it came or out of which it went back.
    pub payment_intent_id: PaymentIntentId,
    /// Of a refund.
    pub refund_id: Option<RefundId>,
}

/// An intent whose reference a list names, as it stands now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The intent.
    pub payment_intent_id: PaymentIntentId,
    /// Life.
    pub status: Status,
    /// What is owed, while its attempt under this very reference is left to a person to resolve out of a statement.
    pub left_to_person: Option<Money>,
}

/// A stretch of time (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// The first moment of it.
    pub from: DateTime<Utc>,
    /// The first moment after it.
    pub to: DateTime<Utc>,
}

impl Period {
    /// Whether a moment lies in it.
    pub fn holds(&self, at: DateTime<Utc>) -> bool {
        self.from <= at && at < self.to
    }
}

/// By what a row of the list and a movement of the log are the same.
type Key<'a> = (Kind, &'a str);

/// Holds a list against the log. `books`: all movements of the account that lie in the period or that the list names; what lies
/// outside and is not named is passed over. `named`: intents by our reference. Rows are looked for by the provider's own names only:
/// nothing is guessed by amount or time, and a row counts whenever it happened, since a provider ends its day by its own clock.
///
/// # Errors
/// `Overflow`: a sum does not fit into 64 bits.
pub fn reconcile(list: &[Listed], books: &[Booked], named: &BTreeMap<String, Named>, period: &Period) -> Result<Report, MoneyError> {
    let mut report = Report::default();
    let mut open: BTreeMap<Key<'_>, VecDeque<&Booked>> = BTreeMap::new();
    for booked in books {
        open.entry((booked.kind, booked.transaction_id.as_str())).or_default().push_back(booked);
    }
    let mut seen: BTreeMap<Key<'_>, u64> = BTreeMap::new();
    let back = WentBack::of(list);
    for listed in list {
        report.take_listed(&listed.row)?;
        let key = (listed.row.kind, listed.row.transaction_id.as_str());
        let first = *seen.entry(key).or_insert(listed.line);
        if let Some(booked) = open.get_mut(&key).and_then(VecDeque::pop_front) {
            report.take_pair(listed, booked)?;
        } else if first == listed.line {
            report.differences.push(missing_here(listed, named, &back));
        } else {
            report.differences.push(Difference::ListedTwice { listed: listed.clone(), first_line: first });
        }
    }
    let mut missing: Vec<&Booked> = open.into_values().flatten().filter(|booked| period.holds(booked.at)).collect();
    missing.sort_by_key(|booked| (booked.at, booked.kind, &booked.transaction_id, booked.payment_intent_id, booked.refund_id));
    for booked in missing {
        report.take_missing(booked)?;
    }
    Ok(report)
}

/// Under which names a list shows money that went back: of a void without a name of its own it is that of its payment.
struct WentBack<'l> {
    transactions: BTreeSet<&'l str>,
    references: BTreeSet<&'l str>,
}

impl<'l> WentBack<'l> {
    fn of(list: &'l [Listed]) -> Self {
        let rows = || list.iter().map(|listed| &listed.row).filter(|row| row.kind == Kind::Refund);
        Self {
            transactions: rows().map(|row| row.transaction_id.as_str()).collect(),
            references: rows().filter_map(|row| row.reference.as_deref()).collect(),
        }
    }

    fn has(&self, row: &ListRow) -> bool {
        let by_reference = row.reference.as_deref().is_some_and(|reference| self.references.contains(reference));
        by_reference || self.transactions.contains(row.transaction_id.as_str())
    }
}

fn missing_here(listed: &Listed, named: &BTreeMap<String, Named>, back: &WentBack<'_>) -> Difference {
    let intent = listed.row.reference.as_ref().and_then(|reference| named.get(reference)).cloned();
    Difference::MissingHere { listed: listed.clone(), intent, went_back: back.has(&listed.row) }
}

#[cfg(test)]
mod tests;
