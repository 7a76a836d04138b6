//! Every difference by its word, and that no row of either side is lost or told twice.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use proptest::prelude::*;

use super::*;
use crate::{ids::Ulid, money::Currency};

fn at(minutes: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::minutes(minutes)
}

/// The first hour.
fn period() -> Period {
    Period { from: at(0), to: at(60) }
}

fn intent(n: u128) -> PaymentIntentId {
    PaymentIntentId(Ulid(n))
}

fn listed(line: u64, transaction_id: &str, satang: i64) -> Listed {
    let kind = if satang < 0 { Kind::Refund } else { Kind::Payment };
    let (reference, gross) = (Some(format!("REF-{transaction_id}")), Money::thb(satang));
    Listed { line, row: ListRow { transaction_id: transaction_id.to_owned(), reference, kind, gross, fee: None, net: None, at: at(1) } }
}

fn booked(transaction_id: &str, satang: i64, minutes: i64) -> Booked {
    let refund = satang < 0;
    Booked {
        kind: if refund { Kind::Refund } else { Kind::Payment },
        transaction_id: transaction_id.to_owned(),
        reference: format!("REF-{transaction_id}"),
        gross: Money::thb(satang),
        at: at(minutes),
        payment_intent_id: intent(1),
        refund_id: refund.then_some(RefundId(Ulid(2))),
    }
}

/// A list and a log given; a reconciliation must follow.
#[derive(Default)]
struct Given {
    list: Vec<Listed>,
    books: Vec<Booked>,
    named: BTreeMap<String, Named>,
}

fn given(list: &[Listed], books: &[Booked]) -> Given {
    Given { list: list.to_vec(), books: books.to_vec(), named: BTreeMap::new() }
}

impl Given {
    fn and_intent(mut self, reference: &str, named: Named) -> Self {
        self.named.insert(reference.to_owned(), named);
        self
    }

    fn when_reconciled(&self) -> Report {
        reconcile(&self.list, &self.books, &self.named, &period()).unwrap()
    }
}

fn transaction(difference: &Difference) -> &str {
    match difference {
        Difference::MissingInList { booked } => &booked.transaction_id,
        Difference::ListedTwice { listed, .. } | Difference::MissingHere { listed, .. } | Difference::Differs { listed, .. } => {
            &listed.row.transaction_id
        }
    }
}

/// Word, line and transaction of each difference.
fn told(report: &Report) -> Vec<(&'static str, Option<u64>, &str)> {
    let line = |difference: &Difference| difference.listed().map(|listed| listed.line);
    report.differences.iter().map(|difference| (difference.word(), line(difference), transaction(difference))).collect()
}

fn total(rows: u64, gross: i64) -> Total {
    Total { rows, gross }
}

#[test]
fn what_both_sides_have_is_matched_whatever_the_order() {
    let list = [listed(2, "B", 20_00), listed(3, "A", 100_00), listed(4, "A", -30_00)];
    let report = given(&list, &[booked("A", 100_00, 5), booked("A", -30_00, 6), booked("B", 20_00, 7)]).when_reconciled();
    assert!(report.agrees(), "{report:?}");
    assert_eq!(report.matched_rows(), 3);
    let sums = Totals::from([((Currency::THB, Kind::Payment), total(2, 120_00)), ((Currency::THB, Kind::Refund), total(1, -30_00))]);
    assert_eq!((&report.listed, &report.booked, &report.matched), (&sums, &sums, &sums));
}

#[test]
fn what_the_list_lacks_is_told_with_the_intent_oldest_first() {
    let report = given(&[listed(2, "B", 20_00)], &[booked("C", 1_00, 9), booked("B", 20_00, 7), booked("A", 100_00, 8)]).when_reconciled();
    assert_eq!(told(&report), [("missing_in_list", None, "A"), ("missing_in_list", None, "C")]);
    assert_eq!(report.differences[0].booked().map(|booked| booked.payment_intent_id), Some(intent(1)));
}

#[test]
fn what_lies_outside_the_period_is_not_asked_for_but_counts_when_it_is_listed() {
    let outside = [booked("EARLY", 10_00, -1), booked("LATE", 10_00, 60)];
    assert!(given(&[], &outside).when_reconciled().agrees());
    let report = given(&[listed(2, "LATE", 10_00), listed(3, "EARLY", 10_01)], &outside).when_reconciled();
    assert_eq!(told(&report), [("amount_differs", Some(3), "EARLY")]);
    assert_eq!(report.matched_rows(), 1);
}

#[test]
fn amount_and_currency_are_compared_exactly() {
    let mut in_yen = listed(3, "B", 20_00);
    in_yen.row.gross.currency = "JPY".parse().unwrap();
    let books = [booked("A", 100_00, 5), booked("B", 20_00, 6), booked("C", -5_00, 7)];
    let report = given(&[listed(2, "A", 100_01), in_yen, listed(4, "C", -4_99)], &books).when_reconciled();
    let expected = [("amount_differs", Some(2), "A"), ("currency_differs", Some(3), "B"), ("amount_differs", Some(4), "C")];
    assert_eq!(told(&report), expected);
    assert_eq!(report.differences[0].booked(), Some(&books[0]));
    assert_eq!(report.listed.len(), 3, "sums of two currencies are never one: {report:?}");
}

#[test]
fn a_payment_and_a_refund_of_one_name_are_two() {
    let report = given(&[listed(2, "A", 100_00)], &[booked("A", -100_00, 5)]).when_reconciled();
    assert_eq!(told(&report), [("missing_here", Some(2), "A"), ("missing_in_list", None, "A")]);
}

#[test]
fn a_row_that_comes_again_is_told_with_its_first_line() {
    let list = [listed(2, "A", 100_00), listed(5, "A", 100_00), listed(6, "X", 1_00), listed(7, "X", 1_00)];
    let report = given(&list, &[booked("A", 100_00, 5)]).when_reconciled();
    assert_eq!(told(&report), [("listed_twice", Some(5), "A"), ("missing_here", Some(6), "X"), ("listed_twice", Some(7), "X")]);
    assert!(matches!(report.differences[0], Difference::ListedTwice { first_line: 2, .. }));
    // What the log has twice may be listed twice.
    assert!(given(&list[..2], &[booked("A", 100_00, 5), booked("A", 100_00, 6)]).when_reconciled().agrees());
}

#[test]
fn a_fee_that_does_not_add_is_told_and_the_charges_are_summed() {
    let with = |mut listed: Listed, fee, net| {
        (listed.row.fee, listed.row.net) = (fee, net);
        listed
    };
    let list = [
        with(listed(2, "A", 100_00), Some(1_60), Some(98_40)),
        with(listed(3, "B", 100_00), Some(1_60), Some(98_41)),
        with(listed(4, "C", 100_00), None, Some(7)),
    ];
    let report = given(&list, &[booked("A", 100_00, 5), booked("B", 100_00, 5), booked("C", 100_00, 5)]).when_reconciled();
    assert_eq!(told(&report), [("fee_does_not_add", Some(3), "B")]);
    assert_eq!(report.charges.values().collect::<Vec<_>>(), [&Charges { fee: 3_20, net: 196_88 }]);
    assert_eq!(report.matched_rows(), 2);
}

#[test]
fn money_missing_here_names_its_intent_and_whether_a_person_may_resolve_it() {
    let named = |left_to_person| Named { payment_intent_id: intent(9), status: Status::Processing, left_to_person };
    let row = listed(2, "A", 100_00);
    let report = |left| given(std::slice::from_ref(&row), &[]).and_intent("REF-A", named(left)).when_reconciled();
    for (left, resolvable) in [(Some(Money::thb(100_00)), true), (Some(Money::thb(99_99)), false), (None, false)] {
        let report = report(left);
        assert_eq!(told(&report), [("missing_here", Some(2), "A")]);
        assert_eq!(report.differences[0].intent().map(|named| named.payment_intent_id), Some(intent(9)));
        assert_eq!(report.differences[0].is_resolvable(), resolvable, "{left:?}");
    }
    // What came and went again, whether the list names it by its payment or by our reference, pays nothing.
    let named_alike = listed(3, "A", -100_00);
    let mut by_reference = listed(3, "VOID-9", -40_00);
    by_reference.row.reference = row.row.reference.clone();
    for back in [named_alike, by_reference] {
        let report = given(&[row.clone(), back], &[]).and_intent("REF-A", named(Some(Money::thb(100_00)))).when_reconciled();
        assert_eq!(report.differences.len(), 2);
        assert!(report.differences.iter().all(|difference| !difference.is_resolvable()), "{:?}", report.differences);
    }
    let nobody = given(&[row], &[]).and_intent("REF-B", named(None)).when_reconciled();
    assert_eq!(nobody.differences[0].intent(), None);
}

#[test]
fn sums_that_do_not_fit_are_an_error() {
    let list = [listed(2, "A", i64::MAX), listed(3, "B", 1)];
    assert_eq!(reconcile(&list, &[], &BTreeMap::new(), &period()), Err(MoneyError::Overflow));
}

/// Few names and amounts, so that they meet.
fn movement() -> impl Strategy<Value = (String, i64, i64)> {
    (0..8_u8, prop::sample::select(vec![1_i64, 2, -1, -2]), -30..90_i64)
        .prop_map(|(name, satang, minutes)| (format!("T{name}"), satang, minutes))
}

proptest! {
    #[test]
    fn every_row_of_both_sides_is_accounted_for_exactly_once(
        rows in prop::collection::vec((movement(), any::<bool>()), 0..24),
        moved in prop::collection::vec(movement(), 0..24),
    ) {
        let row = |(line, ((name, satang, _), adds)): (u64, ((String, i64, i64), bool))| {
            let mut listed = listed(line, &name, satang);
            (listed.row.fee, listed.row.net) = (Some(0), Some(if adds { satang } else { satang + 1 }));
            listed
        };
        let list: Vec<Listed> = (2..).zip(rows).map(row).collect();
        let books: Vec<Booked> = moved.iter().map(|(name, satang, minutes)| booked(name, *satang, *minutes)).collect();
        let given = given(&list, &books);
        let report = given.when_reconciled();

        let rows_of = |totals: &Totals| totals.values().map(|total| total.rows).sum::<u64>();
        let gross_of = |totals: &Totals| totals.values().map(|total| total.gross).sum::<i64>();
        let told_rows: Vec<&Listed> = report.differences.iter().filter_map(Difference::listed).collect();
        let told_books: Vec<&Booked> = report.differences.iter().filter_map(Difference::booked).collect();
        // The list: each line is matched or told, once.
        let lines: BTreeSet<u64> = told_rows.iter().map(|listed| listed.line).collect();
        prop_assert_eq!(lines.len(), told_rows.len());
        prop_assert_eq!(report.matched_rows() + told_rows.len() as u64, list.len() as u64);
        prop_assert_eq!(rows_of(&report.listed), list.len() as u64);
        let told_gross: i64 = told_rows.iter().map(|listed| listed.row.gross.amount).sum();
        prop_assert_eq!(gross_of(&report.matched) + told_gross, gross_of(&report.listed));
        // The log: all of the period, and nothing else but what the list names.
        prop_assert_eq!(report.matched_rows() + told_books.len() as u64, rows_of(&report.booked));
        let told_gross: i64 = told_books.iter().map(|booked| booked.gross.amount).sum();
        prop_assert_eq!(gross_of(&report.matched) + told_gross, gross_of(&report.booked));
        let due = books.iter().filter(|booked| period().holds(booked.at)).count() as u64;
        prop_assert!(due <= rows_of(&report.booked) && rows_of(&report.booked) <= books.len() as u64);
        // What is called missing is not there, and the answer is the same again.
        for difference in &report.differences {
            if let Difference::MissingHere { listed, .. } = difference {
                prop_assert!(!books.iter().any(|booked| (booked.kind, &booked.transaction_id) == (listed.row.kind, &listed.row.transaction_id)));
            }
        }
        prop_assert_eq!(given.when_reconciled(), report);
    }
}
