//! The way from a process to a server: delays, losses, a process that is paused or dead.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use commands::event_log::StoreError;
use tokio::{sync::Notify, time::Instant};

use crate::{
    db::Db,
    schedule::Knob,
    world::{Shared, lock},
};

/// Whether a process runs.
#[derive(Default)]
pub(crate) struct Life {
    dead: AtomicBool,
    died: Notify,
    paused_until: Mutex<Option<Instant>>,
}

impl Life {
    pub fn end(&self) {
        self.dead.store(true, Ordering::SeqCst);
        self.died.notify_waiters();
    }

    pub fn is_over(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// As `SIGSTOP` and, at that moment, `SIGCONT`.
    pub fn pause_until(&self, until: Instant) {
        *lock(&self.paused_until) = Some(until);
    }

    /// Ends with the process.
    pub async fn over(&self) {
        loop {
            let died = self.died.notified();
            if self.is_over() {
                return;
            }
            died.await;
        }
    }

    /// Waits while the process does not run; for ever once it is dead.
    async fn runs(&self) {
        loop {
            if self.is_over() {
                return std::future::pending().await;
            }
            let until = *lock(&self.paused_until);
            match until {
                Some(until) if until > Instant::now() => tokio::time::sleep_until(until).await,
                Some(_) | None => return,
            }
        }
    }
}

/// A process's connections.
#[derive(Clone)]
pub(crate) struct Link {
    pub world: Shared,
    pub life: Arc<Life>,
}

impl Link {
    /// One way through the network.
    pub async fn way(&self) {
        self.life.runs().await;
        self.world.delay().await;
        self.life.runs().await;
    }

    /// Asks the database: `apply` happens at one moment, or not at all; whether it did, a lost answer does not say.
    pub async fn ask<T>(&self, what: &'static str, apply: impl FnOnce(&mut Db) -> T) -> Result<T, StoreError> {
        self.way().await;
        let lost = |why: &str| Err(StoreError::Lost(why.to_owned()));
        if !self.world.db().up {
            self.world.saw("database refused a connection");
            return lost("connection refused");
        }
        if self.world.strikes(Knob::DbLosesRequest) {
            self.way().await;
            return lost("the request was lost");
        }
        let (answer, generation) = {
            let mut db = self.world.db();
            (apply(&mut db), db.generation)
        };
        self.world.note(what, self.world.db().head());
        self.way().await;
        if self.world.strikes(Knob::DbLosesAnswer) || self.world.db().generation != generation {
            return lost("the answer was lost");
        }
        Ok(answer)
    }
}
