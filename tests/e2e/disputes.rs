//! Payments that the payer contests: told by the provider's call-back, believed because its books say so, and counted.

use serde_json::json;

use crate::{
    cards::{CardShop, Cards, OMISE, OWED, STRIPE, thb},
    money_back::today,
};

/// A bill paid by card and then contested; answers the intent's path.
async fn contested(till: &CardShop, cards: &Cards) -> String {
    let (platform, shop) = (&till.platform, &till.shop);
    let (_, bill) = platform.billed(shop, OWED).await;
    let by_card = json!({"bill_id": bill, "tender": "online_card", "card_token": cards.good});
    let intent = platform.post(&shop.cashier, "/v1/payment-intents", by_card).await.id();
    let path = format!("/v1/payment-intents/{intent}");
    let paid = till.becomes(&path, "succeeded").await;
    till.provider.lever("dispute", json!({"reference": paid["reference"]})).await;
    let open = platform.get_until(&shop.cashier, &path, |intent| intent["dispute"] == "open").await;
    assert_eq!((&open["status"], &open["needs_attention"]), (&json!("succeeded"), &json!(true)));
    let refund = json!({"payment_id": paid["payment_id"], "reason": "cold"});
    assert_eq!(platform.post(&shop.manager, "/v1/refunds", refund).await.body["code"], "PaymentDisputed");
    let row = today(platform, shop, "daily-tenders", |row| row["disputes_count"] == 1).await;
    assert_eq!((&row["tender"], &row["disputes"], &row["disputes_won"]), (&json!("online_card"), &thb(OWED), &thb(0)));
    path
}

async fn decided(till: &CardShop, path: &str, outcome: &str) {
    let intent = till.platform.get(&till.shop.cashier, path).await.ok().body;
    till.provider.lever("dispute", json!({"reference": intent["reference"], "state": outcome})).await;
    let over = till.platform.get_until(&till.shop.cashier, path, |intent| intent["dispute"] == outcome).await;
    assert_eq!(over["needs_attention"], false);
}

async fn won(cards: Cards) {
    let till = CardShop::open(&cards).await;
    let path = contested(&till, &cards).await;
    decided(&till, &path, "won").await;
    let row = today(&till.platform, &till.shop, "daily-tenders", |row| row["disputes_won_count"] == 1).await;
    assert_eq!((&row["disputes"], &row["disputes_won"], &row["disputes_lost"]), (&thb(OWED), &thb(OWED), &thb(0)));
    // The money is the shop's again, and so can be given back.
    let intent = till.platform.get(&till.shop.cashier, &path).await.ok().body;
    let refund = json!({"payment_id": intent["payment_id"], "amount": thb(10_00), "reason": "sorry"});
    till.platform.post(&till.shop.manager, "/v1/refunds", refund).await.ok();
    till.platform.get_until(&till.shop.cashier, &path, |intent| intent["refunded"] == thb(10_00)).await;
    till.closes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispute_that_the_shop_wins_at_omise_is_taken_back_in_the_books() {
    won(OMISE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispute_that_the_shop_wins_at_stripe_is_taken_back_in_the_books() {
    won(STRIPE).await;
}

async fn lost(cards: Cards) {
    let till = CardShop::open(&cards).await;
    let path = contested(&till, &cards).await;
    decided(&till, &path, "lost").await;
    let row = today(&till.platform, &till.shop, "daily-tenders", |row| row["disputes_lost_count"] == 1).await;
    assert_eq!((&row["disputes"], &row["disputes_won"], &row["disputes_lost"]), (&thb(OWED), &thb(0), &thb(OWED)));
    let intent = till.platform.get(&till.shop.cashier, &path).await.ok().body;
    let refund = json!({"payment_id": intent["payment_id"], "reason": "sorry"});
    assert_eq!(till.platform.post(&till.shop.manager, "/v1/refunds", refund).await.body["code"], "PaymentDisputed");
    till.closes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispute_that_the_shop_loses_at_omise_stays_in_the_books() {
    lost(OMISE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispute_that_the_shop_loses_at_stripe_stays_in_the_books() {
    lost(STRIPE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chargeback_counts_although_the_store_has_closed() {
    let till = CardShop::open(&STRIPE).await;
    let path = till.begin(STRIPE.good, json!({})).await;
    let paid = till.becomes(&path, "succeeded").await;
    let close = format!("/v1/stores/{}/deactivate", till.shop.store);
    till.platform.post(&till.shop.admin, &close, json!({"reason": "moved"})).await.ok();
    till.provider.lever("dispute", json!({"reference": paid["reference"]})).await;
    let open = till.platform.get_until(&till.shop.cashier, &path, |intent| intent["dispute"] == "open").await;
    assert_eq!(open["needs_attention"], true);
    decided(&till, &path, "lost").await;
    let row = today(&till.platform, &till.shop, "daily-tenders", |row| row["disputes_lost_count"] == 1).await;
    assert_eq!((&row["disputes"], &row["disputes_lost"]), (&thb(OWED), &thb(OWED)));
    till.closes().await;
}
