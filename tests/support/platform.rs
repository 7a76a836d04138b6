//! The whole platform on a database of its own, with a bank simulator, driven through its public HTTP API.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use api::{
    auth::{Role, TokenIssuer, TokenRequest},
    config::{Config, Limits},
    platform::{Platform, ProcessRole, Servers, migrate},
    simulated_provider::{SimulatorArgs, free_address, run as run_simulator, settings},
};
use commands::{database, system::SystemClock};
use domain::{
    clock::Clock,
    ids::{MerchantId, PspId, StoreId, Ulid},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{PATIENCE, ScratchDir, TestDatabase, eventually};

/// A running platform.
pub struct TestPlatform {
    /// `http://127.0.0.1:…` of the edge.
    pub base: String,
    /// The same of the bank simulator.
    pub simulator: String,
    /// The roles.
    pub platform: Platform,
    /// Its database.
    pub database: TestDatabase,
    /// Its configuration.
    pub config: Config,
    /// The PSP of every token.
    pub psp: PspId,
    clock: Arc<dyn Clock>,
    http: reqwest::Client,
    keys: Arc<AtomicU64>,
    simulator_stop: CancellationToken,
    _scratch: ScratchDir,
}

/// What came back.
#[derive(Debug)]
pub struct Answered {
    /// HTTP status.
    pub status: StatusCode,
    /// Headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body as bytes.
    pub bytes: Vec<u8>,
    /// The body as JSON; null when it is none.
    pub body: Value,
}

impl Answered {
    /// A busy machine could not do it in time, and the very same request may be made again.
    pub fn may_be_repeated(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE && self.body["retryable"] == true
    }

    /// A header as text; empty when absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The `id` of a resource.
    pub fn id(&self) -> String {
        assert!(self.status.is_success(), "{self:?}");
        self.body["id"].as_str().expect("a resource has an id").to_owned()
    }

    /// The answer of a request that must have worked.
    #[expect(clippy::must_use_candidate, clippy::return_self_not_must_use, reason = "often only the check is wanted")]
    pub fn ok(self) -> Self {
        assert!(self.status.is_success(), "{self:?}");
        self
    }
}

/// A merchant and a store opened over the API, with tokens of its people.
#[derive(Debug, Clone)]
pub struct ApiShop {
    /// The merchant.
    pub merchant: MerchantId,
    /// The store.
    pub store: StoreId,
    /// `merchant_admin`.
    pub admin: String,
    /// `cashier` of this store.
    pub cashier: String,
    /// `manager` of this store.
    pub manager: String,
}

impl TestPlatform {
    /// Starts every role in this process.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// The same with a configuration that `change` had its way with.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_as(&ProcessRole::ALL, change).await
    }

    /// Starts these roles in this process, with a configuration that the test has changed.
    pub async fn start_as(roles: &[ProcessRole], change: impl FnOnce(&mut Config)) -> Self {
        Self::launch(roles, Arc::new(SystemClock), change).await
    }

    /// Starts every role in this process by another clock.
    pub async fn start_by(clock: Arc<dyn Clock>, change: impl FnOnce(&mut Config)) -> Self {
        Self::launch(&ProcessRole::ALL, clock, change).await
    }

    async fn launch(roles: &[ProcessRole], clock: Arc<dyn Clock>, change: impl FnOnce(&mut Config)) -> Self {
        let scratch = ScratchDir::new("platform");
        let database = TestDatabase::new().await;
        let mut config = Config { data_dir: scratch.path().to_path_buf(), ..Config::default() };
        // Tests and benches ask more than people do; those of the limits set their own.
        config.limits = Limits::off();
        config.http.listen = free_address().expect("a free port");
        let base = format!("http://{}", config.http.listen);
        let simulator_address = free_address().expect("a free port");
        let simulator_stop = CancellationToken::new();
        let arguments = SimulatorArgs { seed: 7, ..SimulatorArgs::new(simulator_address, &base) };
        tokio::spawn(run_simulator(arguments, simulator_stop.clone()));
        let simulator = format!("http://{simulator_address}");
        config.providers.scb = Some(settings(&simulator));
        // Simulators of accounts are on this machine.
        config.providers.accounts.hosts = vec!["127.0.0.1".to_owned()];
        // Receivers of webhooks are on this machine, and nobody waits for hours.
        config.webhooks.allow_local = true;
        config.webhooks.waits_ms = Some(vec![50, 100, 200, 400, 800, 1_600]);
        change(&mut config);
        let platform = started(&config, &servers_of(&database), roles, &clock).await;
        let http = reqwest::Client::builder().timeout(Duration::from_secs(60)).build().expect("a client");
        let psp = PspId(platform.commands.ids().next());
        let keys = Arc::default();
        Self { base, simulator, platform, database, config, psp, clock, http, keys, simulator_stop, _scratch: scratch }
    }

    /// Another process's worth of the edge over the same database; answers where it listens.
    pub async fn second_edge(&self) -> (Platform, String) {
        self.second_edge_over(&self.database.url).await
    }

    /// The same by another URL of this database, see [`crate::Proxy`].
    pub async fn second_edge_over(&self, url: &str) -> (Platform, String) {
        let mut config = self.config.clone();
        config.http.listen = free_address().expect("a free port");
        let servers = Servers { database_url: url.to_owned(), ..servers_of(&self.database) };
        let edge = started(&config, &servers, &[ProcessRole::Api], &self.clock).await;
        (edge, format!("http://{}", config.http.listen))
    }

    /// Now by the platform's clock, UTC.
    pub fn now(&self) -> chrono::DateTime<chrono::Utc> {
        self.clock.now()
    }

    /// Stops everything in order.
    pub async fn stop(self) {
        self.platform.stop().await;
        self.simulator_stop.cancel();
    }

    /// A token of any kind.
    pub fn token(&self, role: Role, merchant: Option<MerchantId>, store: Option<StoreId>) -> String {
        let (subject, lifetime) = ("development".to_owned(), chrono::Duration::hours(24));
        let request = TokenRequest { subject, role, psp: self.psp, merchant, store, device: None, lifetime };
        let issuer = TokenIssuer::new(&self.platform.key).expect("an issuer");
        issuer.issue(request, self.platform.commands.ids().next(), self.clock.now()).expect("a token")
    }

    /// Sends a request; a POST gets a fresh idempotency key unless `key` is given. As a careful client sends it: what a busy machine could
    /// not do in time is asked again under the same key. Without a key only when the database had no connection in time, or a read model is
    /// behind a moment that is asked for. Not so a read that waits for a write (`min_pos`, see [`Self::read_after_write`]) or that there is
    /// no room for: that is for the test to see.
    pub async fn send(&self, token: &str, method: Method, path: &str, key: Option<&str>, body: Option<&Value>) -> Answered {
        let fresh = format!("key-{}", self.keys.fetch_add(1, Ordering::Relaxed));
        let keyed = [Method::POST, Method::PATCH].contains(&method);
        let mut request = self.http.request(method.clone(), format!("{}{path}", self.base)).bearer_auth(token);
        if keyed {
            request = request.header("Idempotency-Key", key.unwrap_or(&fresh));
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        answered_unless(request, |answer| {
            let again = match answer.body["code"].as_str().unwrap_or_default() {
                "Unavailable" => true,
                "TimedOut" => keyed || method == Method::GET,
                "ReadModelBehind" => keyed || path.contains("as_of="),
                _ => keyed,
            };
            again && answer.may_be_repeated()
        })
        .await
    }

    /// A request with everything in the caller's hands.
    pub fn raw(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// POST with a fresh key.
    pub async fn post(&self, token: &str, path: &str, body: Value) -> Answered {
        self.send(token, Method::POST, path, None, Some(&body)).await
    }

    /// GET.
    pub async fn get(&self, token: &str, path: &str) -> Answered {
        self.send(token, Method::GET, path, None, None).await
    }

    /// GET that waits for a write (`min_pos`), and whether the first try had its answer: a read model is waited for a moment only, and the
    /// machine may be busy for longer, so that it is asked again. Whatever comes must be as it was written.
    pub async fn read_after_write(&self, token: &str, path: &str) -> (Answered, bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut first = true;
        loop {
            let answer = self.get(token, path).await;
            if answer.body["code"] != "ReadModelBehind" || tokio::time::Instant::now() > deadline {
                return (answer.ok(), first);
            }
            first = false;
        }
    }

    /// GET until the resource is there and `good`.
    pub async fn get_until(&self, token: &str, path: &str, good: impl Fn(&Value) -> bool) -> Value {
        eventually(path, Duration::from_secs(60), || async {
            let answered = self.get(token, path).await;
            (answered.status.is_success() && good(&answered.body)).then_some(answered.body)
        })
        .await
    }

    /// A merchant with a store, VAT in the prices, cash rounded to 25 satang.
    pub async fn shop(&self) -> ApiShop {
        let admin = self.token(Role::PlatformAdmin, None, None);
        let code = format!("M{}", self.keys.fetch_add(1, Ordering::Relaxed));
        let merchant = self.post(&admin, "/v1/merchants", json!({"code": code, "name": "Kopi House"})).await.id();
        let merchant: MerchantId = merchant.parse().expect("a merchant's id");
        self.shop_of(merchant, "SIAM").await
    }

    /// Another store of a merchant.
    pub async fn shop_of(&self, merchant: MerchantId, code: &str) -> ApiShop {
        let admin = self.token(Role::MerchantAdmin, Some(merchant), None);
        let store: StoreId = self.post(&admin, "/v1/stores", store_body(code)).await.id().parse().expect("a store's id");
        let cashier = self.token(Role::Cashier, Some(merchant), Some(store));
        let manager = self.token(Role::Manager, Some(merchant), Some(store));
        ApiShop { merchant, store, admin, cashier, manager }
    }

    /// An order with one line of `satang`, billed; answers order and bill.
    pub async fn billed(&self, shop: &ApiShop, satang: i64) -> (String, String) {
        let order = self.post(&shop.cashier, "/v1/orders", order_body(shop, satang)).await.id();
        let bill = self.post(&shop.cashier, "/v1/bills", json!({"order_id": order})).await.id();
        (order, bill)
    }

    /// Starts a QR payment for all that is due and waits for its QR; answers payment, intent and provider reference.
    pub async fn started_qr(&self, shop: &ApiShop, bill: &str) -> (String, String, String) {
        let payment = self.post(&shop.cashier, "/v1/payments", json!({"bill_id": bill, "tender": "promptpay"})).await.ok();
        let (payment_id, intent_id) = (payment.id(), payment.body["payment_intent_id"].as_str().expect("an intent").to_owned());
        let path = format!("/v1/payment-intents/{intent_id}");
        let intent = self.get_until(&shop.cashier, &path, |intent| intent["next_action"]["qr_payload"].is_string()).await;
        let payload = intent["next_action"]["qr_payload"].as_str().expect("a payload").to_owned();
        let gateway::promptpay::Target::Bill { reference1, .. } = gateway::promptpay::ParsedQr::parse(&payload).expect("a QR").target
        else {
            panic!("{payload} is no bill payment");
        };
        (payment_id, intent_id, reference1)
    }

    /// The guest's bank pays a reference.
    pub async fn pay(&self, reference: &str, body: Value) -> Value {
        let mut request = json!({"reference": reference});
        request.as_object_mut().expect("an object").extend(body.as_object().expect("an object").clone());
        let paid = answered(self.http.post(format!("{}/sim/pay", self.simulator)).json(&request)).await;
        paid.ok().body
    }

    /// What the bank's next calls do wrong.
    pub async fn faults(&self, rules: Value) {
        let _ = answered(self.http.post(format!("{}/sim/faults", self.simulator)).json(&rules)).await.ok();
    }

    /// The bank's own ledger.
    pub async fn ledger(&self) -> Value {
        answered(self.http.get(format!("{}/sim/ledger", self.simulator))).await.ok().body
    }

    /// Waits until process managers and read models have absorbed the log.
    pub async fn settled(&self) {
        eventually("everything is absorbed", Duration::from_secs(60), || async {
            // First: managers append before they move their checkpoint, so that the head read after it counts what they did.
            let managers: i64 = sqlx::query_scalar("select coalesce(max(pos), 0) from process.checkpoint")
                .fetch_one(&self.platform.worker_pool)
                .await
                .ok()?;
            let lags = self.platform.reads.lag().await.ok()?;
            let head = lags.first()?.head;
            (managers == head && lags.iter().all(|lag| lag.checkpoint == head)).then_some(())
        })
        .await;
    }

    /// The log verifies and every read model equals a fold from nothing.
    pub async fn proves_itself(&self) {
        self.settled().await;
        let pool = self.database.pool(database::Role::Worker);
        let report = projections::verify::verify_log(&pool, |_| {}).await.expect("the log is read");
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        for report in projections::check::check(&pool).await.expect("the read models are read") {
            assert!(report.differences.is_empty(), "{}: {:?}", report.projection, report.differences);
        }
    }
}

/// A platform over a database of this build, as a process starts it: again where the machine was too busy for it to connect in time.
async fn started(config: &Config, servers: &Servers, roles: &[ProcessRole], clock: &Arc<dyn Clock>) -> Platform {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let start = async {
            migrate(servers).await?;
            Platform::start_by(config, servers, roles, clock.clone()).await
        };
        match start.await {
            Ok(platform) => return platform,
            Err(error) if tokio::time::Instant::now() > deadline => panic!("the platform starts: {error:#}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(300)).await,
        }
    }
}

fn servers_of(database: &TestDatabase) -> Servers {
    Servers { database_url: database.url.clone(), owner_url: Some(database.admin_url.clone()), nats_url: database.nats_url.clone() }
}

/// Sends a request and reads the whole answer.
pub async fn answered(request: reqwest::RequestBuilder) -> Answered {
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = response.bytes().await.expect("a body").to_vec();
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    Answered { status, headers, bytes, body }
}

/// [`answered`] as a careful client asks: what a busy machine could not do in time is asked again. The request has an `Idempotency-Key`, or
/// may be made twice.
pub async fn patiently_answered(request: reqwest::RequestBuilder) -> Answered {
    answered_unless(request, Answered::may_be_repeated).await
}

/// [`answered`] again and again until an answer is not one to be asked for `again`, or time is up.
pub async fn answered_unless(request: reqwest::RequestBuilder, again: impl Fn(&Answered) -> bool) -> Answered {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let answer = answered(request.try_clone().expect("a body that is sent whole")).await;
        if !again(&answer) || tokio::time::Instant::now() > deadline {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// A store as the API takes it.
pub fn store_body(code: &str) -> Value {
    json!({
        "code": code,
        "name": "Siam Square",
        "currency": "THB",
        "zone": "Asia/Bangkok",
        "day_starts_at_minute": 300,
        "tax_profile": {
            "code": "th-vat",
            "version": 1,
            "mode": "inclusive",
            "standard_rate_basis_points": 700,
            "rounding": "half_up",
            "service_charge": null,
            "cash_rounding": {"policy": "nearest", "unit": 25},
        },
    })
}

/// An order with one line.
pub fn order_body(shop: &ApiShop, satang: i64) -> Value {
    json!({
        "store_id": shop.store,
        "order_type": "takeaway",
        "lines": [{"item_code": "LAT", "name": "Latte", "quantity_milli": 1000, "unit_price": {"amount": satang, "currency": "THB"}, "tax_class": "standard"}],
    })
}

/// An id that nothing has.
pub fn nobody<T: From<Ulid>>() -> T {
    T::from(Ulid::from_bytes([0x5a; 16]))
}
