//! The work on hints: what a call-back spoke of is looked for in the provider's books.

use domain::{
    ids::MerchantId,
    payment_intent::PaymentIntent,
    process::work::{books, hint},
    provider::ExchangeLog,
};
use metrics::counter;

use super::{Held, Worker};
use crate::{
    call_backs,
    error::CommandError,
    event_store::ulid_of,
    process_store::{ProcessStore, Settled},
    provider_calls::Named,
    refund_checks,
};

impl<S: ProcessStore> Worker<S> {
    /// Looks for what a call-back spoke of; waits when the attempt that its reference names is not known yet.
    ///
    /// # Errors
    /// Any [`CommandError`]: the task still stands then.
    pub(super) async fn follow_hint(&self, leased: Held, hint: hint::Hint) -> Result<(), CommandError> {
        let call_back = call_backs::of_task(&leased.key);
        let last = hint.tried >= hint::HINT_TRIES;
        let Some((tenant, attempt)) = self.store().attempt_of(&hint.provider, &hint.reference).await? else {
            return match (call_back, hint::look_again(hint, self.now())) {
                (Some(id), _) => Ok(self.store().park(id, &leased.key).await?),
                (None, Some(next)) => self.finish(&leased, Some(next), None, None).await,
                (None, None) => self.remove(&leased.key).await,
            };
        };
        let leased = Held { tenant, ..leased };
        let merchant = MerchantId(ulid_of(tenant));
        let log = ExchangeLog::default();
        if hint.tried == 0 {
            log.record(call_backs::exchange(&attempt, &leased.key, hint.transaction_id.as_deref(), self.now()));
        }
        let outcome = self.calls.inquire(merchant, &attempt, self.now(), log).await;
        let paid = books::is_paid(&attempt, &outcome).then(|| attempt.clone());
        let named = Named::by(&attempt, &outcome);
        let (mut step, found) = hint::after_hint(&attempt, hint.clone(), outcome, self.now());
        let commands = std::mem::take(&mut step.commands);
        let ((), news) = tokio::join!(self.calls.keep_name(named), self.append(&leased, commands));
        let news = news?;
        // What was appended was decided by the newest state: if that has no refunds, there are none to look for.
        let seen = self.handler.last_seen::<PaymentIntent>(merchant, attempt.payment_intent_id);
        if !news || seen.is_none_or(|seen| refund_checks::may_have_some(&seen)) {
            let refunds = refund_checks::look(&self.handler, &self.caller(merchant), &self.calls, attempt.payment_intent_id).await?;
            self.append(&leased, refunds.commands).await?;
            if refunds.unanswered {
                step.next = step.next.or_else(|| hint::look_again(hint, self.now()));
            }
        }
        let unconfirmed = call_back.is_some() && last && !found;
        if unconfirmed {
            tracing::error!(key = leased.key, reference = attempt.reference, "the provider's books do not show what a call-back spoke of");
            counter!("smartpos_webhooks_unconfirmed_total").increment(1);
        }
        let settled = call_back.filter(|_| step.next.is_none()).map(|id| Settled { id, tenant, confirmed: !unconfirmed });
        self.finish(&leased, step.next, paid, settled).await
    }
}
