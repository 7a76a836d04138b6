//! Every rule of a refund, and that it has one outcome.

use chrono::{DateTime, NaiveDate};
use proptest::prelude::*;

use super::*;
use crate::{decider::Aggregate, event::AggregateEvent, ids::Ulid, money::Money, payment_intent::Tender, testing::given};

fn id<T: From<Ulid>>(n: u128) -> T {
    Ulid::from(n).into()
}

fn requested() -> Requested {
    Requested {
        unmatched: false,
        fallback_of: None,
        refund_id: id(1),
        payment_intent_id: Some(id(2)),
        bill_id: Some(id(3)),
        store_id: id(4),
        business_date: NaiveDate::from_ymd_opt(2026, 5, 1).unwrap(),
        amount: Money::thb(50_00),
        tender: Tender::PromptPay,
        acquirer: None,
        destination: Destination::Original,
        reason: "cold soup".into(),
        provider: Some(Box::new(ProviderPayment {
            provider: "scb".into(),
            reference: "REF".into(),
            provider_id: None,
            transaction_id: "T1".into(),
            captured: Money::thb(100_00),
            paid_at: DateTime::UNIX_EPOCH,
        })),
        breakdown: None,
        cash_rounding: 0,
    }
}

fn request(details: Requested) -> Command {
    Command::Request(Box::new(details))
}

fn unknown() -> Command {
    Command::MarkOutcomeUnknown { reason: "time-out".into(), since: DateTime::UNIX_EPOCH }
}

fn succeed() -> Command {
    Command::Succeed { provider_reference: Some("R1".into()) }
}

fn fail() -> Command {
    Command::Fail { code: "cut_off_passed".into(), message: "E-17".into(), refused: false }
}

fn refuse() -> Command {
    Command::Fail { code: "cut_off_passed".into(), message: "E-17".into(), refused: true }
}

fn succeeded() -> Event {
    let (refund_id, payment_intent_id, bill_id, amount) = (id(1), Some(id(2)), Some(id(3)), Money::thb(50_00));
    Succeeded { refund_id, payment_intent_id, bill_id, amount, provider_reference: Some("R1".into()) }.into()
}

fn failed() -> Event {
    Failed { refund_id: id(1), payment_intent_id: id(2), code: "cut_off_passed".into(), message: "E-17".into() }.into()
}

fn not_known() -> Event {
    OutcomeUnknown { reason: "time-out".into(), since: Some(DateTime::UNIX_EPOCH) }.into()
}

fn leave() -> Command {
    Command::LeaveToPerson { at: DateTime::UNIX_EPOCH }
}

fn left() -> Event {
    LeftToPerson { refund_id: id(1), payment_intent_id: id(2), at: DateTime::UNIX_EPOCH }.into()
}

fn pending() -> Vec<Event> {
    vec![requested().into()]
}

fn resolve(sent: bool) -> Command {
    Command::ResolveByPerson { sent, statement_reference: "SCB 24 Nov, line 3".into() }
}

fn resolved(sent: bool) -> Event {
    ResolvedByPerson { refund_id: id(1), payment_intent_id: id(2), sent, statement_reference: "SCB 24 Nov, line 3".into() }.into()
}

/// What follows in the same append from what a person found.
fn decided(sent: bool) -> [Event; 2] {
    let (refund_id, payment_intent_id, amount) = (id(1), id(2), Money::thb(50_00));
    let outcome = if sent {
        Succeeded { refund_id, payment_intent_id: Some(payment_intent_id), bill_id: Some(id(3)), amount, provider_reference: None }.into()
    } else {
        Failed { refund_id, payment_intent_id, code: "not_on_statement".into(), message: "SCB 24 Nov, line 3".into() }.into()
    };
    [resolved(sent), outcome]
}

/// Left to a person, who has decided.
fn after_a_person_said(sent: bool) -> Vec<Event> {
    [pending(), vec![not_known(), left()], decided(sent).to_vec()].concat()
}

fn found_sent() -> Event {
    let (refund_id, payment_intent_id, bill_id, amount) = (id(1), id(2), Some(id(3)), Money::thb(50_00));
    let provider_reference = Some("R1".into());
    FoundSent { refund_id, payment_intent_id, bill_id, amount, unmatched_transaction_id: None, provider_reference }.into()
}

#[test]
fn a_refund_is_requested_once() {
    given::<Refund>(&[]).when(request(requested())).then(&pending());
    given::<Refund>(&pending()).when(request(requested())).then_rejected("RefundIdReused");
}

#[test]
fn a_refund_gives_something_back_for_a_reason() {
    for amount in [0, -1, i64::MIN] {
        let nothing = Requested { amount: Money::thb(amount), ..requested() };
        given::<Refund>(&[]).when(request(nothing)).then_rejected("AmountNotPositive");
    }
    for reason in [" ".into(), "x".repeat(201)] {
        given::<Refund>(&[]).when(request(Requested { reason, ..requested() })).then_rejected("ReasonRequired");
    }
}

#[test]
fn a_card_payment_does_not_leave_the_drawer_as_cash() {
    let by = |tender, destination| Requested { tender, destination, ..requested() };
    for refused in [Tender::Card, Tender::Unknown] {
        given::<Refund>(&[]).when(request(by(refused, Destination::Cash))).then_rejected("CardToCashNotAllowed");
    }
    for allowed in [by(Tender::Card, Destination::Original), by(Tender::PromptPay, Destination::Cash), by(Tender::Cash, Destination::Cash)]
    {
        given::<Refund>(&[]).when(request(allowed.clone())).then(&[allowed.into()]);
    }
}

#[test]
fn nothing_can_be_asked_of_a_refund_that_was_never_requested() {
    for command in [unknown(), leave(), resolve(true), succeed(), fail()] {
        given::<Refund>(&[]).when(command).then_rejected("RefundNotFound");
    }
}

#[test]
fn an_unknown_outcome_is_said_once_and_decides_nothing() {
    given::<Refund>(&pending()).when(unknown()).then(&[not_known()]);
    let history = [requested().into(), not_known()];
    given::<Refund>(&history).when(unknown()).then(&[]);
    let state = Refund::fold(&history);
    assert_eq!((state.status, state.unknown), (Status::Pending, true));
    given::<Refund>(&history).when(succeed()).then(&[succeeded()]);
    given::<Refund>(&history).when(fail()).then(&[failed()]);
}

#[test]
fn a_person_is_told_once_and_whatever_the_provider_says_ends_it() {
    for history in [pending(), vec![requested().into(), not_known()]] {
        given::<Refund>(&history).when(leave()).then(&[left()]);
        let told = [history, vec![left()]].concat();
        given::<Refund>(&told).when(leave()).then(&[]);
        let state = Refund::fold(&told);
        assert_eq!((state.status, state.left_to_person), (Status::Pending, Some(DateTime::UNIX_EPOCH)));
        for (answer, outcome) in [(succeed(), succeeded()), (fail(), failed())] {
            given::<Refund>(&told).when(answer).then(std::slice::from_ref(&outcome));
            let over = [told.clone(), vec![outcome]].concat();
            assert_eq!(Refund::fold(&over).left_to_person, None);
            given::<Refund>(&over).when(leave()).then(&[]);
        }
    }
    given::<Refund>(&[unlinked().into()]).when(leave()).then(&[]);
}

#[test]
fn a_person_decides_what_is_left_to_one_and_nothing_else() {
    let told = [pending(), vec![left()]].concat();
    for (sent, status) in [(true, Status::Succeeded), (false, Status::Failed)] {
        for open in [pending(), vec![requested().into(), not_known()]] {
            given::<Refund>(&open).when(resolve(sent)).then_rejected("OutcomeNotUnknown");
        }
        given::<Refund>(&told).when(resolve(sent)).then(&decided(sent));
        let after = after_a_person_said(sent);
        let state = Refund::fold(&after);
        assert_eq!((state.status, state.unknown, state.left_to_person), (status, false, None));
        given::<Refund>(&after).when(resolve(sent)).then(&[]);
        given::<Refund>(&after).when(resolve(!sent)).then_rejected("OutcomeNotUnknown");
        for over in [succeeded(), failed()] {
            given::<Refund>(&[told.clone(), vec![over]].concat()).when(resolve(sent)).then_rejected("OutcomeNotUnknown");
        }
    }
    for statement_reference in [" ".into(), "x".repeat(201)] {
        given::<Refund>(&told).when(Command::ResolveByPerson { sent: true, statement_reference }).then_rejected("ReasonRequired");
    }
    given::<Refund>(&[unlinked().into()]).when(resolve(true)).then_rejected("OutcomeNotUnknown");
}

#[test]
fn the_providers_word_wins_over_what_a_person_found() {
    let (sent, unsent) = (after_a_person_said(true), after_a_person_said(false));
    given::<Refund>(&sent).when(succeed()).then(&[]);
    let taken = given::<Refund>(&sent).when(fail()).events();
    assert!(matches!(&taken[..], [Event::TakenBack(TakenBack { code, .. })] if code == "cut_off_passed"), "{taken:?}");
    given::<Refund>(&[sent, taken].concat()).when(succeed()).then_rejected("RefundClosed");

    given::<Refund>(&unsent).when(fail()).then(&[]);
    given::<Refund>(&unsent).when(succeed()).then(&[found_sent()]);
    let found = [unsent, vec![found_sent()]].concat();
    let state = Refund::fold(&found);
    assert_eq!((state.status, state.failure.is_none(), state.provider_reference.as_deref()), (Status::Succeeded, true, Some("R1")));
    for silent in [succeed(), unknown(), leave()] {
        given::<Refund>(&found).when(silent).then(&[]);
    }
    given::<Refund>(&found).when(resolve(false)).then_rejected("OutcomeNotUnknown");
    assert!(matches!(&given::<Refund>(&found).when(fail()).events()[..], [Event::TakenBack(_)]));
}

#[test]
fn what_is_found_sent_of_money_beside_the_payment_names_its_transaction() {
    let beside = Requested { unmatched: true, bill_id: None, ..requested() };
    let history = [vec![beside.into(), left()], decided(false).to_vec()].concat();
    let found = given::<Refund>(&history).when(succeed()).events();
    assert!(matches!(&found[..], [Event::FoundSent(found)] if found.unmatched_transaction_id.as_deref() == Some("T1")), "{found:?}");
}

#[test]
fn a_name_that_is_the_payments_tells_no_refund() {
    let payment = requested().provider.unwrap();
    assert!(payment.went_back_as_a_whole("void:T1"));
    assert!(["R1", "T1", "void:T2", ""].iter().all(|name| !payment.went_back_as_a_whole(name)));
}

#[test]
fn an_outcome_is_final() {
    let (back, refused) = ([requested().into(), succeeded()], [requested().into(), failed()]);
    given::<Refund>(&pending()).when(succeed()).then(&[succeeded()]);
    given::<Refund>(&back).when(succeed()).then(&[]);
    given::<Refund>(&back).when(unknown()).then(&[]);
    given::<Refund>(&pending()).when(fail()).then(&[failed()]);
    given::<Refund>(&refused).when(fail()).then(&[]);
    given::<Refund>(&refused).when(unknown()).then(&[]);
    given::<Refund>(&refused).when(succeed()).then_rejected("RefundClosed");
}

#[test]
fn a_provider_may_take_back_that_a_refund_succeeded_and_nobody_else_may() {
    let history = [requested().into(), succeeded()];
    let taken: Event = TakenBack {
        refund_id: id(1),
        payment_intent_id: id(2),
        bill_id: Some(id(3)),
        amount: Money::thb(50_00),
        code: "cut_off_passed".into(),
        message: "E-17".into(),
    }
    .into();
    given::<Refund>(&history).when(fail()).then(std::slice::from_ref(&taken));
    let after = [requested().into(), succeeded(), taken];
    let state = Refund::fold(&after);
    assert_eq!((state.status, state.failure.map(|failure| failure.code)), (Status::Failed, Some("cut_off_passed".into())));
    given::<Refund>(&after).when(fail()).then(&[]);
    given::<Refund>(&after).when(succeed()).then_rejected("RefundClosed");
    for by_hand in [Requested { destination: Destination::Cash, ..requested() }, Requested { provider: None, ..requested() }] {
        given::<Refund>(&[by_hand.into(), succeeded()]).when(fail()).then_rejected("RefundClosed");
    }
}

#[test]
fn what_went_back_is_not_taken_back_by_a_refused_call() {
    given::<Refund>(&pending()).when(refuse()).then(&[failed()]);
    for name in ["void:T1", "R1"] {
        let sent = given::<Refund>(&pending()).when(Command::Succeed { provider_reference: Some(name.into()) }).events();
        given::<Refund>(&[pending(), sent].concat()).when(refuse()).then_rejected("RefundClosed");
    }
    given::<Refund>(&after_a_person_said(true)).when(refuse()).then_rejected("RefundClosed");
}

#[test]
fn cash_for_a_card_follows_only_a_refund_that_failed() {
    let card = Requested { tender: Tender::OnlineCard, destination: Destination::Cash, ..requested() };
    given::<Refund>(&[]).when(request(card.clone())).then_rejected("CardToCashNotAllowed");
    let follows = Requested { fallback_of: Some(id(9)), ..card };
    given::<Refund>(&[]).when(request(follows.clone())).then(&[follows.into()]);
}

fn some_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        1 => (-5_i64..100).prop_map(|amount| request(Requested { amount: Money::thb(amount), ..requested() })),
        2 => Just(unknown()),
        2 => Just(leave()),
        1 => any::<bool>().prop_map(resolve),
        1 => proptest::option::of("R[0-9]").prop_map(|provider_reference| Command::Succeed { provider_reference }),
        1 => Just(fail()),
        1 => Just(refuse()),
    ]
}

proptest! {
    #[test]
    fn a_refund_has_one_outcome(commands in prop::collection::vec(some_command(), 0..20)) {
        let (mut state, mut history) = (State::default(), Vec::new());
        for command in commands {
            let Ok(events) = Refund::decide(&state, command.clone()) else { continue };
            for event in &events {
                let stored = event.encode();
                prop_assert_eq!(&Event::decode(stored.event_type, stored.schema_version, &stored.payload), &Ok(event.clone()));
                state = Refund::evolve(state, event);
            }
            if !matches!(command, Command::Request(_)) {
                prop_assert_eq!(Refund::decide(&state, command), Ok(vec![]));
            }
            history.extend(events);
        }
        let outcomes = history.iter().filter(|event| matches!(event, Event::Succeeded(_) | Event::Failed(_))).count();
        prop_assert!(outcomes <= 1);
        prop_assert_eq!(outcomes == 1, matches!(state.status, Status::Succeeded | Status::Failed));
        prop_assert!(history.iter().filter(|event| matches!(event, Event::OutcomeUnknown(_))).count() <= 1);
        prop_assert_eq!(&Refund::fold(&history), &state);
        let snapshot = serde_json::to_vec(&state).unwrap();
        prop_assert_eq!(&serde_json::from_slice::<State>(&snapshot).unwrap(), &state);
    }
}

/// Given without a payment: 30 for a mug, 25 for a tax, 5 off for wear, 0 for a tip.
fn unlinked() -> Requested {
    let line =
        |item_code: &str, tax, total| RefundLine { item_code: item_code.into(), name: "Mug".into(), quantity_milli: 1_000, tax, total };
    let breakdown = Breakdown { lines: vec![line("MUG", 0, 30_00), line("TAX", 25_00, 25_00)], adjustment: -6_00, tip: 1_00 };
    Requested { payment_intent_id: None, bill_id: None, tender: Tender::Invoice, provider: None, breakdown: Some(breakdown), ..requested() }
}

#[test]
fn a_refund_without_a_payment_is_recorded_with_its_parts() {
    given::<Refund>(&[]).when(request(unlinked())).then(&[unlinked().into()]);
    given::<Refund>(&[unlinked().into()]).when(fail()).then_rejected("UnlinkedRefundCannotFail");
    let done = given::<Refund>(&[unlinked().into()]).when(Command::Succeed { provider_reference: None }).events();
    assert!(matches!(&done[..], [Event::Succeeded(Succeeded { payment_intent_id: None, bill_id: None, .. })]));
    for bad in [
        Requested { bill_id: Some(id(3)), ..unlinked() },
        Requested { tender: Tender::PromptPay, ..unlinked() },
        Requested { provider: requested().provider, ..unlinked() },
    ] {
        given::<Refund>(&[]).when(request(bad)).then_rejected("UnlinkedRefundIsRecorded");
    }
    for acquirer in [String::new(), "x".repeat(65)] {
        given::<Refund>(&[]).when(request(Requested { acquirer: Some(acquirer), ..unlinked() })).then_rejected("AcquirerInvalid");
    }
}

#[test]
fn the_parts_of_a_refund_add_up_to_its_amount() {
    let with = |change: fn(&mut Breakdown)| {
        let mut details = unlinked();
        details.breakdown.as_mut().into_iter().for_each(change);
        given::<Refund>(&[]).when(request(details))
    };
    with(|parts| parts.adjustment = 0).then_rejected("BreakdownDoesNotAdd");
    with(|parts| (parts.tip, parts.adjustment) = (-1, -4_00)).then_rejected("BreakdownDoesNotAdd");
    given::<Refund>(&[]).when(request(Requested { breakdown: unlinked().breakdown, ..requested() })).then_rejected("TipNotLinked");
    with(|parts| parts.lines[0].tax = 30_01).then_rejected("BreakdownDoesNotAdd");
    with(|parts| parts.lines[0].name = String::new()).then_rejected("BreakdownDoesNotAdd");
    with(|parts| parts.adjustment = i64::MAX).then_rejected("BreakdownDoesNotAdd");
}
