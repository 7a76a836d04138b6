//! When each call came, how long its answer was held, and when call-backs went out: whoever measures the platform takes the
//! provider's time off with it.

use std::{collections::VecDeque, sync::Mutex, time::Duration};

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{Operation, locked};

/// Timings kept; the oldest go.
const KEPT: usize = 200_000;

/// One call or call-back.
#[derive(Debug, Clone, Serialize)]
pub struct Timing {
    /// Which call; nothing for a call-back.
    pub operation: Option<Operation>,
    /// Our reference, or the provider's own id.
    pub reference: String,
    /// When the call came or the call-back was handed to its courier: microseconds since 1970, by the real clock.
    pub at_micros: i64,
    /// From the call to its answer, faults included; 0 of a call-back.
    pub held_micros: u64,
}

#[derive(Default)]
pub(super) struct Timings(Mutex<VecDeque<Timing>>);

impl Timings {
    /// Calls without a reference (the access token) are not kept: they belong to no payment.
    pub(super) fn note(&self, operation: Option<Operation>, reference: Option<&str>, at: DateTime<Utc>, held: Duration) {
        let Some(reference) = reference else { return };
        let held_micros = u64::try_from(held.as_micros()).unwrap_or(u64::MAX);
        let timing = Timing { operation, reference: reference.to_owned(), at_micros: at.timestamp_micros(), held_micros };
        let mut kept = locked(&self.0);
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back(timing);
    }

    /// Hands out what was kept, oldest first, and forgets it.
    pub(super) fn take(&self) -> Vec<Timing> {
        std::mem::take(&mut *locked(&self.0)).into()
    }
}
