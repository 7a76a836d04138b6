//! Attempts at a provider: started once, at most one alive.

use super::*;

#[test]
fn an_attempt_is_the_fact_before_the_call() {
    given::<PaymentIntent>(&intent(&[])).when(start(1)).then(&[attempt(1).into()]);
    given::<PaymentIntent>(&processing()).when(start(1)).then(&[]);
    given::<PaymentIntent>(&waiting()).when(start(1)).then(&[]);
}

#[test]
fn at_most_one_attempt_lives() {
    for history in [processing(), waiting(), and(processing(), not_known(1))] {
        given::<PaymentIntent>(&history).when(start(2)).then_rejected("AttemptInProgress");
    }
    let free = and(processing(), failed(1));
    given::<PaymentIntent>(&free).when(start(2)).then(&[attempt(2).into()]);
}

#[test]
fn an_attempt_that_failed_is_not_started_again_under_its_id() {
    given::<PaymentIntent>(&and(processing(), failed(1))).when(start(1)).then(&[]);
}

#[test]
fn an_intent_that_is_over_starts_no_attempt() {
    let given_up = intent(&[attempt(1).into(), cancel_requested(), failed(1)]);
    for history in [captured(), intent(&[canceled()]), intent(&[expired()]), given_up] {
        given::<PaymentIntent>(&history).when(start(2)).then_rejected("PaymentIntentNotOpen");
    }
}

#[test]
fn a_recorded_tender_has_no_provider() {
    given::<PaymentIntent>(&drawer()).when(start(1)).then_rejected("TenderIsRecorded");
    let with_expiry = [Created { tender: Tender::Cash, ..created() }.into()];
    given::<PaymentIntent>(&with_expiry).when(start(1)).then_rejected("TenderIsRecorded");
}

#[test]
fn a_qr_is_shown_once_for_the_attempt_that_waits_for_it() {
    given::<PaymentIntent>(&processing()).when(require_action(1)).then(&[action(1)]);
    given::<PaymentIntent>(&and(processing(), not_known(1))).when(require_action(1)).then(&[action(1)]);
    given::<PaymentIntent>(&waiting()).when(require_action(1)).then(&[]);
    given::<PaymentIntent>(&processing()).when(require_action(2)).then(&[]);
    given::<PaymentIntent>(&captured()).when(require_action(1)).then(&[]);
    assert_eq!(PaymentIntent::fold(&waiting()).status, Status::RequiresAction);
}

#[test]
fn a_refused_attempt_leaves_the_intent_open() {
    given::<PaymentIntent>(&processing()).when(fail(1)).then(&[failed(1)]);
    let history = and(processing(), failed(1));
    assert_eq!(PaymentIntent::fold(&history).status, Status::RequiresPaymentMethod);
    given::<PaymentIntent>(&history).when(fail(1)).then(&[]);
    given::<PaymentIntent>(&processing()).when(fail(2)).then(&[]);
    given::<PaymentIntent>(&captured()).when(fail(1)).then(&[]);
}

#[test]
fn an_unknown_outcome_is_said_once_and_changes_no_status() {
    given::<PaymentIntent>(&processing()).when(mark_unknown(1)).then(&[not_known(1)]);
    let history = and(processing(), not_known(1));
    assert_eq!(PaymentIntent::fold(&history).status, Status::Processing);
    given::<PaymentIntent>(&history).when(mark_unknown(1)).then(&[]);
    given::<PaymentIntent>(&processing()).when(mark_unknown(2)).then(&[]);
    given::<PaymentIntent>(&waiting()).when(mark_unknown(1)).then(&[]);
    given::<PaymentIntent>(&history).when(confirm("T1", OWED)).then(&[succeeded("T1")]);
}

#[test]
fn a_refusal_that_comes_after_the_qr_is_shown_changes_nothing() {
    given::<PaymentIntent>(&waiting()).when(fail(1)).then(&[]);
}

#[test]
fn money_on_an_earlier_reference_is_known_by_its_attempt() {
    let history = and(and(processing(), failed(1)), attempt(2).into());
    let confirmed = given::<PaymentIntent>(&history).when(confirm("T1", OWED)).events();
    let state = PaymentIntent::fold(history.iter().chain(&confirmed));
    assert_eq!(state.payment.and_then(|payment| payment.attempt_id), Some(id(1)));
}

#[test]
fn while_an_outcome_is_unknown_a_refusal_proves_nothing() {
    let history = and(processing(), not_known(1));
    given::<PaymentIntent>(&history).when(fail(1)).then(&[]);
    let ended =
        Command::EndAttempt { attempt_id: id(1), how: AttemptEnd::Failed { code: "invalid_request".into(), message: "E-1".into() } };
    given::<PaymentIntent>(&history).when(ended).then(&[failed(1)]);
}

#[test]
fn an_attempt_is_begun_only_while_the_intent_waits_for_it() {
    let standing = |history: &[Event]| PaymentIntent::fold(history).standing(id(1));
    let before = Standing { awaited: true, begins: true, unanswered: true };
    assert_eq!(standing(&processing()), before);
    assert_eq!(standing(&and(processing(), not_known(1))), before);
    assert_eq!(standing(&and(processing(), cancel_requested())), Standing { begins: false, ..before });
    assert_eq!(standing(&waiting()), Standing { awaited: true, begins: false, unanswered: false });
    let over = Standing { awaited: false, begins: false, unanswered: false };
    for history in [and(processing(), failed(1)), captured(), intent(&[attempt(1).into(), expired()]), intent(&[attempt(2).into()])] {
        assert_eq!(standing(&history), over);
    }
}
