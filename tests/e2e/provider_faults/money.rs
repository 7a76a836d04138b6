//! Faults around cancels, holds and money that goes back.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::{Value, json};
use support::TestPlatform;

use super::{
    ledgers::tenant_of,
    stage::{Bank, Setup, Stage, at_each, patiently},
};

async fn cancel(stage: &Stage, intent: &str) -> support::Answered {
    let path = format!("/v1/payment-intents/{intent}/cancel");
    stage.post(&stage.shop.cashier, &path, json!({"reason": "requested_by_customer"})).await
}

pub async fn f18_money_after_a_cancel_is_recorded_and_can_be_accepted(platform: Arc<TestPlatform>) {
    join_all([(Bank::Scb, "accept"), (Bank::Kbank, "refund"), (Bank::Omise, "accept")].map(|(bank, decision)| {
        let platform = platform.clone();
        async move {
            let stage = Stage::open(&platform, bank).await;
            let (intent, reference) = stage.payable(80_00).await;
            cancel(&stage, &intent).await.ok();
            stage.status(&intent, "canceled").await;
            // The payer's app was quicker than the cancel.
            stage.pay(&reference, json!({"force": true, "webhook": {"retry_ms": 500}})).await;
            let late = |shown: &Value| shown["unmatched"][0].is_object();
            let shown = stage.until("late money is recorded", &intent, late).await;
            assert_eq!((&shown["unmatched"][0]["why"], &shown["status"]), (&json!("late"), &json!("canceled")), "{bank:?}");
            assert_eq!(shown["needs_attention"], true);
            stage.ledgers_agree().await;
            let transaction = shown["unmatched"][0]["transaction_id"].as_str().unwrap();
            let path = format!("/v1/payment-intents/{intent}/unmatched/{transaction}/resolve");
            stage.post(&stage.shop.manager, &path, json!({"decision": decision, "reason": "still here"})).await.ok();
            let (word, status) = if decision == "accept" { ("accepted", "succeeded") } else { ("refunded", "canceled") };
            let decided = |shown: &Value| shown["unmatched"][0]["resolution"] == word && shown["status"] == status;
            stage.until("it is decided", &intent, decided).await;
            stage.ledgers_agree().await;
        }
    }))
    .await;
}

pub async fn f19_a_cancel_that_raced_the_payment_has_lost(platform: Arc<TestPlatform>) {
    at_each(&platform, Bank::ALL, |stage| async move {
        let bank = stage.bank;
        let (intent, reference) = stage.payable(80_00).await;
        stage.pay(&reference, json!({})).await;
        let asked = cancel(&stage, &intent).await;
        let shown = stage.status(&intent, "succeeded").await;
        // Or the schedule was quicker than the caller.
        assert_eq!(shown["cancel"], if asked.status.is_success() { "lost" } else { "none" }, "{bank:?}");
        stage.ledgers_agree().await;
    })
    .await;
}

pub async fn f20_a_partial_refund_that_the_provider_does_not_make_is_refused_and_frees_its_reserve(platform: Arc<TestPlatform>) {
    join_all([Bank::Scb, Bank::Kbank, Bank::Omise].map(|bank| {
        let platform = platform.clone();
        async move {
            let stage = Stage::open_with(&platform, bank, Setup { promptpay_refundable: false, ..Setup::default() }).await;
            let intent = stage.paid(80_00).await;
            let refund = stage.refund(&intent, Some(30_00)).await.id();
            let shown = stage.refund_until("it is refused", &refund, |shown| shown["status"] == "failed").await;
            assert_eq!(shown["failure"]["code"], "not_supported", "{bank:?}: {shown}");
            stage.ledgers_agree().await;
            assert_eq!(stage.sim("/sim/ledger").await["totals"]["reversed"], 0, "no silent refund of the whole");
            if bank != Bank::Omise {
                // The whole can go back.
                let whole = patiently("the reserve is free again", || async {
                    let answer = stage.refund(&intent, Some(80_00)).await;
                    answer.status.is_success().then(|| answer.id())
                })
                .await;
                stage.refund_until("all of it went back", &whole, |shown| shown["status"] == "succeeded").await;
                stage.ledgers_agree().await;
                assert_eq!(stage.sim("/sim/ledger").await["totals"]["net"], 0);
            }
        }
    }))
    .await;
}

pub async fn f25_a_refund_that_the_books_do_not_show_yet_is_no_failure(platform: Arc<TestPlatform>) {
    at_each(&platform, [Bank::Scb, Bank::Kbank], |stage| async move {
        let (intent, reference) = stage.payable(80_00).await;
        // Found by the schedule: no look for a call-back comes between.
        stage.pay(&reference, json!({})).await;
        stage.status(&intent, "succeeded").await;
        // Two looks: after the call whose answer is lost, and after its repeat, which the bank refuses.
        stage.fault("inquire", "not_visible_yet", json!({"times": 2, "reference": reference})).await;
        stage.fault("refund", "http_500_after", json!({})).await;
        let refund = stage.refund(&intent, None).await.id();
        let ended = stage.refund_until("it ends", &refund, |shown| shown["status"] != "pending").await;
        assert_eq!(ended["status"], "succeeded", "{:?}: {ended}", stage.bank);
        stage.ledgers_agree().await;
        assert_eq!(stage.sim("/sim/ledger").await["totals"]["reversed"], 80_00);
    })
    .await;
}

pub async fn f21_refunds_never_exceed_what_was_captured(platform: Arc<TestPlatform>) {
    at_each(&platform, [Bank::Omise, Bank::Stripe], |stage| async move {
        let intent = stage.paid(100_00).await;
        assert_eq!(stage.refund(&intent, Some(100_01)).await.body["code"], "RefundExceedsCaptured");
        let first = stage.refund(&intent, Some(60_00)).await.id();
        assert_eq!(stage.refund(&intent, Some(40_01)).await.body["code"], "RefundExceedsCaptured");
        // A refund that failed on its way holds nothing back; one whose answer was lost does.
        stage.fault("refund", "http_500_after", json!({})).await;
        let second = stage.refund(&intent, None).await.id();
        assert!(stage.refund(&intent, Some(1)).await.status.is_client_error());
        for refund in [first, second] {
            stage.refund_until("it went back", &refund, |shown| shown["status"] == "succeeded").await;
        }
        stage.ledgers_agree().await;
        assert_eq!(stage.sim("/sim/ledger").await["totals"]["net"], 0);
    })
    .await;
    // A void after a refund of the whole is the same thing twice.
    let stage = Stage::open(&platform, Bank::Scb).await;
    let intent = stage.paid(100_00).await;
    let refund = stage.refund(&intent, None).await.id();
    assert!(stage.refund(&intent, Some(100_00)).await.status.is_client_error());
    stage.refund_until("it went back", &refund, |shown| shown["status"] == "succeeded").await;
    stage.ledgers_agree().await;
}

/// Waits until the schedule has seen a hold: from then on it looks hourly, and so not while a test runs.
async fn seen_by_the_schedule(stage: &Stage, reference: &str) {
    let sql = "select exists (select from process.task where tenant = $1 and key like 'watch:%' and task ->> 'reference' = $2
                              and due_at > now() + interval '30 minutes')";
    patiently("the first look is over", || async {
        let seen = sqlx::query_scalar::<_, bool>(sql).bind(tenant_of(stage.shop.merchant)).bind(reference);
        seen.fetch_one(&stage.platform.database.admin).await.unwrap().then_some(())
    })
    .await;
}

pub async fn f27_a_hold_that_lapsed_is_over_and_a_capture_whose_answer_was_lost_is_adopted(platform: Arc<TestPlatform>) {
    at_each(&platform, [Bank::Omise, Bank::Stripe], |stage| async move {
        let bank = stage.bank;
        let held = || stage.card_intent(90_00, bank.card(), json!({"capture_method": "manual"}));
        let (lapsed, captured) = (held().await, held().await);
        for intent in [&lapsed, &captured] {
            stage.status(intent, "requires_capture").await;
        }
        let shown = stage.status(&lapsed, "requires_capture").await;
        let reference = shown["reference"].as_str().unwrap();
        seen_by_the_schedule(&stage, reference).await;
        stage.lever("/sim/expire", json!({"reference": reference, "webhook": "never"})).await.ok();
        let stage = &stage;
        let capture = |intent: &str, amount: i64| {
            let body = json!({"amount": {"amount": amount, "currency": "THB"}});
            let path = format!("/v1/payment-intents/{intent}/capture");
            async move { stage.post(&stage.shop.cashier, &path, body).await }
        };
        // Nobody was told; the capture finds out, and the books decide.
        capture(&lapsed, 90_00).await.ok();
        stage.status(&lapsed, "canceled").await;
        stage.fault("capture", "cut_body", json!({})).await;
        capture(&captured, 25_00).await.ok();
        let shown = stage.status(&captured, "succeeded").await;
        assert_eq!(shown["captured"]["amount"], 25_00, "{bank:?}");
        stage.ledgers_agree().await;
        assert_eq!(stage.sim("/sim/ledger").await["totals"]["received"], 25_00);
    })
    .await;
}

pub async fn f31_a_return_from_3d_secure_without_a_result_is_no_evidence(platform: Arc<TestPlatform>) {
    join_all([(Bank::Omise, "tokn_test_threeds"), (Bank::Stripe, "pm_card_authenticationRequired")].map(|(bank, token)| {
        let platform = platform.clone();
        async move {
            let stage = Stage::open(&platform, bank).await;
            let back = || json!({"return_url": "https://shop.example/back"});
            let (left, done) = (stage.card_intent(70_00, token, back()).await, stage.card_intent(71_00, token, back()).await);
            let page = stage.status(&left, "requires_action").await;
            assert_eq!(page["next_action"]["type"], "redirect", "{bank:?}");
            let reference = stage.reference(&done).await;
            // A call-back that says "paid" is no money, and neither is a payer who comes back.
            let lie = json!({"reference": page["reference"], "amount": 70_00, "webhook": {"retry_ms": 500}});
            stage.lever("/sim/lie", lie).await;
            stage.pay_and_tell(&reference).await;
            stage.status(&done, "succeeded").await;
            stage.status(&left, "requires_action").await;
            // Given up by the payer, the provider says so.
            let expire = json!({"reference": page["reference"], "webhook": {"retry_ms": 500}});
            stage.lever("/sim/expire", expire).await.ok();
            let over =
                |shown: &Value| ["expired", "canceled", "requires_payment_method"].contains(&shown["status"].as_str().unwrap_or_default());
            stage.until("it is over", &left, over).await;
            assert_eq!(stage.payments_there().await, 1);
        }
    }))
    .await;
}
