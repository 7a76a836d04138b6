//! A log with a trading history in it: an import of generated sales; and what the import takes against the bare batcher.

use std::{fmt::Write as _, path::Path, sync::Arc, time::Instant};

use anyhow::Result;
use api::import::{self, ImportOptions};
use commands::database;
use support::{OwnServers, ScratchDir, SeededIds, TestDatabase};

use crate::{
    Bench,
    bare::{self, Shape},
    measure::{median, per_second},
    report::Aim,
};

const SECTION: &str = "import";

/// One row, one sale, one payment.
const MAPPING: &str = r#"source = "bench"
[merchant]
psp = "bench"
code = "bench"
name = "Bench House"
[store]
currency = "THB"
zone = "Asia/Bangkok"
tax = "thai_inclusive"
known.main = { code = "main", name = "Main" }
value = { constant = "main" }
[order]
key = "no"
opened_at = { column = "at", format = "%Y-%m-%d %H:%M:%S" }
[[line]]
item_code = { column = "item" }
name = { column = "item" }
unit_price = { column = "price" }
[payment]
amount = { column = "price" }
tender = { column = "tender", values = { C = "cash", V = "card" } }
"#;

/// Runs the section.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let sales = bench.effort.choose(20_000, 3_000);
    let window = bench.effort.window();
    let (mut imported, mut ceilings) = (Vec::new(), Vec::new());
    for round in 0..bench.effort.rounds() {
        let database = bench.servers.fresh_database(&format!("bench_import_{round}")).await;
        let started = Instant::now();
        fill(&database, sales).await?;
        imported.push(per_second(sales, started.elapsed()));
        let ids = Arc::new(SeededIds::new(20 + u64::try_from(round)?));
        let shape = Shape::of_newest(&database.admin, "order.opened").await?;
        let options = database::options(&database.url, database::Role::App)?;
        ceilings.push(bare::rate(&options, &shape, &ids, 32, window).await);
        OwnServers::drop_database(database).await;
    }
    let (imported, ceiling) = (median(imported), median(ceilings));
    bench.report.figure(SECTION, format!("sales imported from a CSV file of {sales} rows"), imported, "sales/s");
    bench.report.ratio(
        SECTION,
        format!("import ÷ bare batcher with a sale's events ({ceiling:.0}/s)"),
        (imported, ceiling),
        Some(Aim::AtLeast(0.2)),
    );
    Ok(())
}

/// Imports `sales` generated sales into a log.
pub async fn fill(database: &TestDatabase, sales: u64) -> Result<()> {
    let scratch = ScratchDir::new("bench-import");
    let (file, mapping) = (scratch.path().join("sales.csv"), scratch.path().join("mapping.toml"));
    std::fs::write(&mapping, MAPPING)?;
    write_sales(&file, sales)?;
    let side = database.write_side();
    let options = ImportOptions { file, mapping, reject_file: None, in_flight: import::DEFAULT_IN_FLIGHT, quiet: true };
    let report = import::run(&side.handler, &options).await?;
    side.stop().await;
    anyhow::ensure!(report.added == sales, "{} of {sales} sales were imported: {:?}", report.added, report.rejected.first());
    Ok(())
}

fn write_sales(file: &Path, sales: u64) -> Result<()> {
    let mut text = String::from("no,at,item,price,tender\n");
    for n in 0..sales {
        let (day, hour, minute, second) = (n / 4_000 % 28 + 1, n / 400 % 12 + 8, n / 7 % 60, n % 60);
        let (item, baht, tender) = (n % 40, n % 200 + 20, if n.is_multiple_of(3) { "V" } else { "C" });
        writeln!(text, "{n},2026-01-{day:02} {hour:02}:{minute:02}:{second:02},Item {item},{baht}.50,{tender}")?;
    }
    Ok(std::fs::write(file, text)?)
}
