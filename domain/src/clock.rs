//! Time, identifiers and randomness are injected: production, tests and the simulator each bring their own.

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

/// Where unpredictable bytes come from: keys and nonces.
pub trait RandomSource: Send + Sync {
    /// Fills all of `bytes`.
    fn fill(&self, bytes: &mut [u8]);
}
