//! Money that arrives: recorded by hand, or shown by the provider.

use super::*;

#[test]
fn cash_is_recorded_with_its_change() {
    let events = given::<PaymentIntent>(&drawer()).when(Command::RecordTender(cash(120_00, 25))).events();
    let expected = Succeeded {
        payment_intent_id: id(1),
        bill_id: Some(id(3)),
        tender: Tender::Cash,
        attempt_id: None,
        transaction_id: None,
        amount: Money::thb(OWED),
        paid_at: at(1),
        evidence: Evidence::Staff,
        cash_received: Some(120_00),
        cash_change: Some(19_75),
        cash_rounding: 25,
        tip: 0,
        acquirer: None,
    };
    assert_eq!(events, [expected.into()]);
    let history = [drawer(), events].concat();
    given::<PaymentIntent>(&history).when(Command::RecordTender(cash(120_00, 25))).then(&[]);
}

#[test]
fn a_tender_is_recorded_for_exactly_what_is_owed() {
    let record = |report| given::<PaymentIntent>(&drawer()).when(Command::RecordTender(report));
    record(cash(99_99, 0)).then_rejected("TenderedBelowAmount");
    record(cash(100_00, 25)).then_rejected("TenderedBelowAmount");
    record(PaymentReport { amount: Money::thb(99_00), ..cash(100_00, 0) }).then_rejected("TenderAmountDiffers");
    let yen = Money::new(OWED, "JPY".parse().unwrap());
    record(PaymentReport { amount: yen, ..cash(100_00, 0) }).then_rejected("TenderAmountDiffers");
    assert_eq!(record(cash(99_75, -25)).events().len(), 1);
}

#[test]
fn cash_that_was_awaited_is_recorded_until_its_end() {
    let awaited = |minutes| vec![Created { tender: Tender::Cash, expires_at: Some(at(minutes)), ..created() }.into()];
    let record = |minutes| given::<PaymentIntent>(&awaited(minutes)).when(Command::RecordTender(cash(100_00, 0)));
    assert_eq!(record(2).events().len(), 1);
    record(1).then_rejected("PaymentIntentNotOpen");
}

#[test]
fn a_provider_payment_is_not_recorded_by_hand() {
    given::<PaymentIntent>(&waiting()).when(Command::RecordTender(cash(OWED, 0))).then_rejected("TenderNotRecorded");
    let stopped = and(drawer(), canceled());
    given::<PaymentIntent>(&stopped).when(Command::RecordTender(cash(OWED, 0))).then_rejected("PaymentIntentNotOpen");
}

#[test]
fn the_full_amount_closes_the_intent_in_any_open_state() {
    for history in [processing(), waiting(), and(processing(), not_known(1)), and(processing(), failed(1))] {
        given::<PaymentIntent>(&history).when(confirm("T1", OWED)).then(&[succeeded("T1")]);
    }
    given::<PaymentIntent>(&captured()).when(confirm("T1", OWED)).then(&[]);
}

#[test]
fn money_that_does_not_close_the_intent_is_recorded_beside_it() {
    let late = |end: Event| and(waiting(), end);
    let cases = [
        (waiting(), UnmatchedReason::AmountDiffers, OWED - 1),
        (waiting(), UnmatchedReason::AmountDiffers, OWED + 1),
        (captured(), UnmatchedReason::Duplicate, OWED),
        (late(canceled()), UnmatchedReason::Late, OWED),
        (late(expired()), UnmatchedReason::Late, OWED),
    ];
    for (history, why, amount) in cases {
        let event = unmatched(why, "T2", amount);
        given::<PaymentIntent>(&history).when(confirm("T2", amount)).then(std::slice::from_ref(&event));
        let before = PaymentIntent::fold(&history).status;
        let history = and(history, event);
        assert_eq!(PaymentIntent::fold(&history).status, before);
        given::<PaymentIntent>(&history).when(confirm("T2", amount)).then(&[]);
    }
}

#[test]
fn the_amount_in_another_currency_is_another_amount() {
    let report = PaymentReport { amount: Money::new(OWED, "USD".parse().unwrap()), ..seen("T1", OWED) };
    let events = given::<PaymentIntent>(&waiting()).when(Command::ConfirmFromProvider(report)).events();
    assert!(matches!(&events[..], [Event::UnmatchedPaymentReceived(payment)] if payment.why == UnmatchedReason::AmountDiffers));
}

#[test]
fn a_tip_is_recorded_beside_the_amount_and_counts_into_what_the_drawer_must_get() {
    let tipped = |tip, received| PaymentReport { tip, acquirer: Some("till 2".into()), ..cash(received, 0) };
    let record = |report| given::<PaymentIntent>(&drawer()).when(Command::RecordTender(report));
    let events = record(tipped(10_00, OWED + 15_00)).events();
    let [Event::Succeeded(payment)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((payment.amount.amount, payment.tip, payment.cash_change), (OWED, 10_00, Some(5_00)));
    assert_eq!(payment.acquirer.as_deref(), Some("till 2"));
    assert_eq!(PaymentIntent::fold(&[drawer(), events.clone()].concat()).refundable(), OWED, "a tip is not the shop's to give back");
    record(tipped(10_00, OWED)).then_rejected("TenderedBelowAmount");
    record(tipped(-1, OWED)).then_rejected("TipInvalid");
    record(PaymentReport { acquirer: Some(String::new()), ..cash(OWED, 0) }).then_rejected("AcquirerInvalid");
}

#[test]
fn a_dispute_is_recorded_once_and_stops_refunds() {
    let (reason, business_date) = ("not mine".to_owned(), at(9).date_naive());
    let dispute = || Command::Dispute { transaction_id: None, reason: reason.clone(), disputed_at: at(9), business_date };
    given::<PaymentIntent>(&waiting()).when(dispute()).then_rejected("NotCaptured");
    let events = given::<PaymentIntent>(&captured()).when(dispute()).events();
    let [Event::Disputed(disputed)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((disputed.amount, disputed.business_date), (Money::thb(OWED), at(9).date_naive()));
    let history = [captured(), events.clone()].concat();
    given::<PaymentIntent>(&history).when(dispute()).then(&[]);
    let refund = Command::ReserveRefund { refund_id: id(7), amount: Money::thb(1) };
    given::<PaymentIntent>(&history).when(refund).then_rejected("PaymentDisputed");
}
