//! The work on refunds: sending money back, and looking for it in the provider's books.

use domain::{
    ids::MerchantId,
    process::{
        RefundRef,
        work::{
            Step,
            refund::{self, Awaited},
        },
    },
    provider::CallOutcome,
    refund::Refund,
};

use super::{Worker, task::lost};
use crate::{error::CommandError, process_store::ProcessStore};

impl<S: ProcessStore> Worker<S> {
    /// Sends money back, unless how the refund ended is known meanwhile, or was said by a person: then it is looked for at most.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub(super) async fn send_back(&self, tenant: MerchantId, refund: RefundRef, abandoned: bool) -> Result<Step, CommandError> {
        if self.awaited(tenant, &refund).await? != Awaited::Outcome {
            return self.look_for(tenant, refund).await;
        }
        let outcome = if abandoned { lost() } else { self.calls.refund(tenant, &refund, self.now()).await };
        // A person may have decided while it was asked for: then a refusal decides nothing, and the books are looked at on.
        if matches!(outcome, CallOutcome::Declined(_))
            && let Awaited::Books { sent } = self.awaited(tenant, &refund).await?
        {
            return Ok(refund::after_decided_check(refund, sent, outcome, self.now()));
        }
        Ok(refund::after_refund(refund, outcome, self.now()))
    }

    /// Looks for a refund in the provider's books.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub(super) async fn look_for(&self, tenant: MerchantId, refund: RefundRef) -> Result<Step, CommandError> {
        let awaited = self.awaited(tenant, &refund).await?;
        if awaited == Awaited::Nothing {
            return Ok(Step::default());
        }
        let outcome = self.calls.inquire_refund(tenant, &refund, self.now()).await;
        Ok(match awaited {
            Awaited::Books { sent } => refund::after_decided_check(refund, sent, outcome, self.now()),
            Awaited::Outcome | Awaited::Nothing => refund::after_refund_check(refund, outcome, self.now()),
        })
    }

    /// What is still to be heard of a refund. Before its first call nobody can have decided, so that nothing is read then.
    async fn awaited(&self, tenant: MerchantId, refund: &RefundRef) -> Result<Awaited, CommandError> {
        if refund.tried == 0 {
            return Ok(Awaited::Outcome);
        }
        let known = self.handler.read::<Refund>(tenant, refund.refund_id).await?;
        Ok(refund::awaited(&known))
    }
}
