//! PaymentIntent: one tender and its conversation with a provider. Stream `payment_intent-{PaymentIntentId}`.
//!
//! `requires_payment_method → processing → requires_action → succeeded`, ending also in `canceled` or `expired`; an attempt
//! that failed leads back to `requires_payment_method`. The shop knows the same thing as a payment (`pay_…`).
//! Invariants: at most one live attempt; succeeded only with evidence of the full amount; a time-out is *unknown*, never
//! failed; canceled and expired only when no attempt is unresolved or the provider showed no payment; terminal states do
//! not regress, late money is recorded beside them; Σ refunds (reserved and settled) ≤ captured.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    decider::Aggregate,
    envelope::StreamType,
    event::events,
    ids::{AttemptId, BillId, OrderId, PaymentIntentId, RefundId, StoreId},
    merchant::is_text,
    money::Money,
    order::MAX_PRICE,
    rejection::rejections,
};

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
    /// On account, recorded here.
    Invoice,
}

impl Tender {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cash => "cash",
            Self::PromptPay => "promptpay",
            Self::Card => "card",
            Self::Invoice => "invoice",
        }
    }

    /// Money moves outside the platform and is recorded when staff (or an import) say so.
    pub const fn is_recorded(self) -> bool {
        match self {
            Self::Cash | Self::Card | Self::Invoice => true,
            Self::PromptPay => false,
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
    /// Our reference there.
    pub reference: String,
    /// What is owed.
    pub amount: Money,
    /// When it started, UTC; providers search by day.
    pub started_at: DateTime<Utc>,
    /// When it stops accepting payment, UTC.
    pub expires_at: DateTime<Utc>,
}

/// The payer must act: a QR is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ActionRequired {
    /// The attempt.
    pub attempt_id: AttemptId,
    /// EMVCo payload to show.
    pub qr_payload: String,
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
}

/// The full amount arrived.
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
}

/// Money on our reference that does not close the intent: another amount, a second payment, or too late.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnmatchedPaymentReceived {
    /// Why it does not close the intent.
    pub why: UnmatchedReason,
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

events! {
    /// Facts of a payment intent.
    {
        /// An amount is to be collected.
        Created = "payment_intent.created" v 1;
        /// An attempt is about to call the provider.
        AttemptStarted = "payment_intent.attempt_started" v 1;
        /// The payer must act.
        ActionRequired = "payment_intent.action_required" v 1;
        /// The provider refused the attempt.
        AttemptFailed = "payment_intent.attempt_failed" v 1;
        /// Nobody knows what the provider did.
        OutcomeUnknown = "payment_intent.outcome_unknown" v 1;
        /// The full amount arrived.
        Succeeded = "payment_intent.succeeded" v 1;
        /// Money that does not close the intent.
        UnmatchedPaymentReceived = "payment_intent.unmatched_payment_received" v 1;
        /// The caller wants it stopped.
        CancelRequested = "payment_intent.cancel_requested" v 1;
        /// Stopped.
        Canceled = "payment_intent.canceled" v 1;
        /// Time ran out without a payment.
        Expired = "payment_intent.expired" v 1;
        /// Money set aside for a refund.
        RefundReserved = "payment_intent.refund_reserved" v 1;
        /// The refund was carried out.
        RefundSettled = "payment_intent.refund_settled" v 1;
        /// The refund came to nothing.
        RefundReleased = "payment_intent.refund_released" v 1;
    }
}

/// A payment as the provider or staff report it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentReport {
    /// The attempt on whose reference it arrived; nothing for recorded tenders.
    pub attempt_id: Option<AttemptId>,
    /// The provider's transaction, or an approval code.
    pub transaction_id: Option<String>,
    /// What arrived.
    pub amount: Money,
    /// When (UTC).
    pub paid_at: DateTime<Utc>,
    /// Why we believe it.
    pub evidence: Evidence,
    /// For cash: handed over, minor units.
    pub cash_received: Option<i64>,
    /// For cash: rounding collected beside the amount, signed.
    pub cash_rounding: i64,
}

/// What can be asked of a payment intent.
#[derive(Debug, Clone)]
pub enum Command {
    /// Create it.
    Create(Box<Created>),
    /// Start an attempt at a provider.
    StartAttempt {
        /// The attempt.
        attempt_id: AttemptId,
        /// The provider's name.
        provider: String,
        /// Our reference there.
        reference: String,
        /// Now, UTC.
        started_at: DateTime<Utc>,
    },
    /// The provider gave a QR.
    RequireAction {
        /// The attempt.
        attempt_id: AttemptId,
        /// EMVCo payload.
        qr_payload: String,
    },
    /// The provider refused.
    FailAttempt {
        /// The attempt.
        attempt_id: AttemptId,
        /// Our word.
        code: String,
        /// The provider's words.
        message: String,
    },
    /// The outcome of a call is not known.
    MarkOutcomeUnknown {
        /// The attempt.
        attempt_id: AttemptId,
        /// What happened.
        reason: String,
    },
    /// Money moved outside the platform and staff or an import record it.
    RecordTender(PaymentReport),
    /// The provider's books show a payment.
    ConfirmFromProvider(PaymentReport),
    /// The caller wants it stopped.
    Cancel {
        /// Why.
        reason: String,
    },
    /// The provider was asked after a cancel request and shows no payment.
    ConfirmCancel,
    /// The provider was asked after the deadline and shows no payment on this attempt, the last one.
    Expire {
        /// The attempt that was asked about; an older one says nothing about the intent.
        attempt_id: AttemptId,
    },
    /// Set money aside for a refund.
    ReserveRefund {
        /// The refund.
        refund_id: RefundId,
        /// How much.
        amount: Money,
    },
    /// The refund was carried out.
    SettleRefund {
        /// The refund.
        refund_id: RefundId,
    },
    /// The refund came to nothing.
    ReleaseRefund {
        /// The refund.
        refund_id: RefundId,
    },
}

rejections! {
    /// Rules of a payment intent.
    {
        PaymentIntentNotFound => Missing, "the payment intent does not exist";
        PaymentIntentIdReused => State, "a payment intent with this id exists already";
        AmountNotPositive => Invalid, "the amount must be between 1 and 100,000,000,000 minor units";
        ReferenceInvalid => Invalid, "merchant_reference must have 1 to 64 characters";
        ExpiryRequired => Invalid, "a payment through a provider needs an expiry";
        AttemptInProgress => State, "an attempt is under way";
        PaymentIntentNotOpen { status: &'static str } => State, "the payment intent is {status}";
        TenderNotRecorded => Invalid, "this tender is confirmed by its provider, not by hand";
        TenderIsRecorded => Invalid, "this tender is recorded by hand, it has no provider";
        TenderedBelowAmount => Invalid, "the cash received is less than the amount";
        TenderAmountDiffers => Invalid, "a recorded tender must be for exactly the amount of the intent";
        AttemptUnresolved => State, "the provider has not yet shown that nothing was paid";
        ReasonRequired => Invalid, "a reason of 1 to 200 characters is required";
        NotCaptured { status: &'static str } => State, "the payment is {status}; only captured money can be given back";
        CurrencyMismatch => Invalid, "the refund is in another currency than the payment";
        RefundExceedsCaptured { refundable: i64 } => State, "at most {refundable} minor units can still be given back";
        RefundUnknown => Missing, "no such refund is reserved on this payment";
    }
}

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
    /// How it succeeded.
    pub payment: Option<Succeeded>,
    /// Money that does not close it.
    pub unmatched: Vec<UnmatchedPaymentReceived>,
    /// The caller wants it stopped.
    pub cancel_requested: Option<String>,
    /// Refunds reserved and settled.
    pub refunds: BTreeMap<RefundId, RefundEntry>,
    /// Sum given back, minor units.
    pub refunded_total: i64,
}

impl State {
    /// Minor units captured; zero unless succeeded.
    pub fn captured(&self) -> i64 {
        self.payment.as_ref().map_or(0, |payment| payment.amount.amount)
    }

    /// Minor units neither given back nor set aside for it.
    pub fn refundable(&self) -> i64 {
        self.captured().saturating_sub(self.refunds.values().map(|refund| refund.amount).sum())
    }

    fn created(&self) -> Result<&Created, Rejection> {
        self.details.as_ref().ok_or(Rejection::PaymentIntentNotFound)
    }

    fn live_attempt(&self, attempt_id: AttemptId) -> Option<&Attempt> {
        self.attempt.as_ref().filter(|attempt| attempt.started.attempt_id == attempt_id && attempt.failed.is_none())
    }

    fn knows_transaction(&self, transaction_id: &str) -> bool {
        let paid = self.payment.as_ref().and_then(|payment| payment.transaction_id.as_deref());
        paid == Some(transaction_id) || self.unmatched.iter().any(|payment| payment.transaction_id == transaction_id)
    }

    fn is_open(&self) -> bool {
        match self.status {
            Status::RequiresPaymentMethod | Status::Processing | Status::RequiresAction => true,
            Status::Absent | Status::Succeeded | Status::Canceled | Status::Expired => false,
        }
    }
}

/// The decider.
pub struct PaymentIntent;

impl Aggregate for PaymentIntent {
    const STREAM_TYPE: StreamType = StreamType::PaymentIntent;
    const STATE_SCHEMA: i16 = 1;
    type Command = Command;
    type Event = Event;
    type State = State;
    type Rejection = Rejection;

    fn decide(state: &State, command: Command) -> Result<Vec<Event>, Rejection> {
        let details = match command {
            Command::Create(details) => return create(state, *details),
            Command::StartAttempt { .. }
            | Command::RequireAction { .. }
            | Command::FailAttempt { .. }
            | Command::MarkOutcomeUnknown { .. }
            | Command::RecordTender(_)
            | Command::ConfirmFromProvider(_)
            | Command::Cancel { .. }
            | Command::ConfirmCancel
            | Command::Expire { .. }
            | Command::ReserveRefund { .. }
            | Command::SettleRefund { .. }
            | Command::ReleaseRefund { .. } => state.created()?,
        };
        match command {
            Command::Create(_) => Ok(vec![]), // answered above
            Command::StartAttempt { attempt_id, provider, reference, started_at } => {
                start_attempt(state, details, attempt_id, provider, reference, started_at)
            }
            Command::RequireAction { attempt_id, qr_payload } => Ok(require_action(state, attempt_id, qr_payload)),
            Command::FailAttempt { attempt_id, code, message } => Ok(fail_attempt(state, details, attempt_id, code, message)),
            Command::MarkOutcomeUnknown { attempt_id, reason } => {
                let news = state.status == Status::Processing && state.live_attempt(attempt_id).is_some_and(|attempt| !attempt.unknown);
                Ok(if news { vec![OutcomeUnknown { attempt_id, reason }.into()] } else { vec![] })
            }
            Command::RecordTender(report) => record_tender(state, details, report),
            Command::ConfirmFromProvider(report) => Ok(confirm_from_provider(state, details, report)),
            Command::Cancel { reason } => cancel(state, details, reason),
            Command::ConfirmCancel => match (&state.cancel_requested, state.is_open()) {
                (Some(reason), true) => Ok(vec![Canceled { bill_id: details.bill_id, reason: reason.clone() }.into()]),
                (_, false) => Ok(vec![]),
                (None, true) => Err(Rejection::AttemptUnresolved),
            },
            Command::Expire { attempt_id } => {
                let last = state.attempt.as_ref().is_some_and(|attempt| attempt.started.attempt_id == attempt_id);
                Ok(if last && state.is_open() { vec![Expired { bill_id: details.bill_id }.into()] } else { vec![] })
            }
            Command::ReserveRefund { refund_id, amount } => reserve_refund(state, refund_id, amount),
            Command::SettleRefund { refund_id } => settle_refund(state, refund_id),
            Command::ReleaseRefund { refund_id } => Ok(release_refund(state, refund_id)),
        }
    }

    fn evolve(mut state: State, event: &Event) -> State {
        match event {
            Event::Created(details) => {
                state.status = Status::RequiresPaymentMethod;
                state.details = Some(details.clone());
            }
            Event::AttemptStarted(started) => {
                state.status = Status::Processing;
                state.attempt = Some(Attempt { started: started.clone(), qr_payload: None, unknown: false, failed: None });
            }
            Event::ActionRequired(action) => {
                state.status = Status::RequiresAction;
                if let Some(attempt) = &mut state.attempt {
                    attempt.qr_payload = Some(action.qr_payload.clone());
                    attempt.unknown = false;
                }
            }
            Event::AttemptFailed(failed) => {
                state.status = Status::RequiresPaymentMethod;
                if let Some(attempt) = &mut state.attempt {
                    attempt.failed = Some(failed.clone());
                }
            }
            Event::OutcomeUnknown(_) => {
                if let Some(attempt) = &mut state.attempt {
                    attempt.unknown = true;
                }
            }
            Event::Succeeded(payment) => {
                state.status = Status::Succeeded;
                state.payment = Some(payment.clone());
            }
            Event::UnmatchedPaymentReceived(payment) => state.unmatched.push(payment.clone()),
            Event::CancelRequested(requested) => state.cancel_requested = Some(requested.reason.clone()),
            Event::Canceled(_) => state.status = Status::Canceled,
            Event::Expired(_) => state.status = Status::Expired,
            Event::RefundReserved(reserved) => {
                state.refunds.insert(reserved.refund_id, RefundEntry { amount: reserved.amount, settled: false });
            }
            Event::RefundSettled(settled) => {
                state.refunded_total = settled.refunded_total;
                if let Some(refund) = state.refunds.get_mut(&settled.refund_id) {
                    refund.settled = true;
                }
            }
            Event::RefundReleased(released) => {
                state.refunds.remove(&released.refund_id);
            }
        }
        state
    }
}

fn create(state: &State, details: Created) -> Result<Vec<Event>, Rejection> {
    if state.status != Status::Absent {
        return Err(Rejection::PaymentIntentIdReused);
    }
    if !(1..=MAX_PRICE).contains(&details.amount.amount) {
        return Err(Rejection::AmountNotPositive);
    }
    if details.merchant_reference.as_deref().is_some_and(|text| !is_text(text, 64)) {
        return Err(Rejection::ReferenceInvalid);
    }
    if !details.tender.is_recorded() && details.expires_at.is_none() {
        return Err(Rejection::ExpiryRequired);
    }
    Ok(vec![details.into()])
}

fn start_attempt(
    state: &State,
    details: &Created,
    attempt_id: AttemptId,
    provider: String,
    reference: String,
    started_at: DateTime<Utc>,
) -> Result<Vec<Event>, Rejection> {
    // Live or dead: an attempt is the provider's idempotency key and starts once.
    if state.attempt.as_ref().is_some_and(|attempt| attempt.started.attempt_id == attempt_id) {
        return Ok(vec![]);
    }
    let Some(expires_at) = details.expires_at.filter(|_| !details.tender.is_recorded()) else { return Err(Rejection::TenderIsRecorded) };
    match state.status {
        Status::RequiresPaymentMethod if state.cancel_requested.is_none() => {
            let (payment_intent_id, amount) = (details.payment_intent_id, details.amount);
            Ok(vec![AttemptStarted { payment_intent_id, attempt_id, provider, reference, amount, started_at, expires_at }.into()])
        }
        Status::Processing | Status::RequiresAction => Err(Rejection::AttemptInProgress),
        Status::Absent | Status::RequiresPaymentMethod | Status::Succeeded | Status::Canceled | Status::Expired => {
            Err(Rejection::PaymentIntentNotOpen { status: state.status.as_str() })
        }
    }
}

fn require_action(state: &State, attempt_id: AttemptId, qr_payload: String) -> Vec<Event> {
    let awaited = state.status == Status::Processing && state.live_attempt(attempt_id).is_some();
    if awaited { vec![ActionRequired { attempt_id, qr_payload }.into()] } else { vec![] }
}

fn fail_attempt(state: &State, details: &Created, attempt_id: AttemptId, code: String, message: String) -> Vec<Event> {
    if !state.is_open() || state.live_attempt(attempt_id).is_none() {
        return vec![];
    }
    vec![AttemptFailed { attempt_id, bill_id: details.bill_id, code, message }.into()]
}

fn record_tender(state: &State, details: &Created, report: PaymentReport) -> Result<Vec<Event>, Rejection> {
    if !details.tender.is_recorded() {
        return Err(Rejection::TenderNotRecorded);
    }
    match state.status {
        Status::Succeeded => return Ok(vec![]),
        Status::RequiresPaymentMethod => {}
        Status::Absent | Status::Processing | Status::RequiresAction | Status::Canceled | Status::Expired => {
            return Err(Rejection::PaymentIntentNotOpen { status: state.status.as_str() });
        }
    }
    if report.amount != details.amount {
        return Err(Rejection::TenderAmountDiffers);
    }
    let collected = details.amount.amount.saturating_add(report.cash_rounding);
    if report.cash_received.is_some_and(|received| received < collected) {
        return Err(Rejection::TenderedBelowAmount);
    }
    Ok(vec![succeeded(details, report, collected).into()])
}

fn succeeded(details: &Created, report: PaymentReport, collected: i64) -> Succeeded {
    Succeeded {
        payment_intent_id: details.payment_intent_id,
        bill_id: details.bill_id,
        tender: details.tender,
        attempt_id: report.attempt_id,
        transaction_id: report.transaction_id,
        amount: report.amount,
        paid_at: report.paid_at,
        evidence: report.evidence,
        cash_received: report.cash_received,
        cash_change: report.cash_received.map(|received| received.saturating_sub(collected)),
        cash_rounding: report.cash_rounding,
    }
}

/// Never refuses: money that the provider shows is a fact, whatever state we are in.
fn confirm_from_provider(state: &State, details: &Created, report: PaymentReport) -> Vec<Event> {
    let transaction_id = report.transaction_id.clone().unwrap_or_default();
    if state.knows_transaction(&transaction_id) {
        return vec![];
    }
    let why = match state.status {
        Status::Succeeded => UnmatchedReason::Duplicate,
        Status::Canceled | Status::Expired => UnmatchedReason::Late,
        Status::Absent | Status::RequiresPaymentMethod | Status::Processing | Status::RequiresAction => {
            if report.amount == details.amount {
                let collected = report.amount.amount;
                return vec![succeeded(details, report, collected).into()];
            }
            UnmatchedReason::AmountDiffers
        }
    };
    vec![UnmatchedPaymentReceived { why, transaction_id, amount: report.amount, paid_at: report.paid_at }.into()]
}

fn cancel(state: &State, details: &Created, reason: String) -> Result<Vec<Event>, Rejection> {
    if !is_text(&reason, 200) {
        return Err(Rejection::ReasonRequired);
    }
    match (state.status, &state.attempt) {
        (Status::Canceled, _) => Ok(vec![]),
        (Status::RequiresPaymentMethod, _) => Ok(vec![Canceled { bill_id: details.bill_id, reason }.into()]),
        (Status::Processing | Status::RequiresAction, _) if state.cancel_requested.is_some() => Ok(vec![]),
        (Status::Processing | Status::RequiresAction, Some(attempt)) => {
            Ok(vec![CancelRequested { attempt: attempt.started.clone(), reason }.into()])
        }
        (Status::Absent | Status::Succeeded | Status::Expired | Status::Processing | Status::RequiresAction, _) => {
            Err(Rejection::PaymentIntentNotOpen { status: state.status.as_str() })
        }
    }
}

fn reserve_refund(state: &State, refund_id: RefundId, amount: Money) -> Result<Vec<Event>, Rejection> {
    if state.refunds.contains_key(&refund_id) {
        return Ok(vec![]);
    }
    let Some(payment) = &state.payment else { return Err(Rejection::NotCaptured { status: state.status.as_str() }) };
    if amount.currency != payment.amount.currency {
        return Err(Rejection::CurrencyMismatch);
    }
    if !amount.is_positive() {
        return Err(Rejection::AmountNotPositive);
    }
    let refundable = state.refundable();
    if amount.amount > refundable {
        return Err(Rejection::RefundExceedsCaptured { refundable });
    }
    Ok(vec![RefundReserved { refund_id, amount: amount.amount }.into()])
}

fn settle_refund(state: &State, refund_id: RefundId) -> Result<Vec<Event>, Rejection> {
    let refund = state.refunds.get(&refund_id).ok_or(Rejection::RefundUnknown)?;
    if refund.settled {
        return Ok(vec![]);
    }
    let refunded_total = state.refunded_total.saturating_add(refund.amount);
    Ok(vec![RefundSettled { refund_id, amount: refund.amount, refunded_total }.into()])
}

fn release_refund(state: &State, refund_id: RefundId) -> Vec<Event> {
    match state.refunds.get(&refund_id) {
        Some(refund) if !refund.settled => vec![RefundReleased { refund_id, amount: refund.amount }.into()],
        Some(_) | None => vec![],
    }
}

#[cfg(test)]
#[path = "payment_intent_tests.rs"]
mod tests;
