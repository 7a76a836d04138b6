//! `replay verify`.

use std::path::PathBuf;

use clap::Args;
use projections::{LogReader, verify::verify_against};
use serde_json::json;

use crate::{
    files::{self, PublicKey},
    outcome::{Failure, Finding, Verdict},
    progress::Progress,
    session::Session,
};

/// Arguments of `verify`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  replay verify
  replay verify --checkpoint 2026-05-01.json --checkpoint 2026-06-01.json --public-key auditor.pub
  replay verify --json --connections 8

Finds whatever leaves a hash, a version, a head or a count as it was. Who owns the database can recompute all of them: only
checkpoints that were published before that show it. Every problem names the first and last position that it may concern.")]
pub struct VerifyArgs {
    /// A signed checkpoint (a file made by `replay checkpoint`) that the log must hold to; may be repeated.
    #[arg(long, value_name = "FILE", requires = "public_key")]
    checkpoint: Vec<PathBuf>,
    /// Key of the checkpoints' publisher: 64 hex digits, or a file that holds them. Get it from the publisher, not from here.
    #[arg(long, value_name = "KEY")]
    public_key: Option<PublicKey>,
}

/// Verifies the log.
///
/// # Errors
/// `Usage` for a checkpoint that is none or not to be trusted; `Fault` when the log cannot be read.
pub async fn run(session: &Session, args: VerifyArgs) -> Verdict {
    let mut checkpoints = Vec::new();
    for (file, key) in args.checkpoint.iter().zip(std::iter::repeat(args.public_key)) {
        let signed = files::checkpoint(file)?;
        let key = key.ok_or_else(|| Failure::usage("give --public-key"))?;
        signed.verify(&key.0).map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
        checkpoints.push(signed);
    }
    let pool = session.reader().await?;
    let head = LogReader::new(pool.clone()).head().await?;
    let progress = Progress::new("verify", head.pos);
    let report = verify_against(&pool, session.connections, &checkpoints, |position| progress.at(position)).await?;
    drop(progress);
    let mut answer = session.answer();
    for problem in &report.problems {
        let place = if problem.until == problem.position {
            format!("position {}", problem.position)
        } else {
            format!("positions {} to {}", problem.position, problem.until)
        };
        answer.line(&json!(problem), &format!("{place}: {}", problem.what))?;
    }
    let line = json!({"events": report.events, "commits": report.commits, "head_position": report.head_pos,
        "head_hash": report.head_hash, "checkpoints": report.checkpoints, "problems": report.problems.len()});
    let checkpoints =
        if report.checkpoints.is_empty() { String::new() } else { format!(", {} checkpoints hold", report.checkpoints.len()) };
    let text = format!(
        "{} events in {} commits, head at position {}, {} problems{checkpoints}\nhead {}",
        report.events,
        report.commits,
        report.head_pos,
        report.problems.len(),
        report.head_hash
    );
    answer.line(&line, &text)?;
    answer.finish()?;
    Ok(Finding::sound_if(report.is_sound()))
}
