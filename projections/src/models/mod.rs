//! The read models: one file each with its row, its fold and its queries.

pub mod bills;
pub mod customers;
pub mod daily_sales;
mod daily_sales_day;
mod daily_sales_queries;
mod daily_sales_refunds;
pub mod daily_sales_rows;
pub mod directory;
pub mod events;
pub mod orders;
mod orders_queries;
pub mod payments;
pub mod provider_accounts;
pub mod refunds;
#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use domain::envelope::RecordedEvent;
use serde::{Deserialize, Serialize};

use crate::projection::ApplyError;

/// When and where in the log a thing began and last changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// When its first event came about, UTC.
    pub opened_at: DateTime<Utc>,
    /// Position of its first event; the cursor of lists, newest first.
    pub opened_pos: i64,
    /// When its last event came about, UTC.
    pub updated_at: DateTime<Utc>,
    /// Position of its last event.
    pub updated_pos: i64,
    /// Version of its stream; what `ETag` carries.
    pub version: i64,
}

impl Stamp {
    /// After an event of the thing's own stream; `before` is nothing for its first.
    fn next(before: Option<&Self>, event: &RecordedEvent) -> Self {
        Self {
            opened_at: before.map_or(event.occurred_at, |stamp| stamp.opened_at),
            opened_pos: before.map_or(event.pos, |stamp| stamp.opened_pos),
            updated_at: event.occurred_at,
            updated_pos: event.pos,
            version: event.version,
        }
    }
}

/// A stream whose events do not begin with the one that opens it; the write side never makes one.
fn never_opened(event: &RecordedEvent) -> ApplyError {
    ApplyError::Poison(format!("{} version {} comes before its stream was opened", event.event_type, event.version))
}
