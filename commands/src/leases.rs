//! The leases of what a provider worker has under way: renewed all together, while the calls go on.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};

use crate::event_log::StoreError;

/// How often they are renewed.
pub(crate) const RENEW_EVERY: Duration = Duration::from_millis(1_500);
/// How long a renewal may take: as long as a lease holds.
const PATIENCE: Duration = Duration::from_secs(5);

/// The keys of the tasks under way. One may be so twice: its lease ran out, and its own worker took it over.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leases(Arc<Mutex<BTreeMap<String, usize>>>);

/// A lease that is renewed until this is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    key: String,
    of: Leases,
}

impl Leases {
    /// From now on the lease of this task is renewed.
    pub(crate) fn hold(&self, key: String) -> Lease {
        *self.locked().entry(key.clone()).or_default() += 1;
        Lease { key, of: self.clone() }
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Renews for ever, by `renew`. One that hangs does not hold up the next, before which every lease would run out. When one fails
    /// another worker may take tasks over: the provider knows the repeat by its identifiers.
    pub(crate) async fn renew_all<F>(&self, renew: impl Fn(Vec<String>) -> F + Send) -> Infallible
    where
        F: Future<Output = Result<(), StoreError>> + Send + 'static,
    {
        let mut turns = interval_at(Instant::now() + RENEW_EVERY, RENEW_EVERY);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut renewals = JoinSet::new();
        loop {
            turns.tick().await;
            while renewals.try_join_next().is_some() {}
            let keys: Vec<String> = self.locked().keys().cloned().collect();
            if keys.is_empty() {
                continue;
            }
            let (count, renewal) = (keys.len(), timeout(PATIENCE, renew(keys)));
            renewals.spawn(async move {
                let done = renewal.await.unwrap_or_else(|_| Err(StoreError::Lost("no answer in time".to_owned())));
                if let Err(error) = done {
                    tracing::warn!(%error, count, "leases were not renewed");
                }
            });
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut held = self.of.locked();
        if let Some(times) = held.get_mut(&self.key) {
            *times -= 1;
            if *times == 0 {
                held.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When what was renewed within four seconds; the first time hangs.
    async fn renewed_of(leases: &Leases) -> Vec<(Duration, Vec<String>)> {
        let (began, seen) = (Instant::now(), Arc::<Mutex<Vec<(Duration, Vec<String>)>>>::default());
        let note = Arc::clone(&seen);
        let renewing = leases.renew_all(move |keys| {
            let first = note.lock().unwrap().is_empty();
            note.lock().unwrap().push((began.elapsed(), keys));
            async move { if first { std::future::pending().await } else { Ok(()) } }
        });
        assert!(timeout(Duration::from_secs(4), renewing).await.is_err());
        seen.lock().unwrap().clone()
    }

    #[tokio::test(start_paused = true)]
    async fn all_that_is_under_way_is_renewed_though_a_renewal_hangs() {
        let leases = Leases::default();
        let (_one, _other) = (leases.hold("a".to_owned()), leases.hold("b".to_owned()));
        drop(leases.hold("done".to_owned()));
        let both = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(renewed_of(&leases).await, [(RENEW_EVERY, both.clone()), (2 * RENEW_EVERY, both)]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_under_way_twice_is_renewed_until_both_are_done() {
        let leases = Leases::default();
        let (one, other) = (leases.hold("a".to_owned()), leases.hold("a".to_owned()));
        drop(one);
        assert_eq!(renewed_of(&leases).await.len(), 2);
        drop(other);
        assert!(renewed_of(&leases).await.is_empty());
    }
}
