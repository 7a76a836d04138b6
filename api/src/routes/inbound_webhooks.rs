//! `/v1/inbound-webhooks`: the call-backs that providers sent, for people: what was parked, refused or not confirmed, and having
//! them looked into again once the cause is mended. Their bodies are not shown: they hold what a payer's bank says of the payer.

use axum::{
    Json as JsonBody,
    extract::State,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use commands::{
    event_store::ulid_of,
    webhooks::{self, Reprocess, Stored, WebhookFilter},
};
use domain::{
    ids::{MerchantId, WebhookId},
    provider::{RawWebhook, WebhookHint},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::webhooks::Door;
use crate::{
    auth::{Allowed, may},
    extract::{Filter, Id, Json, NoBody, moment::Moment},
    problem::{Kind, Problem},
    resources::ListOf,
    state::AppState,
};

/// Most call-backs looked into again by one request.
const MOST: i64 = 200;
const STATES: [&str; 5] = ["received", "parked", "done", "unconfirmed", "refused"];

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(reprocess)).routes(routes!(reprocess_all))
}

/// A call-back of a provider.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InboundWebhook)]
pub struct InboundWebhookResource {
    /// `whk_…`.
    id: String,
    /// The provider.
    provider: String,
    /// `pac_…`, or the provider's name for the platform's own account.
    account: String,
    /// What it proved when it came: `ok`, `bad` or `stale` (`malformed` of old ones).
    signature: String,
    /// `received`, `parked` (names a payment that nobody here knows, or could not be read, which `problem` says), `done`, `unconfirmed` (the provider's books do not show
    /// what it spoke of) or `refused`.
    state: String,
    /// The provider's name for the delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery_id: Option<String>,
    /// Our reference of the attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    /// The provider's name for the attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    provider_id: Option<String>,
    /// The money that it speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction_id: Option<String>,
    /// Why it was refused; `malformed: …` where its sender is proven, but it could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// When it came first.
    #[schema(value_type = String, format = DateTime)]
    received_at: DateTime<Utc>,
    /// How often it came.
    deliveries: i32,
    /// Size of its body.
    bytes: i32,
    /// Its place among all; ranges go by it.
    position: i64,
    /// Who had it looked into once more; the newest twenty, oldest first.
    reprocesses: Vec<ReprocessResource>,
}

/// A call-back was looked into once more.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InboundWebhookReprocess)]
pub struct ReprocessResource {
    /// When, UTC.
    #[schema(value_type = String, format = DateTime)]
    at: DateTime<Utc>,
    /// Who wanted it, as in the log.
    by: String,
    /// It was taken up.
    taken: bool,
}

impl From<Stored> for InboundWebhookResource {
    fn from(stored: Stored) -> Self {
        let id = WebhookId(ulid_of(stored.id)).to_string();
        let Stored { provider, account, signature, state, delivery_id, reference, provider_id, transaction_id, .. } = stored;
        let Stored { problem, received_at, deliveries, bytes, place: position, reprocesses, .. } = stored;
        let reprocesses = reprocesses.0.into_iter().map(|Reprocess { at, by, taken }| ReprocessResource { at, by, taken }).collect();
        Self {
            id,
            provider,
            account,
            signature,
            state,
            delivery_id,
            reference,
            provider_id,
            transaction_id,
            problem,
            received_at,
            deliveries,
            bytes,
            position,
            reprocesses,
        }
    }
}

/// Which call-backs.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct InboundWebhookQuery {
    /// `received`, `parked`, `done`, `unconfirmed` or `refused`.
    state: Option<String>,
    /// Of this account: `pac_…`, or a provider's name.
    account: Option<String>,
    /// Rows of a page, 1 to 200; 50 unless told.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

fn known_state(state: Option<String>) -> Result<Option<String>, Problem> {
    match state {
        Some(state) if !STATES.contains(&state.as_str()) => {
            Err(Problem::new(Kind::ParameterInvalid, format!("state must be one of {}", STATES.join(", "))))
        }
        state => Ok(state),
    }
}

/// Call-backs, newest first: a merchant's own, or, for those who run the platform, what belongs to no merchant.
#[utoipa::path(get, path = "/v1/inbound-webhooks", tag = "inbound-webhooks", params(InboundWebhookQuery),
    responses((status = 200, description = "A page", body = ListOf<InboundWebhookResource>)),
    extensions(("x-permission" = json!("inbound_webhook_read"))))]
async fn list(
    State(state): State<AppState>,
    allowed: Allowed<may::InboundWebhookRead>,
    Filter(query): Filter<InboundWebhookQuery>,
) -> Result<Response, Problem> {
    let tenant = allowed.principal.merchant;
    let limit = query.limit.unwrap_or(50);
    if !(1..=200).contains(&limit) {
        return Err(Problem::new(Kind::ParameterInvalid, "limit must be 1 to 200"));
    }
    let before = query.cursor.map(|text| text.parse::<i64>().map_err(|_| Problem::plain(Kind::CursorInvalid))).transpose()?;
    let filter = WebhookFilter { state: known_state(query.state)?, account: query.account, ..WebhookFilter::default() };
    let rows = webhooks::list(&state.app_pool, tenant, &filter, before, limit).await.map_err(|error| Problem::unavailable(&error))?;
    let full = i64::try_from(rows.len()).is_ok_and(|count| count >= limit);
    let next_cursor = rows.last().filter(|_| full).map(|row| row.place.to_string());
    let data: Vec<InboundWebhookResource> = rows.into_iter().map(Into::into).collect();
    Ok(JsonBody(ListOf { data, next_cursor }).into_response())
}

/// Looks into a call-back once more: what it says as it is read today, its payment by what is known today; where its sender was not proven,
/// its signature by the secrets of today.
#[utoipa::path(post, path = "/v1/inbound-webhooks/{id}/reprocess", tag = "inbound-webhooks",
    params(("id" = String, Path, description = "`whk_…`")),
    responses((status = 200, description = "It is looked into", body = InboundWebhookResource)),
    extensions(("x-permission" = json!("inbound_webhook_reprocess"))))]
async fn reprocess(
    State(state): State<AppState>,
    allowed: Allowed<may::InboundWebhookReprocess>,
    Id(id): Id<WebhookId>,
    _: NoBody,
) -> Result<Response, Problem> {
    let tenant = allowed.principal.merchant;
    if !again(&state, tenant, id, &allowed.principal.actor()).await? {
        return Err(Problem::new(
            Kind::WebhookRefused,
            "it still does not prove its sender or cannot be read, or is another one that was taken already",
        ));
    }
    let found = webhooks::find(&state.app_pool, tenant, id).await.map_err(|error| Problem::unavailable(&error))?;
    let found = found.ok_or_else(|| Problem::plain(Kind::NotFound))?;
    Ok(JsonBody(InboundWebhookResource::from(found.stored)).into_response())
}

/// Which call-backs are to be looked into again.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReprocessInput {
    /// `parked`, `unconfirmed` or `refused`.
    state: String,
    /// Of this account only.
    account: Option<String>,
    /// Of this provider only, whichever account.
    provider: Option<String>,
    /// Not received before, UTC.
    #[schema(value_type = Option<String>, format = DateTime)]
    from: Option<Moment>,
    /// Not received after, UTC.
    #[schema(value_type = Option<String>, format = DateTime)]
    to: Option<Moment>,
    /// From this `position` on.
    from_position: Option<i64>,
    /// Up to this `position`.
    to_position: Option<i64>,
    /// Continues an earlier answer's `next_cursor`.
    cursor: Option<i64>,
}

/// How many were looked into.
#[derive(Debug, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the word of the route")]
pub struct Reprocessed {
    /// Taken up again.
    reprocessed: usize,
    /// Still refused, taken already, or of an account that cannot be asked any more.
    left: usize,
    /// For the next request; nothing when all were looked at.
    next_cursor: Option<i64>,
}

/// Looks into many call-backs once more, newest first, at most 200 at a time.
#[utoipa::path(post, path = "/v1/inbound-webhooks/reprocess", tag = "inbound-webhooks", request_body = ReprocessInput,
    responses((status = 200, description = "How many", body = Reprocessed)),
    extensions(("x-permission" = json!("inbound_webhook_reprocess"))))]
async fn reprocess_all(
    State(state): State<AppState>,
    allowed: Allowed<may::InboundWebhookReprocess>,
    body: Json<ReprocessInput>,
) -> Result<Response, Problem> {
    let tenant = allowed.principal.merchant;
    let ReprocessInput { state: wanted, account, provider, from, to, from_position: first, to_position: last, cursor } = body.value;
    let [from, to] = [from, to].map(|end| end.map(|Moment(at)| at));
    if !["parked", "unconfirmed", "refused"].contains(&wanted.as_str()) {
        return Err(Problem::new(Kind::RuleBroken, "state must be parked, unconfirmed or refused"));
    }
    let backwards = from.zip(to).is_some_and(|(from, to)| to < from) || first.zip(last).is_some_and(|(first, last)| last < first);
    if backwards {
        return Err(Problem::new(Kind::RuleBroken, "the end of a range must not lie before its beginning"));
    }
    let filter = WebhookFilter { state: Some(wanted), account, provider, from, to, first, last };
    let rows = webhooks::list(&state.app_pool, tenant, &filter, cursor, MOST).await.map_err(|error| Problem::unavailable(&error))?;
    let full = i64::try_from(rows.len()).is_ok_and(|count| count >= MOST);
    let next_cursor = rows.last().filter(|_| full).map(|row| row.place);
    let actor = allowed.principal.actor();
    let (mut reprocessed, mut left) = (0, 0);
    for row in rows {
        let taken = match again(&state, tenant, WebhookId(ulid_of(row.id)), &actor).await {
            Ok(taken) => taken,
            Err(problem) if problem.kind().is_retryable() => return Err(problem),
            // What cannot be looked into at all stands in the way of none that can.
            Err(_) => false,
        };
        *(if taken { &mut reprocessed } else { &mut left }) += 1;
    }
    Ok(JsonBody(Reprocessed { reprocessed, left, next_cursor }).into_response())
}

/// True when the call-back is looked into again.
async fn again(state: &AppState, tenant: Option<MerchantId>, id: WebhookId, actor: &str) -> Result<bool, Problem> {
    let unavailable = |error: sqlx::Error| Problem::unavailable(&error);
    let found = webhooks::find(&state.app_pool, tenant, id).await.map_err(unavailable)?;
    let original = found.ok_or_else(|| Problem::plain(Kind::NotFound))?;
    let door = Door::of(state, &original.stored.account).await?;
    let received_at = original.stored.received_at;
    // What proved its sender when it came need not do so again: a secret path is not kept, and secrets change.
    let proven = original.stored.is_proven();
    let raw = RawWebhook { proven, path_secret: None, headers: &original.headers.0, body: &original.body, received_at };
    let (pool, stored, now) = (&state.app_pool, &original.stored, state.clock.now());
    // A body is kept with what looks like a card number masked, and a transaction's own number may: then what was read when it came is whole.
    let whole =
        |hint: &WebhookHint| ![Some(&hint.delivery_id), hint.transaction_id.as_ref()].into_iter().flatten().any(|id| id.contains('*'));
    let read = door.read(&raw).ok();
    let Some(hint) = read.filter(|read| whole(read) || stored.hint().is_none()).or_else(|| stored.hint()) else {
        webhooks::note(pool, tenant, stored, actor, now).await.map_err(unavailable)?;
        return Ok(false);
    };
    webhooks::reopen(pool, tenant, stored, &hint, actor, now).await.map_err(unavailable)
}
