//! `/v1/webhook-endpoints`: where a merchant is told what happens. Deliveries stand in `webhook_deliveries.rs`.

use axum::{extract::State, response::Response};
use commands::{
    error::CommandError,
    handle::{Reply, UnitOfWork},
    idempotency::Answer,
    webhook_endpoints::{self, CREATED_MEANWHILE},
};
use domain::{
    ids::WebhookEndpointId,
    webhook_endpoint::{self, Command, Details, DisableReason, MOST_ENDPOINTS, Rejection, WebhookEndpoint},
};
use gateway::outbound::{Secret, check_url};
use serde::Deserialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    command::{Change, respond, shown},
    query::{Ask, Events},
};
use crate::{
    auth::may,
    extract::{Filter, Id, Json, MaybeJson, NoBody},
    problem::Problem,
    resources::{ListOf, Resource, WebhookEndpointResource},
    state::AppState,
};

pub(super) const COLLECTION: &str = "/v1/webhook-endpoints";

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(get, modify, remove))
        .routes(routes!(rotate_secret))
        .routes(routes!(enable))
        .routes(routes!(disable))
}

/// What an endpoint is to be like. `events` is a text: types and groups, separated by commas.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointInput {
    /// Where deliveries go: https, a public address.
    #[schema(examples("https://shop.example/hooks"))]
    url: String,
    /// Which events: types and groups, separated by commas; `*` is all.
    #[schema(examples("payment_intent.*,refund.succeeded"))]
    events: String,
    /// For people.
    description: Option<String>,
}

impl EndpointInput {
    fn details(self, state: &AppState) -> Result<Details, Problem> {
        let refused = |reason: String| Problem::from(CommandError::Rejected(Rejection::UrlInvalid { reason }.into()));
        check_url(&self.url, state.webhook_addresses).map_err(|error| refused(error.to_string()))?;
        let events = self.events.split(',').map(|text| text.trim().to_owned()).collect();
        Ok(Details { url: self.url, events, description: self.description })
    }
}

pub(super) fn answer(
    unit: &UnitOfWork,
    state: &webhook_endpoint::State,
    status: u16,
    id: WebhookEndpointId,
) -> Result<Reply, CommandError> {
    unit.reply::<WebhookEndpoint>(status, id, &shown(WebhookEndpointResource::of(state, unit.version::<WebhookEndpoint>(id)))?)
}

/// The secret goes into the answer on its way out: what is kept of an answer does not have it.
fn with_secret(mut answer: Answer, secret: &Secret) -> Answer {
    if !answer.replayed
        && let Ok(Value::Object(mut fields)) = serde_json::from_slice::<Value>(&answer.body)
    {
        fields.insert("secret".to_owned(), Value::String(secret.reveal()));
        answer.body = Value::Object(fields).to_string().into_bytes();
    }
    answer
}

fn fresh(bytes: &[u8]) -> Result<Secret, Problem> {
    Secret::new(bytes.to_vec()).map_err(|error| Problem::internal(&error))
}

/// Creates an endpoint; a merchant has at most 16. The first answer, and no other, holds its `secret`.
#[utoipa::path(post, path = "/v1/webhook-endpoints", tag = "webhook-endpoints", request_body = EndpointInput,
    responses((status = 201, description = "Created", body = WebhookEndpointResource)),
    extensions(("x-permission" = json!("webhook_manage"))))]
async fn create(State(state): State<AppState>, change: Change<may::WebhookManage>, body: Json<EndpointInput>) -> Result<Response, Problem> {
    let (keyring, caller) = (state.keyring()?, change.caller(&body.raw)?);
    let details = body.value.details(&state)?;
    // One endpoint and one secret for all attempts of this request.
    let (id, bytes) = (WebhookEndpointId(state.ids.next()), keyring.fresh_secret());
    let mut tries_left = MOST_ENDPOINTS;
    let made = loop {
        let work = state.commands.transact(&caller, |unit| {
            let (pool, keyring, details, bytes) = (state.app_pool.clone(), keyring.clone(), details.clone(), bytes.clone());
            Box::pin(async move {
                let endpoint = webhook_endpoints::create(unit, &pool, &keyring, id, details, bytes.as_ref()).await?;
                answer(unit, &endpoint, 201, id)
            })
        });
        match work.await {
            Err(CommandError::Rejected(refused)) if refused.message == CREATED_MEANWHILE && tries_left > 0 => tries_left -= 1,
            other => break other?,
        }
    };
    Ok(respond(with_secret(made, &fresh(bytes.as_ref())?), COLLECTION))
}

/// How a secret is rotated.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateSecret {
    /// The secret before it signs as well for 24 hours; `true` unless told. `false` drops all earlier ones at once, for a secret that
    /// got into wrong hands.
    pub(super) keep_previous: Option<bool>,
}

/// Makes a new secret; the one before it signs as well for 24 hours, during which a further rotation is refused (409) unless it keeps
/// nothing. The first answer, and no other, holds the new one.
#[utoipa::path(post, path = "/v1/webhook-endpoints/{id}/rotate-secret", tag = "webhook-endpoints", request_body = Option<RotateSecret>,
    params(("id" = String, Path, description = "`whe_…`")),
    responses((status = 200, description = "Rotated", body = WebhookEndpointResource)),
    extensions(("x-permission" = json!("webhook_manage"))))]
async fn rotate_secret(
    State(state): State<AppState>,
    change: Change<may::WebhookManage>,
    Id(id): Id<WebhookEndpointId>,
    MaybeJson(body): MaybeJson<RotateSecret>,
) -> Result<Response, Problem> {
    let (keyring, caller) = (state.keyring()?, change.caller(&body.raw)?);
    let (bytes, keep_previous) = (keyring.fresh_secret(), body.value.keep_previous.unwrap_or(true));
    let work = state.commands.transact(&caller, |unit| {
        let (keyring, bytes) = (keyring.clone(), bytes.clone());
        Box::pin(async move {
            unit.check_if_match::<WebhookEndpoint>(id).await?;
            let endpoint = webhook_endpoints::rotate_secret(unit, &keyring, id, bytes.as_ref(), keep_previous).await?;
            answer(unit, &endpoint, 200, id)
        })
    });
    Ok(respond(with_secret(work.await?, &fresh(bytes.as_ref())?), COLLECTION))
}

/// Runs one command on one endpoint.
pub(super) async fn run(
    state: &AppState,
    change: &Change<may::WebhookManage>,
    id: WebhookEndpointId,
    body: &Value,
    status: u16,
    command: Command,
) -> Result<Response, Problem> {
    let caller = change.caller(body)?;
    let work = state.commands.transact(&caller, |unit| {
        let command = command.clone();
        Box::pin(async move {
            unit.check_if_match::<WebhookEndpoint>(id).await?;
            let endpoint = webhook_endpoints::change(unit, id, command).await?;
            answer(unit, &endpoint, status, id)
        })
    });
    Ok(respond(work.await?, COLLECTION))
}

/// Replaces address, filter and description.
#[utoipa::path(patch, path = "/v1/webhook-endpoints/{id}", tag = "webhook-endpoints", request_body = EndpointInput,
    params(("id" = String, Path, description = "`whe_…`")),
    responses((status = 200, description = "Changed", body = WebhookEndpointResource)),
    extensions(("x-permission" = json!("webhook_manage"))))]
async fn modify(
    State(state): State<AppState>,
    change: Change<may::WebhookManage>,
    Id(id): Id<WebhookEndpointId>,
    body: Json<EndpointInput>,
) -> Result<Response, Problem> {
    let details = body.value.details(&state)?;
    run(&state, &change, id, &body.raw, 200, Command::Update(details)).await
}

/// Removes an endpoint for good and destroys its secrets.
#[utoipa::path(delete, path = "/v1/webhook-endpoints/{id}", tag = "webhook-endpoints",
    params(("id" = String, Path, description = "`whe_…`")),
    responses((status = 200, description = "Removed", body = WebhookEndpointResource)),
    extensions(("x-permission" = json!("webhook_manage"))))]
async fn remove(
    State(state): State<AppState>,
    change: Change<may::WebhookManage>,
    Id(id): Id<WebhookEndpointId>,
) -> Result<Response, Problem> {
    run(&state, &change, id, &Value::Null, 200, Command::Delete).await
}

/// Goes on with deliveries where they stopped.
#[utoipa::path(post, path = "/v1/webhook-endpoints/{id}/enable", tag = "webhook-endpoints",
    params(("id" = String, Path, description = "`whe_…`")),
    responses((status = 200, description = "Enabled", body = WebhookEndpointResource)),
    extensions(("x-permission" = json!("webhook_manage"))))]
async fn enable(
    State(state): State<AppState>,
    change: Change<may::WebhookManage>,
    Id(id): Id<WebhookEndpointId>,
    _: NoBody,
) -> Result<Response, Problem> {
    run(&state, &change, id, &Value::Null, 200, Command::Enable).await
}

/// Stops deliveries; nothing is lost meanwhile.
#[utoipa::path(post, path = "/v1/webhook-endpoints/{id}/disable", tag = "webhook-endpoints",
    params(("id" = String, Path, description = "`whe_…`")),
    responses((status = 200, description = "Disabled", body = WebhookEndpointResource)),
    extensions(("x-permission" = json!("webhook_manage"))))]
async fn disable(
    State(state): State<AppState>,
    change: Change<may::WebhookManage>,
    Id(id): Id<WebhookEndpointId>,
    _: NoBody,
) -> Result<Response, Problem> {
    run(&state, &change, id, &Value::Null, 200, Command::Disable(DisableReason::Requested)).await
}

/// Which endpoints.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EndpointQuery {
    /// Rows of a page, 1 to 200; 50 unless told.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// As the header `Smartpos-Min-Position`.
    pub min_pos: Option<i64>,
    /// As it was then: a log position, or an RFC 3339 time with its offset; `Smartpos-As-Of` answers the position.
    pub as_of: Option<String>,
}

/// Endpoints, newest first.
#[utoipa::path(get, path = "/v1/webhook-endpoints", tag = "webhook-endpoints", params(EndpointQuery),
    responses((status = 200, description = "A page", body = ListOf<WebhookEndpointResource>)),
    extensions(("x-permission" = json!("webhook_manage"))))]
async fn list(ask: Ask<may::WebhookManage, Events>, Filter(query): Filter<EndpointQuery>) -> Result<Response, Problem> {
    let page = ask.page("webhook_endpoints", query.limit, query.cursor.as_deref())?;
    let rows = ask.reads.webhook_endpoints(&ask.scope, page).await?;
    let show = |row: projections::models::events::WebhookEndpointRow| WebhookEndpointResource::of(&row.document, row.stamp.version);
    Ok(ask.list("webhook_endpoints", page, rows, |row| row.stamp.opened_pos, show))
}

/// One endpoint.
#[utoipa::path(get, path = "/v1/webhook-endpoints/{id}", tag = "webhook-endpoints",
    params(("id" = String, Path, description = "`whe_…`")),
    responses((status = 200, description = "The endpoint", body = WebhookEndpointResource)),
    extensions(("x-permission" = json!("webhook_manage"))))]
async fn get(ask: Ask<may::WebhookManage, Events>, Id(id): Id<WebhookEndpointId>) -> Result<Response, Problem> {
    let row = ask.reads.webhook_endpoint(&ask.scope, id).await?;
    let found = row.as_ref().map(|row| (&row.document, row.stamp.version));
    ask.one::<_, WebhookEndpointResource>(found, Rejection::WebhookEndpointNotFound)
}
