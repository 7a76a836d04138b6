//! What every test of a connector plays on: one provider's simulator, a clock that both sides share, and whoever listens to the
//! call-backs.

use std::{
    collections::HashMap,
    ops::Deref,
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
    ids::{AttemptId, Ulid},
    money::Money,
    provider::{
        AttemptKey, AttemptView, CallOutcome, ExchangeLog, PaymentProvider, RefundRequest, RefundStatus, StartRequest, reference_of,
    },
};
use gateway::{Clock, simulator::SimulatorConfig};
use serde_json::Value;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::sync::CancellationToken;

/// How long any one thing may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Of a connector for one exchange: longer than a busy machine stands still.
pub const TIMEOUT_MS: u64 = 20_000;
/// Of the one whose answers are held back.
const HASTY_MS: u64 = 2_000;
/// How long these are held back.
pub const HELD_BACK_MS: u64 = 60_000;

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A call-back as it came in.
#[derive(Debug, Clone)]
pub struct Heard {
    pub path_secret: Option<String>,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// See the module.
pub struct Stage {
    pub base_url: String,
    pub clock: Clock,
    pub stop: CancellationToken,
    http: reqwest::Client,
    micros: Arc<AtomicI64>,
    heard: tokio::sync::Mutex<mpsc::UnboundedReceiver<Heard>>,
}

impl Stage {
    /// `path` is where call-backs go, `start` the time at which it begins; `serve` starts the simulator.
    pub async fn new(path: &str, start: &str, seed: u64, serve: impl FnOnce(TcpListener, SimulatorConfig, CancellationToken)) -> Self {
        let micros = Arc::new(AtomicI64::new(start.parse::<DateTime<Utc>>().unwrap().timestamp_micros()));
        let clock: Clock = {
            let micros = Arc::clone(&micros);
            Arc::new(move || DateTime::from_timestamp_micros(micros.load(Ordering::SeqCst)).unwrap())
        };
        let stop = CancellationToken::new();
        let (webhook_url, heard) = merchant(path, stop.clone()).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        serve(listener, SimulatorConfig { webhook_url, seed, ledger_file: None, clock: Arc::clone(&clock) }, stop.clone());
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { base_url, clock, stop, http, micros, heard: tokio::sync::Mutex::new(heard) }
    }

    pub fn now(&self) -> DateTime<Utc> {
        (self.clock)()
    }

    pub fn advance(&self, by: TimeDelta) {
        self.micros.fetch_add(by.num_microseconds().unwrap(), Ordering::SeqCst);
    }

    /// The key of an attempt that nobody began.
    pub fn key(&self, amount: Money) -> AttemptKey {
        let attempt_id = AttemptId(Ulid::from_parts(1_000, u128::from(NEXT.fetch_add(1, Ordering::SeqCst))));
        AttemptKey { attempt_id, reference: reference_of(attempt_id), provider_id: None, amount, started_at: self.now() }
    }

    /// Pulls a lever of the simulator; its answer and whether it agreed.
    pub async fn lever(&self, path: &str, body: Value) -> (bool, Value) {
        let answer = self.http.post(format!("{}{path}", self.base_url)).json(&body).send().await.unwrap();
        (answer.status().is_success(), answer.json().await.unwrap_or(Value::Null))
    }

    /// What a lever shows.
    pub async fn look(&self, path: &str) -> Value {
        self.http.get(format!("{}{path}", self.base_url)).send().await.unwrap().json().await.unwrap()
    }

    /// The next call-back.
    pub async fn hear(&self) -> Heard {
        let mut heard = self.heard.lock().await;
        tokio::time::timeout(PATIENCE, heard.recv()).await.unwrap().unwrap()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Whoever drives a connector: keeps of each thing when the last try ended that may have taken effect, and what was said.
pub struct Driver {
    pub provider: Arc<dyn PaymentProvider>,
    pub log: ExchangeLog,
    stage: Stage,
    tries: Mutex<HashMap<(&'static str, Ulid), DateTime<Utc>>>,
    hasty: Arc<dyn PaymentProvider>,
    /// Calls whose answers are held back.
    in_haste: Mutex<u32>,
}

impl Deref for Driver {
    type Target = Stage;

    fn deref(&self) -> &Stage {
        &self.stage
    }
}

impl Driver {
    /// `connect` makes a connector that waits for so many milliseconds.
    pub fn new(stage: Stage, mut connect: impl FnMut(&Stage, u64) -> Arc<dyn PaymentProvider>) -> Self {
        let (provider, hasty) = (connect(&stage, TIMEOUT_MS), connect(&stage, HASTY_MS));
        Self { provider, log: ExchangeLog::default(), stage, tries: Mutex::default(), hasty, in_haste: Mutex::default() }
    }

    /// The answers to the next calls are held back: they are made by who does not wait for long.
    pub fn hurry(&self, calls: u32) {
        *self.in_haste.lock().unwrap() = calls;
    }

    /// Who makes the next call.
    pub fn connector(&self) -> &dyn PaymentProvider {
        let mut in_haste = self.in_haste.lock().unwrap();
        match in_haste.checked_sub(1) {
            Some(left) => {
                *in_haste = left;
                self.hasty.as_ref()
            }
            None => self.provider.as_ref(),
        }
    }

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
        let outcome = self.connector().start(&request, &self.log).await;
        self.tried(id, &outcome);
        outcome
    }

    pub async fn refund(&self, request: &RefundRequest) -> CallOutcome<RefundStatus> {
        let id = ("refund", request.refund_id.0);
        let request = RefundRequest { uncertain_since: self.uncertain_since(id), ..request.clone() };
        let outcome = self.connector().refund(&request, &self.log).await;
        self.tried(id, &outcome);
        outcome
    }

    pub async fn look_refund(&self, request: &RefundRequest) -> CallOutcome<RefundStatus> {
        let request = RefundRequest { uncertain_since: self.uncertain_since(("refund", request.refund_id.0)), ..request.clone() };
        self.connector().inquire_refund(&request, &self.log).await
    }

    pub async fn ledger(&self) -> Value {
        self.look("/sim/ledger").await
    }
}

/// A merchant that writes down what it is told.
async fn merchant(path: &str, stop: CancellationToken) -> (String, mpsc::UnboundedReceiver<Heard>) {
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
    let url = format!("http://{}{path}", listener.local_addr().unwrap());
    let router = Router::new().fallback(handler).with_state(sender);
    tokio::spawn(async move { axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await });
    (url, receiver)
}
