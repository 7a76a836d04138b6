//! The provider worker: leases due tasks, makes the calls, records what they meant.
//!
//! The fact before each call is in the log already; the outcome follows as a command; only then the task is replaced or
//! removed. A crash anywhere repeats the task, which asks the provider under the same identifiers.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use domain::{
    ids::{AttemptId, CommandId, MerchantId, PaymentIntentId},
    payment_intent::{PaymentIntent, Standing},
    process::{
        AttemptRef, ProcessCommand, RefundRef, Task,
        provider_calls::watch_key,
        work::{
            self, books, hint, hold, lapse,
            refund::{self, Awaited},
        },
    },
    provider::{CallOutcome, ExchangeLog},
    refund::Refund,
};
use metrics::{counter, gauge};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use crate::provider_calls::Providers;
use crate::{
    call_backs,
    error::CommandError,
    event_store::ulid_of,
    fail_point,
    grouped::Grouped,
    handle::{Caller, CommandHandler},
    leases::{Leases, RENEW_EVERY},
    process_runner::execute,
    process_store::{Conclusion, Leased, ProcessStore, Said, Settled},
    provider_calls::{Calls, Named},
    refund_checks, routing,
    tasks::{Breadth, Handed, LEASE_SECONDS, Place, Tasks},
};

/// Conclusions, and what was said, written together at most.
const TOGETHER: usize = 64;
/// How long the ends of tasks, and what was said to providers, wait for company on their way to the database. What follows from a call
/// is in the log by then, and nobody at a counter waits.
const MOMENT: Duration = Duration::from_millis(10);
/// Poll for due tasks.
const POLL: Duration = Duration::from_millis(100);

/// A task that can be read.
struct Held {
    key: String,
    tenant: Uuid,
    task: Task,
    /// Somebody held it before and did not say what came of it: the call may have been made.
    abandoned: bool,
    /// Of one that was handed over.
    place: Option<Place>,
}

/// What came of a call whose maker ended, or could not keep its outcome.
fn lost<T>() -> CallOutcome<T> {
    CallOutcome::Unknown("the call may have been made, and its outcome was not kept".to_owned())
}

/// Runs until `shutdown`; calls under way are finished first. A slow call holds one place, not the others.
pub async fn run(
    store: impl ProcessStore + Clone,
    handler: CommandHandler,
    providers: Providers,
    tasks: Arc<Tasks>,
    shutdown: CancellationToken,
) {
    let (conclude, keep) = (store.clone(), store.clone());
    let (conclusions, concluding) = Grouped::new(TOGETHER, MOMENT, move |conclusions: Vec<Conclusion>| {
        let store = conclude.clone();
        async move { store.conclude(&conclusions).await }
    });
    let (said, keeping) = Grouped::new(TOGETHER, MOMENT, move |said: Vec<Said>| {
        let store = keep.clone();
        async move { store.keep_exchanges(&said).await }
    });
    let (renew, clock, leases) = (store.clone(), handler.clone(), Leases::default());
    let renewing = leases.renew_all(move |keys| {
        let (store, now) = (renew.clone(), clock.clock().now());
        async move { store.renew(&keys, now, LEASE_SECONDS.into()).await }
    });
    let worker = Arc::new(Worker { calls: Calls { store, said, providers }, conclusions, leases: leases.clone(), handler });
    let attending = async {
        tokio::select! {
            biased;
            () = attend_all(worker, tasks, shutdown) => {}
            never = renewing => match never {},
        }
    };
    // What was handed in is written before this ends.
    tokio::join!(attending, concluding, keeping);
}

async fn attend_all<S: ProcessStore>(worker: Arc<Worker<S>>, tasks: Arc<Tasks>, shutdown: CancellationToken) {
    let (mut calls, mut handed) = (JoinSet::new(), tasks.serve());
    let Breadth { side_by_side, at_once, .. } = tasks.breadth();
    let attend = |calls: &mut JoinSet<()>, task: Held| {
        let worker = Arc::clone(&worker);
        calls.spawn(async move { worker.attend(task).await });
    };
    let take_over = |calls: &mut JoinSet<()>, task: Handed| {
        let worker = Arc::clone(&worker);
        calls.spawn(async move {
            if let Some(held) = worker.held(task).await {
                worker.attend(held).await;
            }
        });
    };
    while !shutdown.is_cancelled() {
        while calls.try_join_next().is_some() {}
        gauge!("smartpos_provider_calls").set(u32::try_from(calls.len()).unwrap_or(u32::MAX));
        let free = side_by_side.saturating_sub(calls.len());
        let places = free.min(at_once);
        let mut leasing = std::pin::pin!(worker.lease(places));
        let leased = loop {
            tokio::select! {
                biased;
                Some(task) = handed.recv() => take_over(&mut calls, task),
                leased = &mut leasing => break leased,
            }
        };
        let leased = match leased {
            Ok(leased) => leased,
            Err(error) => {
                counter!("smartpos_provider_worker_faults_total").increment(1);
                tracing::warn!(%error, "the provider worker starts over");
                tokio::time::sleep(Duration::from_millis(300)).await;
                continue;
            }
        };
        // With as many as were asked for there may be more; with less nothing more is due.
        let more = leased.len() >= places;
        for task in leased {
            attend(&mut calls, task);
        }
        if more && places < free {
            continue;
        }
        let full = more;
        let look_at = tokio::time::Instant::now() + POLL;
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(task) = handed.recv() => {
                    take_over(&mut calls, task);
                    continue;
                }
                () = tasks.news(), if !full => {}
                Some(_) = calls.join_next(), if full => {}
                () = tokio::time::sleep_until(look_at) => {}
            }
            break;
        }
    }
    // What was handed over is this worker's.
    handed.close();
    while let Some(task) = handed.recv().await {
        take_over(&mut calls, task);
    }
    while calls.join_next().await.is_some() {}
}

struct Worker<S> {
    handler: CommandHandler,
    calls: Calls<S>,
    conclusions: Grouped<Conclusion>,
    leases: Leases,
}

impl<S: ProcessStore> Worker<S> {
    const fn store(&self) -> &S {
        &self.calls.store
    }

    /// What was handed over, while its lease holds for long enough to be renewed. Otherwise it is free again, unless it is somebody
    /// else's by now, who takes it for one that was perhaps begun.
    async fn held(&self, Handed { key, tenant, task, leased_until, place }: Handed) -> Option<Held> {
        if self.now() + 2 * RENEW_EVERY <= leased_until {
            return Some(Held { key, tenant, task, abandoned: false, place: Some(place) });
        }
        if let Err(error) = self.store().release(&key, leased_until).await {
            tracing::warn!(%error, key, "a task that was handed over too late waits until its lease runs out");
        }
        None
    }

    async fn attend(&self, mut leased: Held) {
        let (key, _place) = (leased.key.clone(), leased.place.take());
        let lease = self.leases.hold(key.clone());
        let done = self.perform(leased).await;
        drop(lease);
        if let Err(error) = done {
            // Put back for a moment; if that fails as well, the lease runs out.
            tracing::warn!(%error, key, "a provider task is left for later");
            counter!("smartpos_provider_tasks_failed_total").increment(1);
            let _ = self.store().put_back(&key, self.now() + chrono::Duration::seconds(1)).await;
        }
    }

    async fn lease(&self, count: usize) -> Result<Vec<Held>, CommandError> {
        if count == 0 {
            return Ok(vec![]);
        }
        let found = self.store().lease(self.now(), LEASE_SECONDS.into(), i64::try_from(count).unwrap_or(0)).await?;
        let mut leased = Vec::with_capacity(found.len());
        for Leased { key, tenant, task, abandoned } in found {
            match task {
                Ok(task) => leased.push(Held { key, tenant, task, abandoned, place: None }),
                // Written by another build: a newer one will know it. The others go on.
                Err(error) => {
                    tracing::error!(%error, key, "a provider task cannot be read");
                    counter!("smartpos_provider_tasks_unreadable_total").increment(1);
                    // If that fails it is met again when the lease has run out.
                    if let Err(error) = self.store().put_back(&key, self.now() + chrono::Duration::hours(1)).await {
                        tracing::warn!(%error, key, "a task that cannot be read was not put back");
                    }
                }
            }
        }
        Ok(leased)
    }

    async fn perform(&self, leased: Held) -> Result<(), CommandError> {
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
                paid = books::is_paid(&start.attempt, &outcome).then_some(start.attempt.attempt_id);
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
                work::after_inquiry(attempt, mode, asked, standing, outcome, self.now())
            }
            Task::Stop { attempt, mode, tried } => {
                let standing = self.standing(tenant, &attempt).await?;
                let outcome = self.calls.cancel(tenant, &attempt, tried, self.now()).await;
                hold::after_stop(attempt, mode, tried, standing, outcome, self.now())
            }
            Task::Capture { attempt, capture: amount, request, tried, unclear_since, told } => {
                let asked = hold::Asked { amount, request, tried, unclear_since, told };
                self.capture(tenant, attempt, asked, leased.abandoned).await?
            }
            Task::Increase { attempt, total: amount, request, tried, unclear_since, told } => {
                let asked = hold::Asked { amount, request, tried, unclear_since, told };
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

    /// Captures what is held. Where an earlier call may have done so, the books are asked first, and somebody may have decided meanwhile.
    async fn capture(
        &self,
        tenant: MerchantId,
        attempt: AttemptRef,
        asked: hold::Asked,
        abandoned: bool,
    ) -> Result<work::Step, CommandError> {
        if abandoned || asked.tried > 0 {
            let intent = self.handler.read::<PaymentIntent>(tenant, attempt.payment_intent_id).await?;
            if !intent.awaits_capture(attempt.attempt_id, asked.amount, asked.told) {
                return Ok(work::Step::default());
            }
            let seen = self.calls.inquire(tenant, &attempt, self.now(), ExchangeLog::default()).await;
            if let Some(step) = hold::before_capture_again(&attempt, asked, &seen, self.now()) {
                return Ok(step);
            }
        }
        let outcome = self.calls.capture(tenant, &attempt, asked).await;
        Ok(hold::after_capture(attempt, asked, outcome, self.now()))
    }

    /// Raises what is held, unless somebody has decided meanwhile.
    async fn increase(
        &self,
        tenant: MerchantId,
        attempt: AttemptRef,
        asked: hold::Asked,
        abandoned: bool,
    ) -> Result<work::Step, CommandError> {
        if abandoned || asked.tried > 0 {
            let intent = self.handler.read::<PaymentIntent>(tenant, attempt.payment_intent_id).await?;
            if !intent.awaits_increase(attempt.attempt_id, asked.amount, asked.told) {
                return Ok(work::Step::default());
            }
        }
        let outcome = self.calls.increase(tenant, &attempt, asked).await;
        Ok(hold::after_increase(attempt, asked, outcome, self.now()))
    }

    /// Sends money back, unless how the refund ended is known meanwhile, or was said by a person: then it is looked for at most.
    async fn send_back(&self, tenant: MerchantId, refund: RefundRef, abandoned: bool) -> Result<work::Step, CommandError> {
        if self.awaited(tenant, &refund).await? != Awaited::Outcome {
            return self.look_for(tenant, refund).await;
        }
        let outcome = if abandoned { lost() } else { self.calls.refund(tenant, &refund, self.now()).await };
        Ok(refund::after_refund(refund, outcome, self.now()))
    }

    /// Looks for a refund in the provider's books.
    async fn look_for(&self, tenant: MerchantId, refund: RefundRef) -> Result<work::Step, CommandError> {
        let awaited = self.awaited(tenant, &refund).await?;
        if awaited == Awaited::Nothing {
            return Ok(work::Step::default());
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

    fn now(&self) -> DateTime<Utc> {
        self.handler.clock().now()
    }

    /// How the intent stands towards an attempt before a call about it.
    async fn standing(&self, tenant: MerchantId, attempt: &AttemptRef) -> Result<Standing, CommandError> {
        Ok(self.handler.read::<PaymentIntent>(tenant, attempt.payment_intent_id).await?.standing(attempt.attempt_id))
    }

    /// Gives up an attempt that never reached its provider, if another account takes the payment.
    async fn give_up(&self, tenant: MerchantId, attempt: AttemptRef) -> Result<bool, CommandError> {
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

    /// Goes on with a payment at the next account.
    async fn go_on(&self, tenant: MerchantId, id: PaymentIntentId, failed: AttemptId) -> Result<(), CommandError> {
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

    fn caller(&self, tenant: MerchantId) -> Caller {
        Caller {
            tenant,
            actor: "process:provider_worker".to_owned(),
            device: None,
            operation: None,
            correlation_id: CommandId(self.handler.ids().next()).0,
            idempotency: None,
            if_match: None,
        }
    }

    /// Looks for what a call-back spoke of; waits when the attempt that its reference names is not known yet.
    async fn follow_hint(&self, leased: Held, hint: hint::Hint) -> Result<(), CommandError> {
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
        let paid = books::is_paid(&attempt, &outcome).then_some(attempt.attempt_id);
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

    /// Appends what the answer meant; says whether it was news.
    async fn append(&self, leased: &Held, commands: Vec<ProcessCommand>) -> Result<bool, CommandError> {
        let mut news = false;
        for command in commands {
            let caller = Caller {
                tenant: MerchantId(ulid_of(leased.tenant)),
                actor: "process:provider_worker".to_owned(),
                device: None,
                operation: None,
                correlation_id: CommandId(self.handler.ids().next()).0,
                idempotency: None,
                if_match: None,
            };
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

    /// Removes the task, or puts the next one in its place. A payment whose money is recorded (`paid`) needs no watch; one that is being
    /// carried out ends by itself. What came of a call-back is noted with it: whatever fails is done again with the task.
    async fn finish(
        &self,
        leased: &Held,
        next: Option<(Task, DateTime<Utc>)>,
        paid: Option<AttemptId>,
        call_back: Option<Settled>,
    ) -> Result<(), CommandError> {
        if leased.task.moves_money() {
            fail_point::reach("after_outcome").await;
        }
        let next = next.map(|(task, due_at)| (task, leased.tenant, due_at));
        let conclusion = Conclusion { key: leased.key.clone(), next, also: paid.map(watch_key), call_back };
        Ok(self.conclusions.ask(conclusion).await?)
    }

    async fn remove(&self, key: &str) -> Result<(), CommandError> {
        Ok(self.conclusions.ask(Conclusion::of(key.to_owned())).await?)
    }
}
