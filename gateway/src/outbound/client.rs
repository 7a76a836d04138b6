//! Sends one delivery and reports what came of it. Never retries: that is the schedule's business.

use std::time::{Duration, Instant};

use reqwest::{Client, header, redirect};

use super::{
    address::{AddressPolicy, CheckedResolver, check_url},
    signature::{Secret, body_hash},
};
use crate::{GatewayError, http::KEPT_IDLE};

/// Longest time for one attempt.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Longest time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What is kept of an answer, bytes.
const KEPT: usize = 1_024;

/// Something to deliver.
#[derive(Debug)]
pub struct Delivery<'a> {
    /// Where to.
    pub url: &'a str,
    /// `webhook-id`: the same at every attempt.
    pub id: &'a str,
    /// `webhook-timestamp`: of this attempt, unix seconds.
    pub timestamp: i64,
    /// `smartpos-sequence`: place among the events of the thing.
    pub sequence: i64,
    /// The body, byte for byte.
    pub body: &'a [u8],
    /// Each signs.
    pub secrets: &'a [Secret],
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// HTTP status; nothing when no answer came.
    pub status: Option<u16>,
    /// `Retry-After`, seconds.
    pub retry_after: Option<u32>,
    /// How long it took, milliseconds.
    pub elapsed_ms: u32,
    /// Why no answer came.
    pub error: Option<String>,
    /// The first KiB of the answer's body, as text.
    pub answer: String,
}

/// Sends deliveries. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Deliverer {
    client: Client,
    policy: AddressPolicy,
}

impl Deliverer {
    /// A sender under this policy.
    ///
    /// # Errors
    /// The TLS library cannot be set up.
    pub fn new(policy: AddressPolicy) -> Result<Self, GatewayError> {
        let client = Client::builder()
            .dns_resolver(std::sync::Arc::new(CheckedResolver(policy)))
            .redirect(redirect::Policy::none())
            // A proxy would resolve names by itself.
            .no_proxy()
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(8)
            .pool_idle_timeout(KEPT_IDLE)
            .user_agent("SmartPOS-Webhooks/1")
            .build()
            .map_err(GatewayError::HttpClient)?;
        Ok(Self { client, policy })
    }

    /// Makes one attempt.
    pub async fn send(&self, delivery: &Delivery<'_>) -> Sent {
        let started = Instant::now();
        let mut sent = match self.attempt(delivery).await {
            Ok(sent) => sent,
            Err(error) => Sent { status: None, retry_after: None, elapsed_ms: 0, error: Some(error), answer: String::new() },
        };
        sent.elapsed_ms = u32::try_from(started.elapsed().as_millis()).unwrap_or(u32::MAX);
        sent
    }

    async fn attempt(&self, delivery: &Delivery<'_>) -> Result<Sent, String> {
        // Addresses written out are not resolved, so they are checked here.
        let url = check_url(delivery.url, self.policy).map_err(|error| error.to_string())?;
        let signatures: Vec<String> =
            delivery.secrets.iter().map(|secret| secret.sign(delivery.id, delivery.timestamp, delivery.body)).collect();
        let request = self
            .client
            .post(url)
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", delivery.id)
            .header("webhook-timestamp", delivery.timestamp.to_string())
            .header("webhook-signature", signatures.join(" "))
            .header("smartpos-sequence", delivery.sequence.to_string())
            .header("smartpos-body-sha256", body_hash(delivery.body))
            .body(delivery.body.to_vec());
        let mut response = request.send().await.map_err(|error| in_words(&error))?;
        let status = response.status().as_u16();
        let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let mut kept = Vec::new();
        // Status and headers are the answer; a body that breaks off or never ends changes nothing.
        while kept.len() < KEPT {
            let Ok(Some(chunk)) = response.chunk().await else { break };
            kept.extend_from_slice(&chunk);
        }
        kept.truncate(KEPT);
        // PostgreSQL's text cannot hold U+0000.
        let answer = String::from_utf8_lossy(&kept).replace('\0', "\u{FFFD}");
        Ok(Sent { status: Some(status), retry_after, elapsed_ms: 0, error: None, answer })
    }
}

/// The cause without the URL, which may hold a secret of the merchant's.
fn in_words(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if std::ptr::eq(cause, error as &dyn std::error::Error) { "the request could not be sent".to_owned() } else { cause.to_string() }
}
