//! Amounts held on a card through HTTP: captured whole or in part, raised, let go of, lapsed.

use reqwest::Method;
use serde_json::json;
use support::patiently_answered as answered;

use crate::{
    cards::{CardShop, Cards, OMISE, OWED, STRIPE, thb},
    money_back::today,
};

async fn held(till: &CardShop, cards: &Cards) -> String {
    let path = till.begin(cards.good, json!({"capture_method": "manual"})).await;
    let held = till.becomes(&path, "requires_capture").await;
    assert_eq!((&held["capturable"], &held["captured"]), (&thb(OWED), &thb(0)));
    assert!(held["capture_before"].is_string(), "{held}");
    assert!(till.provider.ledger().await["payments"].as_array().unwrap().is_empty(), "held is not paid");
    path
}

async fn captured_whole(cards: Cards) {
    let till = CardShop::open(&cards).await;
    let path = held(&till, &cards).await;
    till.ask(&path, "capture", json!({})).await;
    let paid = till.becomes(&path, "succeeded").await;
    assert_eq!((&paid["captured"], &paid["capturable"]), (&thb(OWED), &thb(0)));
    till.closes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_is_captured_whole_at_omise() {
    captured_whole(OMISE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_is_captured_whole_at_stripe() {
    captured_whole(STRIPE).await;
}

async fn captured_in_part(cards: Cards) {
    let till = CardShop::open(&cards).await;
    let path = held(&till, &cards).await;
    let more = till.platform.post(&till.shop.cashier, &format!("{path}/capture"), json!({"amount": thb(OWED + 1)})).await;
    assert_eq!(more.body["code"], "CaptureExceedsHeld");
    till.ask(&path, "capture", json!({"amount": thb(60_00)})).await;
    let paid = till.becomes(&path, "succeeded").await;
    assert_eq!((&paid["captured"], &paid["capturable"], &paid["amount"]), (&thb(60_00), &thb(0), &thb(OWED)));
    // The rest was let go of: neither provider captures one hold twice.
    let rest = till.platform.post(&till.shop.cashier, &format!("{path}/capture"), json!({"amount": thb(40_00)})).await;
    assert_eq!(rest.body["code"], "NothingToCapture");
    // No more goes back than was captured.
    let refund = |amount| json!({"payment_id": paid["payment_id"], "amount": amount, "reason": "cold"});
    let all = till.platform.post(&till.shop.manager, "/v1/refunds", refund(thb(OWED))).await;
    assert_eq!(all.body["code"], "RefundExceedsCaptured");
    till.platform.post(&till.shop.manager, "/v1/refunds", refund(thb(25_00))).await.ok();
    let back = till.platform.get_until(&till.shop.cashier, &path, |intent| intent["refunded"] == thb(25_00)).await;
    assert_eq!(back["status"], "succeeded");
    till.closes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_hold_is_captured_at_omise_and_the_rest_let_go() {
    captured_in_part(OMISE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_hold_is_captured_at_stripe_and_the_rest_let_go() {
    captured_in_part(STRIPE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_that_omise_refuses_for_good_fails_and_another_amount_can_be_captured() {
    let till = CardShop::open(&OMISE).await;
    let path = till.begin(OMISE.asks_payer, json!({"capture_method": "manual"})).await;
    let shown = till.becomes(&path, "requires_action").await;
    // No more can be captured than this, though the books show the whole as held.
    till.provider.lever("pay", json!({"reference": shown["reference"], "amount": 60_00})).await;
    till.becomes(&path, "requires_capture").await;
    till.ask(&path, "capture", json!({})).await;
    let refused = till.explained(&path, "payment_intent.capture_failed").await;
    assert_eq!(refused["payload"]["code"], "capture_refused", "{refused}");
    till.ask(&path, "capture", json!({"amount": thb(60_00)})).await;
    let paid = till.becomes(&path, "succeeded").await;
    assert_eq!((&paid["captured"], &paid["capturable"]), (&thb(60_00), &thb(0)));
    till.closes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_is_raised_at_stripe_and_captured_at_its_new_height() {
    let till = CardShop::open(&STRIPE).await;
    let path = held(&till, &STRIPE).await;
    let lower = till.platform.post(&till.shop.cashier, &format!("{path}/increment"), json!({"amount": thb(90_00)})).await;
    assert_eq!(lower.body["code"], "IncreaseNotHigher");
    till.ask(&path, "increment", json!({"amount": thb(150_00)})).await;
    till.platform.get_until(&till.shop.cashier, &path, |intent| intent["capturable"] == thb(150_00)).await;
    till.ask(&path, "capture", json!({"amount": thb(140_00)})).await;
    let paid = till.becomes(&path, "succeeded").await;
    assert_eq!(paid["captured"], thb(140_00));
    till.closes().await;
}

/// A higher hold is refused with `code`; what was held is held, and can be captured.
async fn not_raised(cards: Cards, token: &str, code: &str) {
    let till = CardShop::open(&cards).await;
    let path = till.begin(token, json!({"capture_method": "manual"})).await;
    till.becomes(&path, "requires_capture").await;
    till.ask(&path, "increment", json!({"amount": thb(150_00)})).await;
    let refused = till.explained(&path, "payment_intent.increase_failed").await;
    assert_eq!(refused["payload"]["code"], code, "{refused}");
    let still = till.platform.get(&till.shop.cashier, &path).await.ok().body;
    assert_eq!((&still["status"], &still["capturable"]), (&json!("requires_capture"), &thb(OWED)));
    till.ask(&path, "capture", json!({})).await;
    till.becomes(&path, "succeeded").await;
    till.closes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn omise_raises_no_hold_and_says_so() {
    not_raised(OMISE, OMISE.good, "not_supported").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_who_refuses_to_raise_a_hold_leaves_it_as_it_was() {
    not_raised(STRIPE, "pm_sim_no_increment", "card_declined").await;
}

async fn let_go(cards: Cards, word: &str) {
    let till = CardShop::open(&cards).await;
    let path = held(&till, &cards).await;
    till.ask(&path, "cancel", json!({"reason": "the guest pays cash"})).await;
    let over = till.becomes(&path, "canceled").await;
    assert_eq!((&over["cancel"], &over["captured"], &over["capturable"]), (&json!("done"), &thb(0), &thb(0)));
    assert_eq!(till.provider.states().await, [word]);
    let late = till.platform.post(&till.shop.cashier, &format!("{path}/capture"), json!({})).await;
    assert_eq!(late.body["code"], "NothingToCapture");
    till.closes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_is_canceled_is_reversed_at_omise() {
    let_go(OMISE, "reversed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_is_canceled_is_let_go_of_at_stripe() {
    let_go(STRIPE, "canceled").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payer_lets_go_of_no_hold_and_the_shop_does() {
    let till = CardShop::open(&STRIPE).await;
    let by_card = json!({"store_id": till.shop.store, "amount": thb(OWED), "tender": "online_card", "card_token": STRIPE.good,
                         "capture_method": "manual"});
    let made = till.platform.post(&till.shop.cashier, "/v1/payment-intents", by_card).await.ok();
    let (path, token) = (format!("/v1/payment-intents/{}", made.id()), made.body["payment_token"].as_str().unwrap());
    till.becomes(&path, "requires_capture").await;
    // The goods are handed over; the payer thinks better of it.
    let cancel = till.platform.raw(Method::POST, &format!("{path}/cancel"));
    let refused = answered(cancel.json(&json!({"payment_token": token, "reason": "changed my mind"}))).await;
    assert_eq!((refused.status.as_u16(), &refused.body["code"]), (409, &json!("HeldForMerchant")), "{refused:?}");
    till.platform.settled().await;
    let still = till.platform.get(&till.shop.cashier, &path).await.ok().body;
    assert_eq!((&still["status"], &still["cancel"], &still["capturable"]), (&json!("requires_capture"), &json!("none"), &thb(OWED)));
    till.ask(&path, "cancel", json!({"reason": "the guest pays cash"})).await;
    till.becomes(&path, "canceled").await;
    till.closes().await;
}

async fn lapsed(cards: Cards) {
    let till = CardShop::open(&cards).await;
    let path = held(&till, &cards).await;
    let shown = till.platform.get(&till.shop.cashier, &path).await.ok().body;
    till.provider.lever("expire", json!({"reference": shown["reference"]})).await;
    till.becomes(&path, "canceled").await;
    let why = till.explained(&path, "payment_intent.canceled").await;
    assert_eq!(why["payload"]["reason"], "authorization_lapsed");
    till.closes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_lapses_at_omise_ends_the_payment() {
    lapsed(OMISE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_lapses_at_stripe_ends_the_payment() {
    lapsed(STRIPE).await;
}

async fn partly_paid_by_card(cards: Cards) {
    let till = CardShop::open(&cards).await;
    let (order, bill) = till.platform.billed(&till.shop, OWED).await;
    let by_card = json!({"bill_id": bill, "tender": "online_card", "card_token": cards.good, "capture_method": "manual"});
    let intent = till.platform.post(&till.shop.cashier, "/v1/payment-intents", by_card).await.id();
    let (path, bill_path) = (format!("/v1/payment-intents/{intent}"), format!("/v1/bills/{bill}"));
    till.becomes(&path, "requires_capture").await;
    // Another read model than the intent's: it may still be on its way.
    let waits = till.platform.get_until(&till.shop.cashier, &bill_path, |bill| bill["reserved"] == thb(OWED)).await;
    assert_eq!((&waits["due"], &waits["paid"]), (&thb(0), &thb(0)));
    let raised = till.platform.post(&till.shop.cashier, &format!("{path}/increment"), json!({"amount": thb(150_00)})).await;
    assert_eq!(raised.body["code"], "BillAmountFixed");
    till.ask(&path, "capture", json!({"amount": thb(60_00)})).await;
    till.becomes(&path, "succeeded").await;
    let part = till.platform.get_until(&till.shop.cashier, &bill_path, |bill| bill["status"] == "partially_paid").await;
    assert_eq!((&part["due"], &part["reserved"], &part["paid"]), (&thb(40_00), &thb(0), &thb(60_00)));
    let cash = json!({"bill_id": bill, "tender": "cash", "cash_received": thb(40_00)});
    till.platform.post(&till.shop.cashier, "/v1/payments", cash).await.ok();
    till.platform.get_until(&till.shop.cashier, &bill_path, |bill| bill["status"] == "paid").await;
    till.platform.get_until(&till.shop.cashier, &format!("/v1/orders/{order}"), |order| order["status"] == "completed").await;
    let sales = today(&till.platform, &till.shop, "daily-sales", |row| row["bills_paid"] == 1).await;
    assert_eq!((&sales["total"], &sales["net"]), (&thb(OWED), &thb(OWED)));
    for (tender, amount) in [("online_card", 60_00), ("cash", 40_00)] {
        let row = today(&till.platform, &till.shop, "daily-tenders", |row| row["tender"] == tender).await;
        assert_eq!((&row["count"], &row["amount"]), (&json!(1), &thb(amount)), "{row}");
    }
    till.closes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bill_asks_for_the_rest_of_what_omise_captured_in_part() {
    partly_paid_by_card(OMISE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bill_asks_for_the_rest_of_what_stripe_captured_in_part() {
    partly_paid_by_card(STRIPE).await;
}
