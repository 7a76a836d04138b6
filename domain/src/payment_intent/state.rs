//! What is remembered of a payment intent.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use chrono::{DateTime, Utc};

use super::{
    AttemptFailed, AttemptStarted, Authorized, Created, DisputeOutcome, Disputed, Rejection, Resolution, Succeeded,
    UnmatchedPaymentReceived,
};
use crate::{
    ids::{AttemptId, RefundId},
    money::Money,
    refund::ProviderPayment,
};

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
    /// The provider holds the amount; a capture is awaited.
    RequiresCapture,
    /// The full amount arrived, or what was captured of a hold.
    Succeeded,
    /// Stopped.
    Canceled,
    /// Time ran out.
    Expired,
    /// The last allowed attempt failed.
    Failed,
}

impl Status {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::RequiresPaymentMethod => "requires_payment_method",
            Self::Processing => "processing",
            Self::RequiresAction => "requires_action",
            Self::RequiresCapture => "requires_capture",
            Self::Succeeded => "succeeded",
            Self::Canceled => "canceled",
            Self::Expired => "expired",
            Self::Failed => "failed",
        }
    }
}

/// The live or last attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// As started.
    pub started: AttemptStarted,
    /// The provider's own name for it.
    pub provider_id: Option<String>,
    /// The QR, once there is one.
    pub qr_payload: Option<String>,
    /// The page that the payer must open, once there is one.
    pub redirect_url: Option<String>,
    /// The outcome of the last call is not known.
    pub unknown: bool,
    /// Since when it is not known (UTC).
    pub unknown_since: Option<DateTime<Utc>>,
    /// The provider gave no answer to the end of the schedule; since then a person has to look (UTC).
    pub left_to_person: Option<DateTime<Utc>>,
    /// What is held.
    pub authorized: Option<Authorized>,
    /// A capture is under way: minor units.
    pub capturing: Option<i64>,
    /// A higher hold was asked for: minor units of the new total.
    pub increasing: Option<i64>,
    /// Refused; the attempt is dead.
    pub failed: Option<AttemptFailed>,
}

impl Attempt {
    pub(super) fn new(started: AttemptStarted) -> Self {
        Self {
            started,
            provider_id: None,
            qr_payload: None,
            redirect_url: None,
            unknown: false,
            unknown_since: None,
            left_to_person: None,
            authorized: None,
            capturing: None,
            increasing: None,
            failed: None,
        }
    }

    /// The outcome is known now.
    pub(super) const fn know(&mut self) {
        self.unknown = false;
        self.unknown_since = None;
        self.left_to_person = None;
    }
}

/// Money that does not close the intent, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnmatchedPayment {
    /// As it arrived.
    pub received: UnmatchedPaymentReceived,
    /// What became of it; nothing while it is an open duty.
    pub resolution: Option<Resolution>,
    /// The refund that sends it back.
    pub refund_id: Option<RefundId>,
    /// The payer contests it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispute: Option<Disputed>,
    /// How that dispute was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispute_outcome: Option<DisputeOutcome>,
}

impl UnmatchedPayment {
    pub(super) fn new(received: UnmatchedPaymentReceived) -> Self {
        Self { received, resolution: None, refund_id: None, dispute: None, dispute_outcome: None }
    }

    /// Somebody has to decide what becomes of it; no more once the payer got it back by a dispute.
    pub fn is_open(&self) -> bool {
        self.resolution.is_none() && self.dispute_outcome != Some(DisputeOutcome::Lost)
    }

    /// It was sent back, and the payer got it by a dispute as well.
    fn went_back_twice(&self) -> bool {
        self.resolution == Some(Resolution::Refunded) && self.dispute_outcome == Some(DisputeOutcome::Lost)
    }

    /// The payer contests it and nothing is decided, or the payer got it back.
    pub fn is_contested(&self) -> bool {
        self.dispute.is_some() && self.dispute_outcome != Some(DisputeOutcome::Won)
    }
}

/// A refund under this payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundEntry {
    /// Minor units.
    pub amount: i64,
    /// Carried out.
    pub settled: bool,
}

/// A refund that had been carried out and did not happen after all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRefund {
    /// The refund.
    pub refund_id: RefundId,
    /// The next refund of the payment, with which somebody saw to it.
    pub followed_by: Option<RefundId>,
}

/// A refund of money beside the payment that a person had declared not sent, and that was, while another one sends the same money back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundBeyond {
    /// The refund.
    pub refund_id: RefundId,
    /// The provider's transaction that went back.
    pub transaction_id: String,
    /// Minor units.
    pub amount: i64,
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
    pub unmatched: Vec<UnmatchedPayment>,
    /// The payer contests it.
    pub dispute: Option<Disputed>,
    /// How the dispute was decided.
    pub dispute_outcome: Option<DisputeOutcome>,
    /// The caller wants it stopped.
    pub cancel_requested: Option<String>,
    /// Why it was stopped.
    pub canceled_because: Option<String>,
    /// Refunds reserved and settled.
    pub refunds: BTreeMap<RefundId, RefundEntry>,
    /// Sum given back, minor units.
    pub refunded_total: i64,
    /// Refunds that did not happen after all, oldest first.
    pub failed_refunds: Vec<FailedRefund>,
    /// Refunds under way of which the provider does not say how they stand: a person has to look.
    pub refunds_left_to_person: BTreeSet<RefundId>,
    /// Refunds that were left to a person and came to nothing: their provider may still show them.
    pub refunds_in_doubt: BTreeSet<RefundId>,
    /// Refunds beyond those that the money beside the payment has room for.
    pub refunds_beyond: Vec<RefundBeyond>,
    /// Minor units given back beyond what came of which a person has taken note; never more than there are.
    pub over_refund_acknowledged: i64,
}

impl State {
    /// An attempt by its id, live or dead.
    pub fn attempt_named(&self, attempt_id: AttemptId) -> Option<&AttemptStarted> {
        let last = self.attempt.as_ref().map(|attempt| &attempt.started);
        self.earlier.iter().chain(last).find(|started| started.attempt_id == attempt_id)
    }

    /// What a refund out of money on this attempt is asked for with. It goes by the account that took the money.
    pub fn provider_payment(
        &self,
        attempt_id: AttemptId,
        transaction_id: &str,
        captured: Money,
        paid_at: DateTime<Utc>,
    ) -> Option<ProviderPayment> {
        let started = self.attempt_named(attempt_id)?;
        let last = self.attempt.as_ref().filter(|last| last.started.attempt_id == attempt_id);
        Some(ProviderPayment {
            provider: started.account().to_owned(),
            reference: started.reference.clone(),
            provider_id: last.and_then(|last| last.provider_id.clone()),
            transaction_id: transaction_id.to_owned(),
            captured,
            paid_at,
        })
    }

    /// Minor units captured; zero unless succeeded.
    pub fn captured(&self) -> i64 {
        self.payment.as_ref().map_or(0, |payment| payment.amount.amount)
    }

    /// What the provider holds and a capture may take.
    pub fn held(&self) -> Option<&Authorized> {
        if self.status == Status::RequiresCapture { self.attempt.as_ref()?.authorized.as_ref() } else { None }
    }

    /// A capture of so much (minor units) is under way on this attempt. `told`: a person was told of it, and if that stands no more the
    /// person has decided.
    pub fn awaits_capture(&self, attempt_id: AttemptId, amount: i64, told: bool) -> bool {
        self.awaits(attempt_id, told, |attempt| attempt.capturing == Some(amount))
    }

    /// The same of a higher hold.
    pub fn awaits_increase(&self, attempt_id: AttemptId, total: i64, told: bool) -> bool {
        self.awaits(attempt_id, told, |attempt| attempt.increasing == Some(total))
    }

    fn awaits(&self, attempt_id: AttemptId, told: bool, asked: impl Fn(&Attempt) -> bool) -> bool {
        let attempt = self.live_attempt(attempt_id).filter(|_| self.is_open());
        attempt.is_some_and(|attempt| asked(attempt) && (!told || attempt.left_to_person.is_some()))
    }

    /// The attempt that a person may resolve out of a statement: its provider does not tell, and the intent is still open.
    pub fn left_to_person(&self) -> Option<&Attempt> {
        let left = |attempt: &&Attempt| self.is_open() && attempt.failed.is_none() && attempt.left_to_person.is_some();
        self.attempt.as_ref().filter(left)
    }

    /// The payer contests it and nothing is decided, or the payer got it back.
    pub fn is_contested(&self) -> bool {
        self.dispute.is_some() && self.dispute_outcome != Some(DisputeOutcome::Won)
    }

    /// A person has to look: money that nothing asks for, an open dispute, an outcome that the provider does not tell, of the payment
    /// or of a refund, a refund that did not happen after all, more given back than came of which nobody has taken note.
    pub fn needs_attention(&self) -> bool {
        let left = self.attempt.as_ref().is_some_and(|attempt| attempt.left_to_person.is_some());
        let open = self.unmatched.iter().any(UnmatchedPayment::is_open);
        let owed_back = self.failed_refunds.iter().any(|refund| refund.followed_by.is_none());
        let untold = !self.refunds_left_to_person.is_empty();
        let too_much = self.over_refunded() > self.over_refund_acknowledged;
        let undecided = |dispute: Option<&Disputed>, outcome: Option<DisputeOutcome>| dispute.is_some() && outcome.is_none();
        let contested = undecided(self.dispute.as_ref(), self.dispute_outcome)
            || self.unmatched.iter().any(|payment| undecided(payment.dispute.as_ref(), payment.dispute_outcome));
        open || owed_back || untold || too_much || contested || (left && self.is_open())
    }

    /// Minor units neither given back nor set aside for it, never below 0.
    pub fn refundable(&self) -> i64 {
        self.captured().saturating_sub(self.given_back()).max(0)
    }

    /// Minor units given back, or set aside for it, beyond what came. More than 0 only after a refund that a person had declared not
    /// sent was found to have been, while another one had been made, and where money beside the payment went back and was lost in a dispute.
    pub fn over_refunded(&self) -> i64 {
        let beyond = self.refunds_beyond.iter().map(|refund| refund.amount);
        let twice = self.unmatched.iter().filter(|payment| payment.went_back_twice()).map(|payment| payment.received.amount.amount);
        let besides = beyond.chain(twice).fold(0_i64, i64::saturating_add);
        self.given_back().saturating_sub(self.captured()).max(0).saturating_add(besides)
    }

    /// Minor units of the payment that went back or are set aside for it.
    fn given_back(&self) -> i64 {
        self.refunds.values().fold(0_i64, |sum, refund| sum.saturating_add(refund.amount))
    }

    /// Refunds of the payment and of money beside it of which the provider may know more than we do, each once.
    pub fn refunds_at_provider(&self) -> BTreeSet<RefundId> {
        let beside = self.unmatched.iter().filter_map(|payment| payment.refund_id);
        let beyond = self.refunds_beyond.iter().map(|refund| refund.refund_id);
        self.refunds.keys().chain(&self.refunds_in_doubt).copied().chain(beside).chain(beyond).collect()
    }

    pub(super) fn created(&self) -> Result<&Created, Rejection> {
        self.details.as_ref().ok_or(Rejection::PaymentIntentNotFound)
    }

    pub(super) fn live_attempt(&self, attempt_id: AttemptId) -> Option<&Attempt> {
        self.attempt.as_ref().filter(|attempt| attempt.started.attempt_id == attempt_id && attempt.failed.is_none())
    }

    /// Whether it is the payment's transaction, or that of money beside it.
    pub fn knows_transaction(&self, transaction_id: &str) -> bool {
        let paid = self.payment.as_ref().and_then(|payment| payment.transaction_id.as_deref());
        paid == Some(transaction_id) || self.unmatched.iter().any(|payment| payment.received.transaction_id == transaction_id)
    }

    /// The money beside the payment that the provider knows by this transaction. What was accepted is the payment itself, and what was
    /// contested before stays beside it.
    pub(super) fn money_beside(&self, transaction_id: &str) -> Option<&UnmatchedPayment> {
        let named = self.unmatched.iter().find(|payment| payment.received.transaction_id == transaction_id);
        named.filter(|payment| payment.resolution != Some(Resolution::Accepted) || payment.dispute.is_some())
    }

    pub(super) fn is_open(&self) -> bool {
        match self.status {
            Status::RequiresPaymentMethod | Status::Processing | Status::RequiresAction | Status::RequiresCapture => true,
            Status::Absent | Status::Succeeded | Status::Canceled | Status::Expired | Status::Failed => false,
        }
    }
}
