//! What was found, kept within bounds: the lowest positions tell the story.

use std::collections::BTreeSet;

use super::Problem;

/// Most problems that a report lists.
pub(super) const MOST: usize = 100;

/// Problems in the order of a report: by position, the exact one first, then the wider one; each once, the lowest hundred.
#[derive(Default)]
pub(super) struct Problems(BTreeSet<Problem>);

impl Problems {
    /// One more.
    pub(super) fn push(&mut self, problem: Problem) {
        self.0.insert(problem);
        if self.0.len() > MOST {
            self.0.pop_last();
        }
    }

    /// Whether one is at this very position.
    pub(super) fn is_named(&self, position: i64) -> bool {
        self.0.iter().any(|problem| (problem.position, problem.until) == (position, position))
    }

    /// Where those are whose place is not exact: first and last positions, in order and apart.
    pub(super) fn ranges(&self) -> Vec<(i64, i64)> {
        let mut ranges: Vec<(i64, i64)> = Vec::new();
        for problem in self.0.iter().filter(|problem| problem.position < problem.until) {
            match ranges.last_mut() {
                Some((_, until)) if problem.position <= *until => *until = problem.until.max(*until),
                Some(_) | None => ranges.push((problem.position, problem.until)),
            }
        }
        ranges
    }

    /// In order.
    pub(super) fn into_vec(self) -> Vec<Problem> {
        self.0.into_iter().collect()
    }
}

impl Extend<Problem> for Problems {
    fn extend<I: IntoIterator<Item = Problem>>(&mut self, problems: I) {
        problems.into_iter().for_each(|problem| self.push(problem));
    }
}
