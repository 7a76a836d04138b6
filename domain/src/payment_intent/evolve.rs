//! What an event changes in a payment intent.

use super::{
    Attempt, DisputeResolved, Disputed, Event, Evidence, FailedRefund, ProviderConfirmed, RefundBeyond, RefundEntry, RefundFoundSent,
    Resolution, State, Status, UnmatchedPayment,
};
use crate::ids::RefundId;

/// The state after an event.
pub(super) fn evolve(mut state: State, event: &Event) -> State {
    match event {
        Event::Created(details) => {
            state.status = Status::RequiresPaymentMethod;
            state.details = Some(details.clone());
        }
        Event::Updated(updated) => {
            if let Some(details) = &mut state.details {
                (details.amount, details.tender) = (updated.amount, updated.tender);
                details.merchant_reference.clone_from(&updated.merchant_reference);
                // Earlier facts did not name these two; nothing can be unset.
                details.description = updated.description.clone().or_else(|| details.description.take());
                details.merchant_terminal_id = updated.merchant_terminal_id.clone().or_else(|| details.merchant_terminal_id.take());
            }
        }
        Event::Succeeded(payment) => {
            state.status = Status::Succeeded;
            state.payment = Some(payment.clone());
            known(&mut state);
        }
        Event::ProviderConfirmed(confirmed) => confirm(&mut state, confirmed),
        Event::Disputed(disputed) => contested(&mut state, disputed),
        Event::DisputeResolved(resolved) => dispute_decided(&mut state, resolved),
        Event::UnmatchedPaymentReceived(payment) => state.unmatched.push(UnmatchedPayment::new(payment.clone())),
        Event::UnmatchedResolved(resolved) => {
            resolve(&mut state, &resolved.transaction_id, Some(resolved.resolution));
            if let Some(payment) = unmatched(&mut state, &resolved.transaction_id) {
                payment.refund_id = resolved.refund_id;
            }
        }
        Event::UnmatchedRefunded(refunded) => {
            resolve(&mut state, &refunded.transaction_id, Some(Resolution::Refunded));
            went_back(&mut state, refunded.refund_id);
            if let Some(payment) = unmatched(&mut state, &refunded.transaction_id) {
                payment.refund_id = Some(refunded.refund_id);
            }
        }
        Event::UnmatchedReopened(reopened) => {
            resolve(&mut state, &reopened.transaction_id, None);
            came_to_nothing(&mut state, reopened.refund_id);
            if let Some(payment) = unmatched(&mut state, &reopened.transaction_id) {
                payment.refund_id = None;
            }
        }
        Event::CancelRequested(requested) => state.cancel_requested = Some(requested.reason.clone()),
        Event::Canceled(canceled) => {
            state.canceled_because = Some(canceled.reason.clone());
            end(&mut state, Status::Canceled);
        }
        Event::Expired(_) => end(&mut state, Status::Expired),
        Event::Failed(_) => end(&mut state, Status::Failed),
        Event::OverRefundAcknowledged(acknowledged) => state.over_refund_acknowledged = acknowledged.over_refunded,
        Event::RefundReserved(_)
        | Event::RefundSettled(_)
        | Event::RefundReleased(_)
        | Event::RefundTakenBack(_)
        | Event::RefundFoundSent(_)
        | Event::RefundLeftToPerson(_) => evolve_refund(&mut state, event),
        Event::AttemptStarted(_)
        | Event::AttemptAccepted(_)
        | Event::ActionRequired(_)
        | Event::AttemptFailed(_)
        | Event::OutcomeUnknown(_)
        | Event::LeftToPerson(_)
        | Event::ResolvedByPerson(_)
        | Event::Authorized(_)
        | Event::CaptureRequested(_)
        | Event::CaptureFailed(_)
        | Event::IncreaseRequested(_)
        | Event::IncreaseFailed(_) => evolve_attempt(&mut state, event),
    }
    if state.over_refund_acknowledged > 0 {
        // What is no more needs no note, and would hide what comes later.
        state.over_refund_acknowledged = state.over_refund_acknowledged.min(state.over_refunded());
    }
    state
}

fn evolve_refund(state: &mut State, event: &Event) {
    if let Event::RefundReserved(reserved) = event {
        state.refunds.insert(reserved.refund_id, RefundEntry { amount: reserved.amount, settled: false });
        follows_up(state, reserved.refund_id);
    } else if let Event::RefundSettled(settled) = event {
        state.refunded_total = settled.refunded_total;
        went_back(state, settled.refund_id);
        if let Some(refund) = state.refunds.get_mut(&settled.refund_id) {
            refund.settled = true;
        }
    } else if let Event::RefundReleased(released) = event {
        state.refunds.remove(&released.refund_id);
        came_to_nothing(state, released.refund_id);
        not_followed_up(state, released.refund_id);
    } else if let Event::RefundTakenBack(taken) = event {
        state.refunds.remove(&taken.refund_id);
        state.refunded_total = taken.refunded_total;
        not_followed_up(state, taken.refund_id);
        let beyond = state.refunds_beyond.iter().any(|beyond| beyond.refund_id == taken.refund_id);
        state.refunds_beyond.retain(|beyond| beyond.refund_id != taken.refund_id);
        // Nothing is owed where the same money went back by another one. What failed earlier is seen to with it: one duty, not two.
        let owed = !beyond && state.refundable() > 0;
        if owed && state.failed_refunds.iter().all(|failed| failed.followed_by.is_some()) {
            state.failed_refunds.push(FailedRefund { refund_id: taken.refund_id, followed_by: None });
        }
    } else if let Event::RefundFoundSent(found) = event {
        found_sent(state, found);
    } else if let Event::RefundLeftToPerson(left) = event {
        state.refunds_left_to_person.insert(left.refund_id);
    }
}

fn found_sent(state: &mut State, found: &RefundFoundSent) {
    let RefundFoundSent { refund_id, amount, .. } = *found;
    state.refunded_total = found.refunded_total;
    went_back(state, refund_id);
    if let Some(transaction_id) = found.unmatched_transaction_id.clone() {
        state.refunds_beyond.push(RefundBeyond { refund_id, transaction_id, amount });
    } else {
        let known = state.refunds.insert(refund_id, RefundEntry { amount, settled: true });
        if known.is_none() {
            follows_up(state, refund_id);
        }
    }
}

/// A refund is known to have gone.
fn went_back(state: &mut State, refund_id: RefundId) {
    state.refunds_left_to_person.remove(&refund_id);
    state.refunds_in_doubt.remove(&refund_id);
    state.refunds_beyond.retain(|beyond| beyond.refund_id != refund_id);
}

/// A refund ended without money; where a person had to look, the provider may still show it.
fn came_to_nothing(state: &mut State, refund_id: RefundId) {
    if state.refunds_left_to_person.remove(&refund_id) {
        state.refunds_in_doubt.insert(refund_id);
    }
}

/// With the next refund somebody saw to the first that failed.
fn follows_up(state: &mut State, refund_id: RefundId) {
    if let Some(failed) = state.failed_refunds.iter_mut().find(|failed| failed.followed_by.is_none()) {
        failed.followed_by = Some(refund_id);
    }
}

fn evolve_attempt(state: &mut State, event: &Event) {
    if let Event::AttemptStarted(started) = event {
        state.status = Status::Processing;
        state.earlier.extend(state.attempt.take().map(|attempt| attempt.started));
        // The token is for the call alone: no state, snapshot or read model keeps it.
        state.attempt = Some(Attempt::new(started.named()));
        return;
    }
    let Some(attempt) = &mut state.attempt else { return };
    if let Event::AttemptAccepted(accepted) = event {
        attempt.provider_id = Some(accepted.provider_id.clone());
    } else if let Event::ActionRequired(action) = event {
        state.status = Status::RequiresAction;
        attempt.qr_payload.clone_from(&action.qr_payload);
        attempt.redirect_url.clone_from(&action.redirect_url);
        attempt.know();
    } else if let Event::AttemptFailed(failed) = event {
        state.status = Status::RequiresPaymentMethod;
        attempt.failed = Some(failed.clone());
        attempt.know();
    } else if let Event::OutcomeUnknown(unknown) = event {
        attempt.unknown = true;
        attempt.unknown_since = unknown.since;
    } else if let Event::LeftToPerson(left) = event {
        attempt.left_to_person = Some(left.at);
    } else if let Event::Authorized(authorized) = event {
        state.status = Status::RequiresCapture;
        attempt.authorized = Some(authorized.clone());
        attempt.increasing = None;
        attempt.know();
    } else if let Event::CaptureRequested(requested) = event {
        attempt.capturing = Some(requested.amount.amount);
        attempt.left_to_person = None; // of this one nobody was told yet
    } else if let Event::CaptureFailed(_) = event {
        attempt.capturing = None;
        attempt.know();
    } else if let Event::IncreaseRequested(requested) = event {
        attempt.increasing = Some(requested.amount.amount);
        attempt.left_to_person = None;
    } else if let Event::IncreaseFailed(_) = event {
        attempt.increasing = None;
        attempt.know();
    }
}

/// The refund with which somebody saw to an earlier failure came to nothing itself.
fn not_followed_up(state: &mut State, refund_id: RefundId) {
    for failed in state.failed_refunds.iter_mut().filter(|failed| failed.followed_by == Some(refund_id)) {
        failed.followed_by = None;
    }
}

/// The payment goes by the provider's word from now on.
fn confirm(state: &mut State, confirmed: &ProviderConfirmed) {
    if let Some(payment) = &mut state.payment {
        payment.transaction_id = Some(confirmed.transaction_id.clone());
        (payment.paid_at, payment.evidence) = (confirmed.paid_at, Evidence::Inquiry);
    }
}

fn contested(state: &mut State, disputed: &Disputed) {
    let dispute = match &disputed.unmatched_transaction_id {
        Some(transaction_id) => unmatched(state, transaction_id).map(|payment| &mut payment.dispute),
        None => Some(&mut state.dispute),
    };
    if let Some(dispute) = dispute {
        *dispute = Some(disputed.clone());
    }
}

fn dispute_decided(state: &mut State, resolved: &DisputeResolved) {
    let outcome = match &resolved.unmatched_transaction_id {
        Some(transaction_id) => unmatched(state, transaction_id).map(|payment| &mut payment.dispute_outcome),
        None => Some(&mut state.dispute_outcome),
    };
    if let Some(outcome) = outcome {
        *outcome = Some(resolved.outcome);
    }
}

fn end(state: &mut State, status: Status) {
    state.status = status;
    known(state);
}

fn known(state: &mut State) {
    if let Some(attempt) = &mut state.attempt {
        attempt.know();
    }
}

fn unmatched<'a>(state: &'a mut State, transaction_id: &str) -> Option<&'a mut UnmatchedPayment> {
    state.unmatched.iter_mut().find(|payment| payment.received.transaction_id == transaction_id)
}

fn resolve(state: &mut State, transaction_id: &str, resolution: Option<Resolution>) {
    if let Some(payment) = unmatched(state, transaction_id) {
        payment.resolution = resolution;
    }
}
