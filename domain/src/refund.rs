//! Refund: money given back. Stream `refund-{RefundId}`.
//!
//! `requested → succeeded | failed`; between them the outcome may be unknown, and a person be told, who may decide. A provider may
//! take back that it succeeded: `succeeded → failed`; and show that one went back which a person had declared not sent: `failed →
//! succeeded`. What failed may be followed up by another refund, which names it. A linked refund gives back out of one captured
//! payment: what may be given back is decided by the payment intent, in the same atomic append; this stream follows the
//! refund itself. An unlinked refund (a credit note whose sale is not known here) has no payment; it is recorded as given.

use chrono::{DateTime, NaiveDate, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    decider::Aggregate,
    envelope::StreamType,
    event::events,
    ids::{BillId, PaymentIntentId, RefundId, StoreId},
    merchant::is_text,
    money::{Currency, Money},
    order::MAX_LINES,
    payment_intent::Tender,
    rejection::rejections,
};

/// By which way money goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Destination {
    /// The way it came.
    Original,
    /// Out of the drawer; for cash payments, or where the provider cannot send it back.
    Cash,
}

/// Refund requested, within what was captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Requested {
    /// The refund.
    pub refund_id: RefundId,
    /// The payment; nothing for an unlinked refund.
    pub payment_intent_id: Option<PaymentIntentId>,
    /// The bill that was paid.
    pub bill_id: Option<BillId>,
    /// Where.
    pub store_id: StoreId,
    /// The store's business date at that moment.
    pub business_date: NaiveDate,
    /// How much of the payment goes back.
    pub amount: Money,
    /// What is handed out beside `amount`, signed: the refund that empties a cash payment takes its cash rounding back, so that
    /// no more leaves the drawer than came in. Minor units.
    pub cash_rounding: i64,
    /// How the payment was tendered; of an unlinked refund, how the money is given.
    pub tender: Tender,
    /// Who moves the money for the shop (acquirer, terminal operator), in the shop's own word.
    pub acquirer: Option<String>,
    /// By which way it goes back.
    pub destination: Destination,
    /// Why.
    pub reason: String,
    /// For provider refunds: whom to ask and about what.
    pub provider: Option<Box<ProviderPayment>>,
    /// What is given back, where that is known.
    pub breakdown: Option<Breakdown>,
    /// It gives back money that did not close the payment (a duplicate, late or other amount) and so was never a sale.
    pub unmatched: bool,
    /// The refund of the same payment that its provider refused or did not carry out, and that this one follows up.
    pub fallback_of: Option<RefundId>,
}

/// What a refund is made of, minor units. Always Σ lines.total + adjustment + tip = the amount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Breakdown {
    /// Goods taken back, and taxes that are lines of their own.
    pub lines: Vec<RefundLine>,
    /// The part that stands outside the lines, signed: a positive one is given back.
    pub adjustment: i64,
    /// The tip that goes back; it was never the shop's revenue.
    pub tip: i64,
}

/// One line that is given back. Amounts in minor units, none negative.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefundLine {
    /// The catalogue's code.
    pub item_code: String,
    /// Name as sold.
    pub name: String,
    /// Thousandths of a piece.
    pub quantity_milli: i64,
    /// The tax in `total`.
    pub tax: i64,
    /// What is given back for the line.
    pub total: i64,
}

impl Breakdown {
    /// The sum of its parts, where it fits.
    pub fn total(&self) -> Option<i64> {
        let lines = self.lines.iter().map(|line| i128::from(line.total));
        let parts = [i128::from(self.adjustment), i128::from(self.tip)];
        i64::try_from(lines.chain(parts).sum::<i128>()).ok()
    }

    fn is_sound(&self) -> bool {
        let line_is_sound = |line: &RefundLine| {
            line.quantity_milli >= 0 && (0..=line.total).contains(&line.tax) && is_text(&line.item_code, 64) && is_text(&line.name, 200)
        };
        self.tip >= 0 && self.lines.len() <= MAX_LINES && self.lines.iter().all(line_is_sound)
    }
}

/// The payment as the provider knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProviderPayment {
    /// The provider's name.
    pub provider: String,
    /// Our reference there.
    pub reference: String,
    /// The provider's own name for the attempt, where it has one.
    #[serde(default)]
    pub provider_id: Option<String>,
    /// The provider's transaction.
    pub transaction_id: String,
    /// The whole payment.
    pub captured: Money,
    /// When it arrived, UTC.
    pub paid_at: DateTime<Utc>,
}

impl ProviderPayment {
    /// Whether a provider's name for a refund is that of the whole payment gone back (`void:` and its transaction), and of no refund:
    /// its books do not tell then by which refund it went.
    pub fn went_back_as_a_whole(&self, provider_reference: &str) -> bool {
        provider_reference.strip_prefix("void:") == Some(self.transaction_id.as_str())
    }
}

/// Nobody knows whether the provider sent it back; it will be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutcomeUnknown {
    /// What happened.
    pub reason: String,
}

/// For too long no answer of the provider said how the refund stands: a person has to look. It is asked on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeftToPerson {
    /// The refund.
    pub refund_id: RefundId,
    /// The payment out of which it goes back.
    pub payment_intent_id: PaymentIntentId,
    /// When (UTC).
    pub at: DateTime<Utc>,
}

/// A person says, out of a statement, whether the money went back. Who, is the actor of the event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResolvedByPerson {
    /// The refund.
    pub refund_id: RefundId,
    /// The payment out of which it goes back.
    pub payment_intent_id: PaymentIntentId,
    /// The money went back.
    pub sent: bool,
    /// The line of the statement that shows it, or the statement that lacks it.
    pub statement_reference: String,
}

/// The money went back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Succeeded {
    /// The refund.
    pub refund_id: RefundId,
    /// The payment; nothing for an unlinked refund.
    pub payment_intent_id: Option<PaymentIntentId>,
    /// The bill.
    pub bill_id: Option<BillId>,
    /// How much.
    pub amount: Money,
    /// The provider's name for it; nothing for cash.
    pub provider_reference: Option<String>,
}

/// The provider refused; nothing went back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failed {
    /// The refund.
    pub refund_id: RefundId,
    /// The payment whose reserve is freed.
    pub payment_intent_id: PaymentIntentId,
    /// Our word.
    pub code: String,
    /// The provider's words.
    pub message: String,
}

/// The provider had said that the money went back, and it did not: it has it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TakenBack {
    /// The refund.
    pub refund_id: RefundId,
    /// The payment whose balance is restored.
    pub payment_intent_id: PaymentIntentId,
    /// The bill that had recorded it.
    pub bill_id: Option<BillId>,
    /// How much did not go back.
    pub amount: Money,
    /// Our word.
    pub code: String,
    /// The provider's words.
    pub message: String,
}

/// The provider's books show that the money went back, of a refund that a person had declared not sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FoundSent {
    /// The refund.
    pub refund_id: RefundId,
    /// The payment that is to count it.
    pub payment_intent_id: PaymentIntentId,
    /// The bill that was paid.
    pub bill_id: Option<BillId>,
    /// How much went back.
    pub amount: Money,
    /// Of money that did not close the payment: the provider's transaction that it went back of.
    pub unmatched_transaction_id: Option<String>,
    /// The provider's name for it.
    pub provider_reference: Option<String>,
}

events! {
    /// Facts of a refund.
    {
        /// Requested, within what was captured.
        Requested = "refund.requested" v 4;
        /// Nobody knows whether it went back.
        OutcomeUnknown = "refund.outcome_unknown" v 1;
        /// For too long nobody knows how it stands.
        LeftToPerson = "refund.left_to_person" v 1;
        /// A person says how it ended.
        ResolvedByPerson = "refund.resolved_by_person" v 1;
        /// The money went back.
        Succeeded = "refund.succeeded" v 2;
        /// The provider refused.
        Failed = "refund.failed" v 1;
        /// The provider took back that it succeeded.
        TakenBack = "refund.taken_back" v 1;
        /// The provider shows that it went back, and a person had declared it not sent.
        FoundSent = "refund.found_sent" v 1;
    }
}

/// What can be asked of a refund.
#[derive(Debug, Clone)]
pub enum Command {
    /// Request it.
    Request(Box<Requested>),
    /// The outcome of the call is not known.
    MarkOutcomeUnknown {
        /// What happened.
        reason: String,
    },
    /// For too long no answer said how it stands.
    LeaveToPerson {
        /// Now, UTC.
        at: DateTime<Utc>,
    },
    /// A person says, out of a statement, how it ended; only while it is left to one.
    ResolveByPerson {
        /// The money went back.
        sent: bool,
        /// The statement and its line, 1 to 200 characters.
        statement_reference: String,
    },
    /// The money went back.
    Succeed {
        /// The provider's name for it.
        provider_reference: Option<String>,
    },
    /// The provider refused, or its books show now that what it had called done did not happen.
    Fail {
        /// Our word.
        code: String,
        /// The provider's words.
        message: String,
    },
}

rejections! {
    /// Rules of a refund.
    {
        RefundNotFound => Missing, "the refund does not exist";
        RefundIdReused => State, "a refund with this id exists already";
        AmountNotPositive => Invalid, "the amount must be positive";
        ReasonRequired => Invalid, "a reason of 1 to 200 characters is required";
        RefundClosed { status: &'static str } => State, "the refund is {status}";
        OutcomeNotUnknown => State, "the outcome is known, or the provider is still being asked";
        FallbackNotOfFailure => State, "only a refund of the same payment that failed can be followed up";
        CardToCashNotAllowed => Invalid, "a payment by card, or by a way that is not known, is not given back in cash";
        CurrencyMismatch { expected: Currency } => Invalid, "the store sells in {expected}";
        AcquirerInvalid => Invalid, "acquirer must have 1 to 64 characters";
        UnlinkedRefundIsRecorded => Invalid, "a refund without a payment names no bill and no provider, and goes by a recorded tender";
        UnlinkedRefundCannotFail => State, "a refund without a payment is recorded as given; no provider can refuse it";
        TipNotLinked => Invalid, "a payment's refund gives back what paid the bill; the tip beside it cannot be given back";
        BreakdownDoesNotAdd => Invalid, "the parts of the refund are out of bounds or do not add up to its amount";
    }
}

/// Life of a refund.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Never requested.
    #[default]
    Absent,
    /// Under way.
    Pending,
    /// Gone back.
    Succeeded,
    /// Refused.
    Failed,
}

impl Status {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Pending => "pending",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

/// What is remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Life.
    pub status: Status,
    /// As requested.
    pub details: Option<Requested>,
    /// The outcome of the last call is not known.
    pub unknown: bool,
    /// For too long no answer said how it stands; since then a person has to look (UTC).
    pub left_to_person: Option<DateTime<Utc>>,
    /// What a person said of it, out of a statement.
    pub resolved_by_person: Option<ResolvedByPerson>,
    /// The provider's name for it.
    pub provider_reference: Option<String>,
    /// Why it failed.
    pub failure: Option<Failed>,
}

impl State {
    /// It failed by the word of a person, which the provider's books may still contradict.
    pub fn is_declared_unsent(&self) -> bool {
        self.status == Status::Failed && self.resolved_by_person.as_ref().is_some_and(|said| !said.sent)
    }
}

/// The decider.
pub struct Refund;

impl Aggregate for Refund {
    const STREAM_TYPE: StreamType = StreamType::Refund;
    const STATE_SCHEMA: i16 = 6;
    type Command = Command;
    type Event = Event;
    type State = State;
    type Rejection = Rejection;

    fn decide(state: &State, command: Command) -> Result<Vec<Event>, Rejection> {
        if let Command::Request(details) = command {
            return request(state, *details);
        }
        let Some(details) = &state.details else { return Err(Rejection::RefundNotFound) };
        let (refund_id, payment_intent_id) = (details.refund_id, details.payment_intent_id);
        match (command, state.status) {
            (Command::MarkOutcomeUnknown { reason }, Status::Pending) if !state.unknown => Ok(vec![OutcomeUnknown { reason }.into()]),
            (Command::LeaveToPerson { at }, Status::Pending) if state.left_to_person.is_none() => {
                let left = payment_intent_id.map(|payment_intent_id| LeftToPerson { refund_id, payment_intent_id, at }.into());
                Ok(left.into_iter().collect())
            }
            (Command::ResolveByPerson { sent, statement_reference }, _) => resolve_by_person(state, details, sent, statement_reference),
            (Command::Succeed { provider_reference }, Status::Pending) => {
                let (bill_id, amount) = (details.bill_id, details.amount);
                Ok(vec![Succeeded { refund_id, payment_intent_id, bill_id, amount, provider_reference }.into()])
            }
            (Command::Fail { code, message }, Status::Pending) => match payment_intent_id {
                Some(payment_intent_id) => Ok(vec![Failed { refund_id, payment_intent_id, code, message }.into()]),
                None => Err(Rejection::UnlinkedRefundCannotFail),
            },
            (Command::Fail { code, message }, Status::Succeeded) => take_back(details, code, message),
            (Command::Succeed { provider_reference }, Status::Failed) => found_sent(state, details, provider_reference),
            (
                Command::Request(_)
                | Command::MarkOutcomeUnknown { .. }
                | Command::LeaveToPerson { .. }
                | Command::Succeed { .. }
                | Command::Fail { .. },
                _,
            ) => Ok(vec![]),
        }
    }

    fn evolve(mut state: State, event: &Event) -> State {
        match event {
            Event::Requested(details) => {
                state.status = Status::Pending;
                state.details = Some(details.clone());
            }
            Event::OutcomeUnknown(_) => state.unknown = true,
            Event::LeftToPerson(left) => state.left_to_person = Some(left.at),
            Event::ResolvedByPerson(resolved) => state.resolved_by_person = Some(resolved.clone()),
            Event::Succeeded(succeeded) => {
                state.status = Status::Succeeded;
                (state.unknown, state.left_to_person) = (false, None);
                state.provider_reference.clone_from(&succeeded.provider_reference);
            }
            Event::Failed(failed) => {
                state.status = Status::Failed;
                (state.unknown, state.left_to_person) = (false, None);
                state.failure = Some(failed.clone());
            }
            Event::TakenBack(taken) => {
                let TakenBack { refund_id, payment_intent_id, code, message, .. } = taken.clone();
                state.status = Status::Failed;
                state.failure = Some(Failed { refund_id, payment_intent_id, code, message });
            }
            Event::FoundSent(found) => {
                state.status = Status::Succeeded;
                state.failure = None;
                state.provider_reference.clone_from(&found.provider_reference);
            }
        }
        state
    }
}

/// Only where the provider does not tell: a person's word never contradicts the books. The same word again changes nothing.
fn resolve_by_person(state: &State, details: &Requested, sent: bool, statement_reference: String) -> Result<Vec<Event>, Rejection> {
    if !is_text(&statement_reference, 200) {
        return Err(Rejection::ReasonRequired);
    }
    let (refund_id, bill_id, amount) = (details.refund_id, details.bill_id, details.amount);
    let payment_intent_id = details.payment_intent_id.ok_or(Rejection::OutcomeNotUnknown)?;
    let resolved = ResolvedByPerson { refund_id, payment_intent_id, sent, statement_reference: statement_reference.clone() };
    let ended = if sent { Status::Succeeded } else { Status::Failed };
    if state.status == ended && state.resolved_by_person.as_ref() == Some(&resolved) {
        return Ok(vec![]);
    }
    if state.status != Status::Pending || state.left_to_person.is_none() {
        return Err(Rejection::OutcomeNotUnknown);
    }
    let outcome: Event = if sent {
        Succeeded { refund_id, payment_intent_id: Some(payment_intent_id), bill_id, amount, provider_reference: None }.into()
    } else {
        Failed { refund_id, payment_intent_id, code: "not_on_statement".to_owned(), message: statement_reference }.into()
    };
    Ok(vec![resolved.into(), outcome])
}

/// What a provider refused stays refused; where only a person had declared it not sent, its books are the better evidence.
fn found_sent(state: &State, details: &Requested, provider_reference: Option<String>) -> Result<Vec<Event>, Rejection> {
    let Some(payment_intent_id) = details.payment_intent_id.filter(|_| state.is_declared_unsent()) else {
        return Err(Rejection::RefundClosed { status: state.status.as_str() });
    };
    let parked = details.provider.as_ref().filter(|_| details.unmatched);
    let unmatched_transaction_id = parked.map(|payment| payment.transaction_id.clone());
    let Requested { refund_id, bill_id, amount, .. } = *details;
    Ok(vec![FoundSent { refund_id, payment_intent_id, bill_id, amount, unmatched_transaction_id, provider_reference }.into()])
}

/// Only a provider can find that the money did not go after all; what staff handed out is gone.
fn take_back(details: &Requested, code: String, message: String) -> Result<Vec<Event>, Rejection> {
    let by_provider = details.destination == Destination::Original && details.provider.is_some();
    let Some(payment_intent_id) = details.payment_intent_id.filter(|_| by_provider) else {
        return Err(Rejection::RefundClosed { status: Status::Succeeded.as_str() });
    };
    let Requested { refund_id, bill_id, amount, .. } = *details;
    Ok(vec![TakenBack { refund_id, payment_intent_id, bill_id, amount, code, message }.into()])
}

fn request(state: &State, details: Requested) -> Result<Vec<Event>, Rejection> {
    if state.status != Status::Absent {
        return Err(Rejection::RefundIdReused);
    }
    if !details.amount.is_positive() {
        return Err(Rejection::AmountNotPositive);
    }
    if !is_text(&details.reason, 200) {
        return Err(Rejection::ReasonRequired);
    }
    // Cash for a card is a way to launder money; where the provider gives nothing back, there is no other.
    let by_card = matches!(details.tender, Tender::Card | Tender::OnlineCard | Tender::Unknown);
    if by_card && details.destination == Destination::Cash && details.fallback_of.is_none() {
        return Err(Rejection::CardToCashNotAllowed);
    }
    if details.acquirer.as_deref().is_some_and(|text| !is_text(text, 64)) {
        return Err(Rejection::AcquirerInvalid);
    }
    if details.payment_intent_id.is_none() && (details.bill_id.is_some() || details.provider.is_some() || !details.tender.is_recorded()) {
        return Err(Rejection::UnlinkedRefundIsRecorded);
    }
    if details.payment_intent_id.is_some() && details.breakdown.as_ref().is_some_and(|parts| parts.tip != 0) {
        return Err(Rejection::TipNotLinked);
    }
    if details.breakdown.as_ref().is_some_and(|parts| !parts.is_sound() || parts.total() != Some(details.amount.amount)) {
        return Err(Rejection::BreakdownDoesNotAdd);
    }
    Ok(vec![details.into()])
}

#[cfg(test)]
#[path = "refund_tests.rs"]
mod tests;
