//! Bill: one payer's request for payment, with figures frozen from the order. Stream `bill-{BillId}`.
//!
//! `pending → partially_paid → paid`; `cancelled` (voided) and `written_off` only without money on it.
//! Invariants: figures never change after issue; paid + reserved ≤ total (money beyond that is parked, never dropped);
//! refunded ≤ paid, per payment and in all, but for what a provider sent although a person had declared it not sent. Refunds are
//! derived figures, not a state.

mod command;
mod decide;
mod event;
mod state;
#[cfg(test)]
mod tests;

pub use command::{Command, Rejection};
pub use decide::Bill;
pub use event::{
    BillLine, Event, Issued, OverpaymentParked, Paid, PaymentAllocated, PaymentReserved, RefundRecorded, RefundTakenBack,
    ReservationReleased, Voided, WrittenOff,
};
pub use state::{Allocation, State, Status};
