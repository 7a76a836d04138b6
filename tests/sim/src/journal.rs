//! What clients were told: the honest witness of invariants 1, 2, 9 and 11.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use domain::{envelope::StreamKey, ids::Ulid};
use uuid::Uuid;

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

/// What happened to the task that looks into a call-back for the first time.
#[derive(Debug, Default)]
pub(crate) struct FirstLook {
    /// The door left it leased.
    pub left_leased: bool,
    /// How often somebody took it, with a lease that stood in the database.
    pub taken: u64,
    /// How often it was begun.
    pub begun: u64,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Journal {
    pub acked: Vec<Acked>,
    /// Call-backs that the provider was thanked for.
    pub hooks: BTreeSet<String>,
    /// First looks into call-backs, by the keys of their tasks.
    pub first_looks: BTreeMap<String, FirstLook>,
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
    /// The first look into a call-back.
    pub fn first_look(&mut self, key: &str) -> &mut FirstLook {
        self.first_looks.entry(key.to_owned()).or_default()
    }

    /// The task of this call-back stood leased when it was stored.
    pub fn is_left_leased(&self, call_back: Uuid) -> bool {
        self.first_looks.get(&format!("webhook:{call_back}")).is_some_and(|look| look.left_leased)
    }

    /// The database went back to `position`: what came after it is not promised any more.
    pub fn forget_after(&mut self, position: i64, keys: impl Fn(&Acked) -> bool) {
        self.acked.retain(|acked| acked.position.is_some_and(|at| at <= position) && keys(acked));
        self.anchors.retain(|(at, _)| *at <= position);
        self.hooks.clear();
        self.restores += 1;
    }
}
