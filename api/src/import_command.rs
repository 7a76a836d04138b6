//! `smartpos import`: runs an import on the platform of the data directory, or on DATABASE_URL and NATS_URL.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, bail};
use gateway::Secret;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{
    config::Config,
    embedded::running_connection,
    import::{self, ImportOptions},
    local::Local,
    platform::{Platform, ProcessRole, Standing},
};

/// What `import` can be told.
#[derive(Debug, Clone, clap::Args)]
pub struct ImportArgs {
    /// CSV file, plain or gzip.
    pub file: PathBuf,
    /// What its columns mean; see docs/import.md.
    #[arg(long)]
    pub mapping: PathBuf,
    /// Write rows that could not be imported here, with the reason.
    #[arg(long)]
    pub reject_file: Option<PathBuf>,
    /// Succeed although some rows could not be imported.
    #[arg(long)]
    pub allow_rejects: bool,
    /// Sales under way at the same time.
    #[arg(long, default_value_t = import::DEFAULT_IN_FLIGHT)]
    pub in_flight: usize,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Imports and reports.
///
/// # Errors
/// The import stopped, or rows were rejected and that was not allowed.
pub async fn run(mut config: Config, args: ImportArgs) -> Result<()> {
    let options = ImportOptions {
        file: args.file.clone(),
        mapping: args.mapping.clone(),
        reject_file: args.reject_file.clone(),
        in_flight: args.in_flight,
        quiet: args.json,
    };
    // With a platform running on the same directory its servers are used; it relays and folds what is imported.
    let running = running_connection(&config.data_dir);
    if let (Some(connection), None) = (&running, &config.database_url) {
        config.database_url = Some(Secret::new(&connection.database_url));
        config.migrate_database_url = Some(Secret::new(&connection.admin_url));
        config.nats_url = Some(Secret::new(&connection.nats_url));
    }
    // The log first, the read models after it: together they would only wait for each other.
    let local = Local::start(config, &[]).await?;
    let report = import::run(&local.platform.commands, &options).await;
    let read = if report.is_ok() { read_models(&local, running.is_some(), args.json).await } else { Ok(()) };
    local.stop().await?;
    let report = report?;
    read?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
    }
    if !report.is_clean() && !args.allow_rejects {
        bail!("{} orders were not imported", report.rejected_orders);
    }
    Ok(())
}

/// Lets the read models follow: those of the platform that runs already, otherwise of one for this purpose.
async fn read_models(local: &Local, running: bool, quiet: bool) -> Result<()> {
    if running {
        return catch_up(|| local.platform.standing(), STANDSTILL, quiet).await;
    }
    let roles = [ProcessRole::Relay, ProcessRole::Projector, ProcessRole::Worker];
    let followers = Platform::start(&local.config, &local.servers, &roles).await?;
    let caught_up = catch_up(|| followers.standing(), STANDSTILL, quiet).await;
    followers.stop().await;
    caught_up
}

/// How long nothing may move before the wait for the read models is given up.
const STANDSTILL: Duration = Duration::from_mins(1);

/// Waits until read models and process managers have read all that was imported, however long that takes while they move. A database that
/// does not answer is one of which nothing moves: the import is complete, and a restart of the database fails nothing.
async fn catch_up<F: Future<Output = Result<Standing>>>(ask: impl Fn() -> F, standstill: Duration, quiet: bool) -> Result<()> {
    let style = ProgressStyle::with_template("{bar:30} {percent:>3} % | read models | {elapsed_precise}, {eta_precise} left")?;
    let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(5) };
    let bar = ProgressBar::with_draw_target(None, target).with_style(style);
    let (mut moved, mut before, mut away) = (Instant::now(), 0, false);
    loop {
        let answer = ask().await;
        if let Ok(Standing { head, read }) = &answer {
            if read.iter().all(|position| position >= head) {
                bar.finish_and_clear();
                return Ok(());
            }
            let sum: i64 = read.iter().sum();
            // After an absence they have all of the time again.
            if sum > before || away {
                (moved, before) = (Instant::now(), sum);
            }
            let readers = i64::try_from(read.len()).unwrap_or(1);
            bar.set_length((head * readers).unsigned_abs());
            bar.set_position(sum.unsigned_abs());
        }
        away = answer.is_err();
        if moved.elapsed() > standstill {
            let stands = "the read models stand still; the import is complete, and they go on when the platform runs";
            return Err(answer.err().map_or_else(|| anyhow!(stands), |error| error.context(stands)));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn a_database_that_is_away_for_a_moment_fails_no_import_that_is_complete() {
        let asked = Cell::new(0);
        let ask = || {
            asked.set(asked.get() + 1);
            std::future::ready(match asked.get() {
                2 => Err(anyhow!("away")),
                moment => Ok(Standing { head: 3, read: vec![3, moment] }),
            })
        };
        catch_up(ask, STANDSTILL, true).await.unwrap();
        assert_eq!(asked.get(), 3);
    }

    #[tokio::test]
    async fn a_wait_for_what_does_not_move_ends_and_says_why() {
        let behind = || std::future::ready(Ok(Standing { head: 3, read: vec![1] }));
        let error = catch_up(behind, Duration::ZERO, true).await.unwrap_err();
        assert!(error.to_string().contains("the import is complete"), "{error:#}");
        let away = || std::future::ready(Err(anyhow!("away")));
        let error = catch_up(away, Duration::ZERO, true).await.unwrap_err();
        assert!(format!("{error:#}").ends_with("away"), "{error:#}");
    }
}
