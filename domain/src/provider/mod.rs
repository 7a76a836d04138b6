//! The provider port: what the platform asks of a payment provider, and the words for its answers.
//!
//! The trait lives here so that the write side can drive payments without seeing the gateway. Every call is bracketed by
//! two durable facts (an attempt started before, its outcome after); the outcome words keep *declined* and *unknown* apart.

use std::{future::Future, pin::Pin};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ids::{AttemptId, RefundId},
    money::Money,
    payment_intent::DisputeOutcome,
};

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

/// Names one attempt at its provider, for every call about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptKey {
    /// Our attempt: the provider's idempotency key, the same on every repeat.
    pub attempt_id: AttemptId,
    /// Our reference at the provider: 1-20 characters of `[A-Z0-9]`, unique per attempt. See [`reference_of`].
    pub reference: String,
    /// The provider's own name for it (`chrg_...`, `pi_...`), once an answer told us.
    pub provider_id: Option<String>,
    /// What is owed, positive.
    pub amount: Money,
    /// When the attempt started (UTC); providers search by day.
    pub started_at: DateTime<Utc>,
}

/// Begin an attempt: ask for a QR, charge or hold on a card.
#[derive(Debug, Clone)]
pub struct StartRequest {
    /// Which attempt.
    pub key: AttemptKey,
    /// What the payer pays with.
    pub method: Method,
    /// Hold only; a capture follows.
    pub manual_capture: bool,
    /// When the intent stops accepting payment (UTC); passed on where the provider can enforce it.
    pub expires_at: DateTime<Utc>,
    /// Where the payer's browser goes after an action (3-D Secure).
    pub return_url: Option<String>,
    /// When the last earlier try had ended of which nobody knows what it did (UTC); nothing when there was none, so that nothing can
    /// be there. What a provider without idempotency must know before it repeats.
    pub uncertain_since: Option<DateTime<Utc>>,
}

/// What the payer must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextAction {
    /// Scan: the EMVCo payload text.
    ShowQr {
        /// EMVCo payload.
        payload: String,
    },
    /// Open an address (3-D Secure).
    Redirect {
        /// Absolute `https` address.
        url: String,
    },
}

/// Where an attempt stands in the provider's books *now*.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptStatus {
    /// Nothing by that name is visible, which proves nothing before the deadline and a margin after it.
    NotFound,
    /// The payer must act. An inquiry that cannot repeat the action says `Pending`.
    ActionRequired(NextAction),
    /// Known there, no result yet.
    Pending,
    /// The amount is held.
    Authorized {
        /// How much is held.
        amount: Money,
        /// When the provider lets go of it by itself (UTC), where it says so.
        capture_before: Option<DateTime<Utc>>,
    },
    /// Paid in full by the provider's words; `payments` says how much came.
    Paid,
    /// Refused, finally.
    Failed(Decline),
    /// Stopped there; nobody can pay it any more.
    Canceled,
    /// Its time ran out there, or a hold lapsed.
    Expired,
    /// A word that this connector does not know: unresolved, to be asked again and shown to a person.
    Unrecognized(String),
}

/// What the provider's books show of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptView {
    /// The provider's own name for it, where it has one.
    pub provider_id: Option<String>,
    /// Where it stands.
    pub status: AttemptStatus,
    /// All money that arrived on it, each transaction once.
    pub payments: Vec<PaymentSeen>,
}

/// Ask where an attempt stands.
#[derive(Debug, Clone)]
pub struct InquiryRequest {
    /// Which attempt.
    pub key: AttemptKey,
    /// How it is paid.
    pub method: MethodKind,
    /// Now (UTC): the last day to ask for.
    pub now: DateTime<Utc>,
}

/// One payment that the provider's books show on our reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentSeen {
    /// The provider's own transaction id; the key against double counting.
    pub transaction_id: String,
    /// What arrived.
    pub amount: Money,
    /// When it arrived by the provider's clock (UTC).
    pub paid_at: DateTime<Utc>,
    /// How much of it the provider shows as sent back, minor units.
    pub refunded: i64,
    /// Whether the payer contests it, where the provider speaks of disputes.
    pub dispute: Option<DisputeSeen>,
}

/// A dispute in the provider's books.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DisputeSeen {
    /// How it was decided; nothing while it is open.
    pub outcome: Option<DisputeOutcome>,
    /// The provider's word for why, 1 to 200 characters.
    pub reason: String,
}

impl PaymentSeen {
    /// All of it was sent back.
    pub const fn is_reversed(&self) -> bool {
        self.refunded >= self.amount.amount
    }
}

/// Capture a held amount, or a part of it; the rest is released.
#[derive(Debug, Clone)]
pub struct CaptureRequest {
    /// Which attempt.
    pub key: AttemptKey,
    /// Distinguishes this call from others about the attempt; the same on every repeat.
    pub idempotency_key: String,
    /// How much, at most what is held.
    pub amount: Money,
}

/// Raise a held amount.
#[derive(Debug, Clone)]
pub struct IncrementRequest {
    /// Which attempt.
    pub key: AttemptKey,
    /// The same on every repeat.
    pub idempotency_key: String,
    /// The new total to be held.
    pub amount: Money,
}

/// Stop an unpaid attempt, or let go of a held amount.
#[derive(Debug, Clone)]
pub struct CancelRequest {
    /// Which attempt.
    pub key: AttemptKey,
    /// How it is paid.
    pub method: MethodKind,
    /// Distinguishes this call from others about the attempt. A repeat may have another: what is stopped twice is stopped.
    pub idempotency_key: String,
    /// Now (UTC).
    pub now: DateTime<Utc>,
}

/// Ask for money to be sent back, or whether it was.
#[derive(Debug, Clone)]
pub struct RefundRequest {
    /// Our refund; the same on every repeat of this call.
    pub refund_id: RefundId,
    /// Our reference of the payment at the provider.
    pub reference: String,
    /// The provider's own name for the attempt, where it has one.
    pub provider_id: Option<String>,
    /// The provider's id of the payment.
    pub transaction_id: String,
    /// How much of it.
    pub amount: Money,
    /// The whole payment, so that a provider without partial refunds can refuse.
    pub captured: Money,
    /// When the payment arrived (UTC); some providers refund on the same day only.
    pub paid_at: DateTime<Utc>,
    /// As in [`StartRequest`].
    pub uncertain_since: Option<DateTime<Utc>>,
    /// Now (UTC).
    pub now: DateTime<Utc>,
}

/// Where a refund stands at the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefundStatus {
    /// The money went back. A provider may take this back later: `Failed` after `Succeeded` is possible.
    Succeeded {
        /// The provider's name for the refund.
        provider_reference: String,
    },
    /// Taken, not yet carried out.
    Pending {
        /// The provider's name for the refund.
        provider_reference: String,
    },
    /// Refused or come to nothing, finally.
    Failed(Decline),
    /// The books show no such refund, and would if it had been taken.
    NotFound,
}

/// A provider's call-back, exactly as it came.
#[derive(Debug, Clone)]
pub struct RawWebhook<'a> {
    /// The last path segment after the provider's name: some providers prove themselves by a secret path only.
    pub path_secret: Option<&'a str>,
    /// Header names in lower case, values as text.
    pub headers: &'a [(String, String)],
    /// The raw body.
    pub body: &'a [u8],
    /// When it came (UTC): signatures are good for 300 s on either side.
    pub received_at: DateTime<Utc>,
}

/// What a call-back speaks of. A hint: the books are asked before it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookHint {
    /// The key against double processing: the provider's event or transaction id.
    pub delivery_id: String,
    /// Which attempt it is about.
    pub subject: HintSubject,
    /// The money transaction that it speaks of, if any; looked for until the books show it.
    pub transaction_id: Option<String>,
    /// The body with which the provider wants to be answered (HTTP 200, JSON).
    pub acknowledgement: String,
}

/// How a call-back names what it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HintSubject {
    /// By our reference.
    Reference(String),
    /// By the provider's own name for the attempt.
    ProviderId(String),
    /// Nothing of ours (a customer was created, a test event): stored, acknowledged, done.
    Nothing,
}

/// Why a call-back was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebhookRefusal {
    /// The secret, signature or sender does not prove the provider.
    #[error("the sender could not be verified")]
    NotAuthentic,
    /// Proven once, but too old or from the future: a replay.
    #[error("the timestamp is more than 300 seconds away")]
    Stale,
    /// The body is not what the provider sends.
    #[error("the body is not a {0} notification: {1}")]
    Malformed(&'static str, String),
}

/// One exchange with a provider, for whoever must explain a payment later. Secrets, tokens and personal data are masked
/// by the connector before it is written here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// `start`, `inquire`, `capture` ...
    pub operation: &'static str,
    /// Method, path and query: `POST /charges`.
    pub request_line: String,
    /// Body as sent, masked.
    pub request_body: String,
    /// HTTP status; nothing when no answer came.
    pub status: Option<u16>,
    /// Body as received, masked and cut at 16 KiB; or what went wrong.
    pub response_body: String,
    /// When it was sent (UTC).
    pub sent_at: DateTime<Utc>,
    /// Milliseconds until the whole answer was there.
    pub took_ms: i64,
}

/// Collects the exchanges of one call on the port.
#[derive(Debug, Default)]
pub struct ExchangeLog(std::sync::Mutex<Vec<Exchange>>);

impl ExchangeLog {
    /// Adds one.
    pub fn record(&self, exchange: Exchange) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(exchange);
    }

    /// Whether nothing was sent so far.
    pub fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).is_empty()
    }

    /// All so far, oldest first; leaves none.
    pub fn take(&self) -> Vec<Exchange> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
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
