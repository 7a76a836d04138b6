//! A provider that is slow, full or down must not take the platform with it: time-out, bulkhead and circuit breaker around
//! any connector, and a read-out of its health for routing.
//!
//! The breaker is our own few lines: `failsafe` reads the process's clock and judges `Result`s, where we inject time and
//! must tell calls that begin something from calls that only look; `tower` has limits but no breaker, and the port is no
//! `Service`.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::TimeDelta;
use domain::{
    process::work::LONGEST_CALL_MS,
    provider::{
        AttemptView, BoxFuture, CallOutcome, CancelRequest, Capabilities, CaptureRequest, ExchangeLog, IncrementRequest, InquiryRequest,
        NO_PLACE, PaymentProvider, RawWebhook, RefundRequest, RefundStatus, StartRequest, WebhookHint, WebhookRefusal, is_held_back,
    },
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

use crate::Clock;

mod breaker;

pub use breaker::Circuit;
use breaker::{Breaker, Call};

/// Calls to the accounts of one provider at the same time that begin something; as many again that only look. Whoever makes calls for
/// several providers side by side needs room for all of them, so that one that hangs takes nobody else's place.
pub const CALLS_OF_PROVIDER: usize = 96;

/// How much an account may cost us.
#[derive(Debug, Clone, Copy)]
pub struct GuardSettings {
    /// For one call on the port, with the wait for its place and all its exchanges.
    pub timeout: Duration,
    /// Calls that begin something, at the same time; as many again that only look.
    pub concurrent_calls: usize,
    /// So long a call waits for a place: a moment's crowd passes, and who is slow is not waited for.
    pub wait: Duration,
    /// So many calls in a row without an answer open the circuit.
    pub open_after: u32,
    /// So long it stays open before one call may try.
    pub open_for: TimeDelta,
    /// While it is open one look may pass this often.
    pub look_every: TimeDelta,
}

impl Default for GuardSettings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_millis(LONGEST_CALL_MS.unsigned_abs()),
            concurrent_calls: CALLS_OF_PROVIDER / 2,
            wait: Duration::from_millis(250),
            open_after: 5,
            open_for: TimeDelta::seconds(30),
            look_every: TimeDelta::seconds(5),
        }
    }
}

/// Places for calls: of one account, or of all accounts of one provider.
#[derive(Debug)]
pub struct Bulkhead {
    beginnings: Semaphore,
    looks: Semaphore,
}

impl Bulkhead {
    /// For as many calls that begin something, and as many again that only look.
    pub fn new(calls: usize) -> Self {
        Self { beginnings: Semaphore::new(calls), looks: Semaphore::new(calls) }
    }

    const fn of(&self, call: Call) -> &Semaphore {
        match call {
            Call::Begin => &self.beginnings,
            Call::Look => &self.looks,
        }
    }
}

/// How a provider is doing, as far as this process has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// Whether calls that begin something are let through.
    pub circuit: Circuit,
    /// Calls in a row that got no answer.
    pub failures_in_a_row: u32,
    /// Places left for calls that begin something.
    pub free_places: usize,
}

impl Health {
    /// Worth routing a new payment to.
    pub const fn is_available(&self) -> bool {
        matches!(self.circuit, Circuit::Closed) && self.free_places > 0
    }
}

/// A connector behind its guard.
pub struct Guarded {
    inner: Arc<dyn PaymentProvider>,
    settings: GuardSettings,
    clock: Clock,
    breaker: Mutex<Breaker>,
    own: Bulkhead,
    shared: Arc<Bulkhead>,
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded").field("provider", &self.inner.name()).field("health", &self.health()).finish_non_exhaustive()
    }
}

impl Guarded {
    /// Around `inner`, which has `shared` in common with the other accounts of its provider.
    pub fn new(inner: Arc<dyn PaymentProvider>, settings: GuardSettings, shared: Arc<Bulkhead>, clock: Clock) -> Self {
        Self {
            breaker: Mutex::new(Breaker::new(settings.open_after, settings.open_for, settings.look_every)),
            own: Bulkhead::new(settings.concurrent_calls),
            shared,
            inner,
            settings,
            clock,
        }
    }

    /// How it is doing now.
    pub fn health(&self) -> Health {
        let now = (self.clock)();
        let breaker = self.breaker();
        let free_places = self.own.beginnings.available_permits().min(self.shared.beginnings.available_permits());
        Health { circuit: breaker.circuit(now), failures_in_a_row: breaker.failures(), free_places }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn guarded<T>(&self, call: Call, log: &ExchangeLog, inner: BoxFuture<'_, CallOutcome<T>>) -> CallOutcome<T> {
        let ends_at = Instant::now() + self.settings.timeout;
        let Some(_places) = self.places(call).await else { return self.refuse("full", NO_PLACE) };
        if !self.breaker().admits(call, (self.clock)()) {
            return self.refuse("open", "the provider did not answer lately, so it is not called");
        }
        let mut pass = Pass { guard: self, call, answered: None };
        let Ok(outcome) = tokio::time::timeout_at(ends_at, inner).await else {
            pass.answered = Some(false);
            return self.too_slow(call);
        };
        pass.answered = match &outcome {
            CallOutcome::Done(_) | CallOutcome::Declined(_) => Some(true),
            // Held back by the connector itself, in a pause that the provider asked for or for want of a turn: that says nothing new about it.
            CallOutcome::NotAttempted(reason) if log.is_empty() || is_held_back(reason) => None,
            CallOutcome::NotAttempted(_) | CallOutcome::Unknown(_) => Some(false),
        };
        outcome
    }

    /// A place of the account, and one of its provider.
    async fn places(&self, call: Call) -> Option<(SemaphorePermit<'_>, SemaphorePermit<'_>)> {
        let both = async {
            let own = self.own.of(call).acquire().await.ok()?;
            Some((own, self.shared.of(call).acquire().await.ok()?))
        };
        tokio::time::timeout(self.settings.wait, both).await.ok().flatten()
    }

    fn too_slow<T>(&self, call: Call) -> CallOutcome<T> {
        metrics::counter!("gateway_call_timeouts_total", "provider" => self.inner.name()).increment(1);
        let reason = format!("no outcome within {} ms", self.settings.timeout.as_millis());
        match call {
            Call::Begin => CallOutcome::Unknown(reason),
            Call::Look => CallOutcome::NotAttempted(reason),
        }
    }

    fn refuse<T>(&self, why: &'static str, text: &str) -> CallOutcome<T> {
        metrics::counter!("gateway_calls_refused_total", "provider" => self.inner.name(), "why" => why).increment(1);
        CallOutcome::NotAttempted(text.to_owned())
    }
}

/// An admitted call. Tells the breaker how it went, also when its future is dropped half-way.
struct Pass<'a> {
    guard: &'a Guarded,
    call: Call,
    /// Nothing while nobody knows.
    answered: Option<bool>,
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let now = (self.guard.clock)();
        let mut breaker = self.guard.breaker();
        let before = breaker.circuit(now);
        breaker.report(self.call, self.answered, now);
        let after = breaker.circuit(now);
        if before != after {
            let provider = self.guard.inner.name();
            tracing::warn!(provider, ?before, ?after, "the circuit to the provider changed");
            metrics::gauge!("gateway_circuit_open", "provider" => provider).set(i32::from(after != Circuit::Closed));
        }
    }
}

impl PaymentProvider for Guarded {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn start<'a>(&'a self, request: &'a StartRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>> {
        Box::pin(self.guarded(Call::Begin, log, self.inner.start(request, log)))
    }

    fn inquire<'a>(&'a self, request: &'a InquiryRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>> {
        Box::pin(self.guarded(Call::Look, log, self.inner.inquire(request, log)))
    }

    fn capture<'a>(&'a self, request: &'a CaptureRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>> {
        Box::pin(self.guarded(Call::Begin, log, self.inner.capture(request, log)))
    }

    fn increment<'a>(&'a self, request: &'a IncrementRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>> {
        Box::pin(self.guarded(Call::Begin, log, self.inner.increment(request, log)))
    }

    fn cancel<'a>(&'a self, request: &'a CancelRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>> {
        Box::pin(self.guarded(Call::Begin, log, self.inner.cancel(request, log)))
    }

    fn refund<'a>(&'a self, request: &'a RefundRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<RefundStatus>> {
        Box::pin(self.guarded(Call::Begin, log, self.inner.refund(request, log)))
    }

    fn inquire_refund<'a>(&'a self, request: &'a RefundRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<RefundStatus>> {
        Box::pin(self.guarded(Call::Look, log, self.inner.inquire_refund(request, log)))
    }

    fn read_webhook(&self, raw: &RawWebhook<'_>) -> Result<WebhookHint, WebhookRefusal> {
        self.inner.read_webhook(raw)
    }
}

#[cfg(test)]
mod tests;
