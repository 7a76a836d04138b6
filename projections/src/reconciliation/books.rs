//! What the log says of one account: each stream is folded by its own rules, and the money that moved is read off its state.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use domain::{
    decider::Aggregate,
    envelope::RecordedEvent,
    event::DomainEvent,
    ids::PaymentIntentId,
    money::Money,
    payment_intent::{self, AttemptStarted, PaymentIntent},
    provider::voided_transaction,
    reconciliation::{Booked, Kind, Listed, Named, Period},
    refund::{self, Destination, Refund},
};

use super::{Question, Sought};
use crate::error::Error;

/// Movements of one account, as far as the period or the list asks for them.
pub(super) struct Books<'l> {
    /// As [`AttemptStarted::account`] names it.
    account: String,
    period: Period,
    sought: Sought<'l>,
    /// Some attempt went to the account.
    pub(super) is_known: bool,
    /// What moved.
    pub(super) booked: Vec<Booked>,
    /// Intents by those of our references that the list names.
    pub(super) named: BTreeMap<String, Named>,
}

impl<'l> Books<'l> {
    pub(super) fn new(question: &Question, list: &'l [Listed]) -> Self {
        Self {
            account: question.account.to_string(),
            period: question.period,
            sought: Sought::of(list),
            is_known: false,
            booked: Vec::new(),
            named: BTreeMap::new(),
        }
    }

    /// Takes a whole stream in.
    ///
    /// # Errors
    /// `Corrupt` for an event that this build does not know.
    pub(super) fn take(&mut self, stream: &[RecordedEvent]) -> Result<(), Error> {
        let (mut intent, mut refund) = (payment_intent::State::default(), refund::State::default());
        let mut refunded_at = None;
        for event in stream {
            let decoded = DomainEvent::decode(event).map_err(|error| Error::Corrupt { position: event.pos, what: error.to_string() })?;
            match decoded {
                DomainEvent::PaymentIntent(change) => intent = PaymentIntent::evolve(intent, &change),
                DomainEvent::Refund(change) => {
                    if matches!(change, refund::Event::Succeeded(_)) {
                        refunded_at = Some(event.occurred_at);
                    }
                    refund = Refund::evolve(refund, &change);
                }
                DomainEvent::Merchant(_)
                | DomainEvent::Store(_)
                | DomainEvent::Order(_)
                | DomainEvent::Bill(_)
                | DomainEvent::LedgerAdjustment(_)
                | DomainEvent::Customer(_)
                | DomainEvent::ProviderAccount(_)
                | DomainEvent::WebhookEndpoint(_) => {}
            }
        }
        self.take_intent(&intent);
        if let Some(at) = refunded_at {
            self.take_refund(&refund, at);
        }
        Ok(())
    }

    fn take_intent(&mut self, state: &payment_intent::State) {
        let Some(details) = &state.details else { return };
        let last = state.attempt.as_ref().map(|attempt| &attempt.started);
        for started in state.earlier.iter().chain(last) {
            if started.account() == self.account {
                self.is_known = true;
                self.name(state, started, details.payment_intent_id);
            }
        }
        let paid = state
            .payment
            .as_ref()
            .and_then(|payment| Some((payment.attempt_id?, payment.transaction_id.as_deref()?, payment.amount, payment.paid_at)));
        let paid_by = paid.map(|(_, transaction_id, ..)| transaction_id);
        // What was accepted after all is the payment itself.
        let beside = state.unmatched.iter().filter_map(|payment| {
            let received = &payment.received;
            let transaction_id = Some(received.transaction_id.as_str()).filter(|id| paid_by != Some(*id))?;
            Some((received.attempt_id?, transaction_id, received.amount, received.paid_at))
        });
        for (attempt_id, transaction_id, amount, at) in paid.into_iter().chain(beside) {
            let Some(started) = state.attempt_named(attempt_id).filter(|started| started.account() == self.account) else { continue };
            self.book(Booked {
                kind: Kind::Payment,
                transaction_id: transaction_id.to_owned(),
                reference: started.reference.clone(),
                gross: amount,
                at,
                payment_intent_id: details.payment_intent_id,
                refund_id: None,
            });
        }
    }

    fn name(&mut self, state: &payment_intent::State, started: &AttemptStarted, payment_intent_id: PaymentIntentId) {
        if self.sought.references.contains(started.reference.as_str()) {
            let left = state.left_to_person().filter(|attempt| attempt.started.attempt_id == started.attempt_id);
            let left_to_person = left.and(state.details.as_ref()).map(|details| details.amount);
            self.named.insert(started.reference.clone(), Named { payment_intent_id, status: state.status, left_to_person });
        }
    }

    /// What went back through the account; not what was handed out in cash instead.
    fn take_refund(&mut self, state: &refund::State, at: DateTime<Utc>) {
        let Some(details) = state.details.as_ref().filter(|details| details.destination == Destination::Original) else { return };
        let (Some(payment), Some(payment_intent_id)) = (&details.provider, details.payment_intent_id) else { return };
        if state.status != refund::Status::Succeeded || payment.provider != self.account {
            return;
        }
        let name = state.provider_reference.as_deref().unwrap_or(&payment.transaction_id);
        self.book(Booked {
            kind: Kind::Refund,
            transaction_id: voided_transaction(name).unwrap_or(name).to_owned(),
            reference: payment.reference.clone(),
            gross: Money::new(details.amount.amount.saturating_neg(), details.amount.currency),
            at,
            payment_intent_id,
            refund_id: Some(details.refund_id),
        });
    }

    fn book(&mut self, booked: Booked) {
        if self.period.holds(booked.at) || self.sought.transactions.contains(booked.transaction_id.as_str()) {
            self.booked.push(booked);
        }
    }
}

#[cfg(test)]
mod tests;
