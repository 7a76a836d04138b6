//! Refund: carried out → payment and bill say so; refused → the payment's reserve is freed; did not happen after all → both take it back;
//! left to a person → so is the payment; found to have been sent although a person had said that it was not → both count it.

use super::{Happened, Intent, ProcessCommand};
use crate::{event::DomainEvent, refund};

/// What follows from an event.
pub fn react(happened: &Happened<'_>) -> Vec<Intent> {
    let DomainEvent::Refund(event) = happened.event else { return vec![] };
    match event {
        refund::Event::Succeeded(done) => {
            // An unlinked refund has no payment that could follow.
            let Some(payment_intent_id) = done.payment_intent_id else { return vec![] };
            let refund_id = done.refund_id;
            let bill = done.bill_id.map(|bill_id| ProcessCommand::RecordBillRefund {
                bill_id,
                payment_intent_id,
                refund_id,
                amount: done.amount.amount,
            });
            let settle = ProcessCommand::SettleRefund { payment_intent_id, refund_id };
            vec![Intent::Commands(std::iter::once(settle).chain(bill).collect())]
        }
        refund::Event::Failed(failed) => vec![Intent::Commands(vec![ProcessCommand::ReleaseRefund {
            payment_intent_id: failed.payment_intent_id,
            refund_id: failed.refund_id,
        }])],
        refund::Event::LeftToPerson(left) => vec![Intent::Commands(vec![ProcessCommand::LeaveRefundOfPayment {
            payment_intent_id: left.payment_intent_id,
            refund_id: left.refund_id,
        }])],
        refund::Event::TakenBack(taken) => {
            let (payment_intent_id, refund_id) = (taken.payment_intent_id, taken.refund_id);
            let bill = taken.bill_id.map(|bill_id| ProcessCommand::TakeBackBillRefund { bill_id, payment_intent_id, refund_id });
            let payment = ProcessCommand::TakeBackRefund { payment_intent_id, refund_id };
            vec![Intent::Commands(std::iter::once(payment).chain(bill).collect())]
        }
        refund::Event::FoundSent(found) => vec![Intent::Commands(vec![ProcessCommand::CountFoundRefund {
            payment_intent_id: found.payment_intent_id,
            refund_id: found.refund_id,
            amount: found.amount.amount,
            unmatched_transaction_id: found.unmatched_transaction_id.clone(),
        }])],
        // What a person says is followed by its outcome.
        refund::Event::Requested(_) | refund::Event::OutcomeUnknown(_) | refund::Event::ResolvedByPerson(_) => vec![],
    }
}
