//! The production clock and id source: the only places that read the system's time and randomness.

use std::time::SystemTime;

use chrono::{DateTime, SubsecRound, Utc};
use domain::clock::{Clock, IdSource};
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
        if let Err(error) = getrandom::fill(&mut random[6..]) {
            // Without randomness an id could repeat; nothing may be written then.
            tracing::error!(%error, "the operating system gives no randomness");
            std::process::abort();
        }
        Ulid::from_parts(millis, u128::from_be_bytes(random))
    }
}
