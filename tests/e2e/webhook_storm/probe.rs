//! What a shop does meanwhile, and how long each request takes: it looks at a payment, opens orders, makes intents.

use std::{
    fmt,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use support::{ApiShop, TestPlatform, order_body};

/// A request that the shop makes again and again.
pub struct Request {
    what: &'static str,
    method: Method,
    path: String,
    body: Option<Value>,
    token: String,
    /// Between an answer and the next request.
    pause: Duration,
}

/// How long one kind of request took, shortest first.
pub struct Times {
    pub what: &'static str,
    sorted: Vec<Duration>,
}

impl Times {
    pub fn count(&self) -> usize {
        self.sorted.len()
    }

    /// Of a hundred requests so many took at most so long.
    pub fn percentile(&self, percent: usize) -> Duration {
        self.sorted[(self.sorted.len() * percent / 100).min(self.sorted.len() - 1)]
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, sorted } = self;
        write!(
            f,
            "{what}: {} requests, P50 {:?}, P95 {:?}, P99 {:?}",
            sorted.len(),
            self.percentile(50),
            self.percentile(95),
            self.percentile(99)
        )
    }
}

/// A look at `intent` by `looker`; orders and intents at `shop`. The intents wait for a confirm, so that no provider's time is in the
/// figures.
pub fn requests(intent: &str, looker: &ApiShop, shop: &ApiShop) -> [Request; 3] {
    let post = |what, path: &str, body| Request {
        what,
        method: Method::POST,
        path: path.to_owned(),
        body: Some(body),
        token: shop.cashier.clone(),
        pause: Duration::from_millis(40),
    };
    let intents = json!({"store_id": shop.store, "amount": {"amount": 45_00, "currency": "THB"}, "confirm": false});
    [
        Request {
            what: "GET of an intent",
            method: Method::GET,
            path: format!("/v1/payment-intents/{intent}"),
            body: None,
            token: looker.cashier.clone(),
            pause: Duration::from_millis(15),
        },
        post("POST of an order", "/v1/orders", order_body(shop, 45_00)),
        post("POST of an intent", "/v1/payment-intents", intents),
    ]
}

/// Makes these requests side by side, each at a steady pace, until told to stop.
pub async fn probe(platform: &TestPlatform, requests: &[Request], stop: &AtomicBool) -> Vec<Times> {
    join_all(requests.iter().map(|request| repeat(platform, request, stop))).await
}

/// The one other answer is `Unavailable`: queries and commands share sixteen connections of a process (call-backs have a pool of their
/// own), and who has waited three seconds for one is told so and asked to come again; that happens when the machine is short of
/// processors. Like a careful client the probe asks again, under the same key, and the time of that request runs on, so that more than one
/// of them in a hundred fail the test.
async fn repeat(platform: &TestPlatform, request: &Request, stop: &AtomicBool) -> Times {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut sorted = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let key = format!("probe-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let begun = Instant::now();
        platform.send(&request.token, request.method.clone(), &request.path, Some(&key), request.body.as_ref()).await.ok();
        sorted.push(begun.elapsed());
        tokio::time::sleep(request.pause).await;
    }
    sorted.sort_unstable();
    Times { what: request.what, sorted }
}
