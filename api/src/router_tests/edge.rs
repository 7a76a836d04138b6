//! The edge with a stub for a provider, over a database that is away.

use std::sync::Arc;

use axum::{
    body::{Body, to_bytes},
    http::HeaderMap,
};
use chrono::{DateTime, Duration as Span, Utc};
use commands::{
    committer,
    database::LastUse,
    handle::CommandHandler,
    personal::{Keyring, MasterKey},
    provider_accounts::ProviderAccounts,
    system::{RandomIds, SystemRandom},
};
use domain::{
    clock::Clock,
    ids::{MerchantId, PspId, StoreId, Ulid},
    provider::{
        AttemptView, BoxFuture, CallOutcome, Capabilities, ExchangeLog, HintSubject, InquiryRequest, PaymentProvider, RawWebhook,
        RefundRequest, RefundStatus, StartRequest, WebhookHint, WebhookRefusal,
    },
};
use gateway::ProviderRegistry;
use projections::ReadModels;
use serde_json::Value;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::*;
use crate::{
    account_providers::AccountProviders,
    auth::{Role, SigningKey, TokenIssuer, TokenRequest, TokenVerifier},
    config::{AccountSettings, Limits},
    gate::Gate,
    limits::Limiter,
    state::{Lag, Parts, Readiness},
};

/// Noon of one day, always.
pub(super) struct Noon;
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

pub(super) struct Edge {
    pub(super) app: Router,
    pub(super) issuer: TokenIssuer,
}

/// The edge over a database that is away: whatever gets past the door ends in 503.
pub(super) fn edge_of(change: impl FnOnce(&mut Parts)) -> (AppState, TokenIssuer) {
    let options = PgConnectOptions::new().host("127.0.0.1").port(1).username("nobody");
    let pool = PgPoolOptions::new().acquire_timeout(Duration::from_millis(20)).connect_lazy_with(options.clone());
    let (committer, _) =
        committer::spawn(commands::event_log::PgAppender::new(options), committer::News::default(), CancellationToken::new());
    let key = SigningKey::generate().unwrap();
    let issuer = TokenIssuer::new(&key).unwrap();
    let keyring = Keyring::new(pool.clone(), MasterKey::new(Zeroizing::new([1; 32])), Arc::new(SystemRandom));
    let mut parts = Parts {
        commands: CommandHandler::new(pool.clone(), committer, Arc::new(Noon), Arc::new(RandomIds)),
        reads: ReadModels::new(pool.clone()),
        keyring: Some(keyring.clone()),
        partners: crate::auth::admit::Partners::new(pool.clone()),
        limiter: Limiter::local(Limits::off()),
        app_pool: pool.clone(),
        call_back_pool: pool.clone(),
        gate: Gate::before(pool.clone(), LastUse::default()),
        call_back_gate: Gate::before(pool.clone(), LastUse::default()),
        tasks: Arc::default(),
        looks: commands::looks::Looks::default(),
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

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

impl Edge {
    pub(super) fn new() -> Self {
        let (state, issuer) = edge_of(|_| {});
        Self { app: router(state), issuer }
    }

    pub(super) fn token(&self, role: Role) -> String {
        self.token_of(role, true)
    }

    /// Of one store, or of all.
    pub(super) fn token_of(&self, role: Role, one_store: bool) -> String {
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

    pub(super) async fn send(&self, request: Request) -> Answer {
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, 10_000_000).await.unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) }
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub(super) async fn post(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let mut request = Request::post(path).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    /// A cashier's command with an idempotency key.
    pub(super) async fn command(&self, path: &str, body: impl Into<Body>) -> Answer {
        let bearer = format!("Bearer {}", self.token(Role::Cashier));
        self.post(path, &[("authorization", &bearer), ("idempotency-key", "k")], body).await
    }
}
