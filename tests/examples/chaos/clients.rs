//! Tills that sell by the seed and never give up: the same request under the same key until somebody answers it. What was
//! answered stands in the journal before the till goes on.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use api::{auth::Role, token_command::development_token};
use domain::ids::{MerchantId, PspId, StoreId, Ulid};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use support::store_body;
use tokio::task::JoinSet;

use crate::{
    dice::Dice,
    journal::{Acknowledged, Entry, Journal},
    measure::Measure,
    plan::Part,
    till::Till,
    world::World,
};

/// Tills of each merchant.
const TILLS: u64 = 4;
/// How long a till waits for one answer.
const PATIENCE: Duration = Duration::from_secs(8);

/// A merchant that trades.
#[derive(Debug, Clone)]
pub struct Shop {
    pub merchant: MerchantId,
    pub store: StoreId,
    pub cashier: String,
    pub manager: String,
    /// A word that stands in everything it sells, and nowhere else.
    pub canary: String,
}

/// How to reach what is traded on.
#[derive(Clone)]
pub struct Counter {
    pub http: reqwest::Client,
    pub api: String,
    pub bank: String,
    pub journal: Journal,
    pub measure: Arc<Measure>,
    pub shops: Arc<Vec<Shop>>,
    /// Sales under way are finished, and no new one is begun.
    pub closing: Arc<AtomicBool>,
}

/// An answer that ends a request.
#[derive(Debug)]
pub enum Outcome {
    Done(Value, i64),
    Refused(u16, Value),
}

impl Outcome {
    /// Body and position, if it was done.
    pub fn done(self) -> Option<(Value, i64)> {
        match self {
            Self::Done(body, position) => Some((body, position)),
            Self::Refused(..) => None,
        }
    }
}

/// A text of an answer; empty when it has none.
pub fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

impl Counter {
    /// Opens two merchants on a healthy platform.
    pub async fn open(world: &World, journal: Journal) -> Result<Self> {
        let psp = PspId(Ulid::from_bytes([0x77; 16]));
        let token = |role, merchant, store| development_token(&world.key, role, psp, merchant, store);
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
        let (api, bank) = (world.base(Part::Api), world.base(Part::Bank));
        let (measure, closing) = (world.measure.clone(), Arc::default());
        let mut counter = Self { http, api, bank, journal, measure, shops: Arc::default(), closing };
        let mut shops = Vec::new();
        for n in 0..2 {
            let admin = token(Role::PlatformAdmin, None, None)?;
            let body = json!({"code": format!("M{n}"), "name": "Kopi House"});
            let merchant = counter.post("setup", &admin, "/v1/merchants", &format!("merchant-{n}"), &body).await?;
            let merchant: MerchantId = text(&merchant.done().context("a merchant")?.0, "id").parse().context("an id")?;
            let owner = token(Role::MerchantAdmin, Some(merchant), None)?;
            let store = counter.post("setup", &owner, "/v1/stores", &format!("store-{n}"), &store_body("SIAM")).await?;
            let store: StoreId = text(&store.done().context("a store")?.0, "id").parse().context("an id")?;
            let cashier = token(Role::Cashier, Some(merchant), Some(store))?;
            let manager = token(Role::Manager, Some(merchant), Some(store))?;
            shops.push(Shop { merchant, store, cashier, manager, canary: format!("canary-of-{n}-{merchant}") });
        }
        counter.shops = Arc::new(shops);
        Ok(counter)
    }

    /// Starts all tills of an era.
    pub fn trade(&self, dice: &Dice, era: u64) -> JoinSet<Result<()>> {
        let mut tills = JoinSet::new();
        for (n, (shop, name)) in self.shops.iter().zip(["a", "b"]).enumerate() {
            for till in 0..TILLS {
                let number = era * 1_000 + u64::try_from(n).unwrap_or(0) * TILLS + till;
                let till = Till { counter: self.clone(), shop: shop.clone(), dice: dice.fork(number), name: format!("e{era}{name}{till}") };
                tills.spawn(till.work());
            }
        }
        tills
    }

    /// One more sale of each merchant from beginning to end; how long the slower one took.
    pub async fn sale_each(&self, era: u64) -> Result<Duration> {
        let started = Instant::now();
        for (n, shop) in self.shops.iter().enumerate() {
            let name = format!("last-{era}-{n}");
            let mut till = Till { counter: self.clone(), shop: shop.clone(), dice: Dice::new(1), name };
            if let Some(sold) = till.sell("0", Some(true)).await? {
                till.follow(sold).await?;
            }
        }
        Ok(started.elapsed())
    }

    /// Asks until somebody answers. `tenant` is written beside an acknowledgement.
    pub async fn post(&self, tenant: &str, token: &str, path: &str, key: &str, body: &Value) -> Result<Outcome> {
        self.journal.write(Entry::Asked { key: key.to_owned(), path: path.to_owned() }).await?;
        let first = self.measure.begin();
        loop {
            let since = self.measure.begin();
            match self.once(token, path, key, body).await {
                Err(how) => self.measure.tried(how),
                Ok(answer) => {
                    self.measure.tried(answer.status.as_str());
                    let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                    if answer.status.is_success() {
                        self.measure.answered(&since);
                        self.measure.acknowledged(&first);
                        let acknowledged = answer.acknowledged(key, tenant, text(&said, "id"));
                        let position = acknowledged.position;
                        self.journal.write(Entry::Acknowledged(acknowledged)).await?;
                        return Ok(Outcome::Done(said, position));
                    }
                    if answer.status.as_u16() == 500 || (answer.status.as_u16() == 503 && !answer.says_when) {
                        self.measure.violated("F8", format!("{key}: {path} was answered with {}: {said}", answer.status));
                    }
                    // A clock that is an hour off knows no token that is good now.
                    if !answer.status.is_server_error() && answer.status.as_u16() != 401 && said["retryable"] != true {
                        return Ok(Outcome::Refused(answer.status.as_u16(), said));
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
    }

    /// One try; what went wrong when there is no answer.
    async fn once(&self, token: &str, path: &str, key: &str, body: &Value) -> Result<Answer, &'static str> {
        let request = self.http.post(format!("{}{path}", self.api)).bearer_auth(token).header("Idempotency-Key", key).json(body);
        let answer = request.send().await.map_err(|error| match (error.is_connect(), error.is_timeout()) {
            (true, _) => "not connected",
            (false, true) => "no answer",
            (false, false) => "broken off",
        })?;
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let number = |name: &str| header(name).and_then(|text| text.trim_matches('"').parse().ok()).unwrap_or(0);
        let (status, version, position) = (answer.status(), number("etag"), number("smartpos-position"));
        let says_when = header("retry-after").is_some();
        let body = answer.bytes().await.map_err(|_| "cut off")?.to_vec();
        Ok(Answer { status, version, position, says_when, body })
    }
}

struct Answer {
    status: reqwest::StatusCode,
    version: i64,
    position: i64,
    /// When to come back.
    says_when: bool,
    body: Vec<u8>,
}

impl Answer {
    fn acknowledged(&self, key: &str, tenant: &str, id: String) -> Acknowledged {
        Acknowledged {
            key: key.to_owned(),
            tenant: tenant.to_owned(),
            status: self.status.as_u16(),
            id,
            version: self.version,
            position: self.position,
            body: hex::encode(Sha256::digest(&self.body)),
        }
    }
}
