//! PostgreSQL as this platform uses it: what is written is one value, changed at single moments.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use commands::{
    batch::{AppendItem, BatchAnswer, Link, Refusal, StoredKey},
    event_log::StoreError,
};
use domain::{
    envelope::{RecordedEvent, StreamKey},
    event::ReadEvent,
    ids::Ulid,
    integrity::{commit_hash, merkle_root},
};
use uuid::Uuid;

use crate::{process_rows::ProcessRows, read_rows::ReadRows, sabotage::Saboteur, world::World};

/// A link of the chain.
#[derive(Debug, Clone)]
pub(crate) struct Commit {
    pub first_pos: i64,
    pub last_pos: i64,
    pub recorded_at: DateTime<Utc>,
    pub prev: [u8; 32],
    pub hash: [u8; 32],
}

pub(crate) type KeyName = (Ulid, String, String);

/// Everything that is stored.
#[derive(Clone)]
pub(crate) struct Db {
    pub up: bool,
    /// Raised when it is killed or restored: connections of before are broken.
    pub generation: u64,
    pub log_id: Uuid,
    pub epoch: i32,
    pub hash: [u8; 32],
    pub recorded_at: DateTime<Utc>,
    pub events: Vec<Arc<ReadEvent>>,
    pub heads: HashMap<StreamKey, i64>,
    pub streams: HashMap<StreamKey, Vec<usize>>,
    pub keys: HashMap<KeyName, StoredKey>,
    pub commits: Vec<Commit>,
    pub snapshots: HashMap<StreamKey, (i64, i16, Vec<u8>)>,
    pub process: ProcessRows,
    pub read: ReadRows,
}

impl Db {
    pub fn new(seed: u64) -> Self {
        Self {
            up: true,
            generation: 0,
            log_id: Uuid::from_u64_pair(seed, 1),
            epoch: 1,
            hash: [0; 32],
            recorded_at: DateTime::UNIX_EPOCH,
            events: Vec::new(),
            heads: HashMap::new(),
            streams: HashMap::new(),
            keys: HashMap::new(),
            commits: Vec::new(),
            snapshots: HashMap::new(),
            process: ProcessRows::default(),
            read: ReadRows::default(),
        }
    }

    pub fn head(&self) -> i64 {
        i64::try_from(self.events.len()).unwrap_or(i64::MAX)
    }

    pub fn version(&self, key: &StreamKey) -> i64 {
        self.heads.get(key).copied().unwrap_or(0)
    }

    /// A stream of this id and kind, whoever owns it: what only a saboteur looks for.
    pub fn of_anybody(&self, key: &StreamKey) -> Option<StreamKey> {
        self.heads.keys().find(|other| other.stream_id == key.stream_id && other.stream_type == key.stream_type).copied()
    }

    pub fn stream(&self, key: &StreamKey, after: i64) -> Vec<RecordedEvent> {
        let places = self.streams.get(key).map(Vec::as_slice).unwrap_or_default();
        places
            .iter()
            .filter_map(|place| self.events.get(*place))
            .filter(|event| event.version > after)
            .map(|event| (***event).clone())
            .collect()
    }

    /// Those between two positions, wherever the first of them lies: before the beginning there is nothing.
    pub fn range(&self, after: i64, limit: i64) -> &[Arc<ReadEvent>] {
        let place = |pos: i64| usize::try_from(pos.clamp(0, self.head())).unwrap_or(0);
        let (from, to) = (place(after), place(after.saturating_add(limit)));
        &self.events[from..to.max(from)]
    }

    /// As `log.append`: everything or nothing. An error is one of the statement itself.
    pub fn append(&mut self, world: &World, items: &[AppendItem]) -> Result<BatchAnswer, StoreError> {
        let refusals = self.refusals(world, items);
        if !refusals.is_empty() {
            world.saw(if refusals.iter().any(|refusal| matches!(refusal, Refusal::Key { .. })) {
                "key was taken"
            } else {
                "version conflict"
            });
            return Ok(BatchAnswer::Refused(refusals));
        }
        cannot_be_stored(items)?;
        let first_pos = self.head() + 1;
        if world.sabotaged(Saboteur::AckBeforeCommit, 12) {
            return Ok(BatchAnswer::Committed { first_pos, link: None });
        }
        if items.len() > 1 {
            world.saw("commit shared by several commands");
        }
        let torn = world.sabotaged(Saboteur::TornBatch, 12);
        self.recorded_at = if world.sabotage == Some(Saboteur::TimeGoesBack) && world.draw(10) == 0 {
            self.recorded_at - chrono::Duration::seconds(5)
        } else {
            world.now().max(self.recorded_at)
        };
        let mut hashes = Vec::new();
        for item in items {
            let first = self.head() + 1;
            for event in &item.events {
                hashes.push(event.hash);
                self.write(world, event);
            }
            for write in &item.streams {
                self.heads.insert(write.key, write.next);
            }
            if (torn && item.events.len() > 1) || world.sabotaged(Saboteur::KeyOutsideTransaction, 12) {
                continue;
            }
            for key in &item.keys {
                let last_pos = (!item.events.is_empty()).then_some(first - 1 + i64::try_from(item.events.len()).unwrap_or(0));
                let response = key.response.clone();
                let stored =
                    StoredKey { request_hash: key.request_hash.to_vec(), fingerprint: key.fingerprint.clone(), last_pos, response };
                self.keys.insert((key.tenant, key.scope.clone(), key.key.clone()), stored);
            }
        }
        let link = (!hashes.is_empty()).then(|| self.link(world, first_pos, &hashes));
        self.durable();
        Ok(BatchAnswer::Committed { first_pos, link })
    }

    /// Whoever waits for the disk takes along what did not wait for it.
    pub fn durable(&mut self) {
        self.read.durable();
        self.process.durable();
    }

    fn write(&mut self, world: &World, event: &commands::batch::PreparedEvent) {
        if world.sabotaged(Saboteur::LosesEvent, 40) {
            return;
        }
        let skipped = i64::from(world.sabotaged(Saboteur::PositionGap, 40));
        let mut payload = event.event.payload.clone();
        if world.sabotaged(Saboteur::PayloadChanged, 60) {
            payload.push(b' ');
        }
        let recorded = RecordedEvent { payload, ..event.recorded(self.head() + 1 + skipped, self.recorded_at) };
        let text = || format!("{} {} {}", recorded.pos, recorded.event_type, String::from_utf8_lossy(&recorded.payload));
        world.tell(text);
        self.streams.entry(event.stream).or_default().push(self.events.len());
        self.events.push(ReadEvent::shared(recorded));
    }

    fn link(&mut self, world: &World, first_pos: i64, hashes: &[[u8; 32]]) -> Link {
        let before = if world.sabotaged(Saboteur::ChainBroken, 10) { [7; 32] } else { self.hash };
        let hash = commit_hash(&before, first_pos, self.recorded_at.timestamp_micros(), &merkle_root(hashes));
        self.commits.push(Commit { first_pos, last_pos: self.head(), recorded_at: self.recorded_at, prev: before, hash });
        self.hash = hash;
        Link { before, hash, recorded_at: self.recorded_at }
    }

    fn refusals(&self, world: &World, items: &[AppendItem]) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        if world.sabotage != Some(Saboteur::SkipsVersionCheck) {
            for (index, write) in items.iter().flat_map(|item| &item.streams).enumerate() {
                let actual = self.version(&write.key);
                if actual != write.expected {
                    refusals.push(Refusal::Version { index, actual });
                }
            }
        }
        for (index, key) in items.iter().flat_map(|item| &item.keys).enumerate() {
            // Names that are taken for ever are keys too; the saboteur forgets requests only.
            if world.sabotage == Some(Saboteur::DropsDedup) && key.taken.is_none() {
                continue;
            }
            let name = (key.tenant, key.scope.clone(), key.key.clone());
            if let Some(stored) = self.keys.get(&name) {
                refusals.push(Refusal::Key { index, stored: stored_for(world, stored) });
            }
        }
        refusals
    }
}

/// What unique indexes and the type `text` refuse, as a whole: the same version or key twice in one batch, a word with U+0000.
fn cannot_be_stored(items: &[AppendItem]) -> Result<(), StoreError> {
    let (mut streams, mut keys) = (HashSet::new(), HashSet::new());
    for item in items {
        let repeated = !item.streams.iter().all(|write| streams.insert(write.key))
            || !item.keys.iter().all(|key| keys.insert((key.tenant, &key.scope, &key.key)));
        if repeated || item.keys.iter().any(|key| key.scope.contains('\0') || key.key.contains('\0')) {
            return Err(StoreError::Refused("a unique index or a type refuses it".to_owned()));
        }
    }
    Ok(())
}

/// The stored answer, unless a saboteur tells another one.
pub(crate) fn stored_for(world: &World, stored: &StoredKey) -> StoredKey {
    let mut stored = stored.clone();
    if world.sabotage == Some(Saboteur::AnswerForgotten) {
        stored.response = None;
    }
    if world.sabotage == Some(Saboteur::KeyTakesAnyBody) {
        stored.request_hash = Vec::new();
    }
    stored
}

impl Db {
    /// Killed: what did not wait for the disk may be gone, newest first. What was acknowledged is there.
    pub fn die(&mut self, world: &World) {
        self.up = false;
        self.generation += 1;
        if self.read.lose(world) + self.process.lose(world) > 0 {
            world.saw("database lost what did not wait for the disk");
        }
    }

    /// Back to an older state, as a backup kept it.
    pub fn restore(&mut self, backup: &Self) {
        let generation = self.generation + 1;
        *self = Self { generation, up: true, ..backup.clone() };
    }
}
