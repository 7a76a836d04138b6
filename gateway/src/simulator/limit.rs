//! A provider that takes only so many calls of one kind in a second.

use std::{
    collections::{HashMap, VecDeque},
    sync::Mutex,
    time::{Duration, Instant},
};

use super::{Operation, locked};

/// What was taken within the last second, by operation.
#[derive(Default)]
pub(super) struct Limit(Mutex<Window>);

#[derive(Default)]
struct Window {
    per_second: Option<usize>,
    taken: HashMap<Operation, VecDeque<Instant>>,
}

impl Limit {
    /// From now on; `None`: as many as come.
    pub(super) fn set(&self, per_second: Option<usize>) {
        *locked(&self.0) = Window { per_second, taken: HashMap::new() };
    }

    /// Whether a call that comes at `now` is taken; one that is not counts for nothing.
    pub(super) fn admits(&self, operation: Operation, now: Instant) -> bool {
        let Window { per_second, taken } = &mut *locked(&self.0);
        let Some(per_second) = *per_second else { return true };
        let taken = taken.entry(operation).or_default();
        while taken.front().is_some_and(|at| now.duration_since(*at) >= Duration::from_secs(1)) {
            taken.pop_front();
        }
        let admitted = taken.len() < per_second;
        if admitted {
            taken.push_back(now);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_second_holds_more_calls_of_a_kind_than_the_limit() {
        let (limit, begin) = (Limit::default(), Instant::now());
        let admits = |operation, ms| limit.admits(operation, begin + Duration::from_millis(ms));
        assert!((0..50).all(|_| admits(Operation::Start, 0)), "no limit was set");
        limit.set(Some(2));
        let starts = [0, 500, 900, 1_000, 1_400, 1_500].map(|ms| admits(Operation::Start, ms));
        assert_eq!(starts, [true, true, false, true, false, true]);
        assert!(admits(Operation::Inquire, 1_500), "another kind has a count of its own");
    }
}
