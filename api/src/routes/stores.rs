//! `/v1/stores`: the places of a merchant, with what their prices depend on.

use axum::{extract::State, response::Response};
use commands::tenants::{self, NewStore};
use domain::{
    ids::{MerchantId, StoreId},
    money::Currency,
    pricing::TaxProfile,
    store::{self, Store},
};
use serde::Deserialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    command::{Change, respond, shown, within},
    orders::ReasonInput,
    query::{Ask, Directory},
};
use crate::{
    auth::may,
    extract::{Filter, Id, Json},
    problem::{Kind, Problem},
    resources::{ListOf, Resource, StoreResource, store::TaxProfileSchema},
    state::AppState,
};

const COLLECTION: &str = "/v1/stores";

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(open, list)).routes(routes!(get, modify)).routes(routes!(deactivate))
}

/// A store to be opened.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenStore {
    /// Short code, unique within the merchant: 1 to 32 characters of A-Z, a-z, 0-9, `-` and `_`.
    #[schema(examples("SILOM"))]
    code: String,
    /// Name for people, 1 to 120 characters.
    #[schema(examples("Kopi House Silom"))]
    name: String,
    /// The only currency of its prices, ISO 4217.
    #[schema(value_type = String, examples("THB"))]
    currency: Currency,
    /// How its prices are taxed and rounded.
    #[schema(value_type = TaxProfileSchema)]
    tax_profile: TaxProfile,
    /// IANA time zone.
    #[schema(examples("Asia/Bangkok"))]
    zone: String,
    /// Minute of the local day (0–1439) at which a business day begins; midnight unless told.
    #[serde(default)]
    #[schema(maximum = 1439)]
    day_starts_at_minute: u16,
}

/// Opens a store.
#[utoipa::path(post, path = "/v1/stores", tag = "stores", request_body = OpenStore,
    responses((status = 201, description = "Opened", body = StoreResource)),
    extensions(("x-permission" = json!("store_manage"))))]
async fn open(State(state): State<AppState>, change: Change<may::StoreManage>, body: Json<OpenStore>) -> Result<Response, Problem> {
    if change.only_store().is_some() {
        return Err(Problem::forbidden("a token of one store opens no other"));
    }
    let input = body.value;
    let caller = change.caller(&body.raw)?;
    let work = state.commands.transact(&caller, |unit| {
        let input = input.clone();
        Box::pin(async move {
            let store_id = unit.next_id();
            let new = NewStore {
                store_id,
                code: input.code,
                name: input.name,
                currency: input.currency,
                tax_profile: input.tax_profile,
                zone: input.zone,
                day_starts_at_minute: input.day_starts_at_minute,
            };
            tenants::open_store(unit, new).await?;
            let store = unit.state::<Store>(store_id).await?;
            unit.reply::<Store>(201, store_id, &shown(StoreResource::of(&store, unit.version::<Store>(store_id)))?)
        })
    });
    Ok(respond(work.await?, COLLECTION))
}

/// What changes about a store; at least one.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModifyStore {
    /// Name for people, 1 to 120 characters.
    name: Option<String>,
    /// How prices of orders opened from now on are taxed and rounded.
    #[schema(value_type = Option<TaxProfileSchema>)]
    tax_profile: Option<TaxProfile>,
}

async fn change_store(
    state: &AppState,
    change: &Change<may::StoreManage>,
    store_id: StoreId,
    body: &Value,
    commands: Vec<store::Command>,
) -> Result<Response, Problem> {
    let only = change.only_store();
    let caller = change.caller(body)?;
    let work = state.commands.transact(&caller, |unit| {
        let commands = commands.clone();
        Box::pin(async move {
            within::<Store>(unit, only, store_id).await?;
            unit.concerns_store(store_id);
            unit.check_if_match::<Store>(store_id).await?;
            for command in commands {
                unit.decide::<Store>(store_id, command).await?;
            }
            let store = unit.state::<Store>(store_id).await?;
            unit.reply::<Store>(200, store_id, &shown(StoreResource::of(&store, unit.version::<Store>(store_id)))?)
        })
    });
    Ok(respond(work.await?, COLLECTION))
}

/// Changes the name or the tax profile of a store.
#[utoipa::path(patch, path = "/v1/stores/{id}", tag = "stores", request_body = ModifyStore,
    params(("id" = String, Path, description = "`sto_…`")),
    responses((status = 200, description = "Changed", body = StoreResource)),
    extensions(("x-permission" = json!("store_manage"))))]
async fn modify(
    State(state): State<AppState>,
    change: Change<may::StoreManage>,
    Id(store_id): Id<StoreId>,
    body: Json<ModifyStore>,
) -> Result<Response, Problem> {
    let rename = body.value.name.map(|name| store::Command::Rename { name });
    let tax = body.value.tax_profile.map(|tax_profile| store::Command::ChangeTaxProfile { tax_profile });
    let commands: Vec<_> = rename.into_iter().chain(tax).collect();
    if commands.is_empty() {
        return Err(Problem::new(Kind::BodyInvalid, "name or tax_profile is needed"));
    }
    change_store(&state, &change, store_id, &body.raw, commands).await
}

/// Closes a store for good.
#[utoipa::path(post, path = "/v1/stores/{id}/deactivate", tag = "stores", request_body = ReasonInput,
    params(("id" = String, Path, description = "`sto_…`")),
    responses((status = 200, description = "Closed", body = StoreResource)),
    extensions(("x-permission" = json!("store_manage"))))]
async fn deactivate(
    State(state): State<AppState>,
    change: Change<may::StoreManage>,
    Id(store_id): Id<StoreId>,
    body: Json<ReasonInput>,
) -> Result<Response, Problem> {
    change_store(&state, &change, store_id, &body.raw, vec![store::Command::Deactivate { reason: body.value.reason }]).await
}

/// Which stores.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StoreQuery {
    /// Of this merchant, `mer_…`.
    #[param(value_type = Option<String>)]
    merchant_id: Option<MerchantId>,
    /// Rows of a page, 1 to 200; 50 unless told.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// As the header `Smartpos-Min-Position`.
    pub min_pos: Option<i64>,
    /// As it was then: a log position, or an RFC 3339 time with its offset; `Smartpos-As-Of` answers the position.
    pub as_of: Option<String>,
}

/// Stores, newest first.
#[utoipa::path(get, path = "/v1/stores", tag = "stores", params(StoreQuery),
    responses((status = 200, description = "A page", body = ListOf<StoreResource>)),
    extensions(("x-permission" = json!("store_read"))))]
async fn list(ask: Ask<may::StoreRead, Directory>, Filter(query): Filter<StoreQuery>) -> Result<Response, Problem> {
    let page = ask.page("stores", query.limit, query.cursor.as_deref())?;
    let rows = ask.reads.stores(&ask.scope, query.merchant_id, page).await?;
    Ok(ask.list("stores", page, rows, |row| row.stamp.opened_pos, |row| StoreResource::of(&row.document, row.stamp.version)))
}

/// One store.
#[utoipa::path(get, path = "/v1/stores/{id}", tag = "stores", params(("id" = String, Path, description = "`sto_…`")),
    responses((status = 200, description = "The store", body = StoreResource)),
    extensions(("x-permission" = json!("store_read"))))]
async fn get(ask: Ask<may::StoreRead, Directory>, Id(store_id): Id<StoreId>) -> Result<Response, Problem> {
    let row = ask.reads.store(&ask.scope, store_id).await?;
    let found = row.as_ref().map(|row| (&row.document, row.stamp.version));
    ask.one::<_, StoreResource>(found, store::Rejection::StoreNotFound)
}
