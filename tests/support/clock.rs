//! Time and ids that a test controls.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use chrono::{DateTime, Duration, Utc};
use commands::system::SystemClock;
use domain::{
    clock::{Clock, IdSource},
    ids::Ulid,
};

/// 2026-11-20 05:00 UTC: noon in Bangkok, on a Friday.
const START_MICROS: i64 = 1_795_150_800_000_000;

/// A clock that moves only when told to.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl Default for ManualClock {
    fn default() -> Self {
        Self(AtomicI64::new(START_MICROS))
    }
}

impl ManualClock {
    /// Moves on; a negative duration moves back, as a clock that is set does.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(by.num_microseconds().expect("a duration of less than 290,000 years"), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0.load(Ordering::SeqCst)).expect("a time within the calendar")
    }
}

/// The machine's clock, moved on by a test: what waits for a later time comes at once.
#[derive(Debug, Default)]
pub struct ShiftedClock(AtomicI64);

impl ShiftedClock {
    /// Moves on; a negative duration moves back.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(by.num_microseconds().expect("a duration of less than 290,000 years"), Ordering::SeqCst);
    }
}

impl Clock for ShiftedClock {
    fn now(&self) -> DateTime<Utc> {
        SystemClock.now() + Duration::microseconds(self.0.load(Ordering::SeqCst))
    }
}

/// Ids in order, the same for the same seed in every run; different seeds never give the same id.
#[derive(Debug)]
pub struct SeededIds {
    seed: u64,
    next: AtomicU64,
}

impl SeededIds {
    /// The ids of `seed`.
    pub const fn new(seed: u64) -> Self {
        Self { seed, next: AtomicU64::new(1) }
    }
}

impl IdSource for SeededIds {
    fn next(&self) -> Ulid {
        let n = self.next.fetch_add(1, Ordering::SeqCst);
        let [mut low, mut high] = [self.seed.rotate_left(32) ^ n, self.seed];
        // Spread like real ids, so that slices and index pages are; one-to-one, so that none repeats.
        for (word, salt) in [(&mut low, 0x9e37_79b9_7f4a_7c15_u64), (&mut high, 0xd1b5_4a32_d192_ed03)] {
            *word = word.wrapping_mul(salt);
            *word ^= *word >> 29;
        }
        // The seed stays readable in the time part; the rest is 80 bits.
        Ulid::from_parts((START_MICROS.unsigned_abs() / 1000) + self.seed, (u128::from(high & 0xffff) << 64) | u128::from(low))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_repeat_from_run_to_run_but_never_within_one() {
        let (one, again, other) = (SeededIds::new(1), SeededIds::new(1), SeededIds::new(2));
        let mut seen = HashSet::new();
        for _ in 0..1000 {
            let id = one.next();
            assert_eq!(id, again.next());
            assert!(seen.insert(id) && seen.insert(other.next()));
        }
    }

    #[test]
    fn the_clock_starts_at_noon_in_bangkok() {
        let clock = ManualClock::default();
        assert_eq!(clock.now().to_rfc3339(), "2026-11-20T05:00:00+00:00");
        clock.advance(Duration::minutes(90));
        assert_eq!(clock.now().to_rfc3339(), "2026-11-20T06:30:00+00:00");
    }
}
