//! `/v1/refunds` and `/v1/payments/{id}/refund`: money given back.

use axum::{extract::State, response::Response};
use commands::{
    refund_findings,
    refunds::{self, NewRefund},
};
use domain::{
    ids::{BillId, PaymentId, RefundId, StoreId},
    money::Money,
    payment_intent::PaymentIntent,
    refund::{self, Destination, Refund},
};
use projections::models::refunds::RefundFilter;
use serde::Deserialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    command::{Change, respond, shown, within},
    orders::status_filter,
    query::{Ask, Refunds},
};
use crate::{
    auth::may,
    extract::{Filter, Id, Json},
    problem::Problem,
    resources::{ListOf, MoneySchema, RefundResource, Resource, refund::status_of},
    state::AppState,
};

const COLLECTION: &str = "/v1/refunds";

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(request, list)).routes(routes!(get)).routes(routes!(resolve)).routes(routes!(refund_payment))
}

/// A refund to be made.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestRefund {
    /// `pay_…`.
    #[schema(value_type = String)]
    payment_id: PaymentId,
    /// How much; all that can still be given back unless told.
    #[schema(value_type = Option<MoneySchema>)]
    amount: Option<Money>,
    /// `original` (unless told): the way it came; `cash`: out of the drawer.
    #[serde(default = "original")]
    #[schema(value_type = Option<String>)]
    destination: Destination,
    /// 1 to 200 characters.
    reason: String,
    /// `ref_…`: a refund of the same payment that failed, which this one follows up; only so a card is given back in cash.
    #[schema(value_type = Option<String>)]
    fallback_of: Option<RefundId>,
}

/// A refund of the payment in the path.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefundPayment {
    /// How much; all that can still be given back unless told.
    #[schema(value_type = Option<MoneySchema>)]
    amount: Option<Money>,
    /// `original` (unless told): the way it came; `cash`: out of the drawer.
    #[serde(default = "original")]
    #[schema(value_type = Option<String>)]
    destination: Destination,
    /// 1 to 200 characters.
    reason: String,
    /// `ref_…`: a refund of the same payment that failed, which this one follows up; only so a card is given back in cash.
    #[schema(value_type = Option<String>)]
    fallback_of: Option<RefundId>,
}

/// What a statement shows of a refund.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolveRefund {
    /// `sent`: the money went back. `not_sent`: it did not.
    outcome: RefundOutcome,
    /// The statement and its line that show it, or the statement that lacks it; 1 to 200 characters.
    statement_reference: String,
}

/// Whether the money of a refund went back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RefundOutcome {
    /// It went back.
    Sent,
    /// It did not.
    NotSent,
}

fn original() -> Destination {
    Destination::Original
}

/// Gives money back out of a captured payment.
#[utoipa::path(post, path = "/v1/refunds", tag = "refunds", request_body = RequestRefund,
    responses((status = 201, description = "Given back, or the provider is being asked", body = RefundResource)),
    extensions(("x-permission" = json!("refund_request"))))]
async fn request(
    State(state): State<AppState>,
    change: Change<may::RefundRequest>,
    body: Json<RequestRefund>,
) -> Result<Response, Problem> {
    give_back(&state, &change, &body.raw, body.value).await
}

/// Gives money back out of this payment.
#[utoipa::path(post, path = "/v1/payments/{id}/refund", tag = "refunds", request_body = RefundPayment,
    params(("id" = String, Path, description = "`pay_…`")),
    responses((status = 201, description = "Given back, or the provider is being asked", body = RefundResource)),
    extensions(("x-permission" = json!("refund_request"))))]
async fn refund_payment(
    State(state): State<AppState>,
    change: Change<may::RefundRequest>,
    Id(payment_id): Id<PaymentId>,
    body: Json<RefundPayment>,
) -> Result<Response, Problem> {
    let RefundPayment { amount, destination, reason, fallback_of } = body.value;
    give_back(&state, &change, &body.raw, RequestRefund { payment_id, amount, destination, reason, fallback_of }).await
}

async fn give_back(state: &AppState, change: &Change<may::RefundRequest>, body: &Value, input: RequestRefund) -> Result<Response, Problem> {
    let only = change.only_store();
    let caller = change.caller(body)?;
    let work = state.commands.transact(&caller, |unit| {
        let input = input.clone();
        Box::pin(async move {
            let payment_intent_id = input.payment_id.intent_id();
            within::<PaymentIntent>(unit, only, payment_intent_id).await?;
            unit.check_if_match::<PaymentIntent>(payment_intent_id).await?;
            let refund_id: RefundId = unit.next_id();
            let new = NewRefund {
                refund_id,
                payment_intent_id,
                amount: input.amount,
                destination: input.destination,
                reason: input.reason,
                given_at: None,
                breakdown: None,
                fallback_of: input.fallback_of,
            };
            let refund = refunds::request(unit, new).await?;
            unit.reply::<Refund>(201, refund_id, &shown(RefundResource::of(&refund, unit.version::<Refund>(refund_id)))?)
        })
    });
    Ok(respond(work.await?, COLLECTION))
}

/// Says, out of a statement, how a refund ended whose provider does not tell.
#[utoipa::path(post, path = "/v1/refunds/{id}/resolve", tag = "refunds", request_body = ResolveRefund,
    params(("id" = String, Path, description = "`ref_…`")),
    responses((status = 200, description = "Resolved by the caller's word", body = RefundResource)),
    extensions(("x-permission" = json!("refund_request"))))]
async fn resolve(
    State(state): State<AppState>,
    change: Change<may::RefundRequest>,
    Id(refund_id): Id<RefundId>,
    body: Json<ResolveRefund>,
) -> Result<Response, Problem> {
    let (only, caller) = (change.only_store(), change.caller(&body.raw)?);
    let ResolveRefund { outcome, statement_reference } = body.value;
    let work = state.commands.transact(&caller, |unit| {
        let reference = statement_reference.clone();
        Box::pin(async move {
            unit.reaches_only(only);
            within::<Refund>(unit, only, refund_id).await?;
            let refund = refund_findings::resolve_by_person(unit, refund_id, outcome == RefundOutcome::Sent, reference).await?;
            unit.reply::<Refund>(200, refund_id, &shown(RefundResource::of(&refund, unit.version::<Refund>(refund_id)))?)
        })
    });
    Ok(respond(work.await?, COLLECTION))
}

/// Which refunds.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RefundQuery {
    /// Out of this payment, `pay_…`.
    #[param(value_type = Option<String>)]
    payment_id: Option<PaymentId>,
    /// Of this bill, `bill_…`.
    #[param(value_type = Option<String>)]
    bill_id: Option<BillId>,
    /// Of this store, `sto_…`.
    #[param(value_type = Option<String>)]
    store_id: Option<StoreId>,
    /// `pending`, `succeeded` or `failed`.
    status: Option<String>,
    /// With, or without, somebody having to look: the provider does not say how it stands.
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

/// Refunds, newest first.
#[utoipa::path(get, path = "/v1/refunds", tag = "refunds", params(RefundQuery),
    responses((status = 200, description = "A page", body = ListOf<RefundResource>)),
    extensions(("x-permission" = json!("refund_read"))))]
async fn list(ask: Ask<may::RefundRead, Refunds>, Filter(query): Filter<RefundQuery>) -> Result<Response, Problem> {
    let page = ask.page("refunds", query.limit, query.cursor.as_deref())?;
    let filter = RefundFilter {
        store: query.store_id,
        payment_intent: query.payment_id.map(PaymentId::intent_id),
        bill: query.bill_id,
        status: status_filter(query.status.as_ref(), status_of)?,
        needs_attention: query.needs_attention,
    };
    let rows = ask.reads.refunds(&ask.scope, &filter, page).await?;
    Ok(ask.list("refunds", page, rows, |row| row.stamp.opened_pos, |row| RefundResource::of(&row.document, row.stamp.version)))
}

/// One refund.
#[utoipa::path(get, path = "/v1/refunds/{id}", tag = "refunds", params(("id" = String, Path, description = "`ref_…`")),
    responses((status = 200, description = "The refund", body = RefundResource)),
    extensions(("x-permission" = json!("refund_read"))))]
async fn get(ask: Ask<may::RefundRead, Refunds>, Id(refund_id): Id<RefundId>) -> Result<Response, Problem> {
    let row = ask.reads.refund(&ask.scope, refund_id).await?;
    let found = row.as_ref().map(|row| (&row.document, row.stamp.version));
    ask.one::<_, RefundResource>(found, refund::Rejection::RefundNotFound)
}
