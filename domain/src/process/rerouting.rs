//! Rerouting: a payment whose attempt failed for a reason that lies with its account goes on at another one.
//!
//! Only a known failure comes here; each account is tried once, so it ends.

use super::{Happened, Intent, Task};
use crate::{
    event::DomainEvent,
    ids::PaymentIntentId,
    payment_intent::{self, AttemptFailed},
    routing::may_succeed_elsewhere,
};

/// What follows from an event.
pub fn react(happened: &Happened<'_>) -> Vec<Intent> {
    let DomainEvent::PaymentIntent(payment_intent::Event::AttemptFailed(AttemptFailed { attempt_id, code, .. })) = happened.event else {
        return vec![];
    };
    if !may_succeed_elsewhere(code) {
        return vec![];
    }
    let task = Task::Reroute { payment_intent_id: PaymentIntentId(happened.stream_id), attempt_id: *attempt_id };
    vec![Intent::Schedule { key: format!("reroute:{attempt_id}"), task, after_ms: 0 }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{AttemptId, MerchantId, Ulid};

    fn after(code: &str) -> Vec<Intent> {
        let failed =
            AttemptFailed { attempt_id: AttemptId(Ulid::from_bytes([3; 16])), bill_id: None, code: code.into(), message: String::new() };
        let event = DomainEvent::PaymentIntent(failed.into());
        let tenant = MerchantId(Ulid::from_bytes([1; 16]));
        react(&Happened {
            tenant,
            stream_id: Ulid::from_bytes([2; 16]),
            position: 7,
            recorded_at: chrono::DateTime::UNIX_EPOCH,
            event: &event,
        })
    }

    #[test]
    fn a_failure_of_the_account_leads_to_the_next_and_a_refusal_of_the_payer_does_not() {
        let intents = after("credentials_refused");
        assert!(matches!(&intents[..], [Intent::Schedule { task: Task::Reroute { .. }, after_ms: 0, .. }]), "{intents:?}");
        assert!(after("card_declined").is_empty() && after("invalid_request").is_empty());
    }
}
