//! `smartpos demo`: a trading day on the whole platform, shown and proved.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use domain::ids::PspId;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::{
    auth::Role,
    config::{Config, Limits},
    local::Local,
    platform::{Platform, ProcessRole, Standing},
    simulated_provider::free_address,
    token_command::development_token,
};

pub mod client;
pub mod day;
pub mod dice;
pub mod proof;
pub mod report;

use client::{Client, Latencies, text};
use day::{Payer, Shop};

/// What `demo` can be told.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// Orders of the day.
    #[arg(long, default_value_t = 300)]
    pub orders: u64,
    /// Terminals at work at the same time.
    #[arg(long, default_value_t = 24)]
    pub terminals: usize,
    /// Seed of the day: the same seed plays the same guests.
    #[arg(long, default_value_t = 2026)]
    pub seed: u64,
    /// Keep the day in this directory instead of a fresh one that is removed at the end.
    #[arg(long)]
    pub keep: Option<PathBuf>,
}

/// Plays, shows and proves a day.
///
/// # Errors
/// Whatever did not work, including a proof that failed.
pub async fn run(mut config: Config, args: DemoArgs) -> Result<()> {
    let fresh = std::env::temp_dir().join(format!("smartpos-demo-{}", std::process::id()));
    config.data_dir = args.keep.clone().unwrap_or_else(|| fresh.clone());
    config.http.listen = free_address()?;
    config.auth.dev_issuer = true;
    // A day in a minute is faster than people are.
    config.limits = Limits::off();
    config.database_url = None;
    config.nats_url = None;
    config.providers.scb = None;
    let spinner = ProgressBar::new_spinner().with_message("Starting PostgreSQL, NATS, the platform and a provider simulator");
    spinner.enable_steady_tick(Duration::from_millis(120));
    let started = Instant::now();
    let local = Local::start(config, &ProcessRole::ALL).await?;
    spinner.finish_with_message(format!("Started PostgreSQL, NATS, the platform and a provider simulator in {:.1?}", started.elapsed()));
    let played = play(&local, &args).await;
    let stopped = local.stop().await;
    if args.keep.is_none() {
        // The day is over; a directory that cannot be removed harms nobody.
        let _ = std::fs::remove_dir_all(&fresh);
    }
    played?;
    stopped
}

async fn play(local: &Local, args: &DemoArgs) -> Result<()> {
    let address = local.platform.address.context("the platform does not listen")?;
    let base = format!("http://{address}");
    let simulator = local.simulator.as_ref().context("there is no provider simulator")?.base_url.clone();
    let latencies = Latencies::default();
    let http = reqwest::Client::builder().timeout(Duration::from_secs(30)).build()?;
    let (shops, merchants) = open_shops(&local.platform, &http, &base, &latencies, args.seed).await?;
    println!("{} shops of {} merchants are open at {base} (API documentation: {base}/docs)", shops.len(), merchants.len());
    let started = Instant::now();
    let payer = Payer { http: http.clone(), base: simulator.clone() };
    let tally = day::play(Arc::new(shops), payer, args.orders, args.terminals, args.seed).await?;
    let took = started.elapsed();
    let lag = settle_down(&local.platform).await?;
    println!("{} orders in {took:.1?}", args.orders);
    println!("{}", report::table(&merchants, &tally, &latencies, lag).await?);
    let style = ProgressStyle::with_template("{spinner} {msg}")?;
    let spinner = ProgressBar::new_spinner().with_style(style).with_message("Proving the day");
    spinner.enable_steady_tick(Duration::from_millis(120));
    let lines = proof::prove(&local.platform.worker_pool, &merchants, &simulator).await?;
    spinner.finish_and_clear();
    println!("  Proof");
    for line in lines {
        println!("  ok  {line}");
    }
    Ok(())
}

/// Two merchants of one PSP with three shops, opened over the API.
async fn open_shops(
    platform: &Platform,
    http: &reqwest::Client,
    base: &str,
    latencies: &Latencies,
    seed: u64,
) -> Result<(Vec<Shop>, Vec<Client>)> {
    let psp = PspId(platform.commands.ids().next());
    let token = |role, merchant, store| development_token(&platform.key, role, psp, merchant, store);
    let client = |token: String, who: &str| Client::new(http.clone(), base, token, latencies.clone(), format!("{who}-{seed}"));
    let platform_admin = client(token(Role::PlatformAdmin, None, None)?, &format!("admin-{psp}"));
    let (mut shops, mut merchants) = (Vec::new(), Vec::new());
    for (code, name, stores) in [
        ("KOPI", "Kopi House", [("SIAM", "Siam Square", "exclusive"), ("ARI", "Ari", "exclusive")].as_slice()),
        ("WAN", "Wan Wan Takeaway", [("BTS", "Mo Chit station", "inclusive")].as_slice()),
    ] {
        let made = platform_admin.post("register merchant", "/v1/merchants", &json!({"code": code, "name": name})).await?;
        let merchant = text(&made, "id")?.parse().context("the merchant's id")?;
        let admin = client(token(Role::MerchantAdmin, Some(merchant), None)?, &format!("{code}-admin"));
        for (store_code, store_name, mode) in stores {
            let made = admin.post("open store", "/v1/stores", &store(store_code, store_name, mode)).await?;
            let store_id = text(&made, "id")?.to_owned();
            let id = store_id.parse().context("the store's id")?;
            let staff = client(token(Role::Cashier, Some(merchant), Some(id))?, &format!("{store_code}-till"));
            let manager = client(token(Role::Manager, Some(merchant), Some(id))?, &format!("{store_code}-manager"));
            shops.push(Shop { store_id, staff, manager });
        }
        merchants.push(admin);
    }
    Ok((shops, merchants))
}

fn store(code: &str, name: &str, mode: &str) -> Value {
    let service = (mode == "exclusive").then(|| json!({"basis_points": 1000}));
    json!({
        "code": code,
        "name": name,
        "currency": "THB",
        "zone": "Asia/Bangkok",
        "day_starts_at_minute": 300,
        "tax_profile": {
            "code": format!("th-vat-{mode}"),
            "version": 1,
            "mode": mode,
            "standard_rate_basis_points": 700,
            "rounding": "half_up",
            "service_charge": service,
            "cash_rounding": {"policy": "nearest", "unit": 25},
        },
    })
}

/// Waits until process managers and read models have absorbed the whole log; says how long that took.
///
/// # Errors
/// They do not within a minute.
pub(crate) async fn settle_down(platform: &Platform) -> Result<Duration> {
    let started = Instant::now();
    let (mut quiet, mut last, mut failed) = (0, -1, None);
    while started.elapsed() < Duration::from_secs(60) {
        match platform.standing().await {
            Ok(Standing { head, read }) => {
                let behind = read.iter().any(|position| *position < head);
                quiet = if behind || head != last { 0 } else { quiet + 1 };
                (last, failed) = (head, None);
            }
            // Of a database that does not answer for a moment nothing is known.
            Err(error) => failed = Some(error),
        }
        if quiet >= 5 {
            return Ok(started.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let late = "the read models did not catch up within a minute";
    Err(failed.map_or_else(|| anyhow!(late), |error| error.context(late)))
}
