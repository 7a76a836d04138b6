//! Process managers: pure functions from an event to what must follow in other streams or at a provider.
//!
//! The driver executes each [`Intent`] with a key derived from (manager, position, n), so that a replay repeats nothing.
//! **To add one**: a new file named after the flow with a `react` function, one line in [`ALL`]; the tests in `mod.rs` that
//! repeat every reaction apply to it at once.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    event::DomainEvent,
    ids::{AttemptId, BillId, MerchantId, OrderId, PaymentIntentId, RefundId},
    money::Money,
    payment_intent::{AttemptEnd, DisputeOutcome, PaymentReport, Tender},
    refund::ProviderPayment,
};

pub mod checkout;
pub mod provider_calls;
pub mod refund;
pub mod rerouting;
pub mod work;
pub mod work_books;
pub mod work_hint;
pub mod work_hold;
pub mod work_lapse;
pub mod work_refund;

/// A command to one aggregate, as a process manager or a provider worker issues it.
#[derive(Debug, Clone)]
pub enum ProcessCommand {
    /// Put captured money against the bill.
    AllocatePayment {
        /// The bill.
        bill_id: BillId,
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// How it was tendered.
        tender: Tender,
        /// Minor units.
        amount: i64,
        /// Cash rounding beside it.
        cash_rounding: i64,
        /// Tip collected beside it.
        tip: i64,
        /// Who took the money in for the shop.
        acquirer: Option<String>,
    },
    /// Free what a payment that came to nothing held.
    ReleaseReservation {
        /// The bill.
        bill_id: BillId,
        /// The payment.
        payment_intent_id: PaymentIntentId,
    },
    /// The bill is paid.
    CompleteOrder {
        /// The order.
        order_id: OrderId,
        /// Its paid bill.
        bill_id: BillId,
    },
    /// The refund was carried out: tell the payment.
    SettleRefund {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// The refund.
        refund_id: RefundId,
    },
    /// The refund was carried out: tell the bill.
    RecordBillRefund {
        /// The bill.
        bill_id: BillId,
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// The refund.
        refund_id: RefundId,
        /// Minor units.
        amount: i64,
    },
    /// The refund came to nothing: free the payment's reserve.
    ReleaseRefund {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// The refund.
        refund_id: RefundId,
    },
    /// The refund did not happen after all: tell the payment.
    TakeBackRefund {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// The refund.
        refund_id: RefundId,
    },
    /// The refund did not happen after all: tell the bill.
    TakeBackBillRefund {
        /// The bill.
        bill_id: BillId,
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// The refund.
        refund_id: RefundId,
    },
    /// The provider's books show that the payer contests the payment.
    OpenDispute {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// Why, in the provider's words.
        reason: String,
        /// Now (UTC).
        at: DateTime<Utc>,
    },
    /// The provider's books show how a dispute was decided.
    DecideDispute {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// Who keeps the money.
        outcome: DisputeOutcome,
        /// Now (UTC).
        at: DateTime<Utc>,
    },
    /// The provider named the attempt.
    AcceptAttempt {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// The attempt.
        attempt_id: AttemptId,
        /// The provider's name for it.
        provider_id: String,
    },
    /// The provider holds the amount.
    AuthorizeAttempt {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// The attempt.
        attempt_id: AttemptId,
        /// How much.
        amount: Money,
        /// When the provider lets go of it by itself (UTC).
        capture_before: Option<DateTime<Utc>>,
    },
    /// The provider's books show that the attempt is over, without money.
    EndAttempt {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// The attempt.
        attempt_id: AttemptId,
        /// How.
        how: AttemptEnd,
    },
    /// The provider refused to capture.
    FailCapture {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// The attempt.
        attempt_id: AttemptId,
        /// Our word.
        code: String,
        /// The provider's words.
        message: String,
    },
    /// The provider refused to hold more.
    FailIncrease {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// The attempt.
        attempt_id: AttemptId,
        /// Our word.
        code: String,
        /// The provider's words.
        message: String,
    },
    /// The provider gave no answer to the end of the schedule.
    LeaveToPerson {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// The attempt.
        attempt_id: AttemptId,
        /// Now (UTC).
        at: DateTime<Utc>,
    },
    /// The payer must act.
    RequireAction {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// The attempt.
        attempt_id: AttemptId,
        /// EMVCo payload to show.
        qr_payload: Option<String>,
        /// Address to open.
        redirect_url: Option<String>,
    },
    /// The provider refused the attempt.
    FailAttempt {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// The attempt.
        attempt_id: AttemptId,
        /// Our word.
        code: String,
        /// The provider's words.
        message: String,
    },
    /// The outcome of a call is not known.
    MarkAttemptUnknown {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// The attempt.
        attempt_id: AttemptId,
        /// What happened.
        reason: String,
        /// Now (UTC).
        since: DateTime<Utc>,
    },
    /// The provider's books show a payment.
    ConfirmPayment {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// What they show.
        report: PaymentReport,
    },
    /// After a cancel request the provider shows no payment.
    ConfirmCancel {
        /// The payment.
        payment_intent_id: PaymentIntentId,
    },
    /// After the deadline the provider shows no payment on this attempt.
    ExpirePayment {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// The attempt.
        attempt_id: AttemptId,
    },
    /// Nobody confirmed the payment and its time is up.
    LapsePayment {
        /// The payment.
        payment_intent_id: PaymentIntentId,
        /// Now (UTC).
        at: DateTime<Utc>,
    },
    /// The money went back.
    SucceedRefund {
        /// The refund.
        refund_id: RefundId,
        /// The provider's name for it.
        provider_reference: String,
    },
    /// The provider refused to send it back, or took back that it had.
    FailRefund {
        /// The refund.
        refund_id: RefundId,
        /// Our word.
        code: String,
        /// The provider's words.
        message: String,
    },
    /// The outcome of the refund call is not known.
    MarkRefundUnknown {
        /// The refund.
        refund_id: RefundId,
        /// What happened.
        reason: String,
    },
}

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
        /// The provider's name.
        provider: String,
        /// Our reference, or the provider's own name for the attempt.
        reference: String,
        /// The provider's transaction that the call-back spoke of, if any; looked for until the books show it.
        transaction_id: Option<String>,
        /// How often it was not found.
        tried: u32,
    },
    /// Send money back.
    Refund {
        /// The refund.
        refund_id: RefundId,
        /// How much.
        amount: Money,
        /// Out of which payment.
        payment: ProviderPayment,
        /// How often it was tried before.
        tried: u32,
        /// As for `Start`.
        #[serde(default)]
        uncertain_since: Option<DateTime<Utc>>,
    },
    /// Ask whether money went back.
    CheckRefund {
        /// The refund.
        refund_id: RefundId,
        /// How much.
        amount: Money,
        /// Out of which payment.
        payment: ProviderPayment,
        /// How often it was tried before.
        tried: u32,
        /// As for `Start`.
        #[serde(default)]
        uncertain_since: Option<DateTime<Utc>>,
    },
}

impl Task {
    /// Whether its call can move money, or make something that can be paid.
    pub const fn moves_money(&self) -> bool {
        match self {
            Self::Start { .. } | Self::Capture { .. } | Self::Increase { .. } | Self::Stop { .. } | Self::Refund { .. } => true,
            Self::Inquire { .. } | Self::Reroute { .. } | Self::Lapse { .. } | Self::FollowHint { .. } | Self::CheckRefund { .. } => false,
        }
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
    /// The provider's name.
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

/// The only way to pay when tasks did not name it.
const fn by_qr() -> Tender {
    Tender::PromptPay
}

/// What must follow from an event.
#[derive(Debug, Clone)]
pub enum Intent {
    /// Commands of one tenant to be appended together, all or nothing.
    Commands(Vec<ProcessCommand>),
    /// A task under a key of its own; scheduling a known key again changes nothing.
    Schedule {
        /// `watch:att_…`.
        key: String,
        /// What.
        task: Task,
        /// How long after the event was recorded, milliseconds.
        after_ms: i64,
    },
    /// Remember which attempt our reference, and the provider's own name where it has one, stand for: call-backs name one of them.
    RememberReference(AttemptRef),
}

/// An event with what surrounds it.
#[derive(Debug, Clone, Copy)]
pub struct Happened<'a> {
    /// The owner.
    pub tenant: MerchantId,
    /// The stream's id.
    pub stream_id: crate::ids::Ulid,
    /// Its place in the log.
    pub position: i64,
    /// When it was recorded (UTC).
    pub recorded_at: DateTime<Utc>,
    /// What happened.
    pub event: &'a DomainEvent,
}

/// Actors that begin so write history: what they append carries all that followed from it then, and nothing follows now.
pub const HISTORY: &str = "import:";

/// A process manager.
#[derive(Debug, Clone, Copy)]
pub struct Manager {
    /// Stable name: part of its command keys and of its checkpoint.
    pub name: &'static str,
    /// What follows from an event.
    pub react: fn(&Happened<'_>) -> Vec<Intent>,
}

/// Every process manager.
pub const ALL: &[Manager] = &[
    Manager { name: "checkout", react: checkout::react },
    Manager { name: "refund", react: refund::react },
    Manager { name: "provider_calls", react: provider_calls::react },
    Manager { name: "rerouting", react: rerouting::react },
];

#[cfg(test)]
mod tests;
#[cfg(test)]
mod work_world_tests;
