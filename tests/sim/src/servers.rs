//! The simulated servers without the loops of the product: what the conformance suite holds beside real ones.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use crate::{
    bus::SimBus,
    db::Db,
    link::{Life, Link},
    log_ports::{SimAppender, SimLog},
    sabotage::Saboteur,
    schedule::Knob,
    world::{World, lock},
};

/// A database and a bus that answer at once.
pub struct Servers {
    link: Link,
    copy: Mutex<Option<Db>>,
}

impl Servers {
    /// New ones; the seed decides what a crash leaves.
    pub fn new(seed: u64, sabotage: Option<Saboteur>) -> Self {
        let knobs = BTreeMap::from([(Knob::CommitLosesAnswer, 1000)]);
        Self { link: Link { world: World::swift(seed, knobs, sabotage), life: Arc::new(Life::default()) }, copy: Mutex::new(None) }
    }

    /// The log, and what stands beside it.
    pub fn log(&self) -> SimLog {
        SimLog(self.link.clone())
    }

    /// A connection of its own to append over.
    pub fn appender(&self) -> SimAppender {
        SimAppender { link: self.link.clone(), connected: None }
    }

    /// The bus.
    pub fn bus(&self) -> SimBus {
        SimBus(self.link.clone())
    }

    /// From now on appends are written and nobody hears of it, or they are answered again.
    pub fn lose_answers(&self, lost: bool) {
        self.link.world.set_faulty(lost);
    }

    /// Stored call-backs by their delivery ids: state, how often they came.
    pub fn call_backs(&self) -> Vec<(String, String, i32)> {
        self.link.world.db().process.stored_call_backs()
    }

    /// Kills the database and starts it again.
    pub fn kill_database(&self) {
        let mut db = self.link.world.db();
        db.die(&self.link.world);
        db.up = true;
    }

    /// Keeps a copy of the database, which is down meanwhile.
    pub fn keep_copy(&self) {
        self.kill_database();
        *lock(&self.copy) = Some(self.link.world.db().clone());
    }

    /// Puts the copy in the place of the database.
    pub fn restore_copy(&self) {
        if let Some(copy) = &*lock(&self.copy) {
            self.link.world.db().restore(copy);
        }
    }

    /// Kills the bus and starts it again.
    pub fn kill_bus(&self) {
        let mut bus = self.link.world.bus();
        bus.set_up(false);
        bus.set_up(true);
    }

    /// What a loss of power leaves of the bus: its first `kept` messages.
    pub fn forget_messages(&self, kept: usize) {
        self.link.world.bus().keep_only(kept);
    }

    /// Empties the bus.
    pub fn wipe_bus(&self) {
        self.link.world.bus().wipe();
    }
}
