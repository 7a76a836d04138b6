//! The production clock, ids and randomness: the only places that read the system's time and randomness.

use std::time::SystemTime;

use chrono::{DateTime, SubsecRound, Utc};
use domain::clock::{Clock, IdSource, RandomSource};
use ulid::Ulid;

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the injected clock's production form")]
    fn now(&self) -> DateTime<Utc> {
        // Microseconds are what the database keeps: what is decided here reads back as it was.
        DateTime::<Utc>::from(SystemTime::now()).trunc_subsecs(6)
    }
}

/// ULIDs of the machine's clock and the operating system's randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct RandomIds;

impl IdSource for RandomIds {
    fn next(&self) -> Ulid {
        let millis = u64::try_from(SystemClock.now().timestamp_millis()).unwrap_or(0);
        let mut random = [0_u8; 16];
        SystemRandom.fill(&mut random[6..]);
        Ulid::from_parts(millis, u128::from_be_bytes(random))
    }
}

/// The operating system's randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

impl RandomSource for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) {
        if let Err(error) = getrandom::fill(bytes) {
            // Without randomness an id could repeat and a key be guessed; nothing may be written then.
            tracing::error!(%error, "the operating system gives no randomness");
            std::process::abort();
        }
    }
}
