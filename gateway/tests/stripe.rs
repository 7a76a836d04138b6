//! What is Stripe's alone, against its simulator over real HTTP.
#![expect(clippy::unwrap_used, reason = "the helpers of a test may panic like the test itself")]

mod stage;
mod world;

use std::sync::Arc;

use chrono::TimeDelta;
use domain::{
    money::Money,
    payment_intent::DisputeOutcome,
    provider::{AttemptStatus, AttemptView, CallOutcome, HintSubject, IncrementRequest, Method, NextAction, RefundStatus, StartRequest},
};
use gateway::{StripeConfig, StripeProvider, promptpay::ParsedQr, stripe::simulator};
use serde_json::json;
use world::{World, declined, done, failure_of, named};

const KEY: &str = "sk_test_of_the_simulation";
const HOOK: &str = "whsec_of_the_simulation";

async fn world() -> World {
    let settings = simulator::Settings {
        secret_key: KEY.to_owned(),
        webhook_secret: HOOK.to_owned(),
        other_webhook_secret: "whsec_after_the_roll".to_owned(),
        api_version: StripeConfig::default_api_version(),
    };
    World::new(
        |listener, config, stop| simulator::serve(listener, settings, config, stop),
        |base_url, clock, timeout_ms| {
            let config = json!({"base_url": base_url, "secret_key": KEY, "webhook_secret": HOOK, "incremental_authorization": true,
                "timeout_ms": timeout_ms});
            Arc::new(StripeProvider::new(serde_json::from_value(config).unwrap(), clock).unwrap())
        },
    )
    .await
}

fn hold(world: &World) -> StartRequest {
    StartRequest { manual_capture: true, ..world.card("pm_card_visa") }
}

#[tokio::test]
async fn a_card_is_charged_once_however_often_it_is_asked_for() {
    let world = world().await;
    let request = world.card("pm_card_visa");
    let first = world.started(&request).await;
    assert_eq!(first.status, AttemptStatus::Paid);
    assert_eq!(first.payments[0].amount, Money::thb(100_00));
    assert_eq!(world.started(&request).await, first);
    assert_eq!(world.inquire(&request.key).await, first);
    assert_eq!(world.ledger().await["totals"]["received"], 100_00);
    world.exchanges_hold_none_of(&[KEY, HOOK, "pm_card_visa", "4242"]);
}

#[tokio::test]
async fn every_broken_answer_to_a_charge_ends_in_one_charge() {
    let world = world().await;
    let faults = ["timeout_after", "http_500_after", "cut_body", "not_json", "empty_body", "trouble_after", "reset_after", "slow"];
    for fault in faults {
        let request = world.card("pm_card_visa");
        world.fault("start", fault).await;
        assert!(matches!(world.start(&request).await, CallOutcome::Unknown(_)), "{fault}");
        assert_eq!(world.started(&request).await.status, AttemptStatus::Paid, "{fault}");
    }
    for fault in ["timeout_before", "http_500", "reset_before", "trouble"] {
        let request = world.card("pm_card_visa");
        world.fault("start", fault).await;
        assert!(matches!(world.start(&request).await, CallOutcome::Unknown(_)), "{fault}");
        assert_eq!(world.started(&request).await.status, AttemptStatus::Paid, "{fault}");
    }
    let ledger = world.ledger().await;
    assert_eq!(ledger["attempts"].as_array().unwrap().len(), 12);
    assert_eq!(ledger["totals"]["received"], 12 * 100_00);
}

#[tokio::test]
async fn a_stored_error_is_replayed_and_the_books_decide() {
    let world = world().await;
    let request = world.card("pm_sim_stored_500");
    for _ in 0..2 {
        assert!(matches!(world.start(&request).await, CallOutcome::Unknown(_)));
    }
    assert_eq!(world.inquire(&request.key).await.status, AttemptStatus::Paid);
    assert_eq!(world.ledger().await["attempts"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_same_key_with_other_parameters_adopts_the_first_charge() {
    let world = world().await;
    let request = world.card("pm_card_visa");
    let first = world.started(&request).await;
    let other = StartRequest { method: Method::Card { token: "pm_card_mastercard".to_owned() }, ..request };
    assert_eq!(world.started(&other).await, first);
    for fault in ["timeout_after", "http_500", "not_visible_yet"] {
        world.fault("inquire", fault).await;
        let outcome = world.start(&other).await;
        assert!(matches!(outcome, CallOutcome::Unknown(_)), "{fault}: the first charge stands, and cannot be seen: {outcome:?}");
    }
}

#[tokio::test]
async fn a_repeat_after_the_key_was_forgotten_creates_nothing() {
    let world = world().await;
    let request = world.card("pm_card_visa");
    world.advance(TimeDelta::hours(25));
    assert!(matches!(world.start(&request).await, CallOutcome::Unknown(_)));
    assert_eq!(world.ledger().await["attempts"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn refused_cards_say_why_and_the_money_stays() {
    let world = world().await;
    for (token, code) in [
        ("pm_card_chargeDeclined", "card_declined"),
        ("pm_card_chargeDeclinedInsufficientFunds", "insufficient_funds"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card"),
        ("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc"),
        ("pm_card_chargeDeclinedProcessingError", "processing_error"),
    ] {
        let view = world.started(&world.card(token)).await;
        assert_eq!(failure_of(&view), code);
        assert!(view.provider_id.is_some() && view.payments.is_empty());
    }
    assert_eq!(declined(world.start(&world.card("pm_nobody")).await), "invalid_request");
    assert_eq!(declined(world.start(&world.card("4242424242424242")).await), "invalid_request");
    assert_eq!(world.ledger().await["totals"]["received"], 0);
}

#[tokio::test]
async fn a_hold_is_raised_captured_in_part_and_captured_once() {
    let world = world().await;
    let request = hold(&world);
    let view = world.started(&request).await;
    assert!(matches!(view.status, AttemptStatus::Authorized { amount, capture_before: Some(_) } if amount == Money::thb(100_00)));
    let key = named(&request, &view);
    let raise = IncrementRequest { key: key.clone(), idempotency_key: "i-1".to_owned(), amount: Money::thb(150_00) };
    for _ in 0..2 {
        let raised = done(world.provider.increment(&raise, &world.log).await);
        assert!(matches!(raised.status, AttemptStatus::Authorized { amount, .. } if amount == Money::thb(150_00)));
    }
    world.fault("capture", "cut_body").await;
    assert!(matches!(world.capture(&key, 120_00).await, CallOutcome::Unknown(_)));
    let captured = done(world.capture(&key, 120_00).await);
    assert_eq!(captured.status, AttemptStatus::Paid);
    assert_eq!(captured.payments[0].amount, Money::thb(120_00));
    assert_eq!(done(world.capture(&key, 10_00).await), captured, "a second capture finds the first");
    assert_eq!(done(world.cancel(&key).await), captured, "the cancel lost");
    assert_eq!(world.ledger().await["totals"]["received"], 120_00);
}

#[tokio::test]
async fn a_raise_that_the_issuer_refuses_leaves_the_hold() {
    let world = world().await;
    let request = StartRequest { manual_capture: true, ..world.card("pm_sim_no_increment") };
    let key = named(&request, &world.started(&request).await);
    let raise = IncrementRequest { key: key.clone(), idempotency_key: "i-2".to_owned(), amount: Money::thb(150_00) };
    assert_eq!(declined(world.provider.increment(&raise, &world.log).await), "card_declined");
    assert!(matches!(world.inquire(&key).await.status, AttemptStatus::Authorized { amount, .. } if amount == Money::thb(100_00)));
}

#[tokio::test]
async fn a_hold_is_let_go_by_cancel_and_lapses_by_itself() {
    let world = world().await;
    let request = hold(&world);
    let key = named(&request, &world.started(&request).await);
    assert_eq!(done(world.cancel(&key).await).status, AttemptStatus::Canceled);
    assert_eq!(done(world.cancel(&request.key).await).status, AttemptStatus::Canceled);
    let request = hold(&world);
    let key = named(&request, &world.started(&request).await);
    world.post("/sim/expire", json!({"reference": key.reference})).await;
    assert_eq!(done(world.capture(&key, 100_00).await).status, AttemptStatus::Expired);
}

#[tokio::test]
async fn three_d_secure_is_a_redirect_and_only_the_books_say_how_it_went() {
    let world = world().await;
    let (good, bad) = (world.card("pm_card_authenticationRequired"), world.card("pm_card_authenticationRequired"));
    for request in [&good, &bad] {
        let view = world.started(request).await;
        assert!(matches!(view.status, AttemptStatus::ActionRequired(NextAction::Redirect { url }) if url.starts_with("https://")));
    }
    world.post("/sim/pay", json!({"reference": good.key.reference})).await;
    world.post("/sim/decline", json!({"reference": bad.key.reference})).await;
    assert_eq!(world.inquire(&good.key).await.status, AttemptStatus::Paid);
    assert_eq!(failure_of(&world.inquire(&bad.key).await), "authentication_failed");
}

#[tokio::test]
async fn promptpay_shows_its_code_and_what_came_is_told_to_the_satang() {
    let world = world().await;
    let request = world.request(Method::PromptPay, Money::thb(70_000_001));
    let view = world.started(&request).await;
    let AttemptStatus::ActionRequired(NextAction::ShowQr { payload }) = &view.status else { panic!("{view:?}") };
    assert_eq!(ParsedQr::parse(payload).unwrap().amount, Some(Money::thb(70_000_001)));
    world.post("/sim/pay", json!({"reference": request.key.reference, "amount": 70_000_000})).await;
    let paid = world.inquire(&named(&request, &view)).await;
    assert_eq!(paid.payments[0].amount, Money::thb(70_000_000), "less than owed is told as it is");
    let held = StartRequest { manual_capture: true, ..world.request(Method::PromptPay, Money::thb(100_00)) };
    assert_eq!(declined(world.start(&held).await), "not_supported");
}

#[tokio::test]
async fn currencies_keep_their_decimals() {
    let world = world().await;
    for (code, minor) in [("JPY", 700), ("KWD", 1_001), ("USD", 1)] {
        let amount = Money::new(minor, code.parse().unwrap());
        let view = world.started(&world.request(Method::Card { token: "pm_card_visa".to_owned() }, amount)).await;
        assert_eq!(view.payments[0].amount, amount);
    }
}

#[tokio::test]
async fn refunds_are_partial_bounded_and_never_doubled() {
    let world = world().await;
    let request = world.card("pm_card_visa");
    let view = world.started(&request).await;
    for fault in ["cut_body", "http_500_after", "timeout_after"] {
        let refund = world.refund_of(&view, &request.key, 20_00);
        world.fault("refund", fault).await;
        assert!(matches!(world.refund(&refund).await, CallOutcome::Unknown(_)), "{fault}");
        assert!(matches!(done(world.refund(&refund).await), RefundStatus::Succeeded { .. }), "{fault}");
    }
    assert_eq!(declined(world.refund(&world.refund_of(&view, &request.key, 40_01)).await), "amount_not_allowed");
    let rest = world.refund_of(&view, &request.key, 40_00);
    assert_eq!(world.inquire_refund(&rest).await, RefundStatus::NotFound);
    assert!(matches!(done(world.refund(&rest).await), RefundStatus::Succeeded { .. }));
    assert_eq!(declined(world.refund(&world.refund_of(&view, &request.key, 1)).await), "conflict");
    assert_eq!(world.ledger().await["totals"]["reversed"], 100_00);
    assert_eq!(world.inquire(&request.key).await.payments[0].refunded, 100_00);
}

#[tokio::test]
async fn a_refund_waits_and_one_that_succeeded_fails_later() {
    let world = world().await;
    let (slow, bad) = (world.card("pm_card_pendingRefund"), world.card("pm_card_refundFail"));
    world.refunds_wait_and_fail_later(&slow, &bad).await;
    let hints = [world.heard().await, world.heard().await, world.heard().await, world.heard().await];
    let about = |key: &str| hints.iter().filter(|hint| hint.as_ref().unwrap().subject == HintSubject::Reference(key.to_owned())).count();
    assert_eq!((about(&slow.key.reference), about(&bad.key.reference)), (2, 2), "{hints:?}");
}

#[tokio::test]
async fn a_roll_of_the_secret_is_lived_through_and_forgeries_are_refused() {
    world().await.tells_a_roll_from_forgeries().await;
}

#[tokio::test]
async fn a_word_that_nobody_knows_is_unresolved_and_new_fields_are_ignored() {
    let world = world().await;
    let request = world.card("pm_card_visa");
    world.fault("start", "unknown_status").await;
    assert!(matches!(world.started(&request).await.status, AttemptStatus::Unrecognized(_)));
    world.fault("inquire", "extra_fields").await;
    assert_eq!(world.inquire(&request.key).await.status, AttemptStatus::Paid);
    world.fault("inquire", "not_visible_yet").await;
    assert_eq!(world.inquire(&request.key).await.status, AttemptStatus::NotFound);
}

#[tokio::test]
async fn the_books_tell_how_a_dispute_stands() {
    let world = world().await;
    let request = world.card("pm_card_createDispute");
    let paid = world.started(&request).await;
    let dispute = |seen: &AttemptView| seen.payments[0].dispute.clone();
    assert_eq!(dispute(&world.inquire(&named(&request, &paid)).await).unwrap().outcome, None);
    world.post("/sim/dispute", json!({"reference": request.key.reference, "state": "won"})).await;
    let seen = dispute(&world.inquire(&named(&request, &paid)).await).unwrap();
    assert_eq!((seen.outcome, seen.reason.as_str()), (Some(DisputeOutcome::Won), "fraudulent"));
}
