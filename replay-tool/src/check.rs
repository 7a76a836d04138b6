//! `replay check`.

use std::sync::Arc;

use clap::Args;
use projections::check::{CheckReport, check_all, steps};
use serde_json::json;

use crate::{
    outcome::{Finding, Verdict},
    progress::Progress,
    session::Session,
};

/// Arguments of `check`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  replay check
  replay check --json

A stream that a read model halted at, because it could not apply an event, is a finding as well as a row that differs. Waits for
a rebuild of the model; no rebuild of it begins meanwhile.")]
pub struct CheckArgs {}

/// Checks the read models.
///
/// # Errors
/// As [`Session::reader`]; `Fault` when the log or a read model cannot be read.
pub async fn run(session: &Session, CheckArgs {}: CheckArgs) -> Verdict {
    let pool = session.reader().await?;
    let progress = Arc::new(Progress::new("check", steps(&pool).await?));
    let bar = Arc::clone(&progress);
    let reports = check_all(&pool, session.connections, Arc::new(move |steps| bar.more(steps))).await?;
    drop(progress);
    let mut answer = session.answer();
    for report in &reports {
        let line = json!({"read_model": report.projection, "position": report.position, "rows": report.rows,
            "digest": report.digest, "differing": report.differing, "differences": report.differences, "halted": report.halted});
        let mut text =
            format!("{:<14} position {:>8}  {:>8} rows  digest {}", report.projection, report.position, report.rows, report.digest);
        for difference in &report.differences {
            text.push_str("\n  ");
            text.push_str(difference);
        }
        for halted in &report.halted {
            let halted = format!("\n  halted at position {}: {} of {}", halted.position, halted.stream, halted.tenant);
            text.push_str(&halted);
        }
        answer.line(&line, &text)?;
    }
    answer.finish()?;
    Ok(Finding::sound_if(reports.iter().all(CheckReport::is_sound)))
}
