//! What a provider says of an intent right now: asked for outright, and waited for by callers of the published form.

use std::{sync::Arc, time::Duration};

use axum::{extract::State, http::HeaderValue, response::Response};
use commands::{idempotency::Answer, looks};
use domain::{
    ids::{MerchantId, PaymentIntentId, StoreId},
    payment_intent::{self, PaymentIntent, Status},
};
use tokio::time::{Instant, sleep};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{command::respond, payment_intents::COLLECTION};
use crate::{
    auth::{Allowed, may},
    extract::Id,
    problem::Problem,
    resources::{PaymentIntentResource, Resource},
    state::AppState,
};

/// How long an answer waits for a provider's books.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a caller of the published form waits for what the payer must do.
const PATIENCE_FOR_ACTION: Duration = Duration::from_secs(5);
/// How often this process's memory is asked meanwhile, which costs nothing, and after how many times the log, which others write, too.
const GLANCE: Duration = Duration::from_millis(10);
const GLANCES_A_READ: usize = 20;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(sync))
}

/// Asks the provider how the payment stands, with its refunds and disputes, and answers the intent as it is then. Nothing is charged. What
/// no provider was asked for is answered as it is; when the provider does not answer within ten seconds, so is the rest.
#[utoipa::path(post, path = "/v1/payment-intents/{id}/sync", tag = "payment-intents",
    params(("id" = String, Path, description = "`pi_…`")),
    responses((status = 200, description = "As it is now", body = PaymentIntentResource)),
    extensions(("x-permission" = json!("payment_take"))))]
async fn sync(State(state): State<AppState>, allowed: Allowed<may::PaymentTake>, Id(id): Id<PaymentIntentId>) -> Result<Response, Problem> {
    let (tenant, only) = (allowed.principal.tenant()?, allowed.principal.store);
    let (_, intent) = current(&state, tenant, only, id).await?;
    if let Some(attempt) = intent.attempt.as_ref().map(|attempt| &attempt.started) {
        let looked = looks::look(&state.app_pool, &state.tasks, (tenant, attempt), state.clock.now(), PATIENCE).await;
        looked.map_err(|error| Problem::unavailable(&error))?;
    }
    let (version, intent) = current(&state, tenant, only, id).await?;
    let shown =
        PaymentIntentResource::of(&intent, version).ok_or_else(|| Problem::missing(payment_intent::Rejection::PaymentIntentNotFound))?;
    let body = serde_json::to_vec(&shown).map_err(|error| Problem::internal(&error))?;
    Ok(respond(Answer { status: 200, version, body, position: None, replayed: false }, COLLECTION))
}

/// An intent as it stands in the log, within the caller's reach.
async fn current(
    state: &AppState,
    tenant: MerchantId,
    only: Option<StoreId>,
    id: PaymentIntentId,
) -> Result<(i64, Arc<payment_intent::State>), Problem> {
    let (version, intent) = state.commands.read_at::<PaymentIntent>(tenant, id).await?;
    let store = intent.details.as_ref().map(|details| details.store_id);
    match (store, only) {
        (Some(store), only) if only.is_none_or(|only| only == store) => Ok((version, intent)),
        (Some(_) | None, _) => Err(Problem::missing(payment_intent::Rejection::PaymentIntentNotFound)),
    }
}

/// An intent of which `body` says that its provider is being called, as it is once that has answered; nothing when it does not in time,
/// or when the body is another one.
pub async fn once_answered(state: &AppState, tenant: MerchantId, body: &serde_json::Value) -> Option<(HeaderValue, serde_json::Value)> {
    let waits = body.get("status").is_some_and(|status| status == Status::Processing.as_str());
    let id: PaymentIntentId = body.get("id").filter(|_| waits)?.as_str()?.parse().ok()?;
    let answered = |intent: &payment_intent::State| intent.status != Status::Processing;
    let until = Instant::now() + PATIENCE_FOR_ACTION;
    for glance in 1_usize.. {
        sleep(GLANCE).await;
        let seen = state.commands.last_seen::<PaymentIntent>(tenant, id).is_some_and(|intent| answered(&intent));
        let late = Instant::now() >= until;
        if seen || late || glance.is_multiple_of(GLANCES_A_READ) {
            let (version, intent) = state.commands.read_at::<PaymentIntent>(tenant, id).await.ok()?;
            if answered(&intent) {
                let shown = serde_json::to_value(PaymentIntentResource::of(&intent, version)?).ok()?;
                return Some((HeaderValue::from_str(&format!("\"{version}\"")).ok()?, shown));
            }
        }
        if late {
            break;
        }
    }
    None
}
