//! How long commands take, by what is broken at the time; how often they are turned away; how long a process takes to serve.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde::Serialize;

type Kinds = BTreeSet<&'static str>;

#[derive(Default)]
struct Inner {
    active: Vec<&'static str>,
    /// Answers: milliseconds, how many faults at most, of which kinds.
    answers: Vec<(u64, usize, Kinds)>,
    /// From the first try to the acknowledgement.
    acknowledged: Vec<(u64, usize)>,
    tries: BTreeMap<String, u64>,
    starts: BTreeMap<&'static str, Vec<u64>>,
    sights: BTreeMap<&'static str, u64>,
    violations: Vec<String>,
}

/// Shared by everybody.
#[derive(Default)]
pub struct Measure(Mutex<Inner>);

/// What is broken at the start of something.
pub struct Since {
    at: Instant,
    count: usize,
    kinds: Kinds,
}

/// The middle, the hundredth worst and the worst of some times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Spread {
    pub count: usize,
    pub p50_ms: u64,
    pub p99_ms: u64,
    pub max_ms: u64,
}

impl Spread {
    /// Nothing of nothing.
    pub fn of(mut times: Vec<u64>) -> Option<Self> {
        times.sort_unstable();
        let (count, max_ms) = (times.len(), *times.last()?);
        let at = |percent: usize| times.get((count * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or(max_ms);
        Some(Self { count, p50_ms: at(50), p99_ms: at(99), max_ms })
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Measure {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on these are broken.
    pub fn broken(&self, kinds: Vec<&'static str>) {
        self.inner().active = kinds;
    }

    /// Something begins.
    pub fn begin(&self) -> Since {
        let inner = self.inner();
        Since { at: Instant::now(), count: inner.active.len(), kinds: inner.active.iter().copied().collect() }
    }

    /// It was answered.
    pub fn answered(&self, since: &Since) {
        let mut inner = self.inner();
        let count = since.count.max(inner.active.len());
        let kinds = since.kinds.iter().chain(&inner.active).copied().collect();
        inner.answers.push((ms(since.at.elapsed()), count, kinds));
    }

    /// It was acknowledged in the end.
    pub fn acknowledged(&self, since: &Since) {
        let mut inner = self.inner();
        let count = since.count.max(inner.active.len());
        inner.acknowledged.push((ms(since.at.elapsed()), count));
    }

    /// A try ended like this.
    pub fn tried(&self, how: &str) {
        *self.inner().tries.entry(how.to_owned()).or_default() += 1;
    }

    /// A process serves so long after its start.
    pub fn serves(&self, part: &'static str, after: Duration) {
        self.inner().starts.entry(part).or_default().push(ms(after));
    }

    /// Something happened that should happen sometimes.
    pub fn saw(&self, what: &'static str) {
        *self.inner().sights.entry(what).or_default() += 1;
    }

    /// A promise is broken.
    pub fn violated(&self, invariant: &str, what: impl std::fmt::Display) {
        let violation = format!("{invariant}: {what}");
        eprintln!("  VIOLATION {violation}");
        self.inner().violations.push(violation);
    }

    pub fn violations(&self) -> Vec<String> {
        self.inner().violations.clone()
    }

    pub fn sights(&self) -> BTreeMap<&'static str, u64> {
        self.inner().sights.clone()
    }

    /// How tries ended.
    pub fn tries(&self) -> BTreeMap<String, u64> {
        self.inner().tries.clone()
    }

    /// Acknowledged commands so far.
    pub fn count(&self) -> usize {
        self.inner().acknowledged.len()
    }

    /// Answers by the number of faults at the time.
    pub fn by_count(&self) -> BTreeMap<&'static str, Spread> {
        let inner = self.inner();
        by_count(inner.answers.iter().map(|(time, count, _)| (*time, *count)))
    }

    /// From the first try to the acknowledgement, by the number of faults at the time.
    pub fn until_acknowledged(&self) -> BTreeMap<&'static str, Spread> {
        let inner = self.inner();
        by_count(inner.acknowledged.iter().copied())
    }

    /// Answers by kind of fault.
    pub fn by_kind(&self) -> BTreeMap<&'static str, Spread> {
        let mut times: BTreeMap<&'static str, Vec<u64>> = BTreeMap::new();
        for (time, _, kinds) in &self.inner().answers {
            for kind in kinds {
                times.entry(kind).or_default().push(*time);
            }
        }
        times.into_iter().filter_map(|(kind, times)| Some((kind, Spread::of(times)?))).collect()
    }

    /// From the start of a process until it serves.
    pub fn starts(&self) -> BTreeMap<&'static str, Spread> {
        let starts = self.inner().starts.clone();
        starts.into_iter().filter_map(|(part, times)| Some((part, Spread::of(times)?))).collect()
    }
}

fn by_count(times: impl Iterator<Item = (u64, usize)>) -> BTreeMap<&'static str, Spread> {
    let mut by: BTreeMap<&'static str, Vec<u64>> = BTreeMap::new();
    for (time, count) in times {
        by.entry(["no fault", "one fault", "two faults", "three faults"][count.min(3)]).or_default().push(time);
    }
    by.into_iter().filter_map(|(count, times)| Some((count, Spread::of(times)?))).collect()
}
