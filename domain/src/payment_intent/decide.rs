//! The rules of a payment intent: what follows from a command.

use chrono::{DateTime, Utc};

use super::{
    ActionRequired, AttemptAccepted, AttemptEnd, AttemptFailed, AttemptStarted, CancelRequested, Canceled, Command, Created, Event,
    Expired, Failed, NewAttempt, OutcomeUnknown, PaymentReport, Rejection, State, Status, Succeeded, Tender, UnmatchedPaymentReceived,
    UnmatchedReason, capture, cases, refunds,
};
use crate::{decider::Aggregate, envelope::StreamType, ids::AttemptId, merchant::is_text, order::MAX_PRICE};

/// Attempts under one intent; when the last of them fails, the intent has failed.
pub const MAX_ATTEMPTS: usize = 5;

/// The decider.
pub struct PaymentIntent;

impl Aggregate for PaymentIntent {
    const STREAM_TYPE: StreamType = StreamType::PaymentIntent;
    const STATE_SCHEMA: i16 = 10;
    type Command = Command;
    type Event = Event;
    type State = State;
    type Rejection = Rejection;

    fn decide(state: &State, command: Command) -> Result<Vec<Event>, Rejection> {
        if let Command::Create(details) = command {
            return create(state, *details);
        }
        let details = state.created()?;
        match command {
            Command::Create(_) => Ok(vec![]), // answered above
            Command::Update(update) => cases::update(state, details, update),
            Command::StartAttempt(new) => start_attempt(state, details, *new),
            Command::AcceptAttempt { attempt_id, provider_id } => Ok(accept_attempt(state, attempt_id, provider_id)),
            Command::RequireAction { attempt_id, qr_payload, redirect_url } => {
                Ok(require_action(state, attempt_id, qr_payload, redirect_url))
            }
            Command::FailAttempt { attempt_id, code, message } => Ok(fail_attempt(state, details, attempt_id, code, message)),
            Command::EndAttempt { attempt_id, how } => Ok(end_attempt(state, details, attempt_id, how)),
            Command::MarkOutcomeUnknown { attempt_id, reason, since } => Ok(mark_unknown(state, attempt_id, reason, since)),
            Command::LeaveToPerson { attempt_id, at } => Ok(cases::leave_to_person(state, attempt_id, at)),
            Command::ResolveByPerson { finding, statement_reference } => {
                cases::resolve_by_person(state, details, finding, statement_reference)
            }
            Command::Authorize { attempt_id, amount, capture_before } => Ok(capture::authorize(state, attempt_id, amount, capture_before)),
            Command::Capture { amount } => capture::capture(state, amount),
            Command::FailCapture { attempt_id, code, message } => Ok(capture::fail_capture(state, attempt_id, code, message)),
            Command::Increase { amount } => capture::increase(state, details, amount),
            Command::FailIncrease { attempt_id, code, message } => Ok(capture::fail_increase(state, attempt_id, code, message)),
            Command::RecordTender(report) => record_tender(state, details, report),
            Command::Dispute { transaction_id, reason, disputed_at, business_date } => {
                cases::dispute(state, details, transaction_id.as_deref(), reason, disputed_at, business_date)
            }
            Command::ResolveDispute { transaction_id, outcome, resolved_at, business_date } => {
                cases::resolve_dispute(state, transaction_id.as_deref(), outcome, resolved_at, business_date)
            }
            Command::ConfirmFromProvider(report) => Ok(confirm_from_provider(state, details, report)),
            Command::ResolveUnmatched { transaction_id, verdict, reason } => {
                cases::resolve_unmatched(state, details, &transaction_id, verdict, reason)
            }
            Command::Cancel { reason } => cancel(state, details, reason),
            Command::ConfirmCancel => match (&state.cancel_requested, state.is_open()) {
                (Some(reason), true) => Ok(vec![Canceled { bill_id: details.bill_id, reason: reason.clone() }.into()]),
                (_, false) => Ok(vec![]),
                (None, true) => Err(Rejection::AttemptUnresolved),
            },
            Command::Expire { attempt_id } => {
                // What is held is not unpaid: it lapses, or is captured. After an attempt that failed the intent has an end of its own.
                let live = state.live_attempt(attempt_id).is_some();
                let ends = live && state.is_open() && state.status != Status::RequiresCapture;
                Ok(if ends { vec![Expired { bill_id: details.bill_id }.into()] } else { vec![] })
            }
            Command::Lapse { at } => {
                let over = state.lapses_at().is_some_and(|end| at >= end);
                Ok(if over { vec![Expired { bill_id: details.bill_id }.into()] } else { vec![] })
            }
            Command::ReserveRefund { refund_id, amount } => refunds::reserve(state, refund_id, amount),
            Command::SettleRefund { refund_id } => refunds::settle(state, refund_id),
            Command::ReleaseRefund { refund_id } => Ok(refunds::release(state, refund_id)),
            Command::TakeBackRefund { refund_id } => Ok(refunds::take_back(state, refund_id)),
            Command::LeaveRefundToPerson { refund_id } => Ok(refunds::leave_to_person(state, refund_id)),
            Command::CountFoundRefund { refund_id, amount, unmatched_transaction_id } => {
                Ok(refunds::count_found(state, refund_id, amount, unmatched_transaction_id.as_deref()))
            }
            Command::AcknowledgeOverRefund { amount, reason } => refunds::acknowledge(state, details, amount, reason),
        }
    }

    fn evolve(state: State, event: &Event) -> State {
        super::evolve::evolve(state, event)
    }
}

fn create(state: &State, details: Created) -> Result<Vec<Event>, Rejection> {
    if state.status != Status::Absent {
        return Err(Rejection::PaymentIntentIdReused);
    }
    if !(1..=MAX_PRICE).contains(&details.amount.amount) {
        return Err(Rejection::AmountNotPositive);
    }
    cases::check_texts(details.merchant_reference.as_deref(), details.description.as_deref(), details.merchant_terminal_id.as_deref())?;
    if !details.tender.is_recorded() && details.expires_at.is_none() {
        return Err(Rejection::ExpiryRequired);
    }
    if details.terms.iter().flat_map(|terms| &terms.tenders).any(|tender| tender.is_recorded()) {
        return Err(Rejection::TenderNotProvided);
    }
    Ok(vec![details.into()])
}

fn start_attempt(state: &State, details: &Created, new: NewAttempt) -> Result<Vec<Event>, Rejection> {
    // Live or dead: an attempt is the provider's idempotency key and starts once.
    if state.attempt_named(new.attempt_id).is_some() {
        return Ok(vec![]);
    }
    if details.tender.is_recorded() || details.expires_at.is_none() {
        return Err(Rejection::TenderIsRecorded);
    }
    match state.status {
        Status::RequiresPaymentMethod if state.cancel_requested.is_none() => {}
        Status::Processing | Status::RequiresAction | Status::RequiresCapture => return Err(Rejection::AttemptInProgress),
        Status::Absent | Status::RequiresPaymentMethod | Status::Succeeded | Status::Canceled | Status::Expired | Status::Failed => {
            return Err(Rejection::PaymentIntentNotOpen { status: state.status.as_str() });
        }
    }
    if state.open_until().is_some_and(|end| new.started_at >= end) {
        return Err(Rejection::PaymentIntentNotOpen { status: Status::Expired.as_str() });
    }
    let card = details.tender == Tender::OnlineCard;
    match (&new.card_token, card) {
        (None, true) => return Err(Rejection::CardTokenRequired),
        (Some(_), false) => return Err(Rejection::CardTokenNotWanted),
        (Some(_), true) | (None, false) => {}
    }
    if new.manual_capture && !card {
        return Err(Rejection::ManualCaptureNeedsCard);
    }
    let started = AttemptStarted {
        payment_intent_id: details.payment_intent_id,
        attempt_id: new.attempt_id,
        provider: new.provider,
        provider_account: new.provider_account,
        route: new.route,
        reference: new.reference,
        amount: details.amount,
        tender: details.tender,
        card_token: new.card_token,
        manual_capture: new.manual_capture,
        return_url: new.return_url,
        started_at: new.started_at,
        expires_at: new.expires_at,
    };
    Ok(vec![started.into()])
}

fn accept_attempt(state: &State, attempt_id: AttemptId, provider_id: String) -> Vec<Event> {
    match state.live_attempt(attempt_id) {
        Some(attempt) if attempt.provider_id.is_none() => vec![AttemptAccepted { attempt: attempt.started.named(), provider_id }.into()],
        Some(_) | None => vec![],
    }
}

fn require_action(state: &State, attempt_id: AttemptId, qr_payload: Option<String>, redirect_url: Option<String>) -> Vec<Event> {
    let awaited = state.status == Status::Processing && state.live_attempt(attempt_id).is_some();
    if awaited { vec![ActionRequired { attempt_id, qr_payload, redirect_url }.into()] } else { vec![] }
}

fn mark_unknown(state: &State, attempt_id: AttemptId, reason: String, since: DateTime<Utc>) -> Vec<Event> {
    let asked = matches!(state.status, Status::Processing | Status::RequiresCapture);
    let news = asked && state.live_attempt(attempt_id).is_some_and(|attempt| !attempt.unknown);
    if news { vec![OutcomeUnknown { attempt_id, reason, since: Some(since) }.into()] } else { vec![] }
}

fn fail_attempt(state: &State, details: &Created, attempt_id: AttemptId, code: String, message: String) -> Vec<Event> {
    // With a QR on the payer's screen, or after a call whose outcome nobody knows, a later refusal proves nothing: the books decide,
    // or a person.
    let refutable = state.live_attempt(attempt_id).is_none_or(|attempt| attempt.unknown);
    if state.status != Status::Processing || refutable {
        return vec![];
    }
    failed(state, details, attempt_id, code, message)
}

/// The attempt is dead; with it the intent, when no further one is allowed.
pub(super) fn failed(state: &State, details: &Created, attempt_id: AttemptId, code: String, message: String) -> Vec<Event> {
    let bill_id = details.bill_id;
    let attempts = state.earlier.len().saturating_add(1);
    let last = attempts >= MAX_ATTEMPTS;
    let mut events = vec![AttemptFailed { attempt_id, bill_id, code, message }.into()];
    if last {
        events.push(Failed { bill_id, attempts: u32::try_from(attempts).unwrap_or(u32::MAX) }.into());
    }
    events
}

/// The books are evidence in every open state, also with a QR or a page before the payer.
fn end_attempt(state: &State, details: &Created, attempt_id: AttemptId, how: AttemptEnd) -> Vec<Event> {
    if !state.is_open() || state.live_attempt(attempt_id).is_none() {
        return vec![];
    }
    let bill_id = details.bill_id;
    if let Some(reason) = &state.cancel_requested {
        return vec![Canceled { bill_id, reason: reason.clone() }.into()];
    }
    if state.status == Status::RequiresCapture {
        return vec![Canceled { bill_id, reason: "authorization_lapsed".to_owned() }.into()];
    }
    match how {
        AttemptEnd::Failed { code, message } => failed(state, details, attempt_id, code, message),
        AttemptEnd::Expired => vec![Expired { bill_id }.into()],
        AttemptEnd::Canceled => {
            failed(state, details, attempt_id, "canceled_at_provider".to_owned(), "the attempt was stopped at the provider".to_owned())
        }
    }
}

fn record_tender(state: &State, details: &Created, report: PaymentReport) -> Result<Vec<Event>, Rejection> {
    if !details.tender.is_recorded() {
        return Err(Rejection::TenderNotRecorded);
    }
    match state.status {
        Status::Succeeded => return Ok(vec![]),
        Status::RequiresPaymentMethod => {}
        Status::Absent
        | Status::Processing
        | Status::RequiresAction
        | Status::RequiresCapture
        | Status::Canceled
        | Status::Expired
        | Status::Failed => {
            return Err(Rejection::PaymentIntentNotOpen { status: state.status.as_str() });
        }
    }
    // Only what waited for a confirm has an end.
    if state.open_until().is_some_and(|end| report.paid_at >= end) {
        return Err(Rejection::PaymentIntentNotOpen { status: Status::Expired.as_str() });
    }
    if report.amount != details.amount {
        return Err(Rejection::TenderAmountDiffers);
    }
    if !(0..=MAX_PRICE).contains(&report.tip) {
        return Err(Rejection::TipInvalid);
    }
    if report.acquirer.as_deref().is_some_and(|text| !is_text(text, 64)) {
        return Err(Rejection::AcquirerInvalid);
    }
    let collected = details.amount.amount.saturating_add(report.cash_rounding).saturating_add(report.tip);
    if report.cash_received.is_some_and(|received| received < collected) {
        return Err(Rejection::TenderedBelowAmount);
    }
    Ok(vec![succeeded(details, report, collected).into()])
}

pub(super) fn succeeded(details: &Created, report: PaymentReport, collected: i64) -> Succeeded {
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
        tip: report.tip,
        acquirer: report.acquirer,
    }
}

/// Never refuses: money that the provider shows is a fact, whatever state we are in.
fn confirm_from_provider(state: &State, details: &Created, report: PaymentReport) -> Vec<Event> {
    let transaction_id = report.transaction_id.clone().unwrap_or_default();
    if let Some(confirmed) = cases::confirms_person(state, &report, &transaction_id) {
        return vec![confirmed.into()];
    }
    if state.knows_transaction(&transaction_id) {
        return vec![];
    }
    let why = match state.status {
        Status::Succeeded => UnmatchedReason::Duplicate,
        Status::Canceled | Status::Expired | Status::Failed => UnmatchedReason::Late,
        Status::Absent | Status::RequiresPaymentMethod | Status::Processing | Status::RequiresAction | Status::RequiresCapture => {
            if is_owed(state, details, &report) {
                let collected = report.amount.amount;
                return vec![succeeded(details, report, collected).into()];
            }
            UnmatchedReason::AmountDiffers
        }
    };
    let (attempt_id, amount, paid_at) = (report.attempt_id, report.amount, report.paid_at);
    vec![UnmatchedPaymentReceived { why, attempt_id, transaction_id, amount, paid_at }.into()]
}

/// Exactly what is owed; or, of an amount that was to be held only, what was captured: the provider's word on how much that was is
/// adopted, also where it is the first that is heard of the hold.
fn is_owed(state: &State, details: &Created, report: &PaymentReport) -> bool {
    let holds = report.attempt_id.and_then(|attempt| state.live_attempt(attempt)).filter(|attempt| attempt.started.manual_capture);
    let Some(attempt) = holds else { return report.amount == details.amount };
    let most = attempt.authorized.as_ref().map_or(details.amount, |held| held.amount);
    report.amount.currency == most.currency && (1..=most.amount).contains(&report.amount.amount)
}

fn cancel(state: &State, details: &Created, reason: String) -> Result<Vec<Event>, Rejection> {
    if !is_text(&reason, 200) {
        return Err(Rejection::ReasonRequired);
    }
    match (state.status, &state.attempt) {
        (Status::Canceled, _) => Ok(vec![]),
        (Status::RequiresPaymentMethod, _) => Ok(vec![Canceled { bill_id: details.bill_id, reason }.into()]),
        (Status::Processing | Status::RequiresAction | Status::RequiresCapture, _) if state.cancel_requested.is_some() => Ok(vec![]),
        (Status::RequiresCapture, Some(attempt)) if attempt.capturing.is_some() => Err(Rejection::CaptureInProgress),
        (Status::Processing | Status::RequiresAction | Status::RequiresCapture, Some(attempt)) => {
            let (attempt, provider_id) = (attempt.started.named(), attempt.provider_id.clone());
            Ok(vec![CancelRequested { attempt, provider_id, reason }.into()])
        }
        (
            Status::Absent
            | Status::Succeeded
            | Status::Expired
            | Status::Failed
            | Status::Processing
            | Status::RequiresAction
            | Status::RequiresCapture,
            _,
        ) => Err(Rejection::PaymentIntentNotOpen { status: state.status.as_str() }),
    }
}
