//! The guard around a connector that does as it is told.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use chrono::DateTime;
use domain::{
    ids::{AttemptId, Ulid},
    money::Money,
    provider::{AttemptKey, Exchange, Method, MethodKind, PAUSED},
};

use super::*;

/// What the next calls end in.
#[derive(Clone, Copy)]
enum Mood {
    Answers,
    Refuses,
    Pauses,
    /// It had a token to fetch first, and then no turn.
    Queues,
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
            Mood::Queues => {
                log.record(nobody_there());
                CallOutcome::NotAttempted(format!("no access token: {NO_PLACE}"))
            }
            Mood::Pauses => {
                // As of a look whose first day was answered, or one behind a call-back.
                log.record(nobody_there());
                CallOutcome::NotAttempted(PAUSED.to_owned())
            }
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

/// Of the account in these tests.
const PLACES: usize = 2;

struct World {
    moody: Arc<Moody>,
    guarded: Arc<Guarded>,
    seconds: Arc<AtomicI64>,
}

impl World {
    fn new(mood: Mood) -> Self {
        Self::beside(mood, Arc::new(Bulkhead::new(8)))
    }

    fn beside(mood: Mood, shared: Arc<Bulkhead>) -> Self {
        let moody = Arc::new(Moody { mood: Mutex::new(mood), calls: AtomicUsize::new(0) });
        let seconds = Arc::new(AtomicI64::new(0));
        let clock: Clock = {
            let seconds = Arc::clone(&seconds);
            Arc::new(move || DateTime::from_timestamp(seconds.load(Ordering::SeqCst), 0).unwrap())
        };
        let (timeout, wait) = (Duration::from_millis(50), Duration::from_millis(20));
        let settings = GuardSettings { timeout, wait, concurrent_calls: PLACES, open_after: 3, ..GuardSettings::default() };
        let inner: Arc<dyn PaymentProvider> = moody.clone();
        Self { guarded: Arc::new(Guarded::new(inner, settings, shared, clock)), moody, seconds }
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

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_too_long_is_unknown_when_it_began_something_and_repeatable_when_it_looked() {
    let world = World::new(Mood::Hangs);
    assert!(matches!(world.start().await, CallOutcome::Unknown(_)));
    assert!(matches!(world.inquire().await, CallOutcome::NotAttempted(_)));
    assert_eq!(world.guarded.health().failures_in_a_row, 2);
}

#[tokio::test(start_paused = true)]
async fn a_full_bulkhead_refuses_payments_and_still_looks() {
    let world = World::new(Mood::Hangs);
    let (first, second, third, look) = tokio::join!(world.start(), world.start(), world.start(), world.inquire());
    assert!(matches!((first, second), (CallOutcome::Unknown(_), CallOutcome::Unknown(_))));
    assert!(matches!(&third, CallOutcome::NotAttempted(reason) if reason.contains("too many")), "{third:?}");
    assert!(matches!(&look, CallOutcome::NotAttempted(reason) if reason.contains("no outcome")), "{look:?}");
    assert_eq!(world.calls(), 3);
    assert_eq!(world.guarded.health().free_places, PLACES, "places are given back");
}

#[tokio::test(start_paused = true)]
async fn a_crowd_of_a_moment_is_let_through_one_after_the_other() {
    let world = World::new(Mood::Answers);
    let crowd = futures_util::future::join_all((0..20).map(|_| world.start())).await;
    assert!(crowd.iter().all(|outcome| matches!(outcome, CallOutcome::Declined(_))), "{crowd:?}");
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_a_place_is_part_of_the_longest_call() {
    let world = World::new(Mood::Hangs);
    let _hanging = world.guarded.own.beginnings.acquire_many(2).await.unwrap();
    let started = Instant::now();
    let (outcome, ()) = tokio::join!(world.start(), async { tokio::time::sleep(Duration::from_millis(10)).await });
    assert!(matches!(outcome, CallOutcome::NotAttempted(_)));
    assert!(started.elapsed() < Duration::from_millis(50));
}

#[tokio::test(start_paused = true)]
async fn accounts_of_a_provider_that_hangs_take_the_places_of_their_provider_and_nobody_elses() {
    let shared = Arc::new(Bulkhead::new(3));
    let (one, other) = (World::beside(Mood::Hangs, shared.clone()), World::beside(Mood::Hangs, shared));
    let elsewhere = World::new(Mood::Answers);
    let hanging = futures_util::future::join_all([one.start(), one.start(), other.start(), other.start()]);
    let (mut hanging, answered) = tokio::join!(hanging, elsewhere.start());
    assert!(matches!(hanging.pop(), Some(CallOutcome::NotAttempted(_))), "the fourth has no place");
    assert!(hanging.iter().all(|outcome| matches!(outcome, CallOutcome::Unknown(_))), "three have one");
    assert!(matches!(answered, CallOutcome::Declined(_)), "another provider answers as ever");
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_call_gives_its_place_back_and_counts_for_nothing() {
    let world = World::new(Mood::Hangs);
    assert!(tokio::time::timeout(Duration::from_millis(5), world.start()).await.is_err());
    let health = world.guarded.health();
    assert_eq!((health.free_places, health.failures_in_a_row), (2, 0));
}

#[tokio::test]
async fn calls_that_a_pause_or_the_pace_holds_back_do_not_open_the_circuit() {
    let world = World::new(Mood::Pauses);
    for mood in [Mood::Pauses, Mood::Queues] {
        world.turn(mood);
        for _ in 0..9 {
            world.start().await;
            world.inquire().await;
        }
    }
    assert_eq!((world.guarded.health().circuit, world.guarded.health().failures_in_a_row), (Circuit::Closed, 0));
    world.turn(Mood::Answers);
    assert!(matches!(world.start().await, CallOutcome::Declined(_)));
}
