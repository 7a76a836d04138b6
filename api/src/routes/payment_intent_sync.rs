//! What a provider says of an intent right now: asked for outright, and waited for by callers of the published form.

use std::{sync::Arc, time::Duration};

use axum::{extract::State, http::HeaderValue, response::Response};
use commands::idempotency::Answer;
use domain::{
    ids::{MerchantId, PaymentIntentId, StoreId},
    payment_intent::{self, PaymentIntent, Status},
    routing::may_succeed_elsewhere,
};
use futures_util::future::try_join_all;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};
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
/// How often this process's memory is asked meanwhile, which costs nothing.
const GLANCE: Duration = Duration::from_millis(10);
/// Requests that wait for a provider at the same time; one more is answered as it is, so that a provider that hangs does not keep those busy
/// who ask the database for others.
static WAITING: Semaphore = Semaphore::const_new(128);

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
    if let Ok(_turn) = WAITING.try_acquire() {
        let attempts = intent.earlier.iter().chain(intent.attempt.as_ref().map(|attempt| &attempt.started));
        let look = |attempt| state.looks.look(&state.app_pool, &state.tasks, (tenant, attempt), state.clock.now(), PATIENCE);
        try_join_all(attempts.map(look)).await.map_err(|error| Problem::unavailable(&error))?;
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
    let _turn = WAITING.try_acquire().ok()?;
    let until = Instant::now() + PATIENCE_FOR_ACTION;
    while Instant::now() < until {
        // Forgotten as soon as another process has written it.
        let seen = match state.commands.last_seen::<PaymentIntent>(tenant, id) {
            Some(seen) => seen,
            None => state.commands.read_at::<PaymentIntent>(tenant, id).await.ok()?.1,
        };
        if is_answered(&seen) {
            break;
        }
        sleep(GLANCE).await;
    }
    let (version, intent) = state.commands.read_at::<PaymentIntent>(tenant, id).await.ok()?;
    let shown = serde_json::to_value(PaymentIntentResource::of(&intent, version)?).ok()?;
    (intent.status != Status::Processing).then_some(())?;
    Some((HeaderValue::from_str(&format!("\"{version}\"")).ok()?, shown))
}

/// The provider has said something, and no other account is tried after it.
fn is_answered(intent: &payment_intent::State) -> bool {
    let goes_on = |attempt: &payment_intent::Attempt| attempt.failed.as_ref().is_some_and(|failed| may_succeed_elsewhere(&failed.code));
    match intent.status {
        Status::Processing => false,
        Status::RequiresPaymentMethod => !intent.attempt.as_ref().is_some_and(goes_on),
        Status::Absent
        | Status::RequiresAction
        | Status::RequiresCapture
        | Status::Succeeded
        | Status::Canceled
        | Status::Expired
        | Status::Failed => true,
    }
}
