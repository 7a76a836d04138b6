//! Which events of a commit may have changed places, told by the order in which a commit is written: events of one command stand together,
//! and the versions of a stream follow each other. Nothing is proven by it; it says where to look first.
//!
//! Say that two events changed places. Where another event of the stream of one of them stands between the two, the versions of that stream
//! are broken at it. Where none does, the two are of different streams; when they are of different commands, each stands at an end of
//! a run of one command, and a commit has few of these; else they stand in one run.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

use domain::envelope::StreamKey;

use super::commits::EventOrigin;

/// Most pairs of ends of runs that are looked at: a commit has up to 256 commands, so 512 ends.
const MOST_ENDS: usize = 512 * 512;

/// What stands out in a commit.
pub(super) struct Suspects<'a> {
    origins: &'a [EventOrigin],
    /// Events on both sides of a place where the versions of a stream do not follow each other.
    broken: Vec<usize>,
    /// Events of one command without another one between them, the shortest runs first.
    runs: Vec<Range<usize>>,
    /// Their first and last events, in the same order.
    ends: Vec<usize>,
}

impl<'a> Suspects<'a> {
    pub(super) fn of(origins: &'a [EventOrigin]) -> Self {
        let runs = runs(origins);
        Self { origins, broken: broken(origins), ends: runs.iter().flat_map(ends).collect(), runs }
    }

    /// Events that stand alone among those of other commands.
    pub(super) fn alone(&self) -> impl Iterator<Item = usize> + '_ {
        self.runs.iter().take_while(|run| run.len() == 1).map(|run| run.start)
    }

    /// The pairs among which are any two events that changed places, likely ones first; some are named twice.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let all = 0..self.origins.len();
        let broken = self.broken.iter().flat_map(move |one| all.clone().filter(move |other| other != one).map(move |other| (*one, other)));
        broken.chain(self.at_ends_of_runs()).chain(self.runs.iter().flat_map(move |run| self.within(run)))
    }

    fn at_ends_of_runs(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let numbered = self.ends.iter().copied().enumerate();
        let pairs = numbered.flat_map(move |(before, one)| self.ends.iter().take(before).map(move |other| (one, *other)));
        // Counted before those of one stream are left out: a forged commit may have nothing else.
        pairs.take(MOST_ENDS).filter(move |(one, other)| !self.of_one_stream(*one, *other))
    }

    /// Pairs of a run between which no event of either's stream stands.
    fn within(&self, run: &Range<usize>) -> impl Iterator<Item = (usize, usize)> + '_ {
        let end = run.end;
        run.clone().flat_map(move |one| {
            let mut passed = HashSet::new();
            let later = (one + 1..end).take_while(move |other| !self.of_one_stream(one, *other));
            let first_of_its_stream = later.filter(move |other| self.stream(*other).is_some_and(|stream| passed.insert(stream)));
            first_of_its_stream.map(move |other| (one, other))
        })
    }

    fn of_one_stream(&self, one: usize, other: usize) -> bool {
        self.stream(one) == self.stream(other)
    }

    fn stream(&self, index: usize) -> Option<StreamKey> {
        self.origins.get(index).map(|origin| origin.stream)
    }
}

fn broken(origins: &[EventOrigin]) -> Vec<usize> {
    let (mut newest, mut broken) = (HashMap::new(), Vec::new());
    for (index, origin) in origins.iter().enumerate() {
        if let Some((before, version)) = newest.insert(origin.stream, (index, origin.version))
            && origin.version.checked_sub(1) != Some(version)
        {
            broken.extend([before, index]);
        }
    }
    broken.sort_unstable();
    broken.dedup();
    broken
}

fn runs(origins: &[EventOrigin]) -> Vec<Range<usize>> {
    let mut start = 0;
    let mut runs: Vec<Range<usize>> = origins
        .chunk_by(|one, next| one.command == next.command)
        .map(|run| {
            let begins = start;
            start += run.len();
            begins..start
        })
        .collect();
    runs.sort_by_key(ExactSizeIterator::len);
    runs
}

/// The first and the last event of a run.
fn ends(run: &Range<usize>) -> impl Iterator<Item = usize> + use<> {
    std::iter::once(run.start).chain((run.len() > 1).then(|| run.end - 1))
}
