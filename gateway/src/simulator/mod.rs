//! What every provider's simulator is made of: settings, fault rules, levers, a journal that outlives the process, and
//! call-backs that are resent until answered. The wire formats live with the providers.
//!
//! A simulator implements [`Simulated`]; [`serve`] adds the levers under `/sim/` (see `control.rs`, `settlement.rs`) to its routes, and
//! [`answer`] lays faults over each of its answers.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    http::HeaderMap,
    response::{IntoResponse as _, Response},
};
use chrono::{DateTime, TimeDelta, Utc};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::Clock;

mod broken;
pub(crate) mod callback;
pub(crate) mod charge_levers;
pub(crate) mod charges;
mod control;
mod faults;
pub(crate) mod journal;
pub(crate) mod ledger;
mod limit;
mod reply;
mod settlement;
mod timings;
pub(crate) mod tokens;

pub use callback::{CallbackPlan, SealKind};
pub use control::{AttemptRow, LedgerView, PayRequest, PaymentRow, RefundRow};
pub use faults::{Fault, FaultRule, Operation};
pub use timings::Timing;

pub(crate) use callback::{Courier, Seal};
pub(crate) use control::{Closing, Moved};
pub(crate) use reply::{Reply, Wording};

/// Settings of every simulator; its own (keys, biller) come beside them.
#[derive(Clone)]
pub struct SimulatorConfig {
    /// Where call-backs go, path secret included.
    pub webhook_url: String,
    /// Makes transaction ids, tokens, random faults and the choice among equivalent wire forms repeatable.
    pub seed: u64,
    /// Each money movement is appended here as one JSON line; read back at start. `None`: memory only.
    pub ledger_file: Option<PathBuf>,
    /// The provider's own time; the lever `/sim/clock` moves it forward.
    pub clock: Clock,
}

/// What every simulator holds.
pub(crate) struct Core {
    pub(crate) config: SimulatorConfig,
    pub(crate) stop: CancellationToken,
    faults: faults::FaultBook,
    courier: Courier,
    timings: timings::Timings,
    limit: limit::Limit,
    advanced_ms: AtomicI64,
}

impl Core {
    /// `seal` signs and addresses each call-back, `accepted` likes or dislikes the answer to one.
    pub(crate) fn new(config: SimulatorConfig, stop: CancellationToken, seal: Seal, accepted: fn(&[u8]) -> bool) -> io::Result<Self> {
        Ok(Self {
            faults: faults::FaultBook::new(config.seed),
            courier: Courier::new(stop.clone(), config.seed, seal, accepted)?,
            timings: timings::Timings::default(),
            limit: limit::Limit::default(),
            advanced_ms: AtomicI64::new(0),
            stop,
            config,
        })
    }

    /// The provider's time.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        (self.config.clock)() + TimeDelta::milliseconds(self.advanced_ms.load(Ordering::SeqCst))
    }

    /// Chooses between two forms of one answer, repeatably.
    pub(crate) fn flip(&self, number: usize) -> bool {
        (self.config.seed.wrapping_add(number as u64)).is_multiple_of(2)
    }

    /// Sends the call-back of a lever.
    fn call_back(&self, reference: &str, body: &str, plan: &CallbackPlan) {
        self.timings.note(None, Some(reference), (self.config.clock)(), Duration::ZERO);
        self.courier.dispatch(body, plan);
    }

    /// Sends a call-back that no lever asked for (an event of the provider's own).
    pub(crate) fn announce(&self, body: &str) {
        self.courier.dispatch(body, &CallbackPlan::default());
    }
}

/// One provider's simulator.
pub(crate) trait Simulated: Send + Sync + 'static {
    /// Names of answer fields that hold a status word; the fault `unknown_status` replaces their texts.
    const STATUS_FIELDS: &'static [&'static str];

    fn core(&self) -> &Core;
    /// How it words a failure.
    fn word(&self, failure: Wording) -> Reply;
    /// Its access tokens, if it has any; keys do not lapse.
    fn tokens(&self) -> Option<&tokens::Tokens> {
        None
    }
    /// The next capture of this reference takes half of what is asked for; of providers with captures.
    fn capture_in_part(&self, _reference: Option<&str>) {}
    /// The payer pays.
    fn pay(&self, request: &PayRequest) -> Result<Moved, ledger::Refusal>;
    /// The payer or the provider ends an unpaid attempt.
    fn close(&self, reference: &str, closing: Closing) -> Result<Moved, ledger::Refusal>;
    /// A call-back of a payment that never was.
    fn lie(&self, request: &PayRequest) -> String;
    /// All its books.
    fn ledger(&self) -> LedgerView;
}

/// Serves a simulator's own routes and its levers until its stop token is cancelled.
pub(crate) async fn serve<P: Simulated>(listener: TcpListener, provider: P, routes: Router<Arc<P>>) -> io::Result<()> {
    let stop = provider.core().stop.clone();
    let router = routes.merge(control::routes()).merge(settlement::routes()).with_state(Arc::new(provider));
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

/// Runs `act` with a fault around it, if a rule says so, and notes how long that took; over the limit of calls nothing happens.
pub(crate) async fn answer<P: Simulated>(
    provider: &P,
    operation: Operation,
    reference: Option<&str>,
    act: impl FnOnce() -> Result<Reply, Reply> + Send,
) -> Response {
    let core = provider.core();
    let (at, started) = ((core.config.clock)(), Instant::now());
    let response = if core.limit.admits(operation, started) {
        broken::answer(provider, operation, reference, act).await
    } else {
        provider.word(Wording::Quota).into_response()
    };
    core.timings.note(Some(operation), reference, at, started.elapsed());
    response
}

/// A simulator has no state worth losing to another thread's panic.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A header; empty when it is missing or no text.
pub(crate) fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The next number of a repeatable sequence. Source: Steele et al., SplitMix64.
pub(crate) fn scramble(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
