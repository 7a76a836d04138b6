//! Requests that arrive at the same moment: whatever wins, money moves once and never beyond what there is.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::{Answered, TestPlatform};

use super::stage::{Bank, Stage, at_each};

pub async fn of_64_refunds_at_once_only_those_that_fit_are_made(platform: Arc<TestPlatform>) {
    let stage = Stage::open(&platform, Bank::Stripe).await;
    let intent = stage.paid(100_00).await;
    // Whoever lost against too many others is told to ask again, and does.
    let ask = async |n: i64| {
        loop {
            let answer = stage.refund(&intent, Some(7_00 + n % 2)).await;
            if answer.body["code"] != "Conflict" {
                return answer;
            }
        }
    };
    let answers = join_all((0..64).map(ask)).await;
    let (made, refused): (Vec<&Answered>, Vec<&Answered>) = answers.iter().partition(|answer| answer.status.is_success());
    for answer in &refused {
        assert_eq!(answer.body["code"], "RefundExceedsCaptured", "{answer:?}");
    }
    let sum: i64 = made.iter().map(|answer| answer.body["amount"]["amount"].as_i64().unwrap()).sum();
    // One more of the smaller ones would not have fitted.
    assert!((93_01..=100_00).contains(&sum), "{} refunds of {sum} satang were made", made.len());
    for answer in &made {
        let id = answer.body["id"].as_str().unwrap();
        stage.refund_until("it went back", id, |shown| shown["status"] == "succeeded").await;
    }
    stage.ledgers_agree().await;
    assert_eq!(stage.sim("/sim/ledger").await["totals"]["reversed"], sum);
}

pub async fn a_cancel_and_a_payment_at_the_same_moment_end_in_one_of_both_fifty_times(platform: Arc<TestPlatform>) {
    at_each(&platform, [Bank::Scb, Bank::Kbank], |stage| async move {
        let intents = join_all((0..25).map(|n| stage.intent(30_00 + n))).await;
        let race = async |n: usize, intent: &str| {
            let reference = stage.reference(intent).await;
            let path = format!("/v1/payment-intents/{intent}/cancel");
            let cancel = async {
                tokio::time::sleep(Duration::from_millis(4 * (n as u64 % 5))).await;
                stage.post(&stage.shop.cashier, &path, json!({"reason": "duplicate"})).await
            };
            // Where the cancel was quicker the bank takes no money.
            let pay = stage.lever("/sim/pay", json!({"reference": reference, "webhook": {"retry_ms": 500}}));
            let (asked, paid) = tokio::join!(cancel, pay);
            let over = |shown: &Value| ["succeeded", "canceled"].contains(&shown["status"].as_str().unwrap_or_default());
            let shown = stage.until("one of both", intent, over).await;
            if !paid.status.is_success() {
                assert_eq!(shown["status"], "canceled", "{shown}");
            } else if shown["status"] == "succeeded" {
                assert_eq!(shown["cancel"], if asked.status.is_success() { "lost" } else { "none" }, "{shown}");
            } else {
                let parked = |shown: &Value| shown["unmatched"][0]["why"] == "late";
                stage.until("the money is a duty", intent, parked).await;
            }
        };
        join_all(intents.iter().enumerate().map(|(n, intent)| race(n, intent))).await;
        stage.ledgers_agree().await;
    })
    .await;
}

pub async fn two_confirms_at_once_begin_one_attempt(platform: Arc<TestPlatform>) {
    let stage = Stage::open(&platform, Bank::Stripe).await;
    let more = json!({"confirm": false, "tender": "online_card"});
    let intents = join_all((0..8).map(|n| stage.intent_with(40_00 + n, more.clone()))).await;
    let confirm = |intent: &str| {
        let path = format!("/v1/payment-intents/{intent}/confirm");
        let stage = &stage;
        async move { stage.post(&stage.shop.cashier, &path, json!({"card_token": "pm_card_visa"})).await }
    };
    for intent in &intents {
        let (one, other) = tokio::join!(confirm(intent), confirm(intent));
        for answer in [one, other] {
            assert_eq!(answer.ok().body["attempts"], 1);
        }
    }
    join_all(intents.iter().map(|intent| stage.status(intent, "succeeded"))).await;
    stage.ledgers_agree().await;
    assert_eq!((stage.attempts_there().await, stage.payments_there().await), (8, 8));
}

pub async fn a_key_used_32_times_at_once_has_one_effect_and_one_answer(platform: Arc<TestPlatform>) {
    let stage = Stage::open(&platform, Bank::Stripe).await;
    let body = |amount: i64| {
        let amount = json!({"amount": amount, "currency": "THB"});
        json!({"store_id": stage.shop.store, "amount": amount, "tender": "online_card", "card_token": "pm_card_visa"})
    };
    let send = |amount: i64| {
        let (stage, body) = (&stage, body(amount));
        async move { stage.platform.send(&stage.shop.cashier, Method::POST, "/v1/payment-intents", Some("at-once"), Some(&body)).await }
    };
    // A repeat that comes while the first is under way waits for the milliseconds of one append and has the same answer.
    let answers = join_all((0..32).map(|_| send(50_00))).await;
    let bodies: BTreeSet<&[u8]> = answers.iter().map(|answer| answer.bytes.as_slice()).collect();
    assert_eq!(bodies.len(), 1, "the answers differ");
    assert!(answers.iter().all(|answer| answer.status == StatusCode::CREATED), "{answers:?}");
    let first = answers.iter().filter(|answer| answer.header("idempotency-replayed").is_empty()).count();
    // None where the one that did it was not answered in time, and asked again.
    assert!(first <= 1, "one of them did it");
    let other = send(51_00).await;
    assert_eq!((other.status, &other.body["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("IdempotencyKeyReused")), "{other:?}");
    stage.status(answers[0].body["id"].as_str().unwrap(), "succeeded").await;
    stage.ledgers_agree().await;
    assert_eq!(stage.payments_there().await, 1);
}
