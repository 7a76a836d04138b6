//! `replay show`.

use clap::Args;
use futures_util::TryStreamExt as _;
use projections::search::{Filter, StreamName, search};

use crate::{
    event_line,
    outcome::{Failure, Finding, Verdict},
    session::Session,
};

/// Arguments of `show`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  replay show ord_01J9ZQ8T3V5W7X9Y1Z2A3B4C5D
  replay show order-01J9ZQ8T3V5W7X9Y1Z2A3B4C5D --json
  replay show pay_01J9ZQ8T3V5W7X9Y1Z2A3B4C5D --limit 5     a payment is its payment intent")]
pub struct ShowArgs {
    /// A public id, or a kind and an id: merchant-, store-, order-, bill-, payment_intent-, refund-, customer-, provider_account-,
    /// webhook_endpoint-, ledger_adjustment-.
    #[arg(value_name = "STREAM")]
    stream: StreamName,
    /// Most events, the first ones.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    limit: Option<i64>,
}

/// Prints a stream.
///
/// # Errors
/// `Usage` when there is no such stream; `Fault` when the log cannot be read.
pub async fn run(session: &Session, args: ShowArgs) -> Verdict {
    let pool = session.reader().await?;
    let filter = Filter { stream: Some(args.stream), ..Filter::default() };
    let mut answer = session.answer();
    let mut found = false;
    let mut events = search(&pool, &filter, args.limit);
    while let Some(event) = events.try_next().await? {
        found = true;
        answer.line(&event_line::value(&event), &event_line::text(&event))?;
    }
    if !found {
        return Err(Failure::usage(format!("the log has no {}", args.stream)));
    }
    answer.finish()?;
    Ok(Finding::Sound)
}
