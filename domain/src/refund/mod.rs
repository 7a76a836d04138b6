//! Refund: money given back. Stream `refund-{RefundId}`.
//!
//! `requested → succeeded | failed`; between them the outcome may be unknown, and a person be told, who may decide. A provider may
//! take back that it succeeded: `succeeded → failed`; and show that one went back which a person had declared not sent: `failed →
//! succeeded`. What failed may be followed up by another refund, which names it. A linked refund gives back out of one captured
//! payment: what may be given back is decided by the payment intent, in the same atomic append; this stream follows the
//! refund itself. An unlinked refund (a credit note whose sale is not known here) has no payment; it is recorded as given.

mod command;
mod decide;
mod event;
mod state;
#[cfg(test)]
mod tests;

pub use command::{Command, Rejection};
pub use decide::Refund;
pub use event::{
    Breakdown, Destination, Event, Failed, FoundSent, LeftToPerson, OutcomeUnknown, ProviderPayment, RefundLine, Requested,
    ResolvedByPerson, Succeeded, TakenBack,
};
pub use state::{State, Status};
