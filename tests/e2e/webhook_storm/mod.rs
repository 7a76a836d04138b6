//! A storm of call-backs with effects: each of thousands of payments, at all providers, is told of one to five times, in any order,
//! among others that prove nothing. `STORM=full` makes it ten thousand payments.

mod call_backs;
mod probe;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, future::join_all, stream};
use reqwest::StatusCode;
use serde_json::{Value, json};
use support::TestPlatform;

use crate::provider_faults::{
    ledgers::tenant_of,
    stage::{Bank, Stage},
};
use call_backs::{Flaw, Sealed, Told};
use probe::{Times, probe, requests};

/// Owed by the payment that the probe asks for; nobody pays it.
const QUIET: i64 = 5_00;
/// The stricter of the published limits of 99 of 100 requests: 500 ms at the gateway, 1,000 ms for the API.
const PUBLISHED_P99: Duration = Duration::from_millis(500);

struct Size {
    /// Codes at each provider.
    codes: usize,
    /// Payments on each code of SCB's, which alone takes more than one: the first closes it, each other one becomes a duty to refund.
    at_scb: usize,
}

impl Size {
    /// How many payments come on each code.
    const fn on_each(&self, bank: Bank) -> usize {
        match bank {
            Bank::Scb => self.at_scb,
            Bank::Kbank | Bank::Omise | Bank::Stripe => 1,
        }
    }
}

fn is_full() -> bool {
    std::env::var("STORM").is_ok_and(|size| size == "full")
}

/// The full storm has ten thousand payments on two thousand codes and not on ten: until the call-backs come, each code that waits for
/// its payer is looked at every 30 seconds, and a debug build is not to spend the storm on that.
fn size() -> Size {
    if is_full() { Size { codes: 500, at_scb: 17 } } else { Size { codes: 100, at_scb: 2 } }
}

/// One delivery.
struct Delivery {
    /// The provider's place among the stages.
    at: usize,
    body: String,
    /// What is wrong with its proof.
    flaw: Option<Flaw>,
}

/// Begins the payments of one provider and has the payers pay; nobody is told.
async fn paid(stage: &Stage, size: &Size) -> Vec<Told> {
    let begin = |n: usize| async move { stage.intent(10_00 + i64::try_from(n).unwrap()).await };
    // Beside the one that is asked for all the time.
    let there = stage.attempts_there().await + size.codes;
    stream::iter(0..size.codes).map(begin).buffer_unordered(6).for_each(|_| async {}).await;
    until("every code is there", || async { stage.attempts_there().await == there }).await;
    let ledger = stage.sim("/sim/ledger").await;
    let owed = ledger["attempts"].as_array().unwrap().iter().filter(|attempt| attempt["amount"] != QUIET);
    let all = owed.flat_map(|attempt| std::iter::repeat_n(attempt.clone(), size.on_each(stage.bank))).enumerate();
    let pay = |(number, attempt): (usize, Value)| async move {
        let text = |name: &str| attempt[name].as_str().unwrap().to_owned();
        let (attempt_id, reference) = (text("id"), text("reference"));
        let payment = stage.pay(&reference, json!({})).await;
        let transaction = payment["transaction_id"].as_str().unwrap().to_owned();
        Told { number, attempt: attempt_id, reference, transaction, amount: attempt["amount"].as_i64().unwrap() }
    };
    stream::iter(all).map(pay).buffer_unordered(6).collect().await
}

/// One to five deliveries of each payment, and beside every 33rd payment one that proves nothing: one in a hundred of all. That one
/// is a call-back of its own, so that it would show if it were believed.
fn deliveries(at: usize, bank: Bank, told: &[Told]) -> Vec<Delivery> {
    let flaws = Flaw::of(bank);
    let mut all = Vec::new();
    for (n, one) in told.iter().enumerate() {
        let body = call_backs::body(bank, one);
        all.extend((0..=n % 5).map(|_| Delivery { at, body: body.clone(), flaw: None }));
        if n % 33 == 7 {
            let lie = Told { number: told.len() + n, transaction: format!("LIE{n}"), ..one.clone() };
            all.push(Delivery { at, body: call_backs::body(bank, &lie), flaw: Some(flaws[n / 33 % flaws.len()]) });
        }
    }
    all
}

/// As the provider sends it: what was not taken is sent again, signed anew.
async fn sent(stage: &Stage, delivery: &Delivery) -> StatusCode {
    loop {
        let Sealed { path, headers, body } = call_backs::sealed(stage, &delivery.body, delivery.flaw);
        let status = stage.deliver(&path, &headers, body).await.status;
        if status != StatusCode::SERVICE_UNAVAILABLE {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Waits with few questions: the machine has other things to do.
async fn until<W: Future<Output = bool>>(what: &str, good: impl Fn() -> W) {
    let deadline = Instant::now() + Duration::from_secs(600);
    while !good().await {
        assert!(Instant::now() < deadline, "not within ten minutes: {what}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Call-backs under way at once.
const SENDERS: usize = 32;

/// Shuffled the same way every time: by a stride that has no factor in common with the length.
fn shuffled(mut deliveries: Vec<Delivery>) -> Vec<Delivery> {
    let count = deliveries.len();
    let common = |a: usize, b: usize| {
        let (mut a, mut b) = (a, b);
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let stride = (7_919..=7_919 + count).find(|stride| common(*stride, count) == 1).unwrap();
    let mut places: Vec<Option<Delivery>> = deliveries.drain(..).map(Some).collect();
    let mut all: Vec<Delivery> = (0..count).filter_map(|n| places[n * stride % count].take()).collect();
    // What is refused is kept only if a connection is free in time, and the pool opens its connections in the first burst.
    let early: Vec<Delivery> = all.extract_if(..64, |one| one.flaw.is_some()).collect();
    all.extend(early);
    all
}

/// How many stored call-backs of a provider are in a state, and how often those came.
async fn stored(stage: &Stage, state: &str) -> (usize, usize) {
    let (rows, deliveries) = stage.call_backs(state).await;
    (usize::try_from(rows).unwrap(), usize::try_from(deliveries).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_call_backs_of_all_providers_has_one_effect_each_and_the_api_answers_all_the_while() {
    let size = size();
    let platform = TestPlatform::start_with(|config| {
        config.providers.accounts.hosts = vec!["127.0.0.1".to_owned()];
        if !is_full() {
            // One for each that is under way, so that none waits for it longer than a busy machine allows: here all are to be kept.
            config.http.call_back_connections = u32::try_from(SENDERS).unwrap();
        }
    });
    let platform = Arc::new(platform.await);
    let stages = join_all(Bank::ALL.map(|bank| Stage::open(&platform, bank))).await;
    let (looker, shop) = (&stages[0], platform.shop().await);
    let quiet = looker.intent(QUIET).await;
    looker.reference(&quiet).await;
    let requests = requests(&quiet, &looker.shop, &shop);
    let stop = AtomicBool::new(false);
    let (calm, ()) = tokio::join!(probe(&platform, &requests, &stop), async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        stop.store(true, Ordering::Relaxed);
    });
    let told = join_all(stages.iter().map(|stage| paid(stage, &size))).await;
    let each: Vec<Vec<Delivery>> =
        told.iter().zip(&stages).enumerate().map(|(at, (told, stage))| deliveries(at, stage.bank, told)).collect();
    let counts: Vec<(usize, usize)> = each.iter().map(|all| (counted(all, false), counted(all, true))).collect();
    let begun = Instant::now();
    let stop = AtomicBool::new(false);
    let storm = async {
        let answers = stream::iter(shuffled(each.into_iter().flatten().collect()))
            .map(|one| {
                let stages = &stages;
                async move { (one.at, one.flaw, sent(&stages[one.at], &one).await) }
            })
            .buffer_unordered(SENDERS)
            .collect::<Vec<_>>()
            .await;
        let taken = begun.elapsed();
        until("each has had its effect", || async {
            let done = join_all(stages.iter().map(|stage| stored(stage, "done"))).await;
            done.iter().zip(&told).all(|(done, told)| done.0 == told.len())
        })
        .await;
        stop.store(true, Ordering::Relaxed);
        (answers, taken)
    };
    let ((answers, taken), busy) = tokio::join!(storm, probe(&platform, &requests, &stop));
    println!(
        "{} payments told of by {} call-backs beside {} bad ones: taken in {taken:?}, all had their effect after {:?}",
        told.iter().map(Vec::len).sum::<usize>(),
        counts.iter().map(|(good, _)| good).sum::<usize>(),
        counts.iter().map(|(_, bad)| bad).sum::<usize>(),
        begun.elapsed(),
    );
    for (at, flaw, status) in answers {
        let expected = if flaw.is_none() { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
        assert_eq!(status, expected, "{:?}: {flaw:?}", stages[at].bank);
    }
    for ((stage, told), (good, bad)) in stages.iter().zip(&told).zip(counts) {
        let (rows, times) = stored(stage, "done").await;
        assert_eq!(rows, told.len(), "{:?}: each is there once", stage.bank);
        // One that was stored, and not answered in time, was sent again.
        assert!(times >= good, "{:?}: {times} of {good}: every delivery was counted", stage.bank);
        // What proves nothing gets a connection only if one is free in time; the full storm leaves fewer of them.
        let (kept, least) = (stored(stage, "refused").await.0, if is_full() { bad / 2 } else { bad });
        assert!((least..=bad).contains(&kept), "{:?}: {kept} of {bad} refused ones are kept", stage.bank);
    }
    the_api_was_unharmed(&calm, &busy);
    for (stage, told) in stages.iter().zip(&told) {
        one_effect_each(stage, told).await;
        stage.ledgers_agree().await;
    }
    platform.proves_itself().await;
}

fn counted(deliveries: &[Delivery], bad: bool) -> usize {
    deliveries.iter().filter(|one| one.flaw.is_some() == bad).count()
}

/// Among other tests a percentile tells how busy these are; the full storm has the machine to itself.
fn the_api_was_unharmed(calm: &[Times], busy: &[Times]) {
    for (calm, busy) in calm.iter().zip(busy) {
        println!("before    {calm}\nmeanwhile {busy}");
    }
    for busy in busy.iter().filter(|_| is_full()) {
        assert!(busy.count() >= 100, "{busy}: too few to tell");
        assert!(busy.percentile(99) <= PUBLISHED_P99, "{busy}");
    }
}

/// Every transaction stands in the log exactly once.
async fn one_effect_each(stage: &Stage, told: &[Told]) {
    let sql = "select convert_from(payload, 'UTF8')::jsonb from log.event
               where tenant = $1 and type in ('payment_intent.succeeded', 'payment_intent.unmatched_payment_received')";
    let tenant = tenant_of(stage.shop.merchant);
    let events: Vec<Value> = sqlx::query_scalar(sql).bind(tenant).fetch_all(&stage.platform.database.admin).await.unwrap();
    let mut ours: Vec<&str> = events.iter().map(|event| event["transaction_id"].as_str().unwrap()).collect();
    let mut theirs: Vec<&str> = told.iter().map(|one| one.transaction.as_str()).collect();
    ours.sort_unstable();
    theirs.sort_unstable();
    assert_eq!(ours, theirs, "{:?}", stage.bank);
}
