//! Memory of the auditor's verbs: the most that each process has resident on a log, and on one many times as long. What streams
//! the log takes no more for a longer one.

use std::{fs::File, process::Stdio, time::Duration};

use anyhow::{Context, Result};
use commands::database::Role;
use projections::install::install;
use support::{OwnServers, ScratchDir, TestDatabase, ended_with_peak, replay_command};

use crate::{Bench, history, replay, report::Aim};

const SECTION: &str = "replay";
/// Sales of the shorter log: several times as many events as a verb holds at once, 20,000 for each connection and as many that are joined.
const SALES: u64 = 9_000;
/// With one connection each. A rebuild holds so many rows that the shorter log has several times as many; PostgreSQL compares them.
const VERBS: [(&str, &[&str]); 3] = [
    ("`replay verify`", &["verify"]),
    ("`replay export` (JSON lines)", &["export", "--format", "jsonl", "--out", "-"]),
    ("`replay rebuild orders` (2,000 rows in memory)", &["rebuild", "orders", "--rows-in-memory", "2000"]),
];
/// How long a verb may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// The highest resident memory of each verb on one log.
struct Peaks {
    events: i64,
    /// MiB, as in [`VERBS`].
    mib: Vec<f64>,
}

/// Measures both logs.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let short = peaks(bench, "bench_memory_short", SALES).await?;
    let long = peaks(bench, "bench_memory_long", SALES * bench.effort.choose(5, 3)).await?;
    let report = &mut bench.report;
    for ((verb, _), (more, less)) in VERBS.into_iter().zip(long.mib.into_iter().zip(short.mib)) {
        report.figure(SECTION, format!("most resident memory of {verb} on a log of {} events", long.events), more, "MiB");
        let what = format!("most resident memory of {verb} there ÷ on a log of {} events", short.events);
        report.ratio(SECTION, what, (more, less), Some(Aim::AtMost(1.10)));
    }
    Ok(())
}

async fn peaks(bench: &Bench, name: &str, sales: u64) -> Result<Peaks> {
    let database = bench.servers.near_database(name).await;
    install(&database.admin).await?;
    history::fill(&database, sales).await?;
    let events = database.head().await.pos;
    let worker = database.pool(Role::Worker);
    replay::catch_up(&worker, events).await?;
    worker.close().await;
    let mut mib = Vec::with_capacity(VERBS.len());
    for (_, arguments) in VERBS {
        mib.push(peak(&database, arguments).await?);
    }
    OwnServers::drop_database(database).await;
    Ok(Peaks { events, mib })
}

/// Runs a verb to its good end; the most memory that its process had resident, MiB.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
async fn peak(database: &TestDatabase, arguments: &[&str]) -> Result<f64> {
    let scratch = ScratchDir::new("bench-memory");
    let errors = scratch.path().join("errors");
    let mut command = replay_command(database, arguments);
    command.args(["--json", "--connections", "1"]).stdout(Stdio::null()).stderr(File::create(&errors)?);
    let mut child = command.spawn().context("replay starts")?;
    let (status, kib) = ended_with_peak(&mut child, PATIENCE).await;
    anyhow::ensure!(status.success(), "replay {arguments:?}: {status}\n{}", std::fs::read_to_string(errors).unwrap_or_default());
    Ok(kib as f64 / 1024.0)
}
