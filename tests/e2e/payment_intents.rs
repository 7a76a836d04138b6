//! The life of a payment intent through HTTP, beside the straight way: begun later, changed, late, doubled, raced, explained.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use support::{ApiShop, TestPlatform, eventually};

const OWED: i64 = 80_00;

fn thb(amount: i64) -> Value {
    json!({"amount": amount, "currency": "THB"})
}

async fn create(platform: &TestPlatform, shop: &ApiShop, more: Value) -> String {
    let mut body = json!({"store_id": shop.store, "amount": thb(OWED)});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    platform.post(&shop.cashier, "/v1/payment-intents", body).await.id()
}

fn path(intent: &str) -> String {
    format!("/v1/payment-intents/{intent}")
}

/// Waits until the intent has this status.
async fn shown_as(platform: &TestPlatform, shop: &ApiShop, intent: &str, status: &str) -> Value {
    platform.get_until(&shop.cashier, &path(intent), |intent| intent["status"] == status).await
}

/// Waits for the QR and gives our reference at the bank.
async fn reference(platform: &TestPlatform, shop: &ApiShop, intent: &str) -> String {
    shown_as(platform, shop, intent, "requires_action").await["reference"].as_str().unwrap().to_owned()
}

/// An intent whose code can be scanned, on a platform of its own, and our reference at the bank.
async fn waiting() -> (TestPlatform, ApiShop, String, String) {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let intent = create(&platform, &shop, json!({})).await;
    let reference = reference(&platform, &shop, &intent).await;
    (platform, shop, intent, reference)
}

async fn open_transaction(platform: &TestPlatform, shop: &ApiShop, intent: &str) -> String {
    let shown = platform
        .get_until(&shop.cashier, &path(intent), |intent| {
            intent["unmatched"][0]["resolution"].is_null() && intent["unmatched"][0].is_object()
        })
        .await;
    shown["unmatched"][0]["transaction_id"].as_str().unwrap().to_owned()
}

async fn decide(platform: &TestPlatform, shop: &ApiShop, intent: &str, transaction: &str, decision: &str) -> support::Answered {
    let body = json!({"decision": decision, "reason": "the guest is still here"});
    platform.post(&shop.manager, &format!("{}/unmatched/{transaction}/resolve", path(intent)), body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intent_may_be_begun_later_and_changed_until_then() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let intent = create(&platform, &shop, json!({"confirm": false})).await;
    let changed = json!({"amount": thb(55_00), "merchant_reference": "table 7", "description": "two teas", "merchant_terminal_id": "T-2"});
    let key = Some("change-1");
    let answer = platform.send(&shop.cashier, Method::PATCH, &path(&intent), key, Some(&changed)).await.ok();
    assert_eq!((&answer.body["status"], &answer.body["amount"]), (&json!("requires_payment_method"), &thb(55_00)));
    assert_eq!((&answer.body["description"], &answer.body["merchant_terminal_id"]), (&json!("two teas"), &json!("T-2")));
    assert_eq!(platform.ledger().await["qr_codes"], 0, "nothing was asked of the bank");
    let other = create(&platform, &shop, json!({"confirm": false})).await;
    let same = platform.send(&shop.cashier, Method::PATCH, &path(&other), Some("change-other"), Some(&changed)).await;
    assert_eq!((same.status.as_u16(), &same.body["code"]), (409, &json!("AlreadyTaken")), "a reference is one payment's");
    let again = platform.send(&shop.cashier, Method::PATCH, &path(&intent), Some("change-again"), Some(&changed)).await.ok();
    assert_eq!(again.body["version"], answer.body["version"], "nothing changes");
    let confirm = format!("{}/confirm", path(&intent));
    let wrong = platform.post(&shop.cashier, &confirm, json!({"tender": "online_card"})).await;
    assert_eq!(wrong.body["code"], "NoProviderAccount", "this merchant has no account that takes cards");
    platform.post(&shop.cashier, &confirm, json!({})).await.ok();
    let reference = reference(&platform, &shop, &intent).await;
    let refused = platform.send(&shop.cashier, Method::PATCH, &path(&intent), Some("change-2"), Some(&changed)).await;
    assert_eq!(refused.body["code"], "AttemptInProgress");
    platform.pay(&reference, json!({})).await;
    let paid = shown_as(&platform, &shop, &intent, "succeeded").await;
    assert_eq!((&paid["captured"], &paid["merchant_reference"]), (&thb(55_00), &json!("table 7")));
    assert_eq!((&paid["description"], &paid["merchant_terminal_id"]), (&json!("two teas"), &json!("T-2")));
    platform.proves_itself().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_qr_to_be_scanned_can_be_had_as_a_picture() {
    let (platform, shop, intent, reference) = waiting().await;
    let picture = |kind: &str| {
        let request = platform.raw(Method::GET, &format!("{}/qr.{kind}", path(&intent))).bearer_auth(&shop.cashier);
        async move { request.send().await.unwrap().error_for_status().unwrap().bytes().await.unwrap() }
    };
    assert_eq!(&picture("png").await[..8], b"\x89PNG\r\n\x1a\n");
    assert!(String::from_utf8(picture("svg").await.to_vec()).unwrap().contains("<svg"));
    platform.pay(&reference, json!({})).await;
    shown_as(&platform, &shop, &intent, "succeeded").await;
    let gone = platform.get(&shop.cashier, &format!("{}/qr.png", path(&intent))).await;
    assert_eq!(gone.status.as_u16(), 404, "what was paid is not shown again");
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_money_revives_a_cancelled_intent_when_a_manager_accepts_it() {
    let (platform, shop, intent, reference) = waiting().await;
    platform.post(&shop.cashier, &format!("{}/cancel", path(&intent)), json!({"reason": "requested_by_customer"})).await.ok();
    let canceled = shown_as(&platform, &shop, &intent, "canceled").await;
    assert_eq!(canceled["cancel"], "done");
    platform.pay(&reference, json!({})).await;
    let transaction = open_transaction(&platform, &shop, &intent).await;
    for list in ["unmatched=true", "needs_attention=true"] {
        let listed = platform.get(&shop.cashier, &format!("/v1/payment-intents?{list}")).await.ok();
        assert_eq!(listed.body["data"][0]["id"], json!(intent), "{list}");
    }
    let by_cashier = json!({"decision": "accept", "reason": "x"});
    let forbidden = platform.post(&shop.cashier, &format!("{}/unmatched/{transaction}/resolve", path(&intent)), by_cashier).await;
    assert_eq!(forbidden.status.as_u16(), 403);
    decide(&platform, &shop, &intent, &transaction, "accept").await.ok();
    let paid = shown_as(&platform, &shop, &intent, "succeeded").await;
    assert_eq!((&paid["captured"], &paid["needs_attention"]), (&thb(OWED), &json!(false)));
    assert_eq!(decide(&platform, &shop, &intent, &transaction, "keep").await.body["code"], "UnmatchedNotFound");
    platform.proves_itself().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_payment_goes_back_by_a_refund_of_that_very_transaction() {
    let (platform, shop, intent, reference) = waiting().await;
    platform.pay(&reference, json!({})).await;
    shown_as(&platform, &shop, &intent, "succeeded").await;
    platform.pay(&reference, json!({})).await;
    let transaction = open_transaction(&platform, &shop, &intent).await;
    assert_eq!(decide(&platform, &shop, &intent, &transaction, "accept").await.body["code"], "UnmatchedNotAcceptable");
    decide(&platform, &shop, &intent, &transaction, "refund").await.ok();
    let back = platform.get_until(&shop.cashier, &path(&intent), |intent| intent["unmatched"][0]["resolution"] == "refunded").await;
    assert_eq!((&back["status"], &back["refunded"]), (&json!("succeeded"), &thb(0)), "the payment itself keeps its money");
    let ledger = platform.ledger().await;
    let reversed = ledger["payments"].as_array().unwrap().iter().filter(|payment| payment["reversed"] == true);
    assert_eq!(reversed.map(|payment| payment["transaction_id"].clone()).collect::<Vec<_>>(), [json!(transaction)]);
    platform.proves_itself().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_whose_outcome_is_unknown_is_not_asked_for_again_once_the_cashier_cancels() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    platform.faults(json!([{"operation": "start", "fault": "http_500", "times": 1_000}])).await;
    let intent = create(&platform, &shop, json!({})).await;
    platform.get_until(&shop.cashier, &path(&intent), |intent| intent["outcome"]["state"] == "unknown").await;
    platform.post(&shop.cashier, &format!("{}/cancel", path(&intent)), json!({"reason": "requested_by_customer"})).await.ok();
    let canceled_at = platform.now();
    eventually("the call is given up", Duration::from_secs(60), || async {
        let sql = "select count(*) from process.task where key like 'create:%'";
        let left: i64 = sqlx::query_scalar(sql).fetch_one(&platform.database.admin).await.unwrap();
        (left == 0).then_some(())
    })
    .await;
    // Not before: a call that was under way when the cancel came still meets the fault.
    let cleared = reqwest::Client::new().delete(format!("{}/sim/faults", platform.simulator)).send().await.unwrap();
    assert!(cleared.status().is_success());
    // The next calls would have come after one, two and four seconds; later ones if the cancel was slow.
    tokio::time::sleep(Duration::from_secs(9)).await;
    let sql = "select count(*) from gateway.exchange where operation = 'start' and sent_at > $1";
    let after: i64 = sqlx::query_scalar(sql).bind(canceled_at).fetch_one(&platform.database.admin).await.unwrap();
    assert!(after <= 1, "{after} calls after the cancel, more than the one that was under way when it came");
    let shown = platform.get_until(&shop.cashier, &path(&intent), |intent| intent["cancel"] == "requested").await;
    assert_eq!(shown["status"], "processing", "what the call did may still come to light");
    assert!(platform.ledger().await["attempts"].as_array().unwrap().is_empty(), "a code was made for nobody");
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_that_loses_against_the_payment_says_so() {
    let (platform, shop, intent, reference) = waiting().await;
    platform.pay(&reference, json!({"webhook": "never"})).await;
    let asked = platform.post(&shop.cashier, &format!("{}/cancel", path(&intent)), json!({"reason": "duplicate"})).await;
    // Either the payment was seen before the cancel came, or the cancel lost.
    let paid = shown_as(&platform, &shop, &intent, "succeeded").await;
    assert_eq!(paid["cancel"], if asked.status.is_success() { "lost" } else { "none" });
    assert_eq!(platform.ledger().await["payments"].as_array().unwrap().len(), 1);
    platform.proves_itself().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_explains_itself_with_what_was_said_to_the_bank() {
    let (platform, shop, intent, reference) = waiting().await;
    platform.pay(&reference, json!({})).await;
    shown_as(&platform, &shop, &intent, "succeeded").await;
    let explained = eventually("the call-back is among the lines", Duration::from_secs(10), || async {
        let answer = platform.get(&shop.cashier, &format!("{}/explain", path(&intent))).await.ok();
        let lines = answer.body["data"].as_array().unwrap().clone();
        lines.iter().any(|line| line["operation"] == "call_back").then_some(lines)
    })
    .await;
    let events: Vec<&str> = explained.iter().filter_map(|line| line["type"].as_str()).collect();
    assert_eq!(events.first(), Some(&"payment_intent.created"));
    assert!(events.contains(&"payment_intent.attempt_started") && events.contains(&"payment_intent.succeeded"), "{events:?}");
    let positions: Vec<i64> = explained.iter().filter_map(|line| line["position"].as_i64()).collect();
    assert!(positions.is_sorted(), "events stand in the order of the log");
    let operations: Vec<&str> = explained.iter().filter_map(|line| line["operation"].as_str()).collect();
    assert!(operations.contains(&"start") && operations.contains(&"inquire"), "{operations:?}");
    let called_back = explained.iter().find(|line| line["operation"] == "call_back").unwrap();
    let received: Value = serde_json::from_str(called_back["received"].as_str().expect("what it said")).unwrap();
    assert_eq!((&received["billPaymentRef1"], &received["payerName"]), (&json!(reference), &json!("***")), "{received}");
    let asked = explained.iter().position(|line| line["kind"] == "request").expect("what was asked of the API");
    let (request, next) = (&explained[asked], &explained[asked + 1]);
    assert_eq!((&request["operation"], &next["type"]), (&json!("POST /v1/payment-intents"), &json!("payment_intent.created")));
    assert_eq!((&request["correlation_id"], &request["actor"]), (&next["correlation_id"], &next["actor"]));
    let past = format!("{}/explain?as_of={}", path(&intent), positions[1]);
    let past = platform.get(&shop.cashier, &past).await.ok().body["data"].as_array().unwrap().clone();
    let then: Vec<i64> = past.iter().filter_map(|line| line["position"].as_i64()).collect();
    assert_eq!(then, positions[..2], "as much as there was then");
    assert!(past.iter().all(|line| line["operation"] != "call_back"), "the call-back came later");
    let changed = sqlx::query("update gateway.exchange set response_body = 'nothing'").execute(&platform.database.admin).await;
    assert!(changed.is_err(), "what was said is only ever added to");
    let printed = support::replay(&platform.database, &["explain", &intent]).await.sound();
    let kinds = |kind: &str| printed.lines.iter().filter(|line| line["kind"] == kind).count();
    assert_eq!((kinds("event"), kinds("exchange") > 0), (events.len(), true), "the command line tells the same");
    let other = platform.shop().await;
    let hidden = platform.get(&other.cashier, &format!("{}/explain", path(&intent))).await;
    assert_eq!(hidden.status.as_u16(), 404, "another tenant's payment explains nothing");
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispute_holds_the_money_until_it_is_won() {
    let (platform, shop, intent, reference) = waiting().await;
    platform.pay(&reference, json!({})).await;
    shown_as(&platform, &shop, &intent, "succeeded").await;
    let opened = platform.post(&shop.manager, &format!("{}/dispute", path(&intent)), json!({"reason": "not me"})).await.ok();
    assert_eq!((&opened.body["dispute"], &opened.body["needs_attention"]), (&json!("open"), &json!(true)));
    let payment = opened.body["payment_id"].as_str().unwrap().to_owned();
    let refund = json!({"payment_id": payment, "destination": "original", "reason": "cold"});
    assert_eq!(platform.post(&shop.manager, "/v1/refunds", refund.clone()).await.body["code"], "PaymentDisputed");
    let won = platform.post(&shop.manager, &format!("{}/dispute/resolve", path(&intent)), json!({"outcome": "won"})).await.ok();
    assert_eq!((&won.body["dispute"], &won.body["needs_attention"]), (&json!("won"), &json!(false)));
    platform.post(&shop.manager, "/v1/refunds", refund).await.ok();
    platform.proves_itself().await;
    platform.stop().await;
}
