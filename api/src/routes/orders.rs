//! `/v1/orders`: opening, reading, cancelling. What is on an order changes in [`super::order_lines`].

use axum::{Json as JsonBody, extract::State, response::Response};
use commands::{
    error::CommandError,
    orders::{self, NewLine, NewOrder},
    tenants::trading_store,
};
use domain::{
    ids::{LineId, OrderId, StoreId},
    money::{Currency, Money},
    order::{self, Order, OrderType},
    pricing::{Discount, TaxClass, WHOLE_MILLI},
    rejection::{Rejected, RejectionClass},
};
use projections::models::orders::OrderFilter;
use serde::Deserialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    command::{Change, respond, shown, within, within_store},
    query::{Ask, Orders},
};
use crate::{
    auth::{Policy, may},
    extract::{Filter, Id, Json, day::Day},
    problem::{Kind, Problem},
    resources::{DiscountSchema, ListOf, MoneySchema, OrderResource, Resource, TaxClassSchema, TimelineEntry, order::status_of},
    state::AppState,
};

const COLLECTION: &str = "/v1/orders";
/// Code of the problem that a line of tax class `stated` is.
pub(crate) const TAX_CLASS_STATED: &str = "TaxClassStated";
/// What it says.
pub(crate) const STATED_BY_FILES_ONLY: &str =
    "tax_class 'stated' is for taxes that an imported file states; the class of a line is standard, zero or exempt";

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(open, list)).routes(routes!(get)).routes(routes!(timeline)).routes(routes!(cancel))
}

/// An order to be opened.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenOrder {
    /// `sto_…`.
    #[schema(value_type = String)]
    store_id: StoreId,
    /// `dine_in`, `takeaway` (unless told) or `delivery`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    order_type: OrderType,
    /// Table, for dine-in.
    table_number: Option<String>,
    /// Number for people.
    order_number: Option<String>,
    /// First lines; at most 2,000.
    #[serde(default)]
    lines: Vec<LineInput>,
}

/// A line to be added.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LineInput {
    /// `lin_…`, given by the terminal; otherwise a new one.
    #[schema(value_type = Option<String>)]
    line_id: Option<LineId>,
    /// The catalogue's code.
    #[schema(examples("LATTE"))]
    item_code: String,
    /// Name as sold.
    #[schema(examples("Caffè latte"))]
    name: String,
    /// Thousandths of a piece.
    #[schema(examples(1000))]
    quantity_milli: i64,
    /// For one piece, in the store's currency.
    #[schema(value_type = MoneySchema)]
    pub(super) unit_price: Money,
    /// Class of tax; `standard` unless told. `stated` is refused: only an imported file states a tax.
    #[serde(default = "standard")]
    #[schema(value_type = Option<TaxClassSchema>)]
    tax_class: TaxClass,
    /// Discount of this line.
    #[schema(value_type = Option<DiscountSchema>)]
    discount: Option<Discount>,
}

fn standard() -> TaxClass {
    TaxClass::Standard
}

impl LineInput {
    /// # Errors
    /// `CurrencyMismatch`, `TaxClassStated`.
    pub(super) fn checked(self, currency: Currency) -> Result<NewLine, CommandError> {
        check_currency(self.unit_price, currency)?;
        if self.tax_class == TaxClass::Stated {
            let message = STATED_BY_FILES_ONLY.to_owned();
            return Err(CommandError::Rejected(Rejected { code: TAX_CLASS_STATED, class: RejectionClass::Invalid, message }));
        }
        Ok(NewLine {
            line_id: self.line_id,
            item_code: self.item_code,
            name: self.name,
            quantity_milli: self.quantity_milli,
            unit_price: self.unit_price.amount,
            price_base_milli: WHOLE_MILLI,
            tax_class: self.tax_class,
            discount: self.discount,
        })
    }
}

/// Amounts without their currency are counted in the order's; so they must have come in it.
///
/// # Errors
/// `CurrencyMismatch`.
pub(super) fn check_currency(money: Money, currency: Currency) -> Result<(), CommandError> {
    if money.currency == currency {
        return Ok(());
    }
    let message = format!("the store sells in {currency}");
    Err(CommandError::Rejected(Rejected { code: "CurrencyMismatch", class: RejectionClass::Invalid, message }))
}

/// Opens an order, with its first lines.
#[utoipa::path(post, path = "/v1/orders", tag = "orders", request_body = OpenOrder,
    responses((status = 201, description = "Opened", body = OrderResource)),
    extensions(("x-permission" = json!("order_write"))))]
async fn open(State(state): State<AppState>, change: Change<may::OrderWrite>, body: Json<OpenOrder>) -> Result<Response, Problem> {
    let only = change.only_store();
    let input = body.value;
    let caller = change.caller(&body.raw)?;
    let work = state.commands.transact(&caller, |unit| {
        let input = input.clone();
        Box::pin(async move {
            within_store(only, input.store_id)?;
            let currency = trading_store(unit, input.store_id).await?.currency;
            let lines = input.lines.into_iter().map(|line| line.checked(currency)).collect::<Result<_, _>>()?;
            let order_id = unit.next_id();
            let new = NewOrder {
                order_id,
                store_id: input.store_id,
                order_type: input.order_type,
                table_number: input.table_number,
                order_number: input.order_number,
                lines,
                opened_at: None,
            };
            let order = orders::open(unit, new).await?;
            unit.reply::<Order>(201, order_id, &shown(OrderResource::of(&order, unit.version::<Order>(order_id)))?)
        })
    });
    Ok(respond(work.await?, COLLECTION))
}

/// Applies a command to an order that exists for the caller, at the version that it saw.
pub(super) async fn change_order<P: Policy>(
    state: &AppState,
    change: &Change<P>,
    order_id: OrderId,
    body: &Value,
    command: order::Command,
) -> Result<Response, Problem> {
    let only = change.only_store();
    let caller = change.caller(body)?;
    let work = state.commands.transact(&caller, |unit| {
        let command = command.clone();
        Box::pin(async move {
            within::<Order>(unit, only, order_id).await?;
            unit.check_if_match::<Order>(order_id).await?;
            let order = orders::change(unit, order_id, command).await?;
            unit.reply::<Order>(200, order_id, &shown(OrderResource::of(&order, unit.version::<Order>(order_id)))?)
        })
    });
    Ok(respond(work.await?, COLLECTION))
}

/// Why something is taken back.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReasonInput {
    /// 1 to 200 characters.
    pub(super) reason: String,
}

/// Gives an open order up.
#[utoipa::path(post, path = "/v1/orders/{id}/cancel", tag = "orders", request_body = ReasonInput,
    params(("id" = String, Path, description = "`ord_…`")),
    responses((status = 200, description = "Cancelled", body = OrderResource)),
    extensions(("x-permission" = json!("order_write"))))]
async fn cancel(
    State(state): State<AppState>,
    change: Change<may::OrderWrite>,
    Id(order_id): Id<OrderId>,
    body: Json<ReasonInput>,
) -> Result<Response, Problem> {
    change_order(&state, &change, order_id, &body.raw, order::Command::Cancel { reason: body.value.reason }).await
}

/// Which orders.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OrderQuery {
    /// Of this store, `sto_…`.
    #[param(value_type = Option<String>)]
    store_id: Option<StoreId>,
    /// `open`, `billed`, `completed` or `cancelled`.
    status: Option<String>,
    /// Opened on this business date or later.
    #[param(value_type = Option<String>, format = Date)]
    business_date_from: Option<Day>,
    /// Opened on this business date or before.
    #[param(value_type = Option<String>, format = Date)]
    business_date_to: Option<Day>,
    /// Rows of a page, 1 to 200; 50 unless told.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// As the header `Smartpos-Min-Position`.
    pub min_pos: Option<i64>,
    /// As it was then: a log position, or an RFC 3339 time with its offset; `Smartpos-As-Of` answers the position.
    pub as_of: Option<String>,
}

/// What a status word means, or a problem that names the field.
pub(super) fn status_filter<S>(word: Option<&String>, of: impl Fn(&str) -> Option<S>) -> Result<Option<S>, Problem> {
    let unknown = || Problem::new(Kind::ParameterInvalid, "status: not a status of this resource");
    word.map(|word| of(word).ok_or_else(unknown)).transpose()
}

/// Orders, newest first.
#[utoipa::path(get, path = "/v1/orders", tag = "orders", params(OrderQuery),
    responses((status = 200, description = "A page", body = ListOf<OrderResource>)),
    extensions(("x-permission" = json!("order_read"))))]
async fn list(ask: Ask<may::OrderRead, Orders>, Filter(query): Filter<OrderQuery>) -> Result<Response, Problem> {
    let page = ask.page("orders", query.limit, query.cursor.as_deref())?;
    let filter = OrderFilter {
        store: query.store_id,
        status: status_filter(query.status.as_ref(), status_of)?,
        business_date_from: query.business_date_from.map(|day| day.0),
        business_date_to: query.business_date_to.map(|day| day.0),
    };
    let rows = ask.reads.orders(&ask.scope, &filter, page).await?;
    Ok(ask.list("orders", page, rows, |row| row.stamp.opened_pos, |row| OrderResource::of(&row.document, row.stamp.version)))
}

/// One order.
#[utoipa::path(get, path = "/v1/orders/{id}", tag = "orders", params(("id" = String, Path, description = "`ord_…`")),
    responses((status = 200, description = "The order", body = OrderResource)),
    extensions(("x-permission" = json!("order_read"))))]
async fn get(ask: Ask<may::OrderRead, Orders>, Id(order_id): Id<OrderId>) -> Result<Response, Problem> {
    let row = ask.reads.order(&ask.scope, order_id).await?;
    let found = row.as_ref().map(|row| (&row.document, row.stamp.version));
    ask.one::<_, OrderResource>(found, order::Rejection::OrderNotFound)
}

/// The history of an order, oldest first.
#[derive(Debug, serde::Serialize, ToSchema)]
pub struct Timeline {
    /// One entry per fact.
    data: Vec<TimelineEntry>,
}

/// Everything that happened to an order.
#[utoipa::path(get, path = "/v1/orders/{id}/timeline", tag = "orders", params(("id" = String, Path, description = "`ord_…`")),
    responses((status = 200, description = "The history", body = Timeline)),
    extensions(("x-permission" = json!("order_read"))))]
async fn timeline(ask: Ask<may::OrderRead, Orders>, Id(order_id): Id<OrderId>) -> Result<Response, Problem> {
    let rows = ask.reads.order_timeline(&ask.scope, order_id).await?;
    if rows.is_empty() {
        return Err(Problem::missing(order::Rejection::OrderNotFound));
    }
    let data = rows.into_iter().map(TimelineEntry::from).collect();
    Ok(ask.answer(JsonBody(Timeline { data })))
}
