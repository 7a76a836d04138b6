//! What is still to be delivered to webhook endpoints, and what was tried: schema `process`, tables `webhook_…`.
//!
//! A cursor per endpoint turns public events into deliveries, and moves in the transaction that stores them: none is lost, none
//! is made twice. To send again is another cursor over a closed range. Deliveries are leased, so that one that died with its
//! worker is soon another's. Every function takes the worker's pool but [`list`].

use chrono::{DateTime, Utc};
use domain::{
    delivery::{Effects, Fate},
    ids::{EventId, MerchantId, WebhookEndpointId},
};
use sqlx::{PgConnection, PgPool, Row as _, postgres::PgRow};

use crate::event_store::{ulid_of, uuid_of};

/// How long a worker holds a delivery, seconds: longer than any attempt takes.
pub const LEASE_SECONDS: i32 = 20;
/// Attempts at one endpoint at the same time.
pub const AT_ONCE: i64 = 8;
/// Attempts at all endpoints of one merchant at the same time: a fraction of what a process makes, so that a merchant whose endpoints are
/// slow keeps no other waiting. Workers that lease at the same moment may exceed it by what each takes.
pub const AT_ONCE_OF_MERCHANT: i64 = 32;
/// Deliveries of one endpoint that wait at most; its cursors rest until there are fewer.
pub const MOST_WAITING: i64 = 1_000;

/// Where an endpoint's deliveries stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Events up to here became deliveries.
    pub pos: i64,
    /// Requests to send again up to here were taken in.
    pub resends_pos: i64,
    /// Deliveries that wait.
    pub waiting: i64,
}

/// An event that became due for an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The event.
    pub event: EventId,
    /// Its place in the log.
    pub pos: i64,
    /// Its public type.
    pub event_type: String,
}

/// A delivery that this worker holds for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leased {
    /// The endpoint.
    pub endpoint: WebhookEndpointId,
    /// Its merchant.
    pub tenant: MerchantId,
    /// The event.
    pub event: EventId,
    /// Its place in the log.
    pub pos: i64,
    /// Attempts so far, in all.
    pub attempts: i32,
    /// Attempts since it was last asked for.
    pub tries: i32,
    /// Since when the endpoint has had nothing but failures.
    pub failing_since: Option<DateTime<Utc>>,
}

/// One attempt, for the delivery log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// When, UTC.
    pub at: DateTime<Utc>,
    /// HTTP status; nothing when no answer came.
    pub status: Option<u16>,
    /// How long it took, milliseconds.
    pub elapsed_ms: u32,
    /// Why no answer came.
    pub error: Option<String>,
    /// The beginning of the answer.
    pub answer: String,
}

/// The cursor of an endpoint, made at `start` when there is none.
///
/// # Errors
/// The driver's.
pub async fn cursor(pool: &PgPool, tenant: MerchantId, endpoint: WebhookEndpointId, start: i64) -> Result<Cursor, sqlx::Error> {
    let sql = "insert into process.webhook_cursor (endpoint, tenant, pos, resends_pos) values ($1, $2, $3, $3) on conflict do nothing";
    sqlx::query(sql).bind(uuid_of(endpoint)).bind(uuid_of(tenant)).bind(start).execute(pool).await?;
    let sql = "select pos, resends_pos, (select count(*) from process.webhook_delivery d where d.endpoint = c.endpoint \
               and d.due_at is not null) from process.webhook_cursor c where endpoint = $1";
    let row = sqlx::query(sql).bind(uuid_of(endpoint)).fetch_one(pool).await?;
    Ok(Cursor { pos: row.try_get(0)?, resends_pos: row.try_get(1)?, waiting: row.try_get(2)? })
}

/// Takes in a request to send a range again; once, by its position.
///
/// # Errors
/// The driver's.
pub async fn take_in_resend(pool: &PgPool, endpoint: WebhookEndpointId, requested: i64, after: i64, until: i64) -> Result<(), sqlx::Error> {
    let mut tx = pool.begin().await?;
    let sql = "update process.webhook_cursor set resends_pos = $2 where endpoint = $1 and resends_pos < $2";
    let moved = sqlx::query(sql).bind(uuid_of(endpoint)).bind(requested).execute(&mut *tx).await?;
    if moved.rows_affected() == 1 {
        let sql = "insert into process.webhook_resend (endpoint, requested, pos, until) values ($1, $2, $3, $4)";
        sqlx::query(sql).bind(uuid_of(endpoint)).bind(requested).bind(after).bind(until).execute(&mut *tx).await?;
    }
    tx.commit().await
}

/// Ranges that are being sent again: request, how far, until where.
///
/// # Errors
/// The driver's.
pub async fn resends(pool: &PgPool, endpoint: WebhookEndpointId) -> Result<Vec<(i64, i64, i64)>, sqlx::Error> {
    let sql = "select requested, pos, until from process.webhook_resend where endpoint = $1 order by requested";
    sqlx::query_as(sql).bind(uuid_of(endpoint)).fetch_all(pool).await
}

/// Makes deliveries of `due` and moves the cursor from `from` to `to`; nothing when another worker was faster. `now`: when they
/// are due.
///
/// # Errors
/// The driver's.
pub async fn advance(
    pool: &PgPool,
    (tenant, endpoint): (MerchantId, WebhookEndpointId),
    (from, to): (i64, i64),
    due: &[Due],
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let mut tx = pool.begin().await?;
    let sql = "update process.webhook_cursor set pos = $3 where endpoint = $1 and pos = $2";
    let moved = sqlx::query(sql).bind(uuid_of(endpoint)).bind(from).bind(to).execute(&mut *tx).await?;
    if moved.rows_affected() == 0 {
        return Ok(false);
    }
    insert(&mut tx, tenant, endpoint, due, now).await?;
    tx.commit().await?;
    Ok(true)
}

/// The same for a range that is sent again, which ends at its `until`.
///
/// # Errors
/// The driver's.
pub async fn advance_resend(
    pool: &PgPool,
    (tenant, endpoint): (MerchantId, WebhookEndpointId),
    requested: i64,
    (from, to): (i64, i64),
    due: &[Due],
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let mut tx = pool.begin().await?;
    let sql = "update process.webhook_resend set pos = $4 where endpoint = $1 and requested = $2 and pos = $3";
    let moved = sqlx::query(sql).bind(uuid_of(endpoint)).bind(requested).bind(from).bind(to).execute(&mut *tx).await?;
    if moved.rows_affected() == 1 {
        insert(&mut tx, tenant, endpoint, due, now).await?;
        let sql = "delete from process.webhook_resend where endpoint = $1 and requested = $2 and pos >= until";
        sqlx::query(sql).bind(uuid_of(endpoint)).bind(requested).execute(&mut *tx).await?;
    }
    tx.commit().await
}

/// One that exists is asked for once more, by the name that it has; its attempts go on being counted.
async fn insert(
    connection: &mut PgConnection,
    tenant: MerchantId,
    endpoint: WebhookEndpointId,
    due: &[Due],
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    if due.is_empty() {
        return Ok(());
    }
    let sql = "insert into process.webhook_delivery as d (endpoint, event, tenant, pos, event_type, due_at) \
               select $1, coalesce((select o.event from process.webhook_delivery o where o.endpoint = $1 and o.pos = e.pos limit 1), e.event), \
               $2, e.pos, e.event_type, $6 from unnest($3::text[], $4::bigint[], $5::text[]) as e (event, pos, event_type) \
               on conflict (endpoint, event) do update set status = 'pending', tries = 0, due_at = excluded.due_at";
    let query = sqlx::query(sql).bind(uuid_of(endpoint)).bind(uuid_of(tenant));
    let query = query.bind(due.iter().map(|due| due.event.to_string()).collect::<Vec<_>>());
    let query = query.bind(due.iter().map(|due| due.pos).collect::<Vec<_>>());
    let query = query.bind(due.iter().map(|due| due.event_type.clone()).collect::<Vec<_>>());
    query.bind(now).execute(connection).await.map(drop)
}

/// Deliveries to make now: of endpoints that do not rest, a few of each and of each merchant, so that a slow one keeps no other waiting.
///
/// # Errors
/// The driver's.
pub async fn lease(pool: &PgPool, now: DateTime<Utc>, most: i64) -> Result<Vec<Leased>, sqlx::Error> {
    let query = sqlx::query(include_str!("sql/lease_webhooks.sql")).bind(now).bind(LEASE_SECONDS).bind(AT_ONCE).bind(most);
    let rows = query.bind(AT_ONCE_OF_MERCHANT).fetch_all(pool).await?;
    rows.iter().map(leased).collect()
}

fn leased(row: &PgRow) -> Result<Leased, sqlx::Error> {
    let event: String = row.try_get("event")?;
    Ok(Leased {
        endpoint: WebhookEndpointId(ulid_of(row.try_get("endpoint")?)),
        tenant: MerchantId(ulid_of(row.try_get("tenant")?)),
        event: event.parse().map_err(|error| sqlx::Error::ColumnDecode { index: "event".to_owned(), source: Box::new(error) })?,
        pos: row.try_get("pos")?,
        attempts: row.try_get("attempts")?,
        tries: row.try_get("tries")?,
        failing_since: row.try_get("failing_since")?,
    })
}

/// Notes an attempt and what follows from it.
///
/// # Errors
/// The driver's.
pub async fn note(pool: &PgPool, leased: &Leased, attempt: &Attempt, effects: &Effects) -> Result<(), sqlx::Error> {
    let (status, due_at) = match effects.fate {
        Fate::Delivered => ("delivered", None),
        Fate::Again(at) => ("pending", Some(at)),
        Fate::Failed => ("failed", None),
    };
    let (endpoint, event) = (uuid_of(leased.endpoint), leased.event.to_string());
    let mut tx = pool.begin().await?;
    sqlx::query(
        "insert into process.webhook_attempt (endpoint, event, n, tenant, at, status, elapsed_ms, error, answer) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict do nothing",
    )
    .bind(endpoint)
    .bind(&event)
    .bind(leased.attempts.saturating_add(1))
    .bind(uuid_of(leased.tenant))
    .bind(attempt.at)
    .bind(attempt.status.and_then(|status| i16::try_from(status).ok()))
    .bind(i32::try_from(attempt.elapsed_ms).unwrap_or(i32::MAX))
    .bind(&attempt.error)
    .bind(&attempt.answer)
    .execute(&mut *tx)
    .await?;
    // One that was asked for once more while it was under way stays due.
    sqlx::query(
        "update process.webhook_delivery set attempts = attempts + 1, leased_until = null, \
         status = case when tries = $5 then $3 else status end, due_at = case when tries = $5 then $4 else due_at end, \
         tries = case when tries = $5 then tries + 1 else tries end where endpoint = $1 and event = $2",
    )
    .bind(endpoint)
    .bind(&event)
    .bind(status)
    .bind(due_at)
    .bind(leased.tries)
    .execute(&mut *tx)
    .await?;
    sqlx::query("update process.webhook_cursor set failing_since = $2, paused_until = coalesce($3, paused_until) where endpoint = $1")
        .bind(endpoint)
        .bind(effects.failing_since)
        .bind(effects.paused_until)
        .execute(&mut *tx)
        .await?;
    tx.commit().await
}

/// Lets go of a delivery without an attempt and lets the endpoint rest until then.
///
/// # Errors
/// The driver's.
pub async fn put_back(pool: &PgPool, leased: &Leased, until: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let sql = "with rests as (update process.webhook_cursor set paused_until = $3 where endpoint = $1) \
               update process.webhook_delivery set leased_until = null where endpoint = $1 and event = $2";
    sqlx::query(sql).bind(uuid_of(leased.endpoint)).bind(leased.event.to_string()).bind(until).execute(pool).await.map(drop)
}

/// Where an event stands that an endpoint was told of by this name. Takes the edge's pool; row-level security shows the tenant's rows.
///
/// # Errors
/// The driver's.
pub async fn position_of(
    pool: &PgPool,
    (tenant, endpoint): (MerchantId, WebhookEndpointId),
    event: EventId,
) -> Result<Option<i64>, sqlx::Error> {
    let mut tx = pool.begin().await?;
    sqlx::query("select set_config('smartpos.tenant', $1, true)").bind(uuid_of(tenant).to_string()).execute(&mut *tx).await?;
    let sql = "select pos from process.webhook_delivery where endpoint = $1 and event = $2";
    let found = sqlx::query_scalar(sql).bind(uuid_of(endpoint)).bind(event.to_string()).fetch_optional(&mut *tx).await?;
    tx.commit().await?;
    Ok(found)
}

/// How many deliveries wait, and since when the oldest is due.
///
/// # Errors
/// The driver's.
pub async fn backlog(pool: &PgPool) -> Result<(i64, Option<DateTime<Utc>>), sqlx::Error> {
    sqlx::query_as("select count(*), min(due_at) from process.webhook_delivery where due_at is not null").fetch_one(pool).await
}

/// Which tenants have events in a range of the log.
///
/// # Errors
/// The driver's.
pub async fn tenants_between(pool: &PgPool, after: i64, until: i64) -> Result<Vec<MerchantId>, sqlx::Error> {
    let sql = "select distinct tenant from log.event where pos > $1 and pos <= $2";
    let found: Vec<uuid::Uuid> = sqlx::query_scalar(sql).bind(after).bind(until).fetch_all(pool).await?;
    Ok(found.into_iter().map(|tenant| MerchantId(ulid_of(tenant))).collect())
}

/// A delivery with its attempts, as merchants see it.
#[derive(Debug, Clone, PartialEq)]
pub struct DeliveryView {
    /// `evt_…`.
    pub event: String,
    /// The public type.
    pub event_type: String,
    /// Place in the log.
    pub pos: i64,
    /// `pending`, `delivered` or `failed`.
    pub status: String,
    /// When it is tried next.
    pub due_at: Option<DateTime<Utc>>,
    /// Its attempts in order, as a JSON array.
    pub attempts: serde_json::Value,
}

/// The delivery log of an endpoint before a position, newest first. Takes the edge's pool; row-level security shows the
/// tenant's rows.
///
/// # Errors
/// The driver's.
pub async fn list(
    pool: &PgPool,
    (tenant, endpoint): (MerchantId, WebhookEndpointId),
    status: Option<&str>,
    before: i64,
    limit: i64,
) -> Result<Vec<DeliveryView>, sqlx::Error> {
    let mut tx = pool.begin().await?;
    sqlx::query("select set_config('smartpos.tenant', $1, true)").bind(uuid_of(tenant).to_string()).execute(&mut *tx).await?;
    let rows = sqlx::query(
        "select d.event, d.event_type, d.pos, d.status, d.due_at, coalesce((select jsonb_agg(jsonb_build_object('at', a.at, 'status', \
         a.status, 'elapsed_ms', a.elapsed_ms, 'error', a.error, 'answer', a.answer) order by a.n) from process.webhook_attempt a \
         where a.endpoint = d.endpoint and a.event = d.event), '[]') as attempts from process.webhook_delivery d \
         where d.endpoint = $1 and d.pos < $2 and ($3::text is null or d.status = $3) order by d.pos desc limit $4",
    )
    .bind(uuid_of(endpoint))
    .bind(before)
    .bind(status)
    .bind(limit)
    .fetch_all(&mut *tx)
    .await?;
    tx.commit().await?;
    let view = |row: &PgRow| {
        Ok(DeliveryView {
            event: row.try_get(0)?,
            event_type: row.try_get(1)?,
            pos: row.try_get(2)?,
            status: row.try_get(3)?,
            due_at: row.try_get(4)?,
            attempts: row.try_get::<sqlx::types::Json<serde_json::Value>, _>(5)?.0,
        })
    };
    rows.iter().map(view).collect()
}
