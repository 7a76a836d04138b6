//! `replay`: for auditors. Asks the log and the read models questions; changes nothing unless the verb says so.
//!
//! **To add a verb**: a file with its arguments (clap), its `run`, its examples, and a line in [`Command`]. The logic belongs
//! in `projections`; a verb only asks and prints.

mod amounts;
mod answer;
mod as_of;
mod check;
mod checkpoint;
mod diff;
mod erase;
mod event_line;
mod explain;
mod export;
mod export_file;
mod files;
mod grep;
mod kept;
mod outcome;
mod parquet_file;
mod progress;
mod prove;
mod rebuild;
mod reconcile;
mod rows;
mod session;
mod show;
mod stats;
mod timeline;
mod verify;
mod versions;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use outcome::{Failure, Verdict};
use session::{Session, SessionArgs};

// A fold is small allocations above all.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Asks the log of a SmartPOS platform, and what is folded from it, an auditor's questions.
///
/// Answers end in a digest: SHA-256 over their lines in their JSON form. The same question about the same log gives the same
/// digest, wherever and whenever it is asked, with --json or without. Only documents stand alone: what `checkpoint` and `prove`
/// print, and an export to standard output.
///
/// Amounts: rows of read models and totals are shown in major units with their currency (120.50 THB); with --json they are minor units (12050).
/// Payloads of events are shown as they are stored, in minor units, either way.
#[derive(Parser)]
#[command(version, propagate_version = true, max_term_width = 120, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    session: SessionArgs,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 sound or answered; 1 something is wrong with what was looked at; 2 the question cannot \
                          be asked like this;\n3 it could not be answered (no database, a broken file, ...).";

#[derive(Subcommand)]
enum Command {
    /// Prove that the log is what was written: hashes, chain, gaplessness, versions, heads, keys.
    Verify(verify::VerifyArgs),
    /// Sign where the log stands, for publication; or make the key for it.
    Checkpoint(checkpoint::CheckpointArgs),
    /// Prove that an event stands in the log that a checkpoint speaks of, in one file.
    Prove(prove::ProveArgs),
    /// Check such a proof; needs no database.
    CheckProof(prove::CheckProofArgs),
    /// Forget a person: destroy its key and append the fact. Changes the database, for ever.
    Erase(erase::EraseArgs),
    /// Prove that every read model is what the log says: compare it with a fold from nothing.
    Check(check::CheckArgs),
    /// Hold a provider's settlement list against the log: what one side has and the other has not, or not alike.
    Reconcile(reconcile::ReconcileArgs),
    /// The events of one stream.
    Show(show::ShowArgs),
    /// Everything that happened around an order, bill, payment or refund, with what caused what.
    Timeline(timeline::TimelineArgs),
    /// Shows why a payment is as it is: its timeline with what was said to and heard from providers.
    Explain(explain::ExplainArgs),
    /// Events by type, tenant, actor, time, position or text.
    Grep(grep::GrepArgs),
    /// Figures of the log: by type, tenant and day, growth, sizes, largest streams.
    Stats(stats::StatsArgs),
    /// Write a range of the log into a file: JSON lines or Parquet.
    Export(export::ExportArgs),
    /// Fold a read model anew beside the live one, compare, and switch. Changes read models.
    Rebuild(rebuild::RebuildArgs),
    /// Put the read model that the last rebuild replaced back. Changes read models.
    Rollback(rebuild::RollbackArgs),
    /// Show a read model as it stood at an earlier moment.
    AsOf(as_of::AsOfArgs),
    /// Show what differs in the read models between two moments, or two installed versions.
    Diff(diff::DiffArgs),
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misunderstood(&error),
    };
    let session = Session::new(cli.session);
    let verdict = run(&session, cli.command).await;
    outcome::exit(session.json, verdict)
}

/// Help and versions are told as they are; a command line that makes no sense like any other question that cannot be asked.
fn misunderstood(error: &clap::Error) -> ExitCode {
    // What was said cannot be read, but this much of it.
    if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") {
        return outcome::exit(true, Err(Failure::usage(error.render().to_string().trim())));
    }
    error.exit()
}

async fn run(session: &Session, command: Command) -> Verdict {
    match command {
        Command::Verify(args) => verify::run(session, args).await,
        Command::Checkpoint(args) => checkpoint::run(session, args).await,
        Command::Prove(args) => prove::run(session, args).await,
        Command::CheckProof(args) => prove::check(session, &args),
        Command::Erase(args) => erase::run(session, args).await,
        Command::Check(args) => check::run(session, args).await,
        Command::Reconcile(args) => reconcile::run(session, args).await,
        Command::Show(args) => show::run(session, args).await,
        Command::Timeline(args) => timeline::run(session, args).await,
        Command::Explain(args) => explain::run(session, args).await,
        Command::Grep(args) => grep::run(session, args).await,
        Command::Stats(args) => stats::run(session, args).await,
        Command::Export(args) => export::run(session, args).await,
        Command::Rebuild(args) => rebuild::run(session, args).await,
        Command::Rollback(args) => rebuild::back(session, args).await,
        Command::AsOf(args) => as_of::run(session, args).await,
        Command::Diff(args) => diff::run(session, args).await,
    }
}
