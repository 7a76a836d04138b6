//! Use cases of webhook endpoints. A secret is sealed before anything is decided; only the caller of [`create`] and
//! [`rotate_secret`] has it in the clear.

use std::sync::Arc;

use chrono::Duration;
use domain::{
    ids::WebhookEndpointId,
    webhook_endpoint::{self, Command, Created, Details, ROTATION_OVERLAP_HOURS, Sealed, SecretRotated, WebhookEndpoint},
};

use crate::{
    error::CommandError,
    handle::UnitOfWork,
    personal::{Keyring, Subject},
};

/// Creates an endpoint with this secret.
///
/// # Errors
/// Any rejection of an endpoint; what [`Keyring::seal_for`] says.
pub async fn create(
    unit: &mut UnitOfWork,
    keyring: &Keyring,
    webhook_endpoint_id: WebhookEndpointId,
    details: Details,
    secret: &[u8],
) -> Result<Arc<webhook_endpoint::State>, CommandError> {
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
