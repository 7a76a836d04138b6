//! `/v1/idempotency-keys/{key}`: what became of a request whose answer was lost.

use axum::{
    Json as JsonBody,
    extract::State,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use commands::idempotency::{self, UsedKey};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::command::scope_of;
use crate::{
    auth::{Allowed, may},
    extract::Id,
    problem::{Kind, Problem},
    state::AppState,
};

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(get))
}

/// What a key stands for.
#[derive(Debug, Serialize, ToSchema)]
pub struct IdempotencyKeyResource {
    /// The key.
    pub key: String,
    /// Every operation that it was used for, as one key may be used once for each.
    pub uses: Vec<KeyUse>,
}

/// One request that took effect.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeyUse {
    /// Method and path template.
    #[schema(examples("POST /v1/payments"))]
    pub operation: String,
    /// The fields that were sent, as JSON pointers; values are kept only as hashes.
    pub fields: Vec<String>,
    /// `completed`: it took effect, and its answer is final.
    #[schema(examples("completed"))]
    pub state: &'static str,
    /// When it took effect, UTC; nothing for a request that changed nothing.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub recorded_at: Option<DateTime<Utc>>,
    /// Last log position that it wrote.
    pub position: Option<i64>,
    /// Status of the answer.
    pub status: u16,
    /// The answer, as first given.
    pub answer: Value,
}

/// Looks up a key of one's own. 404 means that no request with it has taken effect; one that was sent within the last half minute
/// may still, and sending it once more is safe at any time: it acts once.
#[utoipa::path(get, path = "/v1/idempotency-keys/{key}", tag = "idempotency-keys",
    params(("key" = String, Path, description = "The key, percent-encoded")),
    responses((status = 200, description = "What was asked and answered", body = IdempotencyKeyResource)),
    extensions(("x-permission" = json!("key_read"))))]
async fn get(State(state): State<AppState>, allowed: Allowed<may::KeyRead>, Id(key): Id<String>) -> Result<Response, Problem> {
    let (tenant, actor) = (allowed.principal.tenant()?, allowed.principal.actor());
    let operations = operations();
    let scopes: Vec<String> = operations.iter().map(|operation| scope_of(&actor, operation)).collect();
    let found = idempotency::find(&state.app_pool, tenant.0, &scopes, &key).await?;
    if found.is_empty() {
        return Err(Problem::new(Kind::NotFound, "no request of yours with this key has taken effect"));
    }
    let uses = found.into_iter().map(|used| shown(used, &actor)).collect();
    Ok(JsonBody(IdempotencyKeyResource { key, uses }).into_response())
}

fn shown(used: UsedKey, actor: &str) -> KeyUse {
    let prefix = scope_of(actor, "");
    let operation = used.scope.strip_prefix(&prefix).unwrap_or(&used.scope).to_owned();
    KeyUse {
        operation,
        fields: used.fields,
        state: "completed",
        recorded_at: used.recorded_at,
        position: used.position,
        status: used.status,
        answer: serde_json::from_slice(&used.body).unwrap_or(Value::Null),
    }
}

/// Every operation that takes a key, as in a key's scope.
fn operations() -> Vec<String> {
    static OPERATIONS: std::sync::LazyLock<Vec<String>> = std::sync::LazyLock::new(|| {
        let mut document = crate::openapi::document();
        let mut found = Vec::new();
        for (path, item) in &mut document.paths.paths {
            for (method, _) in crate::openapi::operations_mut(item) {
                if method != "get" {
                    found.push(format!("{} {path}", method.to_uppercase()));
                }
            }
        }
        found
    });
    OPERATIONS.clone()
}
