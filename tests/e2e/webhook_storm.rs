//! A storm of call-backs with effects: each of thousands of payments is told of one to five times, in any order, among others
//! that prove nothing. `STORM=full` makes it ten thousand payments.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use reqwest::StatusCode;
use serde_json::{Value, json};
use support::TestPlatform;

use crate::provider_faults::stage::{Bank, Stage};

/// Owed by the payment that the probe asks for; nobody pays it.
const QUIET: i64 = 5_00;

struct Size {
    intents: usize,
    /// Payments on each; the first closes it, each other one becomes a duty to refund.
    payments: usize,
}

fn is_full() -> bool {
    std::env::var("STORM").is_ok_and(|size| size == "full")
}

fn size() -> Size {
    if is_full() { Size { intents: 5_000, payments: 2 } } else { Size { intents: 300, payments: 4 } }
}

/// One delivery: its bytes, and whether it goes to the right door.
struct Delivery {
    body: Vec<u8>,
    good: bool,
}

fn call_back(reference: &str, transaction: &str, satang: i64) -> Vec<u8> {
    json!({"transactionId": transaction, "billPaymentRef1": reference, "payeeProxyId": "099400016550100",
        "amount": format!("{}.{:02}", satang / 100, satang % 100), "currencyCode": "764"})
    .to_string()
    .into_bytes()
}

/// Begins the payments and has the payers pay; nobody is told.
async fn paid(stage: &Stage, size: &Size) -> Vec<(String, String)> {
    let begin = |n: usize| async move { stage.intent(10_00 + i64::try_from(n).unwrap()).await };
    let intents: Vec<String> = stream::iter(0..size.intents).map(begin).buffer_unordered(24).collect().await;
    // Beside the one that is asked for all the time.
    until("every code is there", || async { stage.attempts_there().await == intents.len() + 1 }).await;
    let ledger = stage.sim("/sim/ledger").await;
    let owed = ledger["attempts"].as_array().unwrap().iter().filter(|attempt| attempt["amount"] != QUIET);
    let references = owed.map(|attempt| attempt["reference"].as_str().unwrap().to_owned());
    let all = references.flat_map(|reference| std::iter::repeat_n(reference, size.payments));
    let pay = |reference: String| async move {
        let payment = stage.pay(&reference, json!({})).await;
        (reference, payment["transaction_id"].as_str().unwrap().to_owned())
    };
    stream::iter(all).map(pay).buffer_unordered(24).collect().await
}

/// As the provider sends it: what was not taken is sent again.
async fn sent(stage: &Stage, path: &str, body: Vec<u8>) -> StatusCode {
    loop {
        let status = stage.deliver(path, &[], body.clone()).await.status;
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
    let early: Vec<Delivery> = all.extract_if(..64, |one| !one.good).collect();
    all.extend(early);
    all
}

/// Asks the API at a steady pace until told to stop. The one other answer is `Unavailable`: queries and commands share sixteen
/// connections of a process (call-backs have a pool of their own), and who has waited three seconds for one is told so and asked to
/// come again; that happens when the machine is short of processors. Like a careful client the probe asks again, and the time of
/// that question runs on, so that more than one of them in a hundred fail the test.
async fn probe(stage: &Stage, path: &str, stop: &AtomicBool) -> Vec<Duration> {
    let mut took = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let mut answer = stage.platform.get(&stage.shop.cashier, path).await;
        while answer.status == StatusCode::SERVICE_UNAVAILABLE {
            assert_eq!(answer.body["code"], "Unavailable", "{answer:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
            answer = stage.platform.get(&stage.shop.cashier, path).await;
        }
        answer.ok();
        took.push(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    took.sort_unstable();
    took
}

fn p99(sorted: &[Duration]) -> Duration {
    sorted[(sorted.len() * 99 / 100).min(sorted.len() - 1)]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_call_backs_has_one_effect_each_and_the_api_answers_all_the_while() {
    let size = size();
    let platform = Arc::new(TestPlatform::start_with(|config| config.providers.accounts.hosts = vec!["127.0.0.1".to_owned()]).await);
    let stage = Stage::open(&platform, Bank::Scb).await;
    let quiet = stage.intent(QUIET).await;
    let path = format!("/v1/payment-intents/{quiet}");
    stage.reference(&quiet).await;
    let stop = AtomicBool::new(false);
    let (calm, ()) = tokio::join!(probe(&stage, &path, &stop), async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        stop.store(true, Ordering::Relaxed);
    });
    let told = paid(&stage, &size).await;
    let mut deliveries = Vec::new();
    for (n, (reference, transaction)) in told.iter().enumerate() {
        let body = call_back(reference, transaction, 10_00);
        deliveries.extend((0..=n % 5).map(|_| Delivery { body: body.clone(), good: true }));
        if n % 33 == 7 {
            deliveries.push(Delivery { body: call_back(reference, &format!("LIE{n}"), 10_00), good: false });
        }
    }
    let (good, bad) = (deliveries.iter().filter(|one| one.good).count(), deliveries.iter().filter(|one| !one.good).count());
    let (door, begun) = (stage.door(), Instant::now());
    let stop = AtomicBool::new(false);
    let storm = async {
        let answers = stream::iter(shuffled(deliveries))
            .map(|one| {
                let path = if one.good { door.clone() } else { format!("{door}-not") };
                let stage = &stage;
                async move { (one.good, sent(stage, &path, one.body).await) }
            })
            .buffer_unordered(32)
            .collect::<Vec<(bool, StatusCode)>>()
            .await;
        let taken = begun.elapsed();
        until("each has had its effect", || async { usize::try_from(stage.call_backs("done").await.0) == Ok(told.len()) }).await;
        stop.store(true, Ordering::Relaxed);
        (answers, taken)
    };
    let ((answers, taken), busy) = tokio::join!(storm, probe(&stage, &path, &stop));
    for (good, status) in answers {
        assert_eq!(status, if good { StatusCode::OK } else { StatusCode::UNAUTHORIZED });
    }
    println!(
        "{} payments told of by {good} call-backs beside {bad} bad ones: taken in {taken:?}, all had their effect after {:?}; P99 of the API {:?} before, {:?} meanwhile",
        told.len(),
        begun.elapsed(),
        p99(&calm),
        p99(&busy)
    );
    assert_eq!(usize::try_from(stage.call_backs("done").await.1), Ok(good), "every delivery was counted");
    assert_eq!(usize::try_from(stage.call_backs("refused").await.0), Ok(bad.min(200)), "refused ones are kept, the newest of them");
    // Among other tests a percentile tells how busy these are; the full storm has the machine to itself.
    if is_full() {
        assert!(p99(&busy) < (20 * p99(&calm)).max(Duration::from_millis(400)), "{:?} after {:?}", p99(&busy), p99(&calm));
    }
    one_effect_each(&stage, &told).await;
    stage.ledgers_agree().await;
    platform.proves_itself().await;
}

/// Every transaction stands in the log exactly once.
async fn one_effect_each(stage: &Stage, told: &[(String, String)]) {
    let sql = "select convert_from(payload, 'UTF8')::jsonb from log.event
               where type in ('payment_intent.succeeded', 'payment_intent.unmatched_payment_received')";
    let events: Vec<Value> = sqlx::query_scalar(sql).fetch_all(&stage.platform.database.admin).await.unwrap();
    let mut ours: Vec<&str> = events.iter().map(|event| event["transaction_id"].as_str().unwrap()).collect();
    let mut theirs: Vec<&str> = told.iter().map(|(_, transaction)| transaction.as_str()).collect();
    ours.sort_unstable();
    theirs.sort_unstable();
    assert_eq!(ours, theirs);
}
