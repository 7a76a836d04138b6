//! What each answer of a provider means. Above all: a time-out is never a failure.

use proptest::prelude::*;

use super::*;
use crate::{
    ids::{AttemptId, PaymentIntentId, Ulid},
    money::Money,
    payment_intent::{Evidence, PaymentReport, Tender},
    provider::{Decline, NextAction, PaymentSeen},
};

/// The intent waits for the attempt, and the provider has answered.
pub(super) const AWAITED: Standing = Standing { awaited: true, begins: true, unanswered: false };
/// The same, while nobody knows what the call that begins the attempt did.
const UNANSWERED: Standing = Standing { unanswered: true, ..AWAITED };
/// The intent is over, or goes on with another attempt.
const OVER: Standing = Standing { awaited: false, begins: false, unanswered: false };

pub(super) const OWED: Money = Money::thb(100_00);

pub(super) fn id<T: From<Ulid>>(n: u128) -> T {
    Ulid::from(n).into()
}

/// Seconds after the attempt started.
pub(super) fn at(second: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + Duration::seconds(second)
}

/// The attempt stops accepting payment after this many seconds, and is believed unpaid after as many.
const EXPIRES: i64 = 600;
const DEADLINE: i64 = EXPIRES + SETTLING_MARGIN_MS / 1_000;

pub(super) fn attempt() -> AttemptRef {
    AttemptRef {
        payment_intent_id: id(1),
        attempt_id: id(2),
        provider: "scb".into(),
        reference: "REF".into(),
        provider_id: None,
        tender: Tender::PromptPay,
        manual_capture: false,
        amount: OWED,
        created_at: at(0),
        expires_at: at(EXPIRES),
    }
}

fn begin(tried: u32) -> Start {
    Start { attempt: attempt(), card_token: None, return_url: None, tried, uncertain_since: None }
}

fn begun(tried: u32, uncertain_since: Option<DateTime<Utc>>) -> Task {
    Task::Start { attempt: attempt(), card_token: None, return_url: None, tried, uncertain_since }
}

pub(super) fn declined<T>() -> CallOutcome<T> {
    CallOutcome::Declined(Decline { code: "not_supported".into(), message: "E-9".into() })
}

pub(super) fn unknown<T>() -> CallOutcome<T> {
    CallOutcome::Unknown("time-out".into())
}

pub(super) fn not_attempted<T>() -> CallOutcome<T> {
    CallOutcome::NotAttempted("breaker open".into())
}

fn seen(transaction: &str, satang: i64, reversed: bool) -> PaymentSeen {
    let refunded = if reversed { satang } else { 0 };
    PaymentSeen { transaction_id: transaction.into(), amount: Money::thb(satang), paid_at: at(30), refunded, dispute: None }
}

/// The books show these payments on the attempt.
fn books(payments: Vec<PaymentSeen>) -> CallOutcome<AttemptView> {
    let status = if payments.is_empty() { AttemptStatus::NotFound } else { AttemptStatus::Paid };
    CallOutcome::Done(AttemptView { provider_id: None, status, payments })
}

/// The commands of a step by name, and the task that replaces it, as text: neither has an equality of its own.
pub(super) fn told(step: &Step) -> Vec<String> {
    step.commands.iter().map(|command| format!("{command:?}").split_whitespace().next().unwrap_or_default().to_owned()).collect()
}

fn inquire(mode: InquiryMode, asked: u32) -> Task {
    Task::Inquire { attempt: attempt(), mode, asked }
}

fn watched(asked: u32, outcome: CallOutcome<AttemptView>, second: i64) -> Step {
    after_inquiry(attempt(), InquiryMode::Watch, asked, AWAITED, outcome, at(second))
}

fn nothing_seen() -> CallOutcome<AttemptView> {
    books(vec![])
}

fn shown(payload: &str) -> CallOutcome<AttemptView> {
    let status = AttemptStatus::ActionRequired(NextAction::ShowQr { payload: payload.into() });
    CallOutcome::Done(AttemptView { provider_id: None, status, payments: vec![] })
}

#[test]
fn an_attempt_that_finds_no_place_among_our_own_calls_has_not_been_tried() {
    let full = CallOutcome::NotAttempted(NO_PLACE.to_owned());
    let step = after_start(begin(2), full, at(60));
    let Some((Task::Start { tried, .. }, due)) = step.next else { panic!("{step:?}") };
    assert_eq!((tried, step.commands.len()), (2, 0), "so that its payment is not moved to another account by a crowd");
    assert!(due > at(60) && due <= later(at(60), 500), "{due}");
    let late = AttemptRef { expires_at: at(61), ..attempt() };
    assert_eq!(after_start(Start { attempt: late, ..begin(0) }, CallOutcome::NotAttempted(NO_PLACE.to_owned()), at(60)).next, None);
}

#[test]
fn a_created_qr_is_shown_and_the_call_is_done() {
    let step = after_start(begin(0), shown("000201"), at(1));
    let [ProcessCommand::RequireAction { payment_intent_id, attempt_id, qr_payload, redirect_url: None }] = &step.commands[..] else {
        panic!("{step:?}");
    };
    assert_eq!((*payment_intent_id, *attempt_id, qr_payload.as_deref()), (id::<PaymentIntentId>(1), id::<AttemptId>(2), Some("000201")));
    assert_eq!(step.next, None);
}

#[test]
fn a_refused_creation_fails_the_attempt_in_the_words_of_the_provider() {
    let step = after_start(begin(3), declined(), at(1));
    let [ProcessCommand::FailAttempt { code, message, .. }] = &step.commands[..] else { panic!("{step:?}") };
    assert_eq!((code.as_str(), message.as_str()), ("not_supported", "E-9"));
    assert_eq!(step.next, None);
}

/// The pause after which a call about the attempt is repeated, spread.
fn after(second: i64, pause_ms: i64, tried: u32) -> DateTime<Utc> {
    later(at(second), spread_ms(pause_ms, &attempt().reference, tried))
}

#[test]
fn a_creation_that_never_left_is_tried_again() {
    let step = after_start(begin(2), not_attempted(), at(1));
    assert!(step.commands.is_empty());
    assert_eq!(step.next, Some((begun(3, None), after(1, 2_000, 2))));
}

#[test]
fn a_creation_with_an_unknown_outcome_is_said_and_tried_again_under_the_same_reference() {
    let step = after_start(begin(0), unknown(), at(1));
    assert_eq!(told(&step), ["MarkAttemptUnknown"]);
    assert_eq!(step.next, Some((begun(1, Some(at(1))), after(1, 500, 0))));
}

#[test]
fn what_an_earlier_try_left_uncertain_stays_so_when_the_next_never_left() {
    let uncertain = Start { uncertain_since: Some(at(1)), ..begin(2) };
    assert_eq!(after_start(uncertain, not_attempted(), at(5)).next, Some((begun(3, Some(at(1))), after(5, 2_000, 2))));
}

#[test]
fn nobody_needs_a_qr_after_the_deadline() {
    for outcome in [unknown(), not_attempted()] {
        assert_eq!(after_start(begin(9), outcome, at(EXPIRES - 53)).next, None, "24 seconds later at the soonest, and 30 for the call");
    }
    assert!(may_start(UNANSWERED, &attempt(), at(EXPIRES - 30)));
    assert!(!may_start(UNANSWERED, &attempt(), at(EXPIRES - 29)), "the call could outlive the attempt");
}

#[test]
fn a_charge_is_not_made_for_an_intent_that_does_not_wait_for_it() {
    let stopping = Standing { begins: false, ..UNANSWERED };
    assert!(!may_start(stopping, &attempt(), at(1)) && !may_start(OVER, &attempt(), at(1)));
}

#[test]
fn a_cancel_believes_an_empty_look_only_when_no_call_can_be_hidden_any_more() {
    let look = |second| after_inquiry(attempt(), InquiryMode::Cancel, 0, UNANSWERED, nothing_seen(), at(second));
    let early = look(DEADLINE - 1);
    assert!(early.commands.is_empty(), "the charge may still come: {early:?}");
    assert!(matches!(early.next, Some((Task::Stop { mode: InquiryMode::Cancel, .. }, due)) if due > at(DEADLINE - 1)));
    assert_eq!(told(&look(DEADLINE)), ["ConfirmCancel"]);
}

#[test]
fn what_is_held_for_nobody_is_let_go_of() {
    let held = || {
        let status = AttemptStatus::Authorized { amount: OWED, capture_before: None };
        CallOutcome::Done(AttemptView { provider_id: None, status, payments: vec![] })
    };
    let step = after_inquiry(attempt(), InquiryMode::Watch, 4, OVER, held(), at(60));
    assert!(matches!(step.next, Some((Task::Stop { mode: InquiryMode::Watch, .. }, due)) if due <= at(60 + 48)), "{step:?}");
    let awaited = watched(4, held(), 60);
    assert!(matches!(awaited.next, Some((Task::Inquire { .. }, _))), "{awaited:?}");
}

#[test]
fn what_can_be_paid_for_nobody_is_stopped() {
    let step = after_inquiry(attempt(), InquiryMode::Watch, 4, OVER, shown("000201"), at(60));
    assert!(matches!(step.next, Some((Task::Stop { mode: InquiryMode::Watch, .. }, due)) if due <= at(60 + 48)), "{step:?}");
}

#[test]
fn the_watch_of_an_intent_that_is_over_ends_with_the_ladder() {
    let strange = CallOutcome::Done(AttemptView { provider_id: None, status: AttemptStatus::Unrecognized("new".into()), payments: vec![] });
    for outcome in [strange, shown("000201"), unknown(), not_attempted(), declined()] {
        let look = |standing, second| after_inquiry(attempt(), InquiryMode::Watch, 40, standing, outcome.clone(), at(second)).next;
        assert!(look(OVER, DEADLINE + 3_599).is_some());
        assert_eq!(look(OVER, DEADLINE + 3_600), None);
        assert!(look(AWAITED, DEADLINE + 3_600).is_some(), "somebody still waits");
    }
}

#[test]
fn a_cancel_is_confirmed_beside_money_of_another_amount() {
    let less =
        CallOutcome::Done(AttemptView { provider_id: None, status: AttemptStatus::NotFound, payments: vec![seen("T1", 50_00, false)] });
    let step = after_inquiry(attempt(), InquiryMode::Cancel, 0, AWAITED, less, at(60));
    assert_eq!((told(&step), step.next), (vec!["ConfirmPayment".to_owned(), "ConfirmCancel".to_owned()], None));
}

#[test]
fn a_payment_in_the_books_is_confirmed_with_what_they_show() {
    for mode in [InquiryMode::Watch, InquiryMode::Cancel] {
        let step = after_inquiry(attempt(), mode, 0, AWAITED, books(vec![seen("T1", 100_00, false)]), at(60));
        let [ProcessCommand::ConfirmPayment { payment_intent_id, report }] = &step.commands[..] else { panic!("{step:?}") };
        assert_eq!(*payment_intent_id, id(1));
        let expected = PaymentReport {
            attempt_id: Some(id(2)),
            transaction_id: Some("T1".into()),
            amount: OWED,
            paid_at: at(30),
            evidence: Evidence::Inquiry,
            cash_received: None,
            cash_rounding: 0,
            tip: 0,
            acquirer: None,
        };
        assert_eq!((report, step.next), (&expected, None));
    }
}

#[test]
fn a_name_under_which_nothing_is_found_is_no_answer_of_the_provider() {
    let view = |status| CallOutcome::Done(AttemptView { provider_id: Some("Q1".into()), status, payments: vec![] });
    assert!(watched(0, view(AttemptStatus::NotFound), 60).commands.is_empty());
    assert_eq!(told(&watched(0, view(AttemptStatus::Pending), 60)), ["AcceptAttempt"]);
}

#[test]
fn every_payment_in_the_books_is_confirmed_and_reversed_ones_are_not() {
    let payments = vec![seen("T1", 100_00, false), seen("T2", 100_00, true), seen("T3", 5, false)];
    let step = watched(0, books(payments), 60);
    assert_eq!(told(&step), ["ConfirmPayment", "ConfirmPayment"]);
    let all_reversed = watched(0, books(vec![seen("T2", 100_00, true)]), 60);
    assert!(all_reversed.commands.is_empty() && all_reversed.next.is_some());
}

#[test]
fn another_amount_does_not_end_the_watch() {
    let less = || books(vec![seen("T1", 99_00, false)]);
    let step = watched(0, less(), 60);
    assert_eq!(told(&step), ["ConfirmPayment"]);
    assert_eq!(step.next, Some((inquire(InquiryMode::Watch, 1), at(66))));
    let over = watched(9, less(), DEADLINE);
    assert_eq!(told(&over), ["ConfirmPayment", "ExpirePayment"]);
}

#[test]
fn before_the_deadline_an_unpaid_attempt_is_asked_about_again() {
    for (asked, second, due) in [(0, 3, 9), (1, 9, 21), (2, 21, 51), (50, 300, 330)] {
        let step = watched(asked, nothing_seen(), second);
        assert!(step.commands.is_empty());
        assert_eq!(step.next, Some((inquire(InquiryMode::Watch, asked + 1), at(due))));
    }
}

#[test]
fn the_last_question_before_the_end_is_asked_exactly_at_the_deadline() {
    let step = watched(9, nothing_seen(), EXPIRES);
    assert!(step.commands.is_empty(), "within the margin a payment may still be invisible");
    assert_eq!(step.next, Some((inquire(InquiryMode::Watch, 10), at(DEADLINE))));
    assert!(watched(10, nothing_seen(), DEADLINE - 1).commands.is_empty());
    assert_eq!(told(&watched(10, nothing_seen(), DEADLINE)), ["ExpirePayment"]);
}

#[test]
fn late_money_is_looked_for_on_a_ladder_that_ends() {
    let (mut second, mut rungs) = (DEADLINE, Vec::new());
    while let Some((task, due)) = watched(10, nothing_seen(), second).next {
        assert_eq!(task, inquire(InquiryMode::Watch, 11));
        second = (due - at(0)).num_seconds();
        rungs.push((second - DEADLINE) / 60);
        assert!(rungs.len() < 10, "the ladder does not end: {rungs:?}");
    }
    assert_eq!(rungs, [1, 5, 15, 60]);
}

#[test]
fn late_money_on_the_ladder_is_confirmed() {
    let step = watched(12, books(vec![seen("T1", 100_00, false)]), DEADLINE + 300);
    assert_eq!((told(&step), step.next), (vec!["ConfirmPayment".to_owned()], None));
}

#[test]
fn a_read_that_failed_says_nothing_and_is_repeated() {
    for mode in [InquiryMode::Watch, InquiryMode::Cancel] {
        for outcome in [declined(), not_attempted(), unknown()] {
            let step = after_inquiry(attempt(), mode, 4, AWAITED, outcome, at(DEADLINE + 10));
            assert!(step.commands.is_empty(), "{step:?}");
            assert_eq!(step.next, Some((inquire(mode, 5), after(DEADLINE + 10, 48_000, 4))));
        }
    }
}

#[test]
fn a_person_is_told_at_the_published_time_of_what_nobody_can_read() {
    for mode in [InquiryMode::Watch, InquiryMode::Cancel] {
        let (mut asked, mut now) = (0, at(0));
        let told_at = loop {
            let step = after_inquiry(attempt(), mode, asked, UNANSWERED, unknown(), now);
            let Some((Task::Inquire { asked: next, .. }, due)) = step.next else { panic!("{step:?}") };
            if !step.commands.is_empty() {
                break now;
            }
            (asked, now) = (next, due);
        };
        assert_eq!(told_at, resolves_by(at(EXPIRES)), "neither early nor late");
    }
}

#[test]
fn a_cancel_is_confirmed_when_the_books_show_nothing() {
    let step = after_inquiry(attempt(), InquiryMode::Cancel, 0, AWAITED, nothing_seen(), at(60));
    assert_eq!((told(&step), step.next), (vec!["ConfirmCancel".to_owned()], None));
}

#[test]
fn what_failed_together_is_not_repeated_together() {
    let pauses: Vec<i64> = (0..1_000).map(|n| spread_ms(10_000, &format!("SMP{n}"), 3)).collect();
    assert!(pauses.iter().all(|pause| (8_000..=10_000).contains(pause)), "a fifth less at most, and never more");
    let fullest = (8_000..10_000).step_by(200).map(|from| pauses.iter().filter(|pause| (from..from + 200).contains(*pause)).count()).max();
    assert!(fullest.is_some_and(|fullest| fullest < 150), "a tenth of them in each tenth of that: {fullest:?}");
    assert_eq!(spread_ms(10_000, "SMP1", 3), spread_ms(10_000, "SMP1", 3));
    assert_ne!(spread_ms(10_000, "SMP1", 3), spread_ms(10_000, "SMP1", 4));
    assert_eq!((spread_ms(0, "SMP1", 3), spread_ms(i64::MAX, "SMP1", 3) > 0), (0, true));
}

#[test]
fn pauses_double_to_half_a_minute_and_stay_there() {
    let pauses: Vec<i64> = (0..8).map(retry_delay_ms).collect();
    assert_eq!(pauses, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
    assert_eq!(retry_delay_ms(u32::MAX), 30_000);
    assert_eq!([0, 1, 2, 3, u32::MAX].map(inquiry_delay_ms), [3_000, 6_000, 12_000, 30_000, 30_000]);
}

/// Answers that prove nothing: no word, or a request that never left.
pub(super) fn some_silence<T: std::fmt::Debug + Clone + 'static>() -> impl Strategy<Value = CallOutcome<T>> {
    prop_oneof![Just(CallOutcome::Unknown("time-out".to_owned())), Just(CallOutcome::NotAttempted("refused".to_owned()))]
}

proptest! {
    #[test]
    fn a_time_out_is_never_a_failure(silences in prop::collection::vec(some_silence::<AttemptView>(), 1..60)) {
        let mut next = Some((begun(0, None), at(0)));
        for outcome in silences {
            let Some((Task::Start { attempt: same, card_token, return_url, tried, uncertain_since }, now)) = next else { break };
            prop_assert_eq!(&same, &attempt());
            let start = Start { attempt: same, card_token, return_url, tried, uncertain_since };
            let silent = matches!(outcome, CallOutcome::NotAttempted(_));
            let step = after_start(start, outcome, now);
            prop_assert_eq!(told(&step), if silent { vec![] } else { vec!["MarkAttemptUnknown".to_owned()] });
            prop_assert!(step.next.as_ref().is_none_or(|(_, due)| *due > now && *due < at(EXPIRES)));
            next = step.next;
        }
    }

    #[test]
    fn an_unanswered_inquiry_decides_nothing(silence in some_silence(), mode in prop_oneof![Just(InquiryMode::Watch), Just(InquiryMode::Cancel)], asked in any::<u32>(), second in 0_i64..10_000) {
        let step = after_inquiry(attempt(), mode, asked, AWAITED, silence, at(second));
        // Nothing but that a person is told, once the schedule is over.
        let over = at(second) >= resolves_by(at(EXPIRES));
        prop_assert_eq!(told(&step), if over { vec!["LeaveToPerson".to_owned()] } else { vec![] });
        prop_assert!(step.next.is_some_and(|(_, due)| due > at(second)));
    }

    #[test]
    fn a_watch_that_sees_nothing_ends_within_the_hour_after_the_deadline(lags in prop::collection::vec(0_i64..40, 400)) {
        let (mut asked, mut now, mut ended) = (0, at(3), false);
        for lag in lags {
            let step = after_inquiry(attempt(), InquiryMode::Watch, asked, AWAITED, nothing_seen(), now);
            prop_assert_eq!(told(&step).contains(&"ExpirePayment".to_owned()), now >= at(DEADLINE));
            let Some((_, due)) = step.next else { ended = true; break };
            prop_assert!(due > now && due <= at(DEADLINE + 3_600));
            // The driver may be late, never early.
            (asked, now) = (asked + 1, due + Duration::seconds(lag));
        }
        prop_assert!(ended && now >= at(DEADLINE + 3_600));
    }
}

#[test]
fn a_task_survives_a_restart() {
    let hint = Task::FollowHint { provider: "scb".into(), reference: "REF".into(), transaction_id: Some("T".into()), tried: 2 };
    let create = begun(1, Some(at(3)));
    for task in [create, inquire(InquiryMode::Cancel, 7), hint, Task::Lapse { payment_intent_id: id(1) }] {
        let row = serde_json::to_string(&task).unwrap();
        assert_eq!(serde_json::from_str::<Task>(&row).unwrap(), task, "{row}");
    }
}
