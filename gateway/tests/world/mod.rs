//! A card provider's simulator, a connector to it, their common clock, and an endpoint that hears the call-backs.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::post};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    ids::{AttemptId, RefundId, Ulid},
    money::Money,
    provider::{
        AttemptKey, AttemptStatus, AttemptView, CallOutcome, CancelRequest, CaptureRequest, ExchangeLog, InquiryRequest, Method,
        MethodKind, PaymentProvider, RawWebhook, RefundRequest, RefundStatus, StartRequest, WebhookHint, WebhookRefusal, reference_of,
    },
};
use gateway::{Clock, simulator::SimulatorConfig};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(10);
static NEXT: AtomicU64 = AtomicU64::new(1);

pub struct World {
    pub provider: Box<dyn PaymentProvider>,
    pub log: ExchangeLog,
    pub base_url: String,
    pub clock: Clock,
    http: reqwest::Client,
    micros: Arc<AtomicI64>,
    tries: Mutex<HashMap<(&'static str, Ulid), DateTime<Utc>>>,
    events: mpsc::UnboundedReceiver<(HeaderMap, Bytes)>,
    _stop: tokio_util::sync::DropGuard,
}

impl World {
    /// `serve` starts the simulator, `connect` makes the connector to it.
    pub async fn new<F: Future<Output = std::io::Result<()>> + Send + 'static>(
        serve: impl FnOnce(TcpListener, SimulatorConfig, CancellationToken) -> F,
        connect: impl FnOnce(&str, Clock) -> Box<dyn PaymentProvider>,
    ) -> Self {
        let start: DateTime<Utc> = "2026-03-01T16:50:00Z".parse().unwrap();
        let micros = Arc::new(AtomicI64::new(start.timestamp_micros()));
        let clock: Clock = {
            let micros = Arc::clone(&micros);
            Arc::new(move || DateTime::from_timestamp_micros(micros.load(Ordering::SeqCst)).unwrap())
        };
        let stop = CancellationToken::new();
        let (heard, events) = mpsc::unbounded_channel();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let webhook_url = format!("http://{}/hook", listener.local_addr().unwrap());
        let hear = |State(heard): State<mpsc::UnboundedSender<(HeaderMap, Bytes)>>, headers: HeaderMap, body: Bytes| async move {
            heard.send((headers, body)).ok();
        };
        let router = Router::new().route("/hook", post(hear)).with_state(heard);
        let stopped = stop.clone();
        tokio::spawn(async move { axum::serve(listener, router).with_graceful_shutdown(stopped.cancelled_owned()).await });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let config = SimulatorConfig { webhook_url, seed: 7, ledger_file: None, clock: Arc::clone(&clock) };
        tokio::spawn(serve(listener, config, stop.clone()));
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let provider = connect(&base_url, Arc::clone(&clock));
        Self {
            provider,
            log: ExchangeLog::default(),
            base_url,
            clock,
            http,
            micros,
            tries: Mutex::default(),
            events,
            _stop: stop.drop_guard(),
        }
    }

    pub fn now(&self) -> DateTime<Utc> {
        (self.clock)()
    }

    pub fn advance(&self, by: TimeDelta) {
        self.micros.fetch_add(by.num_microseconds().unwrap(), Ordering::SeqCst);
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        let answer = self.http.post(format!("{}{path}", self.base_url)).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
        answer.json().await.unwrap()
    }

    pub async fn fault(&self, operation: &str, fault: &str) {
        self.post("/sim/faults", json!({"operation": operation, "fault": fault, "times": 1, "delay_ms": 3_000})).await;
    }

    /// A call-back about a payment that never was, sealed like this.
    pub async fn lie(&self, reference: &str, seal: &str) {
        let lie = json!({"reference": reference, "webhook": {"copies": 1, "badly_sealed": 1, "seal": seal}});
        let answer = self.http.post(format!("{}/sim/lie", self.base_url)).json(&lie).send().await.unwrap();
        assert_eq!(answer.status(), 202);
    }

    pub async fn ledger(&self) -> Value {
        self.http.get(format!("{}/sim/ledger", self.base_url)).send().await.unwrap().json().await.unwrap()
    }

    pub fn request(&self, method: Method, amount: Money) -> StartRequest {
        let attempt_id = AttemptId(Ulid::from_parts(1_000, u128::from(NEXT.fetch_add(1, Ordering::SeqCst))));
        StartRequest {
            key: AttemptKey { attempt_id, reference: reference_of(attempt_id), provider_id: None, amount, started_at: self.now() },
            method,
            manual_capture: false,
            expires_at: self.now() + TimeDelta::minutes(15),
            return_url: Some("https://shop.example/back".to_owned()),
            uncertain_since: None,
        }
    }

    pub fn card(&self, token: &str) -> StartRequest {
        self.request(Method::Card { token: token.to_owned() }, Money::thb(100_00))
    }

    /// When the last try of this thing ended that may have taken effect, as whoever drives a connector keeps it.
    fn uncertain_since(&self, id: (&'static str, Ulid)) -> Option<DateTime<Utc>> {
        self.tries.lock().unwrap().get(&id).copied()
    }

    fn tried<T>(&self, id: (&'static str, Ulid), outcome: &CallOutcome<T>) {
        if matches!(outcome, CallOutcome::Done(_) | CallOutcome::Unknown(_)) {
            self.tries.lock().unwrap().insert(id, self.now());
        }
    }

    pub async fn start(&self, request: &StartRequest) -> CallOutcome<AttemptView> {
        let id = ("attempt", request.key.attempt_id.0);
        let request = StartRequest { uncertain_since: self.uncertain_since(id), ..request.clone() };
        let outcome = self.provider.start(&request, &self.log).await;
        self.tried(id, &outcome);
        outcome
    }

    pub async fn started(&self, request: &StartRequest) -> AttemptView {
        done(self.start(request).await)
    }

    pub async fn inquire(&self, key: &AttemptKey) -> AttemptView {
        let request = InquiryRequest { key: key.clone(), method: MethodKind::Card, now: self.now() };
        done(self.provider.inquire(&request, &self.log).await)
    }

    pub async fn capture(&self, key: &AttemptKey, satang: i64) -> CallOutcome<AttemptView> {
        let request =
            CaptureRequest { key: key.clone(), idempotency_key: format!("c-{satang}-{}", key.attempt_id.0), amount: Money::thb(satang) };
        self.provider.capture(&request, &self.log).await
    }

    pub async fn cancel(&self, key: &AttemptKey) -> CallOutcome<AttemptView> {
        let request = CancelRequest {
            key: key.clone(),
            method: MethodKind::Card,
            idempotency_key: format!("x-{}", key.attempt_id.0),
            now: self.now(),
        };
        self.provider.cancel(&request, &self.log).await
    }

    pub fn refund_of(&self, view: &AttemptView, key: &AttemptKey, satang: i64) -> RefundRequest {
        let payment = &view.payments[0];
        RefundRequest {
            refund_id: RefundId(Ulid::from_parts(2_000, u128::from(NEXT.fetch_add(1, Ordering::SeqCst)))),
            reference: key.reference.clone(),
            provider_id: view.provider_id.clone(),
            transaction_id: payment.transaction_id.clone(),
            amount: Money::thb(satang),
            captured: payment.amount,
            paid_at: payment.paid_at,
            uncertain_since: None,
            now: self.now(),
        }
    }

    pub async fn refund(&self, request: &RefundRequest) -> CallOutcome<RefundStatus> {
        let id = ("refund", request.refund_id.0);
        let request = RefundRequest { uncertain_since: self.uncertain_since(id), ..request.clone() };
        let outcome = self.provider.refund(&request, &self.log).await;
        self.tried(id, &outcome);
        outcome
    }

    pub async fn inquire_refund(&self, request: &RefundRequest) -> RefundStatus {
        let request = RefundRequest { uncertain_since: self.uncertain_since(("refund", request.refund_id.0)), ..request.clone() };
        done(self.provider.inquire_refund(&request, &self.log).await)
    }

    /// The next call-back, read by the connector.
    pub async fn heard(&mut self) -> Result<WebhookHint, WebhookRefusal> {
        let (headers, body) = tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("no call-back came").unwrap();
        let headers: Vec<(String, String)> =
            headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.to_str().unwrap().to_owned())).collect();
        self.provider.read_webhook(&RawWebhook { path_secret: None, headers: &headers, body: &body, received_at: self.now() })
    }

    /// No secret and no token in what was recorded.
    pub fn exchanges_hold_none_of(&self, secrets: &[&str]) {
        let shown = format!("{:?} {:?}", self.log.take(), self.provider.capabilities());
        assert!(shown.contains("request_line"), "nothing was recorded");
        for secret in secrets {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
}

pub fn done<T: std::fmt::Debug>(outcome: CallOutcome<T>) -> T {
    match outcome {
        CallOutcome::Done(value) => value,
        other @ (CallOutcome::Declined(_) | CallOutcome::NotAttempted(_) | CallOutcome::Unknown(_)) => panic!("not done: {other:?}"),
    }
}

pub fn declined<T: std::fmt::Debug>(outcome: CallOutcome<T>) -> String {
    match outcome {
        CallOutcome::Declined(decline) => decline.code,
        other @ (CallOutcome::Done(_) | CallOutcome::NotAttempted(_) | CallOutcome::Unknown(_)) => panic!("not declined: {other:?}"),
    }
}

/// The key once an answer told the provider's name.
pub fn named(request: &StartRequest, view: &AttemptView) -> AttemptKey {
    AttemptKey { provider_id: view.provider_id.clone(), ..request.key.clone() }
}

pub fn failure_of(view: &AttemptView) -> &str {
    match &view.status {
        AttemptStatus::Failed(decline) => &decline.code,
        other @ (AttemptStatus::NotFound
        | AttemptStatus::ActionRequired(_)
        | AttemptStatus::Pending
        | AttemptStatus::Authorized { .. }
        | AttemptStatus::Paid
        | AttemptStatus::Canceled
        | AttemptStatus::Expired
        | AttemptStatus::Unrecognized(_)) => panic!("not failed: {other:?}"),
    }
}
