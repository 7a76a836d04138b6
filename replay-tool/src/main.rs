//! `replay`: for auditors. Reads the log and the read models; changes nothing.

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use serde_json::json;
use sqlx::{PgPool, postgres::PgPoolOptions};

/// Verifies the log and the read models of a SmartPOS platform.
#[derive(Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    /// The database, under a role that may read the log.
    #[arg(long, env = "DATABASE_URL", global = true)]
    database_url: Option<String>,
    /// Answer in JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Hashes, chain, gaplessness and stream versions of the whole log.
    Verify,
    /// Every read model against a fold of the log from nothing.
    Check,
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    match run(Cli::parse()).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("replay: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<()> {
    let url = cli.database_url.context("give --database-url or set DATABASE_URL (`smartpos up` prints it)")?;
    let pool = connect(&url).await.context("the database does not answer")?;
    match cli.command {
        Command::Verify => verify(&pool, cli.json).await,
        Command::Check => check(&pool, cli.json).await,
    }
}

async fn connect(url: &str) -> Result<PgPool, sqlx::Error> {
    let options = url.parse::<sqlx::postgres::PgConnectOptions>()?.application_name("replay");
    // Read-only by the session itself, whatever the login may do.
    let options = options.options([("role", "smartpos_worker"), ("default_transaction_read_only", "on")]);
    PgPoolOptions::new().max_connections(2).connect_with(options).await
}

async fn verify(pool: &PgPool, as_json: bool) -> Result<()> {
    let report = projections::verify::verify_log(pool, |_| {}).await?;
    let problems: Vec<_> = report.problems.iter().map(|problem| json!({"position": problem.position, "what": problem.what})).collect();
    if as_json {
        println!(
            "{}",
            json!({"events": report.events, "commits": report.commits, "head_position": report.head_pos, "head_hash": report.head_hash, "problems": problems})
        );
    } else {
        println!("{} events in {} commits, head at position {}", report.events, report.commits, report.head_pos);
        for problem in &report.problems {
            println!("position {}: {}", problem.position, problem.what);
        }
    }
    if problems.is_empty() { Ok(()) } else { bail!("the log does not verify") }
}

async fn check(pool: &PgPool, as_json: bool) -> Result<()> {
    let reports = projections::check::check(pool).await?;
    let mut different = 0;
    for report in &reports {
        different += report.differences.len();
        if as_json {
            println!(
                "{}",
                json!({"read_model": report.projection, "position": report.position, "rows": report.rows, "digest": report.digest, "differences": report.differences})
            );
        } else {
            println!("{:<14} position {:>8}  {:>8} rows  digest {}", report.projection, report.position, report.rows, report.digest);
            for difference in &report.differences {
                println!("  {difference}");
            }
        }
    }
    if different == 0 { Ok(()) } else { bail!("{different} rows differ from a fold of the log") }
}
