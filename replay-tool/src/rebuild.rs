//! `replay rebuild` and `replay rollback`: the two verbs that change what is served.

use std::sync::Arc;

use clap::Args;
use projections::{
    Projection,
    rebuild::{ROWS_IN_MEMORY, RebuildReport, Stage, Wanted, rebuild, rollback},
};
use serde_json::json;

use crate::{
    answer::Answer,
    outcome::{Failure, Finding, Verdict},
    progress::Progress,
    session::Session,
};

/// Arguments of `rebuild`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  replay rebuild orders
  replay rebuild all --connections 2
  replay rebuild daily_sales --accept-differences      take over although rows differ; they are shown

Changes read models, never the log; the platform may run meanwhile. The old rows stay for `replay rollback`. Ends in 1 when live
and rebuilt rows differ; then nothing is switched, unless differences are accepted.")]
pub struct RebuildArgs {
    /// A read model, or all.
    #[arg(value_name = "MODEL")]
    model: String,
    /// Take over even where the live rows differ.
    #[arg(long)]
    accept_differences: bool,
    /// Rows that each connection keeps in memory; fewer take longer.
    #[arg(long, value_name = "N", default_value_t = ROWS_IN_MEMORY)]
    rows_in_memory: usize,
}

/// Arguments of `rollback`.
#[derive(Args)]
#[command(after_help = "\
Example:
  replay rollback orders

The copy that the last rebuild replaced is caught up and put back, in one transaction. Doing it again undoes it.")]
pub struct RollbackArgs {
    /// A read model.
    #[arg(value_name = "MODEL")]
    model: String,
}

/// Rebuilds read models one after the other.
///
/// # Errors
/// `Usage` for a model that does not exist or is being rebuilt; `Fault` when it cannot be done.
pub async fn run(session: &Session, args: RebuildArgs) -> Verdict {
    let models = if args.model == "all" { projections::all() } else { vec![model(&args.model)?] };
    let (owner, worker) = (session.owner().await?, session.writer().await?);
    let RebuildArgs { accept_differences, rows_in_memory, .. } = args;
    let wanted = Wanted { connections: session.connections, rows_in_memory, accept_differences };
    let mut answer = session.answer();
    let mut sound = true;
    for projection in models {
        let (name, progress) = (projection.name(), Progress::new(projection.name(), 0));
        let report = rebuild(&owner, &worker, projection, wanted, |stage| show(&progress, name, stage)).await.map_err(refused)?;
        drop(progress);
        sound &= report.switched_at.is_some();
        print(&mut answer, &report)?;
    }
    answer.finish()?;
    Ok(Finding::sound_if(sound))
}

/// Puts the copy before the last rebuild back.
///
/// # Errors
/// As [`run`]; `Usage` when there is none.
pub async fn back(session: &Session, args: RollbackArgs) -> Verdict {
    let projection = model(&args.model)?;
    let (owner, worker) = (session.owner().await?, session.writer().await?);
    let name = projection.name();
    let progress = Progress::new(name, 0);
    let position = rollback(&owner, &worker, projection, |stage| show(&progress, name, stage)).await.map_err(refused)?;
    drop(progress);
    let mut answer = session.answer();
    answer.line(
        &json!({"read_model": name, "switched_at": position}),
        &format!("{name}: the earlier copy serves from position {position}"),
    )?;
    answer.finish()?;
    Ok(Finding::Sound)
}

fn model(name: &str) -> Result<Arc<dyn Projection>, Failure> {
    let all = projections::all();
    let names: Vec<&str> = all.iter().map(|projection| projection.name()).collect();
    let unknown = || Failure::usage(format!("there is no read model '{name}'; there are {}", names.join(", ")));
    all.iter().find(|projection| projection.name() == name).cloned().ok_or_else(unknown)
}

/// What cannot be done now is a question of when to ask, not a fault.
fn refused(error: projections::Error) -> Failure {
    match error {
        projections::Error::Rebuild { .. } => Failure::usage(error.to_string()),
        projections::Error::Sql(_)
        | projections::Error::Corrupt { .. }
        | projections::Error::AheadOfLog { .. }
        | projections::Error::BadRow { .. }
        | projections::Error::Busy
        | projections::Error::TooMuch => error.into(),
    }
}

fn show(progress: &Progress, model: &str, stage: Stage) {
    let (what, done, of) = match stage {
        Stage::Folding { position, of } => ("fold", position, of),
        Stage::Indexing { done, of } => ("indexes", count(done), count(of)),
        Stage::Comparing { rows, of } => ("compare rows", rows, of),
    };
    progress.stage_at(&format!("{model}: {what}"), done, of);
}

fn count(indexes: usize) -> i64 {
    i64::try_from(indexes).unwrap_or(i64::MAX)
}

fn print(answer: &mut Answer, report: &RebuildReport) -> std::io::Result<()> {
    for difference in &report.differences {
        answer.line(&json!(difference), &format!("{} {}: {}", difference.table, difference.key, difference.what))?;
    }
    let line = json!({"read_model": report.projection, "rows": report.rows, "compared_at": report.compared_at,
        "differing": report.differing, "switched_at": report.switched_at});
    let outcome = match report.switched_at {
        Some(position) => format!("serves from position {position}"),
        None => "not switched: use --accept-differences to take over all the same".to_owned(),
    };
    let text = format!(
        "{:<14} {:>8} rows, {} differ at position {}; {outcome}",
        report.projection, report.rows, report.differing, report.compared_at
    );
    answer.line(&line, &text)
}
