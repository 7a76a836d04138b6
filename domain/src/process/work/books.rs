//! What a provider's books say of an attempt, in our words. Pure; the driver makes the call.

use chrono::{DateTime, Utc};

use crate::process::{AttemptRef, ProcessCommand};
use crate::{
    money::Money,
    payment_intent::{AttemptEnd, Evidence, PaymentReport},
    provider::{AttemptStatus, AttemptView, CallOutcome, Decline, NextAction, PaymentSeen},
};

/// What the provider's books say about an attempt, as commands; the same from every call that shows them.
pub(super) fn from_books(attempt: &AttemptRef, view: &AttemptView, now: DateTime<Utc>) -> Vec<ProcessCommand> {
    let (payment_intent_id, attempt_id) = (attempt.payment_intent_id, attempt.attempt_id);
    let mut commands = Vec::new();
    // A name under which nothing is found (some are made out of our reference) tells of no attempt.
    if let (None, Some(provider_id)) = (&attempt.provider_id, &view.provider_id)
        && view.status != AttemptStatus::NotFound
    {
        commands.push(ProcessCommand::AcceptAttempt { payment_intent_id, attempt_id, provider_id: provider_id.clone() });
    }
    let kept = view.payments.iter().filter(|payment| !payment.is_reversed());
    let paid: Vec<ProcessCommand> = kept.map(|payment| confirm(attempt, payment)).collect();
    let end = |how| ProcessCommand::EndAttempt { payment_intent_id, attempt_id, how };
    match &view.status {
        // Money first: with it nothing of the rest holds.
        _ if !paid.is_empty() => {}
        AttemptStatus::ActionRequired(action) => {
            let (qr_payload, redirect_url) = match action.clone() {
                NextAction::ShowQr { payload } => (Some(payload), None),
                NextAction::Redirect { url } => (None, Some(url)),
            };
            commands.push(ProcessCommand::RequireAction { payment_intent_id, attempt_id, qr_payload, redirect_url });
        }
        AttemptStatus::Authorized { amount, capture_before } => {
            let (amount, capture_before) = (*amount, *capture_before);
            commands.push(ProcessCommand::AuthorizeAttempt { payment_intent_id, attempt_id, amount, capture_before });
        }
        AttemptStatus::Failed(Decline { code, message }) => {
            commands.push(end(AttemptEnd::Failed { code: code.clone(), message: message.clone() }));
        }
        AttemptStatus::Canceled => commands.push(end(AttemptEnd::Canceled)),
        AttemptStatus::Expired => commands.push(end(AttemptEnd::Expired)),
        AttemptStatus::Unrecognized(word) => {
            let reason = format!("the provider says '{word}', which is not known here");
            commands.push(ProcessCommand::MarkAttemptUnknown { payment_intent_id, attempt_id, reason, since: now });
        }
        // `Paid` without a payment is a contradiction that the next look clears up.
        AttemptStatus::NotFound | AttemptStatus::Pending | AttemptStatus::Paid => {}
    }
    commands.extend(paid);
    commands.extend(view.payments.iter().flat_map(|payment| contested(attempt, payment, now)));
    commands
}

/// What the books say of a payment's dispute: that there is one, and how it was decided once it was. Which of the intent's money is meant
/// tells the transaction.
fn contested(attempt: &AttemptRef, payment: &PaymentSeen, now: DateTime<Utc>) -> Vec<ProcessCommand> {
    let Some(dispute) = &payment.dispute else { return vec![] };
    let (payment_intent_id, reason) = (attempt.payment_intent_id, dispute.reason.clone());
    let transaction_id = || payment.transaction_id.clone();
    let opened = ProcessCommand::OpenDispute { payment_intent_id, transaction_id: transaction_id(), reason, at: now };
    let decided = |outcome| ProcessCommand::DecideDispute { payment_intent_id, transaction_id: transaction_id(), outcome, at: now };
    std::iter::once(opened).chain(dispute.outcome.map(decided)).collect()
}

/// The money that closes the attempt is in the books: all that is owed, or what was captured of a hold. More than that closes no
/// intent that has not heard of a raised hold, and the looks go on.
pub(super) fn closes(attempt: &AttemptRef, view: &AttemptView) -> bool {
    let owed = attempt.amount;
    let captured = |seen: Money| attempt.manual_capture && seen.currency == owed.currency && seen.amount < owed.amount;
    let mut kept = view.payments.iter().filter(|payment| !payment.is_reversed());
    kept.any(|payment| payment.amount == owed || captured(payment.amount))
}

/// The books showed the money that closes the attempt.
pub fn is_paid(attempt: &AttemptRef, outcome: &CallOutcome<AttemptView>) -> bool {
    matches!(outcome, CallOutcome::Done(view) if closes(attempt, view))
}

fn confirm(attempt: &AttemptRef, payment: &PaymentSeen) -> ProcessCommand {
    ProcessCommand::ConfirmPayment {
        payment_intent_id: attempt.payment_intent_id,
        report: PaymentReport {
            attempt_id: Some(attempt.attempt_id),
            transaction_id: Some(payment.transaction_id.clone()),
            amount: payment.amount,
            paid_at: payment.paid_at,
            evidence: Evidence::Inquiry,
            cash_received: None,
            cash_rounding: 0,
            tip: 0,
            acquirer: None,
        },
    }
}
