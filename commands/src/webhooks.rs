//! Inbound call-backs: stored exactly as they came with what their signature proved, acknowledged fast, looked into later by a
//! task. See the migration `inbound_webhooks` for the states.

use chrono::{DateTime, Utc};
use domain::{
    ids::{MerchantId, WebhookId},
    process::Task,
    provider::{HintSubject, WebhookHint, WebhookRefusal},
};
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgPool, Row, postgres::PgRow, types::Json};
use uuid::Uuid;

use crate::{
    call_backs,
    event_log::StoreError,
    event_store::uuid_of,
    process_store::ProcessStore,
    tasks::{Handed, Tasks, leased_until},
};

/// Refused deliveries kept of each account and reason.
const REFUSED_KEPT: i32 = 200;
/// Bytes kept of a refused body.
const REFUSED_BYTES: usize = 16 * 1024;

/// A call-back as it came.
#[derive(Debug)]
pub struct Delivery<'a> {
    /// Our name for this delivery.
    pub id: WebhookId,
    /// The provider's name.
    pub provider: &'a str,
    /// `pac_…`, or the provider's name for the platform's own account.
    pub account: &'a str,
    /// Whose account it is; nothing for the platform's own.
    pub tenant: Option<MerchantId>,
    /// When it came, UTC.
    pub received_at: DateTime<Utc>,
    /// Its headers, secrets left out.
    pub headers: &'a [(String, String)],
    /// Its body, byte for byte.
    pub body: &'a [u8],
}

/// What a delivery is about, as columns and as the task that looks into it.
struct Subject<'a> {
    reference: Option<&'a str>,
    provider_id: Option<&'a str>,
    state: &'static str,
    task: Option<Task>,
}

fn subject_of<'a>(account: &str, hint: &'a WebhookHint) -> Subject<'a> {
    let task = |name: &str| {
        let (provider, reference, transaction_id) = (account.to_owned(), name.to_owned(), hint.transaction_id.clone());
        Some(Task::FollowHint { provider, reference, transaction_id, tried: 0 })
    };
    match &hint.subject {
        HintSubject::Reference(name) => Subject { reference: Some(name), provider_id: None, state: "received", task: task(name) },
        HintSubject::ProviderId(name) => Subject { reference: None, provider_id: Some(name), state: "received", task: task(name) },
        HintSubject::Nothing => Subject { reference: None, provider_id: None, state: "done", task: None },
    }
}

/// Takes in a call-back that proved its sender: stores it by `door` with the task that looks into it, which goes to the worker of this
/// process while that has places, and is found by any worker otherwise. `now` is UTC; `workers` may let go of tasks. Returns whether the
/// call-back was new. To be driven to its end: a task that is left leased and not handed over waits until its lease runs out.
///
/// # Errors
/// The sender must then not be acknowledged.
pub async fn receive(
    (door, workers): (&impl ProcessStore, &impl ProcessStore),
    tasks: &Tasks,
    now: DateTime<Utc>,
    delivery: &Delivery<'_>,
    hint: &WebhookHint,
) -> Result<bool, StoreError> {
    let task = subject_of(delivery.account, hint).task;
    let place = task.as_ref().and_then(|_| tasks.place_among_many());
    let until = leased_until(now);
    let fresh = door.take_webhook(delivery, hint, place.as_ref().map(|_| until)).await?;
    match (task, place) {
        (Some(task), Some(place)) if fresh => {
            let (key, tenant) = (call_backs::task_key(delivery.id), delivery.tenant.map(uuid_of).unwrap_or_default());
            tasks.hand_over_or_release(workers, Handed { key, tenant, task, leased_until: until, place }).await;
        }
        (Some(_), _) => tasks.notify(),
        (None, _) => {} // it spoke of nothing
    }
    Ok(fresh)
}

/// Stores a call-back that proved its sender and schedules the look at the provider's books; one row and one task per delivery
/// id, however often it is delivered. The task of a new one stands leased for as long as is said. Returns whether it was new.
///
/// # Errors
/// The driver's; the sender must then not be acknowledged.
pub async fn take(
    pool: &PgPool,
    delivery: &Delivery<'_>,
    hint: &WebhookHint,
    leased_until: Option<DateTime<Utc>>,
) -> Result<bool, sqlx::Error> {
    let subject = subject_of(delivery.account, hint);
    sqlx::query_scalar("select process.take_webhook($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)")
        .bind(uuid_of(delivery.id))
        .bind(delivery.provider)
        .bind(delivery.account)
        .bind(delivery.tenant.map(uuid_of))
        .bind(&hint.delivery_id)
        .bind(subject.reference)
        .bind(subject.provider_id)
        .bind(&hint.transaction_id)
        .bind(delivery.received_at)
        .bind(Json(delivery.headers))
        .bind(delivery.body)
        .bind(subject.state)
        .bind(subject.task.map(Json))
        .bind(leased_until)
        .fetch_one(pool)
        .await
}

/// Keeps a call-back that had no effect. One that proved its sender and could not be read is parked whole, once, however often it comes:
/// a build that reads it may look into it again. Any other is kept in place of the oldest of its kind.
///
/// # Errors
/// The driver's.
pub async fn refuse(pool: &PgPool, delivery: &Delivery<'_>, refusal: &WebhookRefusal) -> Result<(), sqlx::Error> {
    match refusal {
        WebhookRefusal::NotAuthentic => keep_refused(pool, delivery, "bad", refusal).await,
        WebhookRefusal::Stale => keep_refused(pool, delivery, "stale", refusal).await,
        WebhookRefusal::Malformed(..) => park_unread(pool, delivery, refusal).await,
    }
}

async fn park_unread(pool: &PgPool, delivery: &Delivery<'_>, refusal: &WebhookRefusal) -> Result<(), sqlx::Error> {
    sqlx::query("select process.park_unread_webhook($1, $2, $3, $4, $5, $6, $7, $8)")
        .bind(uuid_of(delivery.id))
        .bind(delivery.provider)
        .bind(delivery.account)
        .bind(delivery.tenant.map(uuid_of))
        .bind(format!("malformed: {refusal}"))
        .bind(delivery.received_at)
        .bind(Json(delivery.headers))
        .bind(delivery.body)
        .execute(pool)
        .await
        .map(drop)
}

async fn keep_refused(pool: &PgPool, delivery: &Delivery<'_>, signature: &str, refusal: &WebhookRefusal) -> Result<(), sqlx::Error> {
    let body = delivery.body.get(..REFUSED_BYTES).unwrap_or(delivery.body);
    sqlx::query("select process.refuse_webhook($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)")
        .bind(uuid_of(delivery.id))
        .bind(delivery.provider)
        .bind(delivery.account)
        .bind(delivery.tenant.map(uuid_of))
        .bind(signature)
        .bind(refusal.to_string())
        .bind(delivery.received_at)
        .bind(Json(delivery.headers))
        .bind(body)
        .bind(REFUSED_KEPT)
        .execute(pool)
        .await
        .map(drop)
}

/// A stored call-back without what it said.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Our name for it.
    pub id: Uuid,
    /// Order of arrival.
    pub place: i64,
    /// The provider's name.
    pub provider: String,
    /// `pac_…`, or the provider's name.
    pub account: String,
    /// `ok`, `bad` or `stale`; `malformed` of those that builds before kept without saying more.
    pub signature: String,
    /// `received`, `parked`, `done`, `unconfirmed` or `refused`.
    pub state: String,
    /// The provider's key against double processing.
    pub delivery_id: Option<String>,
    /// Our name for the attempt.
    pub reference: Option<String>,
    /// The provider's name for it.
    pub provider_id: Option<String>,
    /// The money that it speaks of.
    pub transaction_id: Option<String>,
    /// Why it was refused, or could not be read.
    pub problem: Option<String>,
    /// When it came first, UTC.
    pub received_at: DateTime<Utc>,
    /// How often it came.
    pub deliveries: i32,
    /// Size of its body.
    pub bytes: i32,
    /// Who had it looked into once more; the newest twenty, oldest first.
    pub reprocesses: Json<Vec<Reprocess>>,
}

impl FromRow<'_, PgRow> for Stored {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            place: row.try_get("place")?,
            provider: row.try_get("provider")?,
            account: row.try_get("account")?,
            signature: row.try_get("signature")?,
            state: row.try_get("state")?,
            delivery_id: row.try_get("delivery_id")?,
            reference: row.try_get("reference")?,
            provider_id: row.try_get("provider_id")?,
            transaction_id: row.try_get("transaction_id")?,
            problem: row.try_get("problem")?,
            received_at: row.try_get("received_at")?,
            deliveries: row.try_get("deliveries")?,
            bytes: row.try_get("bytes")?,
            reprocesses: row.try_get("reprocesses")?,
        })
    }
}

/// A call-back was looked into once more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reprocess {
    /// When, UTC.
    pub at: DateTime<Utc>,
    /// Who wanted it.
    pub by: String,
    /// It was taken up; otherwise it still proves nobody, or is another one that was taken already.
    pub taken: bool,
}

/// Which stored call-backs.
#[derive(Debug, Clone, Default)]
pub struct WebhookFilter {
    /// In this state.
    pub state: Option<String>,
    /// Of this account.
    pub account: Option<String>,
    /// Of any account at this provider.
    pub provider: Option<String>,
    /// Not received before, UTC.
    pub from: Option<DateTime<Utc>>,
    /// Not received after, UTC.
    pub to: Option<DateTime<Utc>>,
    /// First place.
    pub first: Option<i64>,
    /// Last place.
    pub last: Option<i64>,
}

/// A page of what a merchant may see, or without a merchant of what belongs to none; newest first, before `before`.
///
/// # Errors
/// The driver's.
pub async fn list(
    pool: &PgPool,
    tenant: Option<MerchantId>,
    filter: &WebhookFilter,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Stored>, sqlx::Error> {
    sqlx::query_as("select * from process.list_webhooks($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)")
        .bind(tenant.map(uuid_of))
        .bind(&filter.state)
        .bind(&filter.account)
        .bind(&filter.provider)
        .bind(filter.from)
        .bind(filter.to)
        .bind(filter.first)
        .bind(filter.last)
        .bind(before)
        .bind(i32::try_from(limit).unwrap_or(i32::MAX))
        .fetch_all(pool)
        .await
}

/// A stored call-back as it came.
#[derive(Debug)]
pub struct Original {
    /// What is known of it.
    pub stored: Stored,
    /// Its headers.
    pub headers: Json<Vec<(String, String)>>,
    /// Its body, byte for byte; of a refused one the beginning.
    pub body: Vec<u8>,
}

impl FromRow<'_, PgRow> for Original {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self { stored: Stored::from_row(row)?, headers: row.try_get("headers")?, body: row.try_get("body")? })
    }
}

/// One stored call-back; `None` for what the merchant may not see.
///
/// # Errors
/// The driver's.
pub async fn find(pool: &PgPool, tenant: Option<MerchantId>, id: WebhookId) -> Result<Option<Original>, sqlx::Error> {
    sqlx::query_as("select * from process.find_webhook($1, $2)").bind(tenant.map(uuid_of)).bind(uuid_of(id)).fetch_optional(pool).await
}

/// Notes that somebody had a call-back looked into that still proves nobody.
///
/// # Errors
/// The driver's.
pub async fn note(pool: &PgPool, tenant: Option<MerchantId>, stored: &Stored, by: &str, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    sqlx::query("select process.note_reprocess($1, $2, $3, $4)")
        .bind(tenant.map(uuid_of))
        .bind(stored.id)
        .bind(now)
        .bind(by)
        .execute(pool)
        .await
        .map(drop)
}

/// Looks into a stored call-back once more, as it reads now, and notes who wanted it. False when another row is this very delivery
/// already.
///
/// # Errors
/// The driver's.
pub async fn reopen(
    pool: &PgPool,
    tenant: Option<MerchantId>,
    stored: &Stored,
    hint: &WebhookHint,
    by: &str,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let subject = subject_of(&stored.account, hint);
    sqlx::query_scalar("select process.reopen_webhook($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)")
        .bind(tenant.map(uuid_of))
        .bind(stored.id)
        .bind(&hint.delivery_id)
        .bind(subject.reference)
        .bind(subject.provider_id)
        .bind(&hint.transaction_id)
        .bind(now)
        .bind(subject.state)
        .bind(subject.task.map(Json))
        .bind(by)
        .fetch_one(pool)
        .await
}

impl Stored {
    /// Its sender was proven when it came.
    pub fn is_proven(&self) -> bool {
        self.signature == "ok"
    }

    /// What a call-back that proved its sender said when it came; nothing for one that was refused or could not be read.
    pub fn hint(&self) -> Option<WebhookHint> {
        let subject = match (&self.reference, &self.provider_id) {
            (Some(reference), _) => HintSubject::Reference(reference.clone()),
            (None, Some(provider_id)) => HintSubject::ProviderId(provider_id.clone()),
            (None, None) => HintSubject::Nothing,
        };
        let delivery_id = self.delivery_id.clone()?;
        Some(WebhookHint { delivery_id, subject, transaction_id: self.transaction_id.clone(), acknowledgement: String::new() })
    }
}
