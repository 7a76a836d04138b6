//! The newest events in memory, contiguous, bounded in number and bytes.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use domain::{envelope::RecordedEvent, event::ReadEvent};

const MOST_EVENTS: usize = 8_192;
const MOST_BYTES: usize = 16 << 20;

#[derive(Default)]
struct Newest {
    events: VecDeque<Arc<ReadEvent>>,
    bytes: usize,
}

/// The newest events.
#[derive(Default)]
pub(super) struct Ring {
    newest: Mutex<Newest>,
}

impl Ring {
    /// Adds the event after the newest one; anything else empties the ring first, so that it never has a gap.
    pub(super) fn push(&self, event: Arc<ReadEvent>) {
        let mut newest = self.lock();
        if newest.events.back().is_some_and(|last| last.pos + 1 != event.pos) {
            *newest = Newest::default();
        }
        newest.bytes += size(&event);
        newest.events.push_back(event);
        while newest.events.len() > MOST_EVENTS || (newest.bytes > MOST_BYTES && newest.events.len() > 1) {
            if let Some(oldest) = newest.events.pop_front() {
                newest.bytes = newest.bytes.saturating_sub(size(&oldest));
            }
        }
    }

    /// Position and hash of the newest event.
    pub(super) fn newest(&self) -> Option<(i64, [u8; 32])> {
        self.lock().events.back().map(|event| (event.pos, event.hash))
    }

    /// Hash of the event at a position; nothing when it is not here.
    pub(super) fn hash_at(&self, pos: i64) -> Option<[u8; 32]> {
        self.after(pos - 1, 1).first().map(|event| event.hash)
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        *self.lock() = Newest::default();
    }

    /// At most `max` events from `after + 1` on; empty when that one is not here.
    pub(super) fn after(&self, after: i64, max: usize) -> Vec<Arc<ReadEvent>> {
        let newest = self.lock();
        let Some(first) = newest.events.front() else { return Vec::new() };
        // Contiguous, so the place of a position is a subtraction.
        match usize::try_from(after + 1 - first.pos) {
            Ok(index) => newest.events.iter().skip(index).take(max).cloned().collect(),
            Err(_) => Vec::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Newest> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that an event takes in memory, near enough for a bound.
pub fn size(event: &RecordedEvent) -> usize {
    size_of::<RecordedEvent>() + event.payload.len() + event.meta.len() + event.pii.as_ref().map_or(0, Vec::len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn ring(positions: impl IntoIterator<Item = i64>) -> Ring {
        let ring = Ring::default();
        for pos in positions {
            ring.push(testing::blank_event(pos));
        }
        ring
    }
    fn positions(ring: &Ring, after: i64, max: usize) -> Vec<i64> {
        ring.after(after, max).iter().map(|event| event.pos).collect()
    }

    #[test]
    fn it_serves_only_what_follows_without_a_gap() {
        let ring = ring(5..=9);
        assert_eq!(positions(&ring, 4, 10), [5, 6, 7, 8, 9]);
        assert_eq!(positions(&ring, 6, 2), [7, 8]);
        assert!(positions(&ring, 3, 10).is_empty());
        assert!(positions(&ring, 9, 10).is_empty());
        assert!(positions(&ring, 20, 10).is_empty());
    }

    #[test]
    fn a_jump_starts_afresh() {
        assert_eq!(positions(&ring([5, 6, 9]), 8, 10), [9]);
        assert!(positions(&ring([5, 6, 9]), 5, 10).is_empty());
    }

    #[test]
    fn it_keeps_the_newest_only() {
        let ring = ring(1..=i64::try_from(MOST_EVENTS).unwrap() + 3);
        assert!(positions(&ring, 2, 1).is_empty());
        assert_eq!(positions(&ring, 3, 1), [4]);
    }
}
