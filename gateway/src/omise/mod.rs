//! Omise: cards by token and PromptPay, one charge there for each of our attempts.
//!
//! No idempotency is promised, so a repeat looks first, and creates nothing while the list may lag behind an uncertain try: whoever
//! calls says when that was, since no connector sees what another process tried. PromptPay comes as a picture at an address, not as a payload text. Source: Omise documentation, charges, refunds, webhooks.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use domain::{
    money::Currency,
    provider::{
        AttemptKey, AttemptStatus, AttemptView, BoxFuture, CallOutcome, CancelRequest, Capabilities, CaptureRequest, ExchangeLog,
        InquiryRequest, Method, PaymentProvider, RawWebhook, RefundRequest, RefundStatus, StartRequest, WebhookHint, WebhookRefusal,
    },
};
use serde_json::{Value, json};

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

pub use capabilities::CAPABILITIES;
use client::Client;
pub use config::{FIELDS, OmiseConfig};

/// The name in events, metrics and the webhook path.
pub const NAME: &str = "omise";

/// The connector; one per account.
pub struct OmiseProvider {
    config: OmiseConfig,
    client: Client,
}

impl fmt::Debug for OmiseProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OmiseProvider").field("config", &self.config).finish_non_exhaustive()
    }
}

impl OmiseProvider {
    /// Makes the connector; nothing is sent yet.
    ///
    /// # Errors
    /// `Setting`, `HttpClient`.
    pub fn new(config: OmiseConfig, clock: Clock) -> Result<Self, GatewayError> {
        config.check()?;
        let client = Client::new(&config, clock)?;
        Ok(Self { config, client })
    }

    async fn create(&self, request: &StartRequest, log: &ExchangeLog) -> CallOutcome<AttemptView> {
        let key = &request.key;
        if let Err(failure) = self.check(request) {
            return failure.outcome(Kind::Money);
        }
        if request.uncertain_since.is_some() {
            match self.client.find(key, log).await {
                Ok(Some(charge)) => return read(mapping::read_charge(charge, key), Kind::Money),
                Ok(None) => {}
                Err(failure) => return failure.outcome(Kind::Read),
            }
        }
        if self.may_be_hidden(request.uncertain_since) {
            return CallOutcome::NotAttempted("an earlier try may have made a charge that the list does not show yet".to_owned());
        }
        let body = match self.body(request, log).await {
            Ok(body) => body,
            Err(failure) => return failure.outcome(Kind::Read),
        };
        match self.client.create(key, &body, log).await {
            Ok(charge) => read(mapping::read_charge(charge, key), Kind::Money),
            // A conflict on a creation says nothing about what was made.
            Err(Failure::Conflict(reason) | Failure::NotFound(reason)) => CallOutcome::Unknown(reason),
            Err(failure) => failure.outcome(Kind::Money),
        }
    }

    /// Whether what an uncertain try made may be missing in a list: not being there proves nothing yet.
    fn may_be_hidden(&self, uncertain_since: Option<DateTime<Utc>>) -> bool {
        uncertain_since.is_some_and(|since| self.client.now() - since < self.config.settling())
    }

    fn check(&self, request: &StartRequest) -> Result<(), Failure> {
        let (amount, refuse) = (request.key.amount, |code, problem| Err(Failure::Declined(decline(code, problem))));
        if !amount.is_positive() {
            return refuse("invalid_request", "a positive amount is needed");
        }
        match &request.method {
            Method::Card { token } if !token.starts_with("tokn_") || !mapping::is_id(token) => {
                refuse("invalid_request", "the card token is not a tokn_ token")
            }
            Method::PromptPay if request.manual_capture || amount.currency != Currency::THB => {
                refuse("not_supported", "PromptPay is baht, without a hold")
            }
            Method::PromptPay if !(self.config.promptpay_min..=self.config.promptpay_max).contains(&amount.amount) => {
                refuse("amount_not_allowed", "PromptPay does not take this amount")
            }
            Method::Card { .. } | Method::PromptPay => Ok(()),
        }
    }

    async fn body(&self, request: &StartRequest, log: &ExchangeLog) -> Result<Value, Failure> {
        let key = &request.key;
        let mut body = json!({
            "amount": key.amount.amount,
            "currency": key.amount.currency.code(),
            "metadata": {"attempt": key.attempt_id.0.to_string(), "reference": key.reference},
        });
        match &request.method {
            Method::Card { token } => {
                body["card"] = json!(token);
                body["capture"] = json!(!request.manual_capture);
                if request.manual_capture {
                    // Less than the hold can be captured of pre-authorised charges only.
                    body["authorization_type"] = json!("pre_auth");
                }
            }
            Method::PromptPay => {
                body["source"] = json!(self.client.create_source(key, log).await?);
                body["expires_at"] = json!(request.expires_at.to_rfc3339_opts(SecondsFormat::Secs, true));
            }
        }
        if let Some(url) = &request.return_url {
            body["return_uri"] = json!(url);
        }
        Ok(body)
    }

    async fn look(&self, key: &AttemptKey, log: &ExchangeLog) -> CallOutcome<AttemptView> {
        match self.client.find(key, log).await {
            Ok(Some(charge)) => read(mapping::read_charge(charge, key), Kind::Read),
            Ok(None) | Err(Failure::NotFound(_)) => CallOutcome::Done(not_found(key)),
            Err(failure) => failure.outcome(Kind::Read),
        }
    }

    async fn capture_held(&self, request: &CaptureRequest, log: &ExchangeLog) -> CallOutcome<AttemptView> {
        let (key, body) = (&request.key, json!({"capture_amount": request.amount.amount}));
        let id = match self.named(key, log).await {
            Ok(Some(id)) => id,
            Ok(None) => return CallOutcome::Done(not_found(key)),
            Err(failure) => return failure.outcome(Kind::Read),
        };
        match self.client.act("capture", (&id, "capture"), (&body, &request.idempotency_key), log).await {
            Err(Failure::Conflict(reason)) => capture_refused(&reason, self.look(key, log).await),
            acted => self.settle(acted, key, log).await,
        }
    }

    /// Lets go of a hold, or stops what is unpaid: two different calls, so the books are asked which.
    async fn stop(&self, request: &CancelRequest, log: &ExchangeLog) -> CallOutcome<AttemptView> {
        let key = &request.key;
        let view = match self.look(key, log).await {
            CallOutcome::Done(view) => view,
            other @ (CallOutcome::Declined(_) | CallOutcome::NotAttempted(_) | CallOutcome::Unknown(_)) => return other,
        };
        let verb = match view.status {
            AttemptStatus::Authorized { .. } => "reverse",
            AttemptStatus::ActionRequired(_) | AttemptStatus::Pending => "expire",
            AttemptStatus::NotFound
            | AttemptStatus::Paid
            | AttemptStatus::Failed(_)
            | AttemptStatus::Canceled
            | AttemptStatus::Expired
            | AttemptStatus::Unrecognized(_) => return CallOutcome::Done(view),
        };
        let Some(id) = view.provider_id else { return CallOutcome::Done(not_found(key)) };
        let acted = self.client.act("cancel", (&id, verb), (&json!({}), &request.idempotency_key), log).await;
        self.settle(acted, key, log).await
    }

    async fn named(&self, key: &AttemptKey, log: &ExchangeLog) -> Result<Option<String>, Failure> {
        match &key.provider_id {
            Some(id) => Ok(Some(id.clone())),
            None => Ok(self.client.find(key, log).await?.map(|charge| charge.id)),
        }
    }

    /// "Cannot be done" means that the provider is ahead of us: its books decide.
    async fn settle(&self, acted: Result<mapping::Charge, Failure>, key: &AttemptKey, log: &ExchangeLog) -> CallOutcome<AttemptView> {
        match acted {
            Ok(charge) => read(mapping::read_charge(charge, key), Kind::Money),
            Err(Failure::Conflict(_)) => self.look(key, log).await,
            Err(failure) => failure.outcome(Kind::Money),
        }
    }

    async fn send_back(&self, request: &RefundRequest, log: &ExchangeLog) -> CallOutcome<RefundStatus> {
        match self.client.find_refund(request, log).await {
            Ok(Some(refund)) => return read(mapping::read_refund(refund), Kind::Money),
            Ok(None) => {}
            Err(failure) => return failure.outcome(Kind::Read),
        }
        // Before anything else is believed: a charge that can no longer be refunded may have been by that try.
        if self.may_be_hidden(request.uncertain_since) {
            return CallOutcome::NotAttempted("an earlier try may have made a refund that the list does not show yet".to_owned());
        }
        match self.client.get(&request.transaction_id, log).await {
            Ok(charge) if !charge.refundable => {
                return CallOutcome::Declined(decline("not_supported", "the provider does not refund this charge"));
            }
            Ok(_) => {}
            Err(failure) => return failure.outcome(Kind::Read),
        }
        match self.client.refund(request, log).await {
            Ok(refund) => read(mapping::read_refund(refund), Kind::Money),
            Err(Failure::Conflict(reason)) => CallOutcome::Declined(decline("refund_refused", &reason)),
            Err(failure) => failure.outcome(Kind::Money),
        }
    }

    async fn look_refund(&self, request: &RefundRequest, log: &ExchangeLog) -> CallOutcome<RefundStatus> {
        match self.client.find_refund(request, log).await {
            Ok(Some(refund)) => read(mapping::read_refund(refund), Kind::Read),
            // The settling time must be over before absence proves anything.
            Ok(None) if self.may_be_hidden(request.uncertain_since) => {
                CallOutcome::NotAttempted("the list may not show the refund yet".to_owned())
            }
            Ok(None) => CallOutcome::Done(RefundStatus::NotFound),
            Err(failure) => failure.outcome(Kind::Read),
        }
    }
}

fn read<T>(read: Result<T, Failure>, kind: Kind) -> CallOutcome<T> {
    read.map_or_else(|failure| failure.outcome(kind), CallOutcome::Done)
}

fn not_found(key: &AttemptKey) -> AttemptView {
    AttemptView { provider_id: key.provider_id.clone(), status: AttemptStatus::NotFound, payments: Vec::new() }
}

impl PaymentProvider for OmiseProvider {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn start<'a>(&'a self, request: &'a StartRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>> {
        Box::pin(measured(NAME, "start", self.create(request, log)))
    }

    fn inquire<'a>(&'a self, request: &'a InquiryRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>> {
        Box::pin(measured(NAME, "inquire", self.look(&request.key, log)))
    }

    fn capture<'a>(&'a self, request: &'a CaptureRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>> {
        Box::pin(measured(NAME, "capture", self.capture_held(request, log)))
    }

    fn cancel<'a>(&'a self, request: &'a CancelRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>> {
        Box::pin(measured(NAME, "cancel", self.stop(request, log)))
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
