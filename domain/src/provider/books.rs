//! What a provider's books show.

use chrono::{DateTime, Utc};

use super::Decline;
use crate::{money::Money, payment_intent::DisputeOutcome};

/// Before the payment in the name of a void.
const VOID: &str = "void:";

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

/// By what we know a void that has no name of its own at the provider: by the payment that it sends back.
pub fn void_reference(transaction_id: &str) -> String {
    format!("{VOID}{transaction_id}")
}

/// The payment that such a void sent back; nothing for a refund that has a name of its own.
pub fn voided_transaction(provider_reference: &str) -> Option<&str> {
    provider_reference.strip_prefix(VOID)
}
