//! SCB (Siam Commercial Bank): PromptPay QR by bill payment (tag 30), inquiry, and void where the contract has it.
//!
//! A call-back carries no signature, so it only says *look*: money counts when the inquiry shows it. The bank has no
//! cancel and its v1 codes never expire. Source: SCB developer API, pages post-oauth-token, post-qrcode-create,
//! get-billpayment-inquiry, payment-confirmation, post-qrcode-void.

use std::{
    fmt,
    time::{Duration, Instant},
};

use chrono::NaiveDate;
use domain::{
    money::Currency,
    provider::{
        BoxFuture, CallOutcome, Capabilities, Decline, InquiryRequest, PaymentProvider, PaymentSeen, QrCreated, QrRequest, RawWebhook,
        RefundDone, RefundRequest, WebhookHint, WebhookRefusal,
    },
};

use crate::{
    Clock,
    error::GatewayError,
    promptpay::{ParsedQr, QrSpec, Target, is_reference},
};

mod client;
mod mapping;
pub mod simulator;
mod webhook;

use client::Client;
use mapping::{Failure, Kind, bangkok_date, decline};

/// The name in events, metrics and the webhook path.
pub const NAME: &str = "scb";

/// The longest stretch of days one inquiry covers; each day is a call of its own.
const MAX_INQUIRY_DAYS: usize = 31;

/// How to reach SCB and who we are there.
#[derive(Clone)]
pub struct ScbConfig {
    /// Without a trailing slash: `https://api-sandbox.partners.scb/partners/sandbox`, or a simulator's `http://…`.
    pub base_url: String,
    /// Secret.
    pub api_key: String,
    /// Secret.
    pub api_secret: String,
    /// 15 digits.
    pub biller_id: String,
    /// The bank-assigned start of reference 3, which routes the call-back; empty when there is none.
    pub reference3_prefix: String,
    /// Secret: the last segment of the registered call-back address, the only proof of the sender.
    pub webhook_path_secret: String,
    /// For one HTTP exchange, connecting included.
    pub timeout: Duration,
    /// The contract has the void call: whole payments can be sent back until the end of the Bangkok day.
    pub void_profile: bool,
}

impl ScbConfig {
    /// What most installations wait for one exchange.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

    fn check(&self) -> Result<(), GatewayError> {
        let wrong = |setting, problem| Err(GatewayError::Setting { provider: NAME, setting, problem });
        let biller_is_valid = self.biller_id.len() == 15 && self.biller_id.bytes().all(|b| b.is_ascii_digit());
        if !self.base_url.starts_with("http://") && !self.base_url.starts_with("https://") {
            return wrong("base_url", "is not an http or https address");
        }
        if self.api_key.is_empty() || self.api_secret.is_empty() {
            return wrong("api_key/api_secret", "is empty");
        }
        if !biller_is_valid {
            return wrong("biller_id", "is not 15 digits");
        }
        if !self.reference3_prefix.is_empty() && !is_reference(&self.reference3_prefix) {
            return wrong("reference3_prefix", "is not at most 20 characters of [A-Z0-9]");
        }
        // An empty or short secret would let anyone announce payments.
        if self.webhook_path_secret.len() < 16 {
            return wrong("webhook_path_secret", "is shorter than 16 characters");
        }
        if self.timeout.is_zero() {
            return wrong("timeout", "is zero");
        }
        Ok(())
    }
}

impl fmt::Debug for ScbConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScbConfig")
            .field("base_url", &self.base_url)
            .field("biller_id", &self.biller_id)
            .field("reference3_prefix", &self.reference3_prefix)
            .field("timeout", &self.timeout)
            .field("void_profile", &self.void_profile)
            .finish_non_exhaustive()
    }
}

/// The connector. One per app of the bank; share it behind an `Arc`, since it holds the access token.
pub struct ScbProvider {
    config: ScbConfig,
    client: Client,
    clock: Clock,
}

impl fmt::Debug for ScbProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScbProvider").field("config", &self.config).finish_non_exhaustive()
    }
}

impl ScbProvider {
    /// Makes the connector; nothing is sent yet.
    ///
    /// # Errors
    /// `Setting`, `HttpClient`.
    pub fn new(config: ScbConfig, clock: Clock) -> Result<Self, GatewayError> {
        config.check()?;
        let client = Client::new(&config, (clock)())?;
        Ok(Self { config, client, clock })
    }

    async fn create(&self, request: &QrRequest) -> CallOutcome<QrCreated> {
        let amount = request.amount;
        if amount.currency != Currency::THB || !amount.is_positive() || !is_reference(&request.reference) {
            return CallOutcome::Declined(decline("invalid_request", "a positive baht amount and [A-Z0-9]{1,20} are needed"));
        }
        match self.client.create(&self.config, request).await {
            Ok(payload) => match self.check_payload(&payload, request) {
                Ok(()) => CallOutcome::Done(QrCreated { payload }),
                Err(problem) => CallOutcome::Unknown(problem),
            },
            // The bank has this reference already: a repeat whose first answer was lost. Its own payload is not given
            // out again, but the reference, biller and amount fix the meaning, so ours is as good.
            Err(Failure::Duplicate(_)) => match self.own_payload(request) {
                Ok(payload) => CallOutcome::Done(QrCreated { payload }),
                Err(error) => CallOutcome::Unknown(format!("duplicate, and no payload could be made: {error}")),
            },
            Err(failure) => failure.outcome(Kind::Money),
        }
    }

    /// A success that carries somebody else's QR must not reach a payer.
    fn check_payload(&self, payload: &str, request: &QrRequest) -> Result<(), String> {
        let qr = ParsedQr::parse(payload).map_err(|e| format!("the bank's payload is not a PromptPay code: {e}"))?;
        let ours = matches!(&qr.target, Target::Bill { biller_id, reference1, .. }
            if *biller_id == self.config.biller_id && *reference1 == request.reference);
        if ours && qr.dynamic && qr.amount == Some(request.amount) {
            Ok(())
        } else {
            Err("the bank's payload names another payee, reference or amount".to_owned())
        }
    }

    fn own_payload(&self, request: &QrRequest) -> Result<String, crate::promptpay::QrError> {
        let target = Target::Bill { biller_id: self.config.biller_id.clone(), reference1: request.reference.clone(), reference2: None };
        let prefix = &self.config.reference3_prefix;
        let terminal_label = (!prefix.is_empty()).then(|| prefix.clone());
        QrSpec { terminal_label, ..QrSpec::new(target, Some(request.amount)) }.encode()
    }

    /// Asks for every Bangkok day from the first to the last: the bank searches by the day of *payment*.
    async fn inquire_days(&self, reference: &str, first: NaiveDate, last: NaiveDate) -> Result<Vec<PaymentSeen>, Failure> {
        if !is_reference(reference) {
            return Err(Failure::Declined(decline("invalid_request", "the reference is not [A-Z0-9]{1,20}")));
        }
        let (first, last) = (first.min(last), last.max(first));
        let days: Vec<NaiveDate> = first.iter_days().take_while(|day| *day <= last).take(MAX_INQUIRY_DAYS + 1).collect();
        if days.len() > MAX_INQUIRY_DAYS {
            return Err(Failure::Declined(decline("invalid_request", "an inquiry covers at most 31 days")));
        }
        let mut seen: Vec<PaymentSeen> = Vec::new();
        for day in days {
            for payment in self.client.inquire(&self.config, reference, day).await? {
                if seen.iter().all(|s| s.transaction_id != payment.transaction_id) {
                    seen.push(payment);
                }
            }
        }
        Ok(seen)
    }

    async fn void(&self, request: &RefundRequest) -> CallOutcome<RefundDone> {
        if !self.config.void_profile || request.amount != request.captured {
            return CallOutcome::Declined(decline("not_supported", "SCB sends back whole payments only, by contract"));
        }
        let done = || RefundDone { provider_reference: format!("void:{}", request.transaction_id) };
        let now = (self.clock)();
        let paid_on = bangkok_date(request.paid_at);
        if paid_on != bangkok_date(now) {
            // An earlier try of this very refund may have ended unknown before midnight: its books decide.
            return match self.inquire_days(&request.reference, paid_on, paid_on).await {
                Ok(seen) if seen.iter().any(|p| p.reversed && p.transaction_id == request.transaction_id) => CallOutcome::Done(done()),
                Ok(_) => CallOutcome::Declined(decline("cut_off_passed", "SCB voids on the Bangkok day of payment only")),
                Err(failure) => failure.outcome(Kind::Read),
            };
        }
        match self.client.void(request, now).await {
            // A whole payment can be sent back once, so "again" means that this refund is in effect.
            Ok(()) | Err(Failure::Duplicate(_)) => CallOutcome::Done(done()),
            Err(failure) => failure.outcome(Kind::Money),
        }
    }
}

impl PaymentProvider for ScbProvider {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { refund: self.config.void_profile, partial_refund: false }
    }

    fn create_qr<'a>(&'a self, request: &'a QrRequest) -> BoxFuture<'a, CallOutcome<QrCreated>> {
        Box::pin(async move { measured("create", self.create(request)).await })
    }

    fn inquire<'a>(&'a self, request: &'a InquiryRequest) -> BoxFuture<'a, CallOutcome<Vec<PaymentSeen>>> {
        Box::pin(async move {
            let (first, last) = (bangkok_date(request.created_at), bangkok_date(request.now));
            let asked = async {
                match self.inquire_days(&request.reference, first, last).await {
                    Ok(seen) => CallOutcome::Done(seen),
                    Err(failure) => failure.outcome(Kind::Read),
                }
            };
            measured("inquiry", asked).await
        })
    }

    fn refund<'a>(&'a self, request: &'a RefundRequest) -> BoxFuture<'a, CallOutcome<RefundDone>> {
        Box::pin(async move { measured("void", self.void(request)).await })
    }

    fn read_webhook(&self, raw: &RawWebhook<'_>) -> Result<WebhookHint, WebhookRefusal> {
        webhook::read(&self.config, raw)
    }
}

/// Counts and times one call, and logs the outcomes that someone may have to look into.
async fn measured<T>(operation: &'static str, call: impl Future<Output = CallOutcome<T>>) -> CallOutcome<T> {
    let started = Instant::now();
    let outcome = call.await;
    let word = match &outcome {
        CallOutcome::Done(_) => "done",
        CallOutcome::Declined(Decline { code, message }) => {
            if code == "credentials_refused" {
                tracing::error!(provider = NAME, operation, message, "the provider refuses our credentials");
            }
            "declined"
        }
        CallOutcome::NotAttempted(reason) => {
            tracing::warn!(provider = NAME, operation, reason, "call not attempted");
            "not_attempted"
        }
        CallOutcome::Unknown(reason) => {
            tracing::warn!(provider = NAME, operation, reason, "outcome unknown");
            "unknown"
        }
    };
    metrics::counter!("gateway_calls_total", "provider" => NAME, "operation" => operation, "outcome" => word).increment(1);
    metrics::histogram!("gateway_call_seconds", "provider" => NAME, "operation" => operation).record(started.elapsed());
    outcome
}
