//! Calls to SCB: the headers of every call, the access token, the pace, the pause after too many calls, the envelope.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use chrono::{DateTime, NaiveDate, Utc};
use domain::provider::{AttemptKey, ExchangeLog, PaymentSeen, RefundRequest};
use reqwest::{Method, RequestBuilder};
use serde::Serialize;
use ulid::Ulid;

use super::{
    NAME, ScbConfig,
    mapping::{self, TokenRequest},
};
use crate::{
    Clock,
    error::GatewayError,
    failure::Failure,
    http::{Answer, Http, Recorded},
    pace::Pacer,
    secret::Secret,
    token::TokenCell,
};

/// A call waits so long for its turn at most: with the exchange for a token, and its own, that is within the guard's time for a call.
const LONGEST_TURN: Duration = Duration::from_secs(5);
const TOKEN_PATH: &str = "/v1/oauth/token";

/// Secrets and the payer's person; the QR picture only takes room.
const MASKED: [&str; 10] = [
    "applicationKey",
    "applicationSecret",
    "accessToken",
    "refreshToken",
    "payerName",
    "payerAccountName",
    "payerAccountNumber",
    "payerProxyId",
    "payeeAccountNumber",
    "qrImage",
];

pub(super) struct Client {
    http: Http,
    api_key: Secret,
    api_secret: Secret,
    token: TokenCell,
    pacer: Pacer,
    quota_pause: Duration,
    /// Microseconds at start plus calls made: unique per request, also across restarts.
    next_request: AtomicU64,
}

/// One call, ready to be sent more than once.
struct Call<'a> {
    operation: &'static str,
    method: Method,
    path: &'static str,
    query: &'a [(&'static str, &'a str)],
    body: Option<String>,
    /// Whose call it is, for the bank's request id; zero for reads.
    subject: u64,
}

impl Client {
    pub(super) fn new(config: &ScbConfig, clock: Clock) -> Result<Self, GatewayError> {
        let http = Http::new(&config.base_url, config.timeout(), clock)?;
        let first_request = u64::try_from(http.now().timestamp_micros()).unwrap_or(0);
        Ok(Self {
            http,
            api_key: config.api_key.clone(),
            api_secret: config.api_secret.clone(),
            token: TokenCell::default(),
            pacer: Pacer::new(config.calls_per_second),
            quota_pause: Duration::from_millis(config.quota_pause_ms),
            next_request: AtomicU64::new(first_request),
        })
    }

    /// The payload text of a QR.
    pub(super) async fn create(&self, config: &ScbConfig, key: &AttemptKey, log: &ExchangeLog) -> Result<String, Failure> {
        let call = Call {
            operation: "start",
            method: Method::POST,
            path: "/v1/payment/qrcode/create",
            query: &[],
            body: Some(to_json(&mapping::create_body(config, key))?),
            subject: low_bits(key.attempt_id.0),
        };
        mapping::read_qr(&self.call(&call, log).await?)
    }

    /// The payments of one Bangkok day on a reference; none when the bank knows of none.
    pub(super) async fn inquire(
        &self,
        config: &ScbConfig,
        reference: &str,
        day: NaiveDate,
        log: &ExchangeLog,
    ) -> Result<Vec<PaymentSeen>, Failure> {
        let day = day.format("%Y-%m-%d").to_string();
        let call = Call {
            operation: "inquire",
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
        match self.call(&call, log).await {
            Ok(data) => mapping::read_payments(&data, &config.biller_id, reference),
            Err(Failure::NotFound(_)) => Ok(Vec::new()),
            Err(failure) => Err(failure),
        }
    }

    /// Sends a whole payment back.
    pub(super) async fn void(&self, request: &RefundRequest, now: DateTime<Utc>, log: &ExchangeLog) -> Result<(), Failure> {
        let call = Call {
            operation: "refund",
            method: Method::POST,
            path: "/v1/payment/qrcode/void",
            query: &[],
            body: Some(to_json(&mapping::void_body(request, now))?),
            subject: low_bits(request.refund_id.0),
        };
        self.call(&call, log).await.map(|_| ())
    }

    /// Sends with a token and reads the envelope; on a refused token refreshes once and repeats once.
    async fn call(&self, call: &Call<'_>, log: &ExchangeLog) -> Result<String, Failure> {
        let token = self.token(log).await?;
        match self.send(call, &token, log).await {
            Err(Failure::Unauthorized(_)) => {
                self.token.discard(&token).await;
                let token = self.token(log).await?;
                self.send(call, &token, log).await
            }
            answer => answer,
        }
    }

    async fn send(&self, call: &Call<'_>, token: &str, log: &ExchangeLog) -> Result<String, Failure> {
        let mut request = self.request(call.method.clone(), call.path, call.subject).bearer_auth(token).query(call.query);
        if let Some(body) = &call.body {
            request = request.body(body.clone());
        }
        self.turn(call.path).await?;
        self.read(&self.http.exchange(request, Recorded { operation: call.operation, masked: &MASKED, log }).await?)
    }

    async fn turn(&self, path: &'static str) -> Result<(), Failure> {
        let turn = self.pacer.turn(path, LONGEST_TURN).await;
        if turn.is_err() {
            metrics::counter!("gateway_calls_refused_total", "provider" => NAME, "why" => "paced").increment(1);
        }
        turn
    }

    /// An answered "not attempted" is a quota: hammering on would only lengthen it.
    fn read(&self, answer: &Answer) -> Result<String, Failure> {
        let read = mapping::read_answer(answer.status, &answer.body);
        if matches!(read, Err(Failure::NotAttempted(_))) {
            self.http.pause(self.quota_pause);
        }
        read
    }

    fn request(&self, method: Method, path: &str, subject: u64) -> RequestBuilder {
        let number = self.next_request.fetch_add(1, Ordering::Relaxed);
        self.http
            .request(method, path)
            .header("resourceOwnerId", self.api_key.reveal())
            .header("requestUId", format!("{subject:016x}{number:016x}"))
            .header("accept-language", "EN")
            .header("content-type", "application/json")
    }

    async fn token(&self, log: &ExchangeLog) -> Result<String, Failure> {
        self.token.get(|| self.fetch_token(log)).await
    }

    async fn fetch_token(&self, log: &ExchangeLog) -> Result<(String, Duration), Failure> {
        let body = TokenRequest { application_key: self.api_key.reveal(), application_secret: self.api_secret.reveal() };
        let request = self.request(Method::POST, TOKEN_PATH, 0).body(to_json(&body)?);
        self.turn(TOKEN_PATH).await?;
        mapping::read_token(&self.read(&self.http.exchange(request, Recorded { operation: "token", masked: &MASKED, log }).await?)?)
    }
}

fn to_json(body: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(body).map_err(|e| Failure::NotAttempted(format!("the request could not be written: {e}")))
}

/// The 64 low bits, all random in a ULID.
fn low_bits(id: Ulid) -> u64 {
    u64::try_from(id.0 & u128::from(u64::MAX)).unwrap_or(0)
}
