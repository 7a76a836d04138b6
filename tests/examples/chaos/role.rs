//! `chaos role serve --role …`: a role of the platform as `smartpos serve` runs it, by a clock that is `CHAOS_CLOCK_S` seconds off.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use api::{
    config::{Config, Log},
    local::external_servers,
    platform::{Platform, ProcessRole},
    telemetry,
};
use support::ShiftedClock;
use tokio::signal::unix::{SignalKind, signal};

/// Runs it until it is asked to stop.
pub async fn main(words: &[String]) -> Result<()> {
    let after = |name: &str| words.iter().position(|word| word == name).and_then(|at| words.get(at + 1));
    let role = match after("--role").map(String::as_str) {
        Some("api") => ProcessRole::Api,
        Some("gateway") => ProcessRole::Gateway,
        Some("relay") => ProcessRole::Relay,
        Some("projector") => ProcessRole::Projector,
        Some("worker") => ProcessRole::Worker,
        other => anyhow::bail!("{other:?} is no role"),
    };
    let off: i64 = std::env::var("CHAOS_CLOCK_S")?.parse()?;
    let clock = Arc::new(ShiftedClock::default());
    clock.advance(chrono::Duration::seconds(off));
    let mut config = Config::load(None).context("the configuration cannot be used")?;
    config.log = Log::default();
    if let Some(listen) = after("--listen") {
        config.http.listen = listen.parse()?;
    }
    telemetry::start_logs(&config.log);
    let mut stop = signal(SignalKind::terminate())?;
    let servers = external_servers(&config)?;
    let platform = loop {
        match Platform::start_by(&config, &servers, &[role], clock.clone()).await {
            Ok(platform) => break platform,
            Err(error) => eprintln!("waiting for the database: {error:#}"),
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    };
    println!("started, {off} s off");
    stop.recv().await;
    platform.stop().await;
    Ok(())
}
