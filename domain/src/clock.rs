//! Time and identifiers are injected: production, tests and the simulator each bring their own.

use chrono::{DateTime, Utc};

use crate::ids::Ulid;

/// Where the current time comes from.
pub trait Clock: Send + Sync {
    /// Now, UTC.
    fn now(&self) -> DateTime<Utc>;
}

/// Where new identifiers come from.
pub trait IdSource: Send + Sync {
    /// An identifier that was never given before.
    fn next(&self) -> Ulid;
}
