//! Cash as an intent: it has succeeded once whoever stands at the drawer confirms it, and nobody is called.

use std::sync::Arc;

use chrono::Duration;
use reqwest::Method;
use serde_json::{Value, json};
use support::{Answered, ApiShop, ShiftedClock, TestPlatform, patiently_answered as answered};

fn thb(amount: i64) -> Value {
    json!({"amount": amount, "currency": "THB"})
}

fn path(intent: &str) -> String {
    format!("/v1/payment-intents/{intent}")
}

fn code(answer: &Answered) -> (u16, &str) {
    (answer.status.as_u16(), answer.body["code"].as_str().unwrap_or_default())
}

/// The cash of a payment as the till shows it: handed over, change, rounding.
async fn till(platform: &TestPlatform, shop: &ApiShop, intent: &Value) -> (Value, Value, Value) {
    let payment = format!("/v1/payments/{}", intent["payment_id"].as_str().unwrap());
    let shown = platform.get_until(&shop.cashier, &payment, |payment| payment["status"] == "completed").await;
    (shown["cash_received"].clone(), shown["cash_change"].clone(), shown["cash_rounding"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intent_in_cash_succeeds_at_once_and_pays_its_bill_with_change_and_rounding() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    // Nearest to 25 satang: ten are not collected.
    let (order, bill) = platform.billed(&shop, 80_10).await;
    let body = json!({"bill_id": bill, "tender": "cash", "cash_received": thb(100_00)});
    let key = Some("drawer-1");
    let taken = platform.send(&shop.cashier, Method::POST, "/v1/payment-intents", key, Some(&body)).await.ok();
    assert_eq!((&taken.body["status"], &taken.body["captured"]), (&json!("succeeded"), &thb(80_10)));
    assert_eq!((&taken.body["provider"], &taken.body["attempts"]), (&Value::Null, &json!(0)), "nobody was called");
    let again = platform.send(&shop.cashier, Method::POST, "/v1/payment-intents", key, Some(&body)).await.ok();
    assert_eq!(again.id(), taken.id(), "the same key is the same money");
    assert_eq!(till(&platform, &shop, &taken.body).await, (thb(100_00), thb(20_00), thb(-10)));
    platform.get_until(&shop.cashier, &format!("/v1/bills/{bill}"), |bill| bill["status"] == "paid").await;
    platform.get_until(&shop.cashier, &format!("/v1/orders/{order}"), |order| order["status"] == "completed").await;
    // Without a bill it counts in no sales, and nothing is rounded.
    let body = json!({"store_id": shop.store, "amount": thb(45_20), "tender": "cash", "cash_received": thb(50_00)});
    let taken = platform.post(&shop.cashier, "/v1/payment-intents", body).await.ok();
    assert_eq!(till(&platform, &shop, &taken.body).await, (thb(50_00), thb(4_80), thb(0)));
    platform.proves_itself().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intent_in_cash_may_wait_for_the_drawer_and_is_confirmed_once_by_whoever_stands_there() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let (_, bill) = platform.billed(&shop, 60_00).await;
    let made = platform.post(&shop.cashier, "/v1/payment-intents", json!({"bill_id": bill, "tender": "cash", "confirm": false})).await.ok();
    assert_eq!(made.body["status"], "requires_payment_method");
    let confirm = format!("{}/confirm", path(&made.id()));
    let token = made.body["payment_token"].as_str().unwrap();
    let by_payer = answered(platform.raw(Method::POST, &confirm).bearer_auth(token).json(&json!({}))).await;
    assert_eq!(code(&by_payer), (422, "NotThePayersChoice"), "the payer does not say that it has paid");
    let little = platform.post(&shop.cashier, &confirm, json!({"cash_received": thb(59_75)})).await;
    assert_eq!(code(&little), (422, "TenderedBelowAmount"));
    let dollars = json!({"cash_received": {"amount": 60_00, "currency": "USD"}});
    assert_eq!(code(&platform.post(&shop.cashier, &confirm, dollars).await), (422, "CurrencyMismatch"));
    let carded = platform.post(&shop.cashier, &confirm, json!({"card_token": "tokn_1"})).await;
    assert_eq!(code(&carded), (422, "TenderIsRecorded"));
    let changed =
        platform.send(&shop.cashier, Method::PATCH, &path(&made.id()), Some("patch-1"), Some(&json!({"tender": "promptpay"}))).await;
    assert_eq!(code(&changed), (422, "TenderNotProvided"));
    let taken = platform.post(&shop.cashier, &confirm, json!({"tender": "cash", "cash_received": thb(100_00)})).await.ok();
    assert_eq!((&taken.body["status"], &taken.body["captured"]), (&json!("succeeded"), &thb(60_00)));
    let again = platform.post(&shop.cashier, &confirm, json!({"cash_received": thb(70_00)})).await.ok();
    assert_eq!(again.body["version"], taken.body["version"], "what was taken is not taken twice");
    assert_eq!(till(&platform, &shop, &taken.body).await, (thb(100_00), thb(40_00), thb(0)));
    platform.get_until(&shop.cashier, &format!("/v1/bills/{bill}"), |bill| bill["status"] == "paid").await;
    assert_eq!(platform.ledger().await["qr_codes"], 0, "nothing was asked of the bank");
    platform.proves_itself().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cash_and_what_belongs_to_providers_do_not_mix() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let before = platform.database.head().await.pos;
    for more in [
        json!({"tender": "promptpay", "cash_received": thb(100_00)}),
        json!({"cash_received": thb(100_00)}),
        json!({"tender": "cash", "confirm": false, "cash_received": thb(100_00)}),
        json!({"tender": "cash", "card_token": "tokn_1"}),
        json!({"tender": "cash", "capture_method": "manual"}),
        json!({"tender": "cash", "return_url": "https://shop.example/back"}),
        json!({"tender": "cash", "confirm": false, "tenders": [{"tender": "promptpay"}]}),
        json!({"tender": "card"}),
        json!({"tender": "cash", "cash_received": {"amount": 100_00, "currency": "USD"}}),
        json!({"tender": "cash", "cash_received": thb(79_75)}),
    ] {
        let mut body = json!({"store_id": shop.store, "amount": thb(80_00)});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = platform.post(&shop.cashier, "/v1/payment-intents", body).await;
        assert_eq!(answer.status.as_u16(), 422, "{more}: {answer:?}");
    }
    assert_eq!(platform.database.head().await.pos, before, "nothing was stored");
    let body = json!({"store_id": shop.store, "amount": thb(80_00), "confirm": false});
    let code_to_be = platform.post(&shop.cashier, "/v1/payment-intents", body).await.id();
    let confirm = format!("{}/confirm", path(&code_to_be));
    let mixed = platform.post(&shop.cashier, &confirm, json!({"cash_received": thb(100_00)})).await;
    assert_eq!(code(&mixed), (422, "TenderNotRecorded"));
    let other = platform.post(&shop.cashier, &confirm, json!({"tender": "cash"})).await;
    assert_eq!(code(&other), (422, "TenderNotProvided"));
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cash_that_nobody_confirms_has_expired_at_its_time() {
    let clock = Arc::new(ShiftedClock::default());
    let platform = TestPlatform::start_by(clock.clone(), |_| {}).await;
    let shop = platform.shop().await;
    let body = json!({"store_id": shop.store, "amount": thb(80_00), "tender": "cash", "confirm": false, "expires_in_minutes": 5});
    let made = platform.post(&shop.cashier, "/v1/payment-intents", body).await.id();
    platform.settled().await;
    clock.advance(Duration::minutes(5));
    platform.get_until(&shop.cashier, &path(&made), |intent| intent["status"] == "expired").await;
    let late = platform.post(&shop.cashier, &format!("{}/confirm", path(&made)), json!({})).await;
    assert_eq!(code(&late), (409, "PaymentIntentNotOpen"));
    platform.stop().await;
}
