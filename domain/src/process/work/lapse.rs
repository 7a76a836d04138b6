//! The end of an intent that nobody confirms: no provider is asked, for nothing is under way there.

use chrono::{DateTime, Utc};

use super::Step;
use crate::process::{ProcessCommand, Task};
use crate::{ids::PaymentIntentId, payment_intent::State};

/// After a look at an intent whose time may be over: it ends, is looked at again at its end, or has an attempt, which has a watch.
pub fn after_look(payment_intent_id: PaymentIntentId, intent: &State, now: DateTime<Utc>) -> Step {
    match intent.lapses_at() {
        Some(end) if now < end => Step { commands: vec![], next: Some((Task::Lapse { payment_intent_id }, end)) },
        Some(_) => Step { commands: vec![ProcessCommand::LapsePayment { payment_intent_id, at: now }], next: None },
        None => Step::default(),
    }
}
