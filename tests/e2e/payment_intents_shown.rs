//! What a payment intent shows of itself: the caller's own words, where it is found again, and how far its outcome is known.

use api::auth::Role;
use chrono::{DateTime, Duration, Utc};
use reqwest::Method;
use serde_json::{Value, json};
use support::{ApiShop, PATIENCE, TestPlatform, eventually};

fn body(shop: &ApiShop, more: Value) -> Value {
    let mut body = json!({"store_id": shop.store, "amount": {"amount": 80_00, "currency": "THB"}});
    let Value::Object(more) = more else { panic!("more fields are an object: {more}") };
    body.as_object_mut().unwrap().extend(more);
    body
}

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap_or_else(|| panic!("no time: {value}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intent_keeps_its_description_and_terminal_under_both_spellings() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let words = json!({"description": "Lunch, table 12", "merchant_terminal_id": "TILL-04"});
    let made = platform.post(&shop.cashier, "/v1/payment-intents", body(&shop, words.clone())).await;
    let path = format!("/v1/payment-intents/{}", made.id());
    let read = platform.get_until(&shop.cashier, &path, |intent| intent["status"] == "requires_action").await;
    let published = json!({"amount": 120_00, "currency": "THB", "payment_method_types": ["qr_mpm"], "merchant_ref_id": "ORD-1",
        "merchant_store_id": shop.store, "description": "Lunch, table 12", "merchant_terminal_id": "TILL-04"});
    let alias = platform.send(&shop.cashier, Method::POST, "/v1/payment_intents", Some("p"), Some(&published)).await.ok();
    for shown in [&made.body, &read, &alias.body] {
        for (name, value) in words.as_object().unwrap() {
            assert_eq!(&shown[name], value, "{shown}");
        }
    }
    for (name, most, code) in [("description", 200, "DescriptionInvalid"), ("merchant_terminal_id", 64, "TerminalInvalid")] {
        for bad in [String::new(), "x".repeat(most + 1), "two\nlines".to_owned()] {
            let refused = platform.post(&shop.cashier, "/v1/payment-intents", body(&shop, json!({name: bad}))).await;
            assert_eq!((refused.status.as_u16(), &refused.body["code"]), (422, &json!(code)), "{refused:?}");
        }
    }
    platform.proves_itself().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intent_is_found_by_what_its_provider_calls_it() {
    let platform = TestPlatform::start().await;
    let (shop, other) = (platform.shop().await, platform.shop().await);
    let intent = platform.post(&shop.cashier, "/v1/payment-intents", body(&shop, json!({}))).await.id();
    platform.post(&shop.cashier, "/v1/payment-intents", body(&shop, json!({}))).await.ok();
    let path = format!("/v1/payment-intents/{intent}");
    let waiting = platform.get_until(&shop.cashier, &path, |intent| intent["status"] == "requires_action").await;
    let reference = waiting["reference"].as_str().unwrap();
    let paid = platform.pay(reference, json!({})).await;
    platform.get_until(&shop.cashier, &path, |intent| intent["status"] == "succeeded").await;
    let transaction = paid["transaction_id"].as_str().unwrap();
    let found = async |token: &str, name: &str| {
        let page = platform.get(token, &format!("/v1/payment-intents?provider_reference={name}")).await.ok().body;
        page["data"].as_array().unwrap().iter().map(|intent| intent["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for name in [reference, transaction] {
        assert_eq!(found(&shop.cashier, name).await, [intent.as_str()], "{name}");
        assert!(found(&other.cashier, name).await.is_empty(), "{name} is another merchant's");
    }
    assert!(found(&shop.cashier, "NOBODYKNOWSTHISNAME0").await.is_empty());
    platform.proves_itself().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_inquiry_and_the_worst_case_are_shown_until_the_outcome_is_known() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    platform.faults(json!([{"operation": "start", "fault": "http_500_after", "times": 3}])).await;
    let made = platform.post(&shop.cashier, "/v1/payment-intents", body(&shop, json!({"expires_in_minutes": 15}))).await;
    let path = format!("/v1/payment-intents/{}", made.id());
    // An hour and five seconds after the attempt's deadline, which is the intent's but for the moment between the two.
    let is_worst = |shown: &Value| {
        let after = time(&shown["outcome"]["resolves_by"]) - time(&shown["expires_at"]) - Duration::minutes(60) - Duration::seconds(5);
        after >= Duration::zero() && after < Duration::seconds(1)
    };
    assert!(is_worst(&made.body), "said from the beginning: {made:?}");
    let unknown = platform.get_until(&shop.cashier, &path, |intent| intent["outcome"]["state"] == "unknown").await;
    let seen_unknown = platform.now();
    let after = platform.get_until(&shop.cashier, &path, |intent| intent["status"] == "requires_action").await;
    for (shown, step, now) in [(&unknown, json!("inquiry"), seen_unknown), (&after, json!(null), platform.now())] {
        assert_eq!(shown["outcome"]["step"], step, "{shown}");
        assert!(is_worst(shown), "{shown}");
        let next = time(&shown["outcome"]["next_inquiry_at"]);
        assert!(next > now - Duration::seconds(30) && next < now + Duration::seconds(35), "{next} at {now}");
    }
    let list = platform.get(&shop.cashier, "/v1/payment-intents").await.ok().body;
    assert!(list["data"][0]["outcome"]["next_inquiry_at"].is_string(), "{list}");
    platform.pay(after["reference"].as_str().unwrap(), json!({})).await;
    let paid = platform.get_until(&shop.cashier, &path, |intent| intent["status"] == "succeeded").await;
    assert_eq!((&paid["outcome"]["resolves_by"], &paid["outcome"]["next_inquiry_at"]), (&json!(null), &json!(null)));
    platform.stop().await;
}

async fn synced(platform: &TestPlatform, token: &str, path: &str) -> support::Answered {
    platform.send(token, Method::POST, &format!("{path}/sync"), None, None).await
}

/// Puts off the looks of the schedule, so that only a request has anybody look.
async fn nobody_else_looks(platform: &TestPlatform) {
    let sql = "update process.task set due_at = due_at + interval '1 hour' where key like 'watch:%' and leased_until is null";
    eventually("its watch is put off", PATIENCE, || async {
        let moved = sqlx::query(sql).execute(&platform.database.admin).await.unwrap().rows_affected();
        (moved == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_brought_up_to_date_with_its_provider_on_request() {
    let platform = TestPlatform::start().await;
    let (shop, other) = (platform.shop().await, platform.shop().await);
    let made = platform.post(&shop.cashier, "/v1/payment-intents", body(&shop, json!({}))).await;
    let path = format!("/v1/payment-intents/{}", made.id());
    let waiting = platform.get_until(&shop.cashier, &path, |intent| intent["status"] == "requires_action").await;
    nobody_else_looks(&platform).await;
    platform.pay(waiting["reference"].as_str().unwrap(), json!({"webhook": "never"})).await;
    // It is waited for ten seconds, which a busy machine may take longer than.
    let paid = eventually("it is brought up to date", PATIENCE, || async {
        let shown = synced(&platform, &shop.cashier, &path).await.ok();
        (shown.body["status"] == "succeeded").then_some(shown)
    })
    .await;
    assert_eq!(paid.body["captured"]["amount"], json!(80_00), "{paid:?}");
    assert_eq!(paid.header("etag"), format!("\"{}\"", paid.body["version"]));
    let published = path.replace("payment-intents", "payment_intents");
    assert_eq!(synced(&platform, &shop.cashier, &published).await.ok().body["amount"], 80_00, "again, and in the published form");
    // A provider that does not answer changes nothing.
    let next = platform.post(&shop.cashier, "/v1/payment-intents", body(&shop, json!({}))).await;
    let next_path = format!("/v1/payment-intents/{}", next.id());
    platform.get_until(&shop.cashier, &next_path, |intent| intent["status"] == "requires_action").await;
    platform.faults(json!([{"operation": "inquire", "fault": "http_500", "times": 2}])).await;
    assert_eq!(synced(&platform, &shop.cashier, &next_path).await.ok().body["status"], "requires_action");
    // An intent that no provider was asked about is as it is.
    let idle = platform.post(&shop.cashier, "/v1/payment-intents", body(&shop, json!({"confirm": false}))).await;
    let idle_path = format!("/v1/payment-intents/{}", idle.id());
    assert_eq!(synced(&platform, &shop.cashier, &idle_path).await.ok().body["status"], "requires_payment_method");
    assert_eq!(synced(&platform, &other.cashier, &path).await.status.as_u16(), 404, "another merchant's does not exist");
    assert_eq!(synced(&platform, &platform.token(Role::Auditor, Some(shop.merchant), None), &path).await.status.as_u16(), 403);
    assert_eq!(synced(&platform, idle.body["payment_token"].as_str().unwrap(), &idle_path).await.status.as_u16(), 401);
    eventually("each was one look", PATIENCE, || async {
        let looks = sqlx::query_scalar::<_, i64>("select count(*) from process.task where key like 'look:%'");
        (looks.fetch_one(&platform.database.admin).await.unwrap() == 0).then_some(())
    })
    .await;
    platform.proves_itself().await;
    platform.stop().await;
}
