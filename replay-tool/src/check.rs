//! `replay check`.

use clap::Args;
use serde_json::json;

use crate::{
    outcome::{Finding, Verdict},
    session::Session,
};

/// Arguments of `check`.
#[derive(Args)]
#[command(after_help = "Examples:\n  replay check\n  replay check --json")]
pub struct CheckArgs {}

/// Checks the read models.
///
/// # Errors
/// As [`Session::reader`]; `Fault` when the log or a read model cannot be read.
pub async fn run(session: &Session, CheckArgs {}: CheckArgs) -> Verdict {
    let pool = session.reader().await?;
    let reports = projections::check::check(&pool).await?;
    let mut answer = session.answer();
    for report in &reports {
        let line = json!({"read_model": report.projection, "position": report.position, "rows": report.rows,
            "digest": report.digest, "differing": report.differing, "differences": report.differences});
        let mut text =
            format!("{:<14} position {:>8}  {:>8} rows  digest {}", report.projection, report.position, report.rows, report.digest);
        for difference in &report.differences {
            text.push_str("\n  ");
            text.push_str(difference);
        }
        answer.line(&line, &text)?;
    }
    answer.finish()?;
    Ok(Finding::sound_if(reports.iter().all(|report| report.differing == 0)))
}
