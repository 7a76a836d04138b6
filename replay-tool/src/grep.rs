//! `replay grep`.

use clap::Args;
use domain::ids::MerchantId;
use futures_util::TryStreamExt as _;
use projections::{
    LogReader,
    search::{Filter, search},
};
use serde_json::json;

use crate::{
    event_line::{self, Bound},
    outcome::{Finding, Verdict},
    progress::Progress,
    session::Session,
};

/// Arguments of `grep`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  replay grep --type 'refund.*' --from 2026-05-01 --to 2026-06-01
  replay grep --type '*.outcome_unknown' --limit 20
  replay grep --actor 'user:*' --text '\"reason\":\"cold\"' --tenant mer_01J9ZQ8T3V5W7X9Y1Z2A3B4C5D

All conditions must hold. Times are those of recording, in UTC; the end of a time range is not part of it.")]
pub struct GrepArgs {
    /// Event type; * stands for any text, ? for one letter.
    #[arg(long = "type", value_name = "GLOB")]
    event_type: Option<String>,
    /// Merchant.
    #[arg(long, value_name = "MERCHANT")]
    tenant: Option<MerchantId>,
    /// Actor; * stands for any text, ? for one letter.
    #[arg(long, value_name = "GLOB")]
    actor: Option<String>,
    /// First position, or a date or time.
    #[arg(long, value_name = "POSITION|TIME")]
    from: Option<Bound>,
    /// Last position, or a date or time.
    #[arg(long, value_name = "POSITION|TIME")]
    to: Option<Bound>,
    /// Text in the payload as it is stored (JSON without blanks, amounts like {"amount":12050,"currency":"THB"}), letter by letter.
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// Most events, the first ones.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    limit: Option<i64>,
}

/// Positions searched at once, unless these were more slices than [`MOST_SLICES`].
const SLICE: i64 = 100_000;
/// However far the head says that the log goes.
const MOST_SLICES: i64 = 1_000;

/// Prints what is found, as it is found.
///
/// # Errors
/// `Fault` when the log cannot be read.
pub async fn run(session: &Session, args: GrepArgs) -> Verdict {
    let pool = session.reader().await?;
    let (after, until) = event_line::positions(&pool, args.from, args.to).await?;
    let head = LogReader::new(pool.clone()).head().await?.pos;
    let GrepArgs { event_type, tenant, actor, text, limit, .. } = args;
    let filter = Filter { after, until, event_type, tenant, actor, text, stream: None };
    let last = until.unwrap_or(i64::MAX);
    let progress = Progress::new("grep", last.min(head).saturating_sub(after).max(0));
    let mut answer = session.answer();
    let slice = SLICE.max(head / MOST_SLICES);
    let (mut found, mut reached) = (0_i64, after);
    // Slice by slice, so that it can be seen how far the search is; the last one goes as far as was asked.
    while reached < last && limit.is_none_or(|limit| found < limit) {
        let end = if head.saturating_sub(reached) > slice { reached.saturating_add(slice).min(last) } else { last };
        let within = Filter { after: reached, until: Some(end), ..filter.clone() };
        let mut events = search(&pool, &within, limit.map(|limit| limit - found));
        while let Some(event) = events.try_next().await? {
            found += 1;
            progress.beside(|| answer.line(&event_line::value(&event), &event_line::text(&event)).and_then(|()| answer.shown()))?;
        }
        reached = end;
        progress.at(reached.min(head).saturating_sub(after).max(0));
    }
    drop(progress);
    answer.line(&json!({"events": found}), &format!("{found} events"))?;
    answer.finish()?;
    Ok(Finding::Sound)
}
