//! Checkout: intent captured → bill paid → order completed; an intent that came to nothing frees what it held.

use super::{Happened, Intent, ProcessCommand};
use crate::{bill, event::DomainEvent, ids::PaymentIntentId, payment_intent};

/// What follows from an event.
pub fn react(happened: &Happened<'_>) -> Vec<Intent> {
    match happened.event {
        DomainEvent::PaymentIntent(event) => payment(PaymentIntentId(happened.stream_id), event),
        DomainEvent::Bill(bill::Event::Paid(paid)) => paid
            .order_ids
            .iter()
            .map(|order_id| Intent::Commands(vec![ProcessCommand::CompleteOrder { order_id: *order_id, bill_id: paid.bill_id }]))
            .collect(),
        DomainEvent::Bill(_)
        | DomainEvent::Merchant(_)
        | DomainEvent::Store(_)
        | DomainEvent::Order(_)
        | DomainEvent::Refund(_)
        | DomainEvent::Customer(_)
        | DomainEvent::ProviderAccount(_)
        | DomainEvent::WebhookEndpoint(_)
        | DomainEvent::LedgerAdjustment(_) => vec![],
    }
}

fn payment(payment_intent_id: PaymentIntentId, event: &payment_intent::Event) -> Vec<Intent> {
    use payment_intent::Event;
    let command = if let Event::Succeeded(payment) = event {
        payment.bill_id.map(|bill_id| ProcessCommand::AllocatePayment {
            bill_id,
            payment_intent_id,
            tender: payment.tender,
            amount: payment.amount.amount,
            cash_rounding: payment.cash_rounding,
            tip: payment.tip,
            acquirer: payment.acquirer.clone(),
        })
    } else if let Event::Canceled(payment_intent::Canceled { bill_id, .. }) | Event::Expired(payment_intent::Expired { bill_id }) = event {
        bill_id.map(|bill_id| ProcessCommand::ReleaseReservation { bill_id, payment_intent_id })
    } else {
        // A failed attempt frees its hold in the same append: the next attempt may hold the bill again before this is read.
        None
    };
    command.map(|command| Intent::Commands(vec![command])).into_iter().collect()
}
