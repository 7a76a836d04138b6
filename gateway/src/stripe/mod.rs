//! Stripe-format PaymentIntents: cards by token and PromptPay, one intent there for each of our attempts.
//!
//! Every POST carries an idempotency key. Stripe keeps the answer to a key for a day and replays it, a 500 too, so what
//! stays unclear is settled by an inquiry, and a repeat after that day never creates. Source: Stripe API reference,
//! idempotent requests, payment intents, refunds.

use std::fmt;

use chrono::TimeDelta;
use domain::provider::{
    AttemptKey, AttemptStatus, AttemptView, BoxFuture, CallOutcome, CancelRequest, Capabilities, CaptureRequest, ExchangeLog,
    IncrementRequest, InquiryRequest, Method, PaymentProvider, RawWebhook, RefundRequest, RefundStatus, StartRequest, WebhookHint,
    WebhookRefusal,
};

use crate::{
    Clock,
    error::GatewayError,
    failure::{Failure, Kind, capture_refused, decline},
    measure::measured,
};

mod capabilities;
mod client;
mod config;
mod mapping;
pub mod simulator;
#[cfg(test)]
mod tests;
mod webhook;

pub use capabilities::with_increment as capabilities_with_increment;
use client::{Client, Form, checked};
pub use config::{FIELDS, StripeConfig};
use mapping::Intent;

/// The name in events, metrics and the webhook path.
pub const NAME: &str = "stripe";

/// Keys are kept for 24 hours at least; after that a repeat would be a new charge.
const KEY_LIFE: TimeDelta = TimeDelta::hours(23);

/// The connector; one per account.
pub struct StripeProvider {
    config: StripeConfig,
    client: Client,
}

impl fmt::Debug for StripeProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StripeProvider").field("config", &self.config).finish_non_exhaustive()
    }
}

impl StripeProvider {
    /// Makes the connector; nothing is sent yet.
    ///
    /// # Errors
    /// `Setting`, `HttpClient`.
    pub fn new(config: StripeConfig, clock: Clock) -> Result<Self, GatewayError> {
        config.check()?;
        let client = Client::new(&config, clock)?;
        Ok(Self { config, client })
    }

    async fn create(&self, request: &StartRequest, log: &ExchangeLog) -> CallOutcome<AttemptView> {
        let key = &request.key;
        let form = match self.form(request) {
            Ok(form) => form,
            Err(failure) => return failure.outcome(Kind::Money),
        };
        if self.client.now() - key.started_at > KEY_LIFE {
            return match self.client.find(key, log).await {
                Ok(Some(view)) => CallOutcome::Done(view),
                Ok(None) => CallOutcome::Unknown("the idempotency key may have been forgotten: nothing is created again".to_owned()),
                Err(failure) => failure.outcome(Kind::Money),
            };
        }
        let attempt = key.attempt_id.0.to_string();
        let posted = self.client.post_intent("start", "/v1/payment_intents", &attempt, form, log).await;
        self.settle(posted, key, log).await
    }

    /// A refused card's intent is the answer; where the books are ahead of us, they are. What is unclear an inquiry settles.
    async fn settle(
        &self,
        posted: Result<Intent, (Failure, Option<Box<Intent>>)>,
        key: &AttemptKey,
        log: &ExchangeLog,
    ) -> CallOutcome<AttemptView> {
        let failure = match posted {
            Ok(intent) => match mapping::read_intent(intent, key) {
                Ok(view) => return CallOutcome::Done(view),
                Err(failure) => failure,
            },
            Err((Failure::Declined(declined), Some(intent))) => match mapping::read_intent(*intent, key) {
                Ok(AttemptView { provider_id, payments, .. }) if payments.is_empty() => {
                    return CallOutcome::Done(AttemptView { provider_id, status: AttemptStatus::Failed(declined), payments });
                }
                Ok(view) => return CallOutcome::Done(view),
                Err(failure) => failure,
            },
            Err((failure, _)) => failure,
        };
        match failure {
            Failure::Conflict(reason) => match self.client.find(key, log).await {
                Ok(Some(view)) => CallOutcome::Done(view),
                // Something was taken under this key; that it cannot be seen refuses nothing.
                Ok(None) | Err(_) => Failure::Uncertain(reason).outcome(Kind::Money),
            },
            Failure::Uncertain(_) | Failure::NotAttempted(_) | Failure::Unauthorized(_) | Failure::NotFound(_) | Failure::Declined(_) => {
                failure.outcome(Kind::Money)
            }
        }
    }

    fn form(&self, request: &StartRequest) -> Result<Form, Failure> {
        let key = &request.key;
        let invalid = |problem| Err(Failure::Declined(decline("invalid_request", problem)));
        if !key.amount.is_positive() {
            return invalid("a positive amount is needed");
        }
        let mut form = vec![
            ("amount", key.amount.amount.to_string()),
            ("currency", key.amount.currency.code().to_ascii_lowercase()),
            ("confirm", "true".to_owned()),
            ("metadata[attempt]", key.attempt_id.0.to_string()),
            ("metadata[reference]", key.reference.clone()),
        ];
        match &request.method {
            Method::Card { token } => {
                if !token.starts_with("pm_") || !mapping::is_id(token) {
                    return invalid("the card token is not a pm_ token");
                }
                form.push(("payment_method_types[]", "card".to_owned()));
                form.push(("payment_method", token.clone()));
                form.push(("capture_method", if request.manual_capture { "manual" } else { "automatic" }.to_owned()));
                if request.manual_capture && self.config.incremental_authorization {
                    form.push(("payment_method_options[card][request_incremental_authorization]", "if_available".to_owned()));
                }
            }
            Method::PromptPay => {
                if request.manual_capture || key.amount.currency != domain::money::Currency::THB {
                    return Err(Failure::Declined(decline("not_supported", "PromptPay is baht, without a hold")));
                }
                form.push(("payment_method_types[]", "promptpay".to_owned()));
                form.push(("payment_method_data[type]", "promptpay".to_owned()));
                if let Some(email) = &self.config.promptpay_email {
                    form.push(("payment_method_data[billing_details][email]", email.clone()));
                }
            }
        }
        if let Some(url) = &request.return_url {
            form.push(("return_url", url.clone()));
        }
        Ok(form)
    }

    async fn look(&self, key: &AttemptKey, log: &ExchangeLog) -> CallOutcome<AttemptView> {
        match self.client.find(key, log).await {
            Ok(Some(view)) => CallOutcome::Done(view),
            Ok(None) | Err(Failure::NotFound(_)) => CallOutcome::Done(not_found(key)),
            Err(failure) => failure.outcome(Kind::Read),
        }
    }

    /// A call about an intent that exists.
    async fn act(
        &self,
        operation: &'static str,
        (key, idempotency_key): (&AttemptKey, &str),
        form: Form,
        log: &ExchangeLog,
    ) -> CallOutcome<AttemptView> {
        let id = match &key.provider_id {
            Some(id) => checked(id).map(str::to_owned),
            None => match self.client.find(key, log).await {
                Ok(Some(AttemptView { provider_id: Some(id), .. })) => Ok(id),
                Ok(_) => return CallOutcome::Done(not_found(key)),
                Err(failure) => Err(failure),
            },
        };
        let id = match id {
            Ok(id) => id,
            // Only looked: the call itself was never sent.
            Err(failure) => return failure.outcome(Kind::Read),
        };
        match self
            .client
            .post_intent(operation, &format!("/v1/payment_intents/{id}/{}", path_of(operation)), idempotency_key, form, log)
            .await
        {
            Ok(intent) => match mapping::read_intent(intent, key) {
                Ok(view) => CallOutcome::Done(view),
                Err(failure) => failure.outcome(Kind::Money),
            },
            Err((Failure::Conflict(reason), _)) => {
                let books = self.look(key, log).await;
                if operation == "capture" { capture_refused(&reason, books) } else { books }
            }
            Err((failure, _)) => failure.outcome(Kind::Money),
        }
    }

    async fn send_back(&self, request: &RefundRequest, log: &ExchangeLog) -> CallOutcome<RefundStatus> {
        // A repeat may come after the key was forgotten, so the books are asked first.
        match self.client.find_refund(request, log).await {
            Ok(Some(refund)) => return refund_outcome(mapping::read_refund(refund), Kind::Money),
            Ok(None) => {}
            Err(failure) => return failure.outcome(Kind::Read),
        }
        match self.client.post_refund(request, log).await {
            Ok(refund) => refund_outcome(mapping::read_refund(refund), Kind::Money),
            Err(failure) => failure.outcome(Kind::Money),
        }
    }

    async fn look_refund(&self, request: &RefundRequest, log: &ExchangeLog) -> CallOutcome<RefundStatus> {
        match self.client.find_refund(request, log).await {
            Ok(Some(refund)) => refund_outcome(mapping::read_refund(refund), Kind::Read),
            Ok(None) => CallOutcome::Done(RefundStatus::NotFound),
            Err(failure) => failure.outcome(Kind::Read),
        }
    }
}

fn path_of(operation: &str) -> &str {
    if operation == "increment" { "increment_authorization" } else { operation }
}

fn not_found(key: &AttemptKey) -> AttemptView {
    AttemptView { provider_id: key.provider_id.clone(), status: AttemptStatus::NotFound, payments: Vec::new() }
}

fn refund_outcome(read: Result<RefundStatus, Failure>, kind: Kind) -> CallOutcome<RefundStatus> {
    read.map_or_else(|failure| failure.outcome(kind), CallOutcome::Done)
}

impl PaymentProvider for StripeProvider {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        capabilities::with_increment(self.config.incremental_authorization)
    }

    fn start<'a>(&'a self, request: &'a StartRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>> {
        Box::pin(measured(NAME, "start", self.create(request, log)))
    }

    fn inquire<'a>(&'a self, request: &'a InquiryRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>> {
        Box::pin(measured(NAME, "inquire", self.look(&request.key, log)))
    }

    fn capture<'a>(&'a self, request: &'a CaptureRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>> {
        let form = vec![("amount_to_capture", request.amount.amount.to_string())];
        Box::pin(measured(NAME, "capture", self.act("capture", (&request.key, &request.idempotency_key), form, log)))
    }

    fn increment<'a>(&'a self, request: &'a IncrementRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>> {
        if !self.config.incremental_authorization {
            let refusal = decline("not_supported", "the account cannot raise held amounts");
            return Box::pin(std::future::ready(CallOutcome::Declined(refusal)));
        }
        let form = vec![("amount", request.amount.amount.to_string())];
        Box::pin(measured(NAME, "increment", self.act("increment", (&request.key, &request.idempotency_key), form, log)))
    }

    fn cancel<'a>(&'a self, request: &'a CancelRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>> {
        let form = vec![("cancellation_reason", "requested_by_customer".to_owned())];
        Box::pin(measured(NAME, "cancel", self.act("cancel", (&request.key, &request.idempotency_key), form, log)))
    }

    fn refund<'a>(&'a self, request: &'a RefundRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<RefundStatus>> {
        Box::pin(measured(NAME, "refund", self.send_back(request, log)))
    }

    fn inquire_refund<'a>(&'a self, request: &'a RefundRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<RefundStatus>> {
        Box::pin(measured(NAME, "inquire_refund", self.look_refund(request, log)))
    }

    fn read_webhook(&self, raw: &RawWebhook<'_>) -> Result<WebhookHint, WebhookRefusal> {
        webhook::read(&self.config, raw)
    }
}
