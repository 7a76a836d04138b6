//! What is to be done at a provider. Tasks are stored as JSON: a field that came later has a default, a name that changed an alias.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    ids::{AttemptId, PaymentIntentId, RefundId},
    money::Money,
    payment_intent::Tender,
    refund::ProviderPayment,
};

/// Something to do at a provider, now or later. A row until it is done, so that a restart loses none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Task {
    /// Begin an attempt: ask for a QR, charge or hold on a card.
    #[serde(alias = "create_qr")]
    Start {
        /// Which attempt.
        #[serde(flatten)]
        attempt: AttemptRef,
        /// For a card: the provider's token.
        #[serde(default)]
        card_token: Option<String>,
        /// Where the payer's browser goes after an action.
        #[serde(default)]
        return_url: Option<String>,
        /// How often it was tried before.
        tried: u32,
        /// When the last try had ended of which nobody knows what it did (UTC); nothing when there was none.
        #[serde(default)]
        uncertain_since: Option<DateTime<Utc>>,
    },
    /// Capture what is held.
    Capture {
        /// Of which attempt.
        #[serde(flatten)]
        attempt: AttemptRef,
        /// How much, minor units.
        capture: i64,
        /// The log position of the request: two requests for the same amount are two.
        #[serde(default)]
        request: i64,
        /// How often it was tried before.
        tried: u32,
        /// Since when nobody knows what came of it (UTC).
        #[serde(default)]
        unclear_since: Option<DateTime<Utc>>,
        /// When the last of those calls ended that may have been carried out without an answer (UTC).
        #[serde(default)]
        uncertain_since: Option<DateTime<Utc>>,
        /// A person was told.
        #[serde(default)]
        told: bool,
    },
    /// Hold more.
    Increase {
        /// On which attempt.
        #[serde(flatten)]
        attempt: AttemptRef,
        /// The new total, minor units.
        total: i64,
        /// The log position of the request.
        #[serde(default)]
        request: i64,
        /// How often it was tried before.
        tried: u32,
        /// Since when nobody knows what came of it (UTC).
        #[serde(default)]
        unclear_since: Option<DateTime<Utc>>,
        /// A person was told.
        #[serde(default)]
        told: bool,
    },
    /// Stop an attempt at the provider.
    Stop {
        /// Which attempt.
        #[serde(flatten)]
        attempt: AttemptRef,
        /// Why: `Cancel` for a caller, `Watch` because its time ran out.
        mode: InquiryMode,
        /// How often it was tried before.
        tried: u32,
    },
    /// Ask what was paid.
    Inquire {
        /// About which attempt.
        #[serde(flatten)]
        attempt: AttemptRef,
        /// Why.
        mode: InquiryMode,
        /// How often it was asked before.
        asked: u32,
    },
    /// An attempt failed for a reason that lies with its account: go on at another one, if there is any.
    Reroute {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// The attempt that failed.
        attempt_id: AttemptId,
    },
    /// End an intent that nobody confirms, once its time is up.
    Lapse {
        /// The payment.
        payment_intent_id: PaymentIntentId,
    },
    /// A call-back named our reference; find the attempt, then ask until the books show what it spoke of.
    FollowHint {
        /// The account: `pac_…`, or the provider's name for the platform's own.
        provider: String,
        /// Our reference, or the provider's own name for the attempt.
        reference: String,
        /// The provider's transaction that the call-back spoke of, if any; looked for until the books show it.
        transaction_id: Option<String>,
        /// How often it was not found.
        tried: u32,
    },
    /// Send money back.
    Refund(RefundRef),
    /// Ask whether money went back.
    CheckRefund(RefundRef),
}

impl Task {
    /// Whether its call can move money, or make something that can be paid.
    pub const fn moves_money(&self) -> bool {
        match self {
            Self::Start { .. } | Self::Capture { .. } | Self::Increase { .. } | Self::Stop { .. } | Self::Refund(_) => true,
            Self::Inquire { .. } | Self::Reroute { .. } | Self::Lapse { .. } | Self::FollowHint { .. } | Self::CheckRefund(_) => false,
        }
    }

    /// Whether its call must not be made again as if for the first time: a provider would say that its token was used, or that such a
    /// refund or capture exists, and be believed. So a lease of it waits for the disk.
    pub const fn begins_something(&self) -> bool {
        matches!(self, Self::Start { .. } | Self::Capture { .. } | Self::Refund(_))
    }
}

/// Why a provider is asked what was paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InquiryMode {
    /// On the schedule, to the deadline and beyond.
    Watch,
    /// The caller wants to stop.
    Cancel,
}

/// An attempt as a provider call needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRef {
    /// The payment.
    pub payment_intent_id: PaymentIntentId,
    /// The attempt.
    pub attempt_id: AttemptId,
    /// The account: `pac_…`, or the provider's name for the platform's own.
    pub provider: String,
    /// Our reference there.
    pub reference: String,
    /// The provider's own name for it, once it is known.
    #[serde(default)]
    pub provider_id: Option<String>,
    /// How it is paid.
    #[serde(default = "by_qr")]
    pub tender: Tender,
    /// The amount is held only.
    #[serde(default)]
    pub manual_capture: bool,
    /// What is owed.
    pub amount: Money,
    /// When the attempt started (UTC).
    pub created_at: DateTime<Utc>,
    /// When it stops accepting payment (UTC).
    pub expires_at: DateTime<Utc>,
}

/// A refund as a provider call needs it, and how its calls went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundRef {
    /// The refund.
    pub refund_id: RefundId,
    /// How much.
    pub amount: Money,
    /// Out of which payment.
    pub payment: ProviderPayment,
    /// How often its provider was called before.
    pub tried: u32,
    /// As for `Start`.
    #[serde(default)]
    pub uncertain_since: Option<DateTime<Utc>>,
    /// Since when no answer said how it stands (UTC); nothing after one that did.
    #[serde(default)]
    pub unclear_since: Option<DateTime<Utc>>,
    /// Since when its books are looked at although a person has decided (UTC).
    #[serde(default)]
    pub decided_since: Option<DateTime<Utc>>,
}

impl RefundRef {
    /// Before the first call.
    pub const fn new(refund_id: RefundId, amount: Money, payment: ProviderPayment) -> Self {
        Self { refund_id, amount, payment, tried: 0, uncertain_since: None, unclear_since: None, decided_since: None }
    }
}

/// The only way to pay when tasks did not name it.
const fn by_qr() -> Tender {
    Tender::PromptPay
}
