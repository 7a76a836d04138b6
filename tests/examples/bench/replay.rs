//! Replay and rebuild of every read model against taking the same log out by binary COPY.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use commands::database::Role;
use domain::event::ReadEvent;
use futures_util::StreamExt;
use projections::{
    LogReader,
    check::fold_to,
    fold::Fold,
    install::install,
    projection::Projection,
    rebuild::{ROWS_IN_MEMORY, Stage, Wanted, rebuild},
    rows::Rows,
    runner,
};
use sqlx::{AssertSqlSafe, PgPool};
use support::{OwnServers, TestDatabase};
use tokio_util::sync::CancellationToken;

use crate::{
    Bench, history,
    measure::{median, per_second},
    memory,
    report::Aim,
};

const SECTION: &str = "replay";
/// Events folded at once.
const BATCH: usize = 500;

/// Runs the section.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let database = bench.servers.near_database("bench_replay").await;
    install(&database.admin).await?;
    history::fill(&database, bench.effort.choose(30_000, 4_000)).await?;
    let events = u64::try_from(database.head().await.pos)?;
    let worker = database.pool(Role::Worker);
    catch_up(&worker, database.head().await.pos).await?;
    let (mut copies, mut decodes) = (Vec::new(), Vec::new());
    let (mut folds, mut rebuilds) = (BTreeMap::<_, Vec<f64>>::new(), BTreeMap::<_, Vec<f64>>::new());
    let (mut foldings, mut leasts) = (BTreeMap::<_, Vec<f64>>::new(), BTreeMap::<_, Vec<f64>>::new());
    for _ in 0..bench.effort.rounds() {
        let copied = copy_out(&database.admin).await?;
        copies.push(per_second(events, copied));
        decodes.push(per_second(events, read(&worker).await?));
        for projection in projections::all() {
            let name = projection.name();
            folds.entry(name).or_default().push(per_second(events, fold(&worker, projection.as_ref()).await?));
            let rows = copy_rows(&database.admin, name).await?;
            let took = rebuild_one(&database, &worker, projection).await?;
            let least: &mut Vec<f64> = leasts.entry(name).or_default();
            least.push((copied + rows).as_secs_f64() / took.in_all.as_secs_f64());
            rebuilds.entry(name).or_default().push(per_second(events, took.in_all));
            let folding: &mut Vec<f64> = foldings.entry(name).or_default();
            folding.push(took.folding.as_secs_f64() / took.in_all.as_secs_f64());
        }
    }
    let (copy, decode) = (median(copies), median(decodes));
    let report = &mut bench.report;
    report.figure(SECTION, format!("binary COPY-out of {events} events"), copy, "events/s");
    report.figure(SECTION, "read and decoded, not folded", decode, "events/s");
    report.ratio(SECTION, "read and decoded ÷ COPY-out", (decode, copy), None);
    for (name, rounds) in folds {
        report.ratio(
            SECTION,
            format!("replay into {name}: read, decoded, folded in memory ÷ COPY-out"),
            (median(rounds), copy),
            Some(Aim::AtLeast(0.7)),
        );
    }
    for (name, rounds) in rebuilds {
        report.ratio(
            SECTION,
            format!("rebuild of {name}: folded into tables, compared, switched ÷ COPY-out"),
            (median(rounds), copy),
            Some(Aim::AtLeast(0.7)),
        );
        let least = median(leasts.remove(name).unwrap_or_default());
        let what = format!("rebuild of {name} ÷ that COPY-out and a bare COPY of the model's rows into tables with its indexes");
        report.figure(SECTION, what, least, "ratio");
        let folding = median(foldings.remove(name).unwrap_or_default());
        report.figure(
            SECTION,
            format!("of that, {name} folded into tables; the rest is indexes, comparison, switch"),
            folding * 100.0,
            "%",
        );
    }
    worker.close().await;
    OwnServers::drop_database(database).await;
    memory::run(bench).await
}

async fn copy_out(log: &PgPool) -> Result<Duration> {
    let started = Instant::now();
    let mut connection = log.acquire().await?;
    let mut out = connection.copy_out_raw("copy (select * from log.event order by pos) to stdout (format binary)").await?;
    while let Some(bytes) = out.next().await {
        let _ = bytes?;
    }
    Ok(started.elapsed())
}

/// The rows of a read model, taken out and put into empty tables with the same indexes: whatever rebuilds it writes no less.
async fn copy_rows(admin: &PgPool, name: &str) -> Result<Duration> {
    let sql = "select schemaname, tablename from pg_tables \
               where schemaname = (select min(schemaname) from pg_tables where schemaname ~ ('^' || $1 || '_v[0-9]'))";
    let tables: Vec<(String, String)> = sqlx::query_as(sql).bind(name).fetch_all(admin).await?;
    anyhow::ensure!(!tables.is_empty(), "{name} has no tables");
    sqlx::raw_sql("create schema bench_bare").execute(admin).await?;
    let started = Instant::now();
    for (schema, table) in tables {
        let create = format!("create table bench_bare.{table} (like {schema}.{table} including all)");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(admin).await?;
        let (mut from, mut to) = (admin.acquire().await?, admin.acquire().await?);
        let mut rows = from.copy_out_raw(&format!("copy {schema}.{table} to stdout (format binary)")).await?;
        let mut into = to.copy_in_raw(&format!("copy bench_bare.{table} from stdin (format binary)")).await?;
        while let Some(bytes) = rows.next().await {
            into.send(bytes?).await?;
        }
        into.finish().await?;
    }
    let took = started.elapsed();
    sqlx::raw_sql("drop schema bench_bare cascade").execute(admin).await?;
    Ok(took)
}

/// Reads the log as the projections do and hands it on in batches.
async fn batches(worker: &PgPool, mut each: impl FnMut(Vec<Arc<ReadEvent>>) -> Result<()>) -> Result<Duration> {
    let reader = LogReader::new(worker.clone());
    let head = reader.head().await?.pos;
    let started = Instant::now();
    let mut events = reader.stream(0, head);
    let mut batch = Vec::with_capacity(BATCH);
    while let Some(event) = events.next().await {
        batch.push(ReadEvent::shared(event?));
        if batch.len() == BATCH {
            each(std::mem::replace(&mut batch, Vec::with_capacity(BATCH)))?;
        }
    }
    each(batch)?;
    Ok(started.elapsed())
}

async fn read(worker: &PgPool) -> Result<Duration> {
    let mut seen = 0;
    let took = batches(worker, |batch| {
        for event in &batch {
            event.decoded().map_err(Clone::clone).context("the log is readable")?;
            seen += 1;
        }
        Ok(())
    });
    let took = took.await?;
    anyhow::ensure!(seen > 0, "the log is empty");
    Ok(took)
}

/// One read model in memory, as a check folds it.
async fn fold(worker: &PgPool, projection: &dyn Projection) -> Result<Duration> {
    let head = LogReader::new(worker.clone()).head().await?.pos;
    let mut connection = worker.acquire().await?;
    let started = Instant::now();
    let mut fold = Fold::new(Rows::complete(), HashMap::new());
    fold_to(&mut connection, projection, &mut fold, head).await?;
    let took = started.elapsed();
    anyhow::ensure!(fold.quarantined.is_empty(), "{}: {:?}", projection.name(), fold.quarantined);
    Ok(took)
}

/// The live read models, up to the head: what a rebuild is compared with.
pub async fn catch_up(worker: &PgPool, head: i64) -> Result<()> {
    let stop = CancellationToken::new();
    let mut running = runner::start_all(worker, None, &stop);
    for (name, progress) in &mut running.progress {
        progress.wait_for(|position| *position >= head).await.with_context(|| format!("{name} ended early"))?;
    }
    stop.cancel();
    while running.tasks.join_next().await.is_some() {}
    Ok(())
}

/// How long a rebuild took.
struct Rebuilt {
    in_all: Duration,
    /// Until the log was in the tables.
    folding: Duration,
}

/// A read model folded into tables beside the live ones, compared with them row by row, and switched.
async fn rebuild_one(database: &TestDatabase, worker: &PgPool, projection: Arc<dyn Projection>) -> Result<Rebuilt> {
    let (started, mut folding) = (Instant::now(), Duration::ZERO);
    let wanted = Wanted { connections: 2, rows_in_memory: ROWS_IN_MEMORY, accept_differences: false };
    let watch = |stage| {
        if let Stage::Folding { .. } = stage {
            folding = started.elapsed();
        }
    };
    let report = rebuild(&database.admin, worker, projection, wanted, watch).await?;
    anyhow::ensure!(report.switched_at.is_some(), "{}: {:?}", report.projection, report.differences);
    Ok(Rebuilt { in_all: started.elapsed(), folding })
}
