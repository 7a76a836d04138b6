//! Reads the log straight from PostgreSQL: the source that every other source is checked against.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::{
    envelope::{RecordedEvent, StreamKey, StreamType},
    event::ReadEvent,
    ids::{MerchantId, Ulid},
    provider::BoxFuture,
};
use futures_util::stream::{BoxStream, StreamExt as _};
use sqlx::{
    AssertSqlSafe, Decode, PgConnection, PgPool, Postgres, Row as _, Type,
    error::BoxDynError,
    postgres::{PgRow, PgTypeInfo, PgValueFormat, PgValueRef},
};
use uuid::Uuid;

use crate::{error::Error, projection::Projection};

/// Where the log ends, and which log it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Position of the newest event; 0 for an empty log.
    pub pos: i64,
    /// Raised when the database was restored to the past.
    pub epoch: i32,
    /// Names the log in streams and subjects.
    pub log_id: Uuid,
    /// Hash of the newest commit.
    pub hash: [u8; 32],
}

/// The columns that [`row_to_event`] reads, in its order.
pub const EVENT_COLUMNS: &str = "pos, tenant, stream_type, stream_id, version, type, schema_version, slice, occurred_at, \
                                 recorded_at, correlation_id, causation_id, actor, meta, payload, pii, hash";

const RANGE: &str = "select pos, tenant, stream_type, stream_id, version, type, schema_version, slice, occurred_at, recorded_at, \
                     correlation_id, causation_id, actor, meta, payload, pii, hash \
                     from log.event where pos > $1 and pos <= $2 order by pos";

/// Where a feed reads the log: a port, so that the same logic runs on PostgreSQL and in a simulation.
pub trait LogSource: Send + Sync {
    /// Where the log ends now.
    fn head(&self) -> BoxFuture<'_, Result<Head, Error>>;
    /// At most `limit` events after position `after`, in order. Positions have no gaps, so the first is `after + 1`.
    fn range(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<Arc<ReadEvent>>, Error>>;
}

impl LogSource for LogReader {
    fn head(&self) -> BoxFuture<'_, Result<Head, Error>> {
        Box::pin(self.head())
    }

    fn range(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<Arc<ReadEvent>>, Error>> {
        Box::pin(self.range(after, limit))
    }
}

/// The log, read by a role that is a member of `smartpos_auditor` or `smartpos_worker`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LogReader {
    pool: PgPool,
}

impl LogReader {
    /// Over a pool.
    pub const fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Where the log ends now.
    ///
    /// # Errors
    /// `Sql`; `Corrupt` for a head without a proper hash.
    pub async fn head(&self) -> Result<Head, Error> {
        head(&mut *self.pool.acquire().await?).await
    }

    /// At most `limit` events after position `after`, in order. Positions have no gaps, so the first is `after + 1`.
    ///
    /// # Errors
    /// `Sql`, `Corrupt`.
    pub async fn range(&self, after: i64, limit: usize) -> Result<Vec<Arc<ReadEvent>>, Error> {
        let last = after.saturating_add(i64::try_from(limit).unwrap_or(i64::MAX));
        let mut events = Vec::new();
        let mut stream = self.stream(after, last);
        while let Some(event) = stream.next().await {
            events.push(ReadEvent::shared(event?));
        }
        check_gapless(after, &events)?;
        Ok(events)
    }

    /// Events after `after` up to and including `last`, streamed: memory does not grow with the range.
    pub fn stream(&self, after: i64, last: i64) -> BoxStream<'_, Result<RecordedEvent, Error>> {
        let rows = sqlx::query(RANGE).bind(after).bind(last).fetch(&self.pool);
        rows.map(|row| row_to_event(&row?)).boxed()
    }
}

/// [`LogReader::head`] on a connection, for instance inside a transaction.
pub(crate) async fn head(connection: &mut PgConnection) -> Result<Head, Error> {
    let row = sqlx::query("select pos, epoch, log_id, hash from log.head where id = 1").fetch_one(connection).await?;
    let (pos, hash): (i64, Vec<u8>) = (row.try_get(0)?, row.try_get(3)?);
    Ok(Head { pos, epoch: row.try_get(1)?, log_id: row.try_get(2)?, hash: fixed(hash, pos)? })
}

/// [`LogReader::stream`] on a connection, for instance inside a transaction.
pub(crate) fn stream(connection: &mut PgConnection, after: i64, last: i64) -> BoxStream<'_, Result<RecordedEvent, Error>> {
    sqlx::query(RANGE).bind(after).bind(last).fetch(connection).map(|row| row_to_event(&row?)).boxed()
}

/// A number by which tenants are dealt out evenly: a random byte of their ids.
pub(crate) const TENANT_NUMBER: &str = "get_byte(uuid_send(tenant), 15)";

/// Events up to `last` of every `parts`th tenant, of the streams that `projection` reads.
pub(crate) fn for_projection<'c>(
    connection: &'c mut PgConnection,
    projection: &dyn Projection,
    last: i64,
    (part, parts): (i32, i32),
) -> BoxStream<'c, Result<RecordedEvent, Error>> {
    let tenants = if parts <= 1 { String::new() } else { format!("and {TENANT_NUMBER} % {parts} = {part}") };
    let sql = format!("select {EVENT_COLUMNS} from log.event where pos <= $1 and stream_type = any($2) {tenants} order by pos");
    let query = sqlx::query(AssertSqlSafe(sql)).bind(last).bind(kinds_read_by(projection));
    query.fetch(connection).map(|row| row_to_event(&row?)).boxed()
}

/// The stored words of the stream types that `projection` reads.
pub(crate) fn kinds_read_by(projection: &dyn Projection) -> Vec<&'static str> {
    StreamType::ALL.into_iter().filter(|kind| projection.reads(*kind)).map(StreamType::as_str).collect()
}

/// Events after `after` up to and including `last` of these tenants' streams of these kinds, in order; for the application role.
pub(crate) fn of_tenants<'c>(
    connection: &'c mut PgConnection,
    tenants: &[Uuid],
    types: &[&str],
    after: i64,
    last: i64,
) -> BoxStream<'c, Result<RecordedEvent, Error>> {
    let sql = AssertSqlSafe(format!("select {EVENT_COLUMNS} from log.tenant_events($1, $2, $3) where pos > $4 order by pos"));
    sqlx::query(sql)
        .bind(tenants.to_vec())
        .bind(owned(types))
        .bind(last)
        .bind(after)
        .fetch(connection)
        .map(|row| row_to_event(&row?))
        .boxed()
}

/// Events up to and including `last` of single streams, of whichever of these kinds and tenants they are, in order; for the
/// application role.
pub(crate) async fn of_streams(
    connection: &mut PgConnection,
    tenants: &[Uuid],
    types: &[&str],
    streams: &[Ulid],
    last: i64,
) -> Result<Vec<RecordedEvent>, Error> {
    let sql = AssertSqlSafe(format!(
        "select {EVENT_COLUMNS} from unnest($1::uuid[]) as owner (id) cross join unnest($2::text[]) as kind (name) \
         cross join unnest($3::uuid[]) as stream (id) cross join lateral log.load_stream(owner.id, kind.name, stream.id, 0) \
         where pos <= $4 order by pos"
    ));
    let streams: Vec<Uuid> = streams.iter().map(|stream| Uuid::from_bytes(stream.to_bytes())).collect();
    let query = sqlx::query(sql).bind(tenants).bind(owned(types)).bind(streams).bind(last);
    query.fetch_all(connection).await?.iter().map(row_to_event).collect()
}

fn owned(types: &[&str]) -> Vec<String> {
    types.iter().map(|name| (*name).to_owned()).collect()
}

fn check_gapless(after: i64, events: &[Arc<ReadEvent>]) -> Result<(), Error> {
    let mut expected = after;
    for event in events {
        expected += 1;
        if event.pos != expected {
            return Err(Error::Corrupt { position: expected, what: format!("the log goes on at {}", event.pos) });
        }
    }
    Ok(())
}

/// A row of `log.event` with the columns of [`EVENT_COLUMNS`].
///
/// # Errors
/// `Sql` for a column of another type; `Corrupt` for a stream type that this build does not know, a time that is none or a hash
/// of another length.
pub fn row_to_event(row: &PgRow) -> Result<RecordedEvent, Error> {
    let pos: i64 = row.try_get(0)?;
    let stream_type: &str = row.try_get(2)?;
    let stream_type = StreamType::parse(stream_type)
        .ok_or_else(|| Error::Corrupt { position: pos, what: format!("stream type '{stream_type}' is not known to this build") })?;
    Ok(RecordedEvent {
        pos,
        stream: StreamKey { tenant: MerchantId(ulid(row, 1)?), stream_type, stream_id: ulid(row, 3)? },
        version: row.try_get(4)?,
        event_type: row.try_get(5)?,
        schema_version: row.try_get(6)?,
        slice: row.try_get(7)?,
        occurred_at: time(row, 8, pos)?,
        recorded_at: time(row, 9, pos)?,
        correlation_id: ulid(row, 10)?,
        causation_id: ulid(row, 11)?,
        actor: row.try_get(12)?,
        meta: row.try_get(13)?,
        payload: row.try_get(14)?,
        pii: row.try_get(15)?,
        hash: fixed(row.try_get(16)?, pos)?,
    })
}

fn ulid(row: &PgRow, column: usize) -> Result<Ulid, Error> {
    let uuid: Uuid = row.try_get(column)?;
    Ok(Ulid::from_bytes(*uuid.as_bytes()))
}

/// A time as PostgreSQL sends it: microseconds since 2000, of which the least and the greatest mean infinity.
struct StoredTime(i64);

impl Type<Postgres> for StoredTime {
    fn type_info() -> PgTypeInfo {
        <DateTime<Utc> as Type<Postgres>>::type_info()
    }
}

impl<'r> Decode<'r, Postgres> for StoredTime {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        match value.format() {
            PgValueFormat::Binary => Ok(Self(<i64 as Decode<Postgres>>::decode(value)?)),
            PgValueFormat::Text => Err("a time of the log is read in binary form only".into()),
        }
    }
}

/// 2000-01-01 in microseconds since 1970.
const YEAR_2000_US: i64 = 946_684_800_000_000;

/// A column that holds a time. The driver's own conversion panics on infinity, which someone may have put there.
pub(crate) fn time(row: &PgRow, column: usize, position: i64) -> Result<DateTime<Utc>, Error> {
    let StoredTime(since_2000) = row.try_get(column)?;
    let time = since_2000.checked_add(YEAR_2000_US).and_then(DateTime::from_timestamp_micros);
    time.ok_or_else(|| Error::Corrupt { position, what: "a time is infinite or out of range".to_owned() })
}

pub(crate) fn fixed(bytes: Vec<u8>, position: i64) -> Result<[u8; 32], Error> {
    bytes.try_into().map_err(|_| Error::Corrupt { position, what: "a hash does not have 32 bytes".to_owned() })
}
