//! Money set aside for refunds, settled or released.

use super::*;

#[test]
fn only_captured_money_is_set_aside_for_a_refund() {
    given::<PaymentIntent>(&captured()).when(reserve_refund(1, OWED)).then(&[refund_reserved(1, OWED)]);
    let history = and(captured(), refund_reserved(1, 60_00));
    given::<PaymentIntent>(&history).when(reserve_refund(1, 60_00)).then(&[]);
    given::<PaymentIntent>(&history).when(reserve_refund(2, 40_01)).then_rejected("RefundExceedsCaptured");
    given::<PaymentIntent>(&history).when(reserve_refund(2, 40_00)).then(&[refund_reserved(2, 40_00)]);
    for history in [intent(&[]), waiting(), intent(&[expired()])] {
        given::<PaymentIntent>(&history).when(reserve_refund(1, 1)).then_rejected("NotCaptured");
    }
}

#[test]
fn a_refund_asks_for_something_in_the_currency_of_the_payment() {
    for amount in [0, -1, i64::MIN] {
        given::<PaymentIntent>(&captured()).when(reserve_refund(1, amount)).then_rejected("AmountNotPositive");
    }
    let dollars = Command::ReserveRefund { refund_id: id(1), amount: Money::new(1, "USD".parse().unwrap()) };
    given::<PaymentIntent>(&captured()).when(dollars).then_rejected("CurrencyMismatch");
}

#[test]
fn a_reserved_refund_is_settled_or_released_once() {
    let reserved = and(captured(), refund_reserved(1, 60_00));
    let settled: Event = RefundSettled { refund_id: id(1), amount: 60_00, refunded_total: 60_00 }.into();
    given::<PaymentIntent>(&reserved).when(settle_refund(1)).then(std::slice::from_ref(&settled));
    given::<PaymentIntent>(&captured()).when(settle_refund(1)).then_rejected("RefundUnknown");
    let done = and(reserved.clone(), settled);
    given::<PaymentIntent>(&done).when(settle_refund(1)).then(&[]);
    given::<PaymentIntent>(&done).when(release_refund(1)).then(&[]);
    assert_eq!((PaymentIntent::fold(&done).refunded_total, PaymentIntent::fold(&done).refundable()), (60_00, 40_00));

    let released: Event = RefundReleased { refund_id: id(1), amount: 60_00 }.into();
    given::<PaymentIntent>(&reserved).when(release_refund(1)).then(std::slice::from_ref(&released));
    let freed = and(reserved, released);
    given::<PaymentIntent>(&freed).when(release_refund(1)).then(&[]);
    assert_eq!(PaymentIntent::fold(&freed).refundable(), OWED);
}

#[test]
fn money_goes_back_through_the_account_that_took_it() {
    let own = AttemptStarted { provider: "omise".into(), provider_account: Some("pac_1".into()), ..attempt(1) };
    let history = [created().into(), own.into(), action(1), succeeded("T1")];
    let state = PaymentIntent::fold(&history);
    // The payment and a second one beside it.
    for transaction in ["T1", "T2"] {
        let payment = state.provider_payment(id(1), transaction, Money::thb(OWED), at(1)).unwrap();
        assert_eq!((payment.provider.as_str(), payment.transaction_id.as_str()), ("pac_1", transaction));
    }
    assert_eq!(state.provider_payment(id(2), "T1", Money::thb(OWED), at(1)), None);
}

fn take_back(n: u128) -> Command {
    Command::TakeBackRefund { refund_id: id(n) }
}

fn taken_back(n: u128, amount: i64) -> Event {
    RefundTakenBack { refund_id: id(n), amount, refunded_total: 0 }.into()
}

#[test]
fn a_refund_that_did_not_happen_after_all_can_be_made_again_and_somebody_has_to_look() {
    let settled: Event = RefundSettled { refund_id: id(1), amount: 60_00, refunded_total: 60_00 }.into();
    let done = and(and(captured(), refund_reserved(1, 60_00)), settled);
    assert!(!PaymentIntent::fold(&done).needs_attention());
    given::<PaymentIntent>(&done).when(take_back(1)).then(&[taken_back(1, 60_00)]);
    let failed = and(done, taken_back(1, 60_00));
    given::<PaymentIntent>(&failed).when(take_back(1)).then(&[]);
    let state = PaymentIntent::fold(&failed);
    assert_eq!((state.refunded_total, state.refundable(), state.needs_attention()), (0, OWED, true));
    // The next refund sees to it, unless it comes to nothing itself.
    let followed = and(failed, refund_reserved(2, 60_00));
    assert!(!PaymentIntent::fold(&followed).needs_attention());
    let refused = and(followed.clone(), RefundReleased { refund_id: id(2), amount: 60_00 }.into());
    assert!(PaymentIntent::fold(&refused).needs_attention());
    let settled: Event = RefundSettled { refund_id: id(2), amount: 60_00, refunded_total: 60_00 }.into();
    let again = and(and(followed, settled), taken_back(2, 60_00));
    assert!(PaymentIntent::fold(&again).needs_attention());
    assert_eq!(PaymentIntent::fold(&again).failed_refunds.len(), 1, "one duty for the same money");
}

#[test]
fn a_refund_that_was_never_settled_is_only_released() {
    let reserved = and(captured(), refund_reserved(1, 60_00));
    let released: Event = RefundReleased { refund_id: id(1), amount: 60_00 }.into();
    given::<PaymentIntent>(&reserved).when(take_back(1)).then(&[released]);
    given::<PaymentIntent>(&captured()).when(take_back(1)).then(&[]);
}

#[test]
fn a_refund_of_which_nobody_knows_how_it_stands_needs_attention_until_it_ends() {
    let leave = |n: u128| Command::LeaveRefundToPerson { refund_id: id(n) };
    let left = |n: u128| Event::from(RefundLeftToPerson { refund_id: id(n) });
    let reserved = and(captured(), refund_reserved(1, 60_00));
    given::<PaymentIntent>(&reserved).when(leave(1)).then(&[left(1)]);
    given::<PaymentIntent>(&reserved).when(leave(2)).then(&[]);
    let told = and(reserved.clone(), left(1));
    given::<PaymentIntent>(&told).when(leave(1)).then(&[]);
    assert!(PaymentIntent::fold(&told).needs_attention());
    let settled: Event = RefundSettled { refund_id: id(1), amount: 60_00, refunded_total: 60_00 }.into();
    let released: Event = RefundReleased { refund_id: id(1), amount: 60_00 }.into();
    for end in [settled, released] {
        let over = and(told.clone(), end);
        assert!(!PaymentIntent::fold(&over).needs_attention());
        given::<PaymentIntent>(&over).when(leave(1)).then(&[]);
    }
}

fn count(n: u128, amount: i64) -> Command {
    Command::CountFoundRefund { refund_id: id(n), amount, unmatched_transaction_id: None }
}

fn found(n: u128, amount: i64, refunded_total: i64, excess: i64) -> Event {
    RefundFoundSent { refund_id: id(n), amount, refunded_total, excess, unmatched_transaction_id: None }.into()
}

/// A refund of 60.00 was left to a person and came to nothing.
fn in_doubt() -> Vec<Event> {
    let released: Event = RefundReleased { refund_id: id(1), amount: 60_00 }.into();
    [captured(), vec![refund_reserved(1, 60_00), RefundLeftToPerson { refund_id: id(1) }.into(), released]].concat()
}

#[test]
fn a_refund_that_was_sent_after_all_lowers_the_balance_again() {
    assert!(PaymentIntent::fold(&in_doubt()).refunds_at_provider().contains(&id(1)), "its provider may still show it");
    given::<PaymentIntent>(&in_doubt()).when(count(1, 60_00)).then(&[found(1, 60_00, 60_00, 0)]);
    let after = and(in_doubt(), found(1, 60_00, 60_00, 0));
    let state = PaymentIntent::fold(&after);
    assert_eq!((state.refunded_total, state.refundable(), state.over_refunded(), state.needs_attention()), (60_00, 40_00, 0, false));
    for silent in [count(1, 60_00), settle_refund(1), release_refund(1)] {
        given::<PaymentIntent>(&after).when(silent).then(&[]);
    }
    given::<PaymentIntent>(&after).when(take_back(1)).then(&[taken_back(1, 60_00)]);
    // Told before the reserve was free: the same, and the release comes to nothing.
    let early = and(captured(), refund_reserved(1, 60_00));
    given::<PaymentIntent>(&early).when(count(1, 60_00)).then(&[found(1, 60_00, 60_00, 0)]);
    let after = and(early, found(1, 60_00, 60_00, 0));
    given::<PaymentIntent>(&after).when(release_refund(1)).then(&[]);
    assert_eq!(PaymentIntent::fold(&after).refundable(), 40_00);
}

#[test]
fn more_given_back_than_came_is_recorded_and_nothing_more_can_be_given_back() {
    let settled: Event = RefundSettled { refund_id: id(2), amount: 80_00, refunded_total: 80_00 }.into();
    let other = [in_doubt(), vec![refund_reserved(2, 80_00), settled]].concat();
    given::<PaymentIntent>(&other).when(count(1, 60_00)).then(&[found(1, 60_00, 140_00, 40_00)]);
    let after = and(other, found(1, 60_00, 140_00, 40_00));
    let state = PaymentIntent::fold(&after);
    assert_eq!((state.refunded_total, state.refundable(), state.over_refunded(), state.needs_attention()), (140_00, 0, 40_00, true));
    given::<PaymentIntent>(&after).when(reserve_refund(3, 1)).then_rejected("RefundExceedsCaptured");
    let dispute = Command::Dispute { transaction_id: None, reason: "fraud".into(), disputed_at: at(1), business_date: at(1).date_naive() };
    given::<PaymentIntent>(&after).when(dispute).then_rejected("RefundExceedsCaptured");
    // One of the two did not happen: it adds up again.
    let taken: Event = RefundTakenBack { refund_id: id(2), amount: 80_00, refunded_total: 60_00 }.into();
    given::<PaymentIntent>(&after).when(take_back(2)).then(std::slice::from_ref(&taken));
    let state = PaymentIntent::fold(&and(after, taken));
    assert_eq!((state.over_refunded(), state.refundable()), (0, 40_00));
}

#[test]
fn more_given_back_than_came_is_acknowledged_with_a_reason_and_what_comes_later_is_not() {
    let note = |amount, reason: &str| Command::AcknowledgeOverRefund { amount: Money::thb(amount), reason: reason.to_owned() };
    let acknowledge = |reason| note(40_00, reason);
    let acknowledged = |over_refunded| Event::from(OverRefundAcknowledged { over_refunded, reason: "the guest pays it back".into() });
    given::<PaymentIntent>(&in_doubt()).when(acknowledge("why")).then_rejected("NotOverRefunded");
    let settled: Event = RefundSettled { refund_id: id(2), amount: 80_00, refunded_total: 80_00 }.into();
    let twice = [in_doubt(), vec![refund_reserved(2, 80_00), settled, found(1, 60_00, 140_00, 40_00)]].concat();
    given::<PaymentIntent>(&twice).when(acknowledge(" ")).then_rejected("ReasonRequired");
    given::<PaymentIntent>(&twice).when(note(39_99, "seen before")).then_rejected("OverRefundDiffers");
    given::<PaymentIntent>(&twice).when(acknowledge("the guest pays it back")).then(&[acknowledged(40_00)]);
    let noted = and(twice, acknowledged(40_00));
    let state = PaymentIntent::fold(&noted);
    assert_eq!((state.over_refunded(), state.over_refund_acknowledged, state.needs_attention()), (40_00, 40_00, false));
    given::<PaymentIntent>(&noted).when(acknowledge("once more")).then_rejected("NotOverRefunded");
    // It becomes less, and then as much as before: that is news.
    let taken: Event = RefundTakenBack { refund_id: id(1), amount: 60_00, refunded_total: 80_00 }.into();
    let less = and(noted, taken);
    let state = PaymentIntent::fold(&less);
    assert_eq!((state.over_refunded(), state.over_refund_acknowledged), (0, 0));
    let state = PaymentIntent::fold(&and(less, found(1, 60_00, 140_00, 40_00)));
    assert_eq!((state.over_refunded(), state.needs_attention()), (40_00, true));
}

#[test]
fn nothing_is_owed_where_the_same_money_went_back_by_another_refund() {
    let settled: Event = RefundSettled { refund_id: id(2), amount: OWED, refunded_total: OWED }.into();
    let twice = [in_doubt(), vec![refund_reserved(2, OWED), settled, found(1, 60_00, 160_00, 60_00)]].concat();
    let taken: Event = RefundTakenBack { refund_id: id(1), amount: 60_00, refunded_total: OWED }.into();
    given::<PaymentIntent>(&twice).when(take_back(1)).then(std::slice::from_ref(&taken));
    let state = PaymentIntent::fold(&and(twice, taken));
    assert_eq!((state.over_refunded(), state.failed_refunds.len(), state.needs_attention()), (0, 0, false));
}

/// A second payment `T2`, and a refund of it that was left to a person and came to nothing.
fn beside_in_doubt() -> Vec<Event> {
    let reopened: Event = UnmatchedReopened { transaction_id: "T2".into(), refund_id: id(1) }.into();
    let parked = unmatched(UnmatchedReason::Duplicate, "T2", OWED);
    [captured(), vec![parked, decide(Resolution::Refunding, Some(1)), RefundLeftToPerson { refund_id: id(1) }.into(), reopened]].concat()
}

fn decide(resolution: Resolution, refund: Option<u128>) -> Event {
    UnmatchedResolved { transaction_id: "T2".into(), resolution, refund_id: refund.map(id), reason: "counted".into() }.into()
}

#[test]
fn money_beside_the_payment_that_was_sent_back_after_all_is_no_open_duty() {
    let count = || Command::CountFoundRefund { refund_id: id(1), amount: OWED, unmatched_transaction_id: Some("T2".into()) };
    let back: Event = UnmatchedRefunded { transaction_id: "T2".into(), refund_id: id(1) }.into();
    assert!(PaymentIntent::fold(&beside_in_doubt()).refunds_at_provider().contains(&id(1)));
    for history in [beside_in_doubt(), and(beside_in_doubt(), decide(Resolution::Kept, None))] {
        given::<PaymentIntent>(&history).when(count()).then(std::slice::from_ref(&back));
        let after = and(history, back.clone());
        let state = PaymentIntent::fold(&after);
        assert_eq!((state.refundable(), state.over_refunded(), state.needs_attention()), (OWED, 0, false));
        given::<PaymentIntent>(&after).when(count()).then(&[]);
        let again: Event = UnmatchedReopened { transaction_id: "T2".into(), refund_id: id(1) }.into();
        given::<PaymentIntent>(&after).when(take_back(1)).then(&[again]);
    }
}

#[test]
fn money_beside_the_payment_that_went_back_twice_is_too_much_until_one_of_the_two_did_not_happen() {
    let count = || Command::CountFoundRefund { refund_id: id(1), amount: OWED, unmatched_transaction_id: Some("T2".into()) };
    let (transaction_id, unmatched_transaction_id) = ("T2".to_owned(), Some("T2".into()));
    let beyond: Event =
        RefundFoundSent { refund_id: id(1), amount: OWED, refunded_total: 0, excess: OWED, unmatched_transaction_id }.into();
    let other = and(beside_in_doubt(), decide(Resolution::Refunding, Some(2)));
    given::<PaymentIntent>(&other).when(count()).then(std::slice::from_ref(&beyond));
    let twice = and(other, beyond);
    given::<PaymentIntent>(&twice).when(count()).then(&[]);
    let state = PaymentIntent::fold(&twice);
    assert_eq!((state.refundable(), state.over_refunded(), state.needs_attention()), (OWED, OWED, true));
    // The other one comes to nothing: the first sent the money back.
    let reopened: Event = UnmatchedReopened { transaction_id: transaction_id.clone(), refund_id: id(2) }.into();
    let by_first: Event = UnmatchedRefunded { transaction_id, refund_id: id(1) }.into();
    given::<PaymentIntent>(&twice).when(release_refund(2)).then(&[reopened.clone(), by_first.clone()]);
    let state = PaymentIntent::fold(&[twice.clone(), vec![reopened, by_first]].concat());
    assert_eq!((state.over_refunded(), state.needs_attention()), (0, false));
    // Or the first did not happen after all.
    given::<PaymentIntent>(&twice).when(take_back(1)).then(&[taken_back(1, OWED)]);
    let state = PaymentIntent::fold(&and(twice, taken_back(1, OWED)));
    assert_eq!((state.over_refunded(), state.needs_attention(), state.failed_refunds.len()), (0, false, 0));
}
