//! The provider worker: leases due tasks, makes the calls, records what they meant.
//!
//! The fact before each call is in the log already; the outcome follows as a command; only then the task is replaced or
//! removed. A crash anywhere repeats the task, which asks the provider under the same identifiers.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use domain::{
    ids::{CommandId, MerchantId, RefundId},
    money::Money,
    process::{AttemptRef, Task, work},
    provider::{
        AttemptKey, AttemptView, BoxFuture, CallOutcome, Decline, ExchangeLog, InquiryRequest, Method, MethodKind, PaymentProvider,
        RefundRequest, StartRequest,
    },
    refund::ProviderPayment,
};
use metrics::{counter, gauge};
use sqlx::{PgPool, Row, types::Json};
use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    error::CommandError,
    event_store::ulid_of,
    handle::{Caller, CommandHandler},
    process_runner::execute,
};

/// Calls under way side by side.
const SIDE_BY_SIDE: usize = 64;
/// How long a leased task is left alone: the longest pause after its worker died.
const LEASE_SECONDS: f64 = 5.0;
/// How often the lease of a task under way is renewed.
const RENEW_EVERY: Duration = Duration::from_millis(1_500);
/// Poll for due tasks.
const POLL: Duration = Duration::from_millis(100);

/// Finds a merchant's account at a provider, by the provider's name.
pub type Providers = Arc<dyn Fn(MerchantId, String) -> BoxFuture<'static, Option<Arc<dyn PaymentProvider>>> + Send + Sync>;

struct Leased {
    key: String,
    tenant: Uuid,
    task: Task,
}

/// Runs until `shutdown`; calls under way are finished first. A slow call holds one place, not the others.
pub async fn run(pool: PgPool, handler: CommandHandler, providers: Providers, tasks: Arc<Notify>, shutdown: CancellationToken) {
    let worker = Arc::new(Worker { pool, handler, providers });
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
    providers: Providers,
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
        let step = match leased.task.clone() {
            Task::FollowHint { provider, reference, transaction_id, tried } => {
                return self.follow_hint(leased, work::Hint { provider, reference, transaction_id, tried }).await;
            }
            Task::CreateQr { attempt, tried } => self.create_qr(tenant, attempt, tried).await,
            Task::Inquire { attempt, mode, asked } => {
                let outcome = self.ask(tenant, &attempt).await;
                work::after_inquiry(attempt, mode, asked, outcome, self.now())
            }
            Task::Refund { refund_id, amount, payment, tried } => {
                let outcome = match self.provider(tenant, &payment.provider).await {
                    Err(outcome) => outcome,
                    Ok(provider) => provider.refund(&self.refund_request(refund_id, amount, &payment), &ExchangeLog::default()).await,
                };
                work::after_refund(refund_id, amount, payment, tried, outcome, self.now())
            }
            Task::CheckRefund { refund_id, amount, payment, tried } => {
                let outcome = match self.provider(tenant, &payment.provider).await {
                    Err(outcome) => outcome,
                    Ok(provider) => {
                        provider.inquire_refund(&self.refund_request(refund_id, amount, &payment), &ExchangeLog::default()).await
                    }
                };
                work::after_refund_check(refund_id, amount, payment, tried, outcome, self.now())
            }
        };
        self.conclude(leased, step).await
    }

    fn now(&self) -> DateTime<Utc> {
        self.handler.clock().now()
    }

    /// A provider that is not configured is an outcome, not a fault: nothing reaches its books.
    async fn provider<T>(&self, tenant: MerchantId, name: &str) -> Result<Arc<dyn PaymentProvider>, CallOutcome<T>> {
        (self.providers)(tenant, name.to_owned()).await.ok_or_else(|| {
            CallOutcome::Declined(Decline {
                code: "provider_not_configured".to_owned(),
                message: format!("the provider '{name}' is not configured"),
            })
        })
    }

    async fn create_qr(&self, tenant: MerchantId, attempt: AttemptRef, tried: u32) -> work::Step {
        let request = StartRequest {
            key: key_of(&attempt),
            method: Method::PromptPay,
            manual_capture: false,
            expires_at: attempt.expires_at,
            return_url: None,
        };
        let outcome = match self.provider(tenant, &attempt.provider).await {
            Err(outcome) => outcome,
            Ok(provider) => provider.start(&request, &ExchangeLog::default()).await,
        };
        work::after_create(attempt, tried, outcome, self.now())
    }

    async fn ask(&self, tenant: MerchantId, attempt: &AttemptRef) -> CallOutcome<AttemptView> {
        let request = InquiryRequest { key: key_of(attempt), method: MethodKind::PromptPay, now: self.now() };
        match self.provider(tenant, &attempt.provider).await {
            Err(outcome) => outcome,
            Ok(provider) => provider.inquire(&request, &ExchangeLog::default()).await,
        }
    }

    fn refund_request(&self, refund_id: RefundId, amount: Money, payment: &ProviderPayment) -> RefundRequest {
        RefundRequest {
            refund_id,
            reference: payment.reference.clone(),
            provider_id: None,
            transaction_id: payment.transaction_id.clone(),
            amount,
            captured: payment.captured,
            paid_at: payment.paid_at,
            now: self.now(),
        }
    }

    /// Looks for what a call-back spoke of; waits when the attempt that its reference names is not known yet.
    async fn follow_hint(&self, leased: Leased, hint: work::Hint) -> Result<(), CommandError> {
        let known = sqlx::query("select tenant, attempt from process.provider_reference where provider = $1 and reference = $2")
            .bind(&hint.provider)
            .bind(&hint.reference)
            .fetch_optional(&self.pool)
            .await?;
        if hint.tried >= work::HINT_TRIES {
            tracing::error!(?hint, known = known.is_some(), "a call-back speaks of a payment that the provider's books do not show");
            counter!("smartpos_webhooks_unconfirmed_total").increment(1);
        }
        let Some(row) = known else {
            return match work::look_again(hint, self.now()) {
                Some((task, due)) => self.replace(&leased.key, leased.tenant, &task, due).await,
                None => self.remove(&leased.key).await,
            };
        };
        let Json(attempt): Json<AttemptRef> = row.try_get("attempt")?;
        let leased = Leased { tenant: row.try_get("tenant")?, ..leased };
        let outcome = self.ask(MerchantId(ulid_of(leased.tenant)), &attempt).await;
        let step = work::after_hint(&attempt, hint, outcome, self.now());
        self.conclude(leased, step).await
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

fn key_of(attempt: &AttemptRef) -> AttemptKey {
    AttemptKey {
        attempt_id: attempt.attempt_id,
        reference: attempt.reference.clone(),
        provider_id: None,
        amount: attempt.amount,
        started_at: attempt.created_at,
    }
}
