//! What is shown of payment intents: lists, one, the QR as a picture, and why one is as it is.

use std::collections::HashMap;

use axum::{extract::State, http::header, response::Response};
use chrono::{DateTime, Utc};
use commands::call_backs;
use domain::{
    envelope::{RecordedEvent, StreamType},
    ids::{AttemptId, BillId, PaymentIntentId, StoreId},
    payment_intent::{self, Status},
};
use projections::{
    explain::Seen,
    models::payments::{PaymentFilter, PaymentRow},
};
use serde::Deserialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    orders::status_filter,
    query::{Ask, Payments},
};
use crate::{
    auth::{Permission, may},
    extract::{Filter, Id},
    problem::{Kind, Problem},
    resources::{ListOf, PaymentIntentResource, Resource, payment_intent::status_of},
    state::AppState,
};

/// Side of one module of a QR picture.
const QR_PIXELS: usize = 8;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get)).routes(routes!(explain)).routes(routes!(qr_png)).routes(routes!(qr_svg))
}

/// Which payment intents.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct IntentQuery {
    /// Of this bill, `bill_…`.
    #[param(value_type = Option<String>)]
    bill_id: Option<BillId>,
    /// Of this store, `sto_…`.
    #[param(value_type = Option<String>)]
    store_id: Option<StoreId>,
    /// That its provider knows by this: our reference there, the provider's own name of the live or last attempt, or of the payment.
    provider_reference: Option<String>,
    /// `requires_payment_method`, `processing`, `requires_action`, `requires_capture`, `succeeded`, `canceled`, `expired` or `failed`.
    status: Option<String>,
    /// With, or without, money that did not close it and about which nobody has decided.
    unmatched: Option<bool>,
    /// With, or without, a need that someone looks.
    needs_attention: Option<bool>,
    /// Rows of a page, 1 to 200; 50 unless told.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// As the header `Smartpos-Min-Position`.
    pub min_pos: Option<i64>,
    /// As it was then: a log position, or an RFC 3339 time with its offset; `Smartpos-As-Of` answers the position.
    pub as_of: Option<String>,
}

/// Payment intents, newest first.
#[utoipa::path(get, path = "/v1/payment-intents", tag = "payment-intents", params(IntentQuery),
    responses((status = 200, description = "A page", body = ListOf<PaymentIntentResource>)),
    extensions(("x-permission" = json!("payment_read"))))]
async fn list(
    State(state): State<AppState>,
    ask: Ask<may::PaymentRead, Payments>,
    Filter(query): Filter<IntentQuery>,
) -> Result<Response, Problem> {
    let page = ask.page("payment-intents", query.limit, query.cursor.as_deref())?;
    let status = status_filter(query.status.as_ref(), status_of)?;
    let filter = PaymentFilter {
        store: query.store_id,
        bill: query.bill_id,
        provider_reference: query.provider_reference,
        status,
        needs_attention: query.needs_attention,
        unmatched: query.unmatched,
    };
    let rows = ask.reads.payments(&ask.scope, &filter, page).await?;
    let looks = next_looks(&ask, &state, &rows).await?;
    let show = |row: PaymentRow| {
        let shown = PaymentIntentResource::of(&row.document, row.stamp.version)?;
        Some(shown.as_read(&row, row.attempt_id.and_then(|id| looks.get(&id).copied())))
    };
    Ok(ask.list("payment-intents", page, rows, |row| row.stamp.opened_pos, show))
}

/// One payment intent.
#[utoipa::path(get, path = "/v1/payment-intents/{id}", tag = "payment-intents",
    params(("id" = String, Path, description = "`pi_…`")),
    responses((status = 200, description = "The payment intent", body = PaymentIntentResource)),
    extensions(("x-permission" = json!("payment_read"))))]
async fn get(
    State(state): State<AppState>,
    ask: Ask<may::PaymentRead, Payments>,
    Id(id): Id<PaymentIntentId>,
) -> Result<Response, Problem> {
    let mut row = ask.reads.payment(&ask.scope, id).await?;
    if row.is_none() && ask.may_have_come().await? {
        row = ask.reads.payment(&ask.scope, id).await?;
    }
    let looks = next_looks(&ask, &state, row.as_slice()).await?;
    let missing = payment_intent::Rejection::PaymentIntentNotFound;
    let Some(row) = row else { return Err(Problem::missing(missing)) };
    let next = row.attempt_id.and_then(|id| looks.get(&id).copied());
    let found = Some((&row.document, row.stamp.version));
    ask.anew(row.parked > 0).one_with(found, missing, |shown: PaymentIntentResource| shown.as_read(&row, next))
}

/// When the provider is asked next about these payments; nothing of the past.
async fn next_looks(
    ask: &Ask<may::PaymentRead, Payments>,
    state: &AppState,
    rows: &[PaymentRow],
) -> Result<HashMap<AttemptId, DateTime<Utc>>, Problem> {
    let open = rows.iter().filter(|row| matches!(row.status, Status::Processing | Status::RequiresAction));
    let attempts: Vec<AttemptId> = open.filter_map(|row| row.attempt_id).collect();
    match ask.scope.tenant.filter(|_| !ask.is_past() && !attempts.is_empty()) {
        Some(tenant) => call_backs::next_looks(&state.app_pool, tenant, &attempts).await.map_err(|error| Problem::unavailable(&error)),
        None => Ok(HashMap::new()),
    }
}

/// Lines of an explanation: calls of the API, events, exchanges with a provider, call-backs without effect, deliveries to webhook
/// endpoints.
#[derive(Debug, serde::Serialize, ToSchema)]
#[schema(as = Explanation)]
pub struct ExplanationResource {
    /// Lines in the order of the log, each with its `kind`: `request`, `event`, `exchange`, `call_back`, `delivery`. What is not of the log
    /// stands between the events by its time.
    #[schema(value_type = Vec<Object>)]
    data: Vec<Value>,
}

/// Why a payment is as it is: every event of it, its bill, order and refunds with actor and cause, the provider that was chosen and
/// why, what each moves between accounts (`postings`, which sum to zero), the calls of the API behind them, every exchange with the provider
/// (masked), the call-backs that came, also those that were refused, and what was delivered to the merchant's webhook endpoints. Of what
/// belongs to it the caller is told what it may read; with `as_of`, as much as there was then.
#[utoipa::path(get, path = "/v1/payment-intents/{id}/explain", tag = "payment-intents",
    params(("id" = String, Path, description = "`pi_…`")),
    responses((status = 200, description = "The whole timeline", body = ExplanationResource)),
    extensions(("x-permission" = json!("payment_read"))))]
async fn explain(
    State(state): State<AppState>,
    ask: Ask<may::PaymentRead, Payments>,
    Id(id): Id<PaymentIntentId>,
) -> Result<Response, Problem> {
    let missing = || Problem::missing(payment_intent::Rejection::PaymentIntentNotFound);
    // Who may see the payment may see why it is so; row-level security decides here, the log is read by another role: of what
    // belongs to the payment the caller is told what it could read by itself.
    ask.reads.payment(&ask.scope, id).await?.ok_or_else(missing)?;
    let sight = ask.sight.ok_or_else(missing)?;
    // What left for the merchant's endpoints is for those who manage them, and what anybody may have sent for those who may look at it.
    let (events, deliveries) = (|event: &RecordedEvent| sight.sees_event(event), sight.reads(StreamType::WebhookEndpoint));
    let call_backs = sight.allows(Permission::InboundWebhookRead);
    let seen = Seen { events, deliveries, call_backs, until: ask.past() };
    let explanation = projections::explain::explain(&state.log_pool, id, seen, |_, _| {}).await?;
    let data = explanation.lines.iter().map(projections::explain::Line::value).collect();
    Ok(ask.answer(axum::Json(ExplanationResource { data })))
}

/// The payload of the QR that is to be scanned now.
async fn qr_payload(ask: &Ask<may::PaymentRead, Payments>, id: PaymentIntentId) -> Result<String, Problem> {
    if ask.is_past() {
        return Err(Problem::new(Kind::ParameterInvalid, "as_of: a QR of the past is not to be scanned"));
    }
    let mut shown = shown_payload(ask, id).await?;
    if !matches!(shown, Some(Some(_))) && ask.may_have_come().await? {
        shown = shown_payload(ask, id).await?;
    }
    let payload = shown.ok_or_else(|| Problem::missing(payment_intent::Rejection::PaymentIntentNotFound))?;
    payload.ok_or_else(|| Problem::new(Kind::NotFound, "there is no QR to be scanned at the moment"))
}

/// The payload that the payment shows now, if there is such a payment.
async fn shown_payload(ask: &Ask<may::PaymentRead, Payments>, id: PaymentIntentId) -> Result<Option<Option<String>>, Problem> {
    let row = ask.reads.payment(&ask.scope, id).await?;
    let payload = |row: &PaymentRow| PaymentIntentResource::of(&row.document, row.stamp.version)?.next_action?.qr_payload;
    Ok(row.as_ref().map(payload))
}

/// The QR to be scanned, as a PNG picture with 8 pixels for the side of a module.
#[utoipa::path(get, path = "/v1/payment-intents/{id}/qr.png", tag = "payment-intents",
    params(("id" = String, Path, description = "`pi_…`")),
    responses((status = 200, description = "The picture", body = String, content_type = "image/png")),
    extensions(("x-permission" = json!("payment_read"))))]
async fn qr_png(ask: Ask<may::PaymentRead, Payments>, Id(id): Id<PaymentIntentId>) -> Result<Response, Problem> {
    let picture = gateway::qr_image::png(&qr_payload(&ask, id).await?, QR_PIXELS).map_err(|error| not_drawn(&error))?;
    Ok(ask.answer(([(header::CONTENT_TYPE, "image/png"), (header::CACHE_CONTROL, "no-store")], picture)))
}

/// The QR to be scanned, as an SVG picture.
#[utoipa::path(get, path = "/v1/payment-intents/{id}/qr.svg", tag = "payment-intents",
    params(("id" = String, Path, description = "`pi_…`")),
    responses((status = 200, description = "The picture", body = String, content_type = "image/svg+xml")),
    extensions(("x-permission" = json!("payment_read"))))]
async fn qr_svg(ask: Ask<may::PaymentRead, Payments>, Id(id): Id<PaymentIntentId>) -> Result<Response, Problem> {
    let picture = gateway::qr_image::svg(&qr_payload(&ask, id).await?).map_err(|error| not_drawn(&error))?;
    Ok(ask.answer(([(header::CONTENT_TYPE, "image/svg+xml"), (header::CACHE_CONTROL, "no-store")], picture)))
}

/// A payload that the provider gave and that fits no QR code.
fn not_drawn(error: &gateway::qr_image::QrImageError) -> Problem {
    Problem::new(Kind::NotFound, format!("the QR cannot be drawn: {error}"))
}
