//! Card numbers and their codes stand in no table and no log line, wherever somebody puts them: every field of every route that takes
//! a body, keys, addresses, frames of sockets, files of sales, and what providers (or others in their name) call back with.

use std::path::PathBuf;

use api::{
    auth::Role,
    import::{self, ImportOptions},
    simulated_provider::{Simulated, settings},
};
use domain::ids::Ulid;
use futures_util::{SinkExt, StreamExt};
use reqwest::{Method, StatusCode};
use serde_json::{Map, Value, json};
use support::{ScratchDir, TestPlatform, patiently_answered as answered};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use crate::logged::LogWatch;

const NUMBER: &str = "4111111111111111";
const DRESSED: &str = "4111 1111 1111 1111";
const TRACK: &str = "4111111111111111D25121010000000000000F";
const CODE: &str = "cvv-of-the-card-737";

/// Bodies of a schema with one text each, in every place where it has a field.
fn bodies(document: &Value, schema: &Value, text: &str, depth: usize) -> Vec<Value> {
    if depth > 6 {
        return vec![];
    }
    if let Some(name) = schema["$ref"].as_str() {
        let found = document.pointer(name.trim_start_matches('#')).unwrap_or_else(|| panic!("{name}"));
        return bodies(document, found, text, depth + 1);
    }
    for together in ["oneOf", "anyOf", "allOf"] {
        if let Some(all) = schema[together].as_array() {
            return all.iter().flat_map(|one| bodies(document, one, text, depth + 1)).collect();
        }
    }
    if let Some(fields) = schema["properties"].as_object() {
        let each = |(name, field): (&String, &Value)| {
            let inner = bodies(document, field, text, depth + 1);
            inner.into_iter().map(|value| Value::Object(Map::from_iter([(name.clone(), value)]))).collect::<Vec<_>>()
        };
        return fields.iter().flat_map(each).collect();
    }
    match &schema["type"] {
        Value::String(kind) if kind == "array" => {
            bodies(document, &schema["items"], text, depth + 1).into_iter().map(|item| json!([item])).collect()
        }
        Value::String(kind) if kind == "null" => vec![],
        Value::String(kind) if kind == "object" => vec![json!({"anything": text})],
        Value::String(_) | Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => vec![json!(text)],
    }
}

/// Every route with a body: method, address, bodies.
fn routes(document: &Value) -> Vec<(Method, String, Vec<Value>)> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap().iter().filter(|(path, _)| path.starts_with("/v1/")) {
        for (method, operation) in item.as_object().unwrap() {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            if schema.is_null() {
                continue;
            }
            let method: Method = method.to_uppercase().parse().unwrap();
            let id = Ulid::from(7_u128);
            let named = format!("{}_{id}", prefix(path.split('/').nth(2).unwrap()));
            let address = path.replace("{id}", &named).replace("{line_id}", &format!("lin_{id}")).replace("{transaction_id}", "T1");
            let mut all = bodies(document, schema, NUMBER, 0);
            all.extend(bodies(document, schema, DRESSED, 0));
            all.extend([json!({"cvv": CODE}), json!({"card": {"number": NUMBER, "security_code": CODE}}), json!({NUMBER: "x"})]);
            all.push(json!({"x": TRACK}));
            found.push((method, address, all));
        }
    }
    found
}

/// What the ids of a resource begin with.
fn prefix(resource: &str) -> &'static str {
    match resource {
        "orders" => "ord",
        "bills" => "bill",
        "payments" => "pay",
        "payment-intents" => "pi",
        "refunds" => "ref",
        "merchants" => "mer",
        "stores" => "sto",
        "customers" => "cus",
        "api-keys" => "pk",
        "provider-accounts" => "pac",
        "inbound-webhooks" => "whk",
        "webhook-endpoints" => "whe",
        "auth" => "",
        other => panic!("a new resource: {other}"),
    }
}

async fn call_back(platform: &TestPlatform, path: &str, body: String) -> StatusCode {
    answered(platform.raw(Method::POST, path).header("content-type", "application/json").body(body)).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_number_stands_in_no_table_and_no_log() {
    let watch = LogWatch::begin(&[NUMBER, DRESSED, CODE], "a call-back was refused");
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let admin = platform.token(Role::PlatformAdmin, None, None);
    let document: Value = serde_json::to_value(api::openapi::document()).unwrap();
    let mut asked = 0;
    for (method, path, bodies) in routes(&document) {
        assert!(bodies.len() > 3, "{method} {path} has no field");
        for body in bodies {
            let mut refused = false;
            // Whoever may call the route is refused for the number; the others for being who they are.
            for token in [&shop.manager, &shop.admin, &admin, &shop.cashier] {
                let request =
                    platform.raw(method.clone(), &path).bearer_auth(token).header("Idempotency-Key", format!("k-{asked}")).json(&body);
                let answer = answered(request).await;
                assert!(answer.status.is_client_error(), "{method} {path} {body}: {answer:?}");
                let text = String::from_utf8_lossy(&answer.bytes).into_owned();
                assert!(![NUMBER, DRESSED, CODE].iter().any(|secret| text.contains(secret)), "{method} {path} echoes: {text}");
                asked += 1;
                refused = answer.body["code"] == "CardNumberRefused";
                if refused {
                    break;
                }
            }
            assert!(refused || path == "/v1/auth/dev-token", "{method} {path} {body}");
        }
    }
    assert!(asked > 300, "only {asked} requests");
    let keyed = platform.send(&shop.cashier, Method::POST, "/v1/orders", Some(NUMBER), Some(&json!({}))).await;
    assert_eq!(keyed.body["code"], "CardNumberRefused");
    let named = platform.get(&shop.cashier, &format!("/v1/orders?cursor={NUMBER}")).await;
    assert_eq!(named.body["code"], "CardNumberRefused");

    // Call-backs cannot be refused for what a provider writes into them; what is kept holds none of it.
    let secret = settings("http://127.0.0.1:1").webhook_path_secret;
    let told = json!({"transactionId": "T1", "billPaymentRef1": "NOBODY", "payeeProxyId": settings("http://127.0.0.1:1").biller_id,
        "amount": "107.00", "currencyCode": "764", "payerName": format!("card {DRESSED}"), "payerAccountNumber": NUMBER, "cvv": CODE});
    assert_eq!(call_back(&platform, &format!("/webhooks/scb/{}", secret.reveal()), told.to_string()).await, 200);
    assert_eq!(call_back(&platform, "/webhooks/scb/a-wrong-secret", told.to_string()).await, 401);
    for provider in Simulated::ALL {
        let at = platform.provider(&shop, provider).await;
        let path = format!("/webhooks/{}/accounts/{}", provider.name(), at.account);
        for body in
            [told.to_string(), format!("card {DRESSED} {NUMBER} {TRACK}, no JSON"), json!({"data": {"object": {"cvc": CODE}}}).to_string()]
        {
            assert!(call_back(&platform, &path, body).await.is_client_error());
        }
    }
    platform.settled().await;
    watch.heard_nothing();
    let kept: i64 = sqlx::query_scalar("select count(*) from process.webhook").fetch_one(&platform.database.admin).await.unwrap();
    assert!(kept > 10, "the call-backs are kept: {kept}");
    for secret in [NUMBER, DRESSED, CODE] {
        assert_eq!(platform.database.tables_with(secret).await, [""; 0], "{secret}");
    }
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_refuses_the_order_of_a_row_with_a_card_number_and_writes_it_nowhere() {
    let platform = TestPlatform::start().await;
    let scratch = ScratchDir::new("card-rows");
    let (file, rejects) = (scratch.path().join("sales.csv"), scratch.path().join("rejects.csv"));
    let row = |key: &str, card: &str, item: &str| format!("{key},1,2024-03-01 10:00:00,cash,{card},38.7,{item}\n");
    let rows = [
        row("1-00001", "", "Latte"),
        row("1-00002", "", &format!("Latte {DRESSED}")),
        row(NUMBER, "", "Latte"),
        row("1-00004", NUMBER, "Latte"),
    ];
    let header = "sale_id,machine,datetime,cash_type,card,money,coffee_name\n";
    std::fs::write(&file, format!("{header}{}", rows.concat())).unwrap();
    let mapping = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../mappings/coffee_machine.toml");
    let options = ImportOptions { file, mapping, reject_file: Some(rejects.clone()), in_flight: 4, quiet: true };
    let report = import::run(&platform.platform.commands, &options).await.unwrap();
    assert_eq!((report.added, report.rejected.len()), (1, 3), "{:?}", report.rejected);
    for rejected in &report.rejected {
        assert!(rejected.reason.contains("holds what looks like a card number"), "{rejected:?}");
    }
    let told = format!("{report} {:?} {}", report.rejected, std::fs::read_to_string(&rejects).unwrap());
    assert!(![NUMBER, DRESSED].iter().any(|number| told.contains(number)), "{told}");
    platform.settled().await;
    for number in [NUMBER, DRESSED] {
        assert_eq!(platform.database.tables_with(number).await, [""; 0], "{number}");
    }
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_refuses_a_frame_with_a_card_number_and_says_nothing_again_that_it_cannot_read() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let mut request = format!("{}/ws", platform.base.replace("http", "ws")).into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {}", shop.cashier).parse().unwrap());
    let mut socket = tokio_tungstenite::connect_async(request).await.unwrap().0;
    let mut said = async |text: String| {
        socket.send(Message::Text(text.into())).await.unwrap();
        loop {
            if let Message::Text(answer) = socket.next().await.unwrap().unwrap() {
                return serde_json::from_str::<Value>(&answer).unwrap();
            }
        }
    };
    for text in [NUMBER.to_owned(), format!("{{\"action\":\"subscribe\",\"topic\":\"{DRESSED}\"}}"), format!("{{\"{NUMBER}\":1}}")] {
        let refused = said(text).await;
        assert_eq!((&refused["type"], &refused["code"]), (&json!("error"), &json!("CardNumberRefused")), "{refused}");
        assert!(![NUMBER, DRESSED].iter().any(|number| refused.to_string().contains(number)), "{refused}");
    }
    assert_eq!(said(TRACK.to_owned()).await["code"], "CardNumberRefused");
    let secret = "a-word-of-nobodys-business";
    for (text, code) in [
        (secret.to_owned(), "BadRequest"),
        (json!({"action": secret}).to_string(), "BadRequest"),
        (json!({"action": "ping", (secret): 1}).to_string(), "BadRequest"),
        (json!({"action": "subscribe", "topic": secret}).to_string(), "TopicUnknown"),
        (json!({"action": "unsubscribe", "topic": secret}).to_string(), "TopicUnknown"),
    ] {
        let refused = said(text).await;
        assert_eq!((&refused["type"], &refused["code"]), (&json!("error"), &json!(code)), "{refused}");
        assert!(!refused.to_string().contains(secret), "{refused}");
    }
    assert_eq!(said(json!({"action": "ping"}).to_string()).await["type"], "pong", "the session goes on");
    platform.stop().await;
}
