//! Many idle terminals: the memory of each, and a broadcast to all.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use support::answered;

use crate::{
    Bench, cpu,
    measure::Latencies,
    report::Aim,
    server::{Another, Server},
    sockets::{Plan, Sockets, stamp},
};

const SECTION: &str = "terminals";
/// Terminals that the platform is designed to hold on one machine of this size.
const TERMINALS: usize = 20_000;
/// Descriptors that a process needs for other things than terminals.
const SPARE: usize = 500;
/// Orders that are broadcast, one after the other.
const BROADCASTS: u64 = 3;

/// Runs the section. Each end of a socket takes a descriptor of its process: what one process may not open is shared by two
/// servers of one database and bus, each with a process of clients.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub async fn run(bench: &mut Bench) -> Result<()> {
    let server = Server::start(&bench.servers, "bench_terminals", &["api", "relay"]).await?;
    let wanted = bench.effort.choose(TERMINALS, 5_000);
    let room = descriptors().saturating_sub(SPARE);
    let other = if wanted > room { Some(server.another(&["api"]).await?) } else { None };
    let sockets = wanted.min(if other.is_some() { 2 * room } else { room });
    if sockets < wanted {
        bench.report.note(format!("{sockets} terminals instead of {wanted}: a process may open {} files here", descriptors()));
    }
    let plans = plans(&server, other.as_ref(), sockets);
    for plan in &plans {
        drop(Sockets::connect(&Plan { sockets: plan.sockets.min(200), ..plan.clone() }).await?);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = resident(&server, other.as_ref());
    let mut connected = Vec::new();
    for plan in &plans {
        connected.push(Sockets::connect(plan).await?);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let gained = resident(&server, other.as_ref()).saturating_sub(before);
    let (of, report) = (if other.is_some() { "both servers" } else { "the server" }, &mut bench.report);
    report.figure(SECTION, format!("idle authenticated terminals at once, all at {of}"), sockets as f64, "sockets");
    report.aimed(SECTION, format!("resident memory of {of} for each"), gained as f64 / sockets.max(1) as f64, "KiB", Aim::AtMost(10.0));
    let mut heard = broadcast(&server, connected, sockets).await?;
    for (name, permille) in [("P50", 500), ("P99", 990)] {
        let what = format!("{name} of a broadcast to all, from sending the order to the frame");
        report.figure(SECTION, what, heard.percentile(permille), "ms");
    }
    drop(other);
    server.stop().await
}

/// Sockets of one shop, in halves where there are two servers.
fn plans(server: &Server, other: Option<&Another>, sockets: usize) -> Vec<Plan> {
    let shops = vec![server.shops[0].clone()];
    let Some(other) = other else { return vec![Plan { address: server.address, shops, first: 0, sockets }] };
    let half = sockets / 2;
    let first = Plan { address: server.address, shops, first: 0, sockets: half };
    let second = Plan { address: other.address, first: half, sockets: sockets - half, ..first.clone() };
    vec![first, second]
}

/// Resident memory of all servers, KiB.
fn resident(server: &Server, other: Option<&Another>) -> u64 {
    let pids = [Some(server.pid()), other.map(Another::pid)];
    pids.into_iter().flatten().map(|pid| cpu::resident_kib(pid, "VmRSS")).sum()
}

/// Places orders in the shop that all `sockets` listen to, at one server; from sending each to its frames at all of them.
async fn broadcast(server: &Server, connected: Vec<Sockets>, sockets: usize) -> Result<Latencies> {
    let shop = &server.shops[0];
    for _ in 0..BROADCASTS {
        let body = json!({"store_id": shop.store, "order_type": "takeaway", "order_number": stamp(), "lines": []});
        let request = reqwest::Client::new().post(format!("http://{}/v1/orders", server.address)).bearer_auth(&shop.token);
        let _ = answered(request.header("Idempotency-Key", stamp()).json(&body)).await.ok();
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    let (mut latencies, mut frames) = (Latencies::default(), 0);
    for sockets in connected {
        let heard = sockets.heard().await?;
        latencies.extend(&heard.latencies);
        frames += heard.frames;
    }
    anyhow::ensure!(frames == BROADCASTS * u64::try_from(sockets)?, "{frames} frames of {BROADCASTS} broadcasts were heard by {sockets}");
    Ok(latencies)
}

/// Files that this process, and with it a child, may open.
fn descriptors() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default().to_owned();
    line.split_whitespace().nth(3).and_then(|soft| soft.parse().ok()).unwrap_or(1024)
}
