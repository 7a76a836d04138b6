//! What comes from outside without a token of ours: call-backs and payers.

use chrono::Duration as Span;
use domain::{
    clock::Clock,
    ids::{MerchantId, PaymentIntentId, Ulid},
};

use super::{
    edge::{Answer, Edge, Noon, edge_of},
    *,
};
use crate::{auth::payment_token::payment_token, config::Limits, limits::Limiter};

#[tokio::test]
async fn a_call_back_is_acknowledged_only_when_it_was_stored() {
    let (state, issuer) = edge_of(|_| {});
    for app in [router(state.clone()), gateway_router(state.clone())] {
        let edge = Edge { app, issuer: issuer.clone() };
        let code = |answer: Answer| (answer.status, answer.body["code"].as_str().unwrap_or_default().to_owned());
        assert_eq!(code(edge.post("/webhooks/other/s3cret", &[], "{}").await), (404, "NotFound".into()));
        assert_eq!(code(edge.post("/webhooks/stub/wrong", &[], "{}").await), (401, "WebhookRefused".into()));
        assert_eq!(code(edge.post("/webhooks/stub", &[], "{}").await), (401, "WebhookRefused".into()));
        assert_eq!(code(edge.post("/webhooks/stub/s3cret", &[], "no").await), (503, "Unavailable".into()), "proven, and not kept");
        assert_eq!(code(edge.post("/webhooks/stub/s3cret", &[], "x".repeat(65_537)).await), (413, "BodyTooLarge".into()));
        assert_eq!(code(edge.post("/webhooks/stub/s3cret", &[], r#"{"t":"T1"}"#).await), (503, "Unavailable".into()));
    }
    let gateway = Edge { app: gateway_router(state), issuer };
    assert_eq!(gateway.get("/v1/orders").await.status, 404);
    assert_eq!(gateway.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn call_backs_are_limited_before_anything_is_kept() {
    let limits = Limits {
        call_backs_per_platform_account_per_minute: 2,
        forgeries_per_account_per_minute: 2,
        call_back_bytes: 100,
        ..Limits::off()
    };
    let (state, issuer) = edge_of(|parts| parts.limiter = Limiter::local(limits));
    let edge = Edge { app: gateway_router(state), issuer };
    let code = |answer: &Answer| (answer.status, answer.body["code"].as_str().unwrap_or_default().to_owned());
    let large = edge.post("/webhooks/stub/s3cret", &[], "x".repeat(101)).await;
    assert_eq!(code(&large), (413, "BodyTooLarge".into()));
    for _ in 0..2 {
        assert_eq!(edge.post("/webhooks/stub/wrong", &[], "{}").await.status, 401);
    }
    let flood = edge.post("/webhooks/stub/wrong", &[], "{}").await;
    assert_eq!(code(&flood), (429, "RateLimited".into()));
    assert!(flood.headers.contains_key("retry-after"));
    // Who floods a door with forgeries does not keep out the provider; the database is away, so what gets in ends in 503.
    for expected in [503, 503, 429] {
        assert_eq!(edge.post("/webhooks/stub/s3cret", &[], r#"{"t":"T1"}"#).await.status, expected);
    }
}

#[tokio::test]
async fn the_payers_of_one_merchant_do_not_use_up_the_gateway() {
    let limits = Limits { per_payment_token_per_minute: 10, payers_per_merchant_per_minute: 2, ..Limits::off() };
    let (state, issuer) = edge_of(|parts| parts.limiter = Limiter::local(limits));
    let keyring = state.keyring().unwrap();
    let edge = Edge { app: router(state), issuer };
    let ask = async |intent: u8, merchant: u8| {
        let id = |n: u8| Ulid::from_bytes([n; 16]);
        let (intent, merchant) = (PaymentIntentId(id(intent)), MerchantId(id(merchant)));
        let token = payment_token(&keyring, merchant, intent, Noon.now() + Span::minutes(5));
        edge.get(&format!("/v1/payment-intents/{intent}?payment_token={token}")).await
    };
    for (intent, merchant, expected) in [(11, 1, 503), (12, 1, 503), (13, 1, 429), (14, 2, 503)] {
        let answer = ask(intent, merchant).await;
        assert_eq!(answer.status, expected, "{intent} of {merchant}: {}", answer.body);
    }
}
