//! `replay`: for auditors. Asks the log and the read models questions; changes nothing unless the verb says so.
//!
//! **To add a verb**: a file with its arguments (clap), its `run`, its examples, and a line in [`Command`]. The logic belongs
//! in `projections`; a verb only asks and prints.

mod answer;
mod as_of;
mod check;
mod diff;
mod erase;
mod outcome;
mod progress;
mod rows;
mod session;
mod verify;

use clap::{Parser, Subcommand};
use outcome::Verdict;
use session::{Session, SessionArgs};

/// Asks the log of a SmartPOS platform, and what is folded from it, an auditor's questions.
///
/// Every answer ends in a digest: SHA-256 over its lines in their JSON form. The same question about the same log gives the
/// same digest, wherever and whenever it is asked, with --json or without.
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
    /// Forget a person: destroy its key and append the fact. Changes the database, for ever.
    Erase(erase::EraseArgs),
    /// Prove that every read model is what the log says: compare it with a fold from nothing.
    Check(check::CheckArgs),
    /// Show a read model as it stood at an earlier moment.
    AsOf(as_of::AsOfArgs),
    /// Show what differs in the read models between two moments, or two installed versions.
    Diff(diff::DiffArgs),
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    let session = Session::new(cli.session);
    let verdict = run(&session, cli.command).await;
    outcome::exit(session.json, verdict)
}

async fn run(session: &Session, command: Command) -> Verdict {
    match command {
        Command::Verify(args) => verify::run(session, args).await,
        Command::Erase(args) => erase::run(session, args).await,
        Command::Check(args) => check::run(session, args).await,
        Command::AsOf(args) => as_of::run(session, args).await,
        Command::Diff(args) => diff::run(session, args).await,
    }
}
