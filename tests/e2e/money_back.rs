//! Money that goes back through a provider: late, not after all, or refused and then given back by hand.

use std::time::Duration;

use api::simulated_provider::Simulated;
use commands::{
    payments::{self, AttemptOptions, NewPayment, PayFor},
    process_commands, refund_findings,
    refunds::{self, NewRefund},
};
use domain::{
    ids::{PaymentIntentId, RefundId},
    money::Money,
    payment_intent::{Evidence, PaymentIntent, PaymentReport, Tender},
    process::ProcessCommand,
    provider::void_reference,
    refund::{Destination, Refund, Status},
};
use futures_util::FutureExt as _;
use serde_json::{Value, json};
use support::{Answered, ApiShop, Shop, TestDatabase, TestPlatform, WriteSide, eventually};

use crate::cards::{CardShop, Cards, OMISE, OWED, STRIPE, thb};

/// One row of today's report.
pub async fn today(platform: &TestPlatform, shop: &ApiShop, report: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let today = platform.now().date_naive();
    let path = format!("/v1/reports/{report}?from={}&to={}", today.pred_opt().unwrap(), today.succ_opt().unwrap());
    let page = platform.get_until(&shop.admin, &path, |page| page["data"].as_array().unwrap().iter().any(&wanted)).await;
    page["data"].as_array().unwrap().iter().find(|row| wanted(row)).unwrap().clone()
}

async fn refund(till: &CardShop, payment: &Value, more: Value) -> Answered {
    let mut body = json!({"payment_id": payment, "reason": "cold"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    till.platform.post(&till.shop.manager, "/v1/refunds", body).await
}

async fn refund_becomes(platform: &TestPlatform, shop: &ApiShop, id: &str, status: &str) -> Value {
    let path = format!("/v1/refunds/{id}");
    // For two minutes after a call without an answer a refusal proves nothing.
    eventually(status, Duration::from_secs(200), || async {
        let shown = platform.get(&shop.manager, &path).await;
        (shown.status.is_success() && shown.body["status"] == status).then_some(shown.body)
    })
    .await
}

async fn carried_out_later(cards: Cards) {
    let till = CardShop::open(&cards).await;
    let path = till.begin(cards.slow_refund, json!({})).await;
    let paid = till.becomes(&path, "succeeded").await;
    let asked = refund(&till, &paid["payment_id"], json!({"amount": thb(70_00)})).await;
    assert_eq!(asked.body["status"], "pending");
    let more = refund(&till, &paid["payment_id"], json!({"amount": thb(30_01)})).await;
    assert_eq!(more.body["code"], "RefundExceedsCaptured", "what is under way is set aside");
    till.explained(&path, "refund").await;
    till.platform.settled().await;
    assert_eq!(till.platform.get(&till.shop.cashier, &path).await.ok().body["refunded"], thb(0), "pending is not gone");
    till.provider.lever("refund", json!({"reference": paid["reference"], "state": "succeeded"})).await;
    refund_becomes(&till.platform, &till.shop, &asked.id(), "succeeded").await;
    till.platform.get_until(&till.shop.cashier, &path, |intent| intent["refunded"] == thb(70_00)).await;
    till.closes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_omise_carries_out_later_is_pending_until_then() {
    carried_out_later(OMISE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_stripe_carries_out_later_is_pending_until_then() {
    carried_out_later(STRIPE).await;
}

async fn failed_after_it_succeeded(cards: Cards) {
    let till = CardShop::open(&cards).await;
    let (platform, shop) = (&till.platform, &till.shop);
    let (_, bill) = platform.billed(shop, OWED).await;
    let by_card = json!({"bill_id": bill, "tender": "online_card", "card_token": cards.refund_fails_later});
    let intent = platform.post(&shop.cashier, "/v1/payment-intents", by_card).await.id();
    let (path, bill_path) = (format!("/v1/payment-intents/{intent}"), format!("/v1/bills/{bill}"));
    let paid = till.becomes(&path, "succeeded").await;
    platform.get_until(&shop.cashier, &bill_path, |bill| bill["status"] == "paid").await;
    let first = refund(&till, &paid["payment_id"], json!({"amount": thb(40_00)})).await.id();
    refund_becomes(platform, shop, &first, "succeeded").await;
    platform.get_until(&shop.cashier, &bill_path, |bill| bill["refunded"] == thb(40_00)).await;
    let sales = today(platform, shop, "daily-sales", |row| row["refunds_count"] == 1 && row["net"] == thb(60_00)).await;
    assert_eq!(sales["refunds"], thb(40_00), "{sales}");
    let early = refund(&till, &paid["payment_id"], json!({"amount": thb(1), "destination": "cash", "fallback_of": first})).await;
    assert_eq!(early.body["code"], "FallbackNotOfFailure");

    till.provider.lever("refund", json!({"reference": paid["reference"], "state": "failed"})).await;
    let failed = refund_becomes(platform, shop, &first, "failed").await;
    assert_eq!(failed["failure"]["code"], "refund_failed", "{failed}");
    let taken_back = |intent: &Value| intent["refunded"] == thb(0) && intent["needs_attention"] == true;
    let restored = platform.get_until(&shop.cashier, &path, taken_back).await;
    assert_eq!(restored["status"], "succeeded");
    let listed = platform.get_until(&shop.cashier, "/v1/payment-intents?needs_attention=true", |page| page["data"][0].is_object()).await;
    assert_eq!(listed["data"][0]["id"], json!(intent));
    platform.get_until(&shop.cashier, &bill_path, |bill| bill["refunded"] == thb(0)).await;
    let whole = |row: &Value| row["refunds_count"] == 0 && row["bills_paid"] == 1 && row["net"] == thb(OWED);
    let sales = today(platform, shop, "daily-sales", whole).await;
    assert_eq!(sales["refunds"], thb(0), "{sales}");
    let tender = today(platform, shop, "daily-tenders", |row| row["tender"] == "online_card").await;
    assert_eq!((&tender["refunds_count"], &tender["refunds"]), (&json!(0), &thb(0)));
    till.provider.agrees_with(platform, shop).await;

    // All of it can be given back again: in cash only as what follows that failure, and never more than came.
    let cash = |amount, more: Value| {
        let mut body = json!({"amount": thb(amount), "destination": "cash"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        refund(&till, &paid["payment_id"], body)
    };
    assert_eq!(cash(40_00, json!({})).await.body["code"], "CardToCashNotAllowed");
    assert_eq!(cash(OWED + 1, json!({"fallback_of": first})).await.body["code"], "RefundExceedsCaptured");
    let second = cash(40_00, json!({"fallback_of": first})).await.ok().body;
    assert_eq!((&second["status"], &second["fallback_of"]), (&json!("succeeded"), &json!(first)));
    platform.get_until(&shop.cashier, &path, |intent| intent["needs_attention"] == false && intent["refunded"] == thb(40_00)).await;
    platform.get_until(&shop.cashier, &bill_path, |bill| bill["refunded"] == thb(40_00)).await;
    today(platform, shop, "daily-sales", |row| row["refunds_count"] == 1 && row["net"] == thb(60_00)).await;
    platform.proves_itself().await;
    till.platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_fails_at_omise_after_it_succeeded_is_taken_back_everywhere() {
    failed_after_it_succeeded(OMISE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_fails_at_stripe_after_it_succeeded_is_taken_back_everywhere() {
    failed_after_it_succeeded(STRIPE).await;
}

/// A bill paid by PromptPay whose provider gives no part of it back: refused by name, then given back in cash.
async fn refused_then_by_hand(provider: Simulated, code: &str) {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let at = platform.provider(&shop, provider).await;
    let (_, bill) = platform.billed(&shop, OWED).await;
    let payment = platform.post(&shop.cashier, "/v1/payments", json!({"bill_id": bill, "tender": "promptpay"})).await.ok().body;
    let path = format!("/v1/payment-intents/{}", payment["payment_intent_id"].as_str().unwrap());
    let shown = platform.get_until(&shop.cashier, &path, |intent| intent["status"] == "requires_action").await;
    at.lever("pay", json!({"reference": shown["reference"]})).await;
    platform.get_until(&shop.cashier, &path, |intent| intent["status"] == "succeeded").await;
    platform.get_until(&shop.cashier, &format!("/v1/bills/{bill}"), |bill| bill["status"] == "paid").await;
    at.agrees_with(&platform, &shop).await;

    let part = json!({"payment_id": payment["id"], "amount": thb(40_00), "reason": "cold"});
    let asked = platform.post(&shop.manager, "/v1/refunds", part.clone()).await.id();
    let refused = refund_becomes(&platform, &shop, &asked, "failed").await;
    assert_eq!(refused["failure"]["code"], code, "{refused}");
    assert_eq!(at.ledger().await["totals"]["reversed"], 0);
    let mut by_hand = part;
    by_hand.as_object_mut().unwrap().extend(json!({"destination": "cash", "fallback_of": asked}).as_object().unwrap().clone());
    let given = platform.post(&shop.manager, "/v1/refunds", by_hand).await.ok().body;
    assert_eq!((&given["status"], &given["fallback_of"]), (&json!("succeeded"), &json!(asked)));
    let too_much =
        json!({"payment_id": payment["id"], "amount": thb(60_01), "reason": "cold", "destination": "cash", "fallback_of": asked});
    assert_eq!(platform.post(&shop.manager, "/v1/refunds", too_much).await.body["code"], "RefundExceedsCaptured");
    platform.get_until(&shop.cashier, &format!("/v1/bills/{bill}"), |bill| bill["refunded"] == thb(40_00)).await;
    platform.proves_itself().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scb_gives_no_part_back_and_the_rest_of_the_story_is_cash() {
    refused_then_by_hand(Simulated::Scb, "not_supported").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kbank_gives_no_part_back_and_the_rest_of_the_story_is_cash() {
    refused_then_by_hand(Simulated::Kbank, "not_supported").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn omise_gives_no_promptpay_back_and_the_rest_of_the_story_is_cash() {
    refused_then_by_hand(Simulated::Omise, "not_supported").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_payment_at_a_merchants_own_account_goes_back_through_that_account() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let at = platform.provider(&shop, Simulated::Scb).await;
    let intent = platform.post(&shop.cashier, "/v1/payment-intents", json!({"store_id": shop.store, "amount": thb(OWED)})).await.id();
    let path = format!("/v1/payment-intents/{intent}");
    let shown = platform.get_until(&shop.cashier, &path, |intent| intent["status"] == "requires_action").await;
    let reference = json!({"reference": shown["reference"]});
    at.lever("pay", reference.clone()).await;
    platform.get_until(&shop.cashier, &path, |intent| intent["status"] == "succeeded").await;
    at.lever("pay", reference).await;
    let parked = platform.get_until(&shop.cashier, &path, |intent| intent["unmatched"][0].is_object()).await;
    let transaction = parked["unmatched"][0]["transaction_id"].as_str().unwrap();
    let back = json!({"decision": "refund", "reason": "paid twice"});
    platform.post(&shop.manager, &format!("{path}/unmatched/{transaction}/resolve"), back).await.ok();
    platform.get_until(&shop.cashier, &path, |intent| intent["unmatched"][0]["resolution"] == "refunded").await;
    assert_eq!(at.ledger().await["totals"]["net"], OWED);
    platform.proves_itself().await;
    platform.stop().await;
}

/// Lets a process do what a worker decided.
async fn apply(write: &WriteSide, shop: &Shop, command: ProcessCommand) {
    let caller = shop.caller(&write.handler);
    let work = write.handler.transact(&caller, |unit| {
        let command = command.clone();
        async move { process_commands::apply(unit, command).await.map(|()| unit.done()) }.boxed()
    });
    work.await.unwrap();
}

/// A payment of `OWED` that the provider's books show as `T1`.
async fn paid_by_code(write: &WriteSide, shop: &Shop) -> PaymentIntentId {
    let (handler, payment_intent_id) = (&write.handler, PaymentIntentId(write.handler.ids().next()));
    let new = NewPayment {
        payment_intent_id,
        pay_for: PayFor::Amount { store_id: shop.store, amount: Money::thb(OWED) },
        tender: Tender::PromptPay,
        provider: "scb".to_owned(),
        valid_for: chrono::Duration::minutes(15),
        confirm: true,
        options: AttemptOptions::default(),
        cash_received: None,
        transaction_id: None,
        merchant_reference: None,
        description: None,
        merchant_terminal_id: None,
        tip: 0,
        acquirer: None,
        paid_at: None,
        evidence: Evidence::Staff,
    };
    let caller = shop.caller(handler);
    let start = handler.transact(&caller, |unit| {
        let new = new.clone();
        async move { payments::start(unit, new).await.map(|_| unit.done()) }.boxed()
    });
    start.await.unwrap();
    let started = handler.read::<PaymentIntent>(shop.merchant, payment_intent_id).await.unwrap();
    let report = PaymentReport {
        attempt_id: started.attempt.as_ref().map(|attempt| attempt.started.attempt_id),
        transaction_id: Some("T1".to_owned()),
        amount: Money::thb(OWED),
        paid_at: handler.clock().now(),
        evidence: Evidence::Inquiry,
        cash_received: None,
        cash_rounding: 0,
        tip: 0,
        acquirer: None,
    };
    apply(write, shop, ProcessCommand::ConfirmPayment { payment_intent_id, report }).await;
    payment_intent_id
}

/// All that can be given back is asked for.
async fn asked_back(write: &WriteSide, shop: &Shop, payment_intent_id: PaymentIntentId) -> RefundId {
    let (handler, refund_id) = (&write.handler, RefundId(write.handler.ids().next()));
    let caller = shop.caller(handler);
    let work = handler.transact(&caller, |unit| {
        let (amount, destination, reason) = (None, Destination::Original, "cold".to_owned());
        let new =
            NewRefund { refund_id, payment_intent_id, amount, destination, reason, given_at: None, breakdown: None, fallback_of: None };
        async move { refunds::request(unit, new).await.map(|_| unit.done()) }.boxed()
    });
    work.await.unwrap();
    refund_id
}

#[tokio::test]
async fn a_refund_that_another_process_asked_for_explains_what_the_books_show() {
    let database = TestDatabase::new().await;
    let (till, worker) = (database.write_side(), database.write_side());
    let shop = Shop::open(&till.handler).await;
    let intent = paid_by_code(&till, &shop).await;
    // The first is left to a person, who does not find it on the statement.
    let first = asked_back(&till, &shop, intent).await;
    apply(&till, &shop, ProcessCommand::LeaveRefundToPerson { refund_id: first, at: till.handler.clock().now() }).await;
    let caller = shop.caller(&till.handler);
    let not_sent = till.handler.transact(&caller, |unit| {
        async move { refund_findings::resolve_by_person(unit, first, false, "SCB, line 3".to_owned()).await.map(|_| unit.done()) }.boxed()
    });
    not_sent.await.unwrap();
    apply(&till, &shop, ProcessCommand::ReleaseRefund { payment_intent_id: intent, refund_id: first }).await;
    // What the worker remembers of the payment is from before the second, which the till asks for.
    assert!(worker.handler.read::<PaymentIntent>(shop.merchant, intent).await.unwrap().refunds.is_empty());
    asked_back(&till, &shop, intent).await;
    let went_back = ProcessCommand::SucceedRefund { refund_id: first, provider_reference: void_reference("T1") };
    apply(&worker, &shop, went_back).await;
    let first = worker.handler.read::<Refund>(shop.merchant, first).await.unwrap();
    assert_eq!(first.status, Status::Failed, "the books do not say which of the two went back");
    till.stop().await;
    worker.stop().await;
}
