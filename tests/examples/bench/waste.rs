//! What one command, and one whole payment, costs beside time: statements, transactions, syncs and bytes of PostgreSQL; allocations of the edge.

use std::{process::Stdio, time::Duration};

use anyhow::{Context, Result};
use sqlx::{PgPool, Row};
use support::OwnServers;
use tokio::process::Command;

use crate::{
    Bench,
    load::{self, generate},
    mix::Mix,
    payers::{Plan, pay},
    payments::RATE,
    server::{ALL_ROLES, Server},
};

const SECTION: &str = "waste";
/// Statements that are told one by one.
const TOLD: i64 = 30;

/// Runs the section, on servers of its own that count statements.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let mut servers = OwnServers::start("bench-waste").await;
    if !count_statements(&mut servers).await? {
        bench.report.note("pg_stat_statements is not installed: statements are not counted");
    }
    for (name, roles) in [("only the role api", &["api"][..]), ("every role", &ALL_ROLES[..])] {
        let server = Server::start(&servers, "bench_waste", roles).await?;
        // One at a time: no batch hides what one costs. Then many at once, as a busy hour has them.
        for (connections, how) in [(1, "one at a time"), (64, "64 at a time")] {
            let how = format!("{name}, {how}");
            let plan = plan(bench, &server, connections);
            count(bench, &server, ("order", &how), Duration::ZERO, async { Ok(generate(&plan).await?.good) }).await?;
            let Some(bank) = server.bank else { continue };
            let load::Plan { address, shops, run_ms, .. } = plan;
            let payers = Plan { address, bank, shops, card: false, rate: None, payers: connections, warm_ms: 0, run_ms, most: None };
            // With what comes after a payment: the watch's first look would be due after three seconds.
            let after = Duration::from_secs(4);
            count(bench, &server, ("payment", &how), after, async { Ok(pay(&payers).await?.good) }).await?;
            if connections > 1 {
                let how = format!("{name}, {RATE} a second");
                let payers = Plan { rate: Some(RATE), payers: 2 * connections, ..payers };
                count(bench, &server, ("payment", &how), after, async { Ok(pay(&payers).await?.good) }).await?;
            }
        }
        server.stop().await?;
    }
    allocations(bench).await
}

async fn count_statements(servers: &mut OwnServers) -> Result<bool> {
    let admin = PgPool::connect(servers.embedded.admin_url()).await?;
    let set = sqlx::query("alter system set shared_preload_libraries = 'pg_stat_statements'").execute(&admin).await;
    admin.close().await;
    if set.is_err() {
        return Ok(false);
    }
    servers.embedded.restart_postgres().await?;
    let admin = PgPool::connect(servers.embedded.admin_url()).await?;
    let made = sqlx::query("create extension if not exists pg_stat_statements").execute(&admin).await.is_ok();
    // Known only once the library is loaded: what functions do inside is counted as well, apart from what they are called by.
    sqlx::query("alter system set pg_stat_statements.track = 'all'").execute(&admin).await?;
    sqlx::query("select pg_reload_conf()").execute(&admin).await?;
    admin.close().await;
    Ok(made)
}

struct Counters {
    transactions: i64,
    syncs: i64,
    wal_bytes: i64,
    /// Sent by the platform.
    statements: i64,
    /// Run by functions that these call.
    inside: i64,
}

/// Counters of the cluster and of the database under test.
async fn counters(servers: &PgPool) -> Result<Counters> {
    // Backends hand their counts over when they have been idle for a moment.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let sql = "select (select sum(xact_commit + xact_rollback)::bigint from pg_stat_database where datname = current_database()), \
               wal_sync, wal_bytes::bigint from pg_stat_wal";
    let row = sqlx::query(sql).fetch_one(servers).await?;
    let sql = "select coalesce(sum(calls) filter (where toplevel), 0)::bigint, coalesce(sum(calls) filter (where not toplevel), 0)::bigint \
               from pg_stat_statements s join pg_database d on d.oid = s.dbid where d.datname = current_database()";
    let (statements, inside) = sqlx::query_as(sql).fetch_one(servers).await.unwrap_or((0, 0));
    Ok(Counters { transactions: row.try_get(0)?, syncs: row.try_get(1)?, wal_bytes: row.try_get(2)?, statements, inside })
}

fn plan(bench: &Bench, server: &Server, connections: usize) -> load::Plan {
    let (address, shops) = (server.address, server.shops.clone());
    load::Plan {
        address,
        bank: None,
        shops,
        mix: Mix::Orders,
        rate: None,
        connections,
        warm_ms: 0,
        run_ms: bench.effort.choose(4_000, 1_500),
    }
}

/// Counts what `work`, which says how many things it did, and the time `after` it cost for each of them.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
async fn count(
    bench: &mut Bench,
    server: &Server,
    (thing, how): (&str, &str),
    after: Duration,
    work: impl Future<Output = Result<u64>>,
) -> Result<()> {
    let admin = &server.database.admin;
    let _ = sqlx::query("create extension if not exists pg_stat_statements").execute(admin).await;
    let before = counters(admin).await?;
    let _ = sqlx::query("select pg_stat_statements_reset()").execute(admin).await;
    let done = work.await?;
    tokio::time::sleep(after).await;
    let now = counters(admin).await?;
    let things = done.max(1) as f64;
    let report = &mut bench.report;
    report.figure(SECTION, format!("{thing}s, {how}"), done as f64, "done");
    let mut each =
        |what: &str, count: i64, unit| report.figure(SECTION, format!("{what} for each {thing}, {how}"), count as f64 / things, unit);
    each("statements", now.statements, "statements");
    each("statements inside functions that these call", now.inside, "statements");
    each("transactions", now.transactions - before.transactions, "transactions");
    each("syncs of the write-ahead log", now.syncs - before.syncs, "syncs");
    each("write-ahead log", now.wal_bytes - before.wal_bytes, "bytes");
    told(admin, done, thing).await
}

/// Prints the statements that take the most time, those inside functions marked; they are for whoever looks for waste and not part of
/// the table.
async fn told(admin: &PgPool, done: u64, thing: &str) -> Result<()> {
    let sql = "select calls, total_exec_time, case when toplevel then '' else '(inside) ' end || \
               left(regexp_replace(query, '\\s+', ' ', 'g'), 90) from pg_stat_statements s \
               join pg_database d on d.oid = s.dbid where d.datname = current_database() \
               order by total_exec_time desc limit $1";
    let Ok(rows) = sqlx::query(sql).bind(TOLD).fetch_all(admin).await else { return Ok(()) };
    for row in rows {
        let (calls, millis, query): (i64, f64, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        println!("    {calls:>7} calls, {millis:>8.0} ms for {done} {thing}s: {query}");
    }
    Ok(())
}

/// Allocations, counted by another program, whose allocator counts.
async fn allocations(bench: &mut Bench) -> Result<()> {
    let program = std::env::current_exe()?.with_file_name("allocations");
    if !program.is_file() {
        bench.report.note("allocations are not counted: the example `allocations` is not built");
        return Ok(());
    }
    let output = Command::new(program).stdin(Stdio::null()).stderr(Stdio::inherit()).output().await?;
    let counted: serde_json::Value = serde_json::from_slice(&output.stdout).context("what was counted")?;
    for (what, figure) in counted.as_object().into_iter().flatten() {
        let unit = ["ratio", "bytes"].into_iter().find(|unit| figure["unit"] == *unit).unwrap_or("allocations");
        bench.report.figure(SECTION, what.clone(), figure["value"].as_f64().unwrap_or_default(), unit);
    }
    Ok(())
}
