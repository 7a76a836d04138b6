//! `/v1/auth/dev-token`: tokens for development. Exists only where it was switched on.

use axum::{
    Json as JsonBody,
    extract::State,
    http::{HeaderMap, HeaderName},
    response::{IntoResponse, Response},
};
use chrono::Duration;
use domain::ids::{MerchantId, PspId, StoreId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    auth::{Role, TokenIssuer, TokenRequest},
    extract::Json,
    problem::{Kind, Problem},
    state::AppState,
    token_command::DEVELOPMENT_PSP,
};

/// What a caller must know.
const DEV_SECRET: HeaderName = HeaderName::from_static("smartpos-dev-secret");
/// Longest life of a token, seconds.
const MAX_TTL_SECONDS: i64 = 86_400;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(dev_token))
}

/// A token to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DevToken {
    /// Who: 1 to 128 characters of A-Z, a-z, 0-9 and `._:@+-`.
    #[schema(examples("ann"))]
    subject: String,
    /// As what.
    role: Role,
    /// `psp_…`; without it the development PSP.
    #[schema(value_type = Option<String>)]
    psp: Option<PspId>,
    /// `mer_…`, for every role but `platform_admin`.
    #[schema(value_type = Option<String>)]
    merchant: Option<MerchantId>,
    /// `sto_…`: the only store that the token reaches.
    #[schema(value_type = Option<String>)]
    store: Option<StoreId>,
    /// The device that the token is made for.
    device: Option<String>,
    /// How long, seconds; at most a day.
    #[schema(minimum = 1, maximum = 86_400)]
    ttl_seconds: i64,
}

/// A token.
#[derive(Debug, Serialize, ToSchema)]
pub struct IssuedToken {
    /// For `Authorization: Bearer …`.
    access_token: String,
    /// `Bearer`.
    token_type: &'static str,
    /// Seconds.
    expires_in: i64,
}

/// Makes a token for development.
#[utoipa::path(post, path = "/v1/auth/dev-token", tag = "auth", request_body = DevToken, security(()),
    params(("Smartpos-Dev-Secret" = String, Header, description = "The secret of this installation")),
    responses((status = 200, description = "A token", body = IssuedToken)))]
async fn dev_token(State(state): State<AppState>, door: Door, body: Json<DevToken>) -> Result<Response, Problem> {
    let input = body.value;
    if !(1..=MAX_TTL_SECONDS).contains(&input.ttl_seconds) {
        return Err(Problem::new(Kind::RuleBroken, format!("ttl_seconds must be 1 to {MAX_TTL_SECONDS}")));
    }
    let request = TokenRequest {
        subject: input.subject,
        role: input.role,
        psp: input.psp.unwrap_or(DEVELOPMENT_PSP),
        merchant: input.merchant,
        store: input.store,
        device: input.device,
        lifetime: Duration::seconds(input.ttl_seconds),
    };
    let token = door.0.issue(request, state.ids.next(), state.clock.now());
    let access_token = token.map_err(|error| Problem::new(Kind::RuleBroken, error.to_string()))?;
    Ok(JsonBody(IssuedToken { access_token, token_type: "Bearer", expires_in: input.ttl_seconds }).into_response())
}

/// The issuer, for those who know the secret; looked at before the body.
struct Door(TokenIssuer);

impl axum::extract::FromRequestParts<AppState> for Door {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut axum::http::request::Parts, state: &AppState) -> Result<Self, Problem> {
        let (Some(issuer), Some(secret)) = (&state.issuer, &state.dev_secret) else {
            return Err(Problem::plain(Kind::RouteNotFound));
        };
        if knows(&parts.headers, secret) { Ok(Self(issuer.clone())) } else { Err(Problem::unauthorized("the development secret is wrong")) }
    }
}

fn knows(headers: &HeaderMap, secret: &str) -> bool {
    let given = headers.get(DEV_SECRET).map_or(&[][..], axum::http::HeaderValue::as_bytes);
    // Digests have one length, so that not even the length of the secret shows in the time that this takes.
    let same = Sha256::digest(given).as_slice().ct_eq(Sha256::digest(secret.as_bytes()).as_slice());
    !secret.is_empty() && bool::from(same)
}
