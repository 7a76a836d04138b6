//! `/v1/events`: what happened, to pull, for ever, in the order of positions. Made from the log; nothing is ever dropped.

use axum::{Json, extract::State, response::Response};
use domain::{
    envelope::StreamType,
    ids::EventId,
    public_event,
    rejection::{Rejected, RejectionClass},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::query::{Ask, Events};
use crate::{
    auth::may,
    extract::{Filter, Id},
    problem::{Kind, Problem},
    resources::{EventResource, event::told},
    state::AppState,
};

/// Events of a page unless told.
const DEFAULT_LIMIT: i64 = 50;
/// Most events of a page.
const MOST: i64 = 200;
/// Events looked at for one page, however few of them are of the types asked for.
const LOOKED_AT: i64 = 2_000;
/// Positions looked over for one page of one store's events, which lie among those of all stores.
const LOOKED_OVER: i64 = 250_000;

/// Positions looked over again with each page, at most.
const LOOKED_OVER_AGAIN: i64 = 10_000;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get))
}

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventQuery {
    /// Events after this position: `next_after` of the page before; 0, or nothing, is the beginning.
    after: Option<i64>,
    /// Events of a page, 1 to 200; 50 unless told.
    limit: Option<i64>,
    /// Types and groups, separated by commas: `bill.paid,payment_intent.*`.
    types: Option<String>,
    /// As the header `Smartpos-Min-Position`.
    pub min_pos: Option<i64>,
    /// As it was then: a log position, or an RFC 3339 time with its offset; `Smartpos-As-Of` answers the position.
    pub as_of: Option<String>,
}

/// A page of the feed.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventPage {
    /// In the order of positions. May be empty although there is more, where events of other types or stores lie between.
    pub data: Vec<EventResource>,
    /// There is more to read now.
    pub has_more: bool,
    /// What to ask for as `after` next time; good for ever.
    pub next_after: i64,
}

/// What happened after a position.
#[utoipa::path(get, path = "/v1/events", tag = "events", params(EventQuery),
    responses((status = 200, description = "A page", body = EventPage)),
    extensions(("x-permission" = json!("event_read"))))]
async fn list(ask: Ask<may::EventRead, Events>, Filter(query): Filter<EventQuery>) -> Result<Response, Problem> {
    let (after, limit) = (query.after.unwrap_or(0), query.limit.unwrap_or(DEFAULT_LIMIT));
    if after < 0 || !(1..=MOST).contains(&limit) {
        return Err(Problem::new(Kind::ParameterInvalid, format!("after must not be negative, limit must be 1 to {MOST}")));
    }
    let filters = filters(query.types.as_deref())?;
    // Without a filter one more than a page tells whether there is more.
    let look_at = if filters.is_empty() { limit.saturating_add(1) } else { LOOKED_AT };
    // Before the events are: what comes meanwhile is not passed over.
    let reached = ask.reads.events_position().await?;
    let until = if ask.scope.store.is_some() { reached.min(after.saturating_add(LOOKED_OVER)) } else { reached };
    let rows = ask.reads.events_of(&ask.scope, &kinds(&ask), after, until, look_at).await?;
    let seen_all = i64::try_from(rows.len()).is_ok_and(|count| count < look_at);
    let last_row = rows.last().map_or(after, |row| row.pos);
    let last_seen = if seen_all { looked_to(last_row, until) } else { last_row };
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|filter| filter.matches(name));
    let mut rows: Vec<_> = rows.into_iter().filter(|row| wanted(row.event_type)).collect();
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let cut = rows.len() > most;
    rows.truncate(most);
    let next_after = if cut { rows.last().map_or(after, |row| row.pos) } else { last_seen };
    let data = told(&ask.reads, &rows).await?;
    Ok(ask.answer(Json(EventPage { data, has_more: cut || !seen_all || until < reached, next_after })))
}

/// Where the next page begins after one to whose end there was nothing more. Whoever is told of little is not to look over all that was not
/// for it again and again; but the log may go back a little, when it was restored, and what is written anew then is not to be passed over.
fn looked_to(last_row: i64, until: i64) -> i64 {
    last_row.max(until.saturating_sub(LOOKED_OVER_AGAIN))
}

/// The kinds of things whose events the caller is told of: those that it may read by their own routes.
fn kinds(ask: &Ask<may::EventRead, Events>) -> Vec<StreamType> {
    let reads = |kind: &StreamType| ask.sight.is_some_and(|sight| sight.reads(*kind));
    StreamType::ALL.into_iter().filter(reads).collect()
}

fn filters(types: Option<&str>) -> Result<Vec<public_event::Filter>, Problem> {
    let unknown = |text: &str| {
        let text: String = text.chars().take(60).collect();
        Problem::new(Kind::ParameterInvalid, format!("types: '{text}' is no event type and no group such as payment_intent.*"))
    };
    let parse = |text: &str| public_event::Filter::parse(text).ok_or_else(|| unknown(text));
    types.into_iter().flat_map(|types| types.split(',')).map(parse).collect()
}

/// What is said of an event that does not exist for the caller.
pub(super) fn event_missing() -> Rejected {
    Rejected { code: "EventNotFound", class: RejectionClass::Missing, message: "the event does not exist".to_owned() }
}

/// One event.
#[utoipa::path(get, path = "/v1/events/{id}", tag = "events", params(("id" = String, Path, description = "`evt_…`")),
    responses((status = 200, description = "The event", body = EventResource)),
    extensions(("x-permission" = json!("event_read"))))]
async fn get(_: State<AppState>, ask: Ask<may::EventRead, Events>, Id(event_id): Id<EventId>) -> Result<Response, Problem> {
    let kinds = kinds(&ask);
    let found = ask.reads.event(&ask.scope, event_id).await?.filter(|event| kinds.contains(&event.stream.stream_type));
    let row = found.ok_or_else(|| Problem::missing(event_missing()))?;
    let event = told(&ask.reads, &[row]).await?.pop().ok_or_else(|| Problem::missing(event_missing()))?;
    Ok(ask.answer(Json(event)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_begins_at_the_last_event_unless_that_is_far_behind() {
        assert_eq!(looked_to(500, 10_000), 500);
        assert_eq!(looked_to(500, 10_500), 500);
        assert_eq!(looked_to(500, 70_000), 60_000);
        assert_eq!(looked_to(500, 20), 500, "the log went back");
    }
}
