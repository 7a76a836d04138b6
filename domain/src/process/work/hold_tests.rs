//! What an answer means for an attempt that is stopped, captured or raised.

use super::{
    super::tests::{AWAITED, at},
    *,
};
use crate::{
    money::Money,
    payment_intent::{AttemptEnd, Tender},
    provider::{Decline, PaymentSeen},
};

fn asked(amount: i64, tried: u32) -> Asked {
    Asked { amount, request: 7, tried, unclear_since: None, uncertain_since: None, told: false }
}

/// A card whose amount is held.
fn attempt() -> AttemptRef {
    let (provider, provider_id) = ("omise".into(), Some("chrg_1".into()));
    AttemptRef { provider, provider_id, tender: Tender::OnlineCard, manual_capture: true, ..super::super::tests::attempt() }
}

fn books(status: AttemptStatus, captured: Option<i64>) -> CallOutcome<AttemptView> {
    let payment =
        |amount| PaymentSeen { transaction_id: "T1".into(), amount: Money::thb(amount), paid_at: at(30), refunded: 0, dispute: None };
    CallOutcome::Done(AttemptView { provider_id: Some("chrg_1".into()), status, payments: captured.map(payment).into_iter().collect() })
}

fn held() -> AttemptStatus {
    AttemptStatus::Authorized { amount: Money::thb(100_00), capture_before: Some(at(7_000)) }
}

fn refused() -> CallOutcome<AttemptView> {
    CallOutcome::Declined(Decline { code: "not_supported".into(), message: "E-9".into() })
}

fn unknown() -> CallOutcome<AttemptView> {
    CallOutcome::Unknown("time-out".into())
}

#[test]
fn a_capture_is_done_once_the_books_show_the_money() {
    let step = after_capture(attempt(), asked(40_00, 0), books(AttemptStatus::Paid, Some(40_00)), at(60));
    let [ProcessCommand::ConfirmPayment { report, .. }] = &step.commands[..] else { panic!("{step:?}") };
    assert_eq!((report.amount, step.next), (Money::thb(40_00), None));
}

#[test]
fn a_capture_without_a_clear_answer_is_repeated_and_never_a_failure() {
    let unclear_since = Some(at(60));
    let task = |tried, uncertain_since| Task::Capture {
        attempt: attempt(),
        capture: 40_00,
        request: 7,
        tried,
        unclear_since,
        uncertain_since,
        told: false,
    };
    let again = |tried| Some((task(tried, None), repeated(at(60), &attempt(), 2)));
    let step = after_capture(attempt(), asked(40_00, 2), unknown(), at(60));
    assert!(matches!(step.commands[..], [ProcessCommand::MarkAttemptUnknown { .. }]), "{step:?}");
    assert_eq!(step.next, Some((task(3, Some(at(60))), repeated(at(60), &attempt(), 2))));
    let silent = after_capture(attempt(), asked(40_00, 2), CallOutcome::NotAttempted("breaker open".into()), at(60));
    assert_eq!((silent.commands.len(), silent.next), (0, again(3)));
    let lagging = after_capture(attempt(), asked(40_00, 2), books(held(), None), at(60));
    assert_eq!(
        lagging.next,
        Some((task(3, Some(at(60))), repeated(at(60), &attempt(), 2))),
        "the books still show the hold: the same capture is asked for again"
    );
}

#[test]
fn a_capture_is_asked_for_once_more_only_where_the_books_show_the_hold() {
    let unclear = Asked { unclear_since: Some(at(50)), ..asked(40_00, 1) };
    let look = |outcome| before_capture_again(&attempt(), unclear, false, &outcome, at(60));
    assert!(look(books(held(), None)).is_none(), "nothing was captured");
    let taken = look(books(AttemptStatus::Paid, Some(40_00))).unwrap();
    assert!(matches!(taken.commands[..], [ProcessCommand::ConfirmPayment { .. }]), "{taken:?}");
    assert_eq!(taken.next, None);
    for outcome in [unknown(), refused(), books(AttemptStatus::Pending, None)] {
        let step = look(outcome).unwrap();
        assert!(matches!(step.next, Some((Task::Capture { tried: 2, .. }, _))), "{step:?}");
    }
    // Shown as held and as taken in one answer: the money counts.
    assert!(look(books(held(), Some(40_00))).is_some());
}

#[test]
fn of_a_capture_whose_maker_died_it_is_noted_that_nobody_knows_what_it_did_before_it_is_made_again() {
    for (tried, unclear_since) in [(0, None), (3, Some(at(10)))] {
        let asked = Asked { unclear_since, uncertain_since: unclear_since, ..asked(40_00, tried) };
        let step = before_capture_again(&attempt(), asked, true, &books(held(), None), at(60)).unwrap();
        let noted = Task::Capture {
            attempt: attempt(),
            capture: 40_00,
            request: 7,
            tried,
            unclear_since: unclear_since.or(Some(at(60))),
            uncertain_since: Some(at(60)),
            told: false,
        };
        assert_eq!((step.commands.len(), step.next), (0, Some((noted, at(60)))));
    }
}

#[test]
fn of_a_capture_or_an_increase_that_stays_unclear_a_person_is_told_after_an_hour() {
    let told = |step: &Step| step.commands.iter().any(|command| matches!(command, ProcessCommand::LeaveToPerson { .. }));
    let since = |tried| Asked { unclear_since: Some(at(60)), ..asked(40_00, tried) };
    let an_hour_later = at(60 + 3_600);
    for after in [after_capture, after_increase] {
        let step = after(attempt(), since(90), unknown(), at(60 + 3_590));
        assert!(!told(&step));
        assert_eq!(step.next.map(|(_, due)| due), Some(an_hour_later), "a look at the published time");
        let step = after(attempt(), since(91), unknown(), an_hour_later);
        assert!(told(&step) && step.next.is_some(), "it is asked on");
        assert!(told(&after(attempt(), since(91), CallOutcome::NotAttempted("breaker open".into()), an_hour_later)));
    }
    assert!(told(&before_capture_again(&attempt(), since(91), false, &unknown(), an_hour_later).unwrap()));
}

#[test]
fn a_refused_capture_is_said_and_leaves_room_for_the_next() {
    let step = after_capture(attempt(), asked(40_00, 0), refused(), at(60));
    assert!(matches!(step.commands[..], [ProcessCommand::FailCapture { .. }]), "{step:?}");
    assert_eq!(step.next, None);
}

#[test]
fn a_refusal_of_a_capture_says_nothing_while_the_books_may_hide_what_an_earlier_try_did() {
    // Since when it is unclear does not matter: the last call without an answer does.
    let uncertain = Asked { unclear_since: Some(at(0)), uncertain_since: Some(at(60)), ..asked(40_00, 2) };
    let step = after_capture(attempt(), uncertain, refused(), at(179));
    assert!(step.commands.is_empty(), "{step:?}");
    assert!(matches!(step.next, Some((Task::Capture { tried: 3, .. }, _))), "{step:?}");
    let step = after_capture(attempt(), uncertain, refused(), at(180));
    assert!(matches!(step.commands[..], [ProcessCommand::FailCapture { .. }]) && step.next.is_none(), "{step:?}");
}

#[test]
fn a_hold_that_is_gone_ends_the_attempt() {
    let step = after_capture(attempt(), asked(40_00, 0), books(AttemptStatus::Expired, None), at(60));
    assert!(matches!(step.commands[..], [ProcessCommand::EndAttempt { how: AttemptEnd::Expired, .. }]), "{step:?}");
    assert_eq!(step.next, None);
}

#[test]
fn a_hold_is_looked_at_hourly_and_just_after_it_lapses() {
    let look = |second| after_inquiry(attempt(), InquiryMode::Watch, 4, AWAITED, books(held(), None), at(second)).next.map(|(_, due)| due);
    assert_eq!(look(700), Some(at(4_300)), "after the attempt's deadline too: what is held is not unpaid");
    assert_eq!(look(4_300), Some(at(7_005)));
    assert_eq!(look(8_000), Some(at(11_600)));
}

#[test]
fn a_hold_that_lapses_at_the_end_of_time_is_looked_at_hourly() {
    let for_ever = AttemptStatus::Authorized { amount: Money::thb(100_00), capture_before: Some(DateTime::<Utc>::MAX_UTC) };
    let step = after_inquiry(attempt(), InquiryMode::Watch, 4, AWAITED, books(for_ever, None), at(700));
    assert_eq!(step.next.map(|(_, due)| due), Some(at(4_300)));
}

#[test]
fn a_watch_ends_with_what_was_captured_and_goes_on_after_more_than_was_asked_for() {
    let look = |captured| after_inquiry(attempt(), InquiryMode::Watch, 4, AWAITED, books(AttemptStatus::Paid, Some(captured)), at(60));
    for captured in [40_00, 100_00] {
        assert_eq!(look(captured).next, None, "{captured}");
    }
    // Of a hold that was raised; an intent that has not heard of that does not end by it.
    assert!(matches!(look(150_00).next, Some((Task::Inquire { .. }, _))));
}

#[test]
fn a_provider_that_does_not_answer_a_stop_ends_with_a_person() {
    // Stop and look in turn, neither of which is answered.
    let mut task = Task::Stop { attempt: attempt(), mode: InquiryMode::Watch, tried: 9 };
    let (mut now, mut told) = (at(605), false);
    while !told {
        let step = if let Task::Stop { attempt, mode, tried } = task {
            after_stop(attempt, mode, tried, AWAITED, unknown(), now)
        } else if let Task::Inquire { attempt, mode, asked } = task {
            after_inquiry(attempt, mode, asked, AWAITED, unknown(), now)
        } else {
            panic!("{task:?}")
        };
        told = step.commands.iter().any(|command| matches!(command, ProcessCommand::LeaveToPerson { .. }));
        (task, now) = step.next.unwrap();
    }
    assert!(now <= at(605 + 3_600 + 1_200), "{now}");
}

#[test]
fn a_stop_is_believed_when_the_books_show_it() {
    let step = after_stop(attempt(), InquiryMode::Cancel, 0, AWAITED, books(AttemptStatus::Canceled, None), at(60));
    assert!(matches!(step.commands[..], [ProcessCommand::EndAttempt { how: AttemptEnd::Canceled, .. }]), "{step:?}");
    assert_eq!(step.next, None);
}

#[test]
fn a_stop_that_came_too_late_gives_the_payment() {
    let step = after_stop(attempt(), InquiryMode::Cancel, 0, AWAITED, books(AttemptStatus::Paid, Some(100_00)), at(60));
    assert!(matches!(step.commands[..], [ProcessCommand::ConfirmPayment { .. }]), "{step:?}");
    assert_eq!(step.next, None);
}

#[test]
fn a_provider_that_cannot_stop_is_asked_what_it_shows() {
    let step = after_stop(attempt(), InquiryMode::Cancel, 0, AWAITED, refused(), at(60));
    assert!(step.commands.is_empty());
    assert_eq!(step.next, Some((Task::Inquire { attempt: attempt(), mode: InquiryMode::Cancel, asked: 0 }, at(60))));
}

#[test]
fn a_stop_without_an_answer_decides_nothing_and_the_books_are_read() {
    for outcome in [unknown(), CallOutcome::NotAttempted("breaker open".into())] {
        let step = after_stop(attempt(), InquiryMode::Cancel, 1, AWAITED, outcome, at(60));
        assert!(step.commands.is_empty());
        assert_eq!(
            step.next,
            Some((Task::Inquire { attempt: attempt(), mode: InquiryMode::Cancel, asked: 1 }, repeated(at(60), &attempt(), 1)))
        );
    }
}

#[test]
fn what_is_still_payable_at_its_deadline_is_stopped_before_it_expires_here() {
    let step = after_inquiry(attempt(), InquiryMode::Watch, 9, AWAITED, books(AttemptStatus::Pending, None), at(605));
    assert!(step.commands.is_empty(), "{step:?}");
    assert!(matches!(step.next, Some((Task::Stop { mode: InquiryMode::Watch, .. }, _))));
    let stopped = after_stop(attempt(), InquiryMode::Watch, 0, AWAITED, books(AttemptStatus::Canceled, None), at(606));
    assert!(matches!(stopped.commands[..], [ProcessCommand::EndAttempt { how: AttemptEnd::Expired, .. }]), "{stopped:?}");
}

#[test]
fn a_raised_hold_is_told_and_a_refused_one_as_well() {
    let more = AttemptStatus::Authorized { amount: Money::thb(150_00), capture_before: None };
    let step = after_increase(attempt(), asked(150_00, 0), books(more, None), at(60));
    assert!(matches!(step.commands[..], [ProcessCommand::AuthorizeAttempt { .. }]), "{step:?}");
    let refused = after_increase(attempt(), asked(150_00, 0), refused(), at(60));
    assert!(matches!(refused.commands[..], [ProcessCommand::FailIncrease { .. }]), "{refused:?}");
    assert_eq!(refused.next, None);
}

#[test]
fn a_raise_that_the_books_do_not_show_is_over() {
    let step = after_increase(attempt(), asked(150_00, 0), books(held(), None), at(60));
    assert!(matches!(step.commands[..], [ProcessCommand::AuthorizeAttempt { .. }, ProcessCommand::FailIncrease { .. }]), "{step:?}");
    assert_eq!(step.next, None);
}
