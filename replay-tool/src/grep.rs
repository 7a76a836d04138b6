//! `replay grep`.

use clap::Args;
use domain::ids::MerchantId;
use futures_util::TryStreamExt as _;
use projections::search::{Filter, search};
use serde_json::json;

use crate::{
    event_line::{self, Bound},
    outcome::{Finding, Verdict},
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
    /// Text in the payload as it is stored (JSON without blanks), letter by letter.
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// Most events, the first ones.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    limit: Option<i64>,
}

/// Prints what is found, as it is found.
///
/// # Errors
/// `Fault` when the log cannot be read.
pub async fn run(session: &Session, args: GrepArgs) -> Verdict {
    let pool = session.reader().await?;
    let (after, until) = event_line::positions(&pool, args.from, args.to).await?;
    let GrepArgs { event_type, tenant, actor, text, limit, .. } = args;
    let filter = Filter { after, until, event_type, tenant, actor, text, stream: None };
    let mut answer = session.answer();
    let mut found = 0_u64;
    let mut events = search(&pool, &filter, limit);
    while let Some(event) = events.try_next().await? {
        found += 1;
        answer.line(&event_line::value(&event), &event_line::text(&event))?;
    }
    answer.line(&json!({"events": found}), &format!("{found} events"))?;
    answer.finish()?;
    Ok(Finding::Sound)
}
