//! `/v1/webhook-endpoints/{id}/…`: what was delivered, what was tried, and how to have it again.

use axum::{Json as Body, extract::State, response::Response};
use commands::webhook_deliveries::{self, DeliveryView};
use domain::{
    ids::{EventId, WebhookEndpointId},
    webhook_endpoint::{Command, Rejection, ResendRequested},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    command::Change,
    events::event_missing,
    query::{Ask, Events},
    webhook_endpoints::run,
};
use crate::{
    auth::may,
    extract::{Filter, Id, Json, NoBody},
    problem::{Kind, Problem},
    resources::WebhookEndpointResource,
    state::AppState,
};

/// Deliveries of a page unless told.
const DEFAULT_LIMIT: i64 = 50;
/// Most deliveries of a page.
const MOST: i64 = 200;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(deliveries)).routes(routes!(resend)).routes(routes!(test))
}

/// One event on its way to one endpoint.
#[derive(Debug, Serialize, ToSchema)]
pub struct WebhookDelivery {
    /// `evt_…`.
    pub event_id: String,
    /// What happened.
    pub event_type: String,
    /// The event's position.
    pub position: i64,
    /// `pending`, `delivered` or `failed`.
    #[schema(examples("delivered"))]
    pub status: String,
    /// When it is tried next, UTC.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_attempt_at: Option<chrono::DateTime<chrono::Utc>>,
    /// What was tried, in order: `at`, `status` (HTTP), `elapsed_ms`, `error`, and the first KiB of the `answer`.
    #[schema(value_type = Vec<Object>)]
    pub attempts: Value,
}

/// A page of deliveries, newest event first.
#[derive(Debug, Serialize, ToSchema)]
pub struct WebhookDeliveryPage {
    /// The deliveries.
    pub data: Vec<WebhookDelivery>,
    /// What to ask for as `before` to get the next page; nothing on the last one.
    pub next_before: Option<i64>,
}

impl From<DeliveryView> for WebhookDelivery {
    fn from(view: DeliveryView) -> Self {
        let DeliveryView { event, event_type, pos, status, due_at, attempts } = view;
        Self { event_id: event, event_type, position: pos, status, next_attempt_at: due_at, attempts }
    }
}

/// Which deliveries.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeliveryQuery {
    /// `pending`, `delivered` or `failed`.
    status: Option<String>,
    /// Of events before this position.
    before: Option<i64>,
    /// Rows of a page, 1 to 200; 50 unless told.
    limit: Option<i64>,
    /// As the header `Smartpos-Min-Position`.
    pub min_pos: Option<i64>,
    /// Not taken: attempts are not part of the log.
    pub as_of: Option<String>,
}

/// The delivery log of an endpoint.
#[utoipa::path(get, path = "/v1/webhook-endpoints/{id}/deliveries", tag = "webhook-endpoints",
    params(("id" = String, Path, description = "`whe_…`"), DeliveryQuery),
    responses((status = 200, description = "A page", body = WebhookDeliveryPage)),
    extensions(("x-permission" = json!("webhook_manage"))))]
async fn deliveries(
    State(state): State<AppState>,
    ask: Ask<may::WebhookManage, Events>,
    Id(id): Id<WebhookEndpointId>,
    Filter(query): Filter<DeliveryQuery>,
) -> Result<Response, Problem> {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    let known = query.status.as_deref().is_none_or(|status| ["pending", "delivered", "failed"].contains(&status));
    if !(1..=MOST).contains(&limit) || !known || query.as_of.is_some() {
        return Err(Problem::new(Kind::ParameterInvalid, "limit must be 1 to 200, status pending, delivered or failed; there is no as_of"));
    }
    let missing = || Problem::missing(Rejection::WebhookEndpointNotFound);
    let endpoint = ask.reads.webhook_endpoint(&ask.scope, id).await?.ok_or_else(missing)?;
    let before = query.before.unwrap_or(i64::MAX);
    let found = webhook_deliveries::list(&state.app_pool, (endpoint.tenant, id), query.status.as_deref(), before, limit).await;
    let found = found.map_err(|error| Problem::unavailable(&error))?;
    let full = i64::try_from(found.len()).is_ok_and(|count| count >= limit);
    let next_before = found.last().filter(|_| full).map(|view| view.pos);
    Ok(ask.answer(Body(WebhookDeliveryPage { data: found.into_iter().map(WebhookDelivery::from).collect(), next_before })))
}

/// What is to be sent again: one event, or a range.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResendInput {
    /// This event, `evt_…`, whatever the filter says.
    #[schema(value_type = Option<String>)]
    event_id: Option<EventId>,
    /// All events after this position that the filter lets through …
    after: Option<i64>,
    /// … up to and including this one; without it up to now.
    until: Option<i64>,
}

/// Delivers again: one event, a range, or everything after a position.
#[utoipa::path(post, path = "/v1/webhook-endpoints/{id}/resend", tag = "webhook-endpoints", request_body = ResendInput,
    params(("id" = String, Path, description = "`whe_…`")),
    responses((status = 202, description = "Taken", body = WebhookEndpointResource)),
    extensions(("x-permission" = json!("webhook_manage"))))]
async fn resend(
    State(state): State<AppState>,
    change: Change<may::WebhookManage>,
    Id(id): Id<WebhookEndpointId>,
    body: Json<ResendInput>,
) -> Result<Response, Problem> {
    let range = match (body.value.event_id, body.value.after, body.value.until) {
        (Some(event_id), None, None) => {
            let scope = change.principal().read_scope();
            let mut found = state.reads.event(&scope, event_id).await?.map(|event| event.pos);
            // By a name of before: only who was told of it knows it.
            if let (None, Some(tenant)) = (found, scope.tenant) {
                found = webhook_deliveries::position_of(&state.app_pool, (tenant, id), event_id)
                    .await
                    .map_err(|error| Problem::unavailable(&error))?;
            }
            let position = found.ok_or_else(|| Problem::missing(event_missing()))?;
            ResendRequested { after: position.saturating_sub(1), until: Some(position) }
        }
        (None, Some(after), Some(until)) if until <= after => {
            return Err(Problem::new(Kind::BodyInvalid, "until must lie behind after: events after the one are sent, up to the other"));
        }
        (None, Some(after), until) => ResendRequested { after, until },
        (Some(_), _, _) | (None, None, _) => {
            return Err(Problem::new(Kind::BodyInvalid, "either event_id, or after with or without until, is wanted"));
        }
    };
    run(&state, &change, id, &body.raw, 202, Command::Resend(range)).await
}

/// Delivers a test, whatever the filter says: the event `webhook_endpoint.test`.
#[utoipa::path(post, path = "/v1/webhook-endpoints/{id}/test", tag = "webhook-endpoints",
    params(("id" = String, Path, description = "`whe_…`")),
    responses((status = 202, description = "Taken", body = WebhookEndpointResource)),
    extensions(("x-permission" = json!("webhook_manage"))))]
async fn test(
    State(state): State<AppState>,
    change: Change<may::WebhookManage>,
    Id(id): Id<WebhookEndpointId>,
    _: NoBody,
) -> Result<Response, Problem> {
    run(&state, &change, id, &Value::Null, 202, Command::Test).await
}
