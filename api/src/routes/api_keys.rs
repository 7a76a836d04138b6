//! `/v1/api-keys`: credentials of services that sign their requests.

use axum::{
    Json as JsonBody,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use commands::{
    partner::{self, Credential, Made, NewCredential, Rotated, Rotation},
    system::SystemRandom,
};
use domain::ids::StoreId;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    command::{Change, REPLAYED},
    webhook_endpoints::RotateSecret,
};
use crate::{
    auth::{Allowed, Role, may},
    extract::{Filter, Id, Json, MaybeJson, NoBody},
    problem::{Kind, Problem},
    resources::ListOf,
    state::AppState,
};

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(create, list)).routes(routes!(rotate_secret)).routes(routes!(revoke))
}

/// What a service may do.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateApiKey {
    /// What people call it, 1 to 64 characters.
    label: String,
    /// As what: `merchant_admin`, `manager`, `cashier` or `auditor`.
    role: Role,
    /// `sto_…`: the only store that it reaches.
    #[schema(value_type = Option<String>)]
    store_id: Option<StoreId>,
    /// Takes only requests signed with a nonce, which cannot be sent twice. Better, where the service can.
    #[serde(default)]
    nonce_only: bool,
}

/// A credential.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKey)]
pub struct ApiKeyResource {
    /// `pk_…`, the first part of a signature.
    #[schema(examples("pk_01HZY3T5V6W7X8Y9Z0A1B2C3D4"))]
    pub id: String,
    /// What people call it.
    pub label: String,
    /// As what it comes.
    pub role: String,
    /// The only store that it reaches.
    pub store_id: Option<String>,
    /// Takes only requests signed with a nonce.
    pub nonce_only: bool,
    /// `sk_…`; shown once, to the request that made it, or rotated to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Who made it.
    pub created_by: String,
    /// When, UTC.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: DateTime<Utc>,
    /// Until when the secret before the last rotation signs as well, UTC.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub previous_secret_until: Option<DateTime<Utc>>,
    /// When it was revoked, UTC.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<DateTime<Utc>>,
}

impl From<Credential> for ApiKeyResource {
    fn from(credential: Credential) -> Self {
        Self {
            id: credential.key_id,
            label: credential.label,
            role: credential.role,
            store_id: credential.store.map(|store| store.to_string()),
            nonce_only: credential.nonce_only,
            secret: None,
            created_by: credential.created_by,
            created_at: credential.created_at,
            previous_secret_until: credential.previous_secret_until,
            revoked_at: credential.revoked_at,
        }
    }
}

/// Which credentials.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ApiKeyQuery {
    /// Rows of a page, 1 to 200; 50 unless told.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Makes a credential; a merchant has at most 50 in force. Its secret is in this answer and nowhere else; a repeat is told that it was.
#[utoipa::path(post, path = "/v1/api-keys", tag = "api-keys", request_body = CreateApiKey,
    responses((status = 201, description = "Made; the secret is shown this once", body = ApiKeyResource)),
    extensions(("x-permission" = json!("credential_manage"))))]
async fn create(
    State(state): State<AppState>,
    change: Change<may::CredentialManage>,
    body: Json<CreateApiKey>,
) -> Result<Response, Problem> {
    let (input, principal) = (body.value, change.principal());
    if !(1..=64).contains(&input.label.chars().count()) || input.label.chars().any(char::is_control) {
        return Err(Problem::new(Kind::RuleBroken, "label must have 1 to 64 characters"));
    }
    if !input.role.needs_merchant() || input.role == Role::Device {
        return Err(Problem::new(Kind::RuleBroken, "role must be merchant_admin, manager, cashier or auditor"));
    }
    if change.only_store().is_some_and(|only| input.store_id != Some(only)) {
        return Err(Problem::forbidden("a credential reaches no further than who makes it: name your own store_id"));
    }
    let new = NewCredential {
        tenant: principal.tenant()?,
        psp: principal.psp,
        store: input.store_id,
        role: input.role.as_str().to_owned(),
        label: input.label,
        nonce_only: input.nonce_only,
        request: format!("{}|{}", principal.actor(), change.key().unwrap_or_default()),
        by: principal.actor(),
    };
    let (pool, now) = (state.partners.pool(), state.clock.now());
    let made = partner::create(pool, &state.keyring()?, &SystemRandom, state.ids.next(), &new, now).await?;
    match made {
        Made::Credential(credential, secret) => {
            let resource = ApiKeyResource { secret: Some(secret.to_string()), ..(*credential).into() };
            Ok((StatusCode::CREATED, JsonBody(resource)).into_response())
        }
        Made::Full => Err(Problem::new(Kind::StateConflict, "a merchant has at most 50 credentials in force; revoke one first")),
        Made::Before => Ok(repeated(
            "this request made a credential before, and its secret was shown then; revoke it and make another one if it was lost",
        )),
    }
}

/// To the repeat of a request whose answer held a secret.
fn repeated(shown: &'static str) -> Response {
    let mut response = Problem::new(Kind::StateConflict, shown).into_response();
    response.headers_mut().insert(REPLAYED, axum::http::HeaderValue::from_static("true"));
    response
}

/// Makes a new secret; the one before it signs as well for 24 hours, during which a further rotation is refused (409) unless it keeps
/// nothing. The new one is in this answer and nowhere else. Other processes know it within two seconds.
#[utoipa::path(post, path = "/v1/api-keys/{id}/rotate-secret", tag = "api-keys", request_body = Option<RotateSecret>,
    params(("id" = String, Path, description = "`pk_…`")),
    responses((status = 200, description = "Rotated; the secret is shown this once", body = ApiKeyResource)),
    extensions(("x-permission" = json!("credential_manage"))))]
async fn rotate_secret(
    State(state): State<AppState>,
    change: Change<may::CredentialManage>,
    Id(id): Id<String>,
    MaybeJson(body): MaybeJson<RotateSecret>,
) -> Result<Response, Problem> {
    let principal = change.principal();
    let rotation = Rotation {
        tenant: principal.tenant()?,
        store: change.only_store(),
        key_id: id,
        keep_previous: body.value.keep_previous.unwrap_or(true),
        request: change.key().map(|key| format!("{}|{key}", principal.actor())),
    };
    let conflict = |detail: &'static str| Err(Problem::new(Kind::StateConflict, detail));
    match partner::rotate(state.partners.pool(), &state.keyring()?, &SystemRandom, &rotation, state.clock.now()).await? {
        Rotated::Credential(credential, secret) => {
            state.partners.forget(&rotation.key_id);
            Ok(JsonBody(ApiKeyResource { secret: Some(secret.to_string()), ..(*credential).into() }).into_response())
        }
        Rotated::Before => Ok(repeated("this request rotated before, and the secret was shown then; rotate again if it was lost")),
        Rotated::UnderWay => conflict(
            "the secret before the last rotation signs until previous_secret_until; rotate after that, or with keep_previous: false, which drops it now",
        ),
        Rotated::Revoked => conflict("the credential is revoked"),
        Rotated::Missing => Err(Problem::plain(Kind::NotFound)),
    }
}

/// The merchant's credentials, newest first, those that were revoked among them.
#[utoipa::path(get, path = "/v1/api-keys", tag = "api-keys", params(ApiKeyQuery),
    responses((status = 200, description = "A page", body = ListOf<ApiKeyResource>)),
    extensions(("x-permission" = json!("credential_manage"))))]
async fn list(
    State(state): State<AppState>,
    allowed: Allowed<may::CredentialManage>,
    Filter(query): Filter<ApiKeyQuery>,
) -> Result<Response, Problem> {
    let (tenant, only, limit) = (allowed.principal.tenant()?, allowed.principal.store, query.limit.unwrap_or(50));
    if !(1..=200).contains(&limit) {
        return Err(Problem::new(Kind::ParameterInvalid, "limit must be 1 to 200"));
    }
    if query.cursor.as_deref().is_some_and(|cursor| !cursor.starts_with("pk_")) {
        return Err(Problem::plain(Kind::CursorInvalid));
    }
    let found = partner::list(state.partners.pool(), (tenant, only), query.cursor.as_deref(), limit).await?;
    let full = i64::try_from(found.len()).is_ok_and(|count| count >= limit);
    let next_cursor = found.last().filter(|_| full).map(|last| last.key_id.clone());
    Ok(JsonBody(ListOf::<ApiKeyResource> { data: found.into_iter().map(Into::into).collect(), next_cursor }).into_response())
}

/// Revokes a credential for ever. This process refuses it at once, others within two seconds.
#[utoipa::path(post, path = "/v1/api-keys/{id}/revoke", tag = "api-keys",
    params(("id" = String, Path, description = "`pk_…`")),
    responses((status = 200, description = "Revoked, or was already", body = ApiKeyResource)),
    extensions(("x-permission" = json!("credential_manage"))))]
async fn revoke(
    State(state): State<AppState>,
    change: Change<may::CredentialManage>,
    Id(id): Id<String>,
    _: NoBody,
) -> Result<Response, Problem> {
    let (principal, pool) = (change.principal(), state.partners.pool());
    let missing = || Problem::plain(Kind::NotFound);
    let reach = (principal.tenant()?, change.only_store());
    let revoked = partner::revoke(pool, reach, &id, &principal.actor(), state.clock.now()).await?.ok_or_else(missing)?;
    state.partners.forget(&id);
    Ok(JsonBody(ApiKeyResource::from(revoked)).into_response())
}
