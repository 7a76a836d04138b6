//! One timeline tells everything of one payment, in the order in which it happened.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use support::{Receiver, eventually};

use crate::cards::{CardShop, OMISE};

/// Where the first line after `from` stands of which this holds.
fn after(lines: &[Value], from: usize, what: &str, holds: impl Fn(&Value) -> bool) -> usize {
    let found = lines.iter().enumerate().skip(from + 1).find(|(_, line)| holds(line)).map(|(at, _)| at);
    found.unwrap_or_else(|| panic!("no {what} after line {from} of {}", Value::from(lines.to_vec())))
}

fn at(line: &Value) -> Option<DateTime<Utc>> {
    line["at"].as_str().map(|text| text.parse().expect("a time"))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_timeline_has_the_request_the_route_what_was_said_the_call_back_the_refund_and_the_deliveries_in_order() {
    let till = CardShop::open(&OMISE).await;
    let (platform, shop) = (&till.platform, &till.shop);
    let receiver = Receiver::start().await;
    let told = "payment_intent.succeeded,refund.succeeded";
    platform.post(&shop.admin, "/v1/webhook-endpoints", json!({"url": receiver.url, "events": told})).await.ok();
    let path = till.begin(OMISE.asks_payer, json!({})).await;
    let reference = till.becomes(&path, "requires_action").await["reference"].clone();
    till.provider.lever("pay", json!({"reference": reference})).await;
    let paid = till.becomes(&path, "succeeded").await;
    till.explained(&path, "call_back").await;
    let refund = json!({"payment_id": paid["payment_id"], "reason": "cold"});
    platform.post(&shop.manager, "/v1/refunds", refund).await.ok();
    platform.get_until(&shop.cashier, &path, |intent| intent["refunded"] == paid["captured"]).await;

    let lines = eventually("both deliveries are among the lines", Duration::from_secs(15), || async {
        let lines = platform.get(&shop.admin, &format!("{path}/explain")).await.ok().body["data"].as_array().unwrap().clone();
        let delivered = lines.iter().filter(|line| line["kind"] == "delivery" && line["status"] == 200).count();
        (delivered >= 2).then_some(lines)
    })
    .await;

    // What happened between recorded facts stands where it happened; a call of the API stands before its facts.
    let times: Vec<DateTime<Utc>> = lines.iter().filter(|line| line["kind"] != "request").filter_map(at).collect();
    assert!(times.is_sorted(), "{times:?}");
    let event = |wanted: &'static str| move |line: &Value| line["kind"] == "event" && line["type"] == wanted;
    let said = |wanted: &'static str| move |line: &Value| line["kind"] == "exchange" && line["operation"] == wanted;
    let asked = |wanted: &'static str| move |line: &Value| line["kind"] == "request" && line["operation"] == wanted;
    let delivery = |wanted: &'static str| move |line: &Value| line["kind"] == "delivery" && line["type"] == wanted;

    assert!(asked("POST /v1/payment-intents")(&lines[0]), "it begins with what was asked of the API: {}", lines[0]);
    let created = after(&lines, 0, "creation", event("payment_intent.created"));
    let started = after(&lines, created, "attempt", event("payment_intent.attempt_started"));
    let chosen = &lines[started]["payload"];
    assert_eq!(chosen["provider"], "omise");
    assert!(chosen["route"].as_str().unwrap().starts_with("the merchant's omise account"), "why this one: {chosen}");
    let called = after(&lines, started, "call", said("start"));
    let succeeded = after(&lines, called, "success", event("payment_intent.succeeded"));
    let polled = after(&lines, called, "poll", said("inquire"));
    assert!(polled < succeeded, "the books were asked before the payment was believed");
    after(&lines, called, "call-back", said("call_back"));
    after(&lines, succeeded, "delivery", delivery("payment_intent.succeeded"));
    let back = after(&lines, succeeded, "request for a refund", asked("POST /v1/refunds"));
    let requested = after(&lines, back, "refund", event("refund.requested"));
    let sent = after(&lines, requested, "call for the refund", said("refund"));
    let given = after(&lines, sent, "end of the refund", event("refund.succeeded"));
    after(&lines, given, "delivery of the refund", delivery("refund.succeeded"));

    let clearing = |place: usize| {
        let postings = lines[place]["postings"].as_array().unwrap_or_else(|| panic!("nothing moves: {}", lines[place]));
        let amounts = || postings.iter().map(|posting| posting["amount"].as_i64().unwrap());
        assert_eq!(amounts().sum::<i64>(), 0, "they balance: {postings:?}");
        let at_provider = postings.iter().find(|posting| posting["account"].as_str().unwrap().starts_with("provider_clearing:pac_"));
        at_provider.unwrap_or_else(|| panic!("the provider holds nothing: {postings:?}"))["amount"].as_i64().unwrap()
    };
    let amount = paid["captured"]["amount"].as_i64().unwrap();
    assert_eq!((clearing(succeeded), clearing(given)), (amount, -amount), "what the provider holds, and what it sent back");

    for place in [called, polled, sent] {
        let (request, response) = (&lines[place]["request"], &lines[place]["response"]);
        assert!(request["line"].as_str().is_some_and(|line| !line.is_empty()), "what was sent: {}", lines[place]);
        assert!(response["status"].is_number() && response["body"].as_str().is_some_and(|body| !body.is_empty()), "{}", lines[place]);
    }
    let all = Value::from(lines).to_string();
    assert!(all.contains("***") && !all.contains(OMISE.asks_payer), "the card's token is masked in all of it");
    till.closes().await;
}
