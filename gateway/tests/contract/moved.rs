//! Sending back, cancelling, holding and capturing.

use chrono::TimeDelta;
use domain::{
    money::Money,
    process::{
        ProcessCommand, RefundRef, Task,
        work::refund::{after_refund, after_refund_check},
    },
    provider::{AttemptStatus, CallOutcome, CaptureRequest, ExchangeLog, IncrementRequest, RefundRequest, RefundStatus},
    refund::ProviderPayment,
};
use serde_json::json;

use crate::{
    behaviour::UNCLEAR,
    world::{Launch, Setup, World},
};

/// From the evening at which a world begins to two seconds before the end of the Bangkok day.
const TO_MIDNIGHT: TimeDelta = TimeDelta::seconds(5 * 3_600 - 2);

/// The provider has taken the refund.
fn is_taken(outcome: &CallOutcome<RefundStatus>) -> bool {
    matches!(outcome, CallOutcome::Done(RefundStatus::Succeeded { .. } | RefundStatus::Pending { .. }))
}

pub async fn a_refund_happens_once_however_often_it_is_asked_for(launch: Launch) {
    let world = launch(Setup::default()).await;
    let (request, refund) = world.paid(75_00).await;
    assert_eq!(world.look_refund(&refund).await, CallOutcome::Done(RefundStatus::NotFound));
    for _ in 0..3 {
        let outcome = world.refund(&refund).await;
        assert!(is_taken(&outcome), "{outcome:?}");
    }
    assert!(is_taken(&world.look_refund(&refund).await));
    assert_eq!(world.sent_back().await, 75_00);
    let view = world.view(&request).await;
    assert!(view.payments[0].is_reversed(), "{view:?}");
}

pub async fn every_fault_of_a_refund_ends_in_one_refund(launch: Launch) {
    let world = launch(Setup::default()).await;
    let mut expected = 0;
    for fault in UNCLEAR.into_iter().chain(["trouble_after", "http_429"]) {
        let (_, refund) = world.paid(30_00).await;
        world.fault("refund", fault, 1).await;
        let outcome = world.refund(&refund).await;
        match fault {
            "http_429" => assert!(matches!(outcome, CallOutcome::NotAttempted(_)), "{fault}: {outcome:?}"),
            _ => assert!(matches!(outcome, CallOutcome::Unknown(_)), "{fault}: {outcome:?}"),
        }
        if !is_taken(&world.look_refund(&refund).await) {
            world.settle();
            let outcome = world.refund(&refund).await;
            assert!(is_taken(&outcome), "{fault}: {outcome:?}");
        }
        expected += 30_00;
        assert_eq!(world.sent_back().await, expected, "{fault}");
    }
    assert_eq!(world.faults_left().await, 0);
}

/// Carries a refund out as the worker does, without its waits; what it ends with.
async fn carried_out(world: &World, request: &RefundRequest) -> ProcessCommand {
    let asked = |refund: &RefundRef| RefundRequest { uncertain_since: refund.uncertain_since, now: world.now(), ..request.clone() };
    let payment = ProviderPayment {
        provider: "bank".to_owned(),
        reference: request.reference.clone(),
        provider_id: request.provider_id.clone(),
        transaction_id: request.transaction_id.clone(),
        captured: request.captured,
        paid_at: request.paid_at,
    };
    let mut task = Task::Refund(RefundRef::new(request.refund_id, request.amount, payment));
    for _ in 0..20 {
        let step = if let Task::Refund(refund) = task {
            let outcome = world.provider.refund(&asked(&refund), &world.log).await;
            after_refund(refund, outcome, world.now())
        } else if let Task::CheckRefund(refund) = task {
            let outcome = world.provider.inquire_refund(&asked(&refund), &world.log).await;
            after_refund_check(refund, outcome, world.now())
        } else {
            panic!("{task:?} is not about a refund")
        };
        let Some((next, due)) = step.next else { return step.commands.into_iter().next_back().unwrap() };
        world.advance(due - world.now());
        task = next;
    }
    panic!("it does not end: {task:?}")
}

pub async fn a_refund_whose_answer_is_lost_is_no_failure_while_the_books_do_not_show_it(launch: Launch) {
    for wait in [TimeDelta::zero(), TO_MIDNIGHT] {
        let world = launch(Setup::default()).await;
        let (request, refund) = world.paid(75_00).await;
        world.advance(wait);
        // An access token has lapsed by then.
        world.view(&request).await;
        world.fault("refund", "http_500_after", 1).await;
        world.fault("refund", "settled", 1).await;
        let look = if world.traits.card.is_some() { "inquire_refund" } else { "inquire" };
        world.fault(look, "not_visible_yet", 2).await;
        let end = carried_out(&world, &refund).await;
        assert!(matches!(end, ProcessCommand::SucceedRefund { .. }), "{wait}: {end:?}");
        assert_eq!(world.sent_back().await, 75_00, "{wait}");
    }
}

pub async fn a_void_that_was_not_made_is_refused_once_the_books_would_show_it(launch: Launch) {
    let world = launch(Setup::default()).await;
    if world.traits.card.is_some() {
        return;
    }
    let (request, refund) = world.paid(75_00).await;
    world.advance(TO_MIDNIGHT);
    world.view(&request).await;
    world.fault("refund", "http_500", 1).await;
    let asked_at = world.now();
    let end = carried_out(&world, &refund).await;
    assert!(matches!(&end, ProcessCommand::FailRefund { code, .. } if code == "cut_off_passed"), "{end:?}");
    assert!(world.now() - asked_at >= TimeDelta::minutes(2));
    assert_eq!(world.sent_back().await, 0);
}

pub async fn part_of_a_payment_is_sent_back_or_refused(launch: Launch) {
    let world = launch(Setup::default()).await;
    let (request, whole) = world.paid(75_00).await;
    let part = RefundRequest { amount: Money::thb(25_00), ..whole };
    let outcome = world.refund(&part).await;
    if world.provider.capabilities().partial_refund {
        assert!(is_taken(&outcome), "{outcome:?}");
        assert_eq!(world.sent_back().await, 25_00);
        assert_eq!(world.view(&request).await.payments[0].refunded, 25_00);
    } else {
        assert!(matches!(&outcome, CallOutcome::Declined(d) if d.code == "not_supported"), "{outcome:?}");
        assert_eq!(world.sent_back().await, 0, "no silent refund of the whole");
    }
}

fn cancels(world: &World) -> bool {
    world.provider.capabilities().cancel
}

pub async fn a_cancelled_attempt_stays_cancelled(launch: Launch) {
    let world = launch(Setup::default()).await;
    let request = world.started(40_00).await;
    let outcome = world.cancel(&request).await;
    if !cancels(&world) {
        assert!(matches!(&outcome, CallOutcome::Declined(d) if d.code == "not_supported"), "{outcome:?}");
        return;
    }
    for outcome in [outcome, world.cancel(&request).await, world.inquire(&request).await] {
        assert!(matches!(&outcome, CallOutcome::Done(view) if view.status == AttemptStatus::Canceled), "{outcome:?}");
    }
    assert!(!world.try_pay(&request, json!({})).await.0, "it was paid after the cancel");
}

pub async fn a_cancel_that_lost_shows_the_payment(launch: Launch) {
    let world = launch(Setup::default()).await;
    if !cancels(&world) {
        return;
    }
    let (request, _) = world.paid(40_00).await;
    let outcome = world.cancel(&request).await;
    let CallOutcome::Done(view) = outcome else { panic!("{outcome:?}") };
    assert_eq!((view.status, view.payments.len()), (AttemptStatus::Paid, 1));
    assert_eq!(world.sent_back().await, 0);
}

pub async fn every_fault_of_a_cancel_ends_in_one_cancelled_attempt(launch: Launch) {
    let world = launch(Setup::default()).await;
    if !cancels(&world) {
        return;
    }
    for fault in UNCLEAR {
        let request = world.started(40_00).await;
        world.fault("cancel", fault, 1).await;
        let outcome = world.cancel(&request).await;
        let unclear = matches!(&outcome, CallOutcome::Unknown(_) | CallOutcome::NotAttempted(_));
        let found_out = matches!(&outcome, CallOutcome::Done(view) if view.status == AttemptStatus::Canceled);
        assert!(unclear || found_out, "{fault}: {outcome:?}");
        let outcome = world.cancel(&request).await;
        assert!(matches!(&outcome, CallOutcome::Done(view) if view.status == AttemptStatus::Canceled), "{fault}: {outcome:?}");
    }
    assert_eq!(world.faults_left().await, 0);
}

pub async fn a_hold_is_captured_once(launch: Launch) {
    let world = launch(Setup::default()).await;
    let (Some(card), true) = (world.traits.card.clone(), world.provider.capabilities().manual_capture) else { return };
    let mut request = world.request(80_00);
    (request.method, request.manual_capture) = (card, true);
    let outcome = world.start(&request).await;
    let CallOutcome::Done(view) = outcome else { panic!("{outcome:?}") };
    assert!(matches!(view.status, AttemptStatus::Authorized { amount, .. } if amount == Money::thb(80_00)), "{view:?}");
    request.key.provider_id = view.provider_id;
    let partial = world.provider.capabilities().partial_capture;
    let amount = Money::thb(if partial { 50_00 } else { 80_00 });
    let idempotency_key = format!("capture-{}", request.key.reference);
    let capture = CaptureRequest { key: request.key.clone(), idempotency_key, amount };
    for _ in 0..2 {
        let outcome = world.provider.capture(&capture, &ExchangeLog::default()).await;
        let CallOutcome::Done(view) = outcome else { panic!("{outcome:?}") };
        assert_eq!(view.payments.iter().map(|p| p.amount.amount).sum::<i64>(), amount.amount);
    }
    assert_eq!(world.ledger().await["totals"]["received"], amount.amount);
}

pub async fn what_is_not_supported_is_declined_without_a_call(launch: Launch) {
    let world = launch(Setup::default()).await;
    let request = world.started(10_00).await;
    let (key, idempotency_key, amount) = (request.key.clone(), "k".to_owned(), Money::thb(10_00));
    let (can, log) = (world.provider.capabilities(), ExchangeLog::default());
    let mut outcomes = vec![];
    if !can.manual_capture {
        let capture = CaptureRequest { key: key.clone(), idempotency_key: idempotency_key.clone(), amount };
        outcomes.push(world.provider.capture(&capture, &log).await);
        let mut held = world.request(10_00);
        held.manual_capture = true;
        outcomes.push(world.provider.start(&held, &log).await);
    }
    if !can.incremental_authorization {
        outcomes.push(world.provider.increment(&IncrementRequest { key, idempotency_key, amount }, &log).await);
    }
    for outcome in outcomes {
        assert!(matches!(&outcome, CallOutcome::Declined(d) if d.code == "not_supported"), "{outcome:?}");
    }
    assert!(log.take().is_empty());
}
