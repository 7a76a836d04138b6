//! The log on PostgreSQL: one call to append a batch, one call to load a stream.

use domain::{
    envelope::{RecordedEvent, StreamKey, StreamType},
    ids::{MerchantId, Ulid},
    integrity::merkle_root,
};
use sqlx::{PgConnection, PgPool, Row, postgres::PgRow};
use uuid::Uuid;

use crate::batch::{AppendItem, BatchAnswer, Link, Refusal, StoredKey};

const APPEND: &str = include_str!("sql/append.sql");
const LOAD_STREAM: &str = include_str!("sql/load_stream.sql");

/// A ULID as the database stores it.
pub fn uuid_of(id: impl Into<Ulid>) -> Uuid {
    Uuid::from_bytes(id.into().to_bytes())
}

/// A stored id as a ULID.
pub fn ulid_of(id: Uuid) -> Ulid {
    Ulid::from_bytes(id.into_bytes())
}

/// Appends a batch: everything or nothing. See `log.append`.
///
/// # Errors
/// The driver's; a refusal by version or key is an answer, not an error.
pub async fn append(connection: &mut PgConnection, items: &[AppendItem]) -> Result<BatchAnswer, sqlx::Error> {
    let hashes: Vec<[u8; 32]> = items.iter().flat_map(|item| item.events.iter().map(|event| event.hash)).collect();
    let query = bind_events(bind_keys(bind_streams(sqlx::query(APPEND).bind(merkle_root(&hashes).to_vec()), items), items), items);
    let rows = query.fetch_all(connection).await?;
    let mut refusals = Vec::new();
    for row in &rows {
        let index = usize::try_from(row.try_get::<i32, _>("idx")? - 1).unwrap_or(0);
        match row.try_get::<i16, _>("kind")? {
            0 => return Ok(BatchAnswer::Committed { first_pos: row.try_get("first_pos")?, link: link(row)? }),
            1 => refusals.push(Refusal::Version { index, actual: row.try_get("version")? }),
            _ => refusals.push(Refusal::Key { index, stored: stored_key(row)? }),
        }
    }
    Ok(BatchAnswer::Refused(refusals))
}

/// Where a commit stands in the chain; nothing when it had no events.
fn link(row: &PgRow) -> Result<Option<Link>, sqlx::Error> {
    let Some(recorded_at) = row.try_get("recorded_at")? else { return Ok(None) };
    Ok(Some(Link { before: hash(row, "before")?, hash: hash(row, "hash")?, recorded_at }))
}

fn hash(row: &PgRow, column: &str) -> Result<[u8; 32], sqlx::Error> {
    let bytes: &[u8] = row.try_get(column)?;
    bytes.try_into().map_err(|_| corrupt(column, "hash is not 32 bytes".to_owned()))
}

fn corrupt(column: &str, what: String) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: what.into() }
}

type PgQuery<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

fn bind_streams<'q>(query: PgQuery<'q>, items: &'q [AppendItem]) -> PgQuery<'q> {
    let streams = || items.iter().flat_map(|item| item.streams.iter());
    query
        .bind(streams().map(|s| uuid_of(s.key.tenant)).collect::<Vec<_>>())
        .bind(streams().map(|s| s.key.stream_type.as_str()).collect::<Vec<_>>())
        .bind(streams().map(|s| uuid_of(s.key.stream_id)).collect::<Vec<_>>())
        .bind(streams().map(|s| s.expected).collect::<Vec<_>>())
        .bind(streams().map(|s| s.next).collect::<Vec<_>>())
}

fn bind_keys<'q>(query: PgQuery<'q>, items: &'q [AppendItem]) -> PgQuery<'q> {
    let keys = || items.iter().flat_map(|item| item.keys.iter());
    // Offsets of each item's events within the batch, 1-based, repeated for each of its keys.
    let mut before = 0_i32;
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for item in items {
        let count = i32::try_from(item.events.len()).unwrap_or(i32::MAX);
        for _ in &item.keys {
            first.push((count > 0).then_some(before + 1));
            last.push((count > 0).then_some(before + count));
        }
        before += count;
    }
    query
        .bind(keys().map(|k| uuid_of(k.tenant)).collect::<Vec<_>>())
        .bind(keys().map(|k| k.scope.as_str()).collect::<Vec<_>>())
        .bind(keys().map(|k| k.key.as_str()).collect::<Vec<_>>())
        .bind(keys().map(|k| k.request_hash.as_slice()).collect::<Vec<_>>())
        .bind(keys().map(|k| k.fingerprint.as_deref()).collect::<Vec<_>>())
        .bind(first)
        .bind(last)
        .bind(keys().map(|k| k.response.as_deref()).collect::<Vec<_>>())
}

fn bind_events<'q>(query: PgQuery<'q>, items: &'q [AppendItem]) -> PgQuery<'q> {
    let events = || items.iter().flat_map(|item| item.events.iter());
    query
        .bind(events().map(|e| uuid_of(e.stream.tenant)).collect::<Vec<_>>())
        .bind(events().map(|e| e.stream.stream_type.as_str()).collect::<Vec<_>>())
        .bind(events().map(|e| uuid_of(e.stream.stream_id)).collect::<Vec<_>>())
        .bind(events().map(|e| e.version).collect::<Vec<_>>())
        .bind(events().map(|e| e.event.event_type).collect::<Vec<_>>())
        .bind(events().map(|e| e.event.schema_version).collect::<Vec<_>>())
        .bind(events().map(|e| e.slice).collect::<Vec<_>>())
        .bind(events().map(|e| e.occurred_at_us).collect::<Vec<_>>())
        .bind(events().map(|e| uuid_of(e.correlation_id)).collect::<Vec<_>>())
        .bind(events().map(|e| uuid_of(e.causation_id)).collect::<Vec<_>>())
        .bind(events().map(|e| e.actor.as_str()).collect::<Vec<_>>())
        .bind(events().map(|e| e.meta.as_slice()).collect::<Vec<_>>())
        .bind(events().map(|e| e.event.payload.as_slice()).collect::<Vec<_>>())
        .bind(events().map(|e| e.event.pii.as_deref()).collect::<Vec<_>>())
        .bind(events().map(|e| e.hash.as_slice()).collect::<Vec<_>>())
}

fn stored_key(row: &PgRow) -> Result<StoredKey, sqlx::Error> {
    Ok(StoredKey {
        request_hash: row.try_get("request_hash")?,
        fingerprint: row.try_get("fingerprint")?,
        last_pos: row.try_get("last_pos")?,
        response: row.try_get("response")?,
    })
}

/// The stored answer of an idempotency key, if it was used.
///
/// # Errors
/// The driver's.
pub async fn find_key(pool: &PgPool, tenant: Ulid, scope: &str, key: &str) -> Result<Option<StoredKey>, sqlx::Error> {
    let row =
        sqlx::query("select * from log.find_key($1, $2, $3)").bind(uuid_of(tenant)).bind(scope).bind(key).fetch_optional(pool).await?;
    row.as_ref().map(stored_key).transpose()
}

/// A stream's events after `after`, in order.
///
/// # Errors
/// The driver's.
pub async fn load_stream(pool: &PgPool, key: StreamKey, after: i64) -> Result<Vec<RecordedEvent>, sqlx::Error> {
    let rows = sqlx::query(LOAD_STREAM)
        .bind(uuid_of(key.tenant))
        .bind(key.stream_type.as_str())
        .bind(uuid_of(key.stream_id))
        .bind(after)
        .fetch_all(pool)
        .await?;
    rows.iter().map(recorded_event).collect()
}

/// Whether all these streams of one tenant have exactly these versions, seen at one moment.
///
/// # Errors
/// The driver's.
pub async fn stand_at(pool: &PgPool, tenant: MerchantId, versions: &[(StreamKey, i64)]) -> Result<bool, sqlx::Error> {
    if versions.is_empty() {
        return Ok(true);
    }
    sqlx::query_scalar("select log.streams_stand_at($1, $2, $3, $4)")
        .bind(uuid_of(tenant))
        .bind(versions.iter().map(|(key, _)| key.stream_type.as_str()).collect::<Vec<_>>())
        .bind(versions.iter().map(|(key, _)| uuid_of(key.stream_id)).collect::<Vec<_>>())
        .bind(versions.iter().map(|(_, version)| *version).collect::<Vec<_>>())
        .fetch_one(pool)
        .await
}

/// Position of the event with this hash at this place of its stream, if it was written.
///
/// # Errors
/// The driver's.
pub async fn find_written(
    connection: &mut PgConnection,
    key: StreamKey,
    version: i64,
    hash: &[u8; 32],
) -> Result<Option<i64>, sqlx::Error> {
    let row = sqlx::query("select pos, hash from log.load_stream($1, $2, $3, $4) where version = $5")
        .bind(uuid_of(key.tenant))
        .bind(key.stream_type.as_str())
        .bind(uuid_of(key.stream_id))
        .bind(version - 1)
        .bind(version)
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let stored: Vec<u8> = row.try_get("hash")?;
    Ok(if stored == hash { Some(row.try_get("pos")?) } else { None })
}

/// The log from `after` (exclusive), at most `limit` events, in order.
///
/// # Errors
/// The driver's.
pub async fn read_log(pool: &PgPool, after: i64, limit: i64) -> Result<Vec<RecordedEvent>, sqlx::Error> {
    let rows = sqlx::query("select * from log.event where pos > $1 and pos <= $2 order by pos")
        .bind(after)
        .bind(after.saturating_add(limit))
        .fetch_all(pool)
        .await?;
    rows.iter().map(recorded_event).collect()
}

/// The newest position, the epoch and the identity of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogHead {
    /// Newest position.
    pub pos: i64,
    /// Raised when the database was restored to the past.
    pub epoch: i32,
    /// Identity.
    pub log_id: Uuid,
    /// Hash of the newest commit.
    pub hash: [u8; 32],
}

/// Reads the head.
///
/// # Errors
/// The driver's.
pub async fn log_head(pool: &PgPool) -> Result<LogHead, sqlx::Error> {
    let row = sqlx::query("select pos, epoch, log_id, hash from log.head").fetch_one(pool).await?;
    let (pos, epoch, log_id) = (row.try_get("pos")?, row.try_get("epoch")?, row.try_get("log_id")?);
    Ok(LogHead { pos, epoch, log_id, hash: hash(&row, "hash")? })
}

/// A row of `log.event`.
///
/// # Errors
/// `ColumnDecode` for a stream type that this build does not know, or a hash that is not 32 bytes.
pub fn recorded_event(row: &PgRow) -> Result<RecordedEvent, sqlx::Error> {
    let stream_type: &str = row.try_get("stream_type")?;
    Ok(RecordedEvent {
        pos: row.try_get("pos")?,
        stream: StreamKey {
            tenant: MerchantId(ulid_of(row.try_get("tenant")?)),
            stream_type: StreamType::parse(stream_type)
                .ok_or_else(|| corrupt("stream_type", format!("stream type '{stream_type}' is not known")))?,
            stream_id: ulid_of(row.try_get("stream_id")?),
        },
        version: row.try_get("version")?,
        event_type: row.try_get("type")?,
        schema_version: row.try_get("schema_version")?,
        slice: row.try_get("slice")?,
        occurred_at: row.try_get("occurred_at")?,
        recorded_at: row.try_get("recorded_at")?,
        correlation_id: ulid_of(row.try_get("correlation_id")?),
        causation_id: ulid_of(row.try_get("causation_id")?),
        actor: row.try_get("actor")?,
        meta: row.try_get("meta")?,
        payload: row.try_get("payload")?,
        pii: row.try_get("pii")?,
        hash: hash(row, "hash")?,
    })
}
