//! The work on holds: capturing what is held, and raising it. Where an earlier call may have done so, it is looked first whether that is
//! still awaited.

use domain::{
    ids::{AttemptId, MerchantId},
    payment_intent::{PaymentIntent, State},
    process::{
        AttemptRef,
        work::{
            Step,
            hold::{self, Asked},
        },
    },
    provider::ExchangeLog,
};

use super::Worker;
use crate::{error::CommandError, process_store::ProcessStore};

/// Whether a state of the payment awaits what was asked of an attempt: so much, and a person told or not.
type Awaits = fn(&State, AttemptId, i64, bool) -> bool;

impl<S: ProcessStore> Worker<S> {
    /// Captures what is held. Where an earlier call may have done so, the books are asked first, and somebody may have decided meanwhile.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub(super) async fn capture(
        &self,
        tenant: MerchantId,
        attempt: AttemptRef,
        asked: Asked,
        abandoned: bool,
    ) -> Result<Step, CommandError> {
        if may_have_been_made(asked, abandoned) {
            if !self.is_awaited(tenant, &attempt, asked, State::awaits_capture).await? {
                return Ok(Step::default());
            }
            let seen = self.calls.inquire(tenant, &attempt, self.now(), ExchangeLog::default()).await;
            if let Some(step) = hold::before_capture_again(&attempt, asked, abandoned, &seen, self.now()) {
                return Ok(step);
            }
        }
        let outcome = self.calls.capture(tenant, &attempt, asked).await;
        Ok(hold::after_capture(attempt, asked, outcome, self.now()))
    }

    /// Raises what is held, unless somebody has decided meanwhile. The books need not be asked: made twice, the call happens once.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub(super) async fn increase(
        &self,
        tenant: MerchantId,
        attempt: AttemptRef,
        asked: Asked,
        abandoned: bool,
    ) -> Result<Step, CommandError> {
        if may_have_been_made(asked, abandoned) && !self.is_awaited(tenant, &attempt, asked, State::awaits_increase).await? {
            return Ok(Step::default());
        }
        let outcome = self.calls.increase(tenant, &attempt, asked).await;
        Ok(hold::after_increase(attempt, asked, outcome, self.now()))
    }

    /// Whether the payment still awaits what was asked of the attempt.
    async fn is_awaited(&self, tenant: MerchantId, attempt: &AttemptRef, asked: Asked, awaits: Awaits) -> Result<bool, CommandError> {
        let intent = self.handler.read::<PaymentIntent>(tenant, attempt.payment_intent_id).await?;
        Ok(awaits(&intent, attempt.attempt_id, asked.amount, asked.told))
    }
}

/// Whether this is not surely the first call. Before that nobody can have decided, so that nothing is looked at then.
const fn may_have_been_made(asked: Asked, abandoned: bool) -> bool {
    abandoned || asked.tried > 0
}
