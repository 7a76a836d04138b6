//! The provider worker: leases due tasks, makes the calls, records what they meant.
//!
//! The fact before each call is in the log already; the outcome follows as a command; only then the task is replaced or
//! removed. A crash anywhere repeats the task, which asks the provider under the same identifiers.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use domain::{
    ids::{AttemptId, CommandId, MerchantId, PaymentIntentId},
    process::{AttemptRef, Task, work, work_hold, work_refund},
    provider::CallOutcome,
};
use metrics::{counter, gauge};
use sqlx::{PgPool, Row, types::Json};
use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use crate::provider_calls::Providers;
use crate::{
    call_backs,
    error::CommandError,
    event_store::ulid_of,
    fail_point,
    handle::{Caller, CommandHandler},
    process_runner::execute,
    provider_calls::Calls,
    routing,
};

/// Calls under way side by side.
const SIDE_BY_SIDE: usize = 64;
/// How long a leased task is left alone: the longest pause after its worker died.
const LEASE_SECONDS: f64 = 5.0;
/// How often the lease of a task under way is renewed.
const RENEW_EVERY: Duration = Duration::from_millis(1_500);
/// Poll for due tasks.
const POLL: Duration = Duration::from_millis(100);

struct Leased {
    key: String,
    tenant: Uuid,
    task: Task,
}

/// Runs until `shutdown`; calls under way are finished first. A slow call holds one place, not the others.
pub async fn run(pool: PgPool, handler: CommandHandler, providers: Providers, tasks: Arc<Notify>, shutdown: CancellationToken) {
    let worker = Arc::new(Worker { calls: Calls { pool: pool.clone(), providers }, pool, handler });
    let mut calls = JoinSet::new();
    while !shutdown.is_cancelled() {
        while calls.try_join_next().is_some() {}
        gauge!("smartpos_provider_calls").set(u32::try_from(calls.len()).unwrap_or(u32::MAX));
        let leased = match worker.lease(SIDE_BY_SIDE.saturating_sub(calls.len())).await {
            Ok(leased) => leased,
            Err(error) => {
                counter!("smartpos_provider_worker_faults_total").increment(1);
                tracing::warn!(%error, "the provider worker starts over");
                tokio::time::sleep(Duration::from_millis(300)).await;
                continue;
            }
        };
        let idle = leased.is_empty();
        for task in leased {
            let worker = worker.clone();
            calls.spawn(async move { worker.attend(task).await });
        }
        if idle {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tasks.notified() => {}
                Some(_) = calls.join_next() => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }
    while calls.join_next().await.is_some() {}
}

struct Worker {
    pool: PgPool,
    handler: CommandHandler,
    calls: Calls,
}

impl Worker {
    async fn attend(&self, leased: Leased) {
        let key = leased.key.clone();
        let mut work = std::pin::pin!(self.perform(leased));
        let mut renewals = tokio::time::interval_at(tokio::time::Instant::now() + RENEW_EVERY, RENEW_EVERY);
        let done = loop {
            tokio::select! {
                done = &mut work => break done,
                _ = renewals.tick() => self.renew(&key).await,
            }
        };
        if let Err(error) = done {
            // Put back for a moment; if that fails as well, the lease runs out.
            tracing::warn!(%error, key, "a provider task is left for later");
            counter!("smartpos_provider_tasks_failed_total").increment(1);
            let _ = self.put_back(&key, chrono::Duration::seconds(1)).await;
        }
    }

    async fn lease(&self, count: usize) -> Result<Vec<Leased>, CommandError> {
        let rows = sqlx::query(include_str!("sql/lease_tasks.sql"))
            .bind(self.handler.clock().now())
            .bind(LEASE_SECONDS)
            .bind(i64::try_from(count).unwrap_or(0))
            .fetch_all(&self.pool)
            .await?;
        let mut leased = Vec::with_capacity(rows.len());
        for row in rows {
            let key: String = row.try_get("key")?;
            match row.try_get("task") {
                Ok(Json(task)) => leased.push(Leased { key, tenant: row.try_get("tenant")?, task }),
                // Written by another build: a newer one will know it. The others go on.
                Err(error) => {
                    tracing::error!(%error, key, "a provider task cannot be read");
                    counter!("smartpos_provider_tasks_unreadable_total").increment(1);
                    self.put_back(&key, chrono::Duration::hours(1)).await?;
                }
            }
        }
        Ok(leased)
    }

    async fn perform(&self, leased: Leased) -> Result<(), CommandError> {
        let tenant = MerchantId(ulid_of(leased.tenant));
        let moves_money = leased.task.moves_money();
        if moves_money {
            fail_point::reach("before_call").await;
        }
        let step = match leased.task.clone() {
            Task::FollowHint { provider, reference, transaction_id, tried } => {
                return self.follow_hint(leased, work::Hint { provider, reference, transaction_id, tried }).await;
            }
            Task::Start { attempt, card_token, return_url, tried } => {
                let start = work::Start { attempt, card_token, return_url, tried };
                let outcome = self.calls.start(tenant, &start).await;
                let waited = matches!(outcome, CallOutcome::NotAttempted(_)) && tried >= routing::TRIES_BEFORE_ANOTHER;
                if waited && self.give_up(tenant, start.attempt.clone()).await? {
                    return self.remove(&leased.key).await;
                }
                work::after_start(start, outcome, self.now())
            }
            Task::Reroute { payment_intent_id, attempt_id } => {
                self.go_on(tenant, payment_intent_id, attempt_id).await?;
                return self.remove(&leased.key).await;
            }
            Task::Inquire { attempt, mode, asked } => {
                let outcome = self.calls.inquire(tenant, &attempt, self.now()).await;
                work::after_inquiry(attempt, mode, asked, outcome, self.now())
            }
            Task::Stop { attempt, mode, tried } => {
                let outcome = self.calls.cancel(tenant, &attempt, self.now()).await;
                work_hold::after_stop(attempt, mode, tried, outcome, self.now())
            }
            Task::Capture { attempt, capture, tried } => {
                let outcome = self.calls.capture(tenant, &attempt, capture).await;
                work_hold::after_capture(attempt, capture, tried, outcome, self.now())
            }
            Task::Increase { attempt, total, tried } => {
                let outcome = self.calls.increase(tenant, &attempt, total).await;
                work_hold::after_increase(attempt, total, tried, outcome, self.now())
            }
            Task::Refund { refund_id, amount, payment, tried } => {
                let outcome = self.calls.refund(tenant, refund_id, amount, &payment, self.now()).await;
                work_refund::after_refund(refund_id, amount, payment, tried, outcome, self.now())
            }
            Task::CheckRefund { refund_id, amount, payment, tried } => {
                let outcome = self.calls.inquire_refund(tenant, refund_id, amount, &payment, self.now()).await;
                work_refund::after_refund_check(refund_id, amount, payment, tried, outcome, self.now())
            }
        };
        if moves_money {
            fail_point::reach("before_outcome").await;
        }
        self.conclude(leased, step).await
    }

    fn now(&self) -> DateTime<Utc> {
        self.handler.clock().now()
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
            correlation_id: CommandId(self.handler.ids().next()).0,
            idempotency: None,
            if_match: None,
        }
    }

    /// Looks for what a call-back spoke of; waits when the attempt that its reference names is not known yet.
    async fn follow_hint(&self, leased: Leased, hint: work::Hint) -> Result<(), CommandError> {
        let call_back = call_backs::of_task(&leased.key);
        let last = hint.tried >= work::HINT_TRIES;
        let Some((tenant, attempt)) = call_backs::attempt_of(&self.pool, &hint.provider, &hint.reference).await? else {
            return match (call_back, work::look_again(hint, self.now())) {
                (Some(id), _) => Ok(call_backs::park(&self.pool, id, &leased.key).await?),
                (None, Some((task, due))) => self.replace(&leased.key, leased.tenant, &task, due).await,
                (None, None) => self.remove(&leased.key).await,
            };
        };
        let leased = Leased { tenant, ..leased };
        let merchant = MerchantId(ulid_of(tenant));
        if hint.tried == 0 {
            self.calls.note_call_back(merchant, &attempt, &leased.key, hint.transaction_id.as_deref(), self.now()).await;
        }
        let outcome = self.calls.inquire(merchant, &attempt, self.now()).await;
        let step = work::after_hint(&attempt, hint, outcome, self.now());
        let unconfirmed = last && step.commands.is_empty();
        if unconfirmed {
            tracing::error!(key = leased.key, reference = attempt.reference, "the provider's books do not show what a call-back spoke of");
            counter!("smartpos_webhooks_unconfirmed_total").increment(1);
        }
        let settled = step.next.is_none();
        self.conclude(leased, step).await?;
        match call_back {
            Some(id) if settled => Ok(call_backs::settle(&self.pool, id, tenant, !unconfirmed).await?),
            Some(_) | None => Ok(()),
        }
    }

    /// Appends what the answer meant, then replaces or removes the task.
    async fn conclude(&self, leased: Leased, step: work::Step) -> Result<(), CommandError> {
        for command in step.commands {
            let caller = Caller {
                tenant: MerchantId(ulid_of(leased.tenant)),
                actor: "process:provider_worker".to_owned(),
                device: None,
                correlation_id: CommandId(self.handler.ids().next()).0,
                idempotency: None,
                if_match: None,
            };
            match execute(&self.handler, &caller, &[command]).await {
                Ok(()) => {}
                // The stream has moved on; the fact is there by another way.
                Err(CommandError::Rejected(rejected)) => {
                    tracing::warn!(%rejected, key = leased.key, "a provider's answer came too late to matter");
                }
                Err(error) => return Err(error),
            }
        }
        if leased.task.moves_money() {
            fail_point::reach("after_outcome").await;
        }
        match step.next {
            None => self.remove(&leased.key).await,
            Some((task, due)) => self.replace(&leased.key, leased.tenant, &task, due).await,
        }
    }

    async fn remove(&self, key: &str) -> Result<(), CommandError> {
        sqlx::query("delete from process.task where key = $1").bind(key).execute(&self.pool).await?;
        Ok(())
    }

    /// Keeps a task that is still under way. When this fails another worker may take the task over: the provider knows the
    /// repeat by its identifiers.
    async fn renew(&self, key: &str) {
        let sql = "update process.task set leased_until = $2 + $3 * interval '1 second' where key = $1";
        if let Err(error) = sqlx::query(sql).bind(key).bind(self.now()).bind(LEASE_SECONDS).execute(&self.pool).await {
            tracing::warn!(%error, key, "a lease was not renewed");
        }
    }

    async fn put_back(&self, key: &str, pause: chrono::Duration) -> Result<(), CommandError> {
        let due = self.now() + pause;
        sqlx::query("update process.task set leased_until = null, due_at = $2 where key = $1")
            .bind(key)
            .bind(due)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    async fn replace(&self, key: &str, tenant: Uuid, task: &Task, due: DateTime<Utc>) -> Result<(), CommandError> {
        sqlx::query("update process.task set tenant = $2, task = $3, due_at = $4, leased_until = null where key = $1")
            .bind(key)
            .bind(tenant)
            .bind(Json(task))
            .bind(due)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}
