//! HTTP to SCB: the headers of every call, the access token, one bounded exchange at a time.
//!
//! The token is shared by all calls and fetched by one of them while the others wait. Renewed 60 s before it lapses; a 401
//! discards it, fetches once and repeats once. A 401 means that the call was not carried out, so repeating is safe.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use chrono::{DateTime, NaiveDate, Utc};
use domain::provider::{PaymentSeen, QrRequest, RefundRequest};
use reqwest::{Method, RequestBuilder, redirect::Policy};
use serde::Serialize;
use tokio::sync::Mutex;
use ulid::Ulid;

use super::{
    ScbConfig,
    mapping::{self, Failure, TokenRequest},
};
use crate::error::GatewayError;

/// No honest answer is longer: a QR picture is some tens of kilobytes.
const MAX_ANSWER: usize = 1 << 20;
/// A token is renewed this long before it lapses.
const RENEW_EARLY: Duration = Duration::from_mins(1);

pub(super) struct Client {
    http: reqwest::Client,
    base_url: String,
    api_key: String,
    api_secret: String,
    tokens: Mutex<Tokens>,
    /// Microseconds at start plus calls made: unique per request, also across restarts.
    next_request: AtomicU64,
}

#[derive(Default)]
struct Tokens {
    current: Option<Token>,
    /// When the last fetch failed, and how: those who were waiting for it share the failure instead of queueing for
    /// a time-out each.
    failed: Option<(Instant, Failure)>,
}

struct Token {
    value: String,
    renew_at: Instant,
}

/// One call, ready to be sent more than once.
struct Call<'a> {
    method: Method,
    path: &'static str,
    query: &'a [(&'static str, &'a str)],
    body: Option<String>,
    /// Whose call it is, for the bank's request id; zero for reads.
    subject: u64,
}

impl Client {
    pub(super) fn new(config: &ScbConfig, now: DateTime<Utc>) -> Result<Self, GatewayError> {
        let mut builder = reqwest::Client::builder()
            .timeout(config.timeout)
            // Shorter than the whole, so that a dead host is told apart as "not attempted".
            .connect_timeout(config.timeout / 2)
            .redirect(Policy::none());
        if config.base_url.starts_with("http://") {
            // Plain HTTP is a simulator on this machine; a proxy for the outside world cannot reach it.
            builder = builder.no_proxy();
        }
        Ok(Self {
            http: builder.build().map_err(GatewayError::HttpClient)?,
            base_url: config.base_url.trim_end_matches('/').to_owned(),
            api_key: config.api_key.clone(),
            api_secret: config.api_secret.clone(),
            tokens: Mutex::default(),
            next_request: AtomicU64::new(u64::try_from(now.timestamp_micros()).unwrap_or(0)),
        })
    }

    /// The payload text of a QR.
    pub(super) async fn create(&self, config: &ScbConfig, request: &QrRequest) -> Result<String, Failure> {
        let call = Call {
            method: Method::POST,
            path: "/v1/payment/qrcode/create",
            query: &[],
            body: Some(to_json(&mapping::create_body(config, request))?),
            subject: low_bits(request.attempt_id.0),
        };
        mapping::read_qr(&self.call(&call).await?)
    }

    /// The payments of one Bangkok day on a reference; none when the bank knows of none.
    pub(super) async fn inquire(&self, config: &ScbConfig, reference: &str, day: NaiveDate) -> Result<Vec<PaymentSeen>, Failure> {
        let day = day.format("%Y-%m-%d").to_string();
        let call = Call {
            method: Method::GET,
            path: "/v1/payment/billpayment/inquiry",
            query: &[
                ("eventCode", mapping::EVENT_BILL_PAYMENT),
                ("transactionDate", &day),
                ("billerId", &config.biller_id),
                ("reference1", reference),
            ],
            body: None,
            subject: 0,
        };
        match self.call(&call).await {
            Ok(data) => mapping::read_payments(&data, &config.biller_id, reference),
            Err(Failure::NotFound(_)) => Ok(Vec::new()),
            Err(failure) => Err(failure),
        }
    }

    /// Sends a whole payment back.
    pub(super) async fn void(&self, request: &RefundRequest, now: DateTime<Utc>) -> Result<(), Failure> {
        let call = Call {
            method: Method::POST,
            path: "/v1/payment/qrcode/void",
            query: &[],
            body: Some(to_json(&mapping::void_body(request, now))?),
            subject: low_bits(request.refund_id.0),
        };
        self.call(&call).await.map(|_| ())
    }

    /// Sends with a token and reads the envelope; on a refused token refreshes once and repeats once.
    async fn call(&self, call: &Call<'_>) -> Result<String, Failure> {
        let token = self.token().await?;
        match self.send(call, &token).await {
            Err(Failure::Unauthorized(_)) => {
                self.discard(&token).await;
                let token = self.token().await?;
                self.send(call, &token).await
            }
            answer => answer,
        }
    }

    async fn send(&self, call: &Call<'_>, token: &str) -> Result<String, Failure> {
        let mut request = self.request(call.method.clone(), call.path, call.subject).bearer_auth(token).query(call.query);
        if let Some(body) = &call.body {
            request = request.body(body.clone());
        }
        let (http, body) = exchange(request).await?;
        mapping::read_answer(http, &body)
    }

    fn request(&self, method: Method, path: &str, subject: u64) -> RequestBuilder {
        let number = self.next_request.fetch_add(1, Ordering::Relaxed);
        self.http
            .request(method, format!("{}{path}", self.base_url))
            .header("resourceOwnerId", &self.api_key)
            .header("requestUId", format!("{subject:016x}{number:016x}"))
            .header("accept-language", "EN")
            .header("content-type", "application/json")
    }

    /// The current token, or a fresh one. Single flight: the lock is held while fetching.
    async fn token(&self) -> Result<String, Failure> {
        let arrived = Instant::now();
        let mut tokens = self.tokens.lock().await;
        if let Some(token) = tokens.current.as_ref().filter(|t| t.renew_at > Instant::now()) {
            return Ok(token.value.clone());
        }
        if let Some((at, failure)) = &tokens.failed
            && *at > arrived
        {
            return Err(failure.clone());
        }
        match self.fetch_token().await {
            Ok((value, lifetime)) => {
                let renew_at = Instant::now() + lifetime.saturating_sub(RENEW_EARLY);
                *tokens = Tokens { current: Some(Token { value: value.clone(), renew_at }), failed: None };
                Ok(value)
            }
            Err(failure) => {
                // The call that wanted the token was never sent, whatever became of this one.
                let failure = failure.before_sending();
                *tokens = Tokens { current: None, failed: Some((Instant::now(), failure.clone())) };
                Err(failure)
            }
        }
    }

    async fn fetch_token(&self) -> Result<(String, Duration), Failure> {
        let body = TokenRequest { application_key: &self.api_key, application_secret: &self.api_secret };
        let request = self.request(Method::POST, "/v1/oauth/token", 0).body(to_json(&body)?);
        let (http, answer) = exchange(request).await?;
        mapping::read_token(&mapping::read_answer(http, &answer)?)
    }

    /// Forgets a refused token, unless another call has already replaced it.
    async fn discard(&self, refused: &str) {
        let mut tokens = self.tokens.lock().await;
        if tokens.current.as_ref().is_some_and(|t| t.value == refused) {
            tokens.current = None;
        }
    }
}

/// One request and its whole answer, bounded in time and size.
async fn exchange(request: RequestBuilder) -> Result<(u16, Vec<u8>), Failure> {
    let mut response = request.send().await.map_err(|error| {
        if error.is_connect() || error.is_builder() {
            Failure::NotAttempted(format!("no connection: {}", describe(error)))
        } else {
            Failure::Uncertain(describe(error))
        }
    })?;
    let http = response.status().as_u16();
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_ANSWER => body.extend_from_slice(&chunk),
            Ok(Some(_)) => return Err(Failure::Uncertain(format!("HTTP {http}: the answer is too long"))),
            Ok(None) => return Ok((http, body)),
            Err(error) => return Err(Failure::Uncertain(format!("HTTP {http}: answer cut: {}", describe(error)))),
        }
    }
}

/// The error and its causes, without the address: queries name references and billers.
fn describe(error: reqwest::Error) -> String {
    let timed_out = error.is_timeout();
    let error = error.without_url();
    let mut text = if timed_out { "timed out".to_owned() } else { error.to_string() };
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

fn to_json(body: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(body).map_err(|e| Failure::NotAttempted(format!("the request could not be written: {e}")))
}

/// The 64 low bits, all random in a ULID.
fn low_bits(id: Ulid) -> u64 {
    u64::try_from(id.0 & u128::from(u64::MAX)).unwrap_or(0)
}
