//! What clients were told: the honest witness of invariants 1, 2, 9 and 11.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use domain::{envelope::StreamKey, ids::Ulid};

/// An answer to a request under a key.
#[derive(Debug, Clone)]
pub(crate) struct Acked {
    pub tenant: Ulid,
    pub scope: String,
    pub key: String,
    pub status: u16,
    pub version: i64,
    pub body: Vec<u8>,
    pub position: Option<i64>,
    /// The thing that the version is of.
    pub stream: Option<StreamKey>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Journal {
    pub acked: Vec<Acked>,
    /// Call-backs that the provider was thanked for.
    pub hooks: BTreeSet<String>,
    /// Things outside that are still to come: payers, call-backs.
    pub pending: u64,
    /// Things outside that come at a time of day.
    pub later: Vec<DateTime<Utc>>,
    /// Payments asked for.
    pub payments: u64,
    /// Published ends of the chain.
    pub anchors: Vec<(i64, [u8; 32])>,
    /// How often the database went back in time.
    pub restores: u64,
    /// When it did last.
    pub restored_at: Option<DateTime<Utc>>,
    /// It went back behind what the bus held.
    pub restored_under_bus: bool,
    /// Tenants, each with a word that nobody else uses.
    pub tenants: Vec<(Ulid, String)>,
}

impl Journal {
    /// The database went back to `position`: what came after it is not promised any more.
    pub fn forget_after(&mut self, position: i64, keys: impl Fn(&Acked) -> bool) {
        self.acked.retain(|acked| acked.position.is_some_and(|at| at <= position) && keys(acked));
        self.anchors.retain(|(at, _)| *at <= position);
        self.hooks.clear();
        self.restores += 1;
    }
}
