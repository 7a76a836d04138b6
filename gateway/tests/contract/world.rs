//! One provider's simulator, a connector to it, their common clock, and whoever listens to the call-backs.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{Request, State},
};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    ids::{AttemptId, RefundId, Ulid},
    money::Money,
    provider::{
        AttemptKey, AttemptView, CallOutcome, CancelRequest, Exchange, ExchangeLog, InquiryRequest, Method, PaymentProvider, RefundRequest,
        RefundStatus, StartRequest, reference_of,
    },
};
use gateway::{Clock, catalog, simulator::SimulatorConfig};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::sync::CancellationToken;

/// How long any one thing may take.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// 2026-03-01 19:00 in Bangkok.
const EVENING: &str = "2026-03-01T12:00:00Z";

static NEXT: AtomicU64 = AtomicU64::new(1);

/// What a behaviour wants of its world.
#[derive(Clone, Copy)]
pub struct Setup {
    /// Of the connector, for one exchange.
    pub timeout_ms: u64,
    /// Of the simulator.
    pub seed: u64,
}

impl Default for Setup {
    fn default() -> Self {
        Self { timeout_ms: 5_000, seed: 7 }
    }
}

/// Makes a provider's world.
pub type Launch = fn(Setup) -> Pin<Box<dyn Future<Output = World> + Send>>;

/// What differs between providers beyond their capabilities.
#[derive(Clone)]
pub struct Traits {
    /// What a payable attempt is paid with.
    pub method: Method,
    /// A card that can be held, where the provider takes cards.
    pub card: Option<Method>,
    /// Answers carry a status word.
    pub has_status: bool,
    /// It has access tokens that can lapse.
    pub has_tokens: bool,
    /// The simulator takes a second payment on one attempt.
    pub pays_twice: bool,
    /// How long an unclear creation may stay invisible, and so is not repeated.
    pub settling: TimeDelta,
    /// Texts that nobody may see.
    pub secrets: &'static [&'static str],
}

/// A call-back as it came in.
#[derive(Debug, Clone)]
pub struct Heard {
    pub path_secret: Option<String>,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// See the module.
pub struct World {
    pub provider: Arc<dyn PaymentProvider>,
    pub traits: Traits,
    pub stop: CancellationToken,
    base_url: String,
    http: reqwest::Client,
    micros: Arc<AtomicI64>,
    heard: tokio::sync::Mutex<mpsc::UnboundedReceiver<Heard>>,
    log: ExchangeLog,
    tries: Mutex<HashMap<(&'static str, Ulid), DateTime<Utc>>>,
}

/// What a simulator is started with: where it listens, its settings, its end.
pub struct Stage {
    pub listener: TcpListener,
    pub config: SimulatorConfig,
    pub stop: CancellationToken,
}

impl World {
    /// `serve` starts the simulator on the stage; `settings` are the connector's, without its `base_url`.
    pub async fn new(
        name: &'static str,
        path_secret: &str,
        mut settings: Value,
        traits: Traits,
        seed: u64,
        serve: impl FnOnce(Stage),
    ) -> Self {
        let micros = Arc::new(AtomicI64::new(EVENING.parse::<DateTime<Utc>>().unwrap().timestamp_micros()));
        let clock: Clock = {
            let micros = Arc::clone(&micros);
            Arc::new(move || DateTime::from_timestamp_micros(micros.load(Ordering::SeqCst)).unwrap())
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let (webhook_url, heard) = merchant(name, path_secret, stop.clone()).await;
        let config = SimulatorConfig { webhook_url, seed, ledger_file: None, clock: Arc::clone(&clock) };
        serve(Stage { listener, config, stop: stop.clone() });
        settings["base_url"] = json!(base_url);
        let provider = catalog::connect(name, &settings, clock).unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self {
            provider,
            traits,
            stop,
            base_url,
            http,
            micros,
            heard: tokio::sync::Mutex::new(heard),
            log: ExchangeLog::default(),
            tries: Mutex::default(),
        }
    }

    pub fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.micros.load(Ordering::SeqCst)).unwrap()
    }

    pub fn advance_minutes(&self, minutes: i64) {
        self.advance_seconds(60 * minutes);
    }

    pub fn advance_seconds(&self, seconds: i64) {
        self.micros.fetch_add(seconds * 1_000_000, Ordering::SeqCst);
    }

    /// Time passes until the provider's books must show whatever was made.
    pub fn settle(&self) {
        self.micros.fetch_add(self.traits.settling.num_microseconds().unwrap(), Ordering::SeqCst);
    }

    pub fn request(&self, satang: i64) -> StartRequest {
        let attempt_id = AttemptId(Ulid(u128::from(NEXT.fetch_add(1, Ordering::SeqCst))));
        let reference = reference_of(attempt_id);
        let key = AttemptKey { attempt_id, reference, provider_id: None, amount: Money::thb(satang), started_at: self.now() };
        let expires_at = self.now() + TimeDelta::minutes(10);
        let return_url = Some("https://shop.example/back".to_owned());
        StartRequest { key, method: self.traits.method.clone(), manual_capture: false, expires_at, return_url, uncertain_since: None }
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

    /// An attempt that waits for its payer, with what the provider calls it.
    pub async fn started(&self, satang: i64) -> StartRequest {
        let mut request = self.request(satang);
        let outcome = self.start(&request).await;
        let CallOutcome::Done(view) = outcome else { panic!("not started: {outcome:?}") };
        request.key.provider_id = view.provider_id;
        request
    }

    pub async fn inquire(&self, request: &StartRequest) -> CallOutcome<AttemptView> {
        let inquiry = InquiryRequest { key: request.key.clone(), method: request.method.kind(), now: self.now() };
        self.provider.inquire(&inquiry, &self.log).await
    }

    pub async fn view(&self, request: &StartRequest) -> AttemptView {
        let outcome = self.inquire(request).await;
        let CallOutcome::Done(view) = outcome else { panic!("the inquiry ended in {outcome:?}") };
        view
    }

    pub async fn cancel(&self, request: &StartRequest) -> CallOutcome<AttemptView> {
        let cancel = CancelRequest {
            key: request.key.clone(),
            method: request.method.kind(),
            idempotency_key: format!("cancel-{}", request.key.reference),
            now: self.now(),
        };
        self.provider.cancel(&cancel, &self.log).await
    }

    /// A paid attempt and the request that sends all of it back.
    pub async fn paid(&self, satang: i64) -> (StartRequest, RefundRequest) {
        let request = self.started(satang).await;
        self.pay(&request, json!({})).await;
        let view = self.view(&request).await;
        let payment = view.payments.first().unwrap();
        let refund = RefundRequest {
            refund_id: RefundId(request.key.attempt_id.0),
            reference: request.key.reference.clone(),
            provider_id: request.key.provider_id.clone(),
            transaction_id: payment.transaction_id.clone(),
            amount: request.key.amount,
            captured: request.key.amount,
            paid_at: payment.paid_at,
            uncertain_since: None,
            now: self.now(),
        };
        (request, refund)
    }

    pub async fn refund(&self, refund: &RefundRequest) -> CallOutcome<RefundStatus> {
        let id = ("refund", refund.refund_id.0);
        let refund = RefundRequest { uncertain_since: self.uncertain_since(id), ..refund.clone() };
        let outcome = self.provider.refund(&refund, &self.log).await;
        self.tried(id, &outcome);
        outcome
    }

    pub async fn look_refund(&self, refund: &RefundRequest) -> CallOutcome<RefundStatus> {
        let refund = RefundRequest { uncertain_since: self.uncertain_since(("refund", refund.refund_id.0)), ..refund.clone() };
        self.provider.inquire_refund(&refund, &self.log).await
    }

    pub fn exchanges(&self) -> Vec<Exchange> {
        self.log.take()
    }

    /// Pulls a lever of the simulator; its answer and whether it agreed.
    pub async fn lever(&self, path: &str, body: Value) -> (bool, Value) {
        let answer = self.http.post(format!("{}{path}", self.base_url)).json(&body).send().await.unwrap();
        (answer.status().is_success(), answer.json().await.unwrap_or(Value::Null))
    }

    /// The payer pays; `more` fields of the lever on top. Nobody is told unless they say so.
    pub async fn pay(&self, request: &StartRequest, more: Value) -> Value {
        let (agreed, payment) = self.try_pay(request, more).await;
        assert!(agreed, "{payment}");
        payment
    }

    pub async fn try_pay(&self, request: &StartRequest, more: Value) -> (bool, Value) {
        let mut body = json!({"reference": request.key.reference, "webhook": "never"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.lever("/sim/pay", body).await
    }

    pub async fn fault(&self, operation: &str, fault: &str, times: u32) {
        let rule = json!({"operation": operation, "fault": fault, "times": times, "delay_ms": 1_000});
        assert!(self.lever("/sim/faults", rule).await.0);
    }

    /// Strokes that no call has used up.
    pub async fn faults_left(&self) -> usize {
        let answer = self.http.get(format!("{}/sim/faults", self.base_url)).send().await.unwrap();
        answer.json::<Vec<Value>>().await.unwrap().len()
    }

    pub async fn ledger(&self) -> Value {
        let answer = self.http.get(format!("{}/sim/ledger", self.base_url)).send().await.unwrap();
        answer.json().await.unwrap()
    }

    /// How many attempts on this reference the provider's own books have.
    pub async fn attempts_on(&self, request: &StartRequest) -> usize {
        let ledger = self.ledger().await;
        ledger["attempts"].as_array().unwrap().iter().filter(|a| a["reference"] == request.key.reference.as_str()).count()
    }

    /// Minor units that the provider has sent back.
    pub async fn sent_back(&self) -> i64 {
        self.ledger().await["totals"]["reversed"].as_i64().unwrap()
    }

    /// The next call-back.
    pub async fn hear(&self) -> Heard {
        let mut heard = self.heard.lock().await;
        tokio::time::timeout(PATIENCE, heard.recv()).await.unwrap().unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A merchant that writes down what it is told.
async fn merchant(name: &str, path_secret: &str, stop: CancellationToken) -> (String, mpsc::UnboundedReceiver<Heard>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let handler = |State(sender): State<mpsc::UnboundedSender<Heard>>, request: Request| async move {
        let (parts, body) = request.into_parts();
        let body: Bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let header = |(name, value): (&axum::http::HeaderName, &axum::http::HeaderValue)| {
            (name.as_str().to_owned(), value.to_str().unwrap_or_default().to_owned())
        };
        let headers = parts.headers.iter().map(header).collect();
        let path_secret = parts.uri.path().split('/').nth(3).map(str::to_owned);
        // Whoever tested before has stopped listening; that is no reason to fail here.
        let _ = sender.send(Heard { path_secret, headers, body: body.to_vec() });
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let suffix = if path_secret.is_empty() { String::new() } else { format!("/{path_secret}") };
    let url = format!("http://{}/webhooks/{name}{suffix}", listener.local_addr().unwrap());
    let router = Router::new().fallback(handler).with_state(sender);
    tokio::spawn(async move { axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await });
    (url, receiver)
}
