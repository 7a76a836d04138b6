//! What refunds do to the net sum.

use std::collections::HashMap;

use domain::{
    ids::{PaymentIntentId, Ulid},
    money::Money,
    payment_intent::Tender,
    refund::Destination,
};

use super::*;
use crate::{
    fold::{Batch, Fold, Step},
    testing::{History, STORE, day},
};

const BILL: BillId = BillId(Ulid(2001));

/// Bill 1 over 107.00, issued on day 1, and what becomes of it; refunds on day 2.
struct Story(History);

impl Story {
    fn new() -> Self {
        let mut history = History::default();
        history.bill(1);
        Self(history)
    }

    fn bill(mut self, event: impl Into<bill::Event>) -> Self {
        self.0.add::<bill::Event>(StreamType::Bill, BILL, event);
        self
    }

    fn allocated(self, payment: u128, amount: i64, paid_total: i64) -> Self {
        let payment_intent_id = PaymentIntentId(Ulid(payment));
        let (tender, acquirer) = (Tender::PromptPay, None);
        self.bill(bill::PaymentAllocated { payment_intent_id, tender, amount, cash_rounding: 0, tip: 0, acquirer, paid_total })
    }

    fn parked(self, payment: u128, amount: i64) -> Self {
        self.bill(bill::OverpaymentParked { payment_intent_id: PaymentIntentId(Ulid(payment)), tender: Tender::PromptPay, amount })
    }

    fn paid(self) -> Self {
        self.bill(bill::Paid { bill_id: BILL, order_ids: vec![], total: 107_00 })
    }

    fn requested(mut self, refund: u128, bill_id: Option<BillId>, amount: i64) -> Self {
        let requested = refund::Requested {
            unmatched: false,
            fallback_of: None,
            refund_id: RefundId(Ulid(refund)),
            payment_intent_id: Some(PaymentIntentId(Ulid(1))),
            bill_id,
            store_id: STORE,
            business_date: day(2),
            amount: Money::thb(amount),
            tender: Tender::PromptPay,
            acquirer: None,
            destination: Destination::Original,
            reason: "cold".into(),
            provider: None,
            breakdown: None,
            cash_rounding: 0,
        };
        self.0.add::<refund::Event>(StreamType::Refund, RefundId(Ulid(refund)), requested);
        self
    }

    fn succeeded(mut self, refund: u128, bill_id: Option<BillId>, amount: i64) -> Self {
        let refund_id = RefundId(Ulid(refund));
        let payment_intent_id = PaymentIntentId(Ulid(1));
        let amount = Money::thb(amount);
        let succeeded =
            refund::Succeeded { refund_id, payment_intent_id: Some(payment_intent_id), bill_id, amount, provider_reference: None };
        self.0.add::<refund::Event>(StreamType::Refund, refund_id, succeeded);
        self
    }

    fn recorded(self, refund: u128, amount: i64) -> Self {
        let (refund_id, payment_intent_id) = (RefundId(Ulid(refund)), PaymentIntentId(Ulid(1)));
        self.bill(bill::RefundRecorded { refund_id, payment_intent_id, amount, refunded_total: amount })
    }

    fn refunded(self, refund: u128, amount: i64) -> Self {
        self.requested(refund, Some(BILL), amount).succeeded(refund, Some(BILL), amount).recorded(refund, amount)
    }

    /// Per day, 1 and 2: the net sum and the sum of refunds; nothing for a day without a row.
    fn days(&self) -> [Option<(i64, i64)>; 2] {
        let mut fold = Fold::new(Rows::complete(), HashMap::new());
        assert_eq!(fold.step(&DailySales, &Batch::new(&DailySales, self.0.0.clone()), 0), Step::Done);
        assert!(fold.quarantined.is_empty(), "{:?}", fold.quarantined);
        [1, 2].map(|n| fold.rows.get::<DailySalesRow>(&format!("{STORE}|{}", day(n))).unwrap().map(|row| (row.net, row.refunds_amount)))
    }
}

#[test]
fn an_ordinary_refund_is_subtracted_once_whichever_event_comes_first() {
    let paid = || Story::new().allocated(1, 107_00, 107_00).paid();
    let expected = [Some((107_00, 0)), Some((-40_00, 40_00))];
    assert_eq!(paid().refunded(1, 40_00).days(), expected);
    let turned = paid().requested(1, Some(BILL), 40_00).recorded(1, 40_00).succeeded(1, Some(BILL), 40_00);
    assert_eq!(turned.days(), expected);
}

#[test]
fn a_refund_under_way_or_failed_is_not_subtracted() {
    let mut story = Story::new().allocated(1, 107_00, 107_00).paid().requested(1, Some(BILL), 40_00);
    assert_eq!(story.days(), [Some((107_00, 0)), None]);
    let (refund_id, payment_intent_id) = (RefundId(Ulid(1)), PaymentIntentId(Ulid(1)));
    let failed = refund::Failed { refund_id, payment_intent_id, code: "closed".into(), message: "account closed".into() };
    story.0.add::<refund::Event>(StreamType::Refund, refund_id, failed);
    assert_eq!(story.days(), [Some((107_00, 0)), None]);
}

#[test]
fn an_overpayment_given_back_leaves_the_total() {
    // Paid twice: the second payment is parked as a whole and goes back in two parts.
    let twice = || Story::new().allocated(1, 107_00, 107_00).paid().parked(2, 107_00);
    assert_eq!(twice().refunded(1, 100_00).refunded(2, 7_00).days(), [Some((107_00, 0)), Some((0, 107_00))]);
    // What goes back beyond the parked money is sales.
    assert_eq!(twice().refunded(1, 100_00).refunded(2, 17_00).days(), [Some((107_00, 0)), Some((-10_00, 117_00))]);
    // Parked beside the allocation that settles the bill.
    let more = Story::new().allocated(1, 107_00, 107_00).parked(1, 3_00).paid();
    assert_eq!(more.refunded(1, 3_00).days(), [Some((107_00, 0)), Some((0, 3_00))]);
}

#[test]
fn a_refund_without_a_bill_is_counted_but_never_was_a_sale() {
    let story = Story::new().allocated(1, 107_00, 107_00).paid().requested(1, None, 40_00).succeeded(1, None, 40_00);
    assert_eq!(story.days(), [Some((107_00, 0)), Some((0, 40_00))]);
}

#[test]
fn what_goes_back_before_the_bill_is_paid_in_full_is_never_negative() {
    let part = || Story::new().allocated(1, 50_00, 50_00).refunded(1, 50_00);
    assert_eq!(part().days(), [None, Some((0, 50_00))]);
    let whole = || part().allocated(2, 57_00, 107_00).paid();
    assert_eq!(whole().days(), [Some((57_00, 0)), Some((0, 50_00))]);
    assert_eq!(whole().refunded(2, 57_00).days(), [Some((57_00, 0)), Some((-57_00, 107_00))]);
}

#[test]
fn a_refund_asks_for_its_rows_at_once() {
    let events = Story::new().allocated(1, 107_00, 107_00).paid().refunded(1, 40_00).0.0;
    let batch = Batch::new(&DailySales, events[events.len() - 1..].to_vec());
    let mut fold = Fold::new(Rows::new(), HashMap::new());
    let rows = vec![(PendingBillRow::TABLE, BILL.to_string()), (PendingRefundRow::TABLE, RefundId(Ulid(1)).to_string())];
    assert_eq!(fold.wanted(&DailySales, &batch), rows);
    assert_eq!(fold.step(&DailySales, &batch, 0), Step::Missing { keys: rows, next: 0 });
}

/// The provider takes back that a refund succeeded: the refund says so first, or the bill.
fn taken_back(mut story: Story, refund: u128, amount: i64, bill_first: bool) -> Story {
    let (refund_id, payment_intent_id) = (RefundId(Ulid(refund)), PaymentIntentId(Ulid(1)));
    let on_bill = bill::RefundTakenBack { refund_id, payment_intent_id, amount, refunded_total: 0 };
    let money = Money::thb(amount);
    let on_refund =
        refund::TakenBack { refund_id, payment_intent_id, bill_id: Some(BILL), amount: money, code: "x".into(), message: "y".into() };
    if bill_first {
        story = story.bill(on_bill);
        story.0.add::<refund::Event>(StreamType::Refund, refund_id, on_refund);
        return story;
    }
    story.0.add::<refund::Event>(StreamType::Refund, refund_id, on_refund);
    story.bill(on_bill)
}

#[test]
fn a_refund_that_did_not_happen_after_all_leaves_no_trace_in_any_sum() {
    for bill_first in [false, true] {
        let paid = Story::new().allocated(1, 107_00, 107_00).paid().refunded(1, 40_00);
        assert_eq!(taken_back(paid, 1, 40_00, bill_first).days(), [Some((107_00, 0)), Some((0, 0))]);
        // Recorded before the bill counted: it was missing on the bill's own date.
        let early = Story::new().allocated(1, 60_00, 60_00).refunded(1, 40_00);
        let later = taken_back(early, 1, 40_00, bill_first).allocated(2, 47_00, 107_00).paid();
        assert_eq!(later.days(), [Some((107_00, 0)), Some((0, 0))]);
        let counted = Story::new().allocated(1, 60_00, 60_00).refunded(1, 40_00).allocated(2, 47_00, 107_00).paid();
        assert_eq!(counted.days()[0], Some((67_00, 0)));
        assert_eq!(taken_back(counted, 1, 40_00, bill_first).days(), [Some((107_00, 0)), Some((0, 0))]);
        // Out of parked money: it was never sold, and waits again.
        let parked = Story::new().allocated(1, 107_00, 107_00).paid().parked(1, 40_00).refunded(1, 40_00);
        let again = taken_back(parked, 1, 40_00, bill_first).refunded(2, 40_00);
        assert_eq!(again.days(), [Some((107_00, 0)), Some((0, 40_00))]);
    }
}

#[test]
fn a_refund_that_was_sent_although_a_person_said_otherwise_counts_once() {
    let declared = |mut story: Story| {
        story = story.requested(1, Some(BILL), 80_00);
        let (refund_id, payment_intent_id) = (RefundId(Ulid(1)), PaymentIntentId(Ulid(1)));
        let said = refund::ResolvedByPerson { refund_id, payment_intent_id, sent: false, statement_reference: "line 3".into() };
        let failed = refund::Failed { refund_id, payment_intent_id, code: "not_on_statement".into(), message: "line 3".into() };
        story.0.add::<refund::Event>(StreamType::Refund, refund_id, said);
        story.0.add::<refund::Event>(StreamType::Refund, refund_id, failed);
        story
    };
    let found = |mut story: Story| {
        let (refund_id, payment_intent_id) = (RefundId(Ulid(1)), PaymentIntentId(Ulid(1)));
        let found = refund::FoundSent {
            refund_id,
            payment_intent_id,
            bill_id: Some(BILL),
            amount: Money::thb(80_00),
            unmatched_transaction_id: None,
            provider_reference: Some("R1".into()),
        };
        story.0.add::<refund::Event>(StreamType::Refund, refund_id, found);
        story.recorded(1, 80_00)
    };
    let paid = || Story::new().allocated(1, 107_00, 107_00).paid();
    assert_eq!(declared(paid()).days(), [Some((107_00, 0)), None]);
    assert_eq!(found(declared(paid())).days(), [Some((107_00, 0)), Some((-80_00, 80_00))]);
    // Another one was made meanwhile: both went, and the sale is worth less than nothing.
    let twice = found(declared(paid()).refunded(2, 107_00));
    assert_eq!(twice.days(), [Some((107_00, 0)), Some((-187_00, 187_00))]);
    assert_eq!(taken_back(twice, 2, 107_00, false).days(), [Some((107_00, 0)), Some((-80_00, 80_00))]);
}

#[test]
fn what_follows_a_refund_that_did_not_happen_counts_like_any_other() {
    let paid = Story::new().allocated(1, 107_00, 107_00).paid().refunded(1, 40_00);
    assert_eq!(taken_back(paid, 1, 40_00, false).refunded(2, 10_00).days(), [Some((107_00, 0)), Some((-10_00, 10_00))]);
}
