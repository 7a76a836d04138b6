//! Real data at volume: the program imports a public data set, is killed at odd moments, goes on, and the read models, by SQL and as
//! the API reports them, equal a decimal computation over the file to the last unit. A prefix of each set unless `VOLUME=full`, which
//! also runs the auditor's verbs on the whole log.

use std::{
    io::Read,
    path::PathBuf,
    time::{Duration, Instant},
};

use chrono::NaiveDate;
use csv::StringRecord;
use rust_decimal::Decimal;
use serde_json::Value;
use support::{Lacking, PATIENCE, Process, ScratchDir, TestDatabase, eventually, skipped};

use crate::{
    volume_files::{nyc_taxi, online_retail},
    volume_kills::Kills,
    volume_past::answered_at_the_middle,
    volume_replay::Replays,
    volume_reports::Edge,
    volume_sums::{Facts, Sums, assert_equal, months, payers},
};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn is_full() -> bool {
    std::env::var_os("VOLUME").is_some_and(|value| value == "full")
}

/// Header and rows of the files, one after the other; nothing where they are not, unless all of them are asked for.
fn rows_of(files: &[&str], prefix: usize) -> Option<(StringRecord, Vec<StringRecord>)> {
    let mut header = StringRecord::new();
    let mut rows = Vec::new();
    for file in files {
        let path = root().join("../shared/data").join(file);
        let file = match std::fs::File::open(&path) {
            Ok(file) => file,
            // Asked for the whole sets, nothing compared is nothing shown.
            Err(error) if is_full() => panic!("{}: {error}", path.display()),
            Err(_) => return None,
        };
        let mut text = String::new();
        flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        header = reader.headers().unwrap().clone();
        let most = if is_full() { usize::MAX } else { prefix };
        rows.extend(reader.records().take(most).map(Result::unwrap));
    }
    Some((header, rows))
}

struct Import {
    database: TestDatabase,
    scratch: ScratchDir,
    mapping: PathBuf,
}

impl Import {
    async fn of(mapping: &str, header: &StringRecord, rows: &[StringRecord]) -> Self {
        let scratch = ScratchDir::new("volume");
        let mut writer = csv::Writer::from_path(scratch.path().join("rows.csv")).unwrap();
        writer.write_record(header).unwrap();
        for row in rows {
            writer.write_record(row).unwrap();
        }
        writer.flush().unwrap();
        let mapping = root().join("mappings").join(mapping).canonicalize().unwrap();
        Self { database: TestDatabase::new().await, scratch, mapping }
    }

    fn start(&self, name: &str) -> Process {
        let env = [
            ("DATABASE_URL", self.database.url.as_str()),
            ("MIGRATE_DATABASE_URL", &self.database.admin_url),
            ("NATS_URL", &self.database.nats_url),
            ("SMARTPOS_DATA_DIR", self.scratch.path().to_str().unwrap()),
        ];
        let mapping = self.mapping.to_str().unwrap();
        Process::spawn(name, self.scratch.path(), &["import", "rows.csv", "--mapping", mapping, "--json"], env)
    }

    /// Starts it once for each kill; where the log ended each time. Nothing when it came to its end before one.
    async fn killed_again_and_again(&self, kills: &Kills) -> Option<Vec<i64>> {
        let mut heads = Vec::new();
        for after in kills.early() {
            heads.push(self.killed_at(after).await?);
        }
        for after in kills.spread(&self.database.admin).await {
            heads.push(self.killed_at(after).await?);
        }
        Some(heads)
    }

    /// Starts it and kills it once the log has come to `position`; where the log ends then. Nothing when it came to its end before.
    async fn killed_at(&self, position: i64) -> Option<i64> {
        let mut process = self.start(&format!("killed-at-{position}"));
        let ended = eventually("the import is in the middle", Duration::from_mins(20), || {
            let status = process.exited();
            let well = status.is_none_or(|status| status.success());
            assert!(well, "ended with {status:?} before position {position}:\n{}", process.log());
            async move {
                let there = self.database.head().await.pos >= position;
                (status.is_some() || there).then_some(status.is_some())
            }
        })
        .await;
        process.kill();
        if ended { None } else { Some(self.database.head().await.pos) }
    }

    /// Runs to the end and gives the report.
    async fn finish(&self, name: &str) -> Value {
        let mut process = self.start(name);
        let status = process.wait(Duration::from_mins(20)).await;
        let log = process.log();
        assert!(status.success(), "{log}");
        let report = log.find("\n{").map_or(0, |at| at + 1);
        serde_json::from_str(log[report..].trim()).unwrap_or_else(|error| panic!("{error}: {log}"))
    }
}

/// An import that was killed again and again and then left alone, with its report and where the log ends. On a busy machine it may come to
/// its end before whoever is to kill it; then it begins anew.
async fn killed_and_ended(mapping: &str, header: &StringRecord, rows: &[StringRecord], orders: u64) -> (Import, Value, i64) {
    for _ in 0..5 {
        let import = Import::of(mapping, header, rows).await;
        let Some(heads) = import.killed_again_and_again(&Kills::new(orders)).await else { continue };
        let started = std::time::Instant::now();
        let report = import.finish("whole").await;
        let end = import.database.head().await.pos;
        println!("{mapping}: {} rows, {end} events, heads when killed {heads:?}, last run {:.1?}", rows.len(), started.elapsed());
        if heads.iter().all(|head| (1..end).contains(head)) {
            return (import, report, end);
        }
    }
    panic!("{mapping}: five times it was not killed in the middle");
}

/// Kills the import again and again, lets it end, and compares; a last run adds nothing.
async fn comes_out_whole(mapping: &str, header: &StringRecord, rows: &[StringRecord], facts: Facts) {
    let (import, report, end) = killed_and_ended(mapping, header, rows, facts.orders).await;
    let count = |value: &Value| value.as_u64().unwrap();
    assert_eq!(count(&report["rejected_orders"]), 0, "{report}");
    assert_eq!(count(&report["added"]) + count(&report["already_there"]), facts.orders);
    let refunds = &report["refunds"];
    assert_eq!(count(&refunds["added"]) + count(&refunds["already_there"]), facts.refunds);
    assert_eq!(facts.refunds - count(&refunds["unlinked"]), facts.linked.len() as u64);
    assert_eq!(report["skipped"].as_object().unwrap().values().map(count).sum::<u64>(), facts.skipped);

    let pool = import.database.pool(commands::database::Role::Worker);
    let found = Sums::read(&pool).await;
    assert_equal(&found, &facts.sums);
    assert_eq!(months(&pool).await, [facts.sums.months("total"), facts.sums.months("refunds_amount")]);
    assert_eq!(payers(&pool).await, facts.payers, "payments by customer");
    // All that moved or was written off is what the file says, but for the rounding that the report tells.
    let told = |which: &str| report["rounding"][which].as_str().unwrap().parse::<Decimal>().unwrap() / Decimal::ONE_HUNDRED;
    assert_eq!(told("orders") - told("refunds"), facts.rounded);
    let moved = found.total("net") + found.total("tips") - found.total("refunds_tips") + found.total("written_off");
    assert_eq!(moved, facts.exact + facts.rounded);
    assert_eq!(linked(&pool).await, facts.linked);

    let again = import.finish("again").await;
    assert_eq!((count(&again["added"]), count(&again["refunds"]["added"])), (0, 0));
    assert_eq!(again["totals"], report["totals"]);
    assert_eq!(import.database.head().await.pos, end, "a second run adds nothing");
    pool.close().await;
    reported(&import, &facts.sums, end).await;
    if is_full() {
        Replays { database: &import.database, dir: import.scratch.path() }.run(end).await;
    }
}

/// The API reports the same, now and as of the log's end; what is too much for a question about the past is refused as such. One thing of
/// the past is answered however long the log is.
async fn reported(import: &Import, expected: &Sums, end: i64) {
    let edge = Edge::start(&import.database, import.scratch.path()).await;
    let days = expected.days.keys().map(|(_, day)| day).chain(expected.items.keys().map(|(_, day, _)| day));
    let days = days.chain(expected.tenders.keys().map(|(_, day, ..)| day));
    let days: Vec<NaiveDate> = days.map(|day| day.parse().unwrap()).collect();
    let period = (*days.iter().min().unwrap(), *days.iter().max().unwrap());
    let at_once = if is_full() { 31 } else { 366 };
    let now = edge.sums(period, at_once, None).await.unwrap_or_else(|refused| panic!("{refused:?}"));
    assert_equal(&now, expected);
    let deadline = Instant::now() + PATIENCE;
    let then = loop {
        let then = edge.sums(period, at_once, Some(end)).await;
        // On a machine that stands still even little takes too long.
        if then.is_ok() || is_full() || Instant::now() > deadline {
            break then;
        }
    };
    match then {
        Ok(then) => assert_equal(&then, expected),
        // So many rows, or so long a fold, that a caller who waits is not kept waiting for it.
        Err(refused) => {
            assert!(is_full(), "{refused:?}");
            assert_eq!((refused.status.as_u16(), &refused.body["code"]), (422, &Value::from("MomentTooLarge")), "{refused:?}");
            assert_eq!(refused.header("content-type"), "application/problem+json");
            println!("  reports as of position {end} are refused: {}", refused.body["title"]);
        }
    }
    answered_at_the_middle(&edge, &import.database, end).await;
    edge.stop().await;
}

/// Refunds with a sale: the sale's number and the amount, sorted.
async fn linked(pool: &sqlx::PgPool) -> Vec<(String, Decimal)> {
    let sql = "select o.order_number, r.amount from read.refunds r join read.payments p on p.key = r.payment_intent_id \
               join read.orders o on o.key = p.order_id";
    let rows: Vec<(String, i64)> = sqlx::query_as(sql).fetch_all(pool).await.unwrap();
    let mut linked: Vec<_> = rows.into_iter().map(|(number, amount)| (number, Decimal::new(amount, 2))).collect();
    linked.sort();
    linked
}

#[tokio::test(flavor = "multi_thread")]
async fn the_online_shops_invoices_come_out_to_the_last_penny() {
    let Some((header, rows)) = rows_of(&["online_retail/online_retail_2010-12_2011-12.csv.gz"], 20_000) else {
        skipped(Lacking::Data, "the online shop's data set is not in ../shared/data, so nothing was compared");
        return;
    };
    let facts = online_retail(&rows);
    if is_full() {
        assert_eq!((facts.orders, facts.refunds, facts.skipped), (20_725, 3_836, 1_336));
    }
    comes_out_whole("online_retail.toml", &header, &rows, facts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_taxis_bills_tips_and_reversals_come_out_to_the_last_cent() {
    let files = ["nyc_taxi_payments/nyc_taxi_payments_2018.csv.gz", "nyc_taxi_payments/nyc_taxi_payments_2019.csv.gz"];
    let Some((header, rows)) = rows_of(&files, 800) else {
        skipped(Lacking::Data, "the taxis' data set is not in ../shared/data, so nothing was compared");
        return;
    };
    let facts = nyc_taxi(&header, &rows);
    if is_full() {
        assert_eq!((facts.orders, facts.refunds), (239_692, 308));
    }
    comes_out_whole("nyc_taxi_payments.toml", &header, &rows, facts).await;
}
