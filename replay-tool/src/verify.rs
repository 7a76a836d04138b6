//! `replay verify`.

use clap::Args;
use serde_json::json;

use crate::{
    outcome::{Finding, Verdict},
    progress::Progress,
    session::Session,
};

/// Arguments of `verify`.
#[derive(Args)]
#[command(after_help = "Examples:\n  replay verify\n  replay verify --json")]
pub struct VerifyArgs {}

/// Verifies the log.
///
/// # Errors
/// As [`Session::reader`]; `Fault` when the log cannot be read.
pub async fn run(session: &Session, VerifyArgs {}: VerifyArgs) -> Verdict {
    let pool = session.reader().await?;
    let head = projections::LogReader::new(pool.clone()).head().await?;
    let progress = Progress::new("verify", head.pos);
    let report = projections::verify::verify_log(&pool, |position| progress.at(position)).await?;
    drop(progress);
    let mut answer = session.answer();
    for problem in &report.problems {
        let line = json!({"position": problem.position, "what": problem.what});
        answer.line(&line, &format!("position {}: {}", problem.position, problem.what))?;
    }
    let line = json!({"events": report.events, "commits": report.commits, "head_position": report.head_pos, "head_hash": report.head_hash});
    answer.line(&line, &format!("{} events in {} commits, head at position {}", report.events, report.commits, report.head_pos))?;
    answer.finish()?;
    Ok(Finding::sound_if(report.is_sound()))
}
