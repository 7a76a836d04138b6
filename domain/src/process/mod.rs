//! Process managers: pure functions from an event to what must follow in other streams or at a provider.
//!
//! The driver executes each [`Intent`] with a key derived from (manager, position, n), so that a replay repeats nothing.
//! **To add one**: a new file named after the flow with a `react` function, one line in [`ALL`]; the tests in `tests/` that
//! repeat every reaction apply to it at once.

use chrono::{DateTime, Utc};

use crate::{event::DomainEvent, ids::MerchantId};

pub mod checkout;
mod command;
pub mod provider_calls;
pub mod refund;
pub mod rerouting;
mod task;
pub mod work;

pub use command::ProcessCommand;
pub use task::{AttemptRef, InquiryMode, RefundRef, Task};

/// What must follow from an event.
#[derive(Debug, Clone)]
pub enum Intent {
    /// Commands of one tenant to be appended together, all or nothing.
    Commands(Vec<ProcessCommand>),
    /// A task under a key of its own; scheduling a known key again changes nothing.
    Schedule {
        /// `watch:att_…`.
        key: String,
        /// What.
        task: Task,
        /// How long after the event was recorded, milliseconds.
        after_ms: i64,
    },
    /// Remember which attempt our reference, and the provider's own name where it has one, stand for: call-backs name one of them.
    RememberReference(AttemptRef),
}

/// An event with what surrounds it.
#[derive(Debug, Clone, Copy)]
pub struct Happened<'a> {
    /// The owner.
    pub tenant: MerchantId,
    /// The stream's id.
    pub stream_id: crate::ids::Ulid,
    /// Its place in the log.
    pub position: i64,
    /// When it was recorded (UTC).
    pub recorded_at: DateTime<Utc>,
    /// What happened.
    pub event: &'a DomainEvent,
}

/// Actors that begin so write history: what they append carries all that followed from it then, and nothing follows now.
pub const HISTORY: &str = "import:";

/// A process manager.
#[derive(Debug, Clone, Copy)]
pub struct Manager {
    /// Stable name: part of its command keys.
    pub name: &'static str,
    /// What follows from an event.
    pub react: fn(&Happened<'_>) -> Vec<Intent>,
}

/// Every process manager.
pub const ALL: &[Manager] = &[
    Manager { name: "checkout", react: checkout::react },
    Manager { name: "refund", react: refund::react },
    Manager { name: "provider_calls", react: provider_calls::react },
    Manager { name: "rerouting", react: rerouting::react },
];

#[cfg(test)]
mod tests;
