//! Use cases of customers. A profile is sealed before anything is decided: no event, state or stored answer holds it in the clear.

use std::sync::Arc;

use domain::{
    customer::{self, Customer, ErasureReason, Profile, Registered},
    ids::CustomerId,
};

use crate::{error::CommandError, handle::UnitOfWork, personal::Keyring};

/// Registers a person.
///
/// # Errors
/// Any rejection of a customer; what [`Keyring::seal`] says.
pub async fn register(
    unit: &mut UnitOfWork,
    keyring: &Keyring,
    customer_id: CustomerId,
    profile: &Profile,
) -> Result<Arc<customer::State>, CommandError> {
    let profile = keyring.seal(unit.tenant(), customer_id, profile).await?;
    unit.decide::<Customer>(customer_id, customer::Command::Register(Registered { customer_id, profile })).await
}

/// Replaces what is known of a person.
///
/// # Errors
/// Any rejection of a customer; what [`Keyring::seal`] says.
pub async fn change_profile(
    unit: &mut UnitOfWork,
    keyring: &Keyring,
    customer_id: CustomerId,
    profile: &Profile,
) -> Result<Arc<customer::State>, CommandError> {
    // Asked first: a key must not come into being for a person that does not exist.
    if unit.state::<Customer>(customer_id).await?.status == customer::Status::Absent {
        return Err(CommandError::Rejected(customer::Rejection::CustomerNotFound.into()));
    }
    let profile = keyring.seal(unit.tenant(), customer_id, profile).await?;
    unit.decide::<Customer>(customer_id, customer::Command::ChangeProfile { profile }).await
}

/// Forgets a person: the database destroys the key in the transaction that stores the fact.
///
/// # Errors
/// `CustomerNotFound`.
pub async fn erase(unit: &mut UnitOfWork, customer_id: CustomerId, reason: ErasureReason) -> Result<Arc<customer::State>, CommandError> {
    unit.decide::<Customer>(customer_id, customer::Command::Erase { reason }).await
}
