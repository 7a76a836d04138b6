//! The rules of a refund: what follows from a command, and what an event changes.

use super::{
    Command, Destination, Event, Failed, FoundSent, LeftToPerson, OutcomeUnknown, Rejection, Requested, ResolvedByPerson, State, Status,
    Succeeded, TakenBack,
};
use crate::{decider::Aggregate, envelope::StreamType, merchant::is_text, payment_intent::Tender};

/// The decider.
pub struct Refund;

impl Aggregate for Refund {
    const STREAM_TYPE: StreamType = StreamType::Refund;
    const STATE_SCHEMA: i16 = 7;
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
            (Command::MarkOutcomeUnknown { reason, since }, Status::Pending) if !state.unknown => {
                Ok(vec![OutcomeUnknown { reason, since: Some(since) }.into()])
            }
            (Command::LeaveToPerson { at }, Status::Pending) if state.left_to_person.is_none() => {
                let left = payment_intent_id.map(|payment_intent_id| LeftToPerson { refund_id, payment_intent_id, at }.into());
                Ok(left.into_iter().collect())
            }
            (Command::ResolveByPerson { sent, statement_reference }, _) => resolve_by_person(state, details, sent, statement_reference),
            (Command::Succeed { provider_reference }, Status::Pending) => {
                let (bill_id, amount) = (details.bill_id, details.amount);
                Ok(vec![Succeeded { refund_id, payment_intent_id, bill_id, amount, provider_reference }.into()])
            }
            (Command::Fail { code, message, .. }, Status::Pending) => match payment_intent_id {
                Some(payment_intent_id) => Ok(vec![Failed { refund_id, payment_intent_id, code, message }.into()]),
                None => Err(Rejection::UnlinkedRefundCannotFail),
            },
            (Command::Fail { code, message, refused }, Status::Succeeded) if !refused => take_back(details, code, message),
            (Command::Fail { .. }, Status::Succeeded) => Err(Rejection::RefundClosed { status: Status::Succeeded.as_str() }),
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
            Event::OutcomeUnknown(unknown) => (state.unknown, state.unknown_since) = (true, unknown.since),
            Event::LeftToPerson(left) => state.left_to_person = Some(left.at),
            Event::ResolvedByPerson(resolved) => state.resolved_by_person = Some(resolved.clone()),
            Event::Succeeded(succeeded) => {
                state.status = Status::Succeeded;
                state.know();
                state.provider_reference.clone_from(&succeeded.provider_reference);
            }
            Event::Failed(failed) => {
                state.status = Status::Failed;
                state.know();
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

/// Only a provider's books can show that the money did not go after all; what staff handed out is gone.
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
