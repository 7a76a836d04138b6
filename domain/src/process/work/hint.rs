//! Provider work on call-backs: what the books say of what one spoke of. Pure; the driver makes the call.

use chrono::{DateTime, Utc};

use super::{Step, books::from_books, later, retry_delay_ms, spread_ms};
use crate::process::{AttemptRef, Task};
use crate::provider::{AttemptView, CallOutcome};

/// How often a call-back's transaction is looked for before it is left to a person: 22 to 28 minutes.
pub const HINT_TRIES: u32 = 60;

/// A call-back to be followed: who spoke of which transaction on which reference, and how often it was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// The account: `pac_…`, or the provider's name for the platform's own.
    pub provider: String,
    /// Our reference, or the provider's own name for the attempt.
    pub reference: String,
    /// The provider's transaction, if it spoke of one.
    pub transaction_id: Option<String>,
    /// How often it was not found.
    pub tried: u32,
}

/// After asking what was paid because a call-back said so. Everything in the books counts; the hint is done once the books
/// show the very transaction that it spoke of, since they may lag behind the call-back. Says as well whether they do.
pub fn after_hint(attempt: &AttemptRef, hint: Hint, outcome: CallOutcome<AttemptView>, now: DateTime<Utc>) -> (Step, bool) {
    let CallOutcome::Done(view) = outcome else { return (Step { commands: vec![], next: look_again(hint, now) }, false) };
    let commands = from_books(attempt, &view, now);
    let seen = view.payments;
    let shown = |transaction_id: &String| seen.iter().any(|payment| payment.transaction_id == *transaction_id);
    let found = hint.transaction_id.as_ref().is_none_or(shown);
    (Step { commands, next: if found { None } else { look_again(hint, now) } }, found)
}

/// The next look for a call-back's transaction; nothing when it was looked for often enough.
pub fn look_again(hint: Hint, now: DateTime<Utc>) -> Option<(Task, DateTime<Utc>)> {
    let Hint { provider, reference, transaction_id, tried } = hint;
    let due = later(now, spread_ms(retry_delay_ms(tried), &reference, tried));
    let task = Task::FollowHint { provider, reference, transaction_id, tried: tried.saturating_add(1) };
    (tried < HINT_TRIES).then_some((task, due))
}

#[cfg(test)]
#[path = "hint_tests.rs"]
mod tests;
