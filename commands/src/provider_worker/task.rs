//! One task: its work, and what came of it in the log; only then its end.

use chrono::{DateTime, Utc};
use domain::{
    ids::MerchantId,
    payment_intent::{PaymentIntent, Standing},
    process::{
        AttemptRef, InquiryMode, ProcessCommand, Task,
        provider_calls::watch_key,
        work::{self, books, hint, hold, lapse},
    },
    provider::{CallOutcome, ExchangeLog},
};
use uuid::Uuid;

use super::{Held, Worker};
use crate::{
    error::CommandError,
    event_store::ulid_of,
    fail_point,
    process_runner::execute,
    process_store::{Conclusion, ProcessStore, Settled},
    provider_calls::Named,
    routing,
};

/// What came of a call whose maker ended, or could not keep its outcome.
pub(super) fn lost<T>() -> CallOutcome<T> {
    CallOutcome::Unknown("the call may have been made, and its outcome was not kept".to_owned())
}

/// The next task as a row of the tenant's.
fn owned(leased: &Held, next: Option<(Task, DateTime<Utc>)>) -> Option<(Task, Uuid, DateTime<Utc>)> {
    next.map(|(task, due_at)| (task, leased.tenant, due_at))
}

impl<S: ProcessStore> Worker<S> {
    /// Does what a task asks for, and ends it.
    ///
    /// # Errors
    /// Any [`CommandError`]: the task still stands then.
    pub(super) async fn perform(&self, leased: Held) -> Result<(), CommandError> {
        let tenant = MerchantId(ulid_of(leased.tenant));
        let moves_money = leased.task.moves_money();
        if moves_money {
            fail_point::reach("before_call").await;
        }
        let (mut paid, mut named) = (None, None);
        let step = match leased.task.clone() {
            Task::FollowHint { provider, reference, transaction_id, tried } => {
                return self.follow_hint(leased, hint::Hint { provider, reference, transaction_id, tried }).await;
            }
            Task::Start { attempt, card_token, return_url, tried, uncertain_since } => {
                let start = work::Start { attempt, card_token, return_url, tried, uncertain_since };
                let standing = self.standing(tenant, &start.attempt).await?;
                if !work::may_start(standing, &start.attempt, self.now()) {
                    return self.remove(&leased.key).await;
                }
                let outcome = if leased.abandoned { lost() } else { self.calls.start(tenant, &start).await };
                let waited = matches!(outcome, CallOutcome::NotAttempted(_)) && tried >= routing::TRIES_BEFORE_ANOTHER;
                if waited && self.give_up(tenant, start.attempt.clone()).await? {
                    return self.remove(&leased.key).await;
                }
                paid = books::is_paid(&start.attempt, &outcome).then(|| start.attempt.clone());
                named = Named::by(&start.attempt, &outcome);
                work::after_start(start, outcome, self.now())
            }
            Task::Reroute { payment_intent_id, attempt_id } => {
                self.go_on(tenant, payment_intent_id, attempt_id).await?;
                return self.remove(&leased.key).await;
            }
            Task::Lapse { payment_intent_id } => {
                let intent = self.handler.read::<PaymentIntent>(tenant, payment_intent_id).await?;
                lapse::after_look(payment_intent_id, &intent, self.now())
            }
            Task::Inquire { attempt, mode, asked } => {
                let standing = self.standing(tenant, &attempt).await?;
                let outcome = self.calls.inquire(tenant, &attempt, self.now(), ExchangeLog::default()).await;
                named = Named::by(&attempt, &outcome);
                let answered = matches!(outcome, CallOutcome::Done(_));
                let mut step = work::after_inquiry(attempt.clone(), mode, asked, standing, outcome, self.now());
                if step.next.is_none() && mode == InquiryMode::Watch {
                    step.next = self.after_watch(tenant, attempt, asked, answered).await;
                }
                step
            }
            Task::Stop { attempt, mode, tried } => {
                let standing = self.standing(tenant, &attempt).await?;
                let outcome = self.calls.cancel(tenant, &attempt, tried, self.now()).await;
                hold::after_stop(attempt, mode, tried, standing, outcome, self.now())
            }
            Task::Capture { attempt, capture: amount, request, tried, unclear_since, uncertain_since, told } => {
                let asked = hold::Asked { amount, request, tried, unclear_since, uncertain_since, told };
                self.capture(tenant, attempt, asked, leased.abandoned).await?
            }
            Task::Increase { attempt, total: amount, request, tried, unclear_since, told } => {
                let asked = hold::Asked { amount, request, tried, unclear_since, uncertain_since: None, told };
                self.increase(tenant, attempt, asked, leased.abandoned).await?
            }
            Task::Refund(refund) => self.send_back(tenant, refund, leased.abandoned).await?,
            Task::CheckRefund(refund) => self.look_for(tenant, refund).await?,
        };
        if moves_money {
            fail_point::reach("before_outcome").await;
        }
        // Side by side: for what was heard somebody waits at a counter.
        let ((), appended) = tokio::join!(self.calls.keep_name(named), self.append(&leased, step.commands));
        appended?;
        self.finish(&leased, step.next, paid, None).await
    }

    /// How the intent stands towards an attempt before a call about it.
    async fn standing(&self, tenant: MerchantId, attempt: &AttemptRef) -> Result<Standing, CommandError> {
        Ok(self.handler.read::<PaymentIntent>(tenant, attempt.payment_intent_id).await?.standing(attempt.attempt_id))
    }

    /// Appends what the answer meant; says whether it was news.
    ///
    /// # Errors
    /// Any [`CommandError`] but a rejection.
    pub(super) async fn append(&self, leased: &Held, commands: Vec<ProcessCommand>) -> Result<bool, CommandError> {
        let mut news = false;
        for command in commands {
            let caller = self.caller(MerchantId(ulid_of(leased.tenant)));
            match execute(&self.handler, &caller, &[command]).await {
                Ok(written) => news |= written,
                // The stream has moved on; the fact is there by another way.
                Err(CommandError::Rejected(rejected)) => {
                    tracing::warn!(%rejected, key = leased.key, "a provider's answer came too late to matter");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(news)
    }

    /// Removes the task, or puts the next one in its place. An attempt whose money is recorded (`paid`) needs no watch, but perhaps looks
    /// at the ends of days; a watch that is being carried out ends by itself. What came of a call-back is noted with it: whatever fails is
    /// done again with the task.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(super) async fn finish(
        &self,
        leased: &Held,
        next: Option<(Task, DateTime<Utc>)>,
        paid: Option<AttemptRef>,
        call_back: Option<Settled>,
    ) -> Result<(), CommandError> {
        if leased.task.moves_money() {
            fail_point::reach("after_outcome").await;
        }
        let mut done = Conclusion { next: owned(leased, next), call_back, ..Conclusion::of(leased.key.clone()) };
        let mut watch = None;
        if let Some(attempt) = paid {
            let key = watch_key(attempt.attempt_id);
            let look = self.after_watch(MerchantId(ulid_of(leased.tenant)), attempt, 0, true).await;
            if look.is_some() {
                watch = Some(Conclusion { next: owned(leased, look), ..Conclusion::of(key) });
            } else {
                done.also = Some(key);
            }
        }
        // Each on its own: a watch that is left as it was looks once more, and comes to the same.
        let watch = async {
            match watch {
                Some(watch) => self.conclusions.ask(watch).await,
                None => Ok(()),
            }
        };
        tokio::try_join!(self.conclusions.ask(done), watch)?;
        Ok(())
    }

    /// Removes the task.
    ///
    /// # Errors
    /// As of [`Self::finish`].
    pub(super) async fn remove(&self, key: &str) -> Result<(), CommandError> {
        Ok(self.conclusions.ask(Conclusion::of(key.to_owned())).await?)
    }
}
