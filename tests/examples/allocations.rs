//! Allocations for each request of the edge, as JSON; `make bench` starts it. A program of its own, because its allocator
//! counts, which costs time.
#![expect(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "figures for people")]
#![expect(clippy::expect_used, reason = "a measurement that cannot be taken has nothing to report")]

#[expect(dead_code, reason = "the bench uses all of it")]
#[path = "bench/client.rs"]
mod client;

use std::{alloc::System, net::SocketAddr, time::Duration};

use api::{
    auth::{Role, SigningKey},
    config::Config,
    platform::{Platform, ProcessRole, Servers, migrate},
    simulated_provider::free_address,
    token_command::development_token,
};
use domain::ids::{MerchantId, PspId, StoreId, Ulid};
use serde_json::{Map, Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use support::{ScratchDir, TestDatabase, answered, eventually, store_body};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Requests that are counted, after as many that are not.
const REQUESTS: usize = 500;

/// For one request, on average.
struct Allocated {
    times: f64,
    /// What grew in its place counts by its growth.
    bytes: f64,
}

struct Edge {
    address: SocketAddr,
    platform: Platform,
}

impl Edge {
    async fn start(database: &TestDatabase, scratch: &ScratchDir, roles: &[ProcessRole]) -> Self {
        let mut config = Config { data_dir: scratch.path().to_path_buf(), ..Config::default() };
        config.http.listen = free_address().expect("a free port");
        let servers = Servers {
            database_url: database.url.clone(),
            owner_url: Some(database.admin_url.clone()),
            nats_url: database.nats_url.clone(),
        };
        migrate(&servers).await.expect("the database migrates");
        let platform = Platform::start(&config, &servers, roles).await.expect("the platform starts");
        Self { address: config.http.listen, platform }
    }

    /// What each request that `request` writes allocates; the few bytes of the client, which is in this process, are among it.
    async fn count(&self, request: impl Fn(usize) -> String) -> Allocated {
        let mut connection = client::Connection::open(self.address).await.expect("a connection");
        let requests: Vec<String> = (0..2 * REQUESTS).map(request).collect();
        let (warm, counted) = requests.split_at(REQUESTS);
        for request in warm {
            connection.send(request.as_bytes()).await.expect("an answer");
        }
        let region = Region::new(ALLOCATOR);
        for request in counted {
            let status = connection.send(request.as_bytes()).await.expect("an answer").status;
            assert!((200..300).contains(&status), "answered with {status}");
        }
        let change = region.change();
        let each = |count: usize| count as f64 / REQUESTS as f64;
        Allocated { times: each(change.allocations + change.reallocations), bytes: each(change.bytes_allocated) }
    }
}

/// A merchant with a store: the store, and a token of its cashier.
async fn shop(address: SocketAddr, key: &SigningKey) -> (String, String) {
    let (psp, http) = (PspId(Ulid::from_bytes([0x11; 16])), reqwest::Client::new());
    let post = async |token: String, path: &str, body: Value| {
        let request = http.post(format!("http://{address}{path}")).bearer_auth(token).header("Idempotency-Key", path);
        answered(request.json(&body)).await.id()
    };
    let token = |role, merchant, store| development_token(key, role, psp, merchant, store).expect("a token");
    let merchant = post(token(Role::PlatformAdmin, None, None), "/v1/merchants", json!({"code": "M", "name": "Kopi House"})).await;
    let merchant: MerchantId = merchant.parse().expect("an id");
    let store: StoreId =
        post(token(Role::MerchantAdmin, Some(merchant), None), "/v1/stores", store_body("S")).await.parse().expect("an id");
    (store.to_string(), token(Role::Cashier, Some(merchant), Some(store)))
}

fn order(store: &str, token: &str, key: &str) -> String {
    let line = json!({"item_code": "LAT", "name": "Latte", "quantity_milli": 1000, "unit_price": {"amount": 8500, "currency": "THB"}});
    let body = json!({"store_id": store, "order_type": "takeaway", "lines": [line, line]}).to_string();
    format!(
        "POST /v1/orders HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\nIdempotency-Key: {key}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Bytes of the payloads of all events of the newest order: what a copy of each would take.
async fn payload(database: &TestDatabase) -> f64 {
    let sql = "select sum(octet_length(payload))::bigint from log.event where causation_id = \
               (select causation_id from log.event where type = 'order.opened' order by pos desc limit 1)";
    let bytes: i64 = sqlx::query_scalar(sql).fetch_one(&database.admin).await.expect("an order has events");
    bytes as f64
}

#[tokio::main]
async fn main() {
    let (database, scratch) = (TestDatabase::new().await, ScratchDir::new("allocations"));
    let edge = Edge::start(&database, &scratch, &[ProcessRole::Api, ProcessRole::Projector]).await;
    let (store, token) = shop(edge.address, &edge.platform.key).await;
    let mut connection = client::Connection::open(edge.address).await.expect("a connection");
    let request = order(&store, &token, "first");
    let placed = connection.send(request.as_bytes()).await.expect("an answer");
    let id = placed.id.expect("an order has an id").to_owned();
    let read = |_: usize| format!("GET /v1/orders/{id} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n");
    eventually("the order can be read", Duration::from_secs(10), || async {
        let mut connection = client::Connection::open(edge.address).await.ok()?;
        (connection.send(read(0).as_bytes()).await.ok()?.status == 200).then_some(())
    })
    .await;
    edge.platform.stop().await;
    // The edge alone: nothing folds or copies meanwhile.
    let edge = Edge::start(&database, &scratch, &[ProcessRole::Api]).await;
    let mut counted = Map::new();
    let mut add = |what: &str, value: f64, unit: &str| {
        counted.insert(what.to_owned(), json!({"value": value, "unit": unit}));
    };
    let ordering = edge.count(|n| order(&store, &token, &format!("key-{n}"))).await;
    add("placing an order with two lines over HTTP, only the role api", ordering.times, "allocations");
    add("bytes allocated for it", ordering.bytes, "bytes");
    add("bytes allocated for it ÷ bytes of its events' payloads", ordering.bytes / payload(&database).await, "ratio");
    add("reading an order over HTTP, only the role api", edge.count(read).await.times, "allocations");
    println!("{}", Value::Object(counted));
    edge.platform.stop().await;
}
