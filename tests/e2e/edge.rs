//! The edge: races, repeats, versions, pages, and whatever a hostile or broken client may send.

use std::{collections::BTreeSet, time::Instant};

use api::auth::Role;
use reqwest::Method;
use serde_json::{Value, json};
use support::{Answered, ApiShop, PATIENCE, TestPlatform, order_body, patiently_answered as answered, store_body};

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_posts_with_one_key_have_one_effect_and_equal_answers() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let body = order_body(&shop, 10_00);
    let before = platform.database.head().await.pos;
    let asked = (0..64).map(|_| platform.send(&shop.cashier, Method::POST, "/v1/orders", Some("one"), Some(&body)));
    let answers = futures_util::future::join_all(asked).await;
    let bodies: BTreeSet<&[u8]> = answers.iter().map(|answer| answer.bytes.as_slice()).collect();
    assert_eq!(bodies.len(), 1);
    assert!(answers.iter().all(|answer| answer.status.as_u16() == 201), "{:?}", answers[0]);
    let positions: BTreeSet<&str> = answers.iter().map(|answer| answer.header("smartpos-position")).collect();
    assert_eq!(positions.len(), 1);
    // All of them where the one that did it was not answered in time, and asked again.
    assert!(answers.iter().filter(|answer| answer.header("idempotency-replayed") == "true").count() >= 63);
    assert_eq!(platform.database.head().await.pos, before + 2, "one order with one line");
    let other = order_body(&shop, 11_00);
    let refused = platform.send(&shop.cashier, Method::POST, "/v1/orders", Some("one"), Some(&other)).await;
    assert_eq!((refused.status.as_u16(), &refused.body["code"]), (422, &json!("IdempotencyKeyReused")));
    assert!(refused.body["detail"].as_str().unwrap().contains("/lines/0/unit_price/amount"), "{refused:?}");
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_sixty_four_callers_that_saw_the_same_version_one_wins() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let order = platform.post(&shop.cashier, "/v1/orders", order_body(&shop, 10_00)).await.ok();
    let path = format!("/v1/orders/{}/lines", order.id());
    let line = json!({"item_code": "CRO", "name": "Croissant", "quantity_milli": 1000, "unit_price": {"amount": 75_00, "currency": "THB"}, "tax_class": "standard"});
    let asked = (0..64).map(|n| {
        let request = platform.raw(Method::POST, &path).bearer_auth(&shop.cashier).header("If-Match", order.header("etag"));
        answered(request.header("Idempotency-Key", format!("race-{n}")).json(&line))
    });
    let answers = futures_util::future::join_all(asked).await;
    let count = |status: u16| answers.iter().filter(|answer| answer.status.as_u16() == status).count();
    assert_eq!((count(201) + count(200), count(412)), (1, 63), "{:?}", answers.iter().map(|a| a.status).collect::<Vec<_>>());
    platform.proves_itself().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_do_not_care_for_versions_all_get_through() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let order = platform.post(&shop.cashier, "/v1/orders", order_body(&shop, 10_00)).await.id();
    let line = json!({"item_code": "CRO", "name": "Croissant", "quantity_milli": 1000, "unit_price": {"amount": 75_00, "currency": "THB"}, "tax_class": "standard"});
    let path = format!("/v1/orders/{order}/lines");
    let answers = futures_util::future::join_all((0..16).map(|_| platform.post(&shop.cashier, &path, line.clone()))).await;
    let versions: BTreeSet<String> = answers.into_iter().map(|answer| answer.ok().header("etag").to_owned()).collect();
    assert_eq!(versions.len(), 16, "each has a version of its own");
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_can_be_walked_to_their_end_without_a_miss_or_a_repeat() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let mut made = Vec::new();
    for n in 0..25 {
        made.push(platform.post(&shop.cashier, "/v1/orders", order_body(&shop, 100 + n)).await.id());
    }
    platform.settled().await;
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = platform.get(&shop.cashier, &format!("/v1/orders?limit=10{cursor}")).await.ok();
        found.extend(page.body["data"].as_array().unwrap().iter().map(|order| order["id"].as_str().unwrap().to_owned()));
        let Some(next) = page.body["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    found.reverse();
    assert_eq!(found, made, "newest first, each once");
    for bad in ["?cursor=garbage", "?limit=0", "?limit=201", "?limit=x", "?status=wrong", "?business_date_from=yesterday", "?nonsense=1"] {
        let answer = platform.get(&shop.cashier, &format!("/v1/orders{bad}")).await;
        assert!(is_problem(&answer) && answer.status.as_u16() == 400, "{bad}: {answer:?}");
    }
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_carry_versions_and_can_be_conditional() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let deadline = Instant::now() + PATIENCE;
    let (path, read) = loop {
        let order = platform.post(&shop.cashier, "/v1/orders", order_body(&shop, 10_00)).await.ok();
        let path = format!("/v1/orders/{}?min_pos={}", order.id(), order.header("smartpos-position"));
        let (read, at_once) = platform.read_after_write(&shop.cashier, &path).await;
        assert_eq!(read.header("etag"), order.header("etag"));
        assert_eq!(read.body, order.body, "command and query show the same resource");
        if at_once {
            break (path, read);
        }
        assert!(Instant::now() < deadline, "a read waits for the write");
    };
    assert_eq!(read.header("cache-control"), "no-store");
    let again = answered(platform.raw(Method::GET, &path).bearer_auth(&shop.cashier).header("If-None-Match", read.header("etag"))).await;
    assert_eq!(again.status.as_u16(), 304);
    let far =
        answered(platform.raw(Method::GET, "/v1/orders").bearer_auth(&shop.cashier).header("Smartpos-Min-Position", "999999999")).await;
    assert!(is_problem(&far) && (far.status.as_u16(), &far.body["code"]) == (400, &json!("MomentNotCome")), "{far:?}");
    platform.stop().await;
}

fn is_problem(answer: &Answered) -> bool {
    answer.header("content-type") == "application/problem+json"
        && ["type", "title", "status", "detail", "code", "correlation_id"].iter().all(|field| !answer.body[*field].is_null())
        && answer.body["status"] == answer.status.as_u16()
        && !answer.header("smartpos-correlation-id").is_empty()
}

/// Every route that takes a body, with ids that exist where ids are needed, and the token of someone who may.
async fn endpoints(platform: &TestPlatform, shop: &ApiShop) -> Vec<(Method, String, String)> {
    let order = platform.post(&shop.cashier, "/v1/orders", order_body(shop, 10_00)).await.ok();
    let (id, line) = (order.id(), order.body["lines"][0]["id"].as_str().unwrap().to_owned());
    let (_, bill) = platform.billed(shop, 20_00).await;
    let payment = platform.post(&shop.cashier, "/v1/payments", json!({"bill_id": bill, "tender": "cash"})).await.ok();
    let intent = payment.body["payment_intent_id"].as_str().unwrap().to_owned();
    let admin = platform.token(Role::PlatformAdmin, None, None);
    let post = Method::POST;
    let routes = [
        (post.clone(), "/v1/merchants".to_owned(), &admin),
        (post.clone(), "/v1/stores".to_owned(), &shop.admin),
        (post.clone(), "/v1/orders".to_owned(), &shop.cashier),
        (post.clone(), format!("/v1/orders/{id}/lines"), &shop.cashier),
        (Method::PATCH, format!("/v1/orders/{id}/lines/{line}"), &shop.cashier),
        (post.clone(), format!("/v1/orders/{id}/lines/{line}/void"), &shop.cashier),
        (Method::PUT, format!("/v1/orders/{id}/discount"), &shop.manager),
        (post.clone(), format!("/v1/orders/{id}/adjustments"), &shop.manager),
        (post.clone(), format!("/v1/orders/{id}/cancel"), &shop.cashier),
        (post.clone(), "/v1/bills".to_owned(), &shop.cashier),
        (post.clone(), format!("/v1/bills/{bill}/void"), &shop.manager),
        (post.clone(), "/v1/payments".to_owned(), &shop.cashier),
        (post.clone(), "/v1/payment-intents".to_owned(), &shop.cashier),
        (post.clone(), format!("/v1/payment-intents/{intent}/cancel"), &shop.cashier),
        (post, "/v1/refunds".to_owned(), &shop.manager),
    ];
    routes.into_iter().map(|(method, path, token)| (method, path, token.clone())).collect()
}

fn garbage() -> Vec<(&'static str, Vec<u8>)> {
    let nested = format!("{}{}", "{\"a\":".repeat(200), "1".to_owned() + &"}".repeat(200));
    let arrays = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        ("empty", vec![]),
        ("not json", text("hello")),
        ("cut", text(r#"{"store_id": "sto_"#)),
        ("an array", text("[]")),
        ("a number", text("7")),
        ("null", text("null")),
        ("fields by their order", text(r#"["sto_01J00000000000000000000000", "takeaway", null, null, []]"#)),
        (
            "money by its order",
            text(r#"{"item_code": "A", "name": "A", "quantity_milli": 1000, "unit_price": [8500, "THB"], "amount": [1, "THB"]}"#),
        ),
        ("unknown fields only", text(r#"{"nonsense": true}"#)),
        ("a duplicate key", text(r#"{"reason": "a", "reason": "b", "code": "A", "code": "B", "bill_id": 1, "bill_id": 2}"#)),
        (
            "wrong types",
            text(
                r#"{"store_id": 5, "lines": "many", "code": [], "name": {}, "order_id": false, "bill_id": -1, "reason": 7, "item_code": 1, "quantity_milli": "1", "quantity_delta_milli": "x", "payment_id": null, "amount": "12", "discount": 3}"#,
            ),
        ),
        (
            "negative and huge numbers",
            text(
                r#"{"item_code": "A", "name": "A", "quantity_milli": -1000, "unit_price": -5, "tax_class": "standard", "amount": {"amount": -1, "currency": "THB"}, "quantity_delta_milli": 99999999999999999999999}"#,
            ),
        ),
        ("floats", text(r#"{"item_code": "A", "name": "A", "quantity_milli": 1.5, "unit_price": 1e309, "tax_class": "standard"}"#)),
        ("nested", nested.into_bytes()),
        ("a wall of brackets", arrays.into_bytes()),
        ("too large", format!(r#"{{"name": "{}"}}"#, "x".repeat(3_000_000)).into_bytes()),
        ("invalid utf-8", vec![b'{', b'"', 0xff, 0xfe, b'"', b':', b'1', b'}']),
        ("a byte-order mark", [&[0xef, 0xbb, 0xbf][..], b"{}"].concat()),
        ("a NUL", text(r#"{"reason": "a\u0000b", "name": "a\u0000b", "code": "A"}"#)),
        ("a card number", text(r#"{"reason": "4111 1111 1111 1111", "name": "4111111111111111", "code": "A"}"#)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_at_any_endpoint_is_refused_precisely_and_stores_nothing() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let endpoints = endpoints(&platform, &shop).await;
    platform.settled().await;
    let before = platform.database.head().await.pos;
    for (method, path, token) in &endpoints {
        for (what, body) in garbage() {
            let request = platform.raw(method.clone(), path).bearer_auth(token).header("Idempotency-Key", format!("garbage {what}"));
            let answer = answered(request.header("content-type", "application/json").body(body)).await;
            let status = answer.status.as_u16();
            assert!([400, 413, 422].contains(&status) && is_problem(&answer), "{what} at {method} {path}: {answer:?}");
            let shown = String::from_utf8_lossy(&answer.bytes);
            assert!(!shown.contains("4111"), "a card number came back: {shown}");
        }
        let form = platform.raw(method.clone(), path).bearer_auth(token).header("Idempotency-Key", "form");
        let form = answered(form.header("content-type", "application/x-www-form-urlencoded").body("a=b")).await;
        assert!(is_problem(&form) && form.status.as_u16() == 415, "{path}: {form:?}");
    }
    assert_eq!(platform.database.head().await.pos, before, "nothing was stored");
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_methods_headers_and_call_backs_that_are_wrong_get_problem_documents() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let missing = platform.get(&shop.cashier, "/v1/nothing").await;
    assert!(is_problem(&missing) && missing.status.as_u16() == 404, "{missing:?}");
    let method = platform.send(&shop.cashier, Method::DELETE, "/v1/orders", None, None).await;
    assert!(is_problem(&method) && method.status.as_u16() == 405, "{method:?}");
    assert!(method.header("allow").contains("GET"), "{method:?}");
    for bad in
        ["/v1/orders/x", "/v1/orders/bill_01J00000000000000000000000", "/v1/orders/ord_%00", "/v1/payments/pi_01J00000000000000000000000"]
    {
        let answer = platform.get(&shop.cashier, bad).await;
        assert!(is_problem(&answer) && [400, 404].contains(&answer.status.as_u16()), "{bad}: {answer:?}");
    }
    let without_key = answered(platform.raw(Method::POST, "/v1/orders").bearer_auth(&shop.cashier).json(&order_body(&shop, 1))).await;
    assert_eq!((without_key.status.as_u16(), &without_key.body["code"]), (400, &json!("IdempotencyKeyMissing")));
    let long = "k".repeat(256);
    let long_key = platform.send(&shop.cashier, Method::POST, "/v1/orders", Some(&long), Some(&order_body(&shop, 1))).await;
    assert!(is_problem(&long_key) && long_key.status.as_u16() == 400, "{long_key:?}");
    for (path, body, status) in [
        ("/webhooks/nobody", "{}", 404),
        ("/webhooks/scb", "{}", 401),
        ("/webhooks/scb/wrong-secret-wrong-secret", "{}", 401),
        ("/webhooks/scb/simulated-callback-path", "garbage", 400),
    ] {
        let answer = answered(platform.raw(Method::POST, path).header("content-type", "application/json").body(body)).await;
        assert!(is_problem(&answer) && answer.status.as_u16() == status, "{path}: {answer:?}");
    }
    let stored: Vec<(String, String)> = sqlx::query_as("select state, left(problem, 9) from process.webhook where state <> 'refused'")
        .fetch_all(&platform.database.admin)
        .await
        .unwrap();
    assert_eq!(stored, [("parked".to_owned(), "malformed".to_owned())], "what came by the secret path and cannot be read is kept");
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_must_be_unique_are_taken_once() {
    let platform = TestPlatform::start().await;
    let admin = platform.token(Role::PlatformAdmin, None, None);
    let body = json!({"code": "ONCE", "name": "Once"});
    let answers = futures_util::future::join_all((0..8).map(|_| platform.post(&admin, "/v1/merchants", body.clone()))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status.as_u16() == 201).count(), 1);
    assert!(
        answers
            .iter()
            .filter(|answer| answer.status.as_u16() != 201)
            .all(|answer| answer.status.as_u16() == 409 && answer.body["code"] == "AlreadyTaken")
    );
    let shop = platform.shop().await;
    assert_eq!(platform.post(&shop.admin, "/v1/stores", store_body("SIAM")).await.status.as_u16(), 409);
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_platform_describes_itself() {
    let platform = TestPlatform::start().await;
    let get = |path: &'static str| answered(platform.raw(Method::GET, path));
    assert!(get("/healthz").await.status.is_success());
    let ready = get("/readyz").await;
    assert!(ready.status.is_success() && ready.body["lag"].as_array().is_some_and(|lag| lag.len() >= 6), "{ready:?}");
    let document = get("/openapi.json").await;
    assert_eq!(document.body["openapi"].as_str().map(|version| &version[..3]), Some("3.1"));
    let docs = get("/docs/").await;
    assert!(docs.status.is_success() && String::from_utf8_lossy(&docs.bytes).contains("swagger"), "{:?}", docs.status);
    // Published paths answer as the current version.
    let shop = platform.shop().await;
    for path in ["/orders", "/api/v1/orders", "/v1/payment_intents", "/payment_intents"] {
        assert!(platform.get(&shop.cashier, path).await.status.is_success(), "{path}");
    }
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_lines_discounts_and_voids_of_a_table_end_in_the_right_bill() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let order = platform.post(&shop.cashier, "/v1/orders", order_body(&shop, 100_00)).await.id();
    let line = json!({"item_code": "PAD", "name": "Pad thai", "quantity_milli": 2000, "unit_price": {"amount": 120_00, "currency": "THB"}, "tax_class": "standard"});
    let mut stated = line.clone();
    stated["tax_class"] = json!("stated");
    let mut opened = order_body(&shop, 100_00);
    opened["lines"] = json!([stated]);
    for (path, body) in [(format!("/v1/orders/{order}/lines"), stated), ("/v1/orders".to_owned(), opened)] {
        let refused = platform.post(&shop.cashier, &path, body).await;
        assert_eq!((refused.status.as_u16(), &refused.body["code"]), (422, &json!("TaxClassStated")), "{refused:?}");
    }
    let added = platform.post(&shop.cashier, &format!("/v1/orders/{order}/lines"), line.clone()).await.ok();
    let lines = added.body["lines"].as_array().unwrap();
    let id_of = |line: &Value| line["id"].as_str().unwrap().to_owned();
    let (first, second) = (id_of(&lines[0]), id_of(&lines[1]));
    let patch = platform
        .send(
            &shop.cashier,
            Method::PATCH,
            &format!("/v1/orders/{order}/lines/{second}"),
            None,
            Some(&json!({"quantity_delta_milli": -1000})),
        )
        .await;
    assert!(patch.status.is_success(), "{patch:?}");
    platform.post(&shop.cashier, &format!("/v1/orders/{order}/lines/{first}/void"), json!({"reason": "wrong table"})).await.ok();
    let discount = json!({"discount": {"kind": "percent", "basis_points": 1000}, "reason": "member"});
    platform.send(&shop.manager, Method::PUT, &format!("/v1/orders/{order}/discount"), None, Some(&discount)).await.ok();
    let bill = platform.post(&shop.cashier, "/v1/bills", json!({"order_id": order})).await.ok();
    assert_eq!(bill.body["totals"]["total"], json!({"amount": 108_00, "currency": "THB"}));
    let refused = platform.post(&shop.cashier, &format!("/v1/orders/{order}/lines"), line).await;
    assert_eq!((refused.status.as_u16(), &refused.body["code"]), (409, &json!("OrderNotEditable")));
    let voided = platform.post(&shop.manager, &format!("/v1/bills/{}/void", bill.id()), json!({"reason": "again"})).await.ok();
    let path = format!("/v1/orders/{order}?min_pos={}", voided.header("smartpos-position"));
    let reopened = platform.read_after_write(&shop.cashier, &path).await.0.body;
    assert_eq!(reopened["status"], "open");
    assert_eq!(reopened["totals"]["total"]["amount"], 108_00);
    platform.proves_itself().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_timeline_of_an_order_is_its_stream_as_far_as_its_row_has_come() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let order = platform.post(&shop.cashier, "/v1/orders", order_body(&shop, 10_00)).await.id();
    platform.post(&shop.manager, &format!("/v1/orders/{order}/cancel"), json!({"reason": "left"})).await.ok();
    platform.settled().await;
    let log = platform.database.log().await;
    let stream: Vec<_> = log.iter().filter(|event| format!("ord_{}", event.stream.stream_id) == order).collect();
    let path = format!("/v1/orders/{order}/timeline");
    let told = platform.get(&shop.cashier, &path).await.ok().body;
    let told = told["data"].as_array().unwrap();
    assert_eq!((told.len(), told.len() >= 2), (stream.len(), true));
    for (entry, event) in told.iter().zip(&stream) {
        let payload: Value = serde_json::from_slice(&event.payload).unwrap();
        assert_eq!(
            (&entry["version"], &entry["position"], &entry["type"], &entry["data"], &entry["actor"]),
            (&json!(event.version), &json!(event.pos), &json!(event.event_type), &payload, &json!(event.actor))
        );
    }
    assert_eq!(told.last().unwrap()["data"], json!({"reason": "left"}));
    // The row of a projector that has not come as far yet.
    let sql = "update orders_v3.orders set updated_pos = updated_pos - 1";
    sqlx::query(sql).execute(&platform.database.admin).await.unwrap();
    let behind = platform.get(&shop.cashier, &path).await.ok().body;
    assert_eq!(behind["data"].as_array().unwrap()[..], told[..told.len() - 1]);
    platform.stop().await;
}
