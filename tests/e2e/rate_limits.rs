//! Rate limits of the gateway routes: exact, in one process and in several, with Redis there, gone, silent and back.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    num::NonZeroU32,
    time::{Duration, Instant},
};

use api::config::{Config, Limits};
use futures_util::stream::{self, StreamExt as _};
use gateway::Secret;
use reqwest::Method;
use serde_json::json;
use support::{Answered, PATIENCE, TestPlatform, TestRedis, answered, eventually};

/// What is counted together.
const WINDOW: Duration = Duration::from_secs(60);

fn limited(per_merchant: u32, all: u32) -> impl FnOnce(&mut Config) {
    move |config| {
        config.limits =
            Limits { per_merchant_per_minute: per_merchant, per_payment_token_per_minute: 2, all_per_minute: all, ..Limits::off() };
    }
}

/// Requests under way at once.
const AT_ONCE: usize = 24;

/// How many of `count` requests, many at once, over these edges, were let in.
async fn let_in(platform: &TestPlatform, edges: &[&str], token: &str, count: usize) -> usize {
    let client = reqwest::Client::new();
    let asked = (0..count).map(|n| {
        let edge = edges[n % edges.len()];
        answered(client.get(format!("{edge}/v1/payments?limit=1")).bearer_auth(token))
    });
    let answers: Vec<Answered> = stream::iter(asked).buffer_unordered(AT_ONCE).collect().await;
    // A busy machine's database may have no connection in time, for a request that was counted all the same.
    let counted = |answer: &Answered| match answer.status.as_u16() {
        200 => true,
        503 => !answer.header("ratelimit").is_empty(),
        _ => false,
    };
    assert!(answers.iter().all(|answer| counted(answer) || answer.status.as_u16() == 429), "{answers:?}");
    assert!(!platform.base.is_empty());
    answers.iter().filter(|answer| counted(answer)).count()
}

fn remaining(answer: &Answered) -> String {
    answer.header("ratelimit").split(';').nth(1).unwrap_or_default().to_owned()
}

/// GET of a limited route, asked once. Nothing where a busy machine could not answer in time: that request was counted all the same, and
/// its repeat would be counted as well.
async fn asked_once(base: &str, token: &str) -> Option<Answered> {
    let answer = answered(reqwest::Client::new().get(format!("{base}/v1/payments")).bearer_auth(token)).await;
    (answer.status.as_u16() != 503).then(|| answer.ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_that_asks_too_often_is_told_when_to_come_back() {
    let platform = TestPlatform::start_with(limited(5, 100)).await;
    let (shop, began, first_answered) = eventually("five requests are answered", PATIENCE, || async {
        let shop = platform.shop().await;
        let (began, mut first_answered) = (Instant::now(), None);
        for left in (0..5).rev() {
            let answer = asked_once(&platform.base, &shop.cashier).await?;
            first_answered.get_or_insert_with(Instant::now);
            assert_eq!(answer.header("ratelimit-policy"), "\"merchant\";q=5;w=60, \"all\";q=100;w=60");
            assert_eq!(remaining(&answer), format!("r={left}"));
        }
        Some((shop, began, first_answered?))
    })
    .await;
    let body = json!({"store_id": shop.store, "amount": {"amount": 100, "currency": "THB"}});
    let head = platform.database.head().await.pos;
    let asked = Instant::now();
    let refused = platform.post(&shop.cashier, "/v1/payment-intents", body).await;
    assert_eq!((refused.status.as_u16(), &refused.body["code"]), (429, &json!("RateLimited")));
    // The window began between the first request and its answer, and was looked at between this one and its answer.
    let wait = Duration::from_secs(refused.header("retry-after").parse().unwrap());
    let (soonest, latest) = (Duration::from_secs(60), Duration::from_secs(61));
    assert!(wait + began.elapsed() >= soonest && wait + (asked - first_answered) < latest, "{refused:?}");
    assert_eq!((remaining(&refused).as_str(), refused.header("content-type")), ("r=0", "application/problem+json"));
    assert_eq!(platform.database.head().await.pos, head, "nothing was done");
    assert_eq!(platform.get(&shop.manager, "/v1/refunds").await.status.as_u16(), 429, "one share for the merchant's people and routes");
    platform.get(&shop.cashier, "/v1/orders").await.ok();
    let of_another = eventually("another merchant is answered", PATIENCE, || async {
        let other = platform.shop().await;
        asked_once(&platform.base, &other.cashier).await
    })
    .await;
    assert_eq!(remaining(&of_another), "r=4", "another merchant has its own");
    let strangers = (0..20).map(|_| answered(platform.raw(Method::GET, "/v1/payments").bearer_auth("nonsense")));
    for stranger in futures_util::future::join_all(strangers).await {
        assert_eq!((stranger.status.as_u16(), stranger.header("ratelimit")), (401, ""), "a stranger uses up nobody's share");
    }
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_with_one_redis_let_in_as_many_as_one() {
    let redis = TestRedis::start();
    let url = redis.url();
    let platform = TestPlatform::start_with(|config| {
        limited(100, 190)(config);
        // That each answer of Redis is waited for is no matter of speed here.
        config.limits.redis_patience_ms = NonZeroU32::new(60_000).unwrap();
        config.redis_url = Some(Secret::new(url));
    })
    .await;
    let (second, second_base) = platform.second_edge().await;
    connected(&platform, &second_base).await;
    let edges = [platform.base.as_str(), second_base.as_str()];
    let mut tries = 0;
    loop {
        let (shop, other) = (platform.shop().await, platform.shop().await);
        forget(&redis);
        let began = Instant::now();
        let of_one = let_in(&platform, &edges, &shop.cashier, 240).await;
        // What the first merchant was refused took nothing from the common limit.
        let of_other = let_in(&platform, &edges, &other.cashier, 100).await;
        let full = answered(platform.raw(Method::GET, "/v1/payments").bearer_auth(&other.cashier)).await;
        let windows = usize::try_from(began.elapsed().as_secs() / WINDOW.as_secs()).unwrap() + 1;
        assert!(of_one <= 100 * windows && of_one + of_other <= 190 * windows, "{of_one} and {of_other} in {windows} windows");
        if windows == 1 {
            assert_eq!((of_one, of_other), (100, 90));
            assert_eq!(full.status.as_u16(), 429);
            assert!(full.header("ratelimit").contains("\"all\";r=0"), "{full:?}");
            break;
        }
        // A machine that stands still takes longer for all of it than what is counted together.
        tries += 1;
        assert!(tries < 10, "never within one window");
    }
    second.stop().await;
    platform.stop().await;
}

/// All counts begin anew.
fn forget(redis: &TestRedis) {
    let mut connection = TcpStream::connect(redis.url().trim_start_matches("redis://").trim_end_matches('/')).unwrap();
    connection.write_all(b"FLUSHALL\r\n").unwrap();
    let mut said = [0; 5];
    connection.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"+OK\r\n");
}

/// What the merchant has left after one more request; nothing where that was not answered in time.
async fn left(base: &str, token: &str) -> Option<usize> {
    let answer = asked_once(base, token).await?;
    Some(remaining(&answer)["r=".len()..].parse().unwrap())
}

/// Waits until both edges count in Redis: what one takes, the other sees.
async fn connected(platform: &TestPlatform, second: &str) {
    eventually("both edges count in Redis", Duration::from_secs(60), || async {
        // A new merchant each time: two counts that are apart could differ by one in the end.
        let token = platform.shop().await.cashier;
        if let (Some(here), Some(there)) = (left(&platform.base, &token).await, left(second, &token).await)
            && there + 1 == here
        {
            return Some(());
        }
        // Each look takes from what all may ask.
        tokio::time::sleep(Duration::from_millis(700)).await;
        None
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_each_process_goes_on_from_where_it_stood_and_comes_back() {
    /// How long a Redis that is silent is waited for: much longer than a slow machine takes for a request that does not wait for it.
    const SILENCE: Duration = Duration::from_secs(5);
    let mut redis = TestRedis::start();
    let url = redis.url();
    let platform = TestPlatform::start_with(|config| {
        limited(1_000, 0)(config);
        config.limits.redis_patience_ms = NonZeroU32::new(SILENCE.as_millis().try_into().unwrap()).unwrap();
        config.redis_url = Some(Secret::new(url));
    })
    .await;
    let (second, second_base) = platform.second_edge().await;
    connected(&platform, &second_base).await;

    // The quickest, since a slow machine makes any one slower.
    let (mut took, mut tries) = (Vec::new(), 0);
    while took.len() < 3 {
        tries += 1;
        assert!(tries < 30, "never answered in time");
        let shop = platform.shop().await;
        let first = left(&platform.base, &shop.cashier).await;
        redis.kill();
        let started = Instant::now();
        let before = left(&platform.base, &shop.cashier).await;
        let elapsed = started.elapsed();
        let after = left(&platform.base, &shop.cashier).await;
        redis.restart();
        connected(&platform, &second_base).await;
        // Whoever was not answered in time was counted, but does not say where it stood.
        let (Some(_), Some(before), Some(after)) = (first, before, after) else { continue };
        assert!(before < 999, "it knows what it let in before: {before}");
        assert_eq!(after, before - 1);
        took.push(elapsed);
    }
    assert!(took.iter().any(|took| *took < SILENCE), "nobody waits for a Redis that is dead: {took:?}");

    let shop = platform.shop().await;
    redis.signal("STOP");
    let mut took = Vec::new();
    for _ in 0..20 {
        let started = Instant::now();
        left(&platform.base, &shop.cashier).await;
        took.push(started.elapsed());
    }
    redis.signal("CONT");
    let quick = took.iter().filter(|took| **took < SILENCE).count();
    assert!(quick >= 10, "one request waits for a Redis that is silent, not every one: {took:?}");
    connected(&platform, &second_base).await;
    second.stop().await;
    platform.stop().await;
}
