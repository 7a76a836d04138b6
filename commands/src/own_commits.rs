//! What this process writes, for whoever follows the log in it: taken from the committer where it lies right on what was read, so that the
//! log is asked only for what others wrote.

use std::{sync::Arc, time::Duration};

use domain::event::{Commit, ReadEvent};
use tokio::{
    sync::broadcast::{Receiver, error::TryRecvError},
    time::Instant,
};

use crate::event_log::{EventLog, StoreError};

/// Between questions for the chain's hash while others write in between.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The commits of this process as one reader of the log takes them.
#[derive(Debug, Default)]
pub struct OwnCommits {
    commits: Option<Receiver<Arc<Commit>>>,
    /// A position, and the head's hash when the log ended there.
    known: Option<(i64, [u8; 32])>,
    looked: Option<Instant>,
}

impl OwnCommits {
    /// Those that come out of there; nothing: this process is not told what it writes.
    pub const fn of(commits: Option<Receiver<Arc<Commit>>>) -> Self {
        Self { commits, known: None, looked: None }
    }

    /// The events after `after`, at least `most` of them if there are so many; nothing when this process did not write them, or cannot
    /// tell that the log before them is the one that was read.
    pub fn take(&mut self, after: i64, most: usize) -> Vec<Arc<ReadEvent>> {
        let mut events = Vec::new();
        let Some(commits) = &mut self.commits else { return events };
        let mut known = self.known.filter(|(pos, _)| *pos == after);
        while events.len() < most {
            match commits.try_recv() {
                Ok(commit) if known.is_some() && known == commit.place_before() => {
                    known = commit.place();
                    events.extend_from_slice(&commit.events);
                }
                // One that was read already, or what others wrote lies before it.
                Ok(_) | Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        self.known = known.or(self.known);
        events
    }

    /// Forgets what waits and what was known: after something went wrong the log may have been put back to before it.
    pub fn forget(&mut self) {
        self.known = None;
        if let Some(commits) = &mut self.commits {
            *commits = commits.resubscribe();
        }
    }

    /// Reads the log after `after`, at most `limit` events, in order, and before them the `with` newest up to there.
    ///
    /// # Errors
    /// The log's.
    pub async fn read(&mut self, log: &impl EventLog, after: i64, with: i64, limit: i64) -> Result<Vec<Arc<ReadEvent>>, StoreError> {
        let knows = self.known.is_some_and(|(pos, _)| pos == after);
        let looks = self.commits.is_some() && self.looked.is_none_or(|last| last.elapsed() >= LOOK_EVERY);
        let head = if !knows && looks {
            self.looked = Some(Instant::now());
            Some(log.head().await?)
        } else {
            None
        };
        // Not beyond where the hash was asked for.
        let limit = head.map_or(limit, |head| limit.min(head.pos - after).max(0));
        let events: Vec<_> = log.read(after - with, limit + with).await?.into_iter().map(ReadEvent::shared).collect();
        let end = events.last().map_or(after, |event| event.pos);
        match head {
            Some(head) if head.pos == end => self.known = Some((end, head.hash)),
            _ if end > after => self.known = None,
            _ => {}
        }
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use domain::{
        envelope::{RecordedEvent, StreamKey, StreamType},
        ids::{MerchantId, Ulid},
    };
    use tokio::sync::broadcast;

    use super::*;

    fn event(pos: i64) -> Arc<ReadEvent> {
        let (id, time) = (Ulid::from_bytes([1; 16]), DateTime::UNIX_EPOCH);
        let stream = StreamKey { tenant: MerchantId(id), stream_type: StreamType::Order, stream_id: id };
        ReadEvent::shared(RecordedEvent {
            pos,
            stream,
            version: pos,
            event_type: "order.cancelled".into(),
            schema_version: 1,
            slice: 0,
            occurred_at: time,
            recorded_at: time,
            correlation_id: id,
            causation_id: id,
            actor: "user:test".into(),
            meta: Vec::new(),
            payload: Vec::new(),
            pii: None,
            hash: [0; 32],
        })
    }

    /// Of a history: before and after it the head's hash is the position and the history's number.
    fn commit(history: u8, positions: std::ops::RangeInclusive<u8>) -> Arc<Commit> {
        let hash = |pos: u8| [[pos, history]; 16].concat().try_into().unwrap();
        let (before, hash) = (hash(positions.start() - 1), hash(*positions.end()));
        Arc::new(Commit { before, hash, events: positions.map(|pos| event(pos.into())).collect() })
    }

    fn known(commit: &Commit) -> (broadcast::Sender<Arc<Commit>>, OwnCommits) {
        let (sender, commits) = broadcast::channel(4);
        (sender, OwnCommits { known: commit.place(), ..OwnCommits::of(Some(commits)) })
    }

    fn positions(events: &[Arc<ReadEvent>]) -> Vec<i64> {
        events.iter().map(|event| event.pos).collect()
    }

    #[test]
    fn commits_are_taken_that_lie_right_on_one_another() {
        let (sender, mut own) = known(&commit(1, 4..=5));
        for written in [commit(1, 3..=5), commit(1, 6..=7), commit(1, 8..=8)] {
            sender.send(written).unwrap();
        }
        assert_eq!(positions(&own.take(5, 2)), [6, 7]);
        assert_eq!(positions(&own.take(7, 2)), [8]);
        assert!(own.take(8, 2).is_empty());
    }

    #[test]
    fn what_others_wrote_in_between_is_missed_by_nobody() {
        let (sender, mut own) = known(&commit(1, 4..=5));
        for written in [commit(1, 6..=6), commit(1, 8..=8)] {
            sender.send(written).unwrap();
        }
        assert_eq!(positions(&own.take(5, 9)), [6], "the log has to be asked for the seventh");
        assert!(own.take(6, 9).is_empty());
    }

    #[test]
    fn of_another_history_nothing_is_taken() {
        let (sender, mut own) = known(&commit(1, 4..=5));
        sender.send(commit(2, 6..=6)).unwrap();
        assert!(own.take(5, 9).is_empty());
        // Nor by a reader that stands elsewhere.
        sender.send(commit(1, 6..=6)).unwrap();
        assert!(own.take(4, 9).is_empty());
    }

    #[test]
    fn what_was_forgotten_is_not_taken_and_what_comes_after_it_waits_for_a_look_at_the_log() {
        let (sender, mut own) = known(&commit(1, 4..=5));
        sender.send(commit(1, 6..=6)).unwrap();
        own.forget();
        own.known = commit(1, 4..=5).place();
        assert!(own.take(5, 9).is_empty());
        sender.send(commit(1, 6..=6)).unwrap();
        assert_eq!(positions(&own.take(5, 9)), [6]);
    }

    #[test]
    fn a_reader_that_was_too_slow_asks_the_log() {
        let (sender, mut own) = known(&commit(1, 4..=5));
        for pos in 6..=12 {
            sender.send(commit(1, pos..=pos)).unwrap();
        }
        assert!(own.take(5, 9).is_empty());
    }
}
