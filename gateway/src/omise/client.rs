//! Calls to Omise: Basic authentication, a fixed version, JSON bodies, objects read whole.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use domain::provider::{AttemptKey, ExchangeLog, RefundRequest};
use reqwest::Method;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    OmiseConfig,
    mapping::{self, Charge, Created, List, Refund, is_id},
};
use crate::{
    Clock,
    error::GatewayError,
    failure::{Failure, decline},
    http::{Http, Recorded},
    secret::Secret,
};

/// The version that this connector was written against.
pub(super) const VERSION: &str = "2019-05-29";
/// Tokens, one-time addresses, and whatever tells of the payer.
const MASKED: [&str; 8] = ["card", "customer", "email", "name", "phone_number", "ip", "authorize_uri", "download_uri"];
/// Of a list, a hundred a page.
const PAGE: usize = 100;
const MAX_PAGES: usize = 20;
/// Omise's clock may be behind ours.
const SKEW: TimeDelta = TimeDelta::minutes(10);

pub(super) struct Client {
    http: Http,
    secret_key: Secret,
}

impl Client {
    pub(super) fn new(config: &OmiseConfig, clock: Clock) -> Result<Self, GatewayError> {
        Ok(Self { http: Http::new(&config.base_url, config.timeout(), clock)?, secret_key: config.secret_key.clone() })
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        self.http.now()
    }

    /// A code can be asked for as often as one likes: nothing is owed on a source.
    pub(super) async fn create_source(&self, key: &AttemptKey, log: &ExchangeLog) -> Result<String, Failure> {
        let body = json!({"type": "promptpay", "amount": key.amount.amount, "currency": key.amount.currency.code()});
        let source: Created =
            self.call("source", Method::POST, "/sources", Some((&body, None)), log).await.map_err(|failure| match failure {
                Failure::Uncertain(reason) => Failure::NotAttempted(format!("no source: {reason}")),
                Failure::NotAttempted(_)
                | Failure::Unauthorized(_)
                | Failure::NotFound(_)
                | Failure::Conflict(_)
                | Failure::Declined(_) => failure,
            })?;
        checked(&source.id).map(str::to_owned)
    }

    /// Charges; `body` names card or source. The key is sent, and not relied upon.
    pub(super) async fn create(&self, key: &AttemptKey, body: &Value, log: &ExchangeLog) -> Result<Charge, Failure> {
        let attempt = key.attempt_id.0.to_string();
        self.call("start", Method::POST, "/charges", Some((body, Some(&attempt))), log).await
    }

    pub(super) async fn get(&self, id: &str, log: &ExchangeLog) -> Result<Charge, Failure> {
        self.call("inquire", Method::GET, &format!("/charges/{}", checked(id)?), None, log).await
    }

    /// The attempt's charge: by its id, or looked for among what was made since the attempt started.
    pub(super) async fn find(&self, key: &AttemptKey, log: &ExchangeLog) -> Result<Option<Charge>, Failure> {
        if let Some(id) = &key.provider_id {
            return self.get(id, log).await.map(Some);
        }
        let ours = key.attempt_id.0.to_string();
        let from = (key.started_at - SKEW).to_rfc3339_opts(SecondsFormat::Secs, true);
        let path = format!("/charges?order=chronological&from={from}");
        self.search(&path, "inquire", |charge: &Charge| charge.metadata.get("attempt").and_then(Value::as_str) == Some(&ours), log).await
    }

    /// Our refund among those of its charge.
    pub(super) async fn find_refund(&self, request: &RefundRequest, log: &ExchangeLog) -> Result<Option<Refund>, Failure> {
        let ours = request.refund_id.0.to_string();
        let path = format!("/charges/{}/refunds?order=chronological", checked(&request.transaction_id)?);
        let is_ours = |refund: &Refund| refund.metadata.get("refund").and_then(Value::as_str) == Some(&ours);
        self.search(&path, "inquire_refund", is_ours, log).await
    }

    pub(super) async fn refund(&self, request: &RefundRequest, log: &ExchangeLog) -> Result<Refund, Failure> {
        let ours = request.refund_id.0.to_string();
        let body = json!({"amount": request.amount.amount, "metadata": {"refund": ours, "reference": request.reference}});
        let path = format!("/charges/{}/refunds", checked(&request.transaction_id)?);
        self.call("refund", Method::POST, &path, Some((&body, Some(&ours))), log).await
    }

    /// `capture`, `reverse` or `expire`.
    pub(super) async fn act(
        &self,
        operation: &'static str,
        (id, verb): (&str, &str),
        (body, key): (&Value, &str),
        log: &ExchangeLog,
    ) -> Result<Charge, Failure> {
        self.call(operation, Method::POST, &format!("/charges/{}/{verb}", checked(id)?), Some((body, Some(key))), log).await
    }

    async fn search<T: DeserializeOwned>(
        &self,
        path: &str,
        operation: &'static str,
        wanted: impl Fn(&T) -> bool,
        log: &ExchangeLog,
    ) -> Result<Option<T>, Failure> {
        for page in 0..MAX_PAGES {
            let path = format!("{path}&limit={PAGE}&offset={}", page * PAGE);
            let List { data, total } = match self.call::<List<T>>(operation, Method::GET, &path, None, log).await {
                Err(Failure::NotFound(_)) => return Ok(None),
                answer => answer?,
            };
            let is_last = data.len() < PAGE || total.is_some_and(|total| total <= (page + 1) * PAGE);
            if let Some(found) = data.into_iter().find(|item| wanted(item)) {
                return Ok(Some(found));
            }
            if is_last {
                return Ok(None);
            }
        }
        Err(Failure::Uncertain("more than 2,000 entries since then: it was not found among them".to_owned()))
    }

    async fn call<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        method: Method,
        path: &str,
        body: Option<(&Value, Option<&str>)>,
        log: &ExchangeLog,
    ) -> Result<T, Failure> {
        let mut request = self.http.request(method, path).basic_auth(self.secret_key.reveal(), Some("")).header("omise-version", VERSION);
        if let Some((body, key)) = body {
            request = request.json(body);
            if let Some(key) = key {
                request = request.header("idempotency-key", key);
            }
        }
        let answer = self.http.exchange(request, Recorded { operation, masked: &MASKED, log }).await?;
        if !(200..300).contains(&answer.status) {
            return Err(mapping::read_failure(answer.status, &answer.body));
        }
        // The parser's own words could quote a payer's data.
        serde_json::from_slice(&answer.body)
            .map_err(|e| Failure::Uncertain(format!("a success that is unreadable at line {} column {}", e.line(), e.column())))
    }
}

/// An id that may stand in a path.
fn checked(id: &str) -> Result<&str, Failure> {
    if is_id(id) { Ok(id) } else { Err(Failure::Declined(decline("invalid_request", "the provider's id is malformed"))) }
}
