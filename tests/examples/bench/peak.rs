//! The published peak mix as an open model from a second process: the highest rate held, and the latency at half of it.

use std::time::Duration;

use anyhow::Result;

use crate::{
    Bench,
    load::{Outcome, Plan, generate},
    mix::{Mix, Operation},
    report::Aim,
    server::{ALL_ROLES, Server},
};

const SECTION: &str = "peak";
/// The dream, on any number of machines.
const PUBLISHED_RATE: f64 = 15_000.0;
/// Published limits of the P99, milliseconds (`scale`, the stricter page).
const LIMITS: [(Operation, f64); 5] = [
    (Operation::Order, 800.0),
    (Operation::Bill, 1_000.0),
    (Operation::Intent, 800.0),
    (Operation::Payment, 1_000.0),
    (Operation::Read, 1_000.0),
];
const CONNECTIONS: usize = 512;

/// Runs the section.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub async fn run(bench: &mut Bench) -> Result<()> {
    let server = Server::start(&bench.servers, "bench_peak", &ALL_ROLES).await?;
    // Fills the pools of things to bill, pay and read, and the caches.
    generate(&plan(&server, 300, 1_000)).await?;
    let mut held = search(bench, &server).await?;
    let hold_ms = bench.effort.choose(60_000, 6_000);
    // What a short step holds a long one may not: the tables grow, checkpoints come, the read models must keep up.
    loop {
        server.caught_up(Duration::from_secs(180)).await?;
        let before = server.usage();
        let outcome = generate(&plan(&server, held, hold_ms)).await?;
        let after = server.usage();
        if let Some(why) = unheld(&outcome) {
            println!("  {held}/s was not held for {} s: {why}", hold_ms / 1000);
            held = held * bench.effort.choose(9, 7) / 10;
            if held < 50 {
                anyhow::bail!("no rate is held");
            }
            continue;
        }
        let sent = outcome.good * (hold_ms + 500) / hold_ms;
        bench.report.aimed(
            SECTION,
            format!("requests/s of the published mix held for {} s", hold_ms / 1000),
            held as f64,
            "requests/s",
            Aim::AtLeast(PUBLISHED_RATE),
        );
        latencies(bench, "at that rate", &outcome);
        let behind = server.behind().await?;
        bench.report.figure(SECTION, "events that the slowest read model was behind at the end", behind as f64, "events");
        for (name, micros) in after.each(&before, sent) {
            bench.report.figure(SECTION, format!("processor time of {name} for each request"), micros, "µs");
        }
        bench.report.figure(SECTION, "processor time of the load generator for each request", outcome.cpu_micros_each, "µs");
        break;
    }
    server.caught_up(Duration::from_secs(180)).await?;
    let outcome = generate(&plan(&server, held / 2, bench.effort.choose(15_000, 4_000))).await?;
    latencies(bench, "at half of it", &outcome);
    server.stop().await
}

/// Steps up by a quarter (a quick run: by three) until a step is not held.
async fn search(bench: &Bench, server: &Server) -> Result<u64> {
    let step_ms = bench.effort.choose(8_000, 3_000);
    let (mut rate, mut held) = (400, 200);
    while rate < 40_000 {
        let outcome = generate(&plan(server, rate, step_ms)).await?;
        if let Some(why) = unheld(&outcome) {
            println!("  {rate}/s: not held, {why}");
            break;
        }
        println!("  {rate}/s: held, P99 {:.1} ms", outcome.all().percentile(990));
        held = rate;
        rate = rate * bench.effort.choose(5, 7) / 4;
        server.caught_up(Duration::from_secs(60)).await?;
    }
    Ok(held)
}

fn plan(server: &Server, rate: u64, run_ms: u64) -> Plan {
    let (address, shops) = (server.address, server.shops.clone());
    Plan { address, shops, mix: Mix::Peak, rate: Some(rate), connections: CONNECTIONS, warm_ms: 500, run_ms }
}

/// Why a rate is not held.
fn unheld(outcome: &Outcome) -> Option<String> {
    if outcome.bad_permille() >= 5 {
        return Some(format!("{} ‰ went wrong: {:?}", outcome.bad_permille(), outcome.bad));
    }
    let late = |(operation, limit): (Operation, f64)| {
        let p99 = outcome.latencies.get(&operation).cloned().unwrap_or_default().percentile(990);
        (p99 > limit).then(|| format!("P99 of {operation:?} is {p99:.0} ms"))
    };
    LIMITS.into_iter().find_map(late)
}

fn latencies(bench: &mut Bench, when: &str, outcome: &Outcome) {
    let mut all = outcome.all();
    for (name, permille) in [("P50", 500), ("P95", 950), ("P99", 990)] {
        bench.report.figure(SECTION, format!("{name} {when}"), all.percentile(permille), "ms");
    }
    for (operation, limit) in LIMITS {
        let p99 = outcome.latencies.get(&operation).cloned().unwrap_or_default().percentile(990);
        bench.report.aimed(SECTION, format!("P99 {when}: {operation:?}"), p99, "ms", Aim::AtMost(limit));
    }
}
