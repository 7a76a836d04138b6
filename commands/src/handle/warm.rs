//! Recent states, kept by version.

use std::{any::Any, sync::Arc};

use domain::envelope::StreamKey;
use quick_cache::sync::Cache;

/// States kept warm per process.
const WARM_STATES: usize = 50_000;

/// A state and the version of its stream.
#[derive(Clone)]
pub(super) struct Warm {
    pub(super) version: i64,
    pub(super) state: Arc<dyn Any + Send + Sync>,
}

pub(super) struct WarmStates {
    states: Cache<StreamKey, Warm>,
    /// Versions that others are known to have written: nothing older may become warm.
    noticed: Cache<StreamKey, i64>,
}

impl WarmStates {
    pub(super) fn new() -> Self {
        Self { states: Cache::new(WARM_STATES), noticed: Cache::new(WARM_STATES) }
    }

    pub(super) fn get(&self, key: &StreamKey) -> Option<Warm> {
        self.states.get(key)
    }

    /// Keeps a state unless a newer one is warm or known to exist.
    pub(super) fn keep(&self, key: StreamKey, warm: Warm) {
        let version = warm.version;
        let known = self.noticed.get(&key).unwrap_or(0).max(self.states.peek(&key).map_or(0, |warm| warm.version));
        if known > version {
            return;
        }
        self.states.insert(key, warm);
        if self.noticed.get(&key).is_some_and(|noticed| noticed > version) {
            self.forget(&key); // heard of while it was put in
        }
    }

    /// Forgets a state that the log has moved beyond.
    pub(super) fn notice(&self, key: StreamKey, version: i64) {
        // First the floor, so that nobody puts an older state back in between.
        self.noticed.insert(key, version);
        if self.states.peek(&key).is_some_and(|warm| warm.version < version) {
            self.forget(&key);
        }
    }

    pub(super) fn forget(&self, key: &StreamKey) {
        drop(self.states.remove(key));
    }

    pub(super) fn forget_all(&self) {
        self.states.clear();
        self.noticed.clear();
    }
}
