use std::sync::Arc;

use axum::{
    body::{Body, to_bytes},
    http::{HeaderMap, Method},
    routing::get,
};
use chrono::{DateTime, Duration as Span, Utc};
use commands::{
    committer,
    handle::CommandHandler,
    personal::{Keyring, MasterKey},
    system::{RandomIds, SystemRandom},
};
use domain::{
    clock::{Clock, IdSource},
    ids::{MerchantId, PaymentIntentId, PspId, StoreId, Ulid},
    provider::{
        AttemptView, BoxFuture, CallOutcome, Capabilities, ExchangeLog, HintSubject, InquiryRequest, PaymentProvider, RawWebhook,
        RefundRequest, RefundStatus, StartRequest, WebhookHint, WebhookRefusal,
    },
};
use gateway::ProviderRegistry;
use projections::ReadModels;
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::*;
use commands::provider_accounts::ProviderAccounts;

use crate::{account_providers::AccountProviders, config::AccountSettings};
use crate::{
    auth::{Permission, Role, SigningKey, TokenIssuer, TokenRequest, TokenVerifier, payment_token::payment_token},
    config::Limits,
    limits::Limiter,
    state::{Lag, Parts, Readiness},
};

struct Noon;
impl Clock for Noon {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }
}

/// A provider whose call-backs are `{"t": …}` under the secret path `s3cret`.
struct Stub;
impl PaymentProvider for Stub {
    fn name(&self) -> &'static str {
        "stub"
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            methods: &[],
            manual_capture: false,
            partial_capture: false,
            incremental_authorization: false,
            cancel: false,
            refund: false,
            partial_refund: false,
            signed_webhooks: false,
        }
    }
    fn start<'a>(&'a self, _: &'a StartRequest, _: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>> {
        Box::pin(async { CallOutcome::NotAttempted(String::new()) })
    }
    fn inquire<'a>(&'a self, _: &'a InquiryRequest, _: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>> {
        Box::pin(async { CallOutcome::NotAttempted(String::new()) })
    }
    fn refund<'a>(&'a self, _: &'a RefundRequest, _: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<RefundStatus>> {
        Box::pin(async { CallOutcome::NotAttempted(String::new()) })
    }
    fn inquire_refund<'a>(&'a self, _: &'a RefundRequest, _: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<RefundStatus>> {
        Box::pin(async { CallOutcome::NotAttempted(String::new()) })
    }
    fn read_webhook(&self, raw: &RawWebhook<'_>) -> Result<WebhookHint, WebhookRefusal> {
        if raw.path_secret != Some("s3cret") {
            return Err(WebhookRefusal::NotAuthentic);
        }
        let body: Value = serde_json::from_slice(raw.body).map_err(|_| WebhookRefusal::Malformed("stub", "not JSON".into()))?;
        let transaction_id = body["t"].as_str().unwrap_or_default().to_owned();
        Ok(WebhookHint {
            delivery_id: transaction_id.clone(),
            subject: HintSubject::Reference("R".into()),
            transaction_id: Some(transaction_id),
            acknowledgement: "{}".into(),
        })
    }
}

struct Edge {
    app: Router,
    issuer: TokenIssuer,
}

/// The edge over a database that is away: whatever gets past the door ends in 503.
fn edge_of(change: impl FnOnce(&mut Parts)) -> (AppState, TokenIssuer) {
    let options = PgConnectOptions::new().host("127.0.0.1").port(1).username("nobody");
    let pool = PgPoolOptions::new().acquire_timeout(Duration::from_millis(20)).connect_lazy_with(options.clone());
    let (committer, _) =
        committer::spawn(commands::event_log::PgAppender::new(options), Arc::new(watch::channel(0).0), CancellationToken::new());
    let key = SigningKey::generate().unwrap();
    let issuer = TokenIssuer::new(&key).unwrap();
    let keyring = Keyring::new(pool.clone(), MasterKey::new(Zeroizing::new([1; 32])), Arc::new(SystemRandom));
    let mut parts = Parts {
        commands: CommandHandler::new(pool.clone(), committer, Arc::new(Noon), Arc::new(RandomIds)),
        reads: ReadModels::new(pool.clone()),
        keyring: Some(keyring.clone()),
        partners: crate::auth::admit::Partners::new(pool.clone()),
        limiter: crate::limits::Limiter::local(crate::config::Limits::off()),
        webhook_pool: pool.clone(),
        tasks: Arc::default(),
        log_pool: pool.clone(),
        providers: AccountProviders::new(
            Some(ProviderAccounts::new(pool.clone(), keyring.clone())),
            &ProviderRegistry::new().with(Arc::new(Stub)).unwrap(),
            Arc::new(|| Noon.now()),
            AccountSettings::default(),
        ),
        webhook_addresses: gateway::outbound::AddressPolicy::Public,
        default_provider: "stub".into(),
        verifier: TokenVerifier::new(&key).unwrap(),
        issuer: Some(issuer.clone()),
        dev_secret: Some("open sesame".into()),
        clock: Arc::new(Noon),
        ids: Arc::new(RandomIds),
        metrics: None,
        readiness: Arc::new(|| {
            let lag = vec![Lag { projection: "orders".into(), positions: 3 }];
            Box::pin(async move { Readiness { ready: false, database: true, lag } })
        }),
    };
    change(&mut parts);
    (parts.into(), issuer)
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Edge {
    fn new() -> Self {
        let (state, issuer) = edge_of(|_| {});
        Self { app: router(state), issuer }
    }

    fn token(&self, role: Role) -> String {
        self.token_of(role, true)
    }

    /// Of one store, or of all.
    fn token_of(&self, role: Role, one_store: bool) -> String {
        let id = |n: u8| Ulid::from_bytes([n; 16]);
        let merchant = role.needs_merchant().then(|| MerchantId(id(2)));
        let request = TokenRequest {
            subject: "ann".into(),
            role,
            psp: PspId(id(1)),
            merchant,
            store: merchant.filter(|_| one_store).map(|_| StoreId(id(3))),
            device: None,
            lifetime: Span::minutes(5),
        };
        self.issuer.issue(request, id(4), Noon.now()).unwrap()
    }

    async fn send(&self, request: Request) -> Answer {
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, 10_000_000).await.unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let mut request = Request::post(path).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    /// A cashier's command with an idempotency key.
    async fn command(&self, path: &str, body: impl Into<Body>) -> Answer {
        let bearer = format!("Bearer {}", self.token(Role::Cashier));
        self.post(path, &[("authorization", &bearer), ("idempotency-key", "k")], body).await
    }
}

/// The path with an identifier of the right kind in each place.
fn filled(path: &str) -> String {
    let prefix = match path.split('/').nth(2) {
        Some("orders") => "ord",
        Some("bills") => "bill",
        Some("payments") => "pay",
        Some("payment-intents") => "pi",
        Some("refunds") => "ref",
        Some("merchants") => "mer",
        Some("stores") => "sto",
        Some("customers") => "cus",
        Some("api-keys") => "pk",
        Some("provider-accounts") => "pac",
        Some("providers" | "idempotency-keys") => "",
        Some("inbound-webhooks") => "whk",
        Some("webhook-endpoints") => "whe",
        Some("events") => "evt",
        other => panic!("{other:?}"),
    };
    let id = Ulid::from_bytes([7; 16]);
    path.replace("{id}", &format!("{prefix}_{id}")).replace("{line_id}", &format!("lin_{id}")).replace("{key}", "a-key")
}

/// Method, path and permission of every documented operation on a tenant's data.
fn guarded() -> Vec<(Method, String, Permission)> {
    let mut document = crate::openapi::document();
    let mut found = Vec::new();
    for (path, item) in &mut document.paths.paths {
        let path = path.clone();
        for (method, operation) in crate::openapi::operations_mut(item) {
            let word = serde_json::to_value(&*operation).unwrap()["x-permission"].as_str().map(str::to_owned);
            let open = !path.starts_with("/v1/") || path == "/v1/auth/dev-token";
            assert_eq!(word.is_none(), open, "{method} {path} declares no permission");
            let Some(word) = word else { continue };
            let permission = Permission::ALL.iter().find(|permission| permission.as_str() == word).unwrap();
            let path = if path.contains('{') { filled(&path) } else { path.clone() };
            found.push((method.to_uppercase().parse().unwrap(), path, *permission));
        }
    }
    found
}

#[tokio::test]
async fn every_route_lets_in_exactly_the_roles_that_hold_its_permission() {
    let edge = Edge::new();
    let routes = guarded();
    assert!(routes.len() >= 38, "{}", routes.len());
    for (method, path, permission) in routes {
        let request = |token: Option<&str>| {
            let request = Request::builder().method(method.clone()).uri(&path);
            let request = match token {
                Some(token) => request.header("authorization", format!("Bearer {token}")),
                None => request,
            };
            request.body(Body::empty()).unwrap()
        };
        for token in [None, Some(""), Some("a.b.c")] {
            assert_eq!(edge.send(request(token)).await.status, 401, "{method} {path} with token {token:?}");
        }
        for role in Role::ALL {
            let whole = permission.is_of_the_whole_merchant();
            if whole && role.needs_merchant() {
                let answer = edge.send(request(Some(&edge.token_of(role, true)))).await;
                assert_eq!(answer.status, 403, "{method} {path} as {role:?} of one store: {}", answer.body);
            }
            let answer = edge.send(request(Some(&edge.token_of(role, !whole)))).await;
            let forbidden = answer.status == 403;
            assert_eq!(forbidden, !role.allows(permission), "{method} {path} as {role:?}: {} {}", answer.status, answer.body);
            // The catalog of providers asks no database.
            let expected = [400, 403, 415, if path == "/v1/providers" { 200 } else { 503 }];
            assert!(expected.contains(&answer.status), "{method} {path} as {role:?}: {} {}", answer.status, answer.body);
        }
    }
}

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
async fn a_call_back_is_acknowledged_only_when_it_was_stored() {
    let (state, issuer) = edge_of(|_| {});
    for app in [router(state.clone()), gateway_router(state.clone())] {
        let edge = Edge { app, issuer: issuer.clone() };
        let code = |answer: Answer| (answer.status, answer.body["code"].as_str().unwrap_or_default().to_owned());
        assert_eq!(code(edge.post("/webhooks/other/s3cret", &[], "{}").await), (404, "NotFound".into()));
        assert_eq!(code(edge.post("/webhooks/stub/wrong", &[], "{}").await), (401, "WebhookRefused".into()));
        assert_eq!(code(edge.post("/webhooks/stub", &[], "{}").await), (401, "WebhookRefused".into()));
        assert_eq!(code(edge.post("/webhooks/stub/s3cret", &[], "no").await), (400, "WebhookMalformed".into()));
        assert_eq!(code(edge.post("/webhooks/stub/s3cret", &[], "x".repeat(65_537)).await), (413, "BodyTooLarge".into()));
        assert_eq!(code(edge.post("/webhooks/stub/s3cret", &[], r#"{"t":"T1"}"#).await), (503, "Unavailable".into()));
    }
    let gateway = Edge { app: gateway_router(state), issuer };
    assert_eq!(gateway.get("/v1/orders").await.status, 404);
    assert_eq!(gateway.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn call_backs_are_limited_before_anything_is_kept() {
    let limits = Limits { call_backs_per_account_per_minute: 2, call_back_bytes: 100, ..Limits::off() };
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
