//! What everything in a simulation shares: the source of chance, the time, the history, the counters, the servers' state.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use domain::{
    clock::{Clock, IdSource},
    ids::Ulid,
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore as _, SeedableRng as _},
};
use sha2::{Digest as _, Sha256};
use tokio::{sync::Notify, time::Instant};

use crate::{bank::Bank, bus::BusState, counters, db::Db, door::Door, journal::Journal, sabotage::Saboteur, schedule::Knob};

/// 2026-11-20 05:00 UTC.
pub(crate) const START_US: i64 = 1_795_150_800_000_000;

pub(crate) type Shared = Arc<World>;

struct Chance {
    rng: ChaCha8Rng,
    history: Sha256,
    steps: u64,
    counters: BTreeMap<&'static str, u64>,
    trace: Option<Vec<String>>,
    violations: Vec<String>,
}

/// See the module.
pub(crate) struct World {
    chance: Mutex<Chance>,
    pub knobs: BTreeMap<Knob, u64>,
    faulty: Mutex<bool>,
    began: Instant,
    jumped_us: Mutex<i64>,
    jumped: Notify,
    /// Calls on ports take no time.
    swift: bool,
    pub sabotage: Option<Saboteur>,
    db: Mutex<Db>,
    bus: Mutex<BusState>,
    bank: Mutex<Bank>,
    journal: Mutex<Journal>,
    doors: Mutex<BTreeMap<usize, Door>>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub fn new(seed: u64, knobs: BTreeMap<Knob, u64>, sabotage: Option<Saboteur>, trace: bool) -> Shared {
        Arc::new(Self::made(seed, knobs, sabotage, trace))
    }

    /// One in which calls on ports take no time, for a clock that is not paused.
    pub fn swift(seed: u64, knobs: BTreeMap<Knob, u64>, sabotage: Option<Saboteur>) -> Shared {
        Arc::new(Self { swift: true, ..Self::made(seed, knobs, sabotage, false) })
    }

    fn made(seed: u64, knobs: BTreeMap<Knob, u64>, sabotage: Option<Saboteur>, trace: bool) -> Self {
        let chance = Chance {
            rng: ChaCha8Rng::seed_from_u64(seed ^ 0x5eed_0f71_3e00_0001),
            history: Sha256::new(),
            steps: 0,
            counters: counters::ALL.iter().map(|name| (*name, 0)).collect(),
            trace: trace.then(Vec::new),
            violations: Vec::new(),
        };
        Self {
            chance: Mutex::new(chance),
            knobs,
            faulty: Mutex::new(false),
            began: Instant::now(),
            jumped_us: Mutex::new(0),
            jumped: Notify::new(),
            swift: false,
            sabotage,
            db: Mutex::new(Db::new(seed)),
            bus: Mutex::new(BusState::default()),
            bank: Mutex::new(Bank::default()),
            journal: Mutex::new(Journal::default()),
            doors: Mutex::new(BTreeMap::new()),
        }
    }

    pub fn db(&self) -> MutexGuard<'_, Db> {
        lock(&self.db)
    }

    pub fn bus(&self) -> MutexGuard<'_, BusState> {
        lock(&self.bus)
    }

    pub fn bank(&self) -> MutexGuard<'_, Bank> {
        lock(&self.bank)
    }

    pub fn journal(&self) -> MutexGuard<'_, Journal> {
        lock(&self.journal)
    }

    /// The open doors for call-backs, by the place of their process.
    pub fn doors(&self) -> MutexGuard<'_, BTreeMap<usize, Door>> {
        lock(&self.doors)
    }

    /// A number from 0 to `below` - 1.
    pub fn draw(&self, below: u64) -> u64 {
        let word = lock(&self.chance).rng.next_u64();
        if below == 0 { 0 } else { word % below }
    }

    /// A place in something of this length.
    pub fn pick(&self, len: usize) -> usize {
        usize::try_from(self.draw(u64::try_from(len).unwrap_or(1))).unwrap_or(0)
    }

    pub fn chance(&self, permille: u64) -> bool {
        permille > 0 && self.draw(1000) < permille
    }

    /// Whether a fault of this kind strikes now.
    pub fn strikes(&self, knob: Knob) -> bool {
        let weight = self.knobs.get(&knob).copied().unwrap_or(0);
        weight > 0 && (*lock(&self.faulty) || knob.outlasts_healing()) && self.chance(weight) && {
            self.saw(knob.counter());
            true
        }
    }

    pub fn set_faulty(&self, faulty: bool) {
        *lock(&self.faulty) = faulty;
    }

    /// Whether a saboteur is at work here, this time: one in `of`.
    pub fn sabotaged(&self, saboteur: Saboteur, of: u64) -> bool {
        self.sabotage == Some(saboteur) && self.draw(of) == 0
    }

    /// Something that has to happen in some schedule, or the schedules prove nothing.
    pub fn saw(&self, what: &'static str) {
        *lock(&self.chance).counters.entry(what).or_default() += 1;
    }

    /// One step of the history.
    pub fn note(&self, what: &str, number: i64) {
        let now = self.now_us();
        let mut chance = lock(&self.chance);
        chance.steps += 1;
        chance.history.update(what.as_bytes());
        chance.history.update(number.to_be_bytes());
        chance.history.update(now.to_be_bytes());
        if let Some(trace) = &mut chance.trace {
            trace.push(format!("{:>9.3} {what} {number}", Duration::from_micros((now - START_US).unsigned_abs()).as_secs_f64()));
        }
    }

    /// A line of the history for people, if it is asked for; the hash knows the step already.
    pub fn tell(&self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut lock(&self.chance).trace {
            trace.push(format!("          {}", line()));
        }
    }

    pub fn violated(&self, invariant: &str, what: impl std::fmt::Display) {
        lock(&self.chance).violations.push(format!("{invariant}: {what}"));
    }

    pub fn now_us(&self) -> i64 {
        let elapsed = i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX);
        START_US + elapsed + *lock(&self.jumped_us)
    }

    pub fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.now_us()).unwrap_or(DateTime::UNIX_EPOCH)
    }

    /// Lets the time of day go on without anything waiting for it: a quiet hour.
    pub fn jump_to(&self, time: DateTime<Utc>) {
        let ahead = time.timestamp_micros() - self.now_us();
        if ahead > 0 {
            *lock(&self.jumped_us) += ahead;
            self.jumped.notify_waiters();
        }
    }

    /// Waits for a time of day, however it comes.
    pub async fn until(&self, time: DateTime<Utc>) {
        loop {
            let jumped = self.jumped.notified();
            let Some(left) = (time - self.now()).to_std().ok().filter(|left| !left.is_zero()) else { return };
            tokio::select! {
                biased;
                () = jumped => {}
                () = tokio::time::sleep(left) => {}
            }
        }
    }

    /// A way through a network or a disk: mostly short, sometimes long.
    pub async fn delay(&self) {
        let drawn = self.draw(64);
        if self.swift || drawn < 24 {
            tokio::task::yield_now().await;
        } else {
            let millis = if drawn == 63 { 20 + self.draw(200) } else { 1 + drawn % 4 };
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
    }

    /// What came of it: hash of the history, steps, counters, violations, trace.
    pub fn outcome(&self) -> (String, u64, BTreeMap<&'static str, u64>, Vec<String>, Vec<String>) {
        let chance = lock(&self.chance);
        let mut history = chance.history.clone();
        history.update(self.db().hash);
        let trace = chance.trace.clone().unwrap_or_default();
        (hex::encode(history.finalize()), chance.steps, chance.counters.clone(), chance.violations.clone(), trace)
    }
}

/// A process's clock: it may go wrong by a fixed amount.
pub(crate) struct SimClock {
    pub world: Shared,
    pub skew_us: i64,
}

impl Clock for SimClock {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.world.now_us() + self.skew_us).unwrap_or(DateTime::UNIX_EPOCH)
    }
}

/// Ids out of the one source of chance.
pub(crate) struct SimIds(pub Shared);

impl IdSource for SimIds {
    fn next(&self) -> Ulid {
        let millis = u64::try_from(self.0.now_us() / 1000).unwrap_or(0);
        Ulid::from_parts(millis, (u128::from(self.0.draw(1 << 16)) << 64) | u128::from(self.0.draw(u64::MAX)))
    }
}
