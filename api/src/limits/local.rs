//! The windows of one process.

use std::{collections::HashMap, time::Instant};

use super::{Party, Quota, Verdict, WINDOW, Window};

#[derive(Debug, Clone, Copy)]
struct Counter {
    began: Instant,
    taken: u32,
}

impl Counter {
    fn over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.began) >= WINDOW
    }
}

/// A counter for each party that was heard of within the last two windows.
#[derive(Debug, Default)]
pub(super) struct Windows {
    counters: HashMap<Party, Counter>,
    swept: Option<Instant>,
}

impl Windows {
    /// Counts a request with each of the parties, or with none when one of them has reached its limit.
    pub(super) fn take(&mut self, quotas: &[Quota], now: Instant) -> Verdict {
        self.sweep(now);
        let admitted = quotas.iter().all(|quota| self.taken(quota.party, now) < quota.limit);
        if admitted {
            self.count(quotas, now);
        }
        let windows = quotas.iter().map(|quota| self.window(quota.party, now)).collect();
        Verdict { admitted, windows }
    }

    /// Counts a request that was let in elsewhere.
    pub(super) fn count(&mut self, quotas: &[Quota], now: Instant) {
        self.sweep(now);
        for quota in quotas {
            let counter = self.counters.entry(quota.party).or_insert(Counter { began: now, taken: 0 });
            if counter.over(now) {
                *counter = Counter { began: now, taken: 0 };
            }
            counter.taken = counter.taken.saturating_add(1);
        }
    }

    fn taken(&self, party: Party, now: Instant) -> u32 {
        self.counters.get(&party).filter(|counter| !counter.over(now)).map_or(0, |counter| counter.taken)
    }

    fn window(&self, party: Party, now: Instant) -> Window {
        let counter = self.counters.get(&party).filter(|counter| !counter.over(now));
        let (began, taken) = counter.map_or((now, 0), |counter| (counter.began, counter.taken));
        Window { taken, ends_in: WINDOW.saturating_sub(now.saturating_duration_since(began)) }
    }

    /// Forgets windows that are over, once a window.
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= WINDOW) {
            self.counters.retain(|_, counter| !counter.over(now));
            self.swept = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use domain::ids::{MerchantId, Ulid};

    use super::*;

    fn quota(n: u8, limit: u32) -> Quota {
        Quota { party: Party::Merchant(MerchantId(Ulid::from_bytes([n; 16]))), limit }
    }

    #[test]
    fn a_window_begins_with_the_first_request_and_ends_to_the_second() {
        let (mut windows, start) = (Windows::default(), Instant::now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        assert!(windows.take(&[quota(1, 2)], at(0)).admitted);
        assert!(windows.take(&[quota(1, 2)], at(40)).admitted);
        let refused = windows.take(&[quota(1, 2)], at(59));
        assert_eq!(refused, Verdict { admitted: false, windows: vec![Window { taken: 2, ends_in: Duration::from_secs(1) }] });
        let again = windows.take(&[quota(1, 2)], at(60));
        assert_eq!(again, Verdict { admitted: true, windows: vec![Window { taken: 1, ends_in: WINDOW }] });
    }

    #[test]
    fn parties_that_went_silent_are_forgotten() {
        let (mut windows, start) = (Windows::default(), Instant::now());
        for n in 0..100 {
            windows.take(&[quota(n, 5)], start);
        }
        windows.take(&[quota(200, 5)], start + WINDOW);
        assert_eq!(windows.counters.len(), 1);
    }

    #[test]
    fn a_thousand_requests_at_once_are_a_thousand() {
        let windows = std::sync::Mutex::new(Windows::default());
        let now = Instant::now();
        let admitted: usize = std::thread::scope(|scope| {
            let take = || (0..500).filter(|_| windows.lock().unwrap().take(&[quota(1, 1_000)], now).admitted).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(admitted, 1_000);
    }
}
