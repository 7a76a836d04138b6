//! `replay as-of`.

use std::io;

use clap::Args;
use projections::{
    as_of::{Moment, MomentError, position_of},
    check::HaltedStream,
    past::Past,
};
use serde_json::json;
use sqlx::PgConnection;

use crate::{
    answer::Answer,
    outcome::{Failure, Finding, Verdict},
    progress::Progress,
    rows::{Filter, Filters, Model, shown},
    session::Session,
};

/// Arguments of `as-of`.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  replay as-of 1200 orders status=open\n  replay as-of 2026-11-24T18:00:00+07:00 daily_sales tenant=mer_01…\n  \
                  replay as-of 1200 bill_orders --json\n\n\
                  A stream that the read model halted at is left out from there on, and named."
)]
pub struct AsOfArgs {
    /// A log position, or an RFC 3339 time with its offset: then the last position recorded by then.
    moment: String,
    /// The table of a read model: orders, bills, payments, refunds, daily_sales, stores, ...
    model: String,
    /// Only rows with this value in this column, as `column=value`; all of several. Amounts are in minor units here, as --json has them.
    #[arg(value_name = "COLUMN=VALUE")]
    filters: Vec<Filter>,
}

/// Shows the rows of a read model as they stood, in the order of their keys.
///
/// # Errors
/// `Usage` for a moment, model or column that does not exist; `Fault` when the log cannot be read.
pub async fn run(session: &Session, args: AsOfArgs) -> Verdict {
    let model = Model::named(&args.model)?;
    let filters = Filters(args.filters);
    let pool = session.reader().await?;
    let mut tx = pool.begin().await?;
    sqlx::query("set transaction isolation level repeatable read, read only").execute(&mut *tx).await?;
    filters.check(&mut tx, &model.schema(), model.table.name).await?;
    let position = position(&mut tx, &args.moment).await?;
    let progress = Progress::new("fold", position);
    let mut past = Past::begin(&mut tx, model.projection.as_ref(), filters.tenant()).await?;
    past.go_to(&mut tx, position, |position| progress.at(position)).await?;
    drop(progress);
    let mut answer = session.answer();
    answer.remark(&format!("{} as of position {position}", model.table.name))?;
    let mut rows = 0_u64;
    for (key, row) in past.table(&model.table)? {
        if filters.hold(&row) {
            rows += 1;
            answer.line(&row, &format!("{key}  {}", shown(&row)))?;
        }
    }
    tell_left_out(&mut answer, model.projection.name(), &past.left_out())?;
    let line = json!({"read_model": model.table.name, "position": position, "rows": rows});
    answer.line(&line, &format!("{rows} rows"))?;
    answer.finish()?;
    Ok(Finding::Sound)
}

/// Names the streams that a fold left out: what is shown is not all that the log says.
///
/// # Errors
/// Standard output is closed or full.
pub fn tell_left_out(answer: &mut Answer, model: &str, streams: &[HaltedStream]) -> io::Result<()> {
    for halted in streams {
        let text =
            format!("left out, as {model} halted there: {} of {} from position {} on", halted.stream, halted.tenant, halted.position);
        answer.line(&json!({"read_model": model, "left_out": halted}), &text)?;
    }
    Ok(())
}

/// The position that a word on the command line stands for.
///
/// # Errors
/// `Usage` for something that is no moment or has not come; `Fault`.
pub async fn position(connection: &mut PgConnection, text: &str) -> Result<i64, Failure> {
    let refused = |error: MomentError| match error {
        MomentError::Malformed | MomentError::Unwritten { .. } | MomentError::Future => Failure::usage(format!("'{text}': {error}")),
        MomentError::Failed(error) => Failure::from(error),
    };
    let moment: Moment = text.parse().map_err(refused)?;
    position_of(connection, moment).await.map_err(refused)
}
