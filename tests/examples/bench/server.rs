//! The platform as its own process, on a database of its own, with shops that trade.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use api::{
    auth::{Role, SigningKey, load_or_create_key},
    platform::{Servers, migrate},
    simulated_provider::{free_address, settings},
    token_command::development_token,
};
use chrono::{DateTime, Utc};
use commands::system::RandomIds;
use domain::{
    clock::IdSource,
    ids::{MerchantId, PspId, StoreId},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};
use support::{OwnServers, Process, ScratchDir, TestDatabase, answered, store_body};

use crate::cpu::Usage;

/// Merchants that trade, with one store each.
pub const SHOPS: usize = 16;

/// Every role, as `smartpos up` runs them.
pub const ALL_ROLES: [&str; 5] = ["api", "gateway", "relay", "projector", "worker"];

/// A store and a token of its cashier.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Shop {
    /// `sto_…`.
    pub store: String,
    /// Bearer token.
    pub token: String,
    /// Bearer token of its merchant's administrator.
    pub admin: String,
    /// Its account at a provider that signs call-backs, where it has one.
    pub account: Option<Account>,
}

/// Where signed call-backs for a shop go.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Account {
    /// The path of the door.
    pub path: String,
    /// Signs them.
    pub secret: String,
}

/// Tasks of payments under way. The look at the end of an intent that nobody confirms is due much later, and so are those at the ends of
/// days, which come after the attempt's time.
const OF_PAYMENTS: &str = "task ->> 'kind' <> 'lapse' and not (task ->> 'kind' = 'inquire' \
    and due_at > (task ->> 'expires_at')::timestamptz + interval '1 minute')";

/// What was not done at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Lag {
    /// The end of the log then.
    pub head: i64,
    /// By the database's clock.
    pub at: DateTime<Utc>,
    /// Events that the slowest read model had not folded in.
    pub events: i64,
    /// Tasks of payments whose time had come.
    pub tasks: i64,
}

/// A running server process.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its database.
    pub database: TestDatabase,
    /// Who trades on it.
    pub shops: Vec<Shop>,
    /// Where the simulated bank listens, with the role `gateway`.
    pub bank: Option<SocketAddr>,
    process: Process,
    simulator: Option<Process>,
    postgres: u32,
    nats: u32,
    scratch: ScratchDir,
}

/// One more server process of the same platform: the same database, bus and signing key.
pub struct Another {
    /// Where it listens.
    pub address: SocketAddr,
    process: Process,
}

impl Another {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Server {
    /// Starts `roles` on a fresh database of `servers` and opens the shops.
    pub async fn start(servers: &OwnServers, name: &str, roles: &[&str]) -> Result<Self> {
        Self::start_with(servers, name, roles, &[]).await
    }

    /// The same with more settings.
    pub async fn start_with(servers: &OwnServers, name: &str, roles: &[&str], settings: &[(&str, String)]) -> Result<Self> {
        let scratch = ScratchDir::new("bench-server");
        let database = servers.near_database(name).await;
        let urls = Servers {
            database_url: database.url.clone(),
            owner_url: Some(database.admin_url.clone()),
            nats_url: database.nats_url.clone(),
        };
        migrate(&urls).await?;
        let address = free_address()?;
        let simulator = if roles.contains(&"gateway") { Some(simulate(address, scratch.path())?) } else { None };
        let bank = simulator.as_ref().map(|(_, bank)| *bank);
        let mut environment = environment(&database, scratch.path(), bank);
        environment.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let process = serve("server", scratch.path(), roles, address, environment).await;
        let key = load_or_create_key(&scratch.path().join("auth.pem"))?;
        let shops = open_shops(address, &key).await?;
        let (postgres, nats) = (servers.embedded.postgres_pid().unwrap_or(0), servers.embedded.nats_pid().unwrap_or(0));
        let simulator = simulator.map(|(process, _)| process);
        Ok(Self { address, database, shops, bank, process, simulator, postgres, nats, scratch })
    }

    /// Starts one more process with `roles` beside it.
    pub async fn another(&self, roles: &[&str]) -> Result<Another> {
        let (address, dir) = (free_address()?, self.scratch.path());
        let process = serve("another", dir, roles, address, environment(&self.database, dir, self.bank)).await;
        Ok(Another { address, process })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Processor time so far: its own, PostgreSQL's, NATS's, the simulated bank's.
    pub fn usage(&self) -> Usage {
        let mut named = vec![("smartpos", self.pid()), ("postgres", self.postgres), ("nats", self.nats)];
        named.extend(self.simulator.as_ref().map(|simulator| ("bank simulator", simulator.id())));
        Usage::of(&named)
    }

    /// Waits until the read models have folded in the whole log; says how long that took.
    pub async fn caught_up(&self, limit: Duration) -> Result<Duration> {
        let started = tokio::time::Instant::now();
        while self.behind().await? > 0 {
            anyhow::ensure!(started.elapsed() < limit, "the read models are still behind after {limit:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(started.elapsed())
    }

    /// Events that the slowest read model has not folded in.
    pub async fn behind(&self) -> Result<i64> {
        behind(&self.database.admin).await
    }

    /// What is not done at this moment.
    pub async fn lag(&self) -> Result<Lag> {
        let sql = format!(
            "select log.head_pos(), now(), log.head_pos() - coalesce((select min(pos) from read.checkpoint), 0), \
             (select count(*) from process.task where due_at <= now() and {OF_PAYMENTS})"
        );
        let (head, at, events, tasks) = sqlx::query_as(AssertSqlSafe(sql)).fetch_one(&self.database.admin).await?;
        Ok(Lag { head, at, events, tasks })
    }

    /// Waits until the read models have folded in what stood in the log at that moment, and the tasks that were due then have been
    /// seen to; says how long that took.
    pub async fn absorbed(&self, lag: &Lag, limit: Duration) -> Result<Duration> {
        let sql = format!(
            "select coalesce((select min(pos) from read.checkpoint), 0) >= $1 \
             and not exists (select from process.task where due_at <= $2 and {OF_PAYMENTS})"
        );
        let started = tokio::time::Instant::now();
        while !sqlx::query_scalar(AssertSqlSafe(sql.as_str())).bind(lag.head).bind(lag.at).fetch_one(&self.database.admin).await? {
            anyhow::ensure!(started.elapsed() < limit, "read models or tasks are still behind after {limit:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(started.elapsed())
    }

    /// Payment intents in its log.
    pub async fn payments(&self) -> Result<i64> {
        let sql = "select count(*) from log.event where type = 'payment_intent.created'";
        Ok(sqlx::query_scalar(sql).fetch_one(&self.database.admin).await?)
    }

    /// Waits until nothing is left to do for any payment, and the read models have folded everything in.
    pub async fn payments_settled(&self) -> Result<()> {
        let started = tokio::time::Instant::now();
        loop {
            let sql = format!("select count(*) from process.task where {OF_PAYMENTS}");
            let left: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&self.database.admin).await?;
            if left == 0 {
                return self.caught_up(Duration::from_secs(60)).await.map(drop);
            }
            anyhow::ensure!(started.elapsed() < Duration::from_secs(60), "{left} tasks are left of payments");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Ends it and drops its database.
    pub async fn stop(mut self) -> Result<()> {
        self.process.signal("TERM");
        self.process.wait(Duration::from_secs(20)).await;
        drop(self.simulator.take());
        OwnServers::drop_database(self.database).await;
        Ok(())
    }
}

async fn behind(log: &PgPool) -> Result<i64> {
    let sql = "select log.head_pos() - coalesce(min(pos), 0) from read.checkpoint";
    Ok(sqlx::query_scalar(sql).fetch_one(log).await?)
}

/// A server process, once it answers.
async fn serve(name: &str, dir: &Path, roles: &[&str], address: SocketAddr, environment: Vec<(String, String)>) -> Process {
    let listen = address.to_string();
    let mut arguments = vec!["serve"];
    for role in roles {
        arguments.extend(["--role", role]);
    }
    arguments.extend(["--listen", &listen]);
    let mut process = Process::spawn(name, dir, &arguments, environment);
    process.wait_for_url(&format!("http://{address}/healthz"), Duration::from_secs(30)).await;
    process
}

/// The simulated bank, and where it listens.
fn simulate(platform: SocketAddr, dir: &Path) -> Result<(Process, SocketAddr)> {
    let address = free_address()?;
    let (listen, base) = (address.to_string(), format!("http://{platform}"));
    let arguments = ["simulate-provider", "--listen", &listen, "--platform", &base];
    let nothing: [(&str, &str); 0] = [];
    Ok((Process::spawn("bank", dir, &arguments, nothing), address))
}

fn environment(database: &TestDatabase, dir: &Path, bank: Option<SocketAddr>) -> Vec<(String, String)> {
    let mut set = vec![
        ("DATABASE_URL".to_owned(), database.url.clone()),
        ("NATS_URL".to_owned(), database.nats_url.clone()),
        ("SMARTPOS_DATA_DIR".to_owned(), dir.display().to_string()),
    ];
    // What the platform can do is measured, not what it lets a merchant do.
    for limit in [
        "PER_MERCHANT_PER_MINUTE",
        "PER_PAYMENT_TOKEN_PER_MINUTE",
        "PAYERS_PER_MERCHANT_PER_MINUTE",
        "ALL_PER_MINUTE",
        "CALL_BACKS_PER_ACCOUNT_PER_MINUTE",
        "CALL_BACKS_PER_PLATFORM_ACCOUNT_PER_MINUTE",
        "FORGERIES_PER_ACCOUNT_PER_MINUTE",
    ] {
        set.push((format!("SMARTPOS_LIMITS__{limit}"), "0".to_owned()));
    }
    if let Some(bank) = bank {
        let scb = settings(&format!("http://{bank}"));
        let mut add = |name: &str, value: &str| set.push((format!("SMARTPOS_PROVIDERS__SCB__{name}"), value.to_owned()));
        add("BASE_URL", &scb.base_url);
        add("API_KEY", scb.api_key.reveal());
        add("API_SECRET", scb.api_secret.reveal());
        add("BILLER_ID", &scb.biller_id);
        add("REFERENCE3_PREFIX", &scb.reference3_prefix);
        add("WEBHOOK_PATH_SECRET", scb.webhook_path_secret.reveal());
    }
    set
}

async fn open_shops(address: SocketAddr, key: &SigningKey) -> Result<Vec<Shop>> {
    let http = Arc::new(reqwest::Client::new());
    let psp = PspId(RandomIds.next());
    let post = async |token: String, path: &str, body: Value| {
        let request = http.post(format!("http://{address}{path}")).bearer_auth(token);
        answered(request.header("Idempotency-Key", RandomIds.next().to_string()).json(&body)).await.id()
    };
    let mut shops = Vec::with_capacity(SHOPS);
    for n in 0..SHOPS {
        let admin = development_token(key, Role::PlatformAdmin, psp, None, None)?;
        let merchant: MerchantId =
            post(admin, "/v1/merchants", json!({"code": format!("M{n}"), "name": "Kopi House"})).await.parse().context("an id")?;
        let admin = development_token(key, Role::MerchantAdmin, psp, Some(merchant), None)?;
        let store: StoreId = post(admin.clone(), "/v1/stores", store_body("SIAM")).await.parse().context("an id")?;
        let token = development_token(key, Role::Cashier, psp, Some(merchant), Some(store))?;
        shops.push(Shop { store: store.to_string(), token, admin, account: None });
    }
    Ok(shops)
}
