//! KBank (Kasikornbank, K-API): PromptPay QR that lives ten minutes, inquiry, cancel, and void on the day of payment.
//!
//! The text of a QR is given out once. When the answer to the request is lost, a repeat is a duplicate, and the books say what
//! to do: paid counts; a code that still waits for its payer cannot be shown to anyone, so it is cancelled, the cancel is
//! confirmed, and the books say that the attempt failed with `qr_lost`, for a new one to take its place. Source: K-API QR payment pages.

use std::fmt;

use chrono::{DateTime, Utc};
use domain::{
    money::Currency,
    provider::{
        AttemptKey, AttemptStatus, AttemptView, BoxFuture, CallOutcome, CancelRequest, Capabilities, ExchangeLog, InquiryRequest,
        MethodKind, NextAction, PaymentProvider, RawWebhook, RefundRequest, RefundStatus, StartRequest, WebhookHint, WebhookRefusal,
        void_reference,
    },
};

use crate::{
    Clock,
    bangkok::bangkok_date,
    error::GatewayError,
    failure::{Failure, Kind, decline, surely_not_sent, void_refused},
    measure::measured,
    promptpay::{ParsedQr, is_reference},
};

mod capabilities;
mod client;
mod config;
mod mapping;
pub mod simulator;
mod webhook;

pub use capabilities::CAPABILITIES;
use client::Client;
pub use config::{FIELDS, KbankConfig};

/// The name in events, metrics and the webhook path.
pub const NAME: &str = "kbank";

/// The connector. One per partner; share it behind an `Arc`, since it holds the access token.
pub struct KbankProvider(Client);

impl fmt::Debug for KbankProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KbankProvider").field("config", self.0.config()).finish_non_exhaustive()
    }
}

impl KbankProvider {
    /// Makes the connector; nothing is sent yet.
    ///
    /// # Errors
    /// `Setting`, `HttpClient`.
    pub fn new(config: KbankConfig, clock: Clock) -> Result<Self, GatewayError> {
        config.check()?;
        Client::new(config, clock).map(Self)
    }

    async fn request(&self, request: &StartRequest, log: &ExchangeLog) -> CallOutcome<AttemptView> {
        let key = &request.key;
        if request.method.kind() != MethodKind::PromptPay || request.manual_capture {
            return CallOutcome::Declined(decline("not_supported", "KBank takes PromptPay codes, without a hold"));
        }
        if key.amount.currency != Currency::THB || !key.amount.is_positive() || !is_reference(&key.reference) {
            return CallOutcome::Declined(decline("invalid_request", "a positive baht amount and [A-Z0-9]{1,20} are needed"));
        }
        match self.0.request(key, log).await {
            Ok(payload) => match check_payload(&payload, key) {
                Ok(()) => CallOutcome::Done(AttemptView {
                    provider_id: Some(mapping::uid_of(&key.reference).to_owned()),
                    status: AttemptStatus::ActionRequired(NextAction::ShowQr { payload }),
                    payments: vec![],
                }),
                Err(problem) => CallOutcome::Unknown(problem),
            },
            Err(Failure::Conflict(_)) => self.adopt(key, request.key.started_at, log).await,
            Err(failure) => failure.outcome(Kind::Money),
        }
    }

    /// A repeat of a request that the bank took, though its answer was lost.
    async fn adopt(&self, key: &AttemptKey, now: DateTime<Utc>, log: &ExchangeLog) -> CallOutcome<AttemptView> {
        let mut looked = match self.0.inquire(key, now, log).await {
            Ok(view) => CallOutcome::Done(view),
            Err(failure) => return unresolved(failure),
        };
        if matches!(&looked, CallOutcome::Done(view) if view.status == AttemptStatus::Pending) {
            looked = self.stop(key, now, log).await;
        }
        // What the bank's books confirm ends the attempt, also after an unknown outcome.
        if let CallOutcome::Done(view) = &mut looked
            && view.status == AttemptStatus::Canceled
        {
            view.status = AttemptStatus::Failed(decline("qr_lost", "the text of the code was lost; the code was cancelled at the bank"));
        }
        looked
    }

    async fn look(&self, key: &AttemptKey, now: DateTime<Utc>, log: &ExchangeLog) -> CallOutcome<AttemptView> {
        match self.0.inquire(key, now, log).await {
            Ok(view) => CallOutcome::Done(view),
            Err(Failure::NotFound(_)) => {
                CallOutcome::Done(AttemptView { provider_id: None, status: AttemptStatus::NotFound, payments: vec![] })
            }
            Err(failure) => failure.outcome(Kind::Read),
        }
    }

    /// Cancels and confirms: the books say whether the code is dead, or was paid before.
    async fn stop(&self, key: &AttemptKey, now: DateTime<Utc>, log: &ExchangeLog) -> CallOutcome<AttemptView> {
        match self.0.cancel(&key.reference, log).await {
            Ok(()) | Err(Failure::Conflict(_) | Failure::NotFound(_)) => {}
            Err(failure) => return failure.outcome(Kind::Money),
        }
        match self.0.inquire(key, now, log).await {
            Ok(view) => CallOutcome::Done(view),
            Err(failure) => unresolved(failure),
        }
    }

    async fn void(&self, request: &RefundRequest, log: &ExchangeLog) -> CallOutcome<RefundStatus> {
        if request.amount != request.captured {
            return CallOutcome::Declined(decline("not_supported", "KBank sends back whole payments only"));
        }
        if bangkok_date(request.paid_at) != bangkok_date(request.now) {
            // An earlier try of this very refund may have ended unknown before midnight: its books decide.
            let refusal = decline("cut_off_passed", "KBank voids on the Bangkok day of payment only");
            return void_refused(refusal, self.look_refund(request, log).await);
        }
        match self.0.void(&request.reference, &request.transaction_id, log).await {
            Ok(()) => CallOutcome::Done(voided(&request.transaction_id)),
            Err(failure) => match failure.outcome(Kind::Money) {
                CallOutcome::Declined(refusal) if surely_not_sent(&refusal, request) => CallOutcome::Declined(refusal),
                CallOutcome::Declined(refusal) => void_refused(refusal, self.look_refund(request, log).await),
                open @ (CallOutcome::Done(_) | CallOutcome::NotAttempted(_) | CallOutcome::Unknown(_)) => open,
            },
        }
    }

    async fn look_refund(&self, request: &RefundRequest, log: &ExchangeLog) -> CallOutcome<RefundStatus> {
        let key = AttemptKey {
            attempt_id: domain::ids::AttemptId(request.refund_id.0),
            reference: request.reference.clone(),
            provider_id: None,
            amount: request.captured,
            started_at: request.paid_at,
        };
        match self.look(&key, request.now, log).await {
            CallOutcome::Done(view) => {
                let sent_back = view.payments.iter().any(|p| p.is_reversed() && p.transaction_id == request.transaction_id);
                CallOutcome::Done(if sent_back { voided(&request.transaction_id) } else { RefundStatus::NotFound })
            }
            CallOutcome::Declined(refusal) => CallOutcome::Declined(refusal),
            CallOutcome::NotAttempted(reason) => CallOutcome::NotAttempted(reason),
            CallOutcome::Unknown(reason) => CallOutcome::Unknown(reason),
        }
    }
}

/// A void has no name of its own at the bank.
fn voided(transaction_id: &str) -> RefundStatus {
    RefundStatus::Succeeded { provider_reference: void_reference(transaction_id) }
}

/// Something was taken, and the look at it failed: whatever the failure, nobody knows.
fn unresolved<T>(failure: Failure) -> CallOutcome<T> {
    CallOutcome::Unknown(match failure {
        Failure::NotAttempted(text)
        | Failure::Unauthorized(text)
        | Failure::NotFound(text)
        | Failure::Conflict(text)
        | Failure::Uncertain(text) => text,
        Failure::Declined(refusal) => refusal.message,
    })
}

/// A success that carries another amount must not reach a payer; payee and references in it are the bank's own.
fn check_payload(payload: &str, key: &AttemptKey) -> Result<(), String> {
    let qr = ParsedQr::parse(payload).map_err(|e| format!("the bank's payload is not a PromptPay code: {e}"))?;
    if qr.dynamic && qr.amount == Some(key.amount) { Ok(()) } else { Err("the bank's payload names another amount".to_owned()) }
}

impl PaymentProvider for KbankProvider {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn start<'a>(&'a self, request: &'a StartRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>> {
        Box::pin(measured(NAME, "start", self.request(request, log)))
    }

    fn inquire<'a>(&'a self, request: &'a InquiryRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>> {
        Box::pin(measured(NAME, "inquire", self.look(&request.key, request.now, log)))
    }

    fn cancel<'a>(&'a self, request: &'a CancelRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>> {
        Box::pin(measured(NAME, "cancel", self.stop(&request.key, request.now, log)))
    }

    fn refund<'a>(&'a self, request: &'a RefundRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<RefundStatus>> {
        Box::pin(measured(NAME, "refund", self.void(request, log)))
    }

    fn inquire_refund<'a>(&'a self, request: &'a RefundRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<RefundStatus>> {
        Box::pin(measured(NAME, "inquire_refund", self.look_refund(request, log)))
    }

    fn read_webhook(&self, raw: &RawWebhook<'_>) -> Result<WebhookHint, WebhookRefusal> {
        webhook::read(self.0.config(), raw)
    }
}
