//! Calls no closer together than a provider allows, counted for each of its paths by itself.
//!
//! It holds for one connector in one process. Turns are handed out in the order of arrival; a turn whose caller went away passes unused.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use domain::provider::NO_PLACE;
use tokio::time::{Instant, sleep_until};

use crate::failure::Failure;

/// A second and a tenth hold as many calls as the provider allows in a second: the way there is not even, and must not move one more
/// into a second.
const SECOND: Duration = Duration::from_millis(1_100);

/// Spaces calls evenly; see the module.
#[derive(Debug)]
pub struct Pacer {
    /// Between two calls on one path; `None`: nobody waits.
    spacing: Option<Duration>,
    /// When the next call on a path may go out.
    next: Mutex<HashMap<&'static str, Instant>>,
}

impl Pacer {
    /// At most so many calls a second on each path, at least one; without a number nobody waits.
    pub fn new(calls_per_second: Option<u32>) -> Self {
        Self { spacing: calls_per_second.map(|calls| SECOND / calls.max(1)), next: Mutex::default() }
    }

    /// Waits for the turn of a call on this path.
    ///
    /// # Errors
    /// `NotAttempted` with [`NO_PLACE`], at once, when the turn is further away than `longest`: our own crowd says nothing about the provider.
    pub async fn turn(&self, path: &'static str, longest: Duration) -> Result<(), Failure> {
        let Some(spacing) = self.spacing else { return Ok(()) };
        match self.reserve(path, spacing, longest, Instant::now()) {
            Some(turn) => {
                sleep_until(turn).await;
                Ok(())
            }
            None => Err(Failure::NotAttempted(NO_PLACE.to_owned())),
        }
    }

    fn reserve(&self, path: &'static str, spacing: Duration, longest: Duration, now: Instant) -> Option<Instant> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = next.get(path).map_or(now, |next| now.max(*next));
        if turn.duration_since(now) > longest {
            return None;
        }
        next.insert(path, turn + spacing);
        Some(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACING: Duration = Duration::from_millis(220);

    #[test]
    fn turns_are_evenly_apart_on_a_path_and_other_paths_have_their_own() {
        let (pacer, now) = (Pacer::new(Some(5)), Instant::now());
        assert_eq!(pacer.spacing, Some(SPACING));
        let turn = |path, at| pacer.reserve(path, SPACING, Duration::from_secs(1), at);
        assert_eq!([turn("a", now), turn("a", now), turn("a", now)], [Some(now), Some(now + SPACING), Some(now + 2 * SPACING)]);
        assert_eq!(turn("b", now), Some(now));
        let later = now + Duration::from_secs(9);
        assert_eq!([turn("a", later), turn("a", later)], [Some(later), Some(later + SPACING)], "what nobody used is not saved up");
    }

    #[test]
    fn whoever_would_wait_too_long_takes_no_turn() {
        let (pacer, now) = (Pacer::new(Some(5)), Instant::now());
        let turn = |longest| pacer.reserve("a", SPACING, longest, now);
        assert_eq!([turn(SPACING), turn(SPACING), turn(SPACING)], [Some(now), Some(now + SPACING), None]);
        assert_eq!(turn(2 * SPACING), Some(now + 2 * SPACING));
    }

    #[tokio::test]
    async fn too_long_a_wait_is_told_as_our_own_crowd_and_without_a_limit_nobody_waits() {
        let paced = Pacer::new(Some(1));
        assert_eq!(paced.turn("a", Duration::ZERO).await, Ok(()));
        assert_eq!(paced.turn("a", Duration::ZERO).await, Err(Failure::NotAttempted(NO_PLACE.to_owned())));
        let free = Pacer::new(None);
        for _ in 0..100 {
            assert_eq!(free.turn("a", Duration::ZERO).await, Ok(()));
        }
    }
}
