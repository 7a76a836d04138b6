//! One running platform for all targets that speak to it, with something of everything in it.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use api::auth::Role;
use serde_json::json;
use support::{Answered, ApiShop, TestPlatform, order_body};
use tokio::runtime::Runtime;

/// See the module.
pub struct World {
    /// Runs it.
    pub runtime: Runtime,
    /// The platform.
    pub platform: TestPlatform,
    /// Whose requests are sent.
    pub shop: ApiShop,
    /// A merchant who must never be seen.
    pub other: ApiShop,
    /// Names that samples use, with what they stand for.
    names: Vec<(&'static str, String)>,
}

impl World {
    /// The platform that another target has started and still uses, or a new one.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<World>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(world) = shared.upgrade() {
            return world;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (platform, shop, other, names) = runtime.block_on(start());
        let world = Arc::new(Self { runtime, platform, shop, other, names });
        *shared = Arc::downgrade(&world);
        world
    }

    /// A sample with what its names stand for.
    pub fn filled(&self, sample: &str) -> String {
        self.names.iter().fold(sample.to_owned(), |text, (name, value)| text.replace(name, value))
    }

    /// The token of one of the shop's people.
    pub fn token(&self, who: &str) -> String {
        match who {
            "cashier" => self.shop.cashier.clone(),
            "manager" => self.shop.manager.clone(),
            "admin" => self.shop.admin.clone(),
            _ => self.platform.token(Role::PlatformAdmin, None, None),
        }
    }

    /// Nothing of the other merchant is in an answer.
    pub fn keeps_to_itself(&self, asked: &str, answered: &[u8]) {
        let text = String::from_utf8_lossy(answered);
        for id in [self.other.merchant.to_string(), self.other.store.to_string()] {
            assert!(asked.contains(&id) || !text.contains(&id), "another merchant's: {text}");
        }
    }
}

async fn start() -> (TestPlatform, ApiShop, ApiShop, Vec<(&'static str, String)>) {
    let platform = TestPlatform::start().await;
    let (shop, other) = (platform.shop().await, platform.shop().await);
    platform.billed(&other, 50_00).await;
    let order = platform.post(&shop.cashier, "/v1/orders", order_body(&shop, 10_00)).await.ok();
    let line = order.body["lines"][0]["id"].as_str().unwrap().to_owned();
    let (_, bill) = platform.billed(&shop, 20_00).await;
    let (_, unpaid) = platform.billed(&shop, 900_000_00).await;
    let paid = platform.post(&shop.cashier, "/v1/payments", json!({"bill_id": bill, "tender": "cash"})).await.ok();
    let intent = paid.body["payment_intent_id"].as_str().unwrap().to_owned();
    let waiting = json!({"store_id": shop.store, "amount": {"amount": 5_000, "currency": "THB"}, "confirm": false});
    let waiting = platform.post(&shop.cashier, "/v1/payment-intents", waiting).await.id();
    let customer = platform.post(&shop.admin, "/v1/customers", json!({"profile": {"name": "Ann"}})).await;
    let doomed = platform.post(&shop.cashier, "/v1/orders", order_body(&shop, 10_00)).await.id();
    platform.settled().await;
    let cursor = platform.get(&shop.cashier, "/v1/orders?limit=1").await.ok().body["next_cursor"].as_str().unwrap().to_owned();
    let names = vec![
        ("$other_merchant", other.merchant.to_string()),
        ("$other_store", other.store.to_string()),
        ("$merchant", shop.merchant.to_string()),
        ("$store", shop.store.to_string()),
        ("$order", order.id()),
        ("$line", line),
        ("$unpaid", unpaid),
        ("$bill", bill),
        ("$payment", paid.id()),
        ("$intent", intent),
        ("$waiting", waiting),
        ("$customer", id_of(&customer)),
        ("$doomed", doomed),
        ("$cursor", cursor),
    ];
    (platform, shop, other, names)
}

fn id_of(answer: &Answered) -> String {
    answer.body["id"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

/// A problem document, complete.
pub fn is_problem(answer: &Answered) -> bool {
    answer.header("content-type") == "application/problem+json"
        && ["type", "title", "status", "detail", "code", "correlation_id"].iter().all(|field| !answer.body[*field].is_null())
        && answer.body["status"] == answer.status.as_u16()
}
