//! What is Omise's alone, against its simulator over real HTTP.
#![expect(clippy::unwrap_used, reason = "the helpers of a test may panic like the test itself")]

mod stage;
mod world;

use std::sync::Arc;

use chrono::TimeDelta;
use domain::{
    money::Money,
    payment_intent::DisputeOutcome,
    provider::{AttemptStatus, CallOutcome, HintSubject, Method, NextAction, RefundStatus, StartRequest},
};
use gateway::{OmiseConfig, OmiseProvider, omise::simulator};
use serde_json::json;
use stage::TIMEOUT_MS;
use world::{World, declined, done, failure_of, named};

const KEY: &str = "skey_test_of_the_simulation";
const HOOK: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OTHER_HOOK: &str = "HwECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

async fn world() -> World {
    world_with(false).await
}

async fn world_with(promptpay_refundable: bool) -> World {
    let settings = simulator::Settings {
        secret_key: KEY.to_owned(),
        webhook_secret: HOOK.to_owned(),
        other_webhook_secret: OTHER_HOOK.to_owned(),
        promptpay_refundable,
    };
    World::new(
        |listener, config, stop| simulator::serve(listener, settings, config, stop),
        |base_url, clock, timeout_ms| Arc::new(OmiseProvider::new(config(base_url, timeout_ms), clock).unwrap()),
    )
    .await
}

fn config(base_url: &str, timeout_ms: u64) -> OmiseConfig {
    serde_json::from_value(json!({"base_url": base_url, "secret_key": KEY, "webhook_secret": HOOK, "timeout_ms": timeout_ms})).unwrap()
}

fn hold(world: &World) -> StartRequest {
    StartRequest { manual_capture: true, ..world.card("tokn_test_ok") }
}

fn code(world: &World, satang: i64) -> StartRequest {
    world.request(Method::PromptPay, Money::thb(satang))
}

#[tokio::test]
async fn a_card_is_charged_once_however_often_and_by_whomever_it_is_asked_for() {
    let mut world = world().await;
    let request = world.card("tokn_test_ok");
    let first = world.started(&request).await;
    assert_eq!(first.status, AttemptStatus::Paid);
    assert_eq!(first.payments[0].amount, Money::thb(100_00));
    assert_eq!(world.started(&request).await, first);
    // Another process knows nothing of the first try.
    world.provider = Arc::new(OmiseProvider::new(config(&world.base_url, TIMEOUT_MS), world.clock.clone()).unwrap());
    assert_eq!(world.started(&request).await, first);
    assert_eq!(world.inquire(&named(&request, &first)).await, first);
    assert_eq!(world.ledger().await["totals"]["received"], 100_00);
    world.exchanges_hold_none_of(&[KEY, HOOK, "tokn_test_ok", "4242", "SIMULATED PAYER"]);
}

#[tokio::test]
async fn every_broken_answer_to_a_charge_ends_in_one_charge() {
    let world = world().await;
    let faults = ["timeout_after", "http_500_after", "cut_body", "not_json", "empty_body", "trouble_after", "reset_after", "slow"];
    for fault in faults {
        let request = world.card("tokn_test_ok");
        world.fault("start", fault).await;
        assert!(matches!(world.start(&request).await, CallOutcome::Unknown(_)), "{fault}");
        assert_eq!(world.started(&request).await.status, AttemptStatus::Paid, "{fault}");
    }
    assert_eq!(world.ledger().await["attempts"].as_array().unwrap().len(), faults.len());
    assert_eq!(world.ledger().await["totals"]["received"], 8 * 100_00);
}

#[tokio::test]
async fn nothing_is_created_again_while_the_list_may_lag() {
    let world = world().await;
    let made = world.card("tokn_test_ok");
    world.fault("start", "timeout_after").await;
    assert!(matches!(world.start(&made).await, CallOutcome::Unknown(_)));
    world.fault("inquire", "not_visible_yet").await;
    assert!(matches!(world.start(&made).await, CallOutcome::NotAttempted(_)), "absence proves nothing yet");
    assert_eq!(world.started(&made).await.status, AttemptStatus::Paid);

    let lost = world.card("tokn_test_ok");
    world.fault("start", "timeout_before").await;
    assert!(matches!(world.start(&lost).await, CallOutcome::Unknown(_)));
    assert!(matches!(world.start(&lost).await, CallOutcome::NotAttempted(_)));
    world.advance(TimeDelta::minutes(2));
    assert_eq!(world.started(&lost).await.status, AttemptStatus::Paid);
    assert_eq!(world.ledger().await["attempts"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn another_process_makes_nothing_again_while_the_list_may_lag() {
    let mut world = world().await;
    let charge = world.card("tokn_test_ok");
    let paid = world.started(&world.card("tokn_test_ok")).await;
    let refund = world.refund_of(&paid, &charge.key, 100_00);
    world.fault("start", "http_500_after").await;
    assert!(matches!(world.start(&charge).await, CallOutcome::Unknown(_)));
    world.fault("refund", "http_500_after").await;
    assert!(matches!(world.refund(&refund).await, CallOutcome::Unknown(_)));
    // It knows of the tries only what the task says.
    world.provider = Arc::new(OmiseProvider::new(config(&world.base_url, TIMEOUT_MS), world.clock.clone()).unwrap());
    world.advance(TimeDelta::seconds(1));
    for _ in 0..3 {
        world.fault("inquire", "not_visible_yet").await;
        let started = world.start(&charge).await;
        assert!(matches!(started, CallOutcome::NotAttempted(_)), "{started:?}");
        // The charge says already that nothing of it is left to refund.
        world.fault("inquire_refund", "not_visible_yet").await;
        let refunded = world.refund(&refund).await;
        assert!(matches!(refunded, CallOutcome::NotAttempted(_)), "{refunded:?}");
    }
    assert_eq!(world.started(&charge).await.status, AttemptStatus::Paid);
    assert!(matches!(done(world.refund(&refund).await), RefundStatus::Succeeded { .. }));
    let totals = world.ledger().await["totals"].clone();
    assert_eq!((&totals["received"], &totals["reversed"]), (&json!(200_00), &json!(100_00)));
}

#[tokio::test]
async fn a_first_try_searches_no_list() {
    let world = world().await;
    world.started(&world.card("tokn_test_ok")).await;
    assert!(world.log.take().iter().all(|exchange| exchange.operation == "start"));
}

#[tokio::test]
async fn what_certainly_made_nothing_is_repeated_at_once() {
    let world = world().await;
    let request = world.card("tokn_test_ok");
    world.fault("start", "http_429").await;
    assert!(matches!(world.start(&request).await, CallOutcome::NotAttempted(_)));
    world.advance(TimeDelta::seconds(30));
    assert_eq!(world.started(&request).await.status, AttemptStatus::Paid);
    let code = code(&world, 100_00);
    world.fault("token", "cut_body").await;
    assert!(matches!(world.start(&code).await, CallOutcome::NotAttempted(_)), "a source owes nothing");
    assert!(matches!(world.started(&code).await.status, AttemptStatus::ActionRequired(_)));
}

#[tokio::test]
async fn refused_cards_say_why_and_the_money_stays() {
    let world = world().await;
    for (number, code) in [
        ("4111111111140011", "insufficient_funds"),
        ("5555551111100012", "lost_or_stolen_card"),
        ("3530111111170013", "processing_error"),
        ("4111111111110014", "card_declined"),
    ] {
        let token = world.post("/tokens", json!({"card": {"number": number}})).await["id"].as_str().unwrap().to_owned();
        assert_eq!(failure_of(&world.started(&world.card(&token)).await), code);
    }
    assert_eq!(declined(world.start(&world.card("tokn_test_used")).await), "card_declined");
    assert_eq!(declined(world.start(&world.card("4242424242424242")).await), "invalid_request");
    let odd = world.started(&world.card("tokn_test_confirmed_amount_mismatch")).await;
    assert!(matches!(odd.status, AttemptStatus::Unrecognized(_)), "for a person: {odd:?}");
    assert_eq!(world.ledger().await["totals"]["received"], 0);
}

#[tokio::test]
async fn a_completed_charge_that_only_holds_is_not_paid() {
    let world = world().await;
    let request = hold(&world);
    let view = world.started(&request).await;
    let hint = world.heard().await.unwrap();
    assert_eq!((hint.subject, hint.transaction_id), (HintSubject::Reference(request.key.reference.clone()), None));
    assert!(matches!(view.status, AttemptStatus::Authorized { amount, .. } if amount == Money::thb(100_00)));
    assert!(view.payments.is_empty());
    let key = named(&request, &view);
    world.fault("capture", "cut_body").await;
    assert!(matches!(world.capture(&key, 60_00).await, CallOutcome::Unknown(_)));
    let captured = done(world.capture(&key, 60_00).await);
    assert_eq!((&captured.status, captured.payments[0].amount), (&AttemptStatus::Paid, Money::thb(60_00)));
    assert_eq!(done(world.cancel(&key).await), captured, "the cancel lost");
    assert_eq!(world.ledger().await["totals"]["received"], 60_00);
}

#[tokio::test]
async fn a_capture_that_is_refused_for_good_leaves_the_hold() {
    let world = world().await;
    let request = hold(&world);
    let key = named(&request, &world.started(&request).await);
    assert_eq!(declined(world.capture(&key, 100_01).await), "capture_refused");
    assert!(matches!(world.inquire(&key).await.status, AttemptStatus::Authorized { .. }));
    assert_eq!(done(world.capture(&key, 60_00).await).payments[0].amount, Money::thb(60_00));
}

#[tokio::test]
async fn a_hold_is_reversed_a_code_is_expired_and_a_hold_lapses() {
    let world = world().await;
    let held = hold(&world);
    world.started(&held).await;
    world.fault("cancel", "http_500_after").await;
    assert!(matches!(world.cancel(&held.key).await, CallOutcome::Unknown(_)));
    assert_eq!(done(world.cancel(&held.key).await).status, AttemptStatus::Canceled);
    let code = code(&world, 100_00);
    world.started(&code).await;
    assert_eq!(done(world.cancel(&code.key).await).status, AttemptStatus::Canceled);
    let lapsing = hold(&world);
    world.started(&lapsing).await;
    world.post("/sim/expire", json!({"reference": lapsing.key.reference})).await;
    assert_eq!(done(world.capture(&lapsing.key, 100_00).await).status, AttemptStatus::Expired);
    assert_eq!(done(world.cancel(&world.card("tokn_test_ok").key).await).status, AttemptStatus::NotFound);
}

#[tokio::test]
async fn three_d_secure_is_a_redirect_and_only_the_books_say_how_it_went() {
    let world = world().await;
    let (good, bad, left) = (world.card("tokn_test_threeds"), world.card("tokn_test_threeds"), world.card("tokn_test_threeds"));
    for request in [&good, &bad, &left] {
        assert!(matches!(world.started(request).await.status, AttemptStatus::ActionRequired(NextAction::Redirect { .. })));
    }
    world.post("/sim/pay", json!({"reference": good.key.reference})).await;
    world.post("/sim/decline", json!({"reference": bad.key.reference})).await;
    assert_eq!(world.inquire(&good.key).await.status, AttemptStatus::Paid);
    assert_eq!(failure_of(&world.inquire(&bad.key).await), "card_declined");
    assert!(matches!(world.inquire(&left.key).await.status, AttemptStatus::ActionRequired(_)), "coming back is no evidence");
}

#[tokio::test]
async fn promptpay_has_bounds_and_other_amounts_are_told_as_they_came() {
    let world = world().await;
    for satang in [19_99, 150_000_01] {
        assert_eq!(declined(world.start(&code(&world, satang)).await), "amount_not_allowed");
    }
    let request = code(&world, 100_00);
    assert!(matches!(world.started(&request).await.status, AttemptStatus::ActionRequired(NextAction::Redirect { .. })));
    world.post("/sim/pay", json!({"reference": request.key.reference, "amount": 99_99})).await;
    assert_eq!(world.inquire(&request.key).await.payments[0].amount, Money::thb(99_99));
    let request = code(&world, 100_00);
    world.started(&request).await;
    world.post("/sim/pay", json!({"reference": request.key.reference, "currency": "USD"})).await;
    assert_eq!(world.inquire(&request.key).await.payments[0].amount, Money::new(100_00, "USD".parse().unwrap()));
}

#[tokio::test]
async fn refunds_are_partial_bounded_and_never_doubled() {
    let world = world().await;
    let request = world.card("tokn_test_ok");
    let view = world.started(&request).await;
    for fault in ["cut_body", "http_500_after", "timeout_after"] {
        let refund = world.refund_of(&view, &request.key, 20_00);
        world.fault("refund", fault).await;
        assert!(matches!(world.refund(&refund).await, CallOutcome::Unknown(_)), "{fault}");
        world.fault("inquire_refund", "not_visible_yet").await;
        assert!(matches!(world.refund(&refund).await, CallOutcome::NotAttempted(_)), "{fault}: absence proves nothing yet");
        assert!(matches!(done(world.refund(&refund).await), RefundStatus::Succeeded { .. }), "{fault}");
    }
    assert_eq!(declined(world.refund(&world.refund_of(&view, &request.key, 40_01)).await), "refund_refused");
    assert!(matches!(done(world.refund(&world.refund_of(&view, &request.key, 40_00)).await), RefundStatus::Succeeded { .. }));
    assert_eq!(world.ledger().await["totals"]["reversed"], 100_00);
    assert_eq!(world.inquire(&request.key).await.payments[0].refunded, 100_00);
}

#[tokio::test]
async fn the_charge_says_whether_promptpay_goes_back() {
    for refundable in [false, true] {
        let world = world_with(refundable).await;
        let request = code(&world, 100_00);
        world.started(&request).await;
        world.post("/sim/pay", json!({"reference": request.key.reference})).await;
        let outcome = world.refund(&world.refund_of(&world.inquire(&request.key).await, &request.key, 1)).await;
        if refundable {
            assert!(matches!(done(outcome), RefundStatus::Succeeded { .. }));
        } else {
            assert_eq!(declined(outcome), "not_supported");
            assert_eq!(world.ledger().await["totals"]["reversed"], 0);
        }
    }
}

#[tokio::test]
async fn a_refund_waits_and_one_that_closed_fails_later() {
    let world = world().await;
    let (slow, bad) = (world.card("tokn_test_slowrefund"), world.card("tokn_test_badrefund"));
    world.refunds_wait_and_fail_later(&slow, &bad).await;
}

#[tokio::test]
async fn a_dispute_names_its_charge() {
    let world = world().await;
    let request = world.card("tokn_test_ok");
    let view = world.started(&request).await;
    assert_eq!(world.heard().await.unwrap().transaction_id, view.provider_id, "the charge itself");
    world.post("/sim/dispute", json!({"reference": request.key.reference})).await;
    assert_eq!(world.heard().await.unwrap().subject, HintSubject::ProviderId(view.provider_id.unwrap()));
}

#[tokio::test]
async fn a_roll_of_the_secret_is_lived_through_and_forgeries_are_refused() {
    world().await.tells_a_roll_from_forgeries().await;
}

#[tokio::test]
async fn a_word_that_nobody_knows_is_unresolved_and_new_fields_are_ignored() {
    let world = world().await;
    let request = world.card("tokn_test_ok");
    world.fault("start", "unknown_status").await;
    let view = world.started(&request).await;
    assert!(matches!(view.status, AttemptStatus::Unrecognized(_)));
    world.fault("inquire", "extra_fields").await;
    assert_eq!(world.inquire(&named(&request, &view)).await.status, AttemptStatus::Paid);
    world.fault("inquire", "not_visible_yet").await;
    assert_eq!(world.inquire(&request.key).await.status, AttemptStatus::NotFound);
}

#[tokio::test]
async fn the_books_tell_how_a_dispute_stands() {
    let world = world().await;
    let request = world.card("tokn_test_ok");
    let paid = world.started(&request).await;
    assert_eq!(paid.payments[0].dispute, None);
    let states = [("open", None), ("lost", Some(DisputeOutcome::Lost))];
    for (state, outcome) in states {
        world.post("/sim/dispute", json!({"reference": request.key.reference, "state": state})).await;
        let seen = world.inquire(&named(&request, &paid)).await;
        let dispute = seen.payments[0].dispute.as_ref().unwrap();
        assert_eq!((dispute.outcome, dispute.reason.as_str()), (outcome, "goods_or_services_not_provided"));
    }
}
