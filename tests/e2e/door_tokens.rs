//! Payment tokens of browsers, and the lookup of idempotency keys, over HTTP.

use reqwest::Method;
use serde_json::{Value, json};
use support::{Answered, ApiShop, TestPlatform, patiently_answered as answered};

async fn intent(platform: &TestPlatform, shop: &ApiShop, key: &str) -> Answered {
    let body = json!({"store_id": shop.store, "amount": {"amount": 120_00, "currency": "THB"}});
    platform.send(&shop.cashier, Method::POST, "/v1/payment-intents", Some(key), Some(&body)).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_token_opens_its_intent_and_nothing_else() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let (made, other) = (intent(&platform, &shop, "a").await, intent(&platform, &shop, "b").await);
    let token = made.body["payment_token"].as_str().unwrap().to_owned();
    assert_eq!(intent(&platform, &shop, "a").await.bytes, made.bytes, "a repeated answer is the same, token and all");
    platform.settled().await;
    let path = format!("/v1/payment-intents/{}", made.id());
    let shown = answered(platform.raw(Method::GET, &format!("{path}?payment_token={token}"))).await.ok();
    assert_eq!((shown.id(), &shown.body["payment_token"]), (made.id(), &serde_json::Value::Null), "shown to its maker only");
    assert_eq!(shown.header("access-control-allow-origin"), "*");
    answered(platform.raw(Method::GET, &path).bearer_auth(&token)).await.ok();
    let alias = path.replace("payment-intents", "payment_intents");
    answered(platform.raw(Method::GET, &format!("{alias}?payment_token={token}"))).await.ok();

    let waiting = platform.get_until(&shop.cashier, &path, |intent| intent["next_action"]["qr_png"].is_string()).await;
    for (kind, content) in [("qr_png", "image/png"), ("qr_svg", "image/svg+xml")] {
        let picture = waiting["next_action"][kind].as_str().unwrap();
        let shown = answered(platform.raw(Method::GET, &format!("{picture}?payment_token={token}"))).await;
        assert_eq!((shown.status.as_u16(), shown.header("content-type")), (200, content));
        assert_eq!(answered(platform.raw(Method::GET, picture)).await.status, 401, "for nobody else");
    }

    let elsewhere = format!("/v1/payment-intents/{}", other.id());
    let other_digit = if token.ends_with('0') { '1' } else { '0' };
    for refused in [
        answered(platform.raw(Method::GET, &format!("{elsewhere}?payment_token={token}"))).await,
        answered(platform.raw(Method::POST, &format!("{elsewhere}/cancel")).json(&json!({"payment_token": token, "reason": "x"}))).await,
        answered(platform.raw(Method::GET, "/v1/payment-intents").bearer_auth(&token)).await,
        answered(platform.raw(Method::GET, "/v1/orders").bearer_auth(&token)).await,
        answered(platform.raw(Method::POST, "/v1/refunds").bearer_auth(&token).header("Idempotency-Key", "r").json(&json!({}))).await,
        answered(platform.raw(Method::GET, &format!("{path}?payment_token={}{other_digit}", &token[..token.len() - 1]))).await,
        answered(platform.raw(Method::GET, &format!("{path}?payment_token={token}&payment_token={token}"))).await,
        answered(platform.raw(Method::GET, &path)).await,
    ] {
        assert_eq!(refused.status.as_u16(), 401, "{refused:?}");
    }

    let asked = answered(platform.raw(Method::OPTIONS, &format!("{path}/cancel")).header("Origin", "https://shop.example")).await;
    assert_eq!((asked.status.as_u16(), asked.header("access-control-allow-methods")), (204, "GET, POST"));
    let orders = answered(platform.raw(Method::GET, "/v1/orders").bearer_auth(&shop.cashier)).await.ok();
    assert_eq!(orders.header("access-control-allow-origin"), "", "no other route is for browsers of others");

    answered(platform.raw(Method::POST, &format!("{path}/cancel")).json(&json!({"payment_token": token, "reason": "changed my mind"})))
        .await
        .ok();
    let actor: i64 = sqlx::query_scalar("select count(*) from log.event where actor = $1")
        .bind(format!("payer:{}", made.id()))
        .fetch_one(&platform.database.admin)
        .await
        .unwrap();
    assert!(actor > 0, "in the payer's own name");
    for table in ["log.event", "log.append_key"] {
        let found: bool = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "select exists (select from {table} t where strpos(t::text, $1) > 0 or strpos(t::text, encode(convert_to($1, 'UTF8'), 'hex')) > 0)"
        )))
        .bind(&token)
        .fetch_one(&platform.database.admin)
        .await
        .unwrap();
        assert!(!found, "the token is in {table}");
    }
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_of_a_request_can_be_asked_by_its_key() {
    let platform = TestPlatform::start().await;
    let (shop, other) = (platform.shop().await, platform.shop().await);
    let body = json!({"store_id": shop.store, "amount": {"amount": 120_00, "currency": "THB"}});
    let made = platform.send(&shop.cashier, Method::POST, "/v1/payment-intents", Some("till 1/42"), Some(&body)).await.ok();
    let found = platform.get(&shop.cashier, "/v1/idempotency-keys/till%201%2F42").await.ok();
    assert_eq!(found.body["key"], "till 1/42");
    let [used] = found.body["uses"].as_array().unwrap().as_slice() else { panic!("{found:?}") };
    assert_eq!(
        (&used["operation"], &used["state"], &used["status"]),
        (&json!("POST /v1/payment-intents"), &json!("completed"), &json!(201))
    );
    assert_eq!((used["answer"]["id"].as_str().unwrap(), &used["answer"]["payment_token"]), (made.id().as_str(), &json!(null)));
    assert_eq!(used["fields"], json!(["/amount/amount", "/amount/currency", "/store_id"]));
    assert_eq!(used["position"].to_string(), made.header("smartpos-position"));
    assert!(used["recorded_at"].is_string());
    assert_eq!(platform.get(&shop.cashier, "/v1/idempotency-keys/never").await.status.as_u16(), 404);
    assert_eq!(platform.get(&other.cashier, "/v1/idempotency-keys/till%201%2F42").await.status.as_u16(), 404, "keys of one's own only");
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_published_names_work_under_the_published_path() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let body = json!({"amount": 120_00, "currency": "THB", "payment_method_types": ["qr_mpm"], "merchant_ref_id": "ORD-1", "merchant_store_id": shop.store});
    let made = platform.send(&shop.cashier, Method::POST, "/v1/payment_intents", Some("p"), Some(&body)).await.ok();
    assert_eq!(
        (&made.body["amount"], &made.body["currency"], &made.body["merchant_ref_id"]),
        (&json!(120_00), &json!("THB"), &json!("ORD-1"))
    );
    assert!(made.body["payment_token"].as_str().unwrap().starts_with("ptk_"));
    let again = platform.send(&shop.cashier, Method::POST, "/v1/payment_intents", Some("p"), Some(&body)).await.ok();
    assert_eq!((again.bytes, again.headers["idempotency-replayed"].as_bytes()), (made.bytes.clone(), &b"true"[..]));
    let path = format!("/v1/payment_intents/{}", made.id());
    let intent = platform.get_until(&shop.cashier, &path, |intent| intent["qr_content"].is_string()).await;
    assert_eq!((&intent["status"], &intent["payment_method_types"]), (&json!("requires_action"), &json!(["qr_mpm"])));
    assert_eq!(intent["qr_code_url"], format!("/v1/payment-intents/{}/qr.png", made.id()));
    let canonical = platform.get(&shop.cashier, &path.replace("payment_intents", "payment-intents")).await.ok();
    assert_eq!((&canonical.body["amount"]["amount"], &canonical.body["merchant_ref_id"]), (&json!(120_00), &json!(null)));

    let same = json!({"amount": {"amount": 1_00, "currency": "THB"}, "merchant_reference": "ORD-1", "store_id": shop.store});
    let head = platform.database.head().await.pos;
    let taken = platform.post(&shop.cashier, "/v1/payment-intents", same).await;
    assert_eq!((taken.status.as_u16(), &taken.body["code"]), (409, &json!("AlreadyTaken")));
    assert!(taken.body["detail"].as_str().unwrap().contains(&made.id()), "{taken:?}");
    assert_eq!(platform.database.head().await.pos, head, "nothing was done");
    // The published cancel has no field for a reason.
    let token = made.body["payment_token"].as_str().unwrap();
    let canceled = answered(platform.raw(Method::POST, &format!("{path}/cancel")).json(&json!({"payment_token": token}))).await.ok();
    assert_eq!((canceled.id(), canceled.status.as_u16()), (made.id(), 200));
    answered(platform.raw(Method::POST, &format!("{path}/cancel?payment_token={token}"))).await.ok();
    assert_eq!(platform.raw(Method::GET, "/health").send().await.unwrap().text().await.unwrap(), r#"{"status":"ok"}"#);

    let other = platform.shop().await;
    let elsewhere = json!({"amount": 120_00, "currency": "THB", "payment_method_types": ["qr_mpm"], "merchant_ref_id": "ORD-1", "merchant_store_id": other.store});
    platform.post(&other.cashier, "/v1/payment_intents", elsewhere).await.ok();
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_takes_the_published_names_under_the_published_path() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let body = json!({"amount": 120_00, "currency": "THB", "payment_method_types": ["qr_mpm"], "merchant_ref_id": "ORD-1",
        "merchant_store_id": shop.store, "confirm": false});
    let made = platform.send(&shop.cashier, Method::POST, "/v1/payment_intents", Some("p"), Some(&body)).await.ok();
    let path = format!("/v1/payment_intents/{}", made.id());
    let patch = async |path: &str, key: &str, body: Value| platform.send(&shop.cashier, Method::PATCH, path, Some(key), Some(&body)).await;
    let change = json!({"amount": 90_00, "currency": "THB", "payment_method_types": ["credit_card"], "merchant_ref_id": "ORD-2",
        "merchant_terminal_id": "TILL-4", "description": "Lunch"});
    let changed = patch(&path, "all", change.clone()).await.ok().body;
    for (name, value) in change.as_object().unwrap() {
        assert_eq!(&changed[name], value, "{changed}");
    }
    assert_eq!((&changed["tender"], &changed["merchant_reference"]), (&json!("online_card"), &json!("ORD-2")));
    assert_eq!(
        (&changed["expires_at"], &changed["status"]),
        (&made.body["expires_at"], &json!("requires_payment_method")),
        "nothing is added"
    );
    let one = patch(&path, "one", json!({"description": "Dinner"})).await.ok().body;
    assert_eq!((&one["description"], &one["amount"], &one["merchant_ref_id"]), (&json!("Dinner"), &json!(90_00), &json!("ORD-2")));

    let whole = json!({"merchant_reference": "ORD-3", "amount": {"amount": 80_00, "currency": "THB"}});
    let canonical = path.replace("payment_intents", "payment-intents");
    assert_eq!(patch(&canonical, "canonical", whole).await.ok().body["amount"]["amount"], 80_00, "the canonical names as before");
    let refused = [
        (&path, json!({"merchant_store_id": shop.store}), "BodyInvalid"),
        (&path, json!({"amount": 80_00}), "BodyInvalid"),
        (&path, json!({"merchant_ref_id": "A", "merchant_reference": "B"}), "BodyInvalid"),
        (&path, json!({"payment_method_types": ["qr_mpm", "credit_card"]}), "RuleBroken"),
        (&canonical, json!({"merchant_ref_id": "ORD-4"}), "BodyInvalid"),
    ];
    let head = platform.database.head().await.pos;
    for (n, (path, body, code)) in refused.into_iter().enumerate() {
        let answer = patch(path, &format!("refused-{n}"), body).await;
        assert_eq!(answer.body["code"], json!(code), "{answer:?}");
    }
    assert_eq!(platform.database.head().await.pos, head, "nothing was done");
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_number_leaves_no_trace() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let head = platform.database.head().await.pos;
    let intent =
        |reference: &str| json!({"store_id": shop.store, "amount": {"amount": 1_00, "currency": "THB"}, "merchant_reference": reference});
    let number = "4242 4242-4242 4242";
    let mut deep = intent("x");
    deep["metadata"] = json!({"a": [{"b": number}]});
    let mut cvv = intent("x");
    cvv["card"] = json!({"cvv": "987"});
    let by_header = platform.raw(Method::GET, "/v1/payments").bearer_auth(&shop.cashier).header("X-Note", number);
    let refused = [
        platform.post(&shop.cashier, "/v1/payment-intents", intent(number)).await,
        platform.post(&shop.cashier, "/v1/payment_intents", intent(number)).await,
        platform.post(&shop.cashier, "/v1/payment-intents", deep).await,
        platform.post(&shop.cashier, "/v1/payment-intents", cvv).await,
        platform.get(&shop.cashier, "/v1/payments?cursor=4242+4242-4242+4242").await,
        platform.get(&shop.cashier, "/v1/idempotency-keys/4242424242424242").await,
        platform.get(&shop.cashier, "/v1/payments?cvc=987").await,
        platform.send(&shop.cashier, Method::POST, "/v1/payment-intents", Some("k 4242424242424242"), Some(&intent("x"))).await,
        answered(by_header).await,
    ];
    for answer in &refused {
        assert_eq!((answer.status.as_u16(), &answer.body["code"]), (422, &json!("CardNumberRefused")), "{answer:?}");
        assert!(!String::from_utf8_lossy(&answer.bytes).contains("4242"));
    }
    assert_eq!(platform.database.head().await.pos, head);
    for token in ["tokn_test_5g5mep9yrko3vx2f0hx", "pm_1MqLiJLkdIwHu7ixUEgbFdYF", "ARN74537604221222132710572"] {
        platform.post(&shop.cashier, "/v1/payment-intents", intent(token)).await.ok();
    }
    // The last one are the bytes of its parts, however they are written.
    for number in ["4242424242424242", "4242 4242-4242 4242", "4242+4242-4242+4242", "34323432"] {
        assert_eq!(platform.database.tables_with(number).await, [""; 0], "{number}");
    }
    platform.stop().await;
}
