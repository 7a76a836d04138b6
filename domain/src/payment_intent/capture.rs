//! Money that is held: authorised, raised, captured once, in full or in part.

use chrono::{DateTime, Utc};

use super::{
    Attempt, Authorized, CaptureFailed, CaptureRequested, Created, Event, IncreaseFailed, IncreaseRequested, Rejection, State, Status,
};
use crate::{ids::AttemptId, money::Money, order::MAX_PRICE};

/// The provider says what it holds; said again only when that is more. A hold falls by a capture or ends, so less is what a look found that
/// was made before the hold was raised, and whose answer came late. Were it true, the provider would refuse to capture more.
pub(super) fn authorize(state: &State, attempt_id: AttemptId, amount: Money, capture_before: Option<DateTime<Utc>>) -> Vec<Event> {
    let Some(attempt) = state.live_attempt(attempt_id).filter(|_| state.is_open()) else { return vec![] };
    let known =
        attempt.authorized.as_ref().is_some_and(|held| held.amount.currency == amount.currency && held.amount.amount >= amount.amount);
    // A person was told that the books cannot be read; now they are, and nobody waits for more than the hold.
    let unread = attempt.left_to_person.is_some() && attempt.capturing.is_none() && attempt.increasing.is_none();
    if let (true, true, Some(held)) = (known, unread && state.cancel_requested.is_none(), &attempt.authorized) {
        return vec![Authorized { attempt_id, amount: held.amount, capture_before }.into()];
    }
    // An increase under way that the books do not show yet is not undone by them.
    if known { vec![] } else { vec![Authorized { attempt_id, amount, capture_before }.into()] }
}

fn holding(state: &State) -> Result<(&Attempt, &Authorized), Rejection> {
    let nothing = || Rejection::NothingToCapture { status: state.status.as_str() };
    let attempt = state.attempt.as_ref().ok_or_else(nothing)?;
    let held = state.held().ok_or_else(nothing)?;
    if state.cancel_requested.is_some() { Err(nothing()) } else { Ok((attempt, held)) }
}

pub(super) fn capture(state: &State, amount: Option<Money>) -> Result<Vec<Event>, Rejection> {
    // The money is here: a repeat changes nothing.
    if state.status == Status::Succeeded {
        let repeats = state.payment.as_ref().is_some_and(|payment| amount.is_none_or(|amount| amount == payment.amount));
        return if repeats { Ok(vec![]) } else { Err(Rejection::NothingToCapture { status: state.status.as_str() }) };
    }
    let (attempt, held) = holding(state)?;
    let amount = amount.unwrap_or(held.amount);
    match attempt.capturing {
        Some(under_way) if under_way == amount.amount => return Ok(vec![]),
        Some(_) => return Err(Rejection::CaptureInProgress),
        None => {}
    }
    if amount.currency != held.amount.currency {
        return Err(Rejection::CurrencyMismatch);
    }
    if !amount.is_positive() {
        return Err(Rejection::AmountNotPositive);
    }
    if amount.amount > held.amount.amount {
        return Err(Rejection::CaptureExceedsHeld { held: held.amount.amount });
    }
    let (attempt, provider_id) = (attempt.started.named(), attempt.provider_id.clone());
    Ok(vec![CaptureRequested { attempt, provider_id, amount }.into()])
}

pub(super) fn fail_capture(state: &State, attempt_id: AttemptId, code: String, message: String) -> Vec<Event> {
    let asked = state.live_attempt(attempt_id).is_some_and(|attempt| attempt.capturing.is_some());
    if asked && state.is_open() { vec![CaptureFailed { attempt_id, code, message }.into()] } else { vec![] }
}

pub(super) fn increase(state: &State, details: &Created, amount: Money) -> Result<Vec<Event>, Rejection> {
    let (attempt, held) = holding(state)?;
    if details.bill_id.is_some() {
        return Err(Rejection::BillAmountFixed);
    }
    if attempt.capturing.is_some() {
        return Err(Rejection::CaptureInProgress);
    }
    match attempt.increasing {
        Some(under_way) if under_way == amount.amount => return Ok(vec![]),
        Some(_) => return Err(Rejection::AttemptInProgress),
        None => {}
    }
    if amount.currency != held.amount.currency {
        return Err(Rejection::CurrencyMismatch);
    }
    if amount.amount == held.amount.amount {
        return Ok(vec![]);
    }
    if amount.amount < held.amount.amount {
        return Err(Rejection::IncreaseNotHigher { held: held.amount.amount });
    }
    if amount.amount > MAX_PRICE {
        return Err(Rejection::AmountNotPositive);
    }
    let (attempt, provider_id) = (attempt.started.named(), attempt.provider_id.clone());
    Ok(vec![IncreaseRequested { attempt, provider_id, amount }.into()])
}

pub(super) fn fail_increase(state: &State, attempt_id: AttemptId, code: String, message: String) -> Vec<Event> {
    let asked = state.live_attempt(attempt_id).is_some_and(|attempt| attempt.increasing.is_some());
    if asked && state.is_open() { vec![IncreaseFailed { attempt_id, code, message }.into()] } else { vec![] }
}
