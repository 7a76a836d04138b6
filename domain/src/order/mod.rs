//! Order: a purchase before payment. Stream `order-{OrderId}`.
//!
//! `open → billed → completed`; `cancelled` from open. Lines change only while open. A billed order goes back to open
//! when its bill is voided. Money states are derived from bills, never set here.
//! Invariants: line ids are never reused; a voided line keeps its place; what a bill shows is priced from these lines.

mod command;
mod decide;
mod event;
mod state;
#[cfg(test)]
mod tests;

pub use command::{Command, MAX_LINES, MAX_PRICE, MAX_QUANTITY_MILLI, Rejection};
pub use decide::Order;
pub use event::{
    AdjustmentAdded, Billed, Cancelled, Completed, DiscountApplied, DiscountRemoved, Event, LineAdded, LineQuantityChanged, LineVoided,
    LinesAdded, Opened, OrderType, Reopened,
};
pub use state::{Line, State, Status};
