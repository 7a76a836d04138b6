//! How figures are taken: interleaved rounds, medians, latencies from the moment a request was due.

use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, future::BoxFuture, stream};
use serde::{Deserialize, Serialize};
use tokio::task::{JoinHandle, JoinSet};

/// How long and how often is measured.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// A few seconds a section instead of minutes.
    pub quick: bool,
}

impl Effort {
    /// `full` in a full run, `quick` in a quick one.
    pub const fn choose<T: Copy>(self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// Rounds of which the median counts.
    pub const fn rounds(self) -> usize {
        self.choose(3, 1)
    }

    /// Length of one measurement.
    pub const fn window(self) -> Duration {
        self.choose(Duration::from_millis(2_000), Duration::from_millis(800))
    }
}

/// One of several things that are measured in turn.
pub type Subject<'a> = Box<dyn Fn() -> BoxFuture<'a, Result<f64>> + Send + Sync + 'a>;

/// Measures each subject once a round, in turn, so that a slow moment of the machine hits them all; medians in their order.
pub async fn interleaved(rounds: usize, subjects: &[Subject<'_>]) -> Result<Vec<f64>> {
    let mut figures = vec![Vec::new(); subjects.len()];
    for _ in 0..rounds {
        for (subject, figures) in subjects.iter().zip(&mut figures) {
            figures.push(subject().await?);
        }
    }
    Ok(figures.into_iter().map(median).collect())
}

/// The middle one; 0 of none.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

/// Things done per second by `callers` tasks, each made by `start` and counting up what it has done. The first quarter of
/// the window is not counted. Each goes on until it is dropped: the first that ends by itself ends it all, as the figure would be of
/// fewer than it says.
pub async fn rate<F>(callers: usize, window: Duration, start: impl Fn(Arc<AtomicU64>) -> F) -> Result<f64>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let done = Arc::new(AtomicU64::new(0));
    let mut tasks: JoinSet<Result<()>> = (0..callers).map(|_| start(Arc::clone(&done))).collect();
    let counted = async {
        tokio::time::sleep(window / 4).await;
        let (from, started) = (done.load(Ordering::Relaxed), Instant::now());
        tokio::time::sleep(window).await;
        per_second(done.load(Ordering::Relaxed) - from, started.elapsed())
    };
    let rate = tokio::select! {
        biased;
        Some(ended) = tasks.join_next() => {
            ended??;
            anyhow::bail!("a caller ended before the window did")
        }
        rate = counted => rate,
    };
    tasks.shutdown().await;
    Ok(rate)
}

/// Things done per second when `count` are done, so many of them at once, each as a task made by `one`. The first failure ends it.
pub async fn rate_of(at_once: usize, count: usize, one: impl Fn(usize) -> JoinHandle<Result<()>>) -> Result<f64> {
    let started = Instant::now();
    let done = stream::iter(0..count).map(|n| one(n).map(|ended| ended?)).buffer_unordered(at_once);
    done.try_for_each(|()| ready(Ok(()))).await?;
    Ok(per_second(u64::try_from(count)?, started.elapsed()))
}

/// `count` things in `elapsed`.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub fn per_second(count: u64, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64().max(1e-9)
}

/// Latencies in microseconds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Latencies(Vec<u32>);

impl Latencies {
    /// One more.
    pub fn add(&mut self, latency: Duration) {
        self.0.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
    }

    /// All of another's.
    pub fn extend(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    /// How many.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Milliseconds that `permille` of a thousand stay within; 0 of none.
    pub fn percentile(&mut self, permille: usize) -> f64 {
        self.0.sort_unstable();
        let last = self.0.len().saturating_sub(1);
        let at = self.0.len().saturating_mul(permille).div_ceil(1000).saturating_sub(1).min(last);
        self.0.get(at).copied().map_or(0.0, |micros| f64::from(micros) / 1000.0)
    }
}
