//! A schedule: what clients ask and what breaks, drawn from one seed; as data, so that it can be shrunk.

use std::collections::BTreeMap;

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore as _, SeedableRng as _},
};

/// Faults that strike by chance at each call. Each seed draws its own weights, many of them nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Knob {
    /// The database never sees a request.
    DbLosesRequest,
    /// It did what was asked and nobody hears of it.
    DbLosesAnswer,
    /// The appender's call goes through, its connection breaks before the answer.
    CommitLosesAnswer,
    /// The appender's call breaks before it goes through.
    CommitLosesRequest,
    /// The commit hangs for longer than anybody waits.
    CommitHangs,
    /// The bus fails a request.
    BusFails,
    /// The bus stores a message and says nothing.
    BusLosesAck,
    /// The bus never stores a message.
    BusLosesMessage,
    /// The bus delivers a message twice.
    BusRepeats,
    /// The bus delivers something else than what was stored.
    BusLies,
    /// The provider answers nothing and did nothing.
    BankSilentBefore,
    /// The provider did it and answers nothing.
    BankSilentAfter,
    /// The provider cuts its answer off, or sends a 5xx.
    BankGarbles,
    /// The provider is asked too often, or is away.
    BankTurnsAway,
    /// The provider refuses a card.
    BankDeclines,
    /// The provider's books lag.
    BankLags,
    /// The provider cannot stop a QR.
    BankCannotCancel,
    /// A refund is not carried out at once.
    RefundWaits,
    /// A refund comes to nothing.
    RefundFails,
    /// A call-back comes more than once.
    HookRepeats,
    /// A call-back is late.
    HookLate,
    /// A call-back never comes.
    HookLost,
    /// A call-back speaks of money that is not there.
    HookContradicts,
    /// A call-back is signed by somebody else.
    HookForged,
    /// The provider hangs up while its call-back is taken in.
    HookHangsUp,
    /// A process dies between storing a call-back and handing its task to the worker beside the door.
    DoorDies,
    /// The payer does not pay.
    PayerNever,
    /// The payer pays another amount.
    PayerWrong,
    /// The payer pays twice.
    PayerTwice,
    /// The payer pays after the time is up.
    PayerLate,
    /// The client hangs up and asks again.
    ClientImpatient,
}

impl Knob {
    /// All of them.
    pub const ALL: [Self; 31] = [
        Self::DbLosesRequest,
        Self::DbLosesAnswer,
        Self::CommitLosesAnswer,
        Self::CommitLosesRequest,
        Self::CommitHangs,
        Self::BusFails,
        Self::BusLosesAck,
        Self::BusLosesMessage,
        Self::BusRepeats,
        Self::BusLies,
        Self::BankSilentBefore,
        Self::BankSilentAfter,
        Self::BankGarbles,
        Self::BankTurnsAway,
        Self::BankDeclines,
        Self::BankLags,
        Self::BankCannotCancel,
        Self::RefundWaits,
        Self::RefundFails,
        Self::HookRepeats,
        Self::HookLate,
        Self::HookLost,
        Self::HookContradicts,
        Self::HookForged,
        Self::HookHangsUp,
        Self::DoorDies,
        Self::PayerNever,
        Self::PayerWrong,
        Self::PayerTwice,
        Self::PayerLate,
        Self::ClientImpatient,
    ];

    /// What is counted when it strikes.
    pub const fn counter(self) -> &'static str {
        match self {
            Self::DbLosesRequest => "database lost a request",
            Self::DbLosesAnswer => "database lost an answer",
            Self::CommitLosesAnswer => "commit lost its answer",
            Self::CommitLosesRequest => "commit lost its request",
            Self::CommitHangs => "commit hung",
            Self::BusFails => "bus failed a request",
            Self::BusLosesAck => "bus stored and said nothing",
            Self::BusLosesMessage => "bus lost a message",
            Self::BusRepeats => "bus delivered twice",
            Self::BusLies => "bus delivered something else",
            Self::BankSilentBefore => "provider silent before the effect",
            Self::BankSilentAfter => "provider silent after the effect",
            Self::BankGarbles => "provider garbled its answer",
            Self::BankTurnsAway => "provider turned a call away",
            Self::BankDeclines => "provider declined",
            Self::BankLags => "provider's books lagged",
            Self::BankCannotCancel => "provider could not cancel",
            Self::RefundWaits => "refund pending at the provider",
            Self::RefundFails => "refund failed at the provider",
            Self::HookRepeats => "call-back repeated",
            Self::HookLate => "call-back late",
            Self::HookLost => "call-back lost",
            Self::HookContradicts => "call-back contradicted the books",
            Self::HookForged => "call-back forged",
            Self::HookHangsUp => "provider hung up",
            Self::DoorDies => "process died before it handed a call-back over",
            Self::PayerNever => "payer never paid",
            Self::PayerWrong => "payer paid another amount",
            Self::PayerTwice => "payer paid twice",
            Self::PayerLate => "payer paid late",
            Self::ClientImpatient => "client hung up",
        }
    }

    /// What people do is no fault that heals.
    pub(crate) const fn outlasts_healing(self) -> bool {
        matches!(
            self,
            Self::PayerNever | Self::PayerWrong | Self::PayerTwice | Self::BankDeclines | Self::BankCannotCancel | Self::RefundFails
        )
    }
}

/// What breaks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// A process is killed and started again after some milliseconds.
    Kill(usize, u64),
    /// A process is told to stop, finishes what is under way, and is started again after some milliseconds.
    Stop(usize, u64),
    /// A process stands still for some milliseconds and goes on.
    Pause(usize, u64),
    /// The database is killed: what was not acknowledged is gone; it is back after some milliseconds.
    DatabaseDies(u64),
    /// The database goes back to how it was at the last backup.
    DatabaseRestored,
    /// A backup of the database.
    Backup,
    /// The bus loses its newest messages.
    BusForgets,
    /// The bus loses everything.
    BusWiped,
    /// The bus is away for some milliseconds.
    BusAway(u64),
}

/// How a bill is paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pay {
    /// In cash.
    Cash,
    /// Half in cash, half by QR.
    Halves,
    /// By QR.
    Qr,
    /// By card.
    Card,
    /// By card, held first.
    Hold,
}

/// What a client does after paying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Gives so many hundredths back.
    Refund(i64),
    /// Gives everything back, twice at once.
    RefundRace,
    /// Wants to stop.
    Cancel,
    /// Captures so many hundredths of what is held.
    Capture(i64),
    /// Says the first request once more.
    Repeat,
    /// Says another request under the first key.
    OtherBody,
    /// Asks for another tenant's order.
    Foreign,
    /// Changes an order on a version of yesterday.
    Stale,
    /// Sends the first request twice at once, to two processes.
    Twins,
    /// Decides what happens to money that did not fit.
    Unmatched,
    /// Has the provider's books be looked at now.
    Sync,
}

/// A sale of one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sale {
    /// Milliseconds before it.
    pub after_ms: u64,
    /// Price of each piece, minor units.
    pub prices: Vec<i64>,
    /// How it is paid.
    pub pay: Pay,
    /// What follows.
    pub then: Vec<Then>,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Chance within the run comes from it too.
    pub seed: u64,
    /// Weights of faults, per thousand calls.
    pub knobs: BTreeMap<Knob, u64>,
    /// What breaks, with the millisecond.
    pub breaks: Vec<(u64, Break)>,
    /// What each client sells.
    pub clients: Vec<Vec<Sale>>,
}

/// The faults begin and end at these milliseconds.
pub(crate) const FAULTS_MS: (u64, u64) = (1_000, 13_000);
/// Processes of a simulation.
pub(crate) const PROCESSES: usize = 8;

struct Draw(ChaCha8Rng);

impl Draw {
    fn below(&mut self, below: u64) -> u64 {
        self.0.next_u64() % below.max(1)
    }

    fn index(&mut self, below: usize) -> usize {
        usize::try_from(self.below(u64::try_from(below).unwrap_or(1))).unwrap_or(0)
    }
}

impl Schedule {
    /// The schedule of a seed with about this many payments.
    pub fn of(seed: u64, payments: u64) -> Self {
        let mut draw = Draw(ChaCha8Rng::seed_from_u64(seed));
        let knobs = Knob::ALL.into_iter().filter_map(|knob| weight(&mut draw, knob).map(|weight| (knob, weight))).collect();
        let count = [0, 1, 3, 6][draw.index(4)];
        let mut breaks: Vec<(u64, Break)> = (0..count).map(|_| one_break(&mut draw)).collect();
        breaks.sort_by_key(|(at, _)| *at);
        let clients = 3 + draw.below(4);
        let sales = payments.div_ceil(clients);
        let clients = (0..clients).map(|_| (0..sales).map(|_| sale(&mut draw, sales)).collect()).collect();
        Self { seed, knobs, breaks, clients }
    }
}

fn weight(draw: &mut Draw, knob: Knob) -> Option<u64> {
    let heavy = match knob {
        Knob::CommitHangs => 4,
        Knob::DbLosesRequest | Knob::DbLosesAnswer | Knob::BusLies | Knob::BusFails | Knob::BusLosesMessage => 15,
        Knob::CommitLosesAnswer | Knob::CommitLosesRequest | Knob::BusLosesAck | Knob::BusRepeats => 60,
        Knob::DoorDies | Knob::ClientImpatient | Knob::HookForged | Knob::HookContradicts => 50,
        Knob::BankSilentBefore
        | Knob::BankSilentAfter
        | Knob::BankGarbles
        | Knob::BankTurnsAway
        | Knob::BankDeclines
        | Knob::BankLags
        | Knob::RefundWaits
        | Knob::RefundFails
        | Knob::HookRepeats
        | Knob::HookLate
        | Knob::HookLost
        | Knob::HookHangsUp
        | Knob::PayerNever
        | Knob::PayerWrong
        | Knob::PayerTwice
        | Knob::PayerLate => 250,
        Knob::BankCannotCancel => 500,
    };
    (draw.below(2) == 0).then(|| 1 + draw.below(heavy))
}

fn one_break(draw: &mut Draw) -> (u64, Break) {
    let at = FAULTS_MS.0 + draw.below(FAULTS_MS.1 - FAULTS_MS.0);
    let which = draw.index(PROCESSES);
    let broken = match draw.below(14) {
        0..=3 => Break::Kill(which, 10 + draw.below(2_000)),
        4 | 5 => Break::Pause(which, 100 + draw.below(9_000)),
        6 | 7 => Break::DatabaseDies(10 + draw.below(2_500)),
        8 => Break::BusForgets,
        9 => Break::BusWiped,
        10 => Break::BusAway(100 + draw.below(4_000)),
        11 | 12 => Break::Stop(which, 10 + draw.below(2_000)),
        _ if draw.below(2) == 0 => Break::Backup,
        _ => Break::DatabaseRestored,
    };
    (at, broken)
}

fn sale(draw: &mut Draw, sales: u64) -> Sale {
    let prices = (0..=draw.below(3)).map(|_| 100 + i64::try_from(draw.below(50_000)).unwrap_or(0)).collect();
    let pay = [Pay::Cash, Pay::Qr, Pay::Qr, Pay::Card, Pay::Hold, Pay::Halves][draw.index(6)];
    let mut then = Vec::new();
    for _ in 0..draw.below(3) {
        let percent = 1 + i64::try_from(draw.below(100)).unwrap_or(0);
        let all = [
            Then::Refund(percent),
            Then::Refund(100),
            Then::RefundRace,
            Then::Cancel,
            Then::Repeat,
            Then::OtherBody,
            Then::Foreign,
            Then::Stale,
            Then::Twins,
            Then::Unmatched,
            Then::Sync,
        ];
        then.push(all[draw.index(all.len())]);
    }
    if pay == Pay::Hold && draw.below(4) > 0 {
        then.insert(0, Then::Capture(1 + i64::try_from(draw.below(100)).unwrap_or(0)));
    }
    Sale { after_ms: draw.below(2 * 12_000 / sales.max(1)), prices, pay, then }
}
