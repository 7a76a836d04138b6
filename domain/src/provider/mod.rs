//! The provider port: what the platform asks of a payment provider, and the words for its answers.
//!
//! The trait lives here so that the write side can drive payments without seeing the gateway. Every call is bracketed by
//! two durable facts (an attempt started before, its outcome after); the outcome words keep *declined* and *unknown* apart.

use std::{future::Future, pin::Pin};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::AttemptId;

mod books;
mod exchange;
pub mod masking;
mod request;
mod webhook;

pub use books::{AttemptStatus, AttemptView, DisputeSeen, NextAction, PaymentSeen, RefundStatus, void_reference, voided_transaction};
pub use exchange::{Exchange, ExchangeLog};
pub use request::{AttemptKey, CancelRequest, CaptureRequest, IncrementRequest, InquiryRequest, RefundRequest, StartRequest};
pub use webhook::{HintSubject, RawWebhook, WebhookHint, WebhookRefusal};

/// A boxed future, so that the port stays object safe and free of any runtime.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What came of one call. Source of the split: Kill Bill's payment plugin results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallOutcome<T> {
    /// The provider did what was asked and said so.
    Done(T),
    /// The provider refused, finally, and nothing happened there.
    Declined(Decline),
    /// The request certainly did not reach the provider's books (refused connection, open breaker, rate limit); safe to repeat.
    NotAttempted(String),
    /// Nobody knows: time-out, cut or unreadable answer, 5xx. Money may have moved; resolve by inquiry, never by a new charge.
    Unknown(String),
}

/// Why a call was [not attempted](CallOutcome::NotAttempted) that found no place among our own calls to its provider: no word on the
/// provider.
pub const NO_PLACE: &str = "too many calls to the provider are under way";

/// Why a call was not attempted in a pause that the provider asked for: nothing new about it.
pub const PAUSED: &str = "paused: the provider said that there were too many calls";

/// Whether a call was held back here, whatever was said before it (a token may have been asked for first).
pub fn is_held_back(reason: &str) -> bool {
    reason.ends_with(NO_PLACE) || reason.ends_with(PAUSED)
}

/// A final refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decline {
    /// Our stable word for it, snake case (`not_supported`, `cut_off_passed`, `invalid_request`, `credentials_refused` …).
    pub code: String,
    /// The provider's own code and text, without secrets or personal data.
    pub message: String,
}

/// What a provider can do; callers ask before they call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a question of its own that callers ask")]
pub struct Capabilities {
    /// Which methods it takes.
    pub methods: &'static [MethodKind],
    /// Money can be held first and captured later.
    pub manual_capture: bool,
    /// Less than what is held can be captured; the rest is released.
    pub partial_capture: bool,
    /// What is held can be raised.
    pub incremental_authorization: bool,
    /// An unpaid attempt can be stopped at the provider, so that nobody can pay it any more.
    pub cancel: bool,
    /// Money can be sent back by a call.
    pub refund: bool,
    /// Less than the whole payment can be sent back, several times.
    pub partial_refund: bool,
    /// A call-back proves its sender by a signature; otherwise only by a secret path.
    pub signed_webhooks: bool,
}

impl Capabilities {
    /// Whether a code can still be paid when nobody waits for it any more, because nothing stops it.
    pub const fn codes_stay_payable(&self) -> bool {
        !self.cancel
    }
}

/// A way to pay, as providers know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MethodKind {
    /// A merchant-presented PromptPay QR.
    #[serde(rename = "promptpay")]
    PromptPay,
    /// A card, by the provider's token.
    Card,
}

impl MethodKind {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PromptPay => "promptpay",
            Self::Card => "card",
        }
    }
}

/// What the payer pays with, for one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method {
    /// A merchant-presented PromptPay QR.
    PromptPay,
    /// A card that the provider's own page or library has turned into a token (`tokn_…`, `pm_…`); the number is never here.
    Card {
        /// The provider's token; usable once.
        token: String,
    },
}

impl Method {
    /// Its kind.
    pub const fn kind(&self) -> MethodKind {
        match self {
            Self::PromptPay => MethodKind::PromptPay,
            Self::Card { .. } => MethodKind::Card,
        }
    }
}

/// A payment provider, as one merchant's account there. Every call that moves money may be repeated with the same identifiers and
/// then happens once; what a connector cannot promise by the provider's idempotency it achieves by looking first.
pub trait PaymentProvider: Send + Sync {
    /// Stable lower-case name, used in events and in the webhook path: `scb`.
    fn name(&self) -> &'static str;
    /// What it can do.
    fn capabilities(&self) -> Capabilities;
    /// Begins an attempt. Repeating it with the same key gives a thing of the same meaning, never a second charge.
    fn start<'a>(&'a self, request: &'a StartRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>>;
    /// Where an attempt stands. A read: `Declined` and `Unknown` say nothing about the attempt.
    fn inquire<'a>(&'a self, request: &'a InquiryRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>>;
    /// Captures a held amount. Only with `manual_capture`.
    fn capture<'a>(&'a self, request: &'a CaptureRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>> {
        let _ = (request, log);
        not_supported("capture")
    }
    /// Raises a held amount. Only with `incremental_authorization`.
    fn increment<'a>(&'a self, request: &'a IncrementRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>> {
        let _ = (request, log);
        not_supported("increment")
    }
    /// Stops an unpaid attempt or lets go of a held amount. A provider without `cancel` answers `Declined` (`not_supported`);
    /// one that finds the attempt paid answers `Done` with what its books show: the cancel lost.
    fn cancel<'a>(&'a self, request: &'a CancelRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>> {
        let _ = (request, log);
        not_supported("cancel")
    }
    /// Sends money back.
    fn refund<'a>(&'a self, request: &'a RefundRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<RefundStatus>>;
    /// Where a refund stands. A read.
    fn inquire_refund<'a>(&'a self, request: &'a RefundRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<RefundStatus>>;
    /// Verifies and reads a call-back; pure, constant-time where secrets are compared.
    ///
    /// # Errors
    /// `NotAuthentic` and `Stale` (answer 401), `Malformed` (answer 400).
    fn read_webhook(&self, raw: &RawWebhook<'_>) -> Result<WebhookHint, WebhookRefusal>;
}

fn not_supported<'a, T: Send + 'a>(what: &'static str) -> BoxFuture<'a, CallOutcome<T>> {
    let message = format!("the provider has no {what}");
    Box::pin(std::future::ready(CallOutcome::Declined(Decline { code: "not_supported".to_owned(), message })))
}

/// The provider reference of an attempt: the last 20 characters of its ULID, which satisfies the narrowest provider
/// (`[A-Z0-9]`, 20 characters) and keeps all 80 random bits. Source: SCB developer API, `ref1`.
pub fn reference_of(attempt_id: AttemptId) -> String {
    attempt_id.0.to_string()[6..].to_owned()
}
