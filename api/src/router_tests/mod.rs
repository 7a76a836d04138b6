//! What the edge lets through and how it refuses.

use axum::{body::Body, routing::get};
use commands::system::RandomIds;
use domain::{
    clock::IdSource,
    ids::{StoreId, Ulid},
};
use serde_json::json;

use super::*;
use crate::auth::Role;

mod edge;
mod from_outside;
mod permissions;

use edge::{Answer, Edge, edge_of};

#[tokio::test]
async fn what_the_router_refuses_is_a_problem_too() {
    let edge = Edge::new();
    let missing = edge.get("/v1/nothing").await;
    assert_eq!((missing.status, missing.body["code"].as_str()), (404, Some("RouteNotFound")));
    assert_eq!(missing.headers["content-type"], "application/problem+json");
    assert_eq!(missing.headers["smartpos-correlation-id"], missing.body["correlation_id"].as_str().unwrap());
    assert_eq!(missing.headers["cache-control"], "no-store");
    assert_eq!(missing.headers["x-content-type-options"], "nosniff");
    let request = Request::builder().method("PUT").uri("/v1/orders").body(Body::empty()).unwrap();
    let wrong = edge.send(request).await;
    assert_eq!((wrong.status, wrong.body["code"].as_str()), (405, Some("MethodNotAllowed")));
    let allowed = wrong.headers["allow"].to_str().unwrap();
    assert!(allowed.contains("GET") && allowed.contains("POST"), "{allowed}");
}

#[tokio::test]
async fn a_correlation_id_goes_through() {
    let edge = Edge::new();
    let id = Ulid::from_bytes([8; 16]).to_string();
    let request = Request::get("/healthz").header("x-correlation-id", &id).body(Body::empty()).unwrap();
    let answer = edge.send(request).await;
    assert_eq!((answer.status, answer.body["status"].as_str()), (200, Some("ok")));
    assert_eq!(answer.headers["smartpos-correlation-id"], id);
}

#[tokio::test]
async fn published_paths_answer_as_the_current_version() {
    let edge = Edge::new();
    for path in
        ["/v1/orders", "/orders", "/api/v1/orders", "/payment_intents", "/v1/payment_intents", "/bills?limit=1", "/reports/daily-sales"]
    {
        assert_eq!(edge.get(path).await.status, 401, "{path}");
    }
    for path in ["/v2/orders", "/api/orders", "/api/v1", "/v1", "/ordersx", "//orders", "/healthz/x"] {
        assert_eq!(edge.get(path).await.status, 404, "{path}");
    }
}

#[test]
fn an_alias_keeps_what_follows_the_name() {
    let canonical = |text: &str| canonical_uri(&text.parse().unwrap()).map(|uri| uri.to_string());
    assert_eq!(canonical("/payment_intents/pi_1/confirm?a=b").as_deref(), Some("/v1/payment-intents/pi_1/confirm?a=b"));
    assert_eq!(canonical("http://host:1/api/v1/orders").as_deref(), Some("http://host:1/v1/orders"));
    assert_eq!(canonical("/webhooks/scb/x"), None);
    assert_eq!(canonical("/"), None);
}

#[tokio::test]
async fn a_command_is_checked_before_anything_is_asked() {
    let edge = Edge::new();
    let code = |answer: &Answer| (answer.status, answer.body["code"].as_str().unwrap().to_owned());
    let bearer = format!("Bearer {}", edge.token(Role::Cashier));
    let bare = edge.post("/v1/orders", &[("authorization", &bearer)], "{}").await;
    assert_eq!(code(&bare), (400, "IdempotencyKeyMissing".into()));
    let stale = edge.post("/v1/orders", &[("authorization", &bearer), ("idempotency-key", "k"), ("if-match", "x")], "{}").await;
    assert_eq!(code(&stale), (400, "ParameterInvalid".into()));
    let field = edge.command("/v1/orders", r#"{"store_id":"sto_1"}"#).await;
    assert_eq!(code(&field), (400, "BodyInvalid".into()));
    assert!(field.body["detail"].as_str().unwrap().starts_with("store_id: "), "{}", field.body);
    let unknown = edge.command("/v1/orders", r#"{"tenant":"mer_1"}"#).await;
    assert_eq!(code(&unknown), (400, "BodyInvalid".into()));
    assert_eq!(code(&edge.command("/v1/orders", " ".repeat(65_537)).await), (413, "BodyTooLarge".into()));
    let streamed = Body::from_stream(futures_util::stream::iter((0..70).map(|_| Ok::<_, std::io::Error>("x".repeat(1024)))));
    assert_eq!(code(&edge.command("/v1/orders", streamed).await), (413, "BodyTooLarge".into()));
    assert_eq!(code(&edge.command("/v1/orders/ord_1/cancel", "{}").await), (400, "ParameterInvalid".into()));
}

#[tokio::test]
async fn a_settlement_list_may_be_long_and_is_csv_of_a_time() {
    let edge = Edge::new();
    let bearer = format!("Bearer {}", edge.token_of(Role::Manager, false));
    let path = routes::settlement_lists::ROUTE.replace("{id}", &format!("pac_{}", Ulid::from_bytes([7; 16])));
    let of_may = format!("{path}?from=2026-05-01T00:00:00%2B07:00&to=2026-06-01T00:00:00%2B07:00");
    let sent = async |path: &str, content_type: &str, body: Body| {
        let request = Request::post(path).header("authorization", &bearer).header("content-type", content_type);
        let answer = edge.send(request.body(body).unwrap()).await;
        (answer.status, answer.body["code"].as_str().unwrap().to_owned())
    };
    let lines = |bytes: usize| Body::from("\n".repeat(bytes));
    let streamed = |kib: usize| Body::from_stream(futures_util::stream::iter((0..kib).map(|_| Ok::<_, std::io::Error>("x".repeat(1024)))));
    // What is taken ends at the database, which is away.
    for taken in [lines(1), lines(4 << 20), streamed(4 << 10)] {
        assert_eq!(sent(&of_may, "text/csv", taken).await, (503, "Unavailable".into()));
    }
    for long in [lines((4 << 20) + 1), streamed((4 << 10) + 1)] {
        assert_eq!(sent(&of_may, "text/csv", long).await, (413, "BodyTooLarge".into()));
    }
    assert_eq!(sent(&of_may, "application/json", lines(1)).await, (415, "MediaTypeUnsupported".into()));
    for time in ["", "?from=2026-05-01&to=2026-06-01", "?from=2026-05-01T00:00:00Z", "?from=2026-05-02T00:00:00Z&to=2026-05-01T00:00:00Z"] {
        assert_eq!(sent(&format!("{path}{time}"), "text/csv", lines(1)).await, (400, "ParameterInvalid".into()), "{time}");
    }
}

#[tokio::test]
async fn while_the_database_is_away_callers_are_told_to_come_back() {
    let edge = Edge::new();
    let store = StoreId(Ulid::from_bytes([3; 16]));
    let answer = edge.command("/v1/orders", json!({"store_id": store}).to_string()).await;
    assert_eq!((answer.status, answer.body["code"].as_str()), (503, Some("Unavailable")));
    assert_eq!(answer.headers["retry-after"], "1");
    assert!(!answer.body.to_string().contains("127.0.0.1"), "{}", answer.body);
}

#[tokio::test]
async fn a_card_number_is_refused_wherever_it_stands() {
    let edge = Edge::new();
    let card = "4111111111111111";
    let answers = [
        edge.get(&format!("/v1/orders?cursor={card}")).await,
        edge.get(&format!("/v1/orders/{card}")).await,
        edge.post("/v1/orders", &[("idempotency-key", card)], "{}").await,
        edge.command("/v1/orders", json!({"store_id": "x", "order_number": "4111-1111 1111-1111"}).to_string()).await,
        edge.command("/v1/payments", json!({"amount": {"amount": 4_111_111_111_111_111_i64, "currency": "THB"}}).to_string()).await,
    ];
    for answer in answers {
        assert_eq!((answer.status, answer.body["code"].as_str()), (422, Some("CardNumberRefused")));
        assert!(!answer.body.to_string().contains("1111"), "{}", answer.body);
    }
}

#[tokio::test]
async fn a_query_is_checked() {
    let edge = Edge::new();
    let bearer = format!("Bearer {}", edge.token(Role::Cashier));
    for (path, code) in [
        ("/v1/orders?limit=0", "ParameterInvalid"),
        ("/v1/orders?limit=x", "ParameterInvalid"),
        ("/v1/orders?sort=name", "ParameterInvalid"),
        ("/v1/orders?status=absent", "ParameterInvalid"),
        ("/v1/orders?cursor=00", "CursorInvalid"),
        ("/v1/orders?business_date_from=2026-13-01", "ParameterInvalid"),
        ("/v1/orders?store_id=ord_1", "ParameterInvalid"),
        ("/v1/orders/ORD_1", "ParameterInvalid"),
        ("/v1/orders?min_pos=x", "ParameterInvalid"),
    ] {
        let answer = edge.send(Request::get(path).header("authorization", &bearer).body(Body::empty()).unwrap()).await;
        assert_eq!((answer.status, answer.body["code"].as_str()), (400, Some(code)), "{path}");
    }
}

#[tokio::test]
async fn a_development_token_needs_the_secret() {
    let edge = Edge::new();
    let body = json!({"subject": "ann", "role": "platform_admin", "ttl_seconds": 60}).to_string();
    let ask = async |secret: &str, body: String| edge.post("/v1/auth/dev-token", &[("smartpos-dev-secret", secret)], body).await;
    assert_eq!(ask("wrong", body.clone()).await.status, 401);
    assert_eq!(edge.post("/v1/auth/dev-token", &[], body.clone()).await.status, 401);
    let made = ask("open sesame", body).await;
    assert_eq!(made.status, 200, "{}", made.body);
    let bearer = format!("Bearer {}", made.body["access_token"].as_str().unwrap());
    let answer = edge.send(Request::get("/v1/merchants").header("authorization", &bearer).body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, 503);
    for bad in
        [json!({"subject": "ann", "role": "cashier", "ttl_seconds": 60}), json!({"subject": "a", "role": "auditor", "ttl_seconds": 86_401})]
    {
        assert_eq!(ask("open sesame", bad.to_string()).await.status, 422, "{bad}");
    }
    let (state, issuer) = edge_of(|parts| parts.dev_secret = None);
    let closed = Edge { app: router(state), issuer };
    assert_eq!(closed.post("/v1/auth/dev-token", &[("smartpos-dev-secret", "")], "{}").await.status, 404);
}

#[tokio::test]
async fn readiness_shows_what_is_behind() {
    let edge = Edge::new();
    let answer = edge.get("/readyz").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.body, json!({"ready": false, "database": true, "lag": [{"projection": "orders", "positions": 3}]}));
    assert_eq!(edge.get("/metrics").await.status, 404);
}

#[tokio::test]
async fn a_panic_is_a_problem_that_tells_nothing() {
    async fn boom() -> Response {
        panic!("4111111111111111 at the heart of it")
    }
    let (state, issuer) = edge_of(|_| {});
    let edge = Edge { app: edge(Router::new().route("/boom", get(boom)), state), issuer };
    let answer = edge.get("/boom").await;
    assert_eq!((answer.status, answer.body["code"].as_str()), (500, Some("Internal")));
    assert!(!answer.body.to_string().contains("heart"));
    assert!(answer.headers.contains_key("smartpos-correlation-id"));
}

#[tokio::test]
async fn the_document_is_served_and_rendered() {
    let edge = Edge::new();
    let document = edge.get("/openapi.json").await;
    assert_eq!((document.status, document.body["openapi"].as_str()), (200, Some("3.1.0")));
    assert_eq!(document.body["paths"].as_object().unwrap().len(), crate::openapi::document().paths.paths.len());
    assert_eq!(edge.get("/docs/").await.status, 200);
}

#[test]
fn ids_of_requests_are_never_equal() {
    assert_ne!(RandomIds.next(), RandomIds.next());
}
