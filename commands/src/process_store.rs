//! What process managers and provider workers keep beside the log: a port, so that the same logic runs on PostgreSQL and in a
//! simulation. A pool is a [`ProcessStore`].
//!
//! All of it but the call-backs and some leases follows from the log, and is done again when it is lost: so its pool need not wait for
//! the disk ([`crate::database::pool_of_derived`]). A lease of a call that begins something does: it alone says that the call may have
//! been made. What a call came to is
//! appended to the log, which waits, and makes all that was written before it durable.

use std::future::Future;

use chrono::{DateTime, Utc};
use domain::{
    ids::MerchantId,
    process::{AttemptRef, Task},
    provider::{Exchange, WebhookHint},
};
use sqlx::{PgPool, Row, types::Json};
use uuid::Uuid;

use crate::{
    call_backs::{self, Sweep},
    event_log::StoreError,
    event_store::uuid_of,
    exchanges, looks,
    webhooks::{self, Delivery},
};

/// The one checkpoint of all managers: they read the log together.
const CHECKPOINT: &str = "process_managers";

/// A reaction that cannot be carried out: kept for a person, while everything else goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// Position of the event that it follows from.
    pub pos: i64,
    /// Its place among the reactions of its manager to that event.
    pub n: usize,
    /// The manager.
    pub manager: &'static str,
    /// Why.
    pub error: String,
}

/// What a page of the log leaves behind.
#[derive(Debug, Clone, PartialEq)]
pub enum Leaves {
    /// A task; nothing when one with its key was left before.
    Task {
        /// Names it.
        key: String,
        /// Whose.
        tenant: MerchantId,
        /// What to do.
        task: Box<Task>,
        /// When, UTC.
        due_at: DateTime<Utc>,
        /// Until when whoever leaves it holds it for a worker, UTC; nothing: it is free.
        leased_until: Option<DateTime<Utc>>,
    },
    /// What a provider calls an attempt.
    Reference {
        /// Whose.
        tenant: MerchantId,
        /// The attempt.
        attempt: Box<AttemptRef>,
    },
}

impl Leaves {
    /// Whether it must not be forgotten that a worker may have begun it.
    pub fn is_lease_that_begins_something(&self) -> bool {
        matches!(self, Self::Task { task, leased_until: Some(_), .. } if task.begins_something())
    }
}

/// A task that a worker holds for a while.
#[derive(Debug)]
pub struct Leased {
    /// Names it.
    pub key: String,
    /// Whose; of a call-back's task nobody's until its attempt is found.
    pub tenant: Uuid,
    /// What to do; or why that cannot be read.
    pub task: Result<Task, String>,
    /// Somebody held it before and did not say what came of it: a call may have been made.
    pub abandoned: bool,
}

/// A task is done with, all of this or nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Conclusion {
    /// The task.
    pub key: String,
    /// What takes its place, whose, and when it is due, UTC.
    pub next: Option<(Task, Uuid, DateTime<Utc>)>,
    /// Another task that is done with as well.
    pub also: Option<String>,
    /// What came of the call-back that it looked into.
    pub call_back: Option<Settled>,
}

impl Conclusion {
    /// Nothing takes the place of this task.
    pub const fn of(key: String) -> Self {
        Self { key, next: None, also: None, call_back: None }
    }
}

/// What came of a call-back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// Our name for it.
    pub id: Uuid,
    /// Whose it is.
    pub tenant: Uuid,
    /// The provider's books show what it spoke of.
    pub confirmed: bool,
}

/// What was said to and heard from a provider in one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Whose call.
    pub tenant: MerchantId,
    /// The attempt (`att_…`) or refund that it was about.
    pub subject: String,
    /// The account.
    pub provider: String,
    /// In their order.
    pub exchanges: Vec<Exchange>,
    /// It was tried before to keep them, and may have been done.
    pub again: bool,
}

/// Checkpoint, tasks, references, call-backs, exchanges.
pub trait ProcessStore: Send + Sync + 'static {
    /// Where the process managers stand in the log.
    fn checkpoint(&self) -> impl Future<Output = Result<i64, StoreError>> + Send;
    /// Moves the checkpoint with everything that belongs to it, all or nothing; nothing when it does not stand at `from`, or when the log
    /// has another event at `to` than one of this hash, if one is named: it was restored to the past meanwhile. Gives the keys of
    /// the tasks that were left leased: one whose key is known stays as it is, and is somebody else's. Waits for the disk where one of
    /// those that are to be leased [begins something](Task::begins_something).
    fn advance(
        &self,
        from: i64,
        to: (i64, Option<[u8; 32]>),
        leaves: Vec<Leaves>,
        stuck: Vec<Stuck>,
    ) -> impl Future<Output = Result<Option<Vec<String>>, StoreError>> + Send;
    /// Takes at most `count` due tasks for `seconds`; two workers never hold one task, but one whose lease ran out is taken over.
    /// Waits for the disk where one of them [begins something](Task::begins_something).
    fn lease(&self, now: DateTime<Utc>, seconds: f64, count: i64) -> impl Future<Output = Result<Vec<Leased>, StoreError>> + Send;
    /// Lets go of a task that stands leased until exactly then and that nobody has begun: as if it had been left free.
    fn release(&self, key: &str, leased_until: DateTime<Utc>) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Holds tasks that are held on for `seconds`. One that is free stays so: it was concluded meanwhile, and nobody has begun what took
    /// its place.
    fn renew(&self, keys: &[String], now: DateTime<Utc>, seconds: f64) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Lets go of a task that is held until `due`, without a word on what came of it. One that is free was concluded after all, though whoever
    /// did so did not hear of it: what took its place stays as it is.
    fn put_back(&self, key: &str, due: DateTime<Utc>) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Tasks are done with, all of them or none.
    fn conclude(&self, conclusions: &[Conclusion]) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// The attempt that an account knows by this reference or by its own name, and whose it is.
    fn attempt_of(&self, account: &str, name: &str) -> impl Future<Output = Result<Option<(Uuid, AttemptRef)>, StoreError>> + Send;
    /// Keeps a provider's own name for an attempt, for call-backs that know no other.
    fn remember(&self, attempt: &AttemptRef, provider_id: &str) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Stores a call-back that proved its sender, with the task that looks into it; whether it was new. The task of a new one stands leased
    /// until then, UTC, if a time is named.
    fn take_webhook(
        &self,
        delivery: &Delivery<'_>,
        hint: &WebhookHint,
        leased_until: Option<DateTime<Utc>>,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Leaves a look at a provider's books that somebody waits for; nothing when one of this name is awaited already.
    fn look_now(
        &self,
        tenant: MerchantId,
        key: &str,
        task: &Task,
        now: DateTime<Utc>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Whether that look is still to be made.
    fn looks_now(&self, tenant: MerchantId, key: &str) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Puts a call-back aside until its name becomes known, and its task away.
    fn park(&self, id: Uuid, key: &str) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Takes parked call-backs behind the place `after` up again whose name has become known.
    fn unpark(&self, now: DateTime<Utc>, after: i64) -> impl Future<Output = Result<Sweep, StoreError>> + Send;
    /// Keeps what was said to and heard from providers.
    fn keep_exchanges(&self, said: &[Said]) -> impl Future<Output = Result<(), StoreError>> + Send;
}

impl ProcessStore for PgPool {
    async fn checkpoint(&self) -> Result<i64, StoreError> {
        let insert = "insert into process.checkpoint (name, pos) values ($1, 0) on conflict do nothing";
        let found: Option<i64> =
            sqlx::query_scalar("select pos from process.checkpoint where name = $1").bind(CHECKPOINT).fetch_optional(self).await?;
        if let Some(pos) = found {
            return Ok(pos);
        }
        sqlx::query(insert).bind(CHECKPOINT).execute(self).await?;
        Ok(0)
    }

    async fn advance(
        &self,
        from: i64,
        to: (i64, Option<[u8; 32]>),
        leaves: Vec<Leaves>,
        stuck: Vec<Stuck>,
    ) -> Result<Option<Vec<String>>, StoreError> {
        Ok(advance(self, from, to, leaves, stuck).await?)
    }

    async fn lease(&self, now: DateTime<Utc>, seconds: f64, count: i64) -> Result<Vec<Leased>, StoreError> {
        let rows = sqlx::query(include_str!("sql/lease_tasks.sql")).bind(now).bind(seconds).bind(count).fetch_all(self).await?;
        let leased = |row: &sqlx::postgres::PgRow| {
            let task = row.try_get("task").map(|Json(task)| task).map_err(|error| error.to_string());
            Ok(Leased { key: row.try_get("key")?, tenant: row.try_get("tenant")?, task, abandoned: row.try_get("abandoned")? })
        };
        rows.iter().map(leased).collect()
    }

    async fn release(&self, key: &str, leased_until: DateTime<Utc>) -> Result<(), StoreError> {
        let sql = "update process.task set leased_until = null where key = $1 and leased_until = $2";
        Ok(sqlx::query(sql).bind(key).bind(leased_until).execute(self).await.map(drop)?)
    }

    async fn renew(&self, keys: &[String], now: DateTime<Utc>, seconds: f64) -> Result<(), StoreError> {
        Ok(sqlx::query(include_str!("sql/renew_tasks.sql")).bind(keys).bind(now).bind(seconds).execute(self).await.map(drop)?)
    }

    async fn put_back(&self, key: &str, due: DateTime<Utc>) -> Result<(), StoreError> {
        // With a lease that has run out by then: whoever takes the task over must not take it for a fresh one.
        let sql = "update process.task set leased_until = $2, due_at = $2 where key = $1 and leased_until is not null";
        Ok(sqlx::query(sql).bind(key).bind(due).execute(self).await.map(drop)?)
    }

    async fn conclude(&self, conclusions: &[Conclusion]) -> Result<(), StoreError> {
        Ok(conclude(self, conclusions).await?)
    }

    async fn attempt_of(&self, account: &str, name: &str) -> Result<Option<(Uuid, AttemptRef)>, StoreError> {
        Ok(call_backs::attempt_of(self, account, name).await?)
    }

    async fn remember(&self, attempt: &AttemptRef, provider_id: &str) -> Result<(), StoreError> {
        Ok(call_backs::remember(self, attempt, provider_id).await?)
    }

    async fn take_webhook(
        &self,
        delivery: &Delivery<'_>,
        hint: &WebhookHint,
        leased_until: Option<DateTime<Utc>>,
    ) -> Result<bool, StoreError> {
        Ok(webhooks::take(self, delivery, hint, leased_until).await?)
    }

    async fn look_now(&self, tenant: MerchantId, key: &str, task: &Task, now: DateTime<Utc>) -> Result<(), StoreError> {
        Ok(looks::ask(self, tenant, key, task, now).await?)
    }

    async fn looks_now(&self, tenant: MerchantId, key: &str) -> Result<bool, StoreError> {
        Ok(looks::is_awaited(self, tenant, key).await?)
    }

    async fn park(&self, id: Uuid, key: &str) -> Result<(), StoreError> {
        Ok(call_backs::park(self, id, key).await?)
    }

    async fn unpark(&self, now: DateTime<Utc>, after: i64) -> Result<Sweep, StoreError> {
        Ok(call_backs::unpark(self, now, after).await?)
    }

    async fn keep_exchanges(&self, said: &[Said]) -> Result<(), StoreError> {
        Ok(exchanges::store(self, said).await?)
    }
}

async fn conclude(pool: &PgPool, conclusions: &[Conclusion]) -> Result<(), sqlx::Error> {
    let gone = conclusions.iter().filter(|done| done.next.is_none()).map(|done| done.key.as_str());
    let gone: Vec<&str> = gone.chain(conclusions.iter().filter_map(|done| done.also.as_deref())).collect();
    let next = || conclusions.iter().filter_map(|done| done.next.as_ref().map(|next| (done.key.as_str(), next)));
    let settled = || conclusions.iter().filter_map(|done| done.call_back);
    sqlx::query(include_str!("sql/conclude.sql"))
        .bind(gone)
        .bind(next().map(|(key, _)| key).collect::<Vec<_>>())
        .bind(next().map(|(_, (_, tenant, _))| *tenant).collect::<Vec<_>>())
        .bind(next().map(|(_, (task, ..))| Json(task)).collect::<Vec<_>>())
        .bind(next().map(|(_, (.., due_at))| *due_at).collect::<Vec<_>>())
        .bind(settled().map(|settled| settled.id).collect::<Vec<_>>())
        .bind(settled().map(|settled| settled.tenant).collect::<Vec<_>>())
        .bind(settled().map(|settled| settled.confirmed).collect::<Vec<_>>())
        .execute(pool)
        .await
        .map(drop)
}

async fn advance(
    pool: &PgPool,
    from: i64,
    (to, hash): (i64, Option<[u8; 32]>),
    leaves: Vec<Leaves>,
    stuck: Vec<Stuck>,
) -> Result<Option<Vec<String>>, sqlx::Error> {
    let waits = leaves.iter().any(Leaves::is_lease_that_begins_something);
    let (mut keys, mut owners, mut tasks, mut due, mut leases) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut accounts, mut names, mut tenants, mut attempts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for left in leaves {
        match left {
            Leaves::Task { key, tenant, task, due_at, leased_until } => {
                keys.push(key);
                owners.push(uuid_of(tenant));
                tasks.push(Json(task));
                due.push(due_at);
                leases.push(leased_until);
            }
            Leaves::Reference { tenant, attempt } => {
                accounts.push(attempt.provider.clone());
                // A name of the provider's own stands beside our reference, in a row of its own.
                names.push(attempt.provider_id.as_ref().unwrap_or(&attempt.reference).clone());
                tenants.push(uuid_of(tenant));
                attempts.push(Json(attempt));
            }
        }
    }
    let (positions, places): (Vec<i64>, Vec<i32>) =
        stuck.iter().map(|stuck| (stuck.pos, i32::try_from(stuck.n).unwrap_or(i32::MAX))).unzip();
    let (managers, reasons): (Vec<&str>, Vec<&str>) = stuck.iter().map(|stuck| (stuck.manager, stuck.error.as_str())).unzip();
    sqlx::query_scalar(include_str!("sql/advance.sql"))
        .bind(CHECKPOINT)
        .bind(from)
        .bind(to)
        .bind(keys)
        .bind(owners)
        .bind(tasks)
        .bind(due)
        .bind(accounts)
        .bind(names)
        .bind(tenants)
        .bind(attempts)
        .bind(positions)
        .bind(places)
        .bind(managers)
        .bind(reasons)
        .bind(leases)
        .bind(waits)
        .bind(hash.map(|hash| hash.to_vec()))
        .fetch_one(pool)
        .await
}
