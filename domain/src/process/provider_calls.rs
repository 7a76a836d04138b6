//! Provider calls: the fact before a call schedules the call; what the answer means is decided in [`super::work`].

use super::{AttemptRef, Happened, InquiryMode, Intent, RefundRef, Task, work};
use crate::{
    event::DomainEvent,
    ids::{AttemptId, PaymentIntentId},
    payment_intent::{self, AttemptStarted},
    refund::{self, Destination},
};

fn attempt_ref(started: &AttemptStarted, provider_id: Option<String>) -> AttemptRef {
    AttemptRef {
        payment_intent_id: started.payment_intent_id,
        attempt_id: started.attempt_id,
        // Calls and call-backs go by the account.
        provider: started.account().to_owned(),
        reference: started.reference.clone(),
        provider_id,
        tender: started.tender,
        manual_capture: started.manual_capture,
        amount: started.amount,
        created_at: started.started_at,
        expires_at: started.expires_at,
    }
}

/// Names the task that asks on the schedule whether an attempt was paid.
pub fn watch_key(attempt_id: AttemptId) -> String {
    format!("watch:{attempt_id}")
}

/// What follows from an event.
pub fn react(happened: &Happened<'_>) -> Vec<Intent> {
    match happened.event {
        DomainEvent::PaymentIntent(event) => payment(event, happened),
        DomainEvent::Refund(refund::Event::Requested(requested)) => match (requested.destination, &requested.provider) {
            (Destination::Original, Some(payment)) => {
                let (refund_id, amount, payment) = (requested.refund_id, requested.amount, (**payment).clone());
                let task = Task::Refund(RefundRef::new(refund_id, amount, payment));
                vec![Intent::Schedule { key: format!("refund:{refund_id}"), task, after_ms: 0 }]
            }
            (Destination::Original | Destination::Cash, _) => vec![],
        },
        DomainEvent::Refund(_)
        | DomainEvent::Customer(_)
        | DomainEvent::ProviderAccount(_)
        | DomainEvent::WebhookEndpoint(_)
        | DomainEvent::LedgerAdjustment(_)
        | DomainEvent::Merchant(_)
        | DomainEvent::Store(_)
        | DomainEvent::Order(_)
        | DomainEvent::Bill(_) => vec![],
    }
}

fn payment(event: &payment_intent::Event, happened: &Happened<'_>) -> Vec<Intent> {
    use payment_intent::Event;
    let schedule = |key: String, task: Task, after_ms: i64| Intent::Schedule { key, task, after_ms };
    if let Event::AttemptStarted(started) = event {
        let attempt = attempt_ref(started, None);
        let (card_token, return_url) = (started.card_token.clone(), started.return_url.clone());
        let start = Task::Start { attempt: attempt.clone(), card_token, return_url, tried: 0, uncertain_since: None };
        let watch = Task::Inquire { attempt: attempt.clone(), mode: InquiryMode::Watch, asked: 0 };
        vec![
            Intent::RememberReference(attempt),
            schedule(format!("create:{}", started.attempt_id), start, 0),
            schedule(watch_key(started.attempt_id), watch, work::inquiry_delay_ms(0)),
        ]
    } else if let Event::Created(created) = event {
        let awaited = created.terms.as_ref().is_some_and(|terms| terms.awaits_confirm);
        let lapse = created.expires_at.filter(|_| awaited).map(|end| {
            let task = Task::Lapse { payment_intent_id: created.payment_intent_id };
            let after_ms = (end - happened.recorded_at).num_milliseconds().max(0);
            schedule(format!("lapse:{}", created.payment_intent_id), task, after_ms)
        });
        lapse.into_iter().collect()
    } else if let Event::AttemptFailed(failed) = event {
        // A look at once: when it ends, and whether another attempt is under way, the intent says.
        let task = Task::Lapse { payment_intent_id: PaymentIntentId(happened.stream_id) };
        vec![schedule(format!("lapse:{}", failed.attempt_id), task, 0)]
    } else if let Event::AttemptAccepted(accepted) = event {
        vec![Intent::RememberReference(attempt_ref(&accepted.attempt, Some(accepted.provider_id.clone())))]
    } else if let Event::CancelRequested(requested) = event {
        let mut attempt = attempt_ref(&requested.attempt, requested.provider_id.clone());
        // The attempt's time is up once the last call before the request cannot have done anything that is still hidden.
        attempt.expires_at = attempt.expires_at.min(work::proven_after_stop(happened.recorded_at));
        let task = Task::Stop { attempt, mode: InquiryMode::Cancel, tried: 0 };
        vec![schedule(format!("cancel:{}", requested.attempt.payment_intent_id), task, 0)]
    } else if let Event::CaptureRequested(requested) = event {
        let attempt = attempt_ref(&requested.attempt, requested.provider_id.clone());
        let capture = requested.amount.amount;
        let request = happened.position;
        let key = format!("capture:{}:{request}", attempt.attempt_id);
        vec![schedule(
            key,
            Task::Capture { attempt, capture, request, tried: 0, unclear_since: None, uncertain_since: None, told: false },
            0,
        )]
    } else if let Event::IncreaseRequested(requested) = event {
        let attempt = attempt_ref(&requested.attempt, requested.provider_id.clone());
        let total = requested.amount.amount;
        let request = happened.position;
        let key = format!("increase:{}:{request}", attempt.attempt_id);
        vec![schedule(key, Task::Increase { attempt, total, request, tried: 0, unclear_since: None, told: false }, 0)]
    } else {
        vec![]
    }
}
