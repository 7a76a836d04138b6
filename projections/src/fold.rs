//! The pure core of a projector: a batch of events and rows in memory in, changed rows out.

use std::{collections::HashMap, sync::Arc};

use domain::{
    envelope::{RecordedEvent, StreamKey},
    event::{DecodeError, ReadEvent},
};

use futures_util::stream::{BoxStream, StreamExt as _};

use crate::{
    error::Error,
    projection::{ApplyError, Projection},
    rows::Rows,
    runner::BATCH,
};

/// An event that could not be applied, and with which its stream is halted in this projection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// The stream.
    pub stream: StreamKey,
    /// Place of the event.
    pub pos: i64,
    /// Why.
    pub error: String,
}

/// How far a step came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// All events are folded in.
    Done,
    /// Rows have to be loaded; then go on at this index.
    Missing {
        /// The keys to load, by table.
        keys: Vec<(&'static str, String)>,
        /// Index of the first event not folded in.
        next: usize,
    },
    /// An event that this build does not know. Everything before this index is folded in; nothing after it may be.
    Unknown {
        /// Index of the event.
        next: usize,
        /// Its type or version, in words.
        reason: String,
    },
}

/// Consecutive events, each with whether the projection has any use for it.
pub struct Batch {
    events: Vec<(Arc<ReadEvent>, bool)>,
}

impl Batch {
    /// What `projection` reads of `events`.
    pub fn new(projection: &dyn Projection, events: Vec<Arc<ReadEvent>>) -> Self {
        let reads = |event: Arc<ReadEvent>| {
            let reads = projection.reads(event.stream.stream_type);
            (event, reads)
        };
        Self { events: events.into_iter().map(reads).collect() }
    }

    /// Position of the event at `index`.
    pub fn position(&self, index: usize) -> Option<i64> {
        self.events.get(index).map(|(event, _)| event.pos)
    }

    /// Hashes of the first `count` events.
    pub fn hashes(&self, count: usize) -> Vec<[u8; 32]> {
        self.events.iter().take(count).map(|(event, _)| event.hash).collect()
    }

    /// Number of events.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// No event at all.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The events from `index` on that the projection has use for, each with its index.
    fn read_from(&self, index: usize) -> impl Iterator<Item = (usize, &ReadEvent)> {
        let all = self.events.iter().enumerate().skip(index);
        all.filter(|(_, (_, reads))| *reads).map(|(index, (event, _))| (index, &**event))
    }
}

/// A projection's rows in memory, and the streams that it leaves alone.
pub struct Fold {
    /// The overlay.
    pub rows: Rows,
    /// Halted streams, each with the position from which on it is not read.
    pub halted: HashMap<StreamKey, i64>,
    /// Streams halted since the last write.
    pub quarantined: Vec<Quarantined>,
}

impl Fold {
    /// Starts over `rows`.
    pub fn new(rows: Rows, halted: HashMap<StreamKey, i64>) -> Self {
        Self { rows, halted, quarantined: Vec::new() }
    }

    /// Folds the events of `batch` from index `from` on, in order.
    pub fn step(&mut self, projection: &dyn Projection, batch: &Batch, from: usize) -> Step {
        for (index, event) in batch.read_from(from) {
            if self.is_halted(event) {
                continue;
            }
            let applied = match event.decoded() {
                Ok(decoded) => projection.apply(&mut self.rows, event, decoded),
                Err(error @ DecodeError::BadPayload { .. }) => Err(ApplyError::Poison(error.to_string())),
                Err(error @ (DecodeError::UnknownType(_) | DecodeError::UnknownVersion { .. })) => {
                    return Step::Unknown { next: index, reason: error.to_string() };
                }
            };
            match applied {
                Ok(()) => self.rows.keep(),
                Err(ApplyError::Missing) => {
                    self.rows.roll_back(0);
                    return Step::Missing { keys: self.missing_from(projection, batch, index), next: index };
                }
                // A pure function fails the same way however often it is called, so there is no second try.
                Err(ApplyError::Poison(error)) => {
                    self.rows.roll_back(0);
                    self.quarantine(event, error);
                }
            }
        }
        Step::Done
    }

    /// What the event at `next` and those after it ask for in vain. They are tried one after the other and all undone, so
    /// that one load serves many: only the keys count. They may be too many, which does no harm.
    fn missing_from(&mut self, projection: &dyn Projection, batch: &Batch, next: usize) -> Vec<(&'static str, String)> {
        for (_, event) in batch.read_from(next + 1) {
            if let Ok(decoded) = event.decoded() {
                let mark = self.rows.mark();
                if projection.apply(&mut self.rows, event, decoded).is_err() {
                    self.rows.roll_back(mark);
                }
            }
        }
        self.rows.roll_back(0);
        let mut keys = self.rows.take_missing();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// The rows that `batch` will ask for and that are not in memory, by table; some may be left out.
    pub fn wanted(&self, projection: &dyn Projection, batch: &Batch) -> Vec<(&'static str, String)> {
        let mut keys: Vec<(&'static str, String)> = Vec::new();
        for (_, event) in batch.read_from(0) {
            if let Ok(decoded) = event.decoded() {
                keys.extend(projection.prefetch(event, decoded));
            }
        }
        keys.sort_unstable();
        keys.dedup();
        keys.retain(|(table, key)| !self.rows.knows(table, key));
        keys
    }

    /// Halts the stream of `event`, from that event on.
    pub fn quarantine(&mut self, event: &RecordedEvent, error: String) {
        self.halted.insert(event.stream, event.pos);
        self.quarantined.push(Quarantined { stream: event.stream, pos: event.pos, error });
    }

    fn is_halted(&self, event: &RecordedEvent) -> bool {
        self.halted.get(&event.stream).is_some_and(|from| event.pos >= *from)
    }
}

/// Folds events as they come into rows that are complete, of which there may be `most` in memory.
///
/// # Errors
/// What the stream says; `Corrupt` for an event that this build does not know; `TooMuch`.
pub(crate) async fn fold_events(
    mut events: BoxStream<'_, Result<RecordedEvent, Error>>,
    projection: &dyn Projection,
    fold: &mut Fold,
    most: usize,
) -> Result<(), Error> {
    let mut batch: Vec<Arc<ReadEvent>> = Vec::with_capacity(BATCH);
    loop {
        let next = events.next().await.transpose()?;
        let ended = next.is_none();
        batch.extend(next.map(ReadEvent::shared));
        if batch.len() >= BATCH || ended {
            fold_batch(projection, fold, Batch::new(projection, std::mem::take(&mut batch)))?;
            if fold.rows.len() > most {
                return Err(Error::TooMuch);
            }
        }
        if ended {
            return Ok(());
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the batch is spent")]
fn fold_batch(projection: &dyn Projection, fold: &mut Fold, batch: Batch) -> Result<(), Error> {
    match fold.step(projection, &batch, 0) {
        Step::Done => Ok(()),
        Step::Unknown { next, reason } => Err(Error::Corrupt { position: batch.position(next).unwrap_or_default(), what: reason }),
        // Complete rows are never missing; a projection that says so is wrong.
        Step::Missing { next, .. } => Err(Error::Corrupt {
            position: batch.position(next).unwrap_or_default(),
            what: "a row is missing in a complete fold".to_owned(),
        }),
    }
}
