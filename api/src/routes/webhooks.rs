//! `/webhooks/{provider}`: call-backs of payment providers. Verified, stored byte for byte, acknowledged in the provider's
//! own words; what they claim counts only once the provider's books confirm it.

use axum::{
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use commands::webhooks::{self, Received};
use domain::{
    ids::WebhookId,
    provider::{RawWebhook, WebhookRefusal},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    extract::body_bytes,
    problem::{Kind, Problem},
    state::AppState,
};

/// Headers that are worth keeping and hold no secret.
const KEPT_HEADERS: [&str; 5] = ["content-type", "content-length", "user-agent", "date", "x-request-id"];

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(receive)).routes(routes!(receive_with_secret))
}

/// Takes a call-back of a provider that signs what it sends.
#[utoipa::path(post, path = "/webhooks/{provider}", tag = "webhooks", security(()),
    params(("provider" = String, Path, description = "Name of the provider")),
    request_body(content = String, description = "As the provider sends it", content_type = "application/json"),
    responses((status = 200, description = "Taken; in the provider's own words", content_type = "application/json")))]
async fn receive(State(state): State<AppState>, Path(provider): Path<String>, request: Request) -> Result<Response, Problem> {
    take(&state, &provider, None, request).await
}

/// Takes a call-back of a provider that proves itself by a secret in the path.
#[utoipa::path(post, path = "/webhooks/{provider}/{secret}", tag = "webhooks", security(()),
    params(("provider" = String, Path, description = "Name of the provider"), ("secret" = String, Path, description = "Known to the provider only")),
    request_body(content = String, description = "As the provider sends it", content_type = "application/json"),
    responses((status = 200, description = "Taken; in the provider's own words", content_type = "application/json")))]
async fn receive_with_secret(
    State(state): State<AppState>,
    Path((provider, secret)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    take(&state, &provider, Some(&secret), request).await
}

async fn take(state: &AppState, provider: &str, secret: Option<&str>, request: Request) -> Result<Response, Problem> {
    let known = state.providers.get(provider).ok_or_else(|| Problem::new(Kind::NotFound, "there is no such provider"))?;
    let headers = texts(request.headers());
    let body = body_bytes(request, state).await?;
    let received_at = state.clock.now();
    let raw = RawWebhook { path_secret: secret, headers: &headers, body: &body, received_at };
    let hint = known.read_webhook(&raw).map_err(|refusal| {
        tracing::warn!(provider = known.name(), %refusal, "a call-back was refused");
        match refusal {
            WebhookRefusal::NotAuthentic | WebhookRefusal::Stale => Problem::plain(Kind::WebhookRefused),
            WebhookRefusal::Malformed(_, reason) => Problem::new(Kind::WebhookMalformed, reason),
        }
    })?;
    let kept: Vec<_> = headers.iter().filter(|(name, _)| KEPT_HEADERS.contains(&name.as_str())).cloned().collect();
    let received =
        Received { id: WebhookId(state.ids.next()), provider: known.name(), hint: &hint, received_at, headers: &kept, body: &body };
    let fresh = webhooks::receive(&state.webhook_pool, &received).await.map_err(|error| Problem::unavailable(&error))?;
    tracing::info!(provider = known.name(), fresh, delivery = %hint.delivery_id, "a call-back was taken");
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Ok((json, hint.acknowledgement).into_response())
}

fn texts(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}
