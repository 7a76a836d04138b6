//! Use cases of webhook endpoints. A secret is sealed before anything is decided; only the caller of [`create`] and
//! [`rotate_secret`] has it in the clear.

use std::sync::Arc;

use chrono::Duration;
use domain::{
    ids::WebhookEndpointId,
    webhook_endpoint::{self, Command, Created, Details, ROTATION_OVERLAP_HOURS, SecretRotated, WebhookEndpoint},
};

use crate::{error::CommandError, handle::UnitOfWork, personal::Keyring};

/// Creates an endpoint with this secret.
///
/// # Errors
/// Any rejection of an endpoint; what [`Keyring::seal_secret`] says.
pub async fn create(
    unit: &mut UnitOfWork,
    keyring: &Keyring,
    webhook_endpoint_id: WebhookEndpointId,
    details: Details,
    secret: &[u8],
) -> Result<Arc<webhook_endpoint::State>, CommandError> {
    let secret = keyring.seal_endpoint_secret(unit.tenant(), webhook_endpoint_id, secret).await?;
    let created = Created { webhook_endpoint_id, details, secret };
    unit.decide::<WebhookEndpoint>(webhook_endpoint_id, Command::Create(Box::new(created))).await
}

/// Signs with another secret from now on, and for a while with the one before as well.
///
/// # Errors
/// `WebhookEndpointNotFound`; what [`Keyring::seal_secret`] says.
pub async fn rotate_secret(
    unit: &mut UnitOfWork,
    keyring: &Keyring,
    id: WebhookEndpointId,
    secret: &[u8],
) -> Result<Arc<webhook_endpoint::State>, CommandError> {
    // Asked first: a key must not come into being for an endpoint that does not exist.
    if unit.state::<WebhookEndpoint>(id).await?.status == webhook_endpoint::Status::Absent {
        return Err(CommandError::Rejected(webhook_endpoint::Rejection::WebhookEndpointNotFound.into()));
    }
    let secret = keyring.seal_endpoint_secret(unit.tenant(), id, secret).await?;
    let previous_until = unit.now() + Duration::hours(ROTATION_OVERLAP_HOURS);
    unit.decide::<WebhookEndpoint>(id, Command::RotateSecret(SecretRotated { previous_until, secret })).await
}

/// Any other change.
///
/// # Errors
/// Any rejection of an endpoint.
pub async fn change(unit: &mut UnitOfWork, id: WebhookEndpointId, command: Command) -> Result<Arc<webhook_endpoint::State>, CommandError> {
    unit.decide::<WebhookEndpoint>(id, command).await
}
