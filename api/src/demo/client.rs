//! A terminal's view of the platform: the public HTTP API and nothing else. Remembers how long each call took.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use reqwest::{Method, StatusCode};
use serde_json::Value;

/// How long calls took, by name; shared by all terminals of a day.
#[derive(Clone, Default)]
pub struct Latencies(Arc<Mutex<BTreeMap<&'static str, Vec<Duration>>>>);

impl Latencies {
    /// Notes one call.
    pub fn note(&self, call: &'static str, took: Duration) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(call).or_default().push(took);
    }

    /// Count, P50, P95 and P99 of each call.
    pub fn summary(&self) -> Vec<(&'static str, usize, [Duration; 3])> {
        let calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let summary = |(name, times): (&&'static str, &Vec<Duration>)| {
            let mut sorted = times.clone();
            sorted.sort_unstable();
            let at = |percent: usize| {
                sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
            };
            (*name, sorted.len(), [at(50), at(95), at(99)])
        };
        calls.iter().map(summary).collect()
    }
}

/// An authenticated caller.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
    latencies: Latencies,
    keys: Arc<AtomicU64>,
    prefix: String,
}

/// What the platform answered.
#[derive(Debug)]
pub struct Answered {
    /// HTTP status.
    pub status: StatusCode,
    /// Resource or problem document.
    pub body: Value,
}

impl Client {
    /// A caller with a token; `prefix` keeps its idempotency keys apart from those of others.
    pub fn new(http: reqwest::Client, base: &str, token: String, latencies: Latencies, prefix: String) -> Self {
        Self { http, base: base.to_owned(), token, latencies, keys: Arc::default(), prefix }
    }

    /// Sends a request with a fresh idempotency key; 503 is repeated under the same key, as a real terminal would.
    ///
    /// # Errors
    /// No answer after several attempts.
    pub async fn call(&self, name: &'static str, method: Method, path: &str, body: Option<&Value>) -> Result<Answered> {
        let key = format!("{}-{}", self.prefix, self.keys.fetch_add(1, Ordering::Relaxed));
        let started = Instant::now();
        for attempt in 0..20_u32 {
            let mut request = self.http.request(method.clone(), format!("{}{path}", self.base)).bearer_auth(&self.token);
            if method == Method::POST {
                request = request.header("Idempotency-Key", &key);
            }
            if let Some(body) = body {
                request = request.json(body);
            }
            match request.send().await {
                Ok(response) if response.status() != StatusCode::SERVICE_UNAVAILABLE => {
                    let status = response.status();
                    let body = response.json().await.unwrap_or(Value::Null);
                    self.latencies.note(name, started.elapsed());
                    return Ok(Answered { status, body });
                }
                Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(50 * u64::from(attempt + 1))).await,
            }
        }
        bail!("{method} {path} got no answer")
    }

    /// Posts and expects success.
    ///
    /// # Errors
    /// No answer, or a problem document.
    pub async fn post(&self, name: &'static str, path: &str, body: &Value) -> Result<Value> {
        let answered = self.call(name, Method::POST, path, Some(body)).await?;
        if answered.status.is_success() {
            return Ok(answered.body);
        }
        bail!("POST {path} was answered {}: {}", answered.status, answered.body)
    }

    /// Gets and expects success.
    ///
    /// # Errors
    /// No answer, or a problem document.
    pub async fn get(&self, name: &'static str, path: &str) -> Result<Value> {
        let answered = self.call(name, Method::GET, path, None).await?;
        if answered.status.is_success() {
            return Ok(answered.body);
        }
        bail!("GET {path} was answered {}: {}", answered.status, answered.body)
    }
}

/// A text field of an answer.
///
/// # Errors
/// The field is missing.
pub fn text<'a>(body: &'a Value, field: &str) -> Result<&'a str> {
    body.get(field).and_then(Value::as_str).with_context(|| format!("the answer has no '{field}': {body}"))
}
