//! What a settlement list and the log say of one account, as callers see it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use domain::{
    ids::ProviderAccountId,
    money::{Currency, Money},
    reconciliation::{Booked, Charges, Difference, Listed, Named, Period, Report, Totals},
};
use projections::reconciliation::Reconciled;
use serde::Serialize;
use utoipa::ToSchema;

use super::MoneySchema;
use crate::{extract::card::without_card_numbers, problem::Problem};

/// Differences that are shown although nothing was to be resolved by them; the rest is counted.
const MOST_SHOWN: usize = 5_000;

/// A settlement list held against the log, and what was resolved by it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SettlementReport)]
pub struct SettlementReportResource {
    /// `pac_…` whose list it is.
    pub provider_account_id: String,
    /// The first moment that the list covers, UTC.
    #[schema(value_type = String, format = DateTime)]
    pub from: DateTime<Utc>,
    /// The first moment that it does not cover any more, UTC.
    #[schema(value_type = String, format = DateTime)]
    pub to: DateTime<Utc>,
    /// SHA-256 of the very file, in hex.
    pub list_sha256: String,
    /// The last position of the log that it was held against; before anything was resolved.
    pub position: i64,
    /// Rows and their sum by side, currency and kind.
    pub sums: Vec<SettlementSum>,
    /// What the list says of fees and payouts, by currency.
    pub charges: Vec<SettlementCharges>,
    /// How many rows both sides have alike.
    pub matched: u64,
    /// Each difference once: those of the list in the order of its lines, then what the list does not show, oldest first. Each with a
    /// `resolution`, and 5,000 others.
    pub differences: Vec<SettlementDifference>,
    /// How many more there are.
    pub differences_left_out: usize,
    /// How many intents are resolved.
    pub resolved: usize,
    /// How many were refused.
    pub refused: usize,
    /// How many were left: the list is to be handed in again.
    pub left: usize,
}

/// Rows and their sum.
#[derive(Debug, Serialize, ToSchema)]
pub struct SettlementSum {
    /// `list`, `log`, or `matched`: what both have alike.
    #[schema(examples("matched"))]
    pub side: &'static str,
    /// `payment` or `refund`.
    #[schema(examples("payment"))]
    pub kind: &'static str,
    /// How many.
    pub rows: u64,
    /// Of refunds negative.
    #[schema(value_type = MoneySchema)]
    pub gross: Money,
}

/// What a list says beside the amounts that moved, summed over the rows that say it.
#[derive(Debug, Serialize, ToSchema)]
pub struct SettlementCharges {
    /// Kept by the provider.
    #[schema(value_type = MoneySchema)]
    pub fee: Money,
    /// Paid out.
    #[schema(value_type = MoneySchema)]
    pub net: Money,
}

/// A row of the list and the log that do not say the same.
#[derive(Debug, Serialize, ToSchema)]
pub struct SettlementDifference {
    /// `listed_twice`, `missing_here`, `currency_differs`, `amount_differs`, `fee_does_not_add` or `missing_in_list`: the first that fits.
    #[schema(examples("missing_here"))]
    pub difference: &'static str,
    /// The row; nothing for `missing_in_list`.
    pub listed: Option<SettlementRow>,
    /// As the log has it, if it does.
    pub booked: Option<SettlementMovement>,
    /// With `listed_twice`: the line that shows it first.
    pub first_line: Option<u64>,
    /// With `missing_here`: the intent of the row's reference, if it is known here.
    pub payment_intent: Option<SettlementIntent>,
    /// What became of that intent, where the row could resolve it.
    pub resolution: Option<SettlementResolution>,
}

/// A row of the list.
#[derive(Debug, Serialize, ToSchema)]
pub struct SettlementRow {
    /// Its line in the file; 1 is the header.
    pub line: u64,
    /// The provider's name of the payment or refund.
    pub transaction_id: String,
    /// Our reference at the provider.
    pub reference: Option<String>,
    /// `payment` or `refund`.
    pub kind: &'static str,
    /// Of a refund negative.
    #[schema(value_type = MoneySchema)]
    pub gross: Money,
    /// What the provider keeps.
    #[schema(value_type = Option<MoneySchema>)]
    pub fee: Option<Money>,
    /// What is paid out.
    #[schema(value_type = Option<MoneySchema>)]
    pub net: Option<Money>,
    /// When, UTC.
    #[schema(value_type = String, format = DateTime)]
    pub at: DateTime<Utc>,
}

/// Money that moved, as the log has it.
#[derive(Debug, Serialize, ToSchema)]
pub struct SettlementMovement {
    /// The provider's name of it.
    pub transaction_id: String,
    /// Our reference at the provider.
    pub reference: String,
    /// `payment` or `refund`.
    pub kind: &'static str,
    /// Of a refund negative.
    #[schema(value_type = MoneySchema)]
    pub gross: Money,
    /// When, UTC: of a payment by the provider's clock, of a refund when it was known here.
    #[schema(value_type = String, format = DateTime)]
    pub at: DateTime<Utc>,
    /// `pi_…`.
    pub payment_intent_id: String,
    /// `ref_…` of a refund.
    pub refund_id: Option<String>,
}

/// The intent that a row's reference belongs to, as it stood before anything was resolved.
#[derive(Debug, Serialize, ToSchema)]
pub struct SettlementIntent {
    /// `pi_…`.
    pub id: String,
    /// Its status.
    #[schema(examples("requires_action"))]
    pub status: &'static str,
    /// It is left to a person, and the row shows exactly what is owed.
    pub resolvable: bool,
}

/// What became of an intent that a row could resolve.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SettlementResolution {
    /// `resolved`; `refused`, as `…/resolve` would have refused it; `left`: not done, and the same list may do it later.
    #[schema(examples("resolved"))]
    pub outcome: &'static str,
    /// Of a refusal the code of its problem; of the one that was left first why.
    pub code: Option<&'static str>,
    /// The same in words.
    pub detail: Option<String>,
}

impl SettlementResolution {
    /// The row is its finding now.
    pub const fn resolved() -> Self {
        Self { outcome: "resolved", code: None, detail: None }
    }

    /// It stays as it is.
    pub fn refused(problem: &Problem) -> Self {
        Self { outcome: "refused", code: Some(problem.code()), detail: Some(problem.detail().to_owned()) }
    }

    /// It was not done, or it is not known whether it was; with a reason where there was one.
    pub fn left(problem: Option<&Problem>) -> Self {
        Self { outcome: "left", code: problem.map(Problem::code), detail: problem.map(|problem| problem.detail().to_owned()) }
    }
}

/// What became of the lines that could resolve an intent.
pub type Resolutions = BTreeMap<u64, SettlementResolution>;

impl SettlementReportResource {
    /// The report on the list with this hash.
    pub fn of(account: ProviderAccountId, period: Period, list_sha256: String, found: &Reconciled, became: &Resolutions) -> Self {
        let Reconciled { position, report } = found;
        let count = |outcome: &str| became.values().filter(|resolution| resolution.outcome == outcome).count();
        let differences = shown(report, became);
        Self {
            provider_account_id: account.to_string(),
            from: period.from,
            to: period.to,
            list_sha256,
            position: *position,
            sums: sums("list", &report.listed).chain(sums("log", &report.booked)).chain(sums("matched", &report.matched)).collect(),
            charges: report.charges.iter().map(charges).collect(),
            matched: report.matched_rows(),
            differences_left_out: report.differences.len().saturating_sub(differences.len()),
            differences,
            resolved: count("resolved"),
            refused: count("refused"),
            left: count("left"),
        }
    }
}

/// Every difference with a resolution, and of the others as many as there is room for.
fn shown(report: &Report, became: &Resolutions) -> Vec<SettlementDifference> {
    let mut room = MOST_SHOWN;
    let told = report.differences.iter().filter_map(|difference| {
        let resolution = difference.listed().and_then(|listed| became.get(&listed.line)).cloned();
        if resolution.is_none() {
            room = room.checked_sub(1)?;
        }
        Some(told(difference, resolution))
    });
    told.collect()
}

fn told(difference: &Difference, resolution: Option<SettlementResolution>) -> SettlementDifference {
    let first_line = if let Difference::ListedTwice { first_line, .. } = difference { Some(*first_line) } else { None };
    SettlementDifference {
        difference: difference.word(),
        listed: difference.listed().map(SettlementRow::from),
        booked: difference.booked().map(SettlementMovement::from),
        first_line,
        payment_intent: difference.intent().map(|intent| named(intent, difference.is_resolvable())),
        resolution,
    }
}

fn named(intent: &Named, resolvable: bool) -> SettlementIntent {
    SettlementIntent { id: intent.payment_intent_id.to_string(), status: intent.status.as_str(), resolvable }
}

fn sums(side: &'static str, totals: &Totals) -> impl Iterator<Item = SettlementSum> {
    totals.iter().map(move |((currency, kind), total)| SettlementSum {
        side,
        kind: kind.as_str(),
        rows: total.rows,
        gross: Money::new(total.gross, *currency),
    })
}

fn charges((currency, charges): (&Currency, &Charges)) -> SettlementCharges {
    SettlementCharges { fee: Money::new(charges.fee, *currency), net: Money::new(charges.net, *currency) }
}

impl From<&Listed> for SettlementRow {
    fn from(Listed { line, row }: &Listed) -> Self {
        let money = |minor: i64| Money::new(minor, row.gross.currency);
        // What somebody put into a list by mistake does not come back in an answer.
        let name = |text: &String| without_card_numbers(text).unwrap_or_else(|| text.clone());
        Self {
            line: *line,
            transaction_id: name(&row.transaction_id),
            reference: row.reference.as_ref().map(name),
            kind: row.kind.as_str(),
            gross: row.gross,
            fee: row.fee.map(money),
            net: row.net.map(money),
            at: row.at,
        }
    }
}

impl From<&Booked> for SettlementMovement {
    fn from(booked: &Booked) -> Self {
        Self {
            transaction_id: booked.transaction_id.clone(),
            reference: booked.reference.clone(),
            kind: booked.kind.as_str(),
            gross: booked.gross,
            at: booked.at,
            payment_intent_id: booked.payment_intent_id.to_string(),
            refund_id: booked.refund_id.map(|id| id.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::{
        ids::{PaymentIntentId, Ulid},
        payment_intent::Status,
        reconciliation::{Kind, ListRow, reconcile},
    };

    use super::*;
    use crate::problem;

    fn listed(line: u64, transaction_id: &str) -> Listed {
        let (transaction_id, reference) = (transaction_id.to_owned(), Some(format!("R{line}")));
        let row = ListRow { transaction_id, reference, kind: Kind::Payment, gross: Money::thb(1_00), fee: None, net: None, at: at() };
        Listed { line, row }
    }

    fn at() -> DateTime<Utc> {
        "2026-05-01T10:00:00Z".parse().unwrap()
    }

    /// The report on these rows, of which the log has none and the last is an intent's that is left to a person.
    fn report(rows: u64, became: &Resolutions) -> SettlementReportResource {
        let list: Vec<Listed> = (2..rows + 2).map(|line| listed(line, &format!("T{line}"))).collect();
        let payment_intent_id = PaymentIntentId(Ulid::from_bytes([1; 16]));
        let left = Named { payment_intent_id, status: Status::Processing, left_to_person: Some(Money::thb(1_00)) };
        let period = Period { from: at(), to: at() };
        let report = reconcile(&list, &[], &BTreeMap::from([(format!("R{}", rows + 1), left)]), &period).unwrap();
        let account = ProviderAccountId(Ulid::from_bytes([2; 16]));
        SettlementReportResource::of(account, period, String::new(), &Reconciled { position: 7, report }, became)
    }

    #[test]
    fn what_was_resolved_is_shown_whatever_else_is_not() {
        let refused = Problem::plain(problem::Kind::Conflict);
        for (resolution, counts) in [
            (SettlementResolution::resolved(), (1, 0, 0)),
            (SettlementResolution::refused(&refused), (0, 1, 0)),
            (SettlementResolution::left(None), (0, 0, 1)),
        ] {
            let report = report(MOST_SHOWN as u64 + 3, &BTreeMap::from([(MOST_SHOWN as u64 + 4, resolution)]));
            assert_eq!((report.resolved, report.refused, report.left), counts);
            assert_eq!((report.differences.len(), report.differences_left_out), (MOST_SHOWN + 1, 2));
            let last = report.differences.last().unwrap();
            assert!(last.resolution.is_some() && last.payment_intent.as_ref().unwrap().resolvable);
        }
    }

    #[test]
    fn a_card_number_of_a_list_does_not_come_back() {
        let row = SettlementRow::from(&listed(2, "4111 1111 1111 1111"));
        assert!(!row.transaction_id.contains("1111"), "{}", row.transaction_id);
    }
}
