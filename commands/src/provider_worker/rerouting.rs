//! From one account to the next: an attempt is given up, and its payment goes on.

use domain::{
    ids::{AttemptId, MerchantId, PaymentIntentId},
    process::AttemptRef,
};

use super::Worker;
use crate::{error::CommandError, process_store::ProcessStore, routing};

impl<S: ProcessStore> Worker<S> {
    /// Gives up an attempt that never reached its provider, if another account takes the payment.
    ///
    /// # Errors
    /// Any [`CommandError`].
    pub(super) async fn give_up(&self, tenant: MerchantId, attempt: AttemptRef) -> Result<bool, CommandError> {
        let answer = self
            .handler
            .transact(&self.caller(tenant), |unit| {
                let attempt = attempt.clone();
                Box::pin(async move {
                    routing::give_up(unit, &attempt).await?;
                    Ok(unit.done())
                })
            })
            .await?;
        Ok(answer.position.is_some())
    }

    /// Goes on with a payment at the next account; what no rule lets go on stays as it is.
    ///
    /// # Errors
    /// Any [`CommandError`] but a rejection.
    pub(super) async fn go_on(&self, tenant: MerchantId, id: PaymentIntentId, failed: AttemptId) -> Result<(), CommandError> {
        let caller = self.caller(tenant);
        let work = self.handler.transact(&caller, |unit| {
            Box::pin(async move {
                routing::go_on(unit, id, failed).await?;
                Ok(unit.done())
            })
        });
        match work.await {
            // The payment has moved on, or has no attempt left.
            Err(CommandError::Rejected(rejected)) => {
                tracing::warn!(%rejected, %id, "a payment does not go on at another account");
                Ok(())
            }
            other => other.map(drop),
        }
    }
}
