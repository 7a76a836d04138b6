//! `/v1/bills`: requests for payment, made from orders.

use axum::{extract::State, response::Response};
use commands::bills;
use domain::{
    bill::{self, Bill},
    ids::{BillId, OrderId, StoreId},
    order::Order,
};
use projections::models::bills::BillFilter;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    command::{Change, respond, shown, within},
    orders::{ReasonInput, status_filter},
    query::{Ask, Bills},
};
use crate::{
    auth::may,
    extract::{Filter, Id, Json},
    problem::Problem,
    resources::{BillResource, ListOf, Resource, bill::status_of},
    state::AppState,
};

const COLLECTION: &str = "/v1/bills";

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(issue, list)).routes(routes!(get)).routes(routes!(void))
}

/// Which order is billed.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IssueBill {
    /// `ord_…`; `If-Match` may name its version.
    #[schema(value_type = String)]
    order_id: OrderId,
}

/// Bills an order: freezes its lines and issues the bill.
#[utoipa::path(post, path = "/v1/bills", tag = "bills", request_body = IssueBill,
    responses((status = 201, description = "Issued", body = BillResource)),
    extensions(("x-permission" = json!("bill_write"))))]
async fn issue(State(state): State<AppState>, change: Change<may::BillWrite>, body: Json<IssueBill>) -> Result<Response, Problem> {
    let only = change.only_store();
    let order_id = body.value.order_id;
    let caller = change.caller(&body.raw)?;
    let work = state.commands.transact(&caller, |unit| {
        Box::pin(async move {
            within::<Order>(unit, only, order_id).await?;
            let bill_id: BillId = unit.next_id();
            let bill = bills::issue(unit, order_id, bill_id).await?;
            unit.reply::<Bill>(201, bill_id, &shown(BillResource::of(&bill, unit.version::<Bill>(bill_id)))?)
        })
    });
    Ok(respond(work.await?, COLLECTION))
}

/// Voids a bill without money on it and reopens its orders.
#[utoipa::path(post, path = "/v1/bills/{id}/void", tag = "bills", request_body = ReasonInput,
    params(("id" = String, Path, description = "`bill_…`")),
    responses((status = 200, description = "Cancelled", body = BillResource)),
    extensions(("x-permission" = json!("bill_write"))))]
async fn void(
    State(state): State<AppState>,
    change: Change<may::BillWrite>,
    Id(bill_id): Id<BillId>,
    body: Json<ReasonInput>,
) -> Result<Response, Problem> {
    let only = change.only_store();
    let reason = body.value.reason;
    let caller = change.caller(&body.raw)?;
    let work = state.commands.transact(&caller, |unit| {
        let reason = reason.clone();
        Box::pin(async move {
            within::<Bill>(unit, only, bill_id).await?;
            let bill = bills::void(unit, bill_id, reason).await?;
            unit.reply::<Bill>(200, bill_id, &shown(BillResource::of(&bill, unit.version::<Bill>(bill_id)))?)
        })
    });
    Ok(respond(work.await?, COLLECTION))
}

/// Which bills.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BillQuery {
    /// With this order on it, `ord_…`.
    #[param(value_type = Option<String>)]
    order_id: Option<OrderId>,
    /// Of this store, `sto_…`.
    #[param(value_type = Option<String>)]
    store_id: Option<StoreId>,
    /// `pending`, `partially_paid`, `paid`, `cancelled` or `written_off`.
    status: Option<String>,
    /// Rows of a page, 1 to 200; 50 unless told.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// As the header `Smartpos-Min-Position`.
    pub min_pos: Option<i64>,
    /// As it was then: a log position, or an RFC 3339 time with its offset; `Smartpos-As-Of` answers the position.
    pub as_of: Option<String>,
}

/// Bills, newest first.
#[utoipa::path(get, path = "/v1/bills", tag = "bills", params(BillQuery),
    responses((status = 200, description = "A page", body = ListOf<BillResource>)),
    extensions(("x-permission" = json!("bill_read"))))]
async fn list(ask: Ask<may::BillRead, Bills>, Filter(query): Filter<BillQuery>) -> Result<Response, Problem> {
    let page = ask.page("bills", query.limit, query.cursor.as_deref())?;
    let status = status_filter(query.status.as_ref(), status_of)?;
    let filter = BillFilter { store: query.store_id, order: query.order_id, status };
    let rows = ask.reads.bills(&ask.scope, &filter, page).await?;
    Ok(ask.list("bills", page, rows, |row| row.stamp.opened_pos, |row| BillResource::of(&row.document, row.stamp.version)))
}

/// One bill.
#[utoipa::path(get, path = "/v1/bills/{id}", tag = "bills", params(("id" = String, Path, description = "`bill_…`")),
    responses((status = 200, description = "The bill", body = BillResource)),
    extensions(("x-permission" = json!("bill_read"))))]
async fn get(ask: Ask<may::BillRead, Bills>, Id(bill_id): Id<BillId>) -> Result<Response, Problem> {
    let row = ask.reads.bill(&ask.scope, bill_id).await?;
    let found = row.as_ref().map(|row| (&row.document, row.stamp.version));
    ask.one::<_, BillResource>(found, bill::Rejection::BillNotFound)
}
