//! Calls to KBank: the common fields, the access token, the pause after too many calls.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use chrono::{DateTime, Utc};
use domain::provider::{AttemptKey, AttemptView, Decline, ExchangeLog, PaymentSeen};
use reqwest::{Method, RequestBuilder};
use serde::Serialize;

use super::{
    KbankConfig,
    mapping::{self, AboutBody, Common, uid_of},
};
use crate::{
    Clock,
    bangkok::bangkok_text,
    error::GatewayError,
    failure::Failure,
    http::{Http, Recorded},
    token::TokenCell,
};

const MASKED: [&str; 6] = ["partnerSecret", "client_id", "cardNo", "loyaltyId", "accountName", "developer.email"];

const INQUIRY: &str = "/v1/qrpayment/v4/inquiry";
/// Payments beyond the first that are looked at in one go.
const MAX_FURTHER: usize = 8;

pub(super) struct Client {
    http: Http,
    config: KbankConfig,
    token: TokenCell,
    /// Microseconds at start plus calls made: unique per request, also across restarts.
    next_request: AtomicU64,
}

impl Client {
    pub(super) fn new(config: KbankConfig, clock: Clock) -> Result<Self, GatewayError> {
        let http = Http::new(&config.base_url, config.timeout(), clock)?;
        let first_request = u64::try_from(http.now().timestamp_micros()).unwrap_or(0);
        Ok(Self { http, config, token: TokenCell::default(), next_request: AtomicU64::new(first_request) })
    }

    pub(super) const fn config(&self) -> &KbankConfig {
        &self.config
    }

    /// The payload text of a QR.
    pub(super) async fn request(&self, key: &AttemptKey, log: &ExchangeLog) -> Result<String, Failure> {
        let uid = uid_of(&key.reference);
        let body = to_json(&mapping::request_body(self.common(uid), key))?;
        mapping::read_qr(&self.call("start", "/v1/qrpayment/request", &body, log).await?, uid)
    }

    /// What the books show of a QR; `NotFound` when they do not know it.
    pub(super) async fn inquire(&self, key: &AttemptKey, now: DateTime<Utc>, log: &ExchangeLog) -> Result<AttemptView, Failure> {
        let answer = self.call("inquire", INQUIRY, &self.about(&key.reference, None)?, log).await?;
        let (mut view, further) = mapping::read_view(&answer, key, now)?;
        if further.is_empty() {
            return Ok(view);
        }
        // With several payments the answer's words are the code's; each payment has its own.
        let first = view.payments.iter().map(|seen| seen.transaction_id.clone());
        for number in first.chain(further.into_iter().take(MAX_FURTHER)).collect::<Vec<_>>() {
            match self.payment(key, &number, now, log).await {
                Ok(payment) => {
                    view.payments.retain(|seen| seen.transaction_id != payment.transaction_id);
                    view.payments.push(payment);
                }
                // What the bank does not tell must not hide the payment that it does; a look without an answer is repeated.
                Err(Failure::NotFound(problem) | Failure::Declined(Decline { message: problem, .. })) => {
                    tracing::error!(provider = super::NAME, reference = key.reference, problem, "one of several payments cannot be seen");
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(view)
    }

    async fn payment(&self, key: &AttemptKey, number: &str, now: DateTime<Utc>, log: &ExchangeLog) -> Result<PaymentSeen, Failure> {
        let answer = self.call("inquire", INQUIRY, &self.about(&key.reference, Some(number))?, log).await?;
        mapping::read_payment(&answer, key, now, number)
    }

    /// Makes an unpaid QR unusable.
    pub(super) async fn cancel(&self, reference: &str, log: &ExchangeLog) -> Result<(), Failure> {
        let body = self.about(reference, None)?;
        self.call("cancel", "/v1/qrpayment/cancel", &body, log).await.map(drop)
    }

    /// Sends a whole payment back.
    pub(super) async fn void(&self, reference: &str, transaction_id: &str, log: &ExchangeLog) -> Result<(), Failure> {
        let body = self.about(reference, Some(transaction_id))?;
        self.call("refund", "/v1/qrpayment/void", &body, log).await.map(drop)
    }

    fn common<'a>(&'a self, uid: &'a str) -> Common<'a> {
        Common {
            partner_txn_uid: uid,
            partner_id: &self.config.partner_id,
            partner_secret: self.config.partner_secret.reveal(),
            request_dt: bangkok_text(self.http.now()),
            merchant_id: &self.config.merchant_id,
            terminal_id: &self.config.terminal_id,
        }
    }

    /// A call about an earlier QR has a name of its own: 11 characters that count, 4 of the QR's name.
    fn about(&self, reference: &str, txn_no: Option<&str>) -> Result<String, Failure> {
        let orig_partner_txn_uid = uid_of(reference);
        let tail = orig_partner_txn_uid.get(orig_partner_txn_uid.len().saturating_sub(4)..).unwrap_or_default();
        let uid = format!("{}{tail}", base32(self.next_request.fetch_add(1, Ordering::Relaxed)));
        to_json(&AboutBody { common: self.common(&uid), orig_partner_txn_uid, txn_no })
    }

    /// Sends with a token and checks the envelope; on a refused token refreshes once and repeats once.
    async fn call(&self, operation: &'static str, path: &str, body: &str, log: &ExchangeLog) -> Result<Vec<u8>, Failure> {
        let token = self.token(log).await?;
        match self.send(operation, path, body, &token, log).await {
            Err(Failure::Unauthorized(_)) => {
                self.token.discard(&token).await;
                let token = self.token(log).await?;
                self.send(operation, path, body, &token, log).await
            }
            answer => answer,
        }
    }

    async fn send(&self, operation: &'static str, path: &str, body: &str, token: &str, log: &ExchangeLog) -> Result<Vec<u8>, Failure> {
        let request = self.post(path).header("content-type", "application/json").bearer_auth(token).body(body.to_owned());
        let answer = self.http.exchange(request, Recorded { operation, masked: &MASKED, log }).await?;
        self.heed_quota(mapping::check_answer(answer.status, &answer.body))?;
        Ok(answer.body)
    }

    /// An answered "not attempted" is a quota: hammering on would only lengthen it.
    fn heed_quota<T>(&self, checked: Result<T, Failure>) -> Result<T, Failure> {
        if matches!(checked, Err(Failure::NotAttempted(_))) {
            self.http.pause(Duration::from_millis(self.config.quota_pause_ms));
        }
        checked
    }

    fn post(&self, path: &str) -> RequestBuilder {
        let request = self.http.request(Method::POST, path);
        match &self.config.sandbox_exercise {
            Some(exercise) => request.header("x-test-mode", "true").header("env-id", exercise),
            None => request,
        }
    }

    async fn token(&self, log: &ExchangeLog) -> Result<String, Failure> {
        self.token.get(|| self.fetch_token(log)).await
    }

    async fn fetch_token(&self, log: &ExchangeLog) -> Result<(String, Duration), Failure> {
        let request = self
            .post("/v2/oauth/token")
            .basic_auth(self.config.consumer_id.reveal(), Some(self.config.consumer_secret.reveal()))
            .form(&[("grant_type", "client_credentials")]);
        let answer = self.http.exchange(request, Recorded { operation: "token", masked: &MASKED, log }).await?;
        self.heed_quota(mapping::read_token(answer.status, &answer.body))
    }
}

fn to_json(body: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(body).map_err(|e| Failure::NotAttempted(format!("the request could not be written: {e}")))
}

/// The low 55 bits as 11 characters of Crockford's alphabet.
fn base32(number: u64) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    (0..11).rev().map(|place| char::from(ALPHABET[usize::try_from((number >> (5 * place)) & 31).unwrap_or(0)])).collect()
}

#[cfg(test)]
mod tests {
    use super::base32;

    #[test]
    fn numbers_are_written_in_order_and_at_one_length() {
        assert_eq!(base32(0), "00000000000");
        assert_eq!(base32(33), "00000000011");
        assert!(base32(1_790_000_000_000_000) < base32(1_790_000_000_000_001));
    }
}
