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
