//! The guard around a connector that does as it is told.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use chrono::DateTime;
use domain::{
    ids::{AttemptId, Ulid},
    money::Money,
    provider::{AttemptKey, Exchange, Method, MethodKind},
};

use super::*;

/// What the next calls end in.
#[derive(Clone, Copy)]
enum Mood {
    Answers,
    Refuses,
    Pauses,
    Hangs,
}

struct Moody {
    mood: Mutex<Mood>,
    calls: AtomicUsize,
}

impl Moody {
    async fn behave<T>(&self, log: &ExchangeLog) -> CallOutcome<T> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Answers => CallOutcome::Declined(crate::failure::decline("declined", "no")),
            Mood::Refuses => {
                log.record(nobody_there());
                CallOutcome::NotAttempted("no connection".to_owned())
            }
            Mood::Pauses => CallOutcome::NotAttempted("paused".to_owned()),
            Mood::Hangs => std::future::pending().await,
        }
    }
}

impl PaymentProvider for Moody {
    fn name(&self) -> &'static str {
        "moody"
    }
    fn capabilities(&self) -> Capabilities {
        crate::scb::capabilities_with_void(false)
    }
    fn start<'a>(&'a self, _: &'a StartRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>> {
        Box::pin(self.behave(log))
    }
    fn inquire<'a>(&'a self, _: &'a InquiryRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>> {
        Box::pin(self.behave(log))
    }
    fn refund<'a>(&'a self, _: &'a RefundRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<RefundStatus>> {
        Box::pin(self.behave(log))
    }
    fn inquire_refund<'a>(&'a self, _: &'a RefundRequest, log: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<RefundStatus>> {
        Box::pin(self.behave(log))
    }
    fn read_webhook(&self, _: &RawWebhook<'_>) -> Result<WebhookHint, WebhookRefusal> {
        Err(WebhookRefusal::NotAuthentic)
    }
}

fn nobody_there() -> Exchange {
    Exchange {
        operation: "any",
        request_line: "POST /".to_owned(),
        request_body: String::new(),
        status: None,
        response_body: "no connection".to_owned(),
        sent_at: DateTime::default(),
        took_ms: 0,
    }
}

struct World {
    moody: Arc<Moody>,
    guarded: Arc<Guarded>,
    seconds: Arc<AtomicI64>,
}

impl World {
    fn new(mood: Mood) -> Self {
        let moody = Arc::new(Moody { mood: Mutex::new(mood), calls: AtomicUsize::new(0) });
        let seconds = Arc::new(AtomicI64::new(0));
        let clock: Clock = {
            let seconds = Arc::clone(&seconds);
            Arc::new(move || DateTime::from_timestamp(seconds.load(Ordering::SeqCst), 0).unwrap())
        };
        let settings = GuardSettings { timeout: Duration::from_millis(50), concurrent_calls: 2, open_after: 3, ..GuardSettings::default() };
        let inner: Arc<dyn PaymentProvider> = moody.clone();
        Self { guarded: Arc::new(Guarded::new(inner, settings, clock)), moody, seconds }
    }

    fn turn(&self, mood: Mood) {
        *self.moody.mood.lock().unwrap() = mood;
    }

    fn calls(&self) -> usize {
        self.moody.calls.load(Ordering::SeqCst)
    }

    async fn start(&self) -> CallOutcome<AttemptView> {
        let request = StartRequest {
            key: key(),
            method: Method::PromptPay,
            manual_capture: false,
            expires_at: DateTime::default(),
            return_url: None,
            uncertain_since: None,
        };
        self.guarded.start(&request, &ExchangeLog::default()).await
    }

    async fn inquire(&self) -> CallOutcome<AttemptView> {
        let request = InquiryRequest { key: key(), method: MethodKind::PromptPay, now: DateTime::default() };
        self.guarded.inquire(&request, &ExchangeLog::default()).await
    }
}

fn key() -> AttemptKey {
    AttemptKey {
        attempt_id: AttemptId(Ulid(1)),
        reference: "R".to_owned(),
        provider_id: None,
        amount: Money::thb(1),
        started_at: DateTime::default(),
    }
}

#[tokio::test]
async fn a_dead_provider_is_left_alone_until_it_has_rested_and_then_tried_once() {
    let world = World::new(Mood::Refuses);
    for _ in 0..3 {
        world.start().await;
    }
    assert!(!world.guarded.health().is_available());
    assert!(matches!(world.start().await, CallOutcome::NotAttempted(_)));
    assert_eq!(world.calls(), 3, "an open circuit calls nobody");
    world.turn(Mood::Answers);
    world.seconds.store(30, Ordering::SeqCst);
    assert_eq!(world.guarded.health().circuit, Circuit::HalfOpen);
    assert!(matches!(world.start().await, CallOutcome::Declined(_)));
    assert!(world.guarded.health().is_available(), "a refusal is an answer");
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_unknown_when_it_began_something_and_repeatable_when_it_looked() {
    let world = World::new(Mood::Hangs);
    assert!(matches!(world.start().await, CallOutcome::Unknown(_)));
    assert!(matches!(world.inquire().await, CallOutcome::NotAttempted(_)));
    assert_eq!(world.guarded.health().failures_in_a_row, 2);
}

#[tokio::test]
async fn a_full_bulkhead_refuses_payments_and_still_looks() {
    let world = World::new(Mood::Hangs);
    let (first, second, third, look) = tokio::join!(world.start(), world.start(), world.start(), world.inquire());
    assert!(matches!((first, second), (CallOutcome::Unknown(_), CallOutcome::Unknown(_))));
    assert!(matches!(&third, CallOutcome::NotAttempted(reason) if reason.contains("too many")), "{third:?}");
    assert!(matches!(&look, CallOutcome::NotAttempted(reason) if reason.contains("no outcome")), "{look:?}");
    assert_eq!(world.calls(), 3);
    assert_eq!(world.guarded.health().free_places, 2, "places are given back");
}

#[tokio::test]
async fn an_abandoned_call_gives_its_place_back_and_counts_for_nothing() {
    let world = World::new(Mood::Hangs);
    assert!(tokio::time::timeout(Duration::from_millis(5), world.start()).await.is_err());
    let health = world.guarded.health();
    assert_eq!((health.free_places, health.failures_in_a_row), (2, 0));
}

#[tokio::test]
async fn calls_that_a_pause_holds_back_do_not_open_the_circuit() {
    let world = World::new(Mood::Pauses);
    for _ in 0..9 {
        world.start().await;
        world.inquire().await;
    }
    assert_eq!((world.guarded.health().circuit, world.guarded.health().failures_in_a_row), (Circuit::Closed, 0));
    world.turn(Mood::Answers);
    assert!(matches!(world.start().await, CallOutcome::Declined(_)));
}
