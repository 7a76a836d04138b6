//! What holds whatever is asked of an intent.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::event::AggregateEvent;

fn some_transaction() -> impl Strategy<Value = String> {
    (0_u8..5).prop_map(|n| format!("T{n}"))
}

fn some_report() -> impl Strategy<Value = PaymentReport> {
    let amount = prop_oneof![3 => Just(OWED), 1 => 0_i64..200_00, 1 => any::<i64>()];
    (some_transaction(), amount).prop_map(|(transaction, amount)| seen(&transaction, amount))
}

fn some_cash() -> impl Strategy<Value = PaymentReport> {
    let edge = || prop_oneof![4 => Just(0_i64), 1 => -100_i64..100, 1 => any::<i64>()];
    (edge(), edge()).prop_map(|(more, rounding)| cash(OWED.saturating_add(more), rounding))
}

fn some_command() -> impl Strategy<Value = Command> {
    let n = || 0_u128..3;
    let amount = prop_oneof![8 => 1_i64..60_00, 1 => any::<i64>()];
    prop_oneof![
        1 => Just(create(created())),
        4 => n().prop_map(start),
        3 => n().prop_map(require_action),
        2 => n().prop_map(fail),
        2 => n().prop_map(mark_unknown),
        1 => some_cash().prop_map(Command::RecordTender),
        4 => some_report().prop_map(Command::ConfirmFromProvider),
        1 => prop_oneof![3 => Just(cancel()), 1 => Just(Command::Cancel { reason: String::new() })],
        1 => Just(Command::ConfirmCancel),
        1 => n().prop_map(expire),
        1 => (n(), some_end()).prop_map(|(n, how)| Command::EndAttempt { attempt_id: id(n), how }),
        1 => n().prop_map(|n| Command::LeaveToPerson { attempt_id: id(n), at: at(80) }),
        2 => (some_transaction(), some_verdict()).prop_map(|(transaction_id, verdict)| {
            Command::ResolveUnmatched { transaction_id, verdict, reason: "counted".into() }
        }),
        5 => (0_u128..6, amount).prop_map(|(n, amount)| reserve_refund(n, amount)),
        3 => (0_u128..6).prop_map(settle_refund),
        3 => (0_u128..6).prop_map(release_refund),
        2 => prop_oneof![0_u128..6, 100_u128..103].prop_map(|n| Command::TakeBackRefund { refund_id: id(n) }),
        1 => prop_oneof![0_u128..6, 100_u128..103].prop_map(|n| Command::LeaveRefundToPerson { refund_id: id(n) }),
    ]
}

fn some_end() -> impl Strategy<Value = AttemptEnd> {
    let failed = AttemptEnd::Failed { code: "invalid_request".into(), message: "E-1".into() };
    prop_oneof![Just(failed), Just(AttemptEnd::Canceled), Just(AttemptEnd::Expired)]
}

/// Refunds of parked money have ids of their own.
fn some_verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![Just(Verdict::Accept), Just(Verdict::Keep), (100_u128..103).prop_map(|n| Verdict::Refund(id(n)))]
}

/// Mostly intents that were created, for a provider or for the drawer.
fn some_commands() -> impl Strategy<Value = Vec<Command>> {
    let by_cash = Created { tender: Tender::Cash, expires_at: None, ..created() };
    let first = prop_oneof![6 => Just(vec![create(created())]), 2 => Just(vec![create(by_cash)]), 1 => Just(vec![])];
    (first, prop::collection::vec(some_command(), 0..50)).prop_map(|(first, rest)| [first, rest].concat())
}

fn is_final(status: Status) -> bool {
    matches!(status, Status::Succeeded | Status::Canceled | Status::Expired | Status::Failed)
}

/// The provider transaction that an event accounts for.
fn transaction_of(event: &Event) -> Option<String> {
    if let Event::Succeeded(payment) = event {
        return payment.transaction_id.clone();
    }
    if let Event::UnmatchedPaymentReceived(payment) = event { Some(payment.transaction_id.clone()) } else { None }
}

/// What every single event must respect.
fn check_event(before: &State, event: &Event) -> Result<(), TestCaseError> {
    let after = PaymentIntent::evolve(before.clone(), event);
    // The one way back: a person accepted the late payment in full just before.
    let accepted = matches!(event, Event::Succeeded(payment) if before.unmatched.iter().any(|late| {
        late.resolution == Some(Resolution::Accepted) && Some(&late.received.transaction_id) == payment.transaction_id.as_ref()
    }));
    let stays = after.status == before.status || (accepted && before.status != Status::Succeeded);
    prop_assert!(!is_final(before.status) || stays, "{event:?} led from {:?}", before.status);
    if let Event::Succeeded(payment) = event {
        prop_assert_eq!(payment.amount, Money::thb(OWED));
        prop_assert!(payment.cash_change.is_none_or(|change| change >= 0));
    }
    if let Event::AttemptStarted(started) = event {
        let last = before.attempt.as_ref();
        prop_assert!(last.is_none_or(|last| last.failed.is_some() && last.started.attempt_id != started.attempt_id));
    }
    let stored = event.encode();
    prop_assert_eq!(&Event::decode(stored.event_type, stored.schema_version, &stored.payload), &Ok(event.clone()));
    Ok(())
}

/// What every state must respect.
fn check_state(state: &State) -> Result<(), TestCaseError> {
    let all: i64 = state.refunds.values().map(|refund| refund.amount).sum();
    let settled: i64 = state.refunds.values().filter(|refund| refund.settled).map(|refund| refund.amount).sum();
    prop_assert!(all <= state.captured(), "refunds of {all} out of {}", state.captured());
    prop_assert_eq!(settled, state.refunded_total);
    prop_assert!(state.refundable() >= 0);
    prop_assert_eq!(state.payment.is_some(), state.status == Status::Succeeded);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn whatever_is_asked_money_is_counted_once(commands in some_commands()) {
        let (mut state, mut history, mut shown) = (State::default(), Vec::new(), BTreeSet::new());
        for command in commands {
            let Ok(events) = PaymentIntent::decide(&state, command.clone()) else { continue };
            for event in &events {
                check_event(&state, event)?;
                state = PaymentIntent::evolve(state, event);
            }
            check_state(&state)?;
            if let Command::ConfirmFromProvider(report) = &command {
                shown.extend(report.transaction_id.clone());
            }
            if !matches!(command, Command::Create(_)) {
                prop_assert_eq!(PaymentIntent::decide(&state, command), Ok(vec![]), "a repeat was not silent");
            }
            history.extend(events);
        }
        prop_assert!(history.iter().filter(|event| matches!(event, Event::Succeeded(_))).count() <= 1);
        let accepted: BTreeSet<String> = state.unmatched.iter().filter(|late| late.resolution == Some(Resolution::Accepted)).map(|late| late.received.transaction_id.clone()).collect();
        // An accepted payment was parked before it counted: two facts about one transaction.
        let parked = |event: &&Event| !matches!(event, Event::UnmatchedPaymentReceived(late) if accepted.contains(&late.transaction_id));
        let accounted: Vec<String> = history.iter().filter(parked).filter_map(transaction_of).collect();
        prop_assert_eq!(accounted.len(), shown.len(), "a transaction was lost or counted twice");
        prop_assert_eq!(accounted.into_iter().collect::<BTreeSet<_>>(), shown);
        prop_assert_eq!(&PaymentIntent::fold(&history), &state);
        postings::explain(&history, &state)?;
        let snapshot = serde_json::to_vec(&state).unwrap();
        prop_assert_eq!(&serde_json::from_slice::<State>(&snapshot).unwrap(), &state);
    }

    #[test]
    fn refunds_under_any_interleaving_stay_within_what_was_captured(steps in prop::collection::vec((0_u128..8, 1_i64..60_00, 0_u8..3), 0..60)) {
        let mut state = PaymentIntent::fold(&captured());
        for (n, amount, kind) in steps {
            let command = [reserve_refund(n, amount), settle_refund(n), release_refund(n)][usize::from(kind)].clone();
            let events = PaymentIntent::decide(&state, command).unwrap_or_default();
            state = events.iter().fold(state, PaymentIntent::evolve);
            check_state(&state)?;
        }
    }

    #[test]
    fn what_was_sent_although_a_person_said_otherwise_is_counted_once_and_leaves_no_balance_below_nothing(
        steps in prop::collection::vec((0_u128..6, 1_i64..60_00, 0_u8..6), 0..60)
    ) {
        let (mut state, mut history, mut amounts) = (PaymentIntent::fold(&captured()), captured(), std::collections::BTreeMap::new());
        for (n, amount, kind) in steps {
            // A refund has one amount for ever, and only one that was asked for is found.
            let amount = *amounts.entry(n).or_insert(amount);
            let count = Command::CountFoundRefund { refund_id: id(n), amount, unmatched_transaction_id: None };
            let take_back = Command::TakeBackRefund { refund_id: id(n) };
            let note = Command::AcknowledgeOverRefund { amount: Money::thb(state.over_refunded()), reason: "seen".into() };
            let all_of_them = [reserve_refund(n, amount), settle_refund(n), release_refund(n), take_back, count, note];
            let command = all_of_them[usize::from(kind)].clone();
            let Ok(events) = PaymentIntent::decide(&state, command.clone()) else { continue };
            state = events.iter().fold(state, PaymentIntent::evolve);
            history.extend(events);
            let all: i64 = state.refunds.values().map(|refund| refund.amount).sum();
            let settled: i64 = state.refunds.values().filter(|refund| refund.settled).map(|refund| refund.amount).sum();
            prop_assert_eq!(settled, state.refunded_total);
            prop_assert_eq!((state.refundable(), state.over_refunded()), ((OWED - all).max(0), (all - OWED).max(0)));
            prop_assert!(state.over_refund_acknowledged <= state.over_refunded());
            prop_assert!(state.over_refunded() == state.over_refund_acknowledged || state.needs_attention());
            let again = PaymentIntent::decide(&state, command);
            let silent = matches!(again.as_deref(), Ok([]) | Err(Rejection::NotOverRefunded));
            prop_assert!(silent, "a repeat was not silent: {again:?}");
        }
        postings::explain(&history, &state)?;
    }

    #[test]
    fn a_silent_provider_never_fails_an_attempt(silences in prop::collection::vec((0_u128..3, any::<bool>()), 0..20)) {
        let mut state = PaymentIntent::fold(&processing());
        for (n, again) in silences {
            let command = if again { start(n) } else { mark_unknown(n) };
            let events = PaymentIntent::decide(&state, command).unwrap_or_default();
            state = events.iter().fold(state, PaymentIntent::evolve);
        }
        prop_assert_eq!(state.status, Status::Processing);
        prop_assert_eq!(state.attempt.and_then(|attempt| attempt.failed), None);
    }
}
