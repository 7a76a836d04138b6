//! To which account an attempt goes, and when a payment goes on to another one.
//!
//! A second account is tried only after the first is *known* to have moved no money: its refusal is recorded, or nothing was ever
//! sent to it. While the outcome of a call is unknown, nothing is tried elsewhere.

use std::{future::Future, pin::Pin, sync::Arc};

use domain::{
    ids::{AttemptId, MerchantId, PaymentIntentId},
    payment_intent::{self, Created, PaymentIntent, Status, Tender},
    process::{AttemptRef, ProcessCommand},
    provider::MethodKind,
    provider_account::Rejection,
    routing::{self, Candidate, Choice, NoRoute, Request},
};

use crate::{
    error::CommandError,
    handle::UnitOfWork,
    payments::{self, AttemptOptions},
    process_commands,
};

/// Calls that never left before another account is looked for: a few seconds of waiting.
pub(crate) const TRIES_BEFORE_ANOTHER: u32 = 3;

/// The accounts that a merchant's payments could go to, with the health of their providers.
pub type Candidates = Arc<dyn Fn(MerchantId) -> Pin<Box<dyn Future<Output = Result<Vec<Candidate>, CommandError>> + Send>> + Send + Sync>;

/// Chooses an account; nothing in a process that knows of none, where the caller names the provider.
///
/// # Errors
/// `NoProviderAccount`; `Unavailable`, `Corrupt`.
pub(crate) async fn choose(unit: &UnitOfWork, details: &Created) -> Result<Option<Choice>, CommandError> {
    match unit.candidates().await? {
        None => Ok(None),
        Some(candidates) => best(details, &candidates, &[])
            .map(Some)
            .map_err(|NoRoute { why }| CommandError::Rejected(Rejection::NoProviderAccount { reason: why }.into())),
    }
}

fn best(details: &Created, candidates: &[Candidate], failed_at: &[String]) -> Result<Choice, NoRoute> {
    let method = match details.tender {
        Tender::OnlineCard => MethodKind::Card,
        Tender::PromptPay | Tender::Cash | Tender::Card | Tender::Invoice | Tender::Unknown => MethodKind::PromptPay,
    };
    let request = Request { method, amount: details.amount, store: details.store_id, failed_at };
    let choices = routing::route(&request, candidates)?;
    choices.into_iter().next().ok_or_else(|| NoRoute { why: "there is none".to_owned() })
}

/// The next account for a payment whose attempts failed so far; nothing when there is none, or when the payer's token is good at
/// one provider only.
async fn another(unit: &UnitOfWork, state: &payment_intent::State) -> Result<Option<Choice>, CommandError> {
    let Some(details) = state.details.as_ref().filter(|details| details.tender == Tender::PromptPay) else { return Ok(None) };
    let last = state.attempt.as_ref().map(|attempt| &attempt.started);
    let tried: Vec<String> = state.earlier.iter().chain(last).map(|started| started.account().to_owned()).collect();
    let Some(candidates) = unit.candidates().await? else { return Ok(None) };
    Ok(best(details, &candidates, &tried).ok())
}

/// Gives an attempt up that never reached its provider, when another account takes the payment. True when it is given up.
///
/// # Errors
/// `Unavailable`, `Corrupt`.
pub(crate) async fn give_up(unit: &mut UnitOfWork, attempt: &AttemptRef) -> Result<bool, CommandError> {
    let state = unit.state::<PaymentIntent>(attempt.payment_intent_id).await?;
    let live = state.attempt.as_ref().filter(|live| live.started.attempt_id == attempt.attempt_id && live.failed.is_none());
    // One answer that nobody knows, and the money may be there.
    let untouched = state.status == Status::Processing && live.is_some_and(|live| !live.unknown);
    if !untouched || another(unit, &state).await?.is_none() {
        return Ok(false);
    }
    let command = ProcessCommand::FailAttempt {
        payment_intent_id: attempt.payment_intent_id,
        attempt_id: attempt.attempt_id,
        code: "provider_unavailable".to_owned(),
        message: "nothing could be sent to the provider".to_owned(),
    };
    process_commands::apply(unit, command).await?;
    Ok(true)
}

/// Starts an attempt at the next account after one failed there; nothing when the payment has moved on or no account is left.
///
/// # Errors
/// Any rejection of a payment intent or a bill; `Unavailable`, `Corrupt`.
pub(crate) async fn go_on(unit: &mut UnitOfWork, id: PaymentIntentId, failed: AttemptId) -> Result<(), CommandError> {
    let state = payments::concerns(unit, id).await?;
    let last = state.attempt.as_ref().filter(|last| last.started.attempt_id == failed && last.failed.is_some());
    let (Some(last), Status::RequiresPaymentMethod) = (last, state.status) else { return Ok(()) };
    let left = last.started.expires_at - unit.now();
    if left <= chrono::Duration::zero() {
        return Ok(());
    }
    let Some(choice) = another(unit, &state).await? else { return Ok(()) };
    let (manual_capture, return_url) = (last.started.manual_capture, last.started.return_url.clone());
    let options = AttemptOptions { manual_capture, return_url, ..AttemptOptions::of(&choice) };
    payments::start_attempt(unit, &state, choice.provider, left, options).await.map(drop)
}
