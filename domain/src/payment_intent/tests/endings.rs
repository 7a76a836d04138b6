//! Intents that end without money: canceled or expired.

use super::*;

#[test]
fn an_intent_without_a_live_attempt_is_canceled_at_once() {
    for history in [intent(&[]), and(processing(), failed(1)), drawer()] {
        given::<PaymentIntent>(&history).when(cancel()).then(&[canceled()]);
    }
    given::<PaymentIntent>(&intent(&[canceled()])).when(cancel()).then(&[]);
    given::<PaymentIntent>(&intent(&[])).when(Command::Cancel { reason: String::new() }).then_rejected("ReasonRequired");
    for history in [captured(), intent(&[expired()])] {
        given::<PaymentIntent>(&history).when(cancel()).then_rejected("PaymentIntentNotOpen");
    }
}

#[test]
fn a_live_attempt_is_asked_about_before_the_intent_is_canceled() {
    for history in [processing(), waiting(), and(processing(), not_known(1))] {
        given::<PaymentIntent>(&history).when(Command::ConfirmCancel).then_rejected("AttemptUnresolved");
        given::<PaymentIntent>(&history).when(cancel()).then(&[cancel_requested()]);
        let asked = and(history, cancel_requested());
        given::<PaymentIntent>(&asked).when(cancel()).then(&[]);
        given::<PaymentIntent>(&asked).when(Command::ConfirmCancel).then(&[canceled()]);
        given::<PaymentIntent>(&asked).when(confirm("T1", OWED)).then(&[succeeded("T1")]);
    }
    for over in [captured(), intent(&[canceled()]), intent(&[expired()])] {
        given::<PaymentIntent>(&over).when(Command::ConfirmCancel).then(&[]);
    }
}

#[test]
fn an_intent_expires_once_and_only_while_open() {
    for history in [processing(), waiting()] {
        given::<PaymentIntent>(&history).when(expire(1)).then(&[expired()]);
    }
    for over in [captured(), intent(&[canceled()]), intent(&[expired()])] {
        given::<PaymentIntent>(&over).when(expire(1)).then(&[]);
    }
}

#[test]
fn an_attempt_that_failed_does_not_end_an_intent_that_has_time_left() {
    let short = AttemptStarted { expires_at: at(5), ..attempt(1) };
    let history = intent(&[short.into(), failed(1)]);
    // Its watch looks on to the attempt's own end, for money that may come all the same.
    given::<PaymentIntent>(&history).when(expire(1)).then(&[]);
    let next = NewAttempt { started_at: at(6), expires_at: at(16), ..new_attempt(2) };
    assert_eq!(given::<PaymentIntent>(&history).when(Command::StartAttempt(Box::new(next))).events().len(), 1);
    given::<PaymentIntent>(&history).when(Command::Lapse { at: at(10) }).then(&[expired()]);
}

#[test]
fn an_earlier_attempt_says_nothing_about_the_intent() {
    given::<PaymentIntent>(&waiting()).when(expire(2)).then(&[]);
    given::<PaymentIntent>(&intent(&[])).when(expire(1)).then(&[]);
}
