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
