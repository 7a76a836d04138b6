//! One HTTP exchange with a provider: bounded in time and size, and recorded with its secrets masked.
//!
//! Headers are never recorded, so neither is `Authorization`. Fields of JSON and form bodies and of the query are masked by
//! name at any depth; an answer that is not JSON could quote anything, so only its length is kept.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, Instant},
};

use crate::{Clock, GatewayError, failure::Failure};
use chrono::{DateTime, Utc};
use domain::provider::{Exchange, ExchangeLog, PAUSED, masking};
use reqwest::{
    Client, Method, RequestBuilder,
    header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER},
    redirect::Policy,
};

/// No honest answer is longer: a QR picture is some tens of kilobytes.
const MAX_ANSWER: usize = 1 << 20;
/// Longer pauses are not believed.
const MAX_PAUSE_MS: i64 = 3_600_000;
/// How long a connection is kept for the next request: less than the five seconds after which the quickest servers close one (Node's
/// `keepAliveTimeout`, Apache's `KeepAliveTimeout`). A request on a connection that is being closed ends in the dark, and what should take
/// a moment then waits for a look at the books.
pub(crate) const KEPT_IDLE: Duration = Duration::from_secs(4);
/// Masked whoever the provider is.
const ALWAYS_MASKED: [&str; 4] = ["authorization", "access_token", "client_secret", "password"];

/// A client for one provider's base address.
pub struct Http {
    client: Client,
    base_url: String,
    clock: Clock,
    /// Unix milliseconds before which nothing is sent.
    paused_until: AtomicI64,
}

/// How a request is named and recorded.
#[derive(Debug, Clone, Copy)]
pub struct Recorded<'a> {
    /// `start`, `inquire`, `token` …
    pub operation: &'static str,
    /// Names of fields (JSON at any depth, form, query) whose values nobody may see; compared without case.
    pub masked: &'a [&'a str],
    /// Where it is written.
    pub log: &'a ExchangeLog,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// At most 1 MiB.
    pub body: Vec<u8>,
}

impl Http {
    /// For `base_url`, without a trailing slash; `timeout` is for one whole exchange, connecting included.
    ///
    /// # Errors
    /// `HttpClient`.
    pub fn new(base_url: &str, timeout: Duration, clock: Clock) -> Result<Self, GatewayError> {
        let mut builder = Client::builder()
            .timeout(timeout)
            // Shorter than the whole, so that a dead host is told apart as "not attempted".
            .connect_timeout(timeout / 2)
            .pool_idle_timeout(KEPT_IDLE)
            .redirect(Policy::none());
        if base_url.starts_with("http://") {
            // Plain HTTP is a simulator on this machine; a proxy for the outside world cannot reach it.
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(GatewayError::HttpClient)?;
        Ok(Self { client, base_url: base_url.trim_end_matches('/').to_owned(), clock, paused_until: AtomicI64::new(i64::MIN) })
    }

    /// A request to be filled in; `path` begins with a slash.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base_url))
    }

    /// Now, by the injected clock.
    pub fn now(&self) -> DateTime<Utc> {
        (self.clock)()
    }

    /// Sends nothing for so long, an hour at most: the provider said that there were too many calls.
    pub fn pause(&self, pause: Duration) {
        let pause = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX).min(MAX_PAUSE_MS);
        self.paused_until.fetch_max(self.now().timestamp_millis().saturating_add(pause), Ordering::Relaxed);
    }

    /// Sends a request and reads the whole answer. A 429 or 503 with `Retry-After` in seconds makes a pause.
    ///
    /// # Errors
    /// `NotAttempted` during a pause and when no connection came to be, `Uncertain` when anything else went wrong: the provider may have acted.
    pub async fn exchange(&self, request: RequestBuilder, recorded: Recorded<'_>) -> Result<Answer, Failure> {
        if self.now().timestamp_millis() < self.paused_until.load(Ordering::Relaxed) {
            return Err(Failure::NotAttempted(PAUSED.to_owned()));
        }
        let request = request.build().map_err(|e| Failure::NotAttempted(format!("the request could not be written: {}", describe(e))))?;
        let (request_line, request_body) = written(&request, recorded.masked);
        let (sent_at, started) = (self.now(), Instant::now());
        let mut status = None;
        let answer = self.send(request, &mut status).await;
        let response_body = match &answer {
            Ok(body) => masking::json(body, |name| is_masked(name, recorded.masked)),
            Err(Failure::NotAttempted(reason) | Failure::Uncertain(reason)) => reason.clone(),
            Err(_) => String::new(),
        };
        recorded.log.record(Exchange {
            operation: recorded.operation,
            request_line,
            request_body,
            status,
            response_body,
            sent_at,
            took_ms: i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX),
        });
        answer.map(|body| Answer { status: status.unwrap_or(0), body })
    }

    async fn send(&self, request: reqwest::Request, status: &mut Option<u16>) -> Result<Vec<u8>, Failure> {
        let mut response = self.client.execute(request).await.map_err(|error| {
            if error.is_connect() || error.is_builder() {
                Failure::NotAttempted(format!("no connection: {}", describe(error)))
            } else {
                Failure::Uncertain(describe(error))
            }
        })?;
        let http = response.status().as_u16();
        *status = Some(http);
        if let (429 | 503, Some(pause)) = (http, retry_after(response.headers())) {
            self.pause(pause);
        }
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_ANSWER => body.extend_from_slice(&chunk),
                Ok(Some(_)) => return Err(Failure::Uncertain(format!("HTTP {http}: the answer is too long"))),
                Ok(None) => return Ok(body),
                Err(error) => return Err(Failure::Uncertain(format!("HTTP {http}: answer cut: {}", describe(error)))),
            }
        }
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
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

/// Request line and body as they go out, masked.
fn written(request: &reqwest::Request, masked: &[&str]) -> (String, String) {
    let url = request.url();
    let mut line = format!("{} {}", request.method(), url.path());
    if let Some(query) = url.query() {
        line.push('?');
        line.push_str(&masking::form(query, |name| is_masked(name, masked)));
    }
    let body = request.body().and_then(reqwest::Body::as_bytes).unwrap_or_default();
    let is_form = request.headers().get(CONTENT_TYPE).is_some_and(|t| t.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
    let hides = |name: &str| is_masked(name, masked);
    let body = if is_form { masking::form(&String::from_utf8_lossy(body), hides) } else { masking::json(body, hides) };
    (line, body)
}

fn is_masked(name: &str, masked: &[&str]) -> bool {
    ALWAYS_MASKED.iter().chain(masked).any(|hidden| hidden.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::AtomicUsize};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// A server that closes no connection by itself; how often somebody connected.
    async fn patient() -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (base, connected) = (format!("http://{}", listener.local_addr().unwrap()), Arc::new(AtomicUsize::new(0)));
        let count = connected.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    let mut heard = [0; 4096];
                    // A request without a body comes in one piece.
                    while matches!(stream.read(&mut heard).await, Ok(1..)) {
                        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
                    }
                });
            }
        });
        (base, connected)
    }

    #[tokio::test]
    async fn a_connection_that_a_provider_may_be_closing_is_not_used_again() {
        let (base, connected) = patient().await;
        let http = Http::new(&base, Duration::from_secs(10), Arc::new(|| DateTime::UNIX_EPOCH)).unwrap();
        let log = ExchangeLog::default();
        for (after, connections) in [(Duration::ZERO, 1), (Duration::from_millis(100), 1), (KEPT_IDLE + Duration::from_millis(100), 2)] {
            tokio::time::sleep(after).await;
            let recorded = Recorded { operation: "inquire", masked: &[], log: &log };
            let answer = http.exchange(http.request(Method::GET, "/"), recorded).await.unwrap();
            assert_eq!((answer.status, connected.load(Ordering::Relaxed)), (200, connections), "after {after:?}");
        }
    }
}
