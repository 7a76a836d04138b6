//! Whether a command costs more when the log is ten times as long and has ten times as many streams.

use std::sync::{Arc, atomic::AtomicU64};

use anyhow::Result;
use commands::database;
use support::{OwnServers, SeededIds};

use crate::{
    Bench,
    bare::{self, Shape},
    measure::{Subject, interleaved},
    report::Aim,
};

const SECTION: &str = "growth";

/// Runs the section.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let commands = bench.effort.choose(16_384, 4_096);
    let short = bench.servers.near_database("bench_short").await;
    let long = bench.servers.near_database("bench_long").await;
    let ids = Arc::new(SeededIds::new(30));
    let shape = Shape::two_events(&ids);
    let options = [database::options(&short.url, database::Role::App)?, database::options(&long.url, database::Role::App)?];
    for (options, count) in options.iter().zip([commands, commands * 10]) {
        bare::run(options, shape.clone(), ids.clone(), 256, count, &AtomicU64::default()).await?;
    }
    let window = bench.effort.window();
    let (shape, ids) = (&shape, &ids);
    let subject = |at: usize| -> Subject<'_> {
        let options = &options[at];
        Box::new(move || Box::pin(async move { Ok(bare::rate(options, shape, ids, 32, window).await) }))
    };
    // Each round adds to both; the long log stays the longer one by far.
    let figures = interleaved(bench.effort.rounds() + 2, &[subject(0), subject(1)]).await?;
    let [few, many] = figures[..] else { return Ok(()) };
    bench.report.figure(SECTION, format!("commands on a log that began with {} events", commands * 2), few, "commands/s");
    let what = format!("cost of a command on a log that began with {} events ÷ that", commands * 20);
    bench.report.ratio(SECTION, what, (few, many), Some(Aim::AtMost(1.1)));
    OwnServers::drop_database(long).await;
    OwnServers::drop_database(short).await;
    Ok(())
}
