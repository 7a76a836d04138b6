//! A log with a trading history in it: an import of generated sales; and what the import takes against the bare batcher.

use std::{sync::Arc, time::Instant};

use anyhow::Result;
use api::import::{self, ImportOptions};
use commands::{committer, database};
use support::{OwnServers, ScratchDir, SeededIds, TestDatabase, write_history};

use crate::{
    Bench,
    bare::{self, Shape},
    measure::{median, per_second},
    report::Aim,
};

const SECTION: &str = "import";
/// Commands in a batch of the ceiling, of which the fastest counts: the last is the most that the committer takes at once.
const BATCHES: [usize; 3] = [32, 128, committer::MAX_ITEMS];

/// Runs the section.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let sales = bench.effort.choose(20_000, 3_000);
    let window = bench.effort.window();
    let (mut imported, mut ceilings) = (Vec::new(), BATCHES.map(|_| Vec::new()));
    for round in 0..bench.effort.rounds() {
        let database = bench.servers.near_database(&format!("bench_import_{round}")).await;
        let started = Instant::now();
        fill(&database, sales).await?;
        imported.push(per_second(sales, started.elapsed()));
        let ids = Arc::new(SeededIds::new(20 + u64::try_from(round)?));
        let shape = Shape::of_newest(&database.admin, "order.opened").await?;
        let options = database::options(&database.url, database::Role::App)?;
        for (batch, ceilings) in BATCHES.into_iter().zip(&mut ceilings) {
            ceilings.push(bare::rate(&options, &shape, &ids, batch, window).await?);
        }
        OwnServers::drop_database(database).await;
    }
    let imported = median(imported);
    let ceilings = BATCHES.into_iter().zip(ceilings.map(median));
    let (batch, ceiling) = ceilings.max_by(|(_, a), (_, b)| a.total_cmp(b)).unwrap_or_default();
    bench.report.figure(SECTION, format!("sales imported from a CSV file of {sales} rows"), imported, "sales/s");
    bench.report.ratio(
        SECTION,
        format!("import ÷ bare batcher with a sale's events in batches of {batch} ({ceiling:.0}/s), the best of {BATCHES:?}"),
        (imported, ceiling),
        Some(Aim::AtLeast(0.2)),
    );
    Ok(())
}

/// Imports `sales` generated sales into a log.
pub async fn fill(database: &TestDatabase, sales: u64) -> Result<()> {
    let scratch = ScratchDir::new("bench-import");
    let (file, mapping) = write_history(scratch.path(), sales)?;
    let side = database.write_side();
    let options = ImportOptions { file, mapping, reject_file: None, in_flight: import::DEFAULT_IN_FLIGHT, quiet: true };
    let report = import::run(&side.handler, &options).await?;
    side.stop().await;
    anyhow::ensure!(report.added == sales, "{} of {sales} sales were imported: {:?}", report.added, report.rejected.first());
    Ok(())
}
