//! `/v1/orders/{id}/…`: what is on an order, while it is open.

use axum::{extract::State, response::Response};
use commands::orders;
use domain::{
    ids::{LineId, OrderId},
    money::Money,
    order::{self, Order},
    pricing::Discount,
};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    command::{Change, respond, shown, within},
    orders::{LineInput, ReasonInput, change_order, check_currency},
};
use crate::{
    auth::may,
    extract::{Id, Json},
    problem::Problem,
    resources::{DiscountSchema, MoneySchema, OrderResource, Resource},
    state::AppState,
};

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(add_line))
        .routes(routes!(change_quantity))
        .routes(routes!(void_line))
        .routes(routes!(apply_discount, remove_discount))
        .routes(routes!(adjust))
}

/// Adds a line.
#[utoipa::path(post, path = "/v1/orders/{id}/lines", tag = "orders", request_body = LineInput,
    params(("id" = String, Path, description = "`ord_…`")),
    responses((status = 200, description = "The order with the line", body = OrderResource)),
    extensions(("x-permission" = json!("order_write"))))]
async fn add_line(
    State(state): State<AppState>,
    change: Change<may::OrderWrite>,
    Id(order_id): Id<OrderId>,
    body: Json<LineInput>,
) -> Result<Response, Problem> {
    let only = change.only_store();
    let input = body.value;
    let caller = change.caller(&body.raw)?;
    let work = state.commands.transact(&caller, |unit| {
        let input = input.clone();
        Box::pin(async move {
            within::<Order>(unit, only, order_id).await?;
            unit.check_if_match::<Order>(order_id).await?;
            let before = unit.state::<Order>(order_id).await?;
            let currency = before.details.as_ref().map_or(input.unit_price.currency, |details| details.currency);
            let order = orders::add_line(unit, order_id, input.checked(currency)?).await?;
            unit.reply::<Order>(200, order_id, &shown(OrderResource::of(&order, unit.version::<Order>(order_id)))?)
        })
    });
    Ok(respond(work.await?, "/v1/orders"))
}

/// How a quantity changes.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuantityInput {
    /// By how much, thousandths of a piece, signed; a difference, so that two devices merge.
    #[schema(examples(1000))]
    quantity_delta_milli: i64,
}

/// Changes the quantity of a line by a difference.
#[utoipa::path(patch, path = "/v1/orders/{id}/lines/{line_id}", tag = "orders", request_body = QuantityInput,
    params(("id" = String, Path, description = "`ord_…`"), ("line_id" = String, Path, description = "`lin_…`")),
    responses((status = 200, description = "The order with the new quantity", body = OrderResource)),
    extensions(("x-permission" = json!("order_write"))))]
async fn change_quantity(
    State(state): State<AppState>,
    change: Change<may::OrderWrite>,
    Id((order_id, line_id)): Id<(OrderId, LineId)>,
    body: Json<QuantityInput>,
) -> Result<Response, Problem> {
    let command = order::Command::ChangeLineQuantity { line_id, delta_milli: body.value.quantity_delta_milli };
    change_order(&state, &change, order_id, &body.raw, command).await
}

/// Takes a line off.
#[utoipa::path(post, path = "/v1/orders/{id}/lines/{line_id}/void", tag = "orders", request_body = ReasonInput,
    params(("id" = String, Path, description = "`ord_…`"), ("line_id" = String, Path, description = "`lin_…`")),
    responses((status = 200, description = "The order without the line", body = OrderResource)),
    extensions(("x-permission" = json!("order_write"))))]
async fn void_line(
    State(state): State<AppState>,
    change: Change<may::OrderWrite>,
    Id((order_id, line_id)): Id<(OrderId, LineId)>,
    body: Json<ReasonInput>,
) -> Result<Response, Problem> {
    let command = order::Command::VoidLine { line_id, reason: body.value.reason };
    change_order(&state, &change, order_id, &body.raw, command).await
}

/// A discount on the whole order.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DiscountInput {
    /// How much.
    #[schema(value_type = DiscountSchema)]
    discount: Discount,
    /// 1 to 200 characters.
    reason: String,
}

/// Discounts the whole order; replaces an earlier discount.
#[utoipa::path(put, path = "/v1/orders/{id}/discount", tag = "orders", request_body = DiscountInput,
    params(("id" = String, Path, description = "`ord_…`")),
    responses((status = 200, description = "The order with the discount", body = OrderResource)),
    extensions(("x-permission" = json!("order_write"))))]
async fn apply_discount(
    State(state): State<AppState>,
    change: Change<may::OrderWrite>,
    Id(order_id): Id<OrderId>,
    body: Json<DiscountInput>,
) -> Result<Response, Problem> {
    let command = order::Command::ApplyDiscount { discount: body.value.discount, reason: body.value.reason };
    change_order(&state, &change, order_id, &body.raw, command).await
}

/// Takes the discount of the whole order back.
#[utoipa::path(delete, path = "/v1/orders/{id}/discount", tag = "orders",
    params(("id" = String, Path, description = "`ord_…`")),
    responses((status = 200, description = "The order without the discount", body = OrderResource)),
    extensions(("x-permission" = json!("order_write"))))]
async fn remove_discount(
    State(state): State<AppState>,
    change: Change<may::OrderWrite>,
    Id(order_id): Id<OrderId>,
) -> Result<Response, Problem> {
    change_order(&state, &change, order_id, &Value::Null, order::Command::RemoveDiscount).await
}

/// An untaxed amount outside the lines.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdjustmentInput {
    /// Signed, not zero, in the store's currency.
    #[schema(value_type = MoneySchema)]
    amount: Money,
    /// 1 to 200 characters.
    reason: String,
}

/// Adds an untaxed amount outside the lines.
#[utoipa::path(post, path = "/v1/orders/{id}/adjustments", tag = "orders", request_body = AdjustmentInput,
    params(("id" = String, Path, description = "`ord_…`")),
    responses((status = 200, description = "The order with the adjustment", body = OrderResource)),
    extensions(("x-permission" = json!("order_write"))))]
async fn adjust(
    State(state): State<AppState>,
    change: Change<may::OrderWrite>,
    Id(order_id): Id<OrderId>,
    body: Json<AdjustmentInput>,
) -> Result<Response, Problem> {
    let only = change.only_store();
    let AdjustmentInput { amount, reason } = body.value;
    let caller = change.caller(&body.raw)?;
    let work = state.commands.transact(&caller, |unit| {
        let reason = reason.clone();
        Box::pin(async move {
            within::<Order>(unit, only, order_id).await?;
            unit.check_if_match::<Order>(order_id).await?;
            let before = unit.state::<Order>(order_id).await?;
            check_currency(amount, before.details.as_ref().map_or(amount.currency, |details| details.currency))?;
            let order = orders::change(unit, order_id, order::Command::Adjust { amount: amount.amount, reason }).await?;
            unit.reply::<Order>(200, order_id, &shown(OrderResource::of(&order, unit.version::<Order>(order_id)))?)
        })
    });
    Ok(respond(work.await?, "/v1/orders"))
}
