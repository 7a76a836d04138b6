//! `/v1/customers`: people known to a merchant. Their personal fields come in here and go out here, and stand nowhere in the clear.

use axum::{extract::State, response::Response};
use commands::{customers, handle::UnitOfWork};
use domain::{
    customer::{self, Customer, ErasureReason, Profile},
    ids::CustomerId,
};
use projections::models::customers::CustomerRow;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    command::{Change, respond, shown},
    query::{Ask, Customers},
};
use crate::{
    auth::may,
    extract::{Filter, Id, Json},
    problem::Problem,
    resources::{CustomerResource, ListOf, Resource, customer::ProfileSchema},
    state::AppState,
};

const COLLECTION: &str = "/v1/customers";

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(register, list)).routes(routes!(get, modify)).routes(routes!(erase))
}

/// What a merchant may know of a person.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomerInput {
    /// The whole profile; it replaces an earlier one.
    #[schema(value_type = ProfileSchema)]
    profile: Profile,
}

fn answer(
    unit: &UnitOfWork,
    state: &customer::State,
    status: u16,
    id: CustomerId,
) -> Result<commands::handle::Reply, commands::error::CommandError> {
    unit.reply::<Customer>(status, id, &shown(CustomerResource::of(state, unit.version::<Customer>(id)))?)
}

/// Registers a person. The answer does not repeat the profile.
#[utoipa::path(post, path = "/v1/customers", tag = "customers", request_body = CustomerInput,
    responses((status = 201, description = "Registered", body = CustomerResource)),
    extensions(("x-permission" = json!("customer_write"))))]
async fn register(
    State(state): State<AppState>,
    change: Change<may::CustomerWrite>,
    body: Json<CustomerInput>,
) -> Result<Response, Problem> {
    let keyring = state.keyring()?;
    let caller = change.caller_masking(&keyring, &body.raw)?;
    // One person for all attempts of this request, so that one that lost a race takes its key again. A repeat that came in at the
    // same time leaves a key of its own behind: one that seals nothing, under an id that nobody was told.
    let customer_id = CustomerId(state.ids.next());
    let profile = body.value.profile;
    let work = state.commands.transact(&caller, |unit| {
        let (keyring, profile) = (keyring.clone(), profile.clone());
        Box::pin(async move {
            let customer = customers::register(unit, &keyring, customer_id, &profile).await?;
            answer(unit, &customer, 201, customer_id)
        })
    });
    Ok(respond(work.await?, COLLECTION))
}

/// Replaces what is known of a person. The answer does not repeat the profile.
#[utoipa::path(patch, path = "/v1/customers/{id}", tag = "customers", request_body = CustomerInput,
    params(("id" = String, Path, description = "`cus_…`")),
    responses((status = 200, description = "Changed", body = CustomerResource)),
    extensions(("x-permission" = json!("customer_write"))))]
async fn modify(
    State(state): State<AppState>,
    change: Change<may::CustomerWrite>,
    Id(customer_id): Id<CustomerId>,
    body: Json<CustomerInput>,
) -> Result<Response, Problem> {
    let keyring = state.keyring()?;
    let caller = change.caller_masking(&keyring, &body.raw)?;
    let profile = body.value.profile;
    let work = state.commands.transact(&caller, |unit| {
        let (keyring, profile) = (keyring.clone(), profile.clone());
        Box::pin(async move {
            unit.check_if_match::<Customer>(customer_id).await?;
            let customer = customers::change_profile(unit, &keyring, customer_id, &profile).await?;
            answer(unit, &customer, 200, customer_id)
        })
    });
    Ok(respond(work.await?, COLLECTION))
}

/// Why a person is forgotten.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EraseInput {
    /// `requested`, `retention_ended` or `mistake`; no free text, in which the person could be named again.
    #[schema(value_type = String, examples("requested"))]
    reason: ErasureReason,
}

/// Forgets a person, for ever: the key is destroyed, and with it every copy of the profile becomes unreadable. What the person
/// bought stays.
#[utoipa::path(post, path = "/v1/customers/{id}/erase", tag = "customers", request_body = EraseInput,
    params(("id" = String, Path, description = "`cus_…`")),
    responses((status = 200, description = "Forgotten", body = CustomerResource)),
    extensions(("x-permission" = json!("customer_erase"))))]
async fn erase(
    State(state): State<AppState>,
    change: Change<may::CustomerErase>,
    Id(customer_id): Id<CustomerId>,
    body: Json<EraseInput>,
) -> Result<Response, Problem> {
    let caller = change.caller(&body.raw)?;
    let reason = body.value.reason;
    let work = state.commands.transact(&caller, |unit| {
        Box::pin(async move {
            unit.check_if_match::<Customer>(customer_id).await?;
            let customer = customers::erase(unit, customer_id, reason).await?;
            answer(unit, &customer, 200, customer_id)
        })
    });
    Ok(respond(work.await?, COLLECTION))
}

/// Which customers.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CustomerQuery {
    /// Rows of a page, 1 to 200; 50 unless told.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// As the header `Smartpos-Min-Position`.
    pub min_pos: Option<i64>,
    /// As it was then: a log position, or an RFC 3339 time with its offset; `Smartpos-As-Of` answers the position.
    pub as_of: Option<String>,
}

/// Rows with their profiles, in the order of the rows.
async fn opened(state: &AppState, rows: Vec<CustomerRow>) -> Result<Vec<(CustomerRow, Option<Profile>)>, Problem> {
    let Some(tenant) = rows.first().map(|row| row.tenant) else { return Ok(vec![]) };
    // Row-level security shows rows of one tenant only.
    let sealed: Vec<_> = rows.iter().filter_map(|row| Some((row.customer_id, row.ciphertext()?))).collect();
    let mut profiles = state.keyring()?.open(tenant, &sealed).await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let profile = profiles.remove(&row.customer_id);
            (row, profile)
        })
        .collect())
}

/// Customers, newest first.
#[utoipa::path(get, path = "/v1/customers", tag = "customers", params(CustomerQuery),
    responses((status = 200, description = "A page", body = ListOf<CustomerResource>)),
    extensions(("x-permission" = json!("customer_read"))))]
async fn list(
    State(state): State<AppState>,
    ask: Ask<may::CustomerRead, Customers>,
    Filter(query): Filter<CustomerQuery>,
) -> Result<Response, Problem> {
    let page = ask.page("customers", query.limit, query.cursor.as_deref())?;
    let rows = opened(&state, ask.reads.customers(&ask.scope, page).await?).await?;
    let show = |(row, profile): (CustomerRow, Option<Profile>)| CustomerResource::of(&(row.state(), profile), row.stamp.version);
    Ok(ask.list("customers", page, rows, |(row, _)| row.stamp.opened_pos, show))
}

/// One customer.
#[utoipa::path(get, path = "/v1/customers/{id}", tag = "customers", params(("id" = String, Path, description = "`cus_…`")),
    responses((status = 200, description = "The customer", body = CustomerResource)),
    extensions(("x-permission" = json!("customer_read"))))]
async fn get(
    State(state): State<AppState>,
    ask: Ask<may::CustomerRead, Customers>,
    Id(customer_id): Id<CustomerId>,
) -> Result<Response, Problem> {
    let rows = ask.reads.customer(&ask.scope, customer_id).await?.into_iter().collect();
    let found = opened(&state, rows).await?.pop().map(|(row, profile)| ((row.state(), profile), row.stamp.version));
    ask.one::<_, CustomerResource>(found.as_ref().map(|(seen, version)| (seen, *version)), customer::Rejection::CustomerNotFound)
}
