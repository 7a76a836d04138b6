//! What a call-back leads to.

use super::{
    super::tests::{at, attempt},
    *,
};
use crate::{
    money::Money,
    process::ProcessCommand,
    provider::{AttemptStatus, Decline, PaymentSeen},
};

/// The books show these transactions.
fn books(transactions: &[&str]) -> CallOutcome<AttemptView> {
    let seen =
        |id: &&str| PaymentSeen { transaction_id: (*id).into(), amount: Money::thb(100_00), paid_at: at(30), refunded: 0, dispute: None };
    let status = if transactions.is_empty() { AttemptStatus::NotFound } else { AttemptStatus::Paid };
    CallOutcome::Done(AttemptView { provider_id: Some("Q1".into()), status, payments: transactions.iter().map(seen).collect() })
}

fn confirmed(step: &Step) -> usize {
    step.commands.iter().filter(|command| matches!(command, ProcessCommand::ConfirmPayment { .. })).count()
}

fn hint(tried: u32) -> Hint {
    Hint { provider: "scb".into(), reference: "REF".into(), transaction_id: Some("T2".into()), tried }
}

#[test]
fn a_call_back_may_run_ahead_of_the_books() {
    let refused = CallOutcome::Declined(Decline { code: "not_supported".into(), message: "E-9".into() });
    let not_attempted = CallOutcome::NotAttempted("breaker open".into());
    for outcome in [books(&[]), books(&["T1"]), not_attempted, refused, CallOutcome::Unknown("time-out".into())] {
        let (step, found) = after_hint(&attempt(), hint(3), outcome, at(60));
        assert!(!found, "its own transaction is not shown, whatever else is");
        let ends =
            |command: &ProcessCommand| !matches!(command, ProcessCommand::ConfirmPayment { .. } | ProcessCommand::AcceptAttempt { .. });
        assert!(!step.commands.iter().any(ends), "a hint expires nothing: {step:?}");
        let Some((Task::FollowHint { transaction_id, tried, .. }, due)) = step.next else { panic!("it is looked for again") };
        assert_eq!(
            (transaction_id.as_deref(), tried, due),
            (Some("T2"), 4, later(at(60), spread_ms(retry_delay_ms(3), &hint(3).reference, 3)))
        );
    }
}

#[test]
fn the_last_look_for_another_transaction_confirms_nothing_though_it_tells_something() {
    // The name of the attempt and the first payment are news to the intent; the second one, of which it was told, is not there.
    let (step, found) = after_hint(&attempt(), hint(HINT_TRIES), books(&["T1"]), at(60));
    assert!(!found && step.next.is_none() && step.commands.len() == 2, "{step:?}");
}

#[test]
fn a_call_back_is_done_once_the_books_show_its_own_transaction() {
    let (step, found) = after_hint(&attempt(), hint(0), books(&["T1", "T2"]), at(60));
    assert_eq!((confirmed(&step), step.next, found), (2, None, true));
}
