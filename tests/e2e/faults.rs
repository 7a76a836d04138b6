//! Real processes under `kill -9`: nothing acknowledged is lost, nothing happens twice, everything comes back by itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use api::{
    auth::{Role, SigningKey, load_or_create_key},
    simulated_provider::free_address,
    token_command::development_token,
};
use domain::ids::{MerchantId, PspId, StoreId, Ulid};
use serde_json::{Value, json};
use sqlx::Row;
use support::{OwnServers, PATIENCE, Process, TestDatabase, bank_environment, eventually, store_body};

/// Who can be killed, in the order of a round.
const VICTIMS: [&str; 7] = ["api", "relay", "projector", "worker", "gateway", "nats", "postgres"];

struct Cluster {
    servers: OwnServers,
    database: TestDatabase,
    processes: BTreeMap<&'static str, Process>,
    env: Vec<(String, String)>,
    base: String,
    simulator: String,
    key: SigningKey,
}

/// An order as the client saw it: acknowledged facts by the number that the client gave it.
#[derive(Default)]
struct Journal {
    orders: BTreeMap<String, String>,
    bills: BTreeMap<String, String>,
    paid: BTreeSet<String>,
    unanswered: u64,
}

impl Cluster {
    async fn start() -> Self {
        let servers = OwnServers::start("faults").await;
        let database = servers.database().await;
        let dir = servers.embedded.data_dir().to_path_buf();
        let (api, gateway, simulator) = (free_address().unwrap(), free_address().unwrap(), free_address().unwrap());
        let env: Vec<(String, String)> = [
            ("DATABASE_URL", database.url.clone()),
            ("MIGRATE_DATABASE_URL", database.admin_url.clone()),
            ("NATS_URL", database.nats_url.clone()),
            ("SMARTPOS_DATA_DIR", dir.display().to_string()),
            ("SMARTPOS_AUTH__KEY_FILE", dir.join("auth.pem").display().to_string()),
            // Sellers look for a QR more often than terminals do: where one takes some seconds, all would be refused for the rest of a minute.
            ("SMARTPOS_LIMITS__PER_MERCHANT_PER_MINUTE", "0".to_owned()),
            ("SMARTPOS_LIMITS__ALL_PER_MINUTE", "0".to_owned()),
        ]
        .into_iter()
        .chain(bank_environment(&format!("http://{simulator}")))
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        let key = load_or_create_key(&dir.join("auth.pem")).unwrap();
        let (base, simulator_url) = (format!("http://{api}"), format!("http://{simulator}"));
        let mut cluster = Self { servers, database, processes: BTreeMap::new(), env, base, simulator: simulator_url, key };
        let ledger = dir.join("ledger.jsonl").display().to_string();
        let listen = simulator.to_string();
        let callbacks = format!("http://{gateway}");
        cluster.spawn("simulator", &["simulate-provider", "--listen", &listen, "--platform", &callbacks, "--ledger", &ledger]);
        cluster.serve("api", &["--listen", &api.to_string()]);
        let ready = format!("{}/healthz", cluster.base);
        cluster.processes.get_mut("api").unwrap().wait_for_url(&ready, Duration::from_secs(20)).await;
        cluster.serve("gateway", &["--listen", &gateway.to_string()]);
        for role in ["relay", "projector", "worker"] {
            cluster.serve(role, &[]);
        }
        cluster
    }

    fn spawn(&mut self, name: &'static str, arguments: &[&str]) {
        let dir = self.servers.embedded.data_dir().to_path_buf();
        let process = Process::spawn(name, &dir, arguments, self.env.iter().map(|(a, b)| (a, b)));
        self.processes.insert(name, process);
    }

    fn serve(&mut self, role: &'static str, more: &[&str]) {
        let arguments: Vec<&str> = ["serve", "--role", role].iter().chain(more).copied().collect();
        self.spawn(role, &arguments);
    }

    /// Kills one and starts it again; answers how long it took until the edge was ready.
    async fn strike(&mut self, victim: &'static str) -> Duration {
        let listen = |env: &str| env.trim_start_matches("http://").to_owned();
        match victim {
            "nats" => {
                self.servers.embedded.kill_nats().await;
                self.servers.embedded.restart_nats().await.unwrap();
            }
            "postgres" => {
                self.servers.embedded.kill_postgres().await.unwrap();
                self.servers.embedded.restart_postgres().await.unwrap();
            }
            "api" => {
                self.processes.get_mut("api").unwrap().kill();
                let address = listen(&self.base);
                self.serve("api", &["--listen", &address]);
            }
            "gateway" => {
                // Its own address is in the command line of the simulator only.
                let arguments = self.processes["gateway"].arguments().to_vec();
                self.processes.get_mut("gateway").unwrap().kill();
                self.spawn("gateway", &arguments.iter().map(String::as_str).collect::<Vec<_>>());
            }
            role => {
                self.processes.get_mut(role).unwrap().kill();
                self.serve(role, &[]);
            }
        }
        let started = Instant::now();
        let client = reqwest::Client::builder().timeout(Duration::from_secs(1)).build().unwrap();
        eventually("the edge is ready again", Duration::from_secs(60), || async {
            let answer = client.get(format!("{}/readyz", self.base)).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
        started.elapsed()
    }

    fn token(&self, role: Role, psp: PspId, merchant: Option<MerchantId>, store: Option<StoreId>) -> String {
        development_token(&self.key, role, psp, merchant, store).unwrap()
    }
}

/// A failure among processes that were killed is told by what they wrote: it may not come again soon.
impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (name, process) in &self.processes {
                let log = process.log();
                let lines: Vec<_> = log.lines().collect();
                println!("--- the last lines of {name}:\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
            }
        }
    }
}

/// A client that never gives up: the same request under the same key until it is answered.
#[derive(Clone)]
struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
    answered_503: Arc<AtomicU64>,
}

impl Client {
    async fn post(&self, path: &str, key: &str, body: &Value) -> Value {
        loop {
            let request = self.http.post(format!("{}{path}", self.base)).bearer_auth(&self.token).header("Idempotency-Key", key).json(body);
            match request.send().await {
                Ok(response) if response.status().is_success() => {
                    // Who was killed in the middle of an answer did not answer.
                    if let Ok(answer) = response.json().await {
                        return answer;
                    }
                }
                Ok(response) if response.status().as_u16() == 503 => {
                    assert!(response.headers().contains_key("retry-after"), "a 503 says when to come back");
                    self.answered_503.fetch_add(1, Ordering::Relaxed);
                }
                Ok(response) => panic!("{path} {key}: {} {}", response.status(), response.text().await.unwrap_or_default()),
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    async fn get(&self, path: &str) -> Option<Value> {
        let response = self.http.get(format!("{}{path}", self.base)).bearer_auth(&self.token).send().await.ok()?;
        // What is refused will not come.
        assert!(response.status().as_u16() == 404 || !response.status().is_client_error(), "{path}: {}", response.status());
        if response.status().is_success() { response.json().await.ok() } else { None }
    }
}

/// Sells until told to stop; writes down every acknowledgement.
async fn sell(client: Client, simulator: String, store: StoreId, worker: usize, journal: Arc<Mutex<Journal>>, stop: Arc<AtomicBool>) {
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let number = format!("W{worker}-{n}");
        let body = json!({
            "store_id": store, "order_type": "takeaway", "order_number": number,
            "lines": [{"item_code": "LAT", "name": "Latte", "quantity_milli": 1000, "unit_price": {"amount": 85_00, "currency": "THB"}, "tax_class": "standard"}],
        });
        journal.lock().unwrap().unanswered += 1;
        let order = client.post("/v1/orders", &format!("{number}-order"), &body).await["id"].as_str().unwrap().to_owned();
        journal.lock().unwrap().orders.insert(number.clone(), order.clone());
        let bill =
            client.post("/v1/bills", &format!("{number}-bill"), &json!({"order_id": order})).await["id"].as_str().unwrap().to_owned();
        journal.lock().unwrap().bills.insert(number.clone(), bill.clone());
        let tender = if n % 4 == 0 { "promptpay" } else { "cash" };
        let payment = client.post("/v1/payments", &format!("{number}-pay"), &json!({"bill_id": bill, "tender": tender})).await;
        if tender == "promptpay" {
            pay_qr(&client, &simulator, &payment).await;
        }
        let mut journal = journal.lock().unwrap();
        journal.paid.insert(bill);
        journal.unanswered -= 1;
    }
}

async fn pay_qr(client: &Client, simulator: &str, payment: &Value) {
    let path = format!("/v1/payment-intents/{}", payment["payment_intent_id"].as_str().unwrap());
    let payload = eventually("a QR", Duration::from_secs(60), || async {
        client.get(&path).await.and_then(|intent| intent["next_action"]["qr_payload"].as_str().map(str::to_owned))
    })
    .await;
    let gateway::promptpay::Target::Bill { reference1, .. } = gateway::promptpay::ParsedQr::parse(&payload).unwrap().target else {
        panic!("{payload}");
    };
    let body = json!({"reference": reference1, "webhook": {"retry_ms": 500}});
    let paid = client.http.post(format!("{simulator}/sim/pay")).json(&body).send().await.unwrap();
    assert!(paid.status().is_success(), "{}", paid.text().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_any_process_in_any_order_loses_nothing_and_doubles_nothing() {
    let mut cluster = Cluster::start().await;
    let psp = PspId(Ulid::from_bytes([0x77; 16]));
    let http = reqwest::Client::builder().timeout(Duration::from_secs(8)).build().unwrap();
    let client = |token: String| Client { http: http.clone(), base: cluster.base.clone(), token, answered_503: Arc::default() };
    let admin = client(cluster.token(Role::PlatformAdmin, psp, None, None));
    let merchant =
        admin.post("/v1/merchants", "m", &json!({"code": "KOPI", "name": "Kopi"})).await["id"].as_str().unwrap().parse().unwrap();
    let owner = client(cluster.token(Role::MerchantAdmin, psp, Some(merchant), None));
    let store: StoreId = owner.post("/v1/stores", "s", &store_body("SIAM")).await["id"].as_str().unwrap().parse().unwrap();
    let till = client(cluster.token(Role::Cashier, psp, Some(merchant), Some(store)));
    let (journal, stop) = (Arc::new(Mutex::new(Journal::default())), Arc::new(AtomicBool::new(false)));
    let sellers: Vec<_> = (0..6)
        .map(|worker| tokio::spawn(sell(till.clone(), cluster.simulator.clone(), store, worker, journal.clone(), stop.clone())))
        .collect();

    // Three rounds over all victims, each in another order.
    let (mut quickest, mut slowest) = (BTreeMap::new(), Duration::ZERO);
    for round in 0..3_usize {
        for step in 0..VICTIMS.len() {
            let victim = VICTIMS[(step * (round + 2) + round) % VICTIMS.len()];
            tokio::time::sleep(Duration::from_millis(400)).await;
            let back = cluster.strike(victim).await;
            let entry = quickest.entry(victim).or_insert(back);
            *entry = back.min(*entry);
            slowest = slowest.max(back);
        }
        if round == 1 {
            wipe_jetstream(&mut cluster).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    for seller in sellers {
        tokio::time::timeout(2 * PATIENCE, seller).await.expect("every sale ends").unwrap();
    }
    println!(
        "back in service after: {quickest:?}, never later than {slowest:?}; {} answers were 503",
        till.answered_503.load(Ordering::Relaxed)
    );
    // A machine that does something else makes one round slow.
    assert!(quickest.values().all(|back| *back < Duration::from_secs(5)), "{quickest:?}");
    assert!(slowest < Duration::from_secs(60), "{slowest:?}");
    let journal = Arc::try_unwrap(journal).ok().unwrap().into_inner().unwrap();
    assert_eq!(journal.unanswered, 0);
    check_facts(&cluster, &journal, merchant).await;
}

/// Stops NATS, removes everything it stored, starts it again: only latency may show it.
async fn wipe_jetstream(cluster: &mut Cluster) {
    let store = cluster.servers.embedded.data_dir().join("nats").join("jetstream");
    cluster.servers.embedded.kill_nats().await;
    let store = if store.is_dir() { store } else { find_dir(cluster.servers.embedded.data_dir(), "jetstream").expect("a JetStream store") };
    std::fs::remove_dir_all(&store).unwrap();
    cluster.servers.embedded.restart_nats().await.unwrap();
}

fn find_dir(root: &std::path::Path, name: &str) -> Option<std::path::PathBuf> {
    let entries: Vec<_> = std::fs::read_dir(root).ok()?.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    let here = entries.iter().find(|path| path.file_name().is_some_and(|found| found == name)).cloned();
    here.or_else(|| entries.iter().find_map(|path| find_dir(path, name)))
}

async fn check_facts(cluster: &Cluster, journal: &Journal, merchant: MerchantId) {
    let pool = cluster.database.pool(commands::database::Role::Worker);
    // Read models and managers absorb the log by themselves.
    eventually("everything is absorbed", Duration::from_secs(30), || async {
        let row = sqlx::query("select (select pos from log.head) as head, (select min(pos) from read.checkpoint) as read, (select min(pos) from process.checkpoint) as managers")
            .fetch_one(&pool)
            .await
            .ok()?;
        let (head, read, managers): (i64, i64, i64) = (row.get("head"), row.get("read"), row.get("managers"));
        (head == read && head == managers).then_some(())
    })
    .await;
    // Every acknowledged order is in the log, once, under the id that was acknowledged; nothing else was sold.
    let rows = sqlx::query(
        "select stream_id, convert_from(payload, 'UTF8')::jsonb ->> 'order_number' as number from log.event where type = 'order.opened'",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    let mut stored = BTreeMap::new();
    for row in rows {
        let id = domain::ids::OrderId(commands::event_store::ulid_of(row.get("stream_id"))).to_string();
        let number: String = row.get("number");
        assert!(stored.insert(number.clone(), id).is_none(), "{number} was sold twice");
    }
    assert_eq!(stored, journal.orders);
    let counting = pool.clone();
    let count = |sql: &'static str| {
        let pool = counting.clone();
        async move { sqlx::query_scalar::<_, i64>(sql).fetch_one(&pool).await.unwrap() }
    };
    let bills = i64::try_from(journal.bills.len()).unwrap();
    assert_eq!(count("select count(*) from log.event where type = 'bill.issued'").await, bills);
    // Every bill is paid once, by one payment.
    eventually("every bill is paid", Duration::from_secs(60), || async {
        (count("select count(*) from log.event where type = 'bill.paid'").await == bills).then_some(())
    })
    .await;
    assert_eq!(count("select count(*) from log.event where type = 'payment_intent.succeeded'").await, bills);
    eventually("every order is completed", Duration::from_secs(30), || async {
        (count("select count(*) from log.event where type = 'order.completed'").await == bills).then_some(())
    })
    .await;
    assert_eq!(count("select count(*) from process.stuck").await, 0);
    check_provider(cluster, &pool).await;
    eventually("read models follow", Duration::from_secs(30), || async {
        let row = sqlx::query("select (select pos from log.head) as head, (select min(pos) from read.checkpoint) as read")
            .fetch_one(&pool)
            .await
            .ok()?;
        (row.get::<i64, _>("head") == row.get::<i64, _>("read")).then_some(())
    })
    .await;
    let report = projections::verify::verify_log(&pool, |_| {}).await.unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    for report in projections::check::check(&pool).await.unwrap() {
        assert!(report.differences.is_empty(), "{}: {:?}", report.projection, report.differences);
    }
    assert!(bills > 20, "only {bills} bills were made under load for {merchant}");
    println!("{bills} sales, {} events, all accounted for", report.events);
}

/// What the bank took in is what we captured, transaction by transaction.
async fn check_provider(cluster: &Cluster, pool: &sqlx::PgPool) {
    let ledger: Value = reqwest::get(format!("{}/sim/ledger", cluster.simulator)).await.unwrap().json().await.unwrap();
    let theirs: BTreeMap<String, i64> = ledger["payments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|payment| (payment["transaction_id"].as_str().unwrap().to_owned(), payment["amount"].as_i64().unwrap()))
        .collect();
    let rows = sqlx::query(
        "select e ->> 'transaction_id' as id, (e -> 'amount' ->> 'amount')::bigint as amount from
         (select convert_from(payload, 'UTF8')::jsonb as e from log.event where type = 'payment_intent.succeeded') t where e ->> 'tender' = 'promptpay'",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let ours: BTreeMap<String, i64> = rows.iter().map(|row| (row.get("id"), row.get("amount"))).collect();
    assert_eq!(ours.len(), rows.len(), "a transaction was counted twice");
    assert_eq!(ours, theirs);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_postgresql_is_away_commands_get_503_quickly_and_work_again_by_themselves() {
    let mut cluster = Cluster::start().await;
    let psp = PspId(Ulid::from_bytes([0x78; 16]));
    let http = reqwest::Client::builder().timeout(Duration::from_secs(60)).build().unwrap();
    let admin = cluster.token(Role::PlatformAdmin, psp, None, None);
    cluster.servers.embedded.kill_postgres().await.unwrap();
    // A machine that does something else makes any one time slow.
    let mut quickest = Duration::MAX;
    for _ in 0..3 {
        let asked = Instant::now();
        let requests = (0..40).map(|n| {
            let request = http
                .post(format!("{}/v1/merchants", cluster.base))
                .bearer_auth(&admin)
                .header("Idempotency-Key", format!("away-{n}"))
                .json(&json!({"code": format!("A{n}"), "name": "Away"}));
            async move { request.send().await.expect("an answer, not a hang") }
        });
        for response in futures_util::future::join_all(requests).await {
            assert_eq!(response.status().as_u16(), 503);
            assert!(response.headers().contains_key("retry-after"));
            assert_eq!(response.headers()["content-type"], "application/problem+json");
            let problem: Value = response.json().await.unwrap();
            assert_eq!(problem["retryable"], true);
        }
        quickest = quickest.min(asked.elapsed());
    }
    assert!(quickest < Duration::from_secs(20), "{quickest:?}");
    cluster.servers.embedded.restart_postgres().await.unwrap();
    let body = json!({"code": "A1", "name": "Away"});
    eventually("commands work again", Duration::from_secs(60), || async {
        let answer =
            http.post(format!("{}/v1/merchants", cluster.base)).bearer_auth(&admin).header("Idempotency-Key", "away-1").json(&body).send();
        (answer.await.ok()?.status().as_u16() == 201).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_asked_to_stop_finishes_and_ends_in_time() {
    let mut cluster = Cluster::start().await;
    for role in ["api", "gateway", "relay", "projector", "worker"] {
        // A machine that does something else makes any one time slow.
        let (mut quickest, mut told_before) = (Duration::MAX, 0);
        for _ in 0..3 {
            let process = cluster.processes.get_mut(role).unwrap();
            eventually("the role has started", PATIENCE, || async { process.log().get(told_before..)?.contains("started").then_some(()) })
                .await;
            let asked = Instant::now();
            process.signal("TERM");
            let status = process.wait(PATIENCE).await;
            quickest = quickest.min(asked.elapsed());
            assert!(status.success(), "{role} ended with {status}: {}", process.log());
            told_before = process.log().len();
            let arguments = process.arguments().to_vec();
            cluster.spawn(role, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        }
        assert!(quickest <= Duration::from_secs(10), "{role}: {quickest:?}");
    }
}
