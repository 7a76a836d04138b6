//! Placing orders over HTTP against the bare batcher doing the same writes, and the latency at half of that rate.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use commands::database;
use support::{OwnServers, SeededIds};

use crate::{
    Bench,
    bare::{self, Shape},
    load::{Outcome, Plan, generate},
    measure::{Subject, interleaved},
    mix::Mix,
    report::Aim,
    server::{ALL_ROLES, Server},
};

const SECTION: &str = "edge";
/// Keep-alive connections.
const CONNECTIONS: usize = 64;

/// Runs the section.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let alone = Server::start(&bench.servers, "bench_edge_api", &["api"]).await?;
    let full = Server::start(&bench.servers, "bench_edge", &ALL_ROLES).await?;
    let ceiling = bench.servers.near_database("bench_edge_bare").await;
    generate(&orders(&full, None, 300)).await?;
    let shape = Shape::of_newest(&full.database.admin, "order.opened").await?;
    let options = database::options(&ceiling.url, database::Role::App)?;
    let ids = Arc::new(SeededIds::new(2));
    let window = bench.effort.window();
    let millis = u64::try_from(window.as_millis())?;
    let placed = |server: &Server| {
        let plan = orders(server, None, millis);
        move || {
            let plan = plan.clone();
            Box::pin(async move { Ok(good(&generate(&plan).await?)?.rate()) }) as futures_util::future::BoxFuture<'_, Result<f64>>
        }
    };
    let (shape, options, ids) = (&shape, &options, &ids);
    let subjects: Vec<Subject<'_>> = vec![
        Box::new(placed(&full)),
        Box::new(placed(&alone)),
        Box::new(move || Box::pin(bare::rate(options, shape, ids, CONNECTIONS / 2, window))),
    ];
    let figures = interleaved(bench.effort.rounds(), &subjects).await?;
    drop(subjects);
    let [all, edge, bare] = figures[..] else { return Ok(()) };
    let report = &mut bench.report;
    report.figure(SECTION, format!("bare batcher with an order's {} events and its key", shape.events()), bare, "orders/s");
    report.figure(SECTION, format!("orders over HTTP, {CONNECTIONS} connections, every role in the process"), all, "orders/s");
    report.ratio(SECTION, "÷ bare batcher", (all, bare), Some(Aim::AtLeast(0.5)));
    report.figure(SECTION, "orders over HTTP, only the role api in the process", edge, "orders/s");
    report.ratio(SECTION, "only the role api ÷ bare batcher", (edge, bare), Some(Aim::AtLeast(0.5)));
    full.caught_up(Duration::from_secs(120)).await?;
    // Nobody folds what this one writes: the way of a command by itself.
    let (rate, outcome) = at_half(bench, &alone, edge).await?;
    latencies(bench, &format!("at half of that rate ({rate}/s, open model), only the role api"), &outcome)?;
    // PostgreSQL goes on vacuuming and analysing what was written to the databases of the others.
    alone.stop().await?;
    OwnServers::drop_database(ceiling).await;
    costs(bench, &full, all).await?;
    full.stop().await?;
    Ok(())
}

/// Half of what a server took at most, and what became of it.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is a small positive number")]
async fn at_half(bench: &Bench, server: &Server, most: f64) -> Result<(u64, Outcome)> {
    let rate = (most / 2.0) as u64;
    Ok((rate, generate(&orders(server, Some(rate), bench.effort.choose(10_000, 3_000))).await?))
}

fn latencies(bench: &mut Bench, what: &str, outcome: &Outcome) -> Result<()> {
    let mut latencies = good(outcome)?.all();
    bench.report.figure(SECTION, format!("P50 {what}"), latencies.percentile(500), "ms");
    bench.report.aimed(SECTION, format!("P99 {what}"), latencies.percentile(990), "ms", Aim::AtMost(25.0));
    Ok(())
}

/// At half the rate: latency, and where processor time goes.
async fn costs(bench: &mut Bench, server: &Server, all: f64) -> Result<()> {
    let before = server.usage();
    let (rate, outcome) = at_half(bench, server, all).await?;
    let behind = server.behind().await?;
    let settled = server.caught_up(Duration::from_secs(60)).await?;
    let used = server.usage();
    latencies(bench, &format!("at half of that rate ({rate}/s, open model), every role"), &outcome)?;
    let report = &mut bench.report;
    let sent = outcome.good + rate / 2;
    for (name, micros) in used.each(&before, sent) {
        report.figure(SECTION, format!("processor time of {name} for each order, read models included"), micros, "µs");
    }
    report.figure(SECTION, "processor time of the load generator for each order", outcome.cpu_micros_each, "µs");
    report.note(format!(
        "at {rate} orders/s the read models were {behind} events behind at the end and had absorbed them {} ms later",
        settled.as_millis()
    ));
    Ok(())
}

fn orders(server: &Server, rate: Option<u64>, run_ms: u64) -> Plan {
    let (address, shops) = (server.address, server.shops.clone());
    let connections = if rate.is_some() { 256 } else { CONNECTIONS };
    Plan { address, bank: None, shops, mix: Mix::Orders, rate, connections, warm_ms: rate.map_or(run_ms / 4, |_| 500), run_ms }
}

fn good(outcome: &Outcome) -> Result<&Outcome> {
    anyhow::ensure!(outcome.bad.is_empty(), "not every order was placed: {:?}", outcome.bad);
    Ok(outcome)
}
