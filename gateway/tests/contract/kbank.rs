//! KBank in the contract suite, and what is its alone.

use domain::provider::{
    AttemptStatus, AttemptView, CallOutcome, HintSubject, Method, RawWebhook, RefundRequest, RefundStatus, WebhookRefusal,
};
use gateway::kbank::simulator::{Settings, serve};
use serde_json::{Value, json};

use crate::world::{Heard, Setup, Stage, Traits, World};

pub async fn world(setup: Setup) -> World {
    world_with(setup, json!({})).await
}

/// With other settings of the connector.
async fn world_with(setup: Setup, changes: Value) -> World {
    let mut settings = json!({"consumer_id": "kb-hidden-id", "consumer_secret": "kb-hidden-secret", "partner_id": "PTR0000001",
        "partner_secret": "kb-hidden-partner", "merchant_id": "KB000000000001", "webhook_path_secret": "kb-hidden-path-secret",
        "quota_pause_ms": 0});
    settings.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    let traits = Traits {
        method: Method::PromptPay,
        card: None,
        has_status: true,
        has_tokens: true,
        pays_twice: false,
        settling: chrono::TimeDelta::zero(),
        secrets: &["kb-hidden-id", "kb-hidden-secret", "kb-hidden-partner", "kb-hidden-path-secret", "simk-0000", "a2ItaGlkZGVu"],
    };
    let bank = Settings {
        consumer_id: "kb-hidden-id".to_owned(),
        consumer_secret: "kb-hidden-secret".to_owned(),
        partner_id: "PTR0000001".to_owned(),
        partner_secret: "kb-hidden-partner".to_owned(),
        merchant_id: "KB000000000001".to_owned(),
    };
    World::new("kbank", "kb-hidden-path-secret", settings, traits, setup.seed, |Stage { listener, config, stop }| {
        tokio::spawn(serve(listener, bank, config, stop));
    })
    .await
}

fn code_of<T: std::fmt::Debug>(outcome: CallOutcome<T>) -> String {
    let CallOutcome::Declined(decline) = outcome else { panic!("expected a decline, got {outcome:?}") };
    decline.code
}

/// Why an attempt failed, by the bank's books.
fn failure_of(outcome: CallOutcome<AttemptView>) -> String {
    let CallOutcome::Done(AttemptView { status: AttemptStatus::Failed(decline), .. }) = outcome else {
        panic!("expected a failed attempt, got {outcome:?}")
    };
    decline.code
}

/// The bank's own word for the code.
async fn state(world: &World, reference: &str) -> String {
    let ledger = world.ledger().await;
    let row = ledger["attempts"].as_array().unwrap().iter().find(|row| row["reference"] == reference).unwrap();
    row["state"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_code_whose_text_was_lost_is_cancelled_for_a_new_one_to_take_its_place() {
    let world = world(Setup::default()).await;
    let request = world.request(60_00);
    world.fault("start", "cut_body", 1).await;
    assert!(matches!(world.start(&request).await, CallOutcome::Unknown(_)));
    assert_eq!(world.view(&request).await.status, AttemptStatus::Pending, "the inquiry does not repeat the text");
    assert_eq!(failure_of(world.start(&request).await), "qr_lost");
    assert_eq!(state(&world, &request.key.reference).await, "CANCELLED");
    assert!(!world.try_pay(&request, json!({})).await.0, "the lost code can still be paid");
    assert_eq!(failure_of(world.start(&request).await), "qr_lost", "a repeat says the same");
    world.started(60_00).await;
}

#[tokio::test]
async fn a_lost_code_that_was_paid_all_the_same_counts() {
    let world = world(Setup::default()).await;
    let request = world.request(60_00);
    world.fault("start", "reset_after", 1).await;
    assert!(matches!(world.start(&request).await, CallOutcome::Unknown(_)));
    world.pay(&request, json!({})).await;
    let outcome = world.start(&request).await;
    let CallOutcome::Done(view) = outcome else { panic!("{outcome:?}") };
    assert_eq!((view.status, view.payments.len()), (AttemptStatus::Paid, 1));
}

#[tokio::test]
async fn a_lost_code_is_not_given_up_before_its_cancel_is_confirmed() {
    let world = world(Setup::default()).await;
    let request = world.request(60_00);
    for (operation, fault) in [("start", "cut_body"), ("cancel", "http_500")] {
        world.fault(operation, fault, 1).await;
    }
    assert!(matches!(world.start(&request).await, CallOutcome::Unknown(_)));
    assert!(matches!(world.start(&request).await, CallOutcome::Unknown(_)), "the cancel did not come through");
    assert_eq!(state(&world, &request.key.reference).await, "REQUESTED");
    assert_eq!(failure_of(world.start(&request).await), "qr_lost");
}

#[tokio::test]
async fn a_code_lives_ten_minutes_and_late_money_is_still_seen() {
    let world = world(Setup::default()).await;
    let request = world.started(60_00).await;
    world.advance_minutes(9);
    assert_eq!(world.view(&request).await.status, AttemptStatus::Pending);
    world.advance_minutes(1);
    assert_eq!(world.view(&request).await.status, AttemptStatus::Expired);
    assert!(!world.try_pay(&request, json!({})).await.0);
    world.pay(&request, json!({"force": true})).await;
    let view = world.view(&request).await;
    assert_eq!((view.status, view.payments.len()), (AttemptStatus::Paid, 1));
}

#[tokio::test]
async fn two_payments_on_one_code_are_both_shown_and_each_goes_back_by_itself() {
    let world = world(Setup::default()).await;
    let request = world.started(60_00).await;
    world.pay(&request, json!({})).await;
    world.pay(&request, json!({"force": true, "amount": 45_50})).await;
    let amounts = |view: &domain::provider::AttemptView| {
        let mut seen: Vec<(i64, bool)> = view.payments.iter().map(|p| (p.amount.amount, p.is_reversed())).collect();
        seen.sort_unstable();
        seen
    };
    let view = world.view(&request).await;
    assert_eq!((&view.status, amounts(&view)), (&AttemptStatus::Paid, vec![(45_50, false), (60_00, false)]));
    assert_ne!(view.payments[0].transaction_id, view.payments[1].transaction_id);
    let second = view.payments.iter().find(|p| p.amount.amount == 45_50).unwrap();
    let refund = RefundRequest {
        refund_id: domain::ids::RefundId(request.key.attempt_id.0),
        reference: request.key.reference.clone(),
        provider_id: request.key.provider_id.clone(),
        transaction_id: second.transaction_id.clone(),
        amount: second.amount,
        captured: second.amount,
        paid_at: second.paid_at,
        uncertain_since: None,
        now: world.now(),
    };
    assert!(matches!(world.refund(&refund).await, CallOutcome::Done(RefundStatus::Succeeded { .. })));
    assert_eq!(amounts(&world.view(&request).await), [(45_50, true), (60_00, false)]);
    // A look at one of them that gives no answer is no answer: nothing is settled by half a view.
    world.fault("inquire", "http_500", 1).await;
    assert!(!matches!(world.inquire(&request).await, CallOutcome::Done(_)));
}

#[tokio::test]
async fn after_too_many_calls_the_bank_is_left_alone_for_a_while() {
    let world = world_with(Setup::default(), json!({"quota_pause_ms": 120_000})).await;
    let request = world.started(60_00).await;
    world.fault("inquire", "http_429", 1).await;
    assert!(matches!(world.inquire(&request).await, CallOutcome::NotAttempted(_)));
    world.exchanges();
    world.advance_minutes(1);
    assert!(matches!(world.inquire(&request).await, CallOutcome::NotAttempted(_)));
    assert!(world.exchanges().is_empty(), "it was called during the pause");
    world.advance_minutes(1);
    world.view(&request).await;
}

#[tokio::test]
async fn wrong_credentials_are_a_final_refusal() {
    for name in ["consumer_secret", "partner_secret"] {
        let world = world_with(Setup::default(), json!({name: "wrong"})).await;
        assert_eq!(code_of(world.start(&world.request(1_00)).await), "credentials_refused", "{name}");
    }
    let world = world_with(Setup::default(), json!({"merchant_id": "KB000000000002"})).await;
    assert_eq!(code_of(world.start(&world.request(1_00)).await), "account_refused");
}

#[tokio::test]
async fn a_void_is_for_the_day_of_payment_and_an_unknown_one_is_recognised_later() {
    let world = world(Setup::default()).await;
    let (_, kept) = world.paid(75_00).await;
    let (_, unknown) = world.paid(25_00).await;
    world.fault("refund", "http_500_after", 1).await;
    assert!(matches!(world.refund(&unknown).await, CallOutcome::Unknown(_)));
    world.advance_minutes(6 * 60);
    let later = |refund: RefundRequest| RefundRequest { now: world.now(), ..refund };
    assert_eq!(code_of(world.refund(&later(kept)).await), "cut_off_passed");
    assert!(matches!(world.refund(&later(unknown)).await, CallOutcome::Done(RefundStatus::Succeeded { .. })));
    assert_eq!(world.sent_back().await, 25_00);
}

fn raw<'a>(world: &World, heard: &'a Heard) -> RawWebhook<'a> {
    RawWebhook {
        proven: false,
        path_secret: heard.path_secret.as_deref(),
        headers: &heard.headers,
        body: &heard.body,
        received_at: world.now(),
    }
}

#[tokio::test]
async fn a_callback_of_a_failed_payment_waits_for_no_transaction() {
    let world = world(Setup::default()).await;
    let request = world.started(60_00).await;
    assert!(world.lever("/sim/decline", json!({"reference": request.key.reference, "webhook": {"retry_ms": 60_000}})).await.0);
    let heard = world.hear().await;
    let hint = world.provider.read_webhook(&raw(&world, &heard)).unwrap();
    assert_eq!(hint.transaction_id, None);
    assert_eq!(hint.subject, HintSubject::ProviderId(request.key.provider_id.clone().unwrap()));
    assert_eq!(world.view(&request).await.status, AttemptStatus::Canceled);
}

#[tokio::test]
async fn a_callback_of_another_partner_or_merchant_is_not_authentic() {
    let world = world(Setup::default()).await;
    let request = world.started(60_00).await;
    world.pay(&request, json!({"webhook": {"retry_ms": 60_000}})).await;
    let heard = world.hear().await;
    assert!(world.provider.read_webhook(&raw(&world, &heard)).is_ok());
    for (ours, other) in [("PTR0000001", "PTR0000002"), ("KB000000000001", "KB000000000002")] {
        let body = String::from_utf8(heard.body.clone()).unwrap().replace(ours, other).into_bytes();
        let altered = Heard { body, ..heard.clone() };
        assert_eq!(world.provider.read_webhook(&raw(&world, &altered)), Err(WebhookRefusal::NotAuthentic), "{other}");
    }
}

#[tokio::test]
async fn a_callback_without_a_payment_changes_nothing_in_the_books() {
    let world = world(Setup::default()).await;
    let request = world.started(60_00).await;
    world.lever("/sim/lie", json!({"reference": request.key.reference, "amount": 60_00, "webhook": {"retry_ms": 60_000}})).await;
    let heard = world.hear().await;
    let hint = world.provider.read_webhook(&raw(&world, &heard)).unwrap();
    assert_eq!(hint.subject, HintSubject::Reference(request.key.reference.clone()));
    assert!(world.view(&request).await.payments.is_empty());
}
