//! The provider worker: leases due tasks, makes the calls, records what they meant.
//!
//! The fact before each call is in the log already; the outcome follows as a command; only then the task is replaced or
//! removed. A crash anywhere repeats the task, which asks the provider under the same identifiers.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use domain::{
    ids::{CommandId, MerchantId},
    process::{AttemptRef, InquiryMode, Task, work},
    provider::{CallOutcome, Decline, InquiryRequest, PaymentProvider, QrRequest, RefundRequest},
};
use futures_util::{StreamExt, stream};
use metrics::{counter, gauge};
use sqlx::{PgPool, Row, types::Json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    error::CommandError,
    event_store::ulid_of,
    handle::{Caller, CommandHandler},
    process_runner::execute,
};

/// Tasks leased at a time, and calls under way side by side.
const BATCH: i64 = 64;
/// How long a leased task is left alone. Longer than any call may take.
const LEASE_SECONDS: f64 = 45.0;
/// Poll for due tasks.
const POLL: Duration = Duration::from_millis(100);
/// A call-back whose reference nobody knows is looked for this often before it is left to a person.
const HINT_TRIES: u32 = 40;

/// Finds a provider by name.
pub type Providers = Arc<dyn Fn(&str) -> Option<Arc<dyn PaymentProvider>> + Send + Sync>;

struct Leased {
    key: String,
    tenant: Uuid,
    task: Task,
}

/// Runs until `shutdown`; calls under way are finished first.
pub async fn run(pool: PgPool, handler: CommandHandler, providers: Providers, tasks: Arc<Notify>, shutdown: CancellationToken) {
    let worker = Worker { pool, handler, providers };
    while !shutdown.is_cancelled() {
        match worker.round().await {
            Ok(0) => tokio::select! {
                () = shutdown.cancelled() => return,
                () = tasks.notified() => {}
                () = tokio::time::sleep(POLL) => {}
            },
            Ok(_) => {}
            Err(error) => {
                counter!("smartpos_provider_worker_faults_total").increment(1);
                tracing::warn!(%error, "the provider worker starts over");
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        }
    }
}

struct Worker {
    pool: PgPool,
    handler: CommandHandler,
    providers: Providers,
}

impl Worker {
    async fn round(&self) -> Result<usize, CommandError> {
        let leased = self.lease().await?;
        let count = leased.len();
        gauge!("smartpos_provider_tasks_leased").set(u32::try_from(count).unwrap_or(u32::MAX));
        stream::iter(leased)
            .for_each_concurrent(None, |leased| async move {
                let key = leased.key.clone();
                if let Err(error) = self.perform(leased).await {
                    // The lease runs out and the task comes again.
                    tracing::warn!(%error, key, "a provider task is left for later");
                    counter!("smartpos_provider_tasks_failed_total").increment(1);
                    let _ = self.release(&key).await;
                }
            })
            .await;
        Ok(count)
    }

    async fn lease(&self) -> Result<Vec<Leased>, CommandError> {
        let rows = sqlx::query(include_str!("sql/lease_tasks.sql"))
            .bind(self.handler.clock().now())
            .bind(LEASE_SECONDS)
            .bind(BATCH)
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| {
                let Json(task) = row.try_get("task")?;
                Ok(Leased { key: row.try_get("key")?, tenant: row.try_get("tenant")?, task })
            })
            .collect()
    }

    async fn perform(&self, leased: Leased) -> Result<(), CommandError> {
        let step = match leased.task.clone() {
            Task::FollowHint { provider, reference, tried } => return self.follow_hint(leased, &provider, &reference, tried).await,
            Task::CreateQr { attempt, tried } => self.create_qr(attempt, tried).await,
            Task::Inquire { attempt, mode, asked } => self.inquire(attempt, mode, asked).await,
            Task::Refund { refund_id, amount, payment, tried } => {
                let outcome = match self.provider(&payment.provider) {
                    Err(outcome) => outcome,
                    Ok(provider) => {
                        let request = RefundRequest {
                            refund_id,
                            reference: payment.reference.clone(),
                            transaction_id: payment.transaction_id.clone(),
                            amount,
                            captured: payment.captured,
                            paid_at: payment.paid_at,
                        };
                        provider.refund(&request).await
                    }
                };
                work::after_refund(refund_id, amount, payment, tried, outcome, self.now())
            }
            Task::CheckRefund { refund_id, amount, payment, tried } => {
                let request = InquiryRequest { reference: payment.reference.clone(), created_at: payment.paid_at, now: self.now() };
                let outcome = match self.provider(&payment.provider) {
                    Err(outcome) => outcome,
                    Ok(provider) => provider.inquire(&request).await,
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
    fn provider<T>(&self, name: &str) -> Result<Arc<dyn PaymentProvider>, CallOutcome<T>> {
        (self.providers)(name).ok_or_else(|| {
            CallOutcome::Declined(Decline {
                code: "provider_not_configured".to_owned(),
                message: format!("the provider '{name}' is not configured"),
            })
        })
    }

    async fn create_qr(&self, attempt: AttemptRef, tried: u32) -> work::Step {
        let request = QrRequest {
            attempt_id: attempt.attempt_id,
            reference: attempt.reference.clone(),
            amount: attempt.amount,
            expires_at: attempt.expires_at,
        };
        let outcome = match self.provider(&attempt.provider) {
            Err(outcome) => outcome,
            Ok(provider) => provider.create_qr(&request).await,
        };
        work::after_create(attempt, tried, outcome, self.now())
    }

    async fn inquire(&self, attempt: AttemptRef, mode: InquiryMode, asked: u32) -> work::Step {
        let request = InquiryRequest { reference: attempt.reference.clone(), created_at: attempt.created_at, now: self.now() };
        let outcome = match self.provider(&attempt.provider) {
            Err(outcome) => outcome,
            Ok(provider) => provider.inquire(&request).await,
        };
        work::after_inquiry(attempt, mode, asked, outcome, self.now())
    }

    /// Turns a call-back into an inquiry about the attempt that its reference names; waits when the attempt is not known yet.
    async fn follow_hint(&self, leased: Leased, provider: &str, reference: &str, tried: u32) -> Result<(), CommandError> {
        let known = sqlx::query("select tenant, attempt from process.provider_reference where provider = $1 and reference = $2")
            .bind(provider)
            .bind(reference)
            .fetch_optional(&self.pool)
            .await?;
        if let Some(row) = known {
            let Json(attempt): Json<AttemptRef> = row.try_get("attempt")?;
            let leased = Leased { tenant: row.try_get("tenant")?, ..leased };
            let step = self.inquire(attempt, InquiryMode::Hint, 0).await;
            return self.conclude(leased, step).await;
        }
        if tried >= HINT_TRIES {
            tracing::error!(provider, reference, "a call-back names a reference that nobody knows");
            counter!("smartpos_webhooks_unmatched_total").increment(1);
            return self.remove(&leased.key).await;
        }
        let due = self.now() + chrono::Duration::milliseconds(work::retry_delay_ms(tried));
        let task = Task::FollowHint { provider: provider.to_owned(), reference: reference.to_owned(), tried: tried + 1 };
        self.replace(&leased.key, leased.tenant, &task, due).await
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

    async fn release(&self, key: &str) -> Result<(), CommandError> {
        let due = self.now() + chrono::Duration::seconds(1);
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
