//! Use cases of webhook endpoints. A secret is sealed before anything is decided; only the caller of [`create`] and
//! [`rotate_secret`] has it in the clear.

use std::sync::Arc;

use chrono::Duration;
use domain::{
    envelope::StreamType,
    ids::{MerchantId, WebhookEndpointId},
    webhook_endpoint::{self, Command, Created, Details, MOST_ENDPOINTS, ROTATION_OVERLAP_HOURS, Sealed, SecretRotated, WebhookEndpoint},
};
use sqlx::PgPool;

use crate::{
    error::CommandError,
    event_store::uuid_of,
    handle::UnitOfWork,
    personal::{Keyring, Subject},
};

/// What a creation is refused with when another one of the same merchant was faster: to be tried again.
pub const CREATED_MEANWHILE: &str = "another endpoint of this merchant was created at the same moment";

/// How many endpoints a merchant ever created, and how many of them it deleted.
async fn created_and_deleted(pool: &PgPool, tenant: MerchantId) -> Result<(i64, i64), CommandError> {
    let sql = "select begun, ended from log.streams_of($1, $2, $3)";
    let query = sqlx::query_as(sql).bind(uuid_of(tenant)).bind(StreamType::WebhookEndpoint.as_str()).bind("webhook_endpoint.deleted");
    Ok(query.fetch_one(pool).await?)
}

/// Creates an endpoint with this secret. `pool`: the edge's. The how many-th it is is a name that is taken once: of two creations at
/// one moment one sees the other, so that a merchant never has more than [`MOST_ENDPOINTS`].
///
/// # Errors
/// `TooManyWebhookEndpoints` and any other rejection of an endpoint; `AlreadyTaken` with [`CREATED_MEANWHILE`]; what
/// [`Keyring::seal_for`] says.
pub async fn create(
    unit: &mut UnitOfWork,
    pool: &PgPool,
    keyring: &Keyring,
    webhook_endpoint_id: WebhookEndpointId,
    details: Details,
    secret: &[u8],
) -> Result<Arc<webhook_endpoint::State>, CommandError> {
    let (created, deleted) = created_and_deleted(pool, unit.tenant()).await?;
    if created.saturating_sub(deleted) >= MOST_ENDPOINTS {
        return Err(CommandError::Rejected(webhook_endpoint::Rejection::TooManyWebhookEndpoints.into()));
    }
    let nth = created.saturating_add(1).to_string();
    unit.claim(unit.tenant().0, "webhook endpoint", &nth, CREATED_MEANWHILE);
    let secret = seal(unit, keyring, webhook_endpoint_id, secret).await?;
    let created = Created { webhook_endpoint_id, details, secret };
    unit.decide::<WebhookEndpoint>(webhook_endpoint_id, Command::Create(Box::new(created))).await
}

/// Signs with another secret from now on, and with `keep_previous` for a while with the one before as well.
///
/// # Errors
/// `WebhookEndpointNotFound`; `RotationUnderWay` while an earlier rotation's overlap lasts, unless nothing is kept; what [`Keyring::seal_for`] says.
pub async fn rotate_secret(
    unit: &mut UnitOfWork,
    keyring: &Keyring,
    id: WebhookEndpointId,
    secret: &[u8],
    keep_previous: bool,
) -> Result<Arc<webhook_endpoint::State>, CommandError> {
    // Asked first: a key must not come into being for an endpoint that does not exist.
    if unit.state::<WebhookEndpoint>(id).await?.status == webhook_endpoint::Status::Absent {
        return Err(CommandError::Rejected(webhook_endpoint::Rejection::WebhookEndpointNotFound.into()));
    }
    let secret = seal(unit, keyring, id, secret).await?;
    let now = unit.now();
    let previous_until = if keep_previous { now + Duration::hours(ROTATION_OVERLAP_HOURS) } else { now };
    unit.decide::<WebhookEndpoint>(id, Command::RotateSecret { rotated: SecretRotated { previous_until, secret }, now }).await
}

/// The endpoint's key goes the way of a person's: it is destroyed in the transaction that stores the endpoint's end.
async fn seal(unit: &UnitOfWork, keyring: &Keyring, id: WebhookEndpointId, secret: &[u8]) -> Result<Sealed, CommandError> {
    let sealed = keyring.seal_for(&Subject::endpoint(unit.tenant(), id), secret).await?;
    sealed.ok_or_else(|| CommandError::Rejected(webhook_endpoint::Rejection::WebhookEndpointNotFound.into()))
}

/// Any other change.
///
/// # Errors
/// Any rejection of an endpoint.
pub async fn change(unit: &mut UnitOfWork, id: WebhookEndpointId, command: Command) -> Result<Arc<webhook_endpoint::State>, CommandError> {
    unit.decide::<WebhookEndpoint>(id, command).await
}
