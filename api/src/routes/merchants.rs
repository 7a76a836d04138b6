//! `/v1/merchants`: businesses under a PSP. A merchant is its own tenant; keys are kept under the PSP, which exists first.

use axum::{extract::State, response::Response};
use commands::{error::CommandError, handle::UnitOfWork, tenants};
use domain::{
    ids::{MerchantId, PspId},
    merchant::{self, Merchant},
};
use serde::Deserialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    command::{Change, respond, shown},
    orders::ReasonInput,
    query::{Ask, Directory},
};
use crate::{
    auth::may,
    extract::{Filter, Id, Json},
    problem::Problem,
    resources::{ListOf, MerchantResource, Resource},
    state::AppState,
};

const COLLECTION: &str = "/v1/merchants";

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(register, list)).routes(routes!(get, rename)).routes(routes!(deactivate))
}

/// A merchant to be registered under the caller's PSP.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterMerchant {
    /// Short code, unique within the PSP: 1 to 32 characters of A-Z, a-z, 0-9, `-` and `_`.
    #[schema(examples("KOPI"))]
    code: String,
    /// Name for people, 1 to 120 characters.
    #[schema(examples("Kopi House"))]
    name: String,
}

/// Registers a merchant.
#[utoipa::path(post, path = "/v1/merchants", tag = "merchants", request_body = RegisterMerchant,
    responses((status = 201, description = "Registered", body = MerchantResource)),
    extensions(("x-permission" = json!("merchant_register"))))]
async fn register(
    State(state): State<AppState>,
    change: Change<may::MerchantRegister>,
    body: Json<RegisterMerchant>,
) -> Result<Response, Problem> {
    let psp_id = change.principal().psp;
    let merchant_id = MerchantId(state.ids.next());
    let input = body.value;
    let caller = change.caller_in(merchant_id, psp_id.0, &body.raw);
    let work = state.commands.transact(&caller, |unit| {
        let details = merchant::Registered { merchant_id, psp_id, code: input.code.clone(), name: input.name.clone() };
        Box::pin(async move {
            tenants::register_merchant(unit, details).await?;
            let state = unit.state::<Merchant>(merchant_id).await?;
            let version = unit.version::<Merchant>(merchant_id);
            unit.reply::<Merchant>(201, merchant_id, &shown(MerchantResource::of(&state, version))?)
        })
    });
    Ok(respond(work.await?, COLLECTION))
}

/// The merchants that a caller may touch: those of its PSP, or the one that it acts for.
#[derive(Clone, Copy)]
struct Reach {
    psp: PspId,
    merchant: Option<MerchantId>,
}

impl Reach {
    async fn check(self, unit: &mut UnitOfWork, merchant_id: MerchantId) -> Result<(), CommandError> {
        let state = unit.state::<Merchant>(merchant_id).await?;
        let own = self.merchant.is_none_or(|merchant| merchant == merchant_id);
        match &state.details {
            Some(details) if own && details.psp_id == self.psp => Ok(()),
            Some(_) | None => Err(CommandError::Rejected(merchant::Rejection::MerchantNotFound.into())),
        }
    }
}

async fn change_merchant(
    state: &AppState,
    change: &Change<may::MerchantManage>,
    merchant_id: MerchantId,
    body: &Value,
    command: merchant::Command,
) -> Result<Response, Problem> {
    let reach = Reach { psp: change.principal().psp, merchant: change.principal().merchant };
    // Names of people are unique within their organisation: the merchant's own people keep their keys there.
    let keys_of = reach.merchant.map_or(reach.psp.0, |merchant| merchant.0);
    let caller = change.caller_in(merchant_id, keys_of, body);
    let work = state.commands.transact(&caller, |unit| {
        let command = command.clone();
        Box::pin(async move {
            reach.check(unit, merchant_id).await?;
            unit.check_if_match::<Merchant>(merchant_id).await?;
            let state = unit.decide::<Merchant>(merchant_id, command).await?;
            let version = unit.version::<Merchant>(merchant_id);
            unit.reply::<Merchant>(200, merchant_id, &shown(MerchantResource::of(&state, version))?)
        })
    });
    Ok(respond(work.await?, COLLECTION))
}

/// What changes about a merchant.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RenameMerchant {
    /// Name for people, 1 to 120 characters.
    name: String,
}

/// Renames a merchant.
#[utoipa::path(patch, path = "/v1/merchants/{id}", tag = "merchants", request_body = RenameMerchant,
    params(("id" = String, Path, description = "`mer_…`")),
    responses((status = 200, description = "Renamed", body = MerchantResource)),
    extensions(("x-permission" = json!("merchant_manage"))))]
async fn rename(
    State(state): State<AppState>,
    change: Change<may::MerchantManage>,
    Id(merchant_id): Id<MerchantId>,
    body: Json<RenameMerchant>,
) -> Result<Response, Problem> {
    change_merchant(&state, &change, merchant_id, &body.raw, merchant::Command::Rename { name: body.value.name }).await
}

/// Takes a merchant out of service.
#[utoipa::path(post, path = "/v1/merchants/{id}/deactivate", tag = "merchants", request_body = ReasonInput,
    params(("id" = String, Path, description = "`mer_…`")),
    responses((status = 200, description = "Out of service", body = MerchantResource)),
    extensions(("x-permission" = json!("merchant_manage"))))]
async fn deactivate(
    State(state): State<AppState>,
    change: Change<may::MerchantManage>,
    Id(merchant_id): Id<MerchantId>,
    body: Json<ReasonInput>,
) -> Result<Response, Problem> {
    change_merchant(&state, &change, merchant_id, &body.raw, merchant::Command::Deactivate { reason: body.value.reason }).await
}

/// Which merchants.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MerchantQuery {
    /// Rows of a page, 1 to 200; 50 unless told.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// As the header `Smartpos-Min-Position`.
    pub min_pos: Option<i64>,
    /// As it was then: a log position, or an RFC 3339 time with its offset; `Smartpos-As-Of` answers the position.
    pub as_of: Option<String>,
}

/// Merchants, newest first.
#[utoipa::path(get, path = "/v1/merchants", tag = "merchants", params(MerchantQuery),
    responses((status = 200, description = "A page", body = ListOf<MerchantResource>)),
    extensions(("x-permission" = json!("merchant_read"))))]
async fn list(ask: Ask<may::MerchantRead, Directory>, Filter(query): Filter<MerchantQuery>) -> Result<Response, Problem> {
    let page = ask.page("merchants", query.limit, query.cursor.as_deref())?;
    let rows = ask.reads.merchants(&ask.scope, page).await?;
    Ok(ask.list("merchants", page, rows, |row| row.stamp.opened_pos, |row| MerchantResource::of(&row.document, row.stamp.version)))
}

/// One merchant.
#[utoipa::path(get, path = "/v1/merchants/{id}", tag = "merchants", params(("id" = String, Path, description = "`mer_…`")),
    responses((status = 200, description = "The merchant", body = MerchantResource)),
    extensions(("x-permission" = json!("merchant_read"))))]
async fn get(ask: Ask<may::MerchantRead, Directory>, Id(merchant_id): Id<MerchantId>) -> Result<Response, Problem> {
    let row = ask.reads.merchant(&ask.scope, merchant_id).await?;
    let found = row.as_ref().map(|row| (&row.document, row.stamp.version));
    ask.one::<_, MerchantResource>(found, merchant::Rejection::MerchantNotFound)
}
