//! Payments by card at a merchant's own account: a simulator that speaks Stripe's format, in a process of its own. This program
//! called as `bench card-provider <address> <where its call-backs go>`.

use std::{net::SocketAddr, process::Stdio, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use api::simulated_provider::free_address;
use commands::system::SystemClock;
use domain::clock::Clock;
use gateway::{
    StripeConfig,
    simulator::SimulatorConfig,
    stripe::simulator::{Settings, serve},
};
use serde_json::json;
use support::answered;
use tokio::{net::TcpListener, process::Command};
use tokio_util::sync::CancellationToken;

use crate::{
    Bench,
    payers::{Plan, pay},
    payments::{PAYERS, SECTION},
    server::{ALL_ROLES, Account, Server, Shop},
};

/// The operator's setting for where Stripe is.
pub const BASE_URL: &str = "SMARTPOS_PROVIDERS__ACCOUNTS__BASE_URLS__STRIPE";
/// Of the simulation only.
const KEY: &str = "sk_test_of_the_bench";
const SECRET: &str = "whsec_of_the_bench_and_nobody_else";

/// Opens an account of a shop's merchant at Stripe.
pub async fn open_account(address: SocketAddr, shop: &Shop) -> Account {
    let body = json!({
        "provider": "stripe", "name": "Cards", "live": false, "priority": 1,
        "methods": [{"method": "card"}], "amounts": [{"currency": "THB", "min": 1, "max": 70_000_000}], "settings": {},
        "secrets": {"secret_key": KEY, "webhook_secret": SECRET},
    });
    let request = reqwest::Client::new().post(format!("http://{address}/v1/provider-accounts")).bearer_auth(&shop.admin);
    let account = answered(request.header("Idempotency-Key", &shop.store).json(&body)).await.id();
    Account { path: format!("/webhooks/stripe/accounts/{account}"), secret: SECRET.to_owned() }
}

/// Whole payments by card per second.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let bank = free_address()?;
    let setting = [(BASE_URL, format!("http://{bank}"))];
    let server = Server::start_with(&bench.servers, "bench_cards", &ALL_ROLES, &setting).await?;
    let (address, shop) = (server.address, server.shops[0].clone());
    let account = open_account(address, &shop).await;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["card-provider", &bank.to_string(), &format!("http://{address}{}", account.path)]);
    let provider = command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true).spawn()?;
    let health = format!("http://{bank}/sim/health");
    support::eventually("the card provider answers", Duration::from_secs(10), || async { reqwest::get(&health).await.ok() }).await;
    let run_ms = bench.effort.choose(6_000, 1_500);
    let plan = Plan { address, bank, shops: vec![shop], card: true, rate: None, payers: 4, warm_ms: 0, run_ms: 700, most: None };
    pay(&plan).await?;
    let outcome = pay(&Plan { payers: PAYERS, warm_ms: run_ms / 3, run_ms, ..plan }).await?;
    let what = format!("create + confirm + succeeded by card (Stripe's format), {PAYERS} under way, one merchant");
    bench.report.figure(SECTION, what, outcome.rate(), "payments/s");
    server.stop().await?;
    drop(provider);
    Ok(())
}

/// The provider itself.
pub async fn main() -> Result<()> {
    let mut words = std::env::args().skip(2);
    let (listen, webhook_url) = (words.next().context("an address")?, words.next().context("a URL")?);
    let listener = TcpListener::bind(listen).await?;
    let settings = Settings {
        secret_key: KEY.to_owned(),
        webhook_secret: SECRET.to_owned(),
        other_webhook_secret: "whsec_after_a_roll".to_owned(),
        api_version: StripeConfig::default_api_version(),
    };
    let config = SimulatorConfig { webhook_url, seed: 1, ledger_file: None, clock: Arc::new(|| SystemClock.now()) };
    Ok(serve(listener, settings, config, CancellationToken::new()).await?)
}
