//! PaymentIntent: one tender and its conversation with a provider. Stream `payment_intent-{PaymentIntentId}`.
//!
//! `requires_payment_method → processing → requires_action → succeeded`, ending also in `canceled` or `expired`; an attempt
//! that failed leads back to `requires_payment_method`. The shop knows the same thing as a payment (`pay_…`).
//! A dispute stands beside `succeeded`.
//! Invariants: at most one live attempt; succeeded only with evidence of the full amount; a time-out is *unknown*, never
//! failed; canceled and expired only when no attempt is unresolved or the provider showed no payment; terminal states do
//! not regress, late money is recorded beside them; Σ refunds (reserved and settled) ≤ captured.

mod command;
mod decide;
mod event;
mod state;
#[cfg(test)]
mod tests;

pub use command::{Command, PaymentReport, Rejection};
pub use decide::PaymentIntent;
pub use event::{
    ActionRequired, AttemptFailed, AttemptStarted, CancelRequested, Canceled, Created, Disputed, Event, Evidence, Expired, OutcomeUnknown,
    RefundReleased, RefundReserved, RefundSettled, Succeeded, Tender, UnmatchedPaymentReceived, UnmatchedReason,
};
pub use state::{Attempt, RefundEntry, State, Status};
