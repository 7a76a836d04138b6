//! What a provider is asked.

use chrono::{DateTime, Utc};

use super::{Method, MethodKind};
use crate::{
    ids::{AttemptId, RefundId},
    money::Money,
};

/// Names one attempt at its provider, for every call about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptKey {
    /// Our attempt: the provider's idempotency key, the same on every repeat.
    pub attempt_id: AttemptId,
    /// Our reference at the provider: 1-20 characters of `[A-Z0-9]`, unique per attempt. See [`super::reference_of`].
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
