//! Provider calls: the fact before a call schedules the call; what the answer means is decided in [`super::work`].

use super::{AttemptRef, Happened, InquiryMode, Intent, Task, work};
use crate::{
    event::DomainEvent,
    payment_intent::{self, AttemptStarted},
    refund::{self, Destination},
};

fn attempt_ref(started: &AttemptStarted) -> AttemptRef {
    AttemptRef {
        payment_intent_id: started.payment_intent_id,
        attempt_id: started.attempt_id,
        provider: started.provider.clone(),
        reference: started.reference.clone(),
        amount: started.amount,
        created_at: started.started_at,
        expires_at: started.expires_at,
    }
}

/// What follows from an event.
pub fn react(happened: &Happened<'_>) -> Vec<Intent> {
    match happened.event {
        DomainEvent::PaymentIntent(payment_intent::Event::AttemptStarted(started)) => {
            let attempt = attempt_ref(started);
            let watch = Task::Inquire { attempt: attempt.clone(), mode: InquiryMode::Watch, asked: 0 };
            vec![
                Intent::RememberReference(attempt.clone()),
                Intent::Schedule { key: format!("create:{}", started.attempt_id), task: Task::CreateQr { attempt, tried: 0 }, after_ms: 0 },
                Intent::Schedule { key: format!("watch:{}", started.attempt_id), task: watch, after_ms: work::inquiry_delay_ms(0) },
            ]
        }
        DomainEvent::PaymentIntent(payment_intent::Event::CancelRequested(requested)) => {
            let task = Task::Inquire { attempt: attempt_ref(&requested.attempt), mode: InquiryMode::Cancel, asked: 0 };
            vec![Intent::Schedule { key: format!("cancel:{}", requested.attempt.payment_intent_id), task, after_ms: 0 }]
        }
        DomainEvent::Refund(refund::Event::Requested(requested)) => match (requested.destination, &requested.provider) {
            (Destination::Original, Some(payment)) => {
                let (refund_id, amount, payment) = (requested.refund_id, requested.amount, payment.clone());
                let task = Task::Refund { refund_id, amount, payment, tried: 0 };
                vec![Intent::Schedule { key: format!("refund:{refund_id}"), task, after_ms: 0 }]
            }
            (Destination::Original | Destination::Cash, _) => vec![],
        },
        DomainEvent::PaymentIntent(_)
        | DomainEvent::Refund(_)
        | DomainEvent::Customer(_)
        | DomainEvent::WebhookEndpoint(_)
        | DomainEvent::LedgerAdjustment(_)
        | DomainEvent::Merchant(_)
        | DomainEvent::Store(_)
        | DomainEvent::Order(_)
        | DomainEvent::Bill(_) => vec![],
    }
}
