//! The provider port: what the platform asks of a payment provider, and the words for its answers.
//!
//! The trait lives here so that the write side can drive payments without seeing the gateway. Every call is bracketed by
//! two durable facts (an attempt started before, its outcome after); the outcome words keep *declined* and *unknown* apart.

use std::{future::Future, pin::Pin};

use chrono::{DateTime, Utc};

use crate::{
    ids::{AttemptId, RefundId},
    money::Money,
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
pub struct Capabilities {
    /// Money can be sent back by a call.
    pub refund: bool,
    /// Less than the whole payment can be sent back.
    pub partial_refund: bool,
}

/// Ask for a merchant-presented QR of one amount.
#[derive(Debug, Clone)]
pub struct QrRequest {
    /// Our attempt; the same on every repeat of this call.
    pub attempt_id: AttemptId,
    /// Our reference at the provider: 1–20 characters of `[A-Z0-9]`, unique per attempt. See [`reference_of`].
    pub reference: String,
    /// What the payer owes, positive.
    pub amount: Money,
    /// When the intent stops accepting payment (UTC); passed on where the provider can enforce it.
    pub expires_at: DateTime<Utc>,
}

/// A QR that can be paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QrCreated {
    /// EMVCo payload text.
    pub payload: String,
}

/// Ask what was paid on a reference.
#[derive(Debug, Clone)]
pub struct InquiryRequest {
    /// The reference given at creation.
    pub reference: String,
    /// When the QR was created (UTC); providers search by day.
    pub created_at: DateTime<Utc>,
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
    /// The provider shows it as sent back.
    pub reversed: bool,
}

/// Ask for money to be sent back.
#[derive(Debug, Clone)]
pub struct RefundRequest {
    /// Our refund; the same on every repeat of this call.
    pub refund_id: RefundId,
    /// The payment's reference.
    pub reference: String,
    /// The provider's id of the payment.
    pub transaction_id: String,
    /// How much of it.
    pub amount: Money,
    /// The whole payment, so that a provider without partial refunds can refuse.
    pub captured: Money,
    /// When the payment arrived (UTC); some providers refund on the same day only.
    pub paid_at: DateTime<Utc>,
}

/// A refund that the provider carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundDone {
    /// The provider's name for the refund.
    pub provider_reference: String,
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
}

/// What a call-back claims. A hint: the payment is confirmed by inquiry before it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookHint {
    /// The provider's transaction id: the key against double processing.
    pub transaction_id: String,
    /// Our reference that it names.
    pub reference: String,
    /// The body with which the provider wants to be answered (HTTP 200, JSON).
    pub acknowledgement: String,
}

/// Why a call-back was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebhookRefusal {
    /// The secret, signature or sender does not prove the provider.
    #[error("the sender could not be verified")]
    NotAuthentic,
    /// The body is not what the provider sends.
    #[error("the body is not a {0} notification: {1}")]
    Malformed(&'static str, String),
}

/// A payment provider.
pub trait PaymentProvider: Send + Sync {
    /// Stable lower-case name, used in events and in the webhook path: `scb`.
    fn name(&self) -> &'static str;
    /// What it can do.
    fn capabilities(&self) -> Capabilities;
    /// Creates a QR. Repeating with the same reference gives a QR of the same meaning.
    fn create_qr<'a>(&'a self, request: &'a QrRequest) -> BoxFuture<'a, CallOutcome<QrCreated>>;
    /// All payments seen on a reference; `Done(vec![])` means none is visible *now*, which proves nothing before the deadline.
    fn inquire<'a>(&'a self, request: &'a InquiryRequest) -> BoxFuture<'a, CallOutcome<Vec<PaymentSeen>>>;
    /// Sends money back.
    fn refund<'a>(&'a self, request: &'a RefundRequest) -> BoxFuture<'a, CallOutcome<RefundDone>>;
    /// Verifies and reads a call-back; pure, constant-time where secrets are compared.
    ///
    /// # Errors
    /// `NotAuthentic` (answer 401), `Malformed` (answer 400).
    fn read_webhook(&self, raw: &RawWebhook<'_>) -> Result<WebhookHint, WebhookRefusal>;
}

/// The provider reference of an attempt: the last 20 characters of its ULID, which satisfies the narrowest provider
/// (`[A-Z0-9]`, 20 characters) and keeps all 80 random bits. Source: SCB developer API, `ref1`.
pub fn reference_of(attempt_id: AttemptId) -> String {
    attempt_id.0.to_string()[6..].to_owned()
}
