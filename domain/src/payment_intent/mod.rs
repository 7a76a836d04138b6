//! PaymentIntent: one tender and its conversation with a provider. Stream `payment_intent-{PaymentIntentId}`.
//!
//! `requires_payment_method → processing → requires_action → succeeded`, with `requires_capture` between when the money is only
//! held, ending also in `canceled`, `expired` or `failed`; an attempt that failed leads back to `requires_payment_method`, and
//! to `failed` when it was the last one allowed. The shop knows the same thing as a payment (`pay_…`).
//! A dispute stands beside `succeeded`, or beside the money that closed nothing and that it is about.
//! Invariants: at most one live attempt; succeeded only with evidence of the full amount, or of what was captured out of a hold;
//! a time-out is *unknown*, never failed; canceled and expired only when no attempt is unresolved or the provider showed no
//! payment; terminal states do not regress, late money is recorded beside them, and only a person's explicit acceptance of the
//! full amount revives one; Σ refunds (reserved and settled) ≤ captured, but for one that a person had declared not sent and that
//! was: what went back is recorded, whatever it adds up to.

mod capture;
mod cases;
mod command;
mod decide;
mod event;
mod event_cases;
mod event_hold;
mod evolve;
mod refunds;
mod standing;
mod state;
mod terms;
#[cfg(test)]
mod tests;

pub use command::{AttemptEnd, Command, Finding, NewAttempt, PaymentReport, Rejection, Update, Verdict};
pub use decide::{MAX_ATTEMPTS, PaymentIntent};
pub use event::{
    ActionRequired, AttemptAccepted, AttemptFailed, AttemptStarted, Authorized, CancelRequested, Canceled, CaptureFailed, CaptureRequested,
    Created, DisputeOutcome, DisputeResolved, Disputed, Event, Evidence, Expired, Failed, IncreaseFailed, IncreaseRequested, LeftToPerson,
    OutcomeUnknown, OverRefundAcknowledged, ProviderConfirmed, RefundFoundSent, RefundLeftToPerson, RefundReleased, RefundReserved,
    RefundSettled, RefundTakenBack, Resolution, ResolvedByPerson, Succeeded, Tender, UnmatchedPaymentReceived, UnmatchedReason,
    UnmatchedRefunded, UnmatchedReopened, UnmatchedResolved, Updated,
};
pub use standing::Standing;
pub use state::{Attempt, FailedRefund, RefundBeyond, RefundEntry, State, Status, UnmatchedPayment};
pub use terms::{Confirmed, DEFAULT_VALID_MINUTES, Terms, Wishes};
