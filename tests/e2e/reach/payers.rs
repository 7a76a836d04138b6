//! Browsers with the payment token of one intent: they confirm what the merchant made, and in time.

use std::sync::Arc;

use chrono::Duration;
use reqwest::Method;
use serde_json::{Value, json};
use support::{Answered, ApiShop, ShiftedClock, TestPlatform, eventually, patiently_answered as answered};

use super::thb;
use crate::cards::{CardShop, STRIPE};

/// An intent that awaits its confirm; answers its path and its payment token.
async fn made(platform: &TestPlatform, shop: &ApiShop, more: Value) -> (String, String) {
    let mut body = json!({"store_id": shop.store, "amount": thb(80_00), "confirm": false});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let made = platform.post(&shop.cashier, "/v1/payment-intents", body).await.ok();
    (format!("/v1/payment-intents/{}", made.id()), made.body["payment_token"].as_str().unwrap().to_owned())
}

async fn by_payer(platform: &TestPlatform, (path, token): &(String, String), body: Value) -> Answered {
    answered(platform.raw(Method::POST, &format!("{path}/confirm")).bearer_auth(token).json(&body)).await
}

fn code(answer: &Answered) -> (u16, &str) {
    (answer.status.as_u16(), answer.body["code"].as_str().unwrap_or_default())
}

/// How long the newest attempt is good, seconds.
async fn validity(platform: &TestPlatform) -> i64 {
    let sql = "select extract(epoch from (p ->> 'expires_at')::timestamptz - (p ->> 'started_at')::timestamptz)::bigint from (select \
               convert_from(payload, 'UTF8')::jsonb as p from log.event where type = 'payment_intent.attempt_started' order by pos desc limit 1) e";
    sqlx::query_scalar(sql).fetch_one(&platform.database.admin).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payer_confirms_what_the_merchant_made_and_chooses_nothing() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let intent = made(&platform, &shop, json!({"expires_in_minutes": 5})).await;
    let head = platform.database.head().await.pos;
    for choice in [json!({"tender": "online_card"}), json!({"expires_in_minutes": 60}), json!({"capture_method": "manual"})] {
        let refused = by_payer(&platform, &intent, choice.clone()).await;
        assert_eq!(code(&refused), (422, "NotThePayersChoice"), "{choice}");
    }
    let refused = by_payer(&platform, &intent, json!({"amount": thb(1)})).await;
    assert_eq!(code(&refused), (400, "BodyInvalid"), "how much is not asked for at all");
    let changed = answered(platform.raw(Method::PATCH, &intent.0).bearer_auth(&intent.1).json(&json!({"amount": thb(1)}))).await;
    assert_eq!(changed.status.as_u16(), 401);
    assert_eq!(platform.database.head().await.pos, head, "nothing was done");

    let same = json!({"tender": "promptpay", "expires_in_minutes": 5, "capture_method": "automatic"});
    by_payer(&platform, &intent, same).await.ok();
    assert_eq!(validity(&platform).await, 300);
    platform.get_until(&shop.cashier, &intent.0, |intent| intent["status"] == "requires_action").await;

    let plain = made(&platform, &shop, json!({"expires_in_minutes": 7})).await;
    by_payer(&platform, &plain, json!({})).await.ok();
    assert_eq!(validity(&platform).await, 420, "as long as the merchant said");
    let (path, _) = made(&platform, &shop, json!({"expires_in_minutes": 5})).await;
    platform.post(&shop.cashier, &format!("{path}/confirm"), json!({"expires_in_minutes": 60})).await.ok();
    assert_eq!(validity(&platform).await, 3_600, "the shop itself may say otherwise");
    platform.proves_itself().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payer_chooses_among_the_ways_that_the_merchant_offered() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let body = json!({"amount": 80_00, "currency": "THB", "payment_method_types": ["qr_mpm", "credit_card"], "merchant_ref_id": "ORD-7",
        "merchant_store_id": shop.store});
    let answer = platform.send(&shop.cashier, Method::POST, "/v1/payment_intents", Some("p"), Some(&body)).await.ok();
    assert_eq!(answer.body["tenders"], json!(["promptpay", "online_card"]));
    let intent = (format!("/v1/payment-intents/{}", answer.id()), answer.body["payment_token"].as_str().unwrap().to_owned());
    let by_card = by_payer(&platform, &intent, json!({"tender": "online_card", "card_token": "tokn_test_1"})).await;
    assert_eq!(by_card.body["code"], "NoProviderAccount", "it may be chosen; this merchant has nobody who takes cards");
    by_payer(&platform, &intent, json!({"tender": "promptpay"})).await.ok();
    platform.get_until(&shop.cashier, &intent.0, |intent| intent["status"] == "requires_action").await;
    assert_eq!(validity(&platform).await, 1_800, "the published lifetime");
    let cash = json!({"store_id": shop.store, "amount": thb(1_00), "tenders": [{"tender": "cash"}]});
    assert_eq!(platform.post(&shop.cashier, "/v1/payment-intents", cash).await.status.as_u16(), 422);
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_a_card_is_captured_is_what_was_said_when_the_intent_was_made() {
    let till = CardShop::open(&STRIPE).await;
    let more = json!({"tender": "online_card", "capture_method": "manual", "return_url": "https://shop.example/back"});
    let intent = made(&till.platform, &till.shop, more).await;
    till.platform.settled().await;
    let shown = till.platform.get(&till.shop.cashier, &intent.0).await.ok().body;
    assert_eq!((&shown["status"], &shown["capture_method"]), (&json!("requires_payment_method"), &json!("manual")));
    by_payer(&till.platform, &intent, json!({"card_token": STRIPE.good})).await.ok();
    till.becomes(&intent.0, "requires_capture").await;
    let started = till.explained(&intent.0, "payment_intent.attempt_started").await;
    assert_eq!(started["payload"]["return_url"], "https://shop.example/back");
    till.ask(&intent.0, "capture", json!({})).await;
    till.becomes(&intent.0, "succeeded").await;
    till.closes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intent_that_nobody_confirms_expires() {
    let clock = Arc::new(ShiftedClock::default());
    let platform = TestPlatform::start_by(clock.clone(), |_| {}).await;
    let shop = platform.shop().await;
    let (_, bill) = platform.billed(&shop, 80_00).await;
    let on_bill = json!({"bill_id": bill, "confirm": false, "expires_in_minutes": 5});
    let on_bill = platform.post(&shop.cashier, "/v1/payment-intents", on_bill).await.id();
    let on_bill = format!("/v1/payment-intents/{on_bill}");
    let intent = made(&platform, &shop, json!({"expires_in_minutes": 5})).await;
    let begun = made(&platform, &shop, json!({"expires_in_minutes": 5, "confirm": true})).await;
    platform.settled().await;
    clock.advance(Duration::seconds(200));
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let waiting = platform.get(&shop.cashier, &intent.0).await.ok().body;
    assert_eq!(waiting["status"], "requires_payment_method", "its time is not over");

    clock.advance(Duration::seconds(101));
    for token in [&intent.1, &shop.cashier] {
        let late = answered(
            platform
                .raw(Method::POST, &format!("{}/confirm", intent.0))
                .bearer_auth(token)
                .header("Idempotency-Key", "late")
                .json(&json!({})),
        )
        .await;
        assert_eq!(code(&late), (409, "PaymentIntentNotOpen"), "{late:?}");
    }
    for path in [&intent.0, &on_bill] {
        platform.get_until(&shop.cashier, path, |intent| intent["status"] == "expired").await;
    }
    // The bill is free for another payment, and what is under way goes by its own watch.
    platform.post(&shop.cashier, "/v1/payments", json!({"bill_id": bill, "tender": "cash"})).await.ok();
    platform.settled().await;
    eventually("no watch is left", std::time::Duration::from_secs(10), || async {
        let sql = "select count(*) from process.task where key like 'lapse:%'";
        let left: i64 = sqlx::query_scalar(sql).fetch_one(&platform.database.admin).await.unwrap();
        (left == 0).then_some(())
    })
    .await;
    let shown = platform.get(&shop.cashier, &begun.0).await.ok().body;
    assert_ne!(shown["status"], "requires_payment_method");
    platform.proves_itself().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_published_form_a_confirm_answers_the_qr() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let body = json!({"amount": 80_00, "currency": "THB", "payment_method_types": ["qr_mpm", "credit_card"], "merchant_ref_id": "ORD-8",
        "merchant_store_id": shop.store});
    let made = platform.send(&shop.cashier, Method::POST, "/v1/payment_intents", Some("p"), Some(&body)).await.ok();
    let path = format!("/v1/payment_intents/{}", made.id());
    let confirm = json!({"payment_token": made.body["payment_token"], "tender": "promptpay"});
    let ask = || answered(platform.raw(Method::POST, &format!("{path}/confirm")).json(&confirm));
    let mut confirmed = ask().await.ok();
    while confirmed.body["status"] == "processing" {
        confirmed = ask().await.ok(); // not within its five seconds, on a machine with much to do
    }
    assert_eq!(confirmed.body["status"], "requires_action", "{confirmed:?}");
    let payload = confirmed.body["qr_content"].as_str().expect("the QR");
    assert!(payload.starts_with("000201") && confirmed.body["qr_code_url"].is_string(), "{confirmed:?}");
    assert_eq!(confirmed.header("etag"), format!("\"{}\"", confirmed.body["version"]));
    // One that is begun with its creation answers it as well, with the token; its repeat, too.
    let body = json!({"amount": 90_00, "currency": "THB", "payment_method_types": ["qr_mpm"], "merchant_ref_id": "ORD-9",
        "merchant_store_id": shop.store});
    for _ in 0..2 {
        let ask = || platform.send(&shop.cashier, Method::POST, "/v1/payment_intents", Some("q"), Some(&body));
        let mut made = ask().await.ok();
        while made.body["status"] == "processing" {
            made = ask().await.ok();
        }
        assert!(made.status.as_u16() == 201 && made.body["qr_content"].is_string(), "{made:?}");
        assert!(made.body["payment_token"].is_string(), "{made:?}");
    }
    // The provider cannot be reached: the answer says after a while that it is still being called.
    platform.faults(json!([{"operation": "start", "fault": "http_500", "times": 1_000}])).await;
    let body = json!({"amount": 91_00, "currency": "THB", "payment_method_types": ["qr_mpm"], "merchant_ref_id": "ORD-10",
        "merchant_store_id": shop.store});
    let made = platform.send(&shop.cashier, Method::POST, "/v1/payment_intents", Some("r"), Some(&body)).await.ok();
    assert_eq!((&made.body["status"], &made.body["qr_content"]), (&json!("processing"), &json!(null)));
    platform.stop().await;
}
