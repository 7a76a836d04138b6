//! Facts of a payment intent: what is stored for ever.

use chrono::{DateTime, NaiveDate, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    event::events,
    ids::{AttemptId, BillId, OrderId, PaymentIntentId, RefundId, StoreId},
    money::Money,
};

pub use super::event_cases::{
    AttemptAccepted, DisputeOutcome, DisputeResolved, Failed, LeftToPerson, OverRefundAcknowledged, ProviderConfirmed, Resolution,
    ResolvedByPerson, UnmatchedRefunded, UnmatchedReopened, UnmatchedResolved, Updated,
};
pub use super::event_hold::{Authorized, CaptureFailed, CaptureRequested, IncreaseFailed, IncreaseRequested};
use super::terms::Terms;

/// How money is tendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tender {
    /// Notes and coins.
    Cash,
    /// A merchant-presented PromptPay QR.
    #[serde(rename = "promptpay")]
    PromptPay,
    /// A card taken by an outside terminal and recorded here.
    Card,
    /// A card charged through a provider, by the provider's token.
    OnlineCard,
    /// On account, recorded here.
    Invoice,
    /// Money came, but the record does not say how; never guessed.
    Unknown,
}

impl Tender {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cash => "cash",
            Self::PromptPay => "promptpay",
            Self::Card => "card",
            Self::OnlineCard => "online_card",
            Self::Invoice => "invoice",
            Self::Unknown => "unknown",
        }
    }

    /// Money moves outside the platform and is recorded when staff (or an import) say so.
    pub const fn is_recorded(self) -> bool {
        match self {
            Self::Cash | Self::Card | Self::Invoice | Self::Unknown => true,
            Self::PromptPay | Self::OnlineCard => false,
        }
    }
}

/// What makes us believe that money moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// Staff took it.
    Staff,
    /// A historical record was imported.
    Import,
    /// The provider was asked.
    Inquiry,
    /// A person found it on a bank or provider statement.
    Statement,
}

/// Created: an amount is to be collected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Created {
    /// The intent.
    pub payment_intent_id: PaymentIntentId,
    /// Where.
    pub store_id: StoreId,
    /// The bill that it pays, if any.
    pub bill_id: Option<BillId>,
    /// The order behind the bill.
    pub order_id: Option<OrderId>,
    /// What is owed.
    pub amount: Money,
    /// How it will be tendered.
    pub tender: Tender,
    /// When it stops accepting payment, UTC; nothing for recorded tenders.
    pub expires_at: Option<DateTime<Utc>>,
    /// The caller's own reference.
    pub merchant_reference: Option<String>,
    /// What it is for, in the caller's words.
    pub description: Option<String>,
    /// The caller's own name of the terminal that takes it.
    pub merchant_terminal_id: Option<String>,
    /// How attempts are to be made; nothing for recorded tenders, and where it was not kept.
    pub terms: Option<Terms>,
}

/// An attempt is about to call the provider. The fact before the call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptStarted {
    /// The intent, for whoever makes the call.
    pub payment_intent_id: PaymentIntentId,
    /// The attempt; the provider's idempotency key.
    pub attempt_id: AttemptId,
    /// The provider's name.
    pub provider: String,
    /// Which of the merchant's accounts there, where there are several.
    pub provider_account: Option<String>,
    /// Why this provider was chosen, in words; nothing when there was no choice.
    pub route: Option<String>,
    /// Our reference there.
    pub reference: String,
    /// What is owed.
    pub amount: Money,
    /// How it is paid; a tender that has a provider.
    pub tender: Tender,
    /// For a card: the provider's token, usable once. Left out where an attempt is named again.
    pub card_token: Option<String>,
    /// The amount is held only; a capture follows.
    pub manual_capture: bool,
    /// Where the payer's browser goes after an action.
    pub return_url: Option<String>,
    /// When it started, UTC; providers search by day.
    pub started_at: DateTime<Utc>,
    /// When it stops accepting payment, UTC.
    pub expires_at: DateTime<Utc>,
}

impl AttemptStarted {
    /// The account that it goes to: `pac_…`, or the provider's name for the platform's own.
    pub fn account(&self) -> &str {
        self.provider_account.as_deref().unwrap_or(&self.provider)
    }
}

impl AttemptStarted {
    /// The same without its token, for facts that name the attempt again.
    #[must_use]
    pub fn named(&self) -> Self {
        Self { card_token: None, ..self.clone() }
    }
}

/// The payer must act: a QR is ready, or a page to open. One of the two is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ActionRequired {
    /// The attempt.
    pub attempt_id: AttemptId,
    /// EMVCo payload to show.
    pub qr_payload: Option<String>,
    /// Address to open (3-D Secure).
    pub redirect_url: Option<String>,
}

/// The provider refused the attempt, finally.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptFailed {
    /// The attempt.
    pub attempt_id: AttemptId,
    /// The bill that held the amount.
    pub bill_id: Option<BillId>,
    /// Our word.
    pub code: String,
    /// The provider's words.
    pub message: String,
}

/// Nobody knows what the provider did; it will be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutcomeUnknown {
    /// The attempt.
    pub attempt_id: AttemptId,
    /// What happened.
    pub reason: String,
    /// Since when (UTC).
    pub since: Option<DateTime<Utc>>,
}

/// The full amount arrived, or what was captured of a hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Succeeded {
    /// The intent.
    pub payment_intent_id: PaymentIntentId,
    /// The bill that it pays, if any.
    pub bill_id: Option<BillId>,
    /// How it was tendered.
    pub tender: Tender,
    /// The attempt, for provider tenders.
    pub attempt_id: Option<AttemptId>,
    /// The provider's transaction, or the approval code of an outside terminal.
    pub transaction_id: Option<String>,
    /// What arrived.
    pub amount: Money,
    /// When, by whoever took it (UTC).
    pub paid_at: DateTime<Utc>,
    /// Why we believe it.
    pub evidence: Evidence,
    /// For cash: handed over, minor units.
    pub cash_received: Option<i64>,
    /// For cash: given back as change, minor units.
    pub cash_change: Option<i64>,
    /// For cash: rounding collected beside `amount`, signed minor units.
    pub cash_rounding: i64,
    /// Tip collected beside `amount`, minor units: passed on to staff, not the shop's revenue.
    pub tip: i64,
    /// Who takes the money in for the shop (acquirer, terminal operator), in the shop's own word.
    pub acquirer: Option<String>,
}

/// The payer contests the payment with their bank, or at the counter; whether the money stays is not decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Disputed {
    /// The intent.
    pub payment_intent_id: PaymentIntentId,
    /// Where.
    pub store_id: StoreId,
    /// The bill that it paid, if any.
    pub bill_id: Option<BillId>,
    /// The store's business date at that moment.
    pub business_date: NaiveDate,
    /// How it was tendered.
    pub tender: Tender,
    /// Who took the money in for the shop.
    pub acquirer: Option<String>,
    /// What is contested: all that was not given back.
    pub amount: Money,
    /// Why.
    pub reason: String,
    /// When (UTC).
    pub disputed_at: DateTime<Utc>,
    /// Of money that did not close the intent: the provider's transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmatched_transaction_id: Option<String>,
}

/// Money on our reference that does not close the intent: another amount, a second payment, or too late.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnmatchedPaymentReceived {
    /// Why it does not close the intent.
    pub why: UnmatchedReason,
    /// The attempt on whose reference it arrived.
    pub attempt_id: Option<AttemptId>,
    /// The provider's transaction.
    pub transaction_id: String,
    /// What arrived.
    pub amount: Money,
    /// When (UTC).
    pub paid_at: DateTime<Utc>,
}

/// Why money does not close an intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnmatchedReason {
    /// Less, more or another currency than owed.
    AmountDiffers,
    /// The intent had succeeded already.
    Duplicate,
    /// The intent was canceled or expired.
    Late,
}

/// The caller wants it stopped; the provider is asked first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CancelRequested {
    /// The live attempt, for whoever asks the provider.
    pub attempt: AttemptStarted,
    /// The provider's own name for it.
    pub provider_id: Option<String>,
    /// Why.
    pub reason: String,
}

/// Stopped: nothing was sent to a provider, or it showed no payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Canceled {
    /// The bill that held the amount.
    pub bill_id: Option<BillId>,
    /// Why.
    pub reason: String,
}

/// Time ran out and the provider showed no payment after the deadline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Expired {
    /// The bill that held the amount.
    pub bill_id: Option<BillId>,
}

/// Part of the captured money is set aside for a refund.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefundReserved {
    /// The refund.
    pub refund_id: RefundId,
    /// Minor units.
    pub amount: i64,
}

/// The refund was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefundSettled {
    /// The refund.
    pub refund_id: RefundId,
    /// Minor units.
    pub amount: i64,
    /// Sum given back now.
    pub refunded_total: i64,
}

/// The refund came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefundReleased {
    /// The refund.
    pub refund_id: RefundId,
    /// Minor units freed.
    pub amount: i64,
}

/// A refund that had been carried out did not happen after all: the balance is as before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefundTakenBack {
    /// The refund.
    pub refund_id: RefundId,
    /// Minor units that can be given back again.
    pub amount: i64,
    /// Sum given back now.
    pub refunded_total: i64,
}

/// A refund that a person had declared not sent was: it counts as given back, also where another one was made meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefundFoundSent {
    /// The refund.
    pub refund_id: RefundId,
    /// Minor units that went back.
    pub amount: i64,
    /// Sum given back now, of the payment itself.
    pub refunded_total: i64,
    /// Minor units by which what went back, or is set aside for it, is more than what came; 0 where no other refund was made.
    pub excess: i64,
    /// Of money that did not close the intent and that another refund sends back, or sent: the provider's transaction.
    pub unmatched_transaction_id: Option<String>,
}

/// For too long the provider does not say how a refund stands: a person has to look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefundLeftToPerson {
    /// The refund, of the payment or of money beside it.
    pub refund_id: RefundId,
}

events! {
    /// Facts of a payment intent.
    {
        /// An amount is to be collected.
        Created = "payment_intent.created" v 3;
        /// An attempt is about to call the provider.
        AttemptStarted = "payment_intent.attempt_started" v 2;
        /// The provider knows the attempt under a name of its own.
        AttemptAccepted = "payment_intent.attempt_accepted" v 1;
        /// The payer must act.
        ActionRequired = "payment_intent.action_required" v 2;
        /// The provider refused the attempt.
        AttemptFailed = "payment_intent.attempt_failed" v 1;
        /// Nobody knows what the provider did.
        OutcomeUnknown = "payment_intent.outcome_unknown" v 2;
        /// The full amount arrived, or what was captured of a hold.
        Succeeded = "payment_intent.succeeded" v 2;
        /// The payer contests the payment.
        Disputed = "payment_intent.disputed" v 1;
        /// The dispute is decided.
        DisputeResolved = "payment_intent.dispute_resolved" v 1;
        /// Money that does not close the intent.
        UnmatchedPaymentReceived = "payment_intent.unmatched_payment_received" v 2;
        /// What became of money that does not close the intent.
        UnmatchedResolved = "payment_intent.unmatched_resolved" v 1;
        /// Its refund was carried out.
        UnmatchedRefunded = "payment_intent.unmatched_refunded" v 1;
        /// Its refund came to nothing: somebody has to look again.
        UnmatchedReopened = "payment_intent.unmatched_reopened" v 1;
        /// The caller wants it stopped.
        CancelRequested = "payment_intent.cancel_requested" v 2;
        /// Stopped.
        Canceled = "payment_intent.canceled" v 1;
        /// Time ran out without a payment.
        Expired = "payment_intent.expired" v 1;
        /// What is asked for changed.
        Updated = "payment_intent.updated" v 2;
        /// No further attempt is allowed.
        Failed = "payment_intent.failed" v 1;
        /// The amount is held.
        Authorized = "payment_intent.authorized" v 1;
        /// A capture is about to be asked for.
        CaptureRequested = "payment_intent.capture_requested" v 1;
        /// The provider refused the capture.
        CaptureFailed = "payment_intent.capture_failed" v 1;
        /// A higher hold is about to be asked for.
        IncreaseRequested = "payment_intent.increase_requested" v 1;
        /// The provider refused the higher hold.
        IncreaseFailed = "payment_intent.increase_failed" v 1;
        /// The provider was asked to the end of the schedule and gave no answer.
        LeftToPerson = "payment_intent.left_to_person" v 1;
        /// A person says what happened.
        ResolvedByPerson = "payment_intent.resolved_by_person" v 1;
        /// The provider shows the payment that a person had found.
        ProviderConfirmed = "payment_intent.provider_confirmed" v 1;
        /// Money set aside for a refund.
        RefundReserved = "payment_intent.refund_reserved" v 1;
        /// The refund was carried out.
        RefundSettled = "payment_intent.refund_settled" v 1;
        /// The refund came to nothing.
        RefundReleased = "payment_intent.refund_released" v 1;
        /// The refund did not happen after all.
        RefundTakenBack = "payment_intent.refund_taken_back" v 1;
        /// The refund was sent, and a person had declared that it was not.
        RefundFoundSent = "payment_intent.refund_found_sent" v 1;
        /// For too long nobody knows how the refund stands.
        RefundLeftToPerson = "payment_intent.refund_left_to_person" v 1;
        /// Somebody took note that more was given back than came.
        OverRefundAcknowledged = "payment_intent.over_refund_acknowledged" v 1;
    }
}
