//! Provider work: what a provider's answer means, and whether to ask again. Pure; the driver makes the call.
//!
//! An unknown outcome climbs a ladder: the call is repeated only where the provider treats the repeat as the same thing,
//! the books are asked on a schedule to the deadline and beyond it, and nothing is declared failed without proof.

use chrono::{DateTime, Duration, Utc};

use super::{AttemptRef, InquiryMode, ProcessCommand, Task};
use crate::{
    payment_intent::{AttemptEnd, Evidence, PaymentReport},
    provider::{AttemptStatus, AttemptView, CallOutcome, Decline, DisputeSeen, NextAction, PaymentSeen},
};

/// After the deadline, how long a payment may still be invisible at the provider, milliseconds.
pub const SETTLING_MARGIN_MS: i64 = 5_000;

/// Inquiries after the attempt ended without a payment: minutes after the deadline. Late money is found by these.
const LATE_INQUIRY_MINUTES: [i64; 4] = [1, 5, 15, 60];

/// Pause before inquiry number `asked` (0 = first), milliseconds: 3 s, 6 s, 12 s, then every 30 s.
pub const fn inquiry_delay_ms(asked: u32) -> i64 {
    match asked {
        0 => 3_000,
        1 => 6_000,
        2 => 12_000,
        _ => 30_000,
    }
}

/// Pause after a read that gave no answer, milliseconds: doubling from 3 s to 10 minutes, so that a provider that is away or
/// no longer configured is asked ever more rarely, but never given up.
pub const fn silence_delay_ms(asked: u32) -> i64 {
    let doublings = if asked > 8 { 8 } else { asked };
    let delay = 3_000_i64 << doublings;
    if delay > 600_000 { 600_000 } else { delay }
}

/// Pause before repeat number `tried` of a call, milliseconds: doubling from 0.5 s to 30 s.
pub const fn retry_delay_ms(tried: u32) -> i64 {
    let doublings = if tried > 6 { 6 } else { tried };
    let delay = 500_i64 << doublings;
    if delay > 30_000 { 30_000 } else { delay }
}

/// What follows from an answer.
#[derive(Debug, Clone, Default)]
pub struct Step {
    /// Commands to append, each on its own.
    pub commands: Vec<ProcessCommand>,
    /// The task that replaces this one, and when it is due; nothing when it is done.
    pub next: Option<(Task, DateTime<Utc>)>,
}

pub(super) fn later(now: DateTime<Utc>, ms: i64) -> DateTime<Utc> {
    now + Duration::milliseconds(ms)
}

/// What the provider's books say about an attempt, as commands; the same from every call that shows them.
pub fn from_books(attempt: &AttemptRef, view: &AttemptView, now: DateTime<Utc>) -> Vec<ProcessCommand> {
    let (payment_intent_id, attempt_id) = (attempt.payment_intent_id, attempt.attempt_id);
    let mut commands = Vec::new();
    if let (None, Some(provider_id)) = (&attempt.provider_id, &view.provider_id) {
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
    commands
        .extend(view.payments.iter().filter_map(|payment| payment.dispute.as_ref()).flat_map(|dispute| contested(attempt, dispute, now)));
    commands
}

/// What the books say of a dispute: that there is one, and how it was decided once it was.
fn contested(attempt: &AttemptRef, dispute: &DisputeSeen, now: DateTime<Utc>) -> impl Iterator<Item = ProcessCommand> {
    let payment_intent_id = attempt.payment_intent_id;
    let opened = ProcessCommand::OpenDispute { payment_intent_id, reason: dispute.reason.clone(), at: now };
    let decided = dispute.outcome.map(|outcome| ProcessCommand::DecideDispute { payment_intent_id, outcome, at: now });
    std::iter::once(opened).chain(decided)
}

/// The money that closes the attempt is in the books: all that is owed, or out of a hold what was captured.
fn closes(attempt: &AttemptRef, view: &AttemptView) -> bool {
    let mut kept = view.payments.iter().filter(|payment| !payment.is_reversed());
    kept.any(|payment| attempt.manual_capture || payment.amount == attempt.amount)
}

/// The books showed the money that closes the attempt.
pub fn is_paid(attempt: &AttemptRef, outcome: &CallOutcome<AttemptView>) -> bool {
    matches!(outcome, CallOutcome::Done(view) if closes(attempt, view))
}

/// After beginning an attempt.
pub fn after_start(start: Start, outcome: CallOutcome<AttemptView>, now: DateTime<Utc>) -> Step {
    let (payment_intent_id, attempt_id) = (start.attempt.payment_intent_id, start.attempt.attempt_id);
    match outcome {
        CallOutcome::Done(view) => Step { commands: from_books(&start.attempt, &view, now), next: None },
        CallOutcome::Declined(decline) => {
            let (code, message) = (decline.code, decline.message);
            Step { commands: vec![ProcessCommand::FailAttempt { payment_intent_id, attempt_id, code, message }], next: None }
        }
        CallOutcome::NotAttempted(_) => Step { commands: vec![], next: start.again(now) },
        CallOutcome::Unknown(reason) => {
            let command = ProcessCommand::MarkAttemptUnknown { payment_intent_id, attempt_id, reason, since: now };
            Step { commands: vec![command], next: start.again(now) }
        }
    }
}

/// An attempt to be begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Which.
    pub attempt: AttemptRef,
    /// For a card: the provider's token.
    pub card_token: Option<String>,
    /// Where the payer's browser goes after an action.
    pub return_url: Option<String>,
    /// How often it was tried before.
    pub tried: u32,
}

impl Start {
    /// The identifiers are the same on every repeat, so a repeat makes no second thing to pay; after the deadline nobody needs it.
    fn again(self, now: DateTime<Utc>) -> Option<(Task, DateTime<Utc>)> {
        let Self { attempt, card_token, return_url, tried } = self;
        let due = later(now, retry_delay_ms(tried));
        (due < attempt.expires_at).then(|| (Task::Start { attempt, card_token, return_url, tried: tried.saturating_add(1) }, due))
    }
}

/// After asking what was paid.
pub fn after_inquiry(
    mut attempt: AttemptRef,
    mode: InquiryMode,
    asked: u32,
    outcome: CallOutcome<AttemptView>,
    now: DateTime<Utc>,
) -> Step {
    let (payment_intent_id, attempt_id) = (attempt.payment_intent_id, attempt.attempt_id);
    let view = match outcome {
        CallOutcome::Done(view) => view,
        // A read that failed says nothing; ask again on the schedule. A person is told when the schedule is over.
        CallOutcome::Declined(_) | CallOutcome::NotAttempted(_) | CallOutcome::Unknown(_) => {
            let over = now >= resolves_by(attempt.expires_at);
            let commands = if over { vec![ProcessCommand::LeaveToPerson { payment_intent_id, attempt_id, at: now }] } else { vec![] };
            let due = later(now, silence_delay_ms(asked));
            let next = Some((Task::Inquire { attempt, mode, asked: asked.saturating_add(1) }, due));
            return Step { commands, next };
        }
    };
    let mut commands = from_books(&attempt, &view, now);
    let money = commands.iter().any(|command| matches!(command, ProcessCommand::ConfirmPayment { .. }));
    attempt.provider_id = attempt.provider_id.take().or_else(|| view.provider_id.clone());
    // Another amount does not close the intent: it is recorded and the watch goes on, so that the intent still ends.
    if closes(&attempt, &view) || (mode == InquiryMode::Cancel && money) {
        return Step { commands, next: None };
    }
    match (mode, &view.status) {
        (InquiryMode::Cancel, AttemptStatus::NotFound | AttemptStatus::Paid) => {
            commands.push(ProcessCommand::ConfirmCancel { payment_intent_id });
            Step { commands, next: None }
        }
        (_, AttemptStatus::Failed(_) | AttemptStatus::Canceled | AttemptStatus::Expired) if mode == InquiryMode::Cancel => {
            Step { commands, next: None }
        }
        (InquiryMode::Cancel, _) => {
            let due = later(now, retry_delay_ms(asked.saturating_add(2)));
            Step { commands, next: Some((Task::Stop { attempt, mode, tried: asked.saturating_add(1) }, due)) }
        }
        (InquiryMode::Watch, _) => watch(attempt, asked, &view.status, commands, now),
    }
}

/// What the watch does when the money is not here.
fn watch(attempt: AttemptRef, asked: u32, status: &AttemptStatus, mut commands: Vec<ProcessCommand>, now: DateTime<Utc>) -> Step {
    let (payment_intent_id, attempt_id) = (attempt.payment_intent_id, attempt.attempt_id);
    let over = now >= later(attempt.expires_at, SETTLING_MARGIN_MS);
    match status {
        AttemptStatus::Authorized { capture_before, .. } => {
            let next = Some(super::work_hold::next_look(attempt, asked, *capture_before, now));
            return Step { commands, next };
        }
        AttemptStatus::NotFound | AttemptStatus::Paid if over => {
            commands.push(ProcessCommand::ExpirePayment { payment_intent_id, attempt_id });
        }
        // Still payable there: it must be stopped before its time can be up here.
        AttemptStatus::Pending | AttemptStatus::ActionRequired(_) if over => {
            let late = now >= resolves_by(attempt.expires_at);
            let stop = Task::Stop { attempt, mode: InquiryMode::Watch, tried: asked.saturating_add(1) };
            if late {
                commands.push(ProcessCommand::LeaveToPerson { payment_intent_id, attempt_id, at: now });
            }
            return Step { commands, next: Some((stop, later(now, silence_delay_ms(asked.min(4))))) };
        }
        AttemptStatus::Unrecognized(_) if now >= resolves_by(attempt.expires_at) => {
            commands.push(ProcessCommand::LeaveToPerson { payment_intent_id, attempt_id, at: now });
            let due = later(now, silence_delay_ms(8));
            return Step {
                commands,
                next: Some((Task::Inquire { attempt, mode: InquiryMode::Watch, asked: asked.saturating_add(1) }, due)),
            };
        }
        AttemptStatus::NotFound
        | AttemptStatus::ActionRequired(_)
        | AttemptStatus::Pending
        | AttemptStatus::Paid
        | AttemptStatus::Failed(_)
        | AttemptStatus::Canceled
        | AttemptStatus::Expired
        | AttemptStatus::Unrecognized(_) => {}
    }
    Step { commands, next: next_watch(attempt, asked, now) }
}

/// The published worst case: by then an outcome is known or a person is told.
pub fn resolves_by(expires_at: DateTime<Utc>) -> DateTime<Utc> {
    let last = LATE_INQUIRY_MINUTES.iter().copied().max().unwrap_or(0);
    later(expires_at, SETTLING_MARGIN_MS) + Duration::minutes(last)
}

/// How often a call-back's transaction is looked for before it is left to a person: about half an hour.
pub const HINT_TRIES: u32 = 60;

/// A call-back to be followed: who spoke of which transaction on which reference, and how often it was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// The provider's name.
    pub provider: String,
    /// Our reference, or the provider's own name for the attempt.
    pub reference: String,
    /// The provider's transaction, if it spoke of one.
    pub transaction_id: Option<String>,
    /// How often it was not found.
    pub tried: u32,
}

/// After asking what was paid because a call-back said so. Everything in the books counts; the hint is done once the books
/// show the very transaction that it spoke of, since they may lag behind the call-back.
pub fn after_hint(attempt: &AttemptRef, hint: Hint, outcome: CallOutcome<AttemptView>, now: DateTime<Utc>) -> Step {
    let CallOutcome::Done(view) = outcome else { return Step { commands: vec![], next: look_again(hint, now) } };
    let commands = from_books(attempt, &view, now);
    let seen = view.payments;
    let shown = |transaction_id: &String| seen.iter().any(|payment| payment.transaction_id == *transaction_id);
    let found = hint.transaction_id.as_ref().is_none_or(shown);
    Step { commands, next: if found { None } else { look_again(hint, now) } }
}

/// The next look for a call-back's transaction; nothing when it was looked for often enough.
pub fn look_again(hint: Hint, now: DateTime<Utc>) -> Option<(Task, DateTime<Utc>)> {
    let Hint { provider, reference, transaction_id, tried } = hint;
    let task = Task::FollowHint { provider, reference, transaction_id, tried: tried.saturating_add(1) };
    (tried < HINT_TRIES).then(|| (task, later(now, retry_delay_ms(tried))))
}

fn next_watch(attempt: AttemptRef, asked: u32, now: DateTime<Utc>) -> Option<(Task, DateTime<Utc>)> {
    let deadline = later(attempt.expires_at, SETTLING_MARGIN_MS);
    let due = if now < deadline {
        later(now, inquiry_delay_ms(asked.saturating_add(1))).min(deadline)
    } else {
        LATE_INQUIRY_MINUTES.iter().map(|minutes| deadline + Duration::minutes(*minutes)).find(|due| *due > now)?
    };
    Some((Task::Inquire { attempt, mode: InquiryMode::Watch, asked: asked.saturating_add(1) }, due))
}

pub(super) fn confirm(attempt: &AttemptRef, payment: &PaymentSeen) -> ProcessCommand {
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

#[cfg(test)]
#[path = "work_tests.rs"]
mod tests;
