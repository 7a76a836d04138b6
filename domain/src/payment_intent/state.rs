//! What is remembered of a payment intent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{AttemptFailed, AttemptStarted, Created, Disputed, Rejection, Succeeded, UnmatchedPaymentReceived};
use crate::ids::{AttemptId, RefundId};

/// Life of a payment intent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Never created.
    #[default]
    Absent,
    /// No live attempt.
    RequiresPaymentMethod,
    /// The provider is being called, or its answer is unknown.
    Processing,
    /// The payer must act.
    RequiresAction,
    /// The full amount arrived.
    Succeeded,
    /// Stopped.
    Canceled,
    /// Time ran out.
    Expired,
}

impl Status {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::RequiresPaymentMethod => "requires_payment_method",
            Self::Processing => "processing",
            Self::RequiresAction => "requires_action",
            Self::Succeeded => "succeeded",
            Self::Canceled => "canceled",
            Self::Expired => "expired",
        }
    }
}

/// The live or last attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// As started.
    pub started: AttemptStarted,
    /// The QR, once there is one.
    pub qr_payload: Option<String>,
    /// The outcome of the last call is not known.
    pub unknown: bool,
    /// Refused; the attempt is dead.
    pub failed: Option<AttemptFailed>,
}

/// A refund under this payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundEntry {
    /// Minor units.
    pub amount: i64,
    /// Carried out.
    pub settled: bool,
}

/// What is remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Life.
    pub status: Status,
    /// As created.
    pub details: Option<Created>,
    /// The live or last attempt.
    pub attempt: Option<Attempt>,
    /// Attempts before it, oldest first; money may still arrive on their references.
    pub earlier: Vec<AttemptStarted>,
    /// How it succeeded.
    pub payment: Option<Succeeded>,
    /// Money that does not close it.
    pub unmatched: Vec<UnmatchedPaymentReceived>,
    /// The payer contests it.
    pub dispute: Option<Disputed>,
    /// The caller wants it stopped.
    pub cancel_requested: Option<String>,
    /// Refunds reserved and settled.
    pub refunds: BTreeMap<RefundId, RefundEntry>,
    /// Sum given back, minor units.
    pub refunded_total: i64,
}

impl State {
    /// The attempt on whose reference the money arrived, for tenders with a provider.
    pub fn paying_attempt(&self) -> Option<&AttemptStarted> {
        let attempt_id = self.payment.as_ref()?.attempt_id?;
        let last = self.attempt.as_ref().map(|attempt| &attempt.started);
        self.earlier.iter().chain(last).find(|started| started.attempt_id == attempt_id)
    }

    /// Minor units captured; zero unless succeeded.
    pub fn captured(&self) -> i64 {
        self.payment.as_ref().map_or(0, |payment| payment.amount.amount)
    }

    /// Minor units neither given back nor set aside for it.
    pub fn refundable(&self) -> i64 {
        self.captured().saturating_sub(self.refunds.values().map(|refund| refund.amount).sum())
    }

    pub(super) fn created(&self) -> Result<&Created, Rejection> {
        self.details.as_ref().ok_or(Rejection::PaymentIntentNotFound)
    }

    pub(super) fn live_attempt(&self, attempt_id: AttemptId) -> Option<&Attempt> {
        self.attempt.as_ref().filter(|attempt| attempt.started.attempt_id == attempt_id && attempt.failed.is_none())
    }

    pub(super) fn knows_transaction(&self, transaction_id: &str) -> bool {
        let paid = self.payment.as_ref().and_then(|payment| payment.transaction_id.as_deref());
        paid == Some(transaction_id) || self.unmatched.iter().any(|payment| payment.transaction_id == transaction_id)
    }

    pub(super) fn is_open(&self) -> bool {
        match self.status {
            Status::RequiresPaymentMethod | Status::Processing | Status::RequiresAction => true,
            Status::Absent | Status::Succeeded | Status::Canceled | Status::Expired => false,
        }
    }
}
