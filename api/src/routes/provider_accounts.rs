//! `/v1/provider-accounts`: a merchant's accounts at payment providers.

use std::collections::BTreeMap;

use axum::{extract::State, response::Response};
use commands::{
    error::CommandError,
    handle::UnitOfWork,
    provider_accounts::{self, NewAccount, Secrets},
};
use domain::{
    ids::{ProviderAccountId, StoreId},
    provider_account::{self, ProviderAccount, Rejection, Terms},
};
use projections::models::provider_accounts::ProviderAccountRow;
use serde::Deserialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    command::{Change, respond, shown, within_store},
    orders::ReasonInput,
    query::{Ask, ProviderAccounts},
};
use crate::{
    auth::may,
    extract::{Filter, Id, Json, NoBody},
    problem::Problem,
    resources::{
        ListOf, Resource,
        provider_account::{AcceptedAmounts, AcceptedMethod, ProviderAccountResource},
    },
    state::AppState,
};

const COLLECTION: &str = "/v1/provider-accounts";
/// Priority of an account that names none.
const DEFAULT_PRIORITY: u16 = 100;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(open, list)).routes(routes!(get, modify)).routes(routes!(disable)).routes(routes!(enable))
}

/// An account to be opened.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenAccount {
    /// The provider's stable name; see `/v1/providers`.
    #[schema(examples("scb"))]
    provider: String,
    /// Name for people, 1 to 120 characters.
    #[schema(examples("SCB of the airport shops"))]
    name: String,
    /// `sto_…`: the only store that it serves; all of the merchant's unless told.
    #[schema(value_type = Option<String>)]
    store_id: Option<StoreId>,
    /// Real money; otherwise the provider's test mode. Never changes.
    live: bool,
    /// The lower is asked first; 100 unless told.
    priority: Option<u16>,
    /// Which methods it takes, at least one.
    methods: Vec<AcceptedMethod>,
    /// Which currencies and amounts it takes, at least one.
    amounts: Vec<AcceptedAmounts>,
    /// The provider's own settings by name, without secrets.
    #[serde(default)]
    #[schema(value_type = Object)]
    settings: BTreeMap<String, Value>,
    /// Secrets by name; never shown again.
    #[serde(default)]
    #[schema(value_type = Object)]
    secrets: Secrets,
}

fn answer(
    unit: &UnitOfWork,
    state: &provider_account::State,
    status: u16,
    id: ProviderAccountId,
) -> Result<commands::handle::Reply, CommandError> {
    unit.reply::<ProviderAccount>(status, id, &shown(ProviderAccountResource::of(state, unit.version::<ProviderAccount>(id)))?)
}

fn refused(rejection: Rejection) -> CommandError {
    CommandError::Rejected(rejection.into())
}

/// Opens an account at a provider. The settings are tried, without calling the provider; see `…/check`.
#[utoipa::path(post, path = "/v1/provider-accounts", tag = "provider-accounts", request_body = OpenAccount,
    responses((status = 201, description = "Opened", body = ProviderAccountResource)),
    extensions(("x-permission" = json!("provider_account_manage"))))]
async fn open(
    State(state): State<AppState>,
    change: Change<may::ProviderAccountManage>,
    body: Json<OpenAccount>,
) -> Result<Response, Problem> {
    let caller = change.caller_masking(&state.keyring()?, &body.raw)?;
    let (input, only, providers) = (body.value, change.only_store(), state.providers.clone());
    // One account for all attempts of this request: its secrets are sealed under its own key.
    let id = ProviderAccountId(state.ids.next());
    let work = state.commands.transact(&caller, |unit| {
        let (input, providers) = (input.clone(), providers.clone());
        Box::pin(async move {
            if let Some(store_id) = only {
                within_store(input.store_id, store_id)?;
                if input.store_id.is_none() {
                    return Err(CommandError::Rejected(domain::store::Rejection::StoreNotFound.into()));
                }
            }
            let terms = Terms {
                name: input.name,
                priority: input.priority.unwrap_or(DEFAULT_PRIORITY),
                methods: input.methods.into_iter().map(|accepted| accepted.method).collect(),
                amounts: input.amounts.into_iter().map(Into::into).collect(),
                settings: input.settings,
            };
            providers.connect(&input.provider, &terms, &input.secrets).map_err(refused)?;
            let new =
                NewAccount { id, provider: input.provider, store_id: input.store_id, live: input.live, terms, secrets: input.secrets };
            let account = provider_accounts::open(unit, providers.accounts()?, new).await?;
            answer(unit, &account, 201, id)
        })
    });
    Ok(respond(work.await?, COLLECTION))
}

/// What changes about an account; at least one.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModifyAccount {
    /// Name for people.
    name: Option<String>,
    /// The lower is asked first.
    priority: Option<u16>,
    /// Which methods it takes.
    methods: Option<Vec<AcceptedMethod>>,
    /// Which currencies and amounts it takes.
    amounts: Option<Vec<AcceptedAmounts>>,
    /// The provider's own settings; they replace all earlier ones.
    #[schema(value_type = Option<Object>)]
    settings: Option<BTreeMap<String, Value>>,
    /// Secrets to be replaced, by name; the others stay.
    #[schema(value_type = Option<Object>)]
    secrets: Option<Secrets>,
    /// With `secrets`: for how many minutes call-backs by the former ones are still taken, 1 to 10,080.
    #[schema(minimum = 1, maximum = 10_080)]
    former_secrets_good_minutes: Option<i64>,
}

impl ModifyAccount {
    fn terms(&self, before: &Terms) -> Terms {
        let Self { name, priority, methods, amounts, settings, .. } = self.clone();
        Terms {
            name: name.unwrap_or_else(|| before.name.clone()),
            priority: priority.unwrap_or(before.priority),
            methods: methods.map_or_else(|| before.methods.clone(), |all| all.into_iter().map(|accepted| accepted.method).collect()),
            amounts: amounts.map_or_else(|| before.amounts.clone(), |all| all.into_iter().map(Into::into).collect()),
            settings: settings.unwrap_or_else(|| before.settings.clone()),
        }
    }
}

/// Changes an account. Provider, store and mode stay, since payments name the account.
#[utoipa::path(patch, path = "/v1/provider-accounts/{id}", tag = "provider-accounts", request_body = ModifyAccount,
    params(("id" = String, Path, description = "`pac_…`")),
    responses((status = 200, description = "Changed", body = ProviderAccountResource)),
    extensions(("x-permission" = json!("provider_account_manage"))))]
async fn modify(
    State(state): State<AppState>,
    change: Change<may::ProviderAccountManage>,
    Id(id): Id<ProviderAccountId>,
    body: Json<ModifyAccount>,
) -> Result<Response, Problem> {
    let caller = change.caller_masking(&state.keyring()?, &body.raw)?;
    let (input, only, providers) = (body.value, change.only_store(), state.providers.clone());
    let work = state.commands.transact(&caller, |unit| {
        let (input, providers) = (input.clone(), providers.clone());
        Box::pin(async move {
            let before = visible(unit, only, id).await?;
            let details = before.known().map_err(refused)?;
            let accounts = providers.accounts()?;
            let account = accounts.get(unit.tenant(), id).await?.ok_or_else(|| refused(Rejection::ProviderAccountNotFound))?;
            let current = accounts.secrets(&account).await?.current;
            let newer = input.secrets.clone().unwrap_or_default();
            let terms = input.terms(&details.terms);
            providers.connect(&details.provider, &terms, &current.with(&newer)).map_err(refused)?;
            provider_accounts::change_terms(unit, id, terms).await?;
            if input.secrets.is_some() {
                provider_accounts::replace_secrets(unit, accounts, id, &newer, input.former_secrets_good_minutes).await?;
            }
            let after = unit.state::<ProviderAccount>(id).await?;
            answer(unit, &after, 200, id)
        })
    });
    Ok(respond(work.await?, COLLECTION))
}

/// An account that the caller's token reaches: with the token of one store only that store's own.
async fn visible(
    unit: &mut UnitOfWork,
    only: Option<StoreId>,
    id: ProviderAccountId,
) -> Result<std::sync::Arc<provider_account::State>, CommandError> {
    let state = unit.state::<ProviderAccount>(id).await?;
    reaches(only, &state).map_err(refused)?;
    Ok(state)
}

/// Whether a token, of one store only if it says so, reaches an account.
///
/// # Errors
/// `ProviderAccountNotFound`.
pub(super) fn reaches(only: Option<StoreId>, account: &provider_account::State) -> Result<(), Rejection> {
    let store = account.known()?.store_id;
    if only.is_some() && store != only { Err(Rejection::ProviderAccountNotFound) } else { Ok(()) }
}

/// Takes an account out of service: no new payment goes to it. What it took is still asked about and given back through it.
#[utoipa::path(post, path = "/v1/provider-accounts/{id}/disable", tag = "provider-accounts", request_body = ReasonInput,
    params(("id" = String, Path, description = "`pac_…`")),
    responses((status = 200, description = "Out of service", body = ProviderAccountResource)),
    extensions(("x-permission" = json!("provider_account_manage"))))]
async fn disable(
    State(state): State<AppState>,
    change: Change<may::ProviderAccountManage>,
    Id(id): Id<ProviderAccountId>,
    body: Json<ReasonInput>,
) -> Result<Response, Problem> {
    let caller = change.caller(&body.raw)?;
    let (reason, only) = (body.value.reason, change.only_store());
    let work = state.commands.transact(&caller, |unit| {
        let reason = reason.clone();
        Box::pin(async move {
            visible(unit, only, id).await?;
            let account = provider_accounts::disable(unit, id, reason).await?;
            answer(unit, &account, 200, id)
        })
    });
    Ok(respond(work.await?, COLLECTION))
}

/// Puts an account into service again.
#[utoipa::path(post, path = "/v1/provider-accounts/{id}/enable", tag = "provider-accounts",
    params(("id" = String, Path, description = "`pac_…`")),
    responses((status = 200, description = "In service", body = ProviderAccountResource)),
    extensions(("x-permission" = json!("provider_account_manage"))))]
async fn enable(
    State(state): State<AppState>,
    change: Change<may::ProviderAccountManage>,
    Id(id): Id<ProviderAccountId>,
    _: NoBody,
) -> Result<Response, Problem> {
    let caller = change.caller(&Value::Null)?;
    let only = change.only_store();
    let work = state.commands.transact(&caller, |unit| {
        Box::pin(async move {
            visible(unit, only, id).await?;
            let account = provider_accounts::enable(unit, id).await?;
            answer(unit, &account, 200, id)
        })
    });
    Ok(respond(work.await?, COLLECTION))
}

/// Which provider accounts.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AccountQuery {
    /// Rows of a page, 1 to 200; 50 unless told.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// As the header `Smartpos-Min-Position`.
    pub min_pos: Option<i64>,
    /// As it was then: a log position, or an RFC 3339 time with its offset; `Smartpos-As-Of` answers the position.
    pub as_of: Option<String>,
}

/// Provider accounts, newest first.
#[utoipa::path(get, path = "/v1/provider-accounts", tag = "provider-accounts", params(AccountQuery),
    responses((status = 200, description = "A page", body = ListOf<ProviderAccountResource>)),
    extensions(("x-permission" = json!("provider_account_read"))))]
async fn list(ask: Ask<may::ProviderAccountRead, ProviderAccounts>, Filter(query): Filter<AccountQuery>) -> Result<Response, Problem> {
    let page = ask.page("provider-accounts", query.limit, query.cursor.as_deref())?;
    let rows = ask.reads.provider_accounts(&ask.scope, page).await?;
    let show = |row: ProviderAccountRow| ProviderAccountResource::of(&row.document, row.stamp.version);
    Ok(ask.list("provider-accounts", page, rows, |row| row.stamp.opened_pos, show))
}

/// One provider account.
#[utoipa::path(get, path = "/v1/provider-accounts/{id}", tag = "provider-accounts",
    params(("id" = String, Path, description = "`pac_…`")),
    responses((status = 200, description = "The account", body = ProviderAccountResource)),
    extensions(("x-permission" = json!("provider_account_read"))))]
async fn get(ask: Ask<may::ProviderAccountRead, ProviderAccounts>, Id(id): Id<ProviderAccountId>) -> Result<Response, Problem> {
    let row = ask.reads.provider_account(&ask.scope, id).await?;
    let found = row.as_ref().map(|row| (&row.document, row.stamp.version));
    ask.one::<_, ProviderAccountResource>(found, Rejection::ProviderAccountNotFound)
}
