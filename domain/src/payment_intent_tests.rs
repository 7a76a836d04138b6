//! Every rule of a payment intent, and that money is neither invented, lost nor given back twice.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::{event::AggregateEvent, ids::Ulid, testing::given};

const OWED: i64 = 100_00;

fn id<T: From<Ulid>>(n: u128) -> T {
    Ulid::from(n).into()
}

fn at(minute: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + chrono::Duration::minutes(minute)
}

fn created() -> Created {
    Created {
        payment_intent_id: id(1),
        store_id: id(2),
        bill_id: Some(id(3)),
        order_id: Some(id(4)),
        amount: Money::thb(OWED),
        tender: Tender::PromptPay,
        expires_at: Some(at(10)),
        merchant_reference: Some("table 12".into()),
    }
}

fn create(details: Created) -> Command {
    Command::Create(Box::new(details))
}

fn start(n: u128) -> Command {
    Command::StartAttempt { attempt_id: id(n), provider: "scb".into(), reference: format!("REF{n}"), started_at: at(0) }
}

fn require_action(n: u128) -> Command {
    Command::RequireAction { attempt_id: id(n), qr_payload: "000201".into() }
}

fn fail(n: u128) -> Command {
    Command::FailAttempt { attempt_id: id(n), code: "invalid_request".into(), message: "E-1".into() }
}

fn expire(n: u128) -> Command {
    Command::Expire { attempt_id: id(n) }
}

fn mark_unknown(n: u128) -> Command {
    Command::MarkOutcomeUnknown { attempt_id: id(n), reason: "time-out".into() }
}

/// Notes and coins, rounded by `rounding`.
fn cash(received: i64, rounding: i64) -> PaymentReport {
    PaymentReport {
        attempt_id: None,
        transaction_id: None,
        amount: Money::thb(OWED),
        paid_at: at(1),
        evidence: Evidence::Staff,
        cash_received: Some(received),
        cash_rounding: rounding,
    }
}

/// What the provider's books show.
fn seen(transaction: &str, amount: i64) -> PaymentReport {
    PaymentReport {
        attempt_id: Some(id(1)),
        transaction_id: Some(transaction.into()),
        amount: Money::thb(amount),
        paid_at: at(1),
        evidence: Evidence::Inquiry,
        cash_received: None,
        cash_rounding: 0,
    }
}

fn confirm(transaction: &str, amount: i64) -> Command {
    Command::ConfirmFromProvider(seen(transaction, amount))
}

fn cancel() -> Command {
    Command::Cancel { reason: "guest pays cash".into() }
}

fn reserve_refund(n: u128, amount: i64) -> Command {
    Command::ReserveRefund { refund_id: id(n), amount: Money::thb(amount) }
}

fn settle_refund(n: u128) -> Command {
    Command::SettleRefund { refund_id: id(n) }
}

fn release_refund(n: u128) -> Command {
    Command::ReleaseRefund { refund_id: id(n) }
}

fn attempt(n: u128) -> AttemptStarted {
    AttemptStarted {
        payment_intent_id: id(1),
        attempt_id: id(n),
        provider: "scb".into(),
        reference: format!("REF{n}"),
        amount: Money::thb(OWED),
        started_at: at(0),
        expires_at: at(10),
    }
}

fn action(n: u128) -> Event {
    ActionRequired { attempt_id: id(n), qr_payload: "000201".into() }.into()
}

fn failed(n: u128) -> Event {
    AttemptFailed { attempt_id: id(n), bill_id: Some(id(3)), code: "invalid_request".into(), message: "E-1".into() }.into()
}

fn not_known(n: u128) -> Event {
    OutcomeUnknown { attempt_id: id(n), reason: "time-out".into() }.into()
}

/// As succeeded through the first attempt.
fn succeeded(transaction: &str) -> Event {
    Succeeded {
        payment_intent_id: id(1),
        bill_id: Some(id(3)),
        tender: Tender::PromptPay,
        attempt_id: Some(id(1)),
        transaction_id: Some(transaction.into()),
        amount: Money::thb(OWED),
        paid_at: at(1),
        evidence: Evidence::Inquiry,
        cash_received: None,
        cash_change: None,
        cash_rounding: 0,
    }
    .into()
}

fn unmatched(why: UnmatchedReason, transaction: &str, amount: i64) -> Event {
    UnmatchedPaymentReceived { why, transaction_id: transaction.into(), amount: Money::thb(amount), paid_at: at(1) }.into()
}

fn canceled() -> Event {
    Canceled { bill_id: Some(id(3)), reason: "guest pays cash".into() }.into()
}

fn expired() -> Event {
    Expired { bill_id: Some(id(3)) }.into()
}

fn refund_reserved(n: u128, amount: i64) -> Event {
    RefundReserved { refund_id: id(n), amount }.into()
}

/// Created, then what else happened.
fn intent(more: &[Event]) -> Vec<Event> {
    std::iter::once(created().into()).chain(more.iter().cloned()).collect()
}

fn processing() -> Vec<Event> {
    intent(&[attempt(1).into()])
}

fn waiting() -> Vec<Event> {
    intent(&[attempt(1).into(), action(1)])
}

fn captured() -> Vec<Event> {
    intent(&[attempt(1).into(), action(1), succeeded("T1")])
}

fn drawer() -> Vec<Event> {
    vec![Created { tender: Tender::Cash, expires_at: None, ..created() }.into()]
}

fn cancel_requested() -> Event {
    CancelRequested { attempt: attempt(1), reason: "guest pays cash".into() }.into()
}

fn and(mut history: Vec<Event>, event: Event) -> Vec<Event> {
    history.push(event);
    history
}

#[test]
fn an_intent_is_created_once() {
    given::<PaymentIntent>(&[]).when(create(created())).then(&[created().into()]);
    given::<PaymentIntent>(&intent(&[])).when(create(created())).then_rejected("PaymentIntentIdReused");
}

#[test]
fn an_intent_out_of_bounds_is_refused_by_name() {
    for amount in [0, -1, i64::MIN, MAX_PRICE + 1] {
        let bad = Created { amount: Money::thb(amount), ..created() };
        given::<PaymentIntent>(&[]).when(create(bad)).then_rejected("AmountNotPositive");
    }
    for text in [String::new(), "x".repeat(65)] {
        let bad = Created { merchant_reference: Some(text), ..created() };
        given::<PaymentIntent>(&[]).when(create(bad)).then_rejected("ReferenceInvalid");
    }
    given::<PaymentIntent>(&[]).when(create(Created { expires_at: None, ..created() })).then_rejected("ExpiryRequired");
}

#[test]
fn nothing_can_be_asked_of_an_intent_that_was_never_created() {
    let commands = [
        start(1),
        require_action(1),
        fail(1),
        mark_unknown(1),
        Command::RecordTender(cash(OWED, 0)),
        confirm("T1", OWED),
        cancel(),
        Command::ConfirmCancel,
        expire(1),
        reserve_refund(1, 1),
        settle_refund(1),
        release_refund(1),
    ];
    for command in commands {
        given::<PaymentIntent>(&[]).when(command).then_rejected("PaymentIntentNotFound");
    }
}

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
    for history in [processing(), waiting(), and(processing(), failed(1))] {
        given::<PaymentIntent>(&history).when(expire(1)).then(&[expired()]);
    }
    for over in [captured(), intent(&[canceled()]), intent(&[expired()])] {
        given::<PaymentIntent>(&over).when(expire(1)).then(&[]);
    }
}

#[test]
fn an_earlier_attempt_says_nothing_about_the_intent() {
    given::<PaymentIntent>(&waiting()).when(expire(2)).then(&[]);
    given::<PaymentIntent>(&intent(&[])).when(expire(1)).then(&[]);
}

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
        5 => (0_u128..6, amount).prop_map(|(n, amount)| reserve_refund(n, amount)),
        3 => (0_u128..6).prop_map(settle_refund),
        3 => (0_u128..6).prop_map(release_refund),
    ]
}

/// Mostly intents that were created, for a provider or for the drawer.
fn some_commands() -> impl Strategy<Value = Vec<Command>> {
    let by_cash = Created { tender: Tender::Cash, expires_at: None, ..created() };
    let first = prop_oneof![6 => Just(vec![create(created())]), 2 => Just(vec![create(by_cash)]), 1 => Just(vec![])];
    (first, prop::collection::vec(some_command(), 0..50)).prop_map(|(first, rest)| [first, rest].concat())
}

fn is_final(status: Status) -> bool {
    matches!(status, Status::Succeeded | Status::Canceled | Status::Expired)
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
    prop_assert!(!is_final(before.status) || after.status == before.status, "{event:?} led from {:?}", before.status);
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
        let accounted: Vec<String> = history.iter().filter_map(transaction_of).collect();
        prop_assert_eq!(accounted.len(), shown.len(), "a transaction was lost or counted twice");
        prop_assert_eq!(accounted.into_iter().collect::<BTreeSet<_>>(), shown);
        prop_assert_eq!(&PaymentIntent::fold(&history), &state);
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
