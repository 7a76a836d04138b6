//! The published peak mix as an open model from a second process: the highest rate held, and the latency at half of it. A rate is
//! held when hardly a request goes wrong, every operation answers within its published limit, and what answers left to be done
//! (read models, calls to the provider, payments) is done soon after the last of them: a queue that grows holds nothing.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::{
    Bench,
    load::{Outcome, Plan, generate, generate_paying},
    mix::{Mix, Operation},
    peak_payers::{DRAIN, Settled},
    report::{Aim, Report},
    server::{ALL_ROLES, Lag, Server},
};

const SECTION: &str = "peak";
/// The dream, on any number of machines.
const PUBLISHED_RATE: f64 = 15_000.0;
/// Published limits of an operation, milliseconds, the strictest where there are several.
struct Limits {
    operation: Operation,
    p95: f64,
    p99: f64,
}

/// Of orders their own; of intents and confirms those of the gateway; of the others those of the API as a whole.
const LIMITS: [Limits; 5] = [
    Limits { operation: Operation::Order, p95: 300.0, p99: 800.0 },
    Limits { operation: Operation::Bill, p95: 500.0, p99: 1_000.0 },
    Limits { operation: Operation::Intent, p95: 200.0, p99: 500.0 },
    Limits { operation: Operation::Confirm, p95: 200.0, p99: 500.0 },
    Limits { operation: Operation::Read, p95: 500.0, p99: 1_000.0 },
];
/// Published limit of what may go wrong.
const MOST_PERMILLE: u64 = 5;
const CONNECTIONS: usize = 512;
/// How long a server that was overloaded may take until the next step.
const RECOVERY: Duration = Duration::from_secs(180);

/// Runs the section.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub async fn run(bench: &mut Bench) -> Result<()> {
    let server = Server::start(&bench.servers, "bench_peak", &ALL_ROLES).await?;
    // Fills caches and opens connections.
    generate(&plan(&server, 200, 1_000)?).await?;
    let mut held = search(bench, &server).await?;
    let hold_ms = bench.effort.choose(60_000, 6_000);
    // What a short step holds a long one may not: the tables grow, checkpoints come, the read models must keep up.
    let step = loop {
        let before = server.usage();
        let step = step(&server, held, hold_ms).await?;
        let after = server.usage();
        let Some(why) = step.unheld() else {
            costs(bench, &step, &after.each(&before, step.outcome.good * (hold_ms + 500) / hold_ms));
            break step;
        };
        println!("  {held}/s was not held for {} s: {why}", hold_ms / 1000);
        held = held * bench.effort.choose(9, 7) / 10;
        anyhow::ensure!(held >= 50, "no rate is held");
    };
    let what = format!("requests/s of the published mix held for {} s", hold_ms / 1000);
    bench.report.aimed(SECTION, what, held as f64, "requests/s", Aim::AtLeast(PUBLISHED_RATE));
    tell(&mut bench.report, "at that rate", &step);
    let half = self::step(&server, held / 2, bench.effort.choose(15_000, 4_000)).await?;
    tell(&mut bench.report, "at half of it", &half);
    bench.report.note("peak: tokens of devices are not asked for, there is no route that issues them");
    server.stop().await
}

/// Steps up by a quarter (a quick run: by three) until a step is not held.
async fn search(bench: &Bench, server: &Server) -> Result<u64> {
    let step_ms = bench.effort.choose(8_000, 3_000);
    let (mut rate, mut held) = (200, 100);
    while rate < 40_000 {
        let step = step(server, rate, step_ms).await?;
        if let Some(why) = step.unheld() {
            println!("  {rate}/s: not held, {why}");
            break;
        }
        println!("  {rate}/s: held, P99 {:.1} ms, all done {:.1} s later", step.outcome.all().percentile(990), step.done().as_secs_f64());
        held = rate;
        rate = rate * bench.effort.choose(5, 7) / 4;
    }
    Ok(held)
}

/// One rate, and what it left to be done.
struct Step {
    outcome: Outcome,
    /// When the last answer had come.
    lag: Lag,
    /// Until that was absorbed.
    absorbed: Duration,
    payments: Settled,
}

/// Runs a rate and waits until everything that follows from it is done.
async fn step(server: &Server, rate: u64, run_ms: u64) -> Result<Step> {
    let (outcome, paying) = generate_paying(&plan(server, rate, run_ms)?).await?;
    let lag = server.lag().await?;
    let (absorbed, payments) = tokio::try_join!(server.absorbed(&lag, RECOVERY), paying.settled())?;
    server.caught_up(RECOVERY).await?;
    Ok(Step { outcome, lag, absorbed, payments })
}

fn plan(server: &Server, rate: u64, run_ms: u64) -> Result<Plan> {
    let bank = Some(server.bank.context("a server with a bank")?);
    let (address, shops) = (server.address, server.shops.clone());
    Ok(Plan { address, bank, shops, mix: Mix::Peak, rate: Some(rate), connections: CONNECTIONS, warm_ms: 500, run_ms })
}

impl Step {
    /// Why the rate is not held.
    fn unheld(&self) -> Option<String> {
        let outcome = &self.outcome;
        if outcome.bad_permille() >= MOST_PERMILLE {
            return Some(format!("{} ‰ went wrong: {:?}", outcome.bad_permille(), outcome.bad));
        }
        let late = |limits: Limits| {
            let p99 = outcome.of(limits.operation).percentile(990);
            (p99 > limits.p99).then(|| format!("P99 of {:?} is {p99:.0} ms", limits.operation))
        };
        LIMITS.into_iter().find_map(late).or_else(|| self.behind())
    }

    /// What was left undone for too long.
    fn behind(&self) -> Option<String> {
        let (Lag { events, tasks, .. }, Settled { confirmed, late, .. }) = (self.lag, self.payments);
        if self.absorbed > DRAIN {
            return Some(format!(
                "{events} events and {tasks} tasks behind at the end, absorbed after {:.1} s",
                self.absorbed.as_secs_f64()
            ));
        }
        (self.payments.late_permille() >= MOST_PERMILLE)
            .then(|| format!("{late} of {confirmed} payments had not succeeded {} s after the end", DRAIN.as_secs()))
    }

    /// From the last answer until everything was done.
    fn done(&self) -> Duration {
        self.absorbed.max(Duration::from_millis(self.payments.took_ms))
    }
}

fn costs(bench: &mut Bench, step: &Step, used: &[(&str, f64)]) {
    for (name, micros) in used {
        bench.report.figure(SECTION, format!("processor time of {name} for each request, what follows from it included"), *micros, "µs");
    }
    let what = "processor time of the load generator for each request, its payers included";
    bench.report.figure(SECTION, what, step.outcome.cpu_micros_each, "µs");
}

/// Latencies, and what was left to be done.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn tell(report: &mut Report, when: &str, step: &Step) {
    let Step { outcome, lag, absorbed, payments } = step;
    let mut all = outcome.all();
    for (name, permille) in [("P50", 500), ("P95", 950), ("P99", 990)] {
        report.figure(SECTION, format!("{name} {when}"), all.percentile(permille), "ms");
    }
    for Limits { operation, p95, p99 } in LIMITS {
        let mut latencies = outcome.of(operation);
        for (name, permille, limit) in [("P95", 950, p95), ("P99", 990, p99)] {
            report.aimed(SECTION, format!("{name} {when}: {operation:?}"), latencies.percentile(permille), "ms", Aim::AtMost(limit));
        }
    }
    for Limits { operation, .. } in LIMITS {
        let share = outcome.of(operation).len() as f64 * 100.0 / all.len().max(1) as f64;
        report.figure(SECTION, format!("share of {operation:?} among the answers {when}"), share, "%");
    }
    let limit = Some(Aim::AtMost(DRAIN.as_millis() as f64));
    report.figure(SECTION, format!("events that the slowest read model was behind at the end {when}"), lag.events as f64, "events");
    report.figure(SECTION, format!("provider tasks whose time had come at the end {when}"), lag.tasks as f64, "tasks");
    let what = format!("from the end until they were absorbed {when}");
    report.push(SECTION, what, absorbed.as_secs_f64() * 1000.0, "ms", limit);
    report.figure(
        SECTION,
        format!("payments confirmed, paid and told of {when}"),
        payments.confirmed.saturating_sub(payments.left) as f64,
        "payments",
    );
    let what = format!("from the end until the last of them had succeeded {when}");
    report.push(SECTION, what, payments.took_ms as f64, "ms", limit);
}
