//! Reads as of an earlier moment: the log folded up to a position, asked with the same statements as the live tables.
//!
//! A question about one thing folds the stream, or the few streams, that its row comes from. A list or a report folds all streams of the
//! scope's tenants that the projection reads; the rows that the scope sees then stand, as a relation made from a parameter,
//! where the statement names the table. So filters, order and pages exist once, and nothing is written anywhere.
//!
//! Bounds: so many whole folds at once, so many rows in memory, and the statement time-out of the connection.

use std::{collections::HashMap, str::FromStr, time::Duration};

use chrono::{DateTime, Utc};
use domain::{
    envelope::{RecordedEvent, StreamType},
    event::DomainEvent,
    ids::Ulid,
};
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde_json::Value;
use sqlx::{Arguments as _, AssertSqlSafe, Execute as _, PgConnection, postgres::PgArguments};
use uuid::Uuid;

use crate::{
    error::Error,
    fold::{Fold, fold_events},
    log_reader,
    projection::{Projection, Row, TableSpec, Visibility, tenant_to_uuid},
    queries::{READ, ReadModels, ReadScope, Select, parse},
    rows::Rows,
    tables::{self, Target},
    turns::Turn,
    visibility::sees,
};

/// Folds of whole tenants at the same time in one process; each may hold [`MOST_ROWS`] and keep a core busy.
pub(crate) const CONCURRENT_FOLDS: usize = 2;
/// How long one waits for its turn.
pub(crate) const WAIT_FOR_A_TURN: Duration = Duration::from_secs(2);
/// Most rows that one fold holds; some 200 MB.
pub(crate) const MOST_ROWS: usize = 200_000;

/// A moment of the log, as people name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Right after this position; 0 is before the first event.
    Position(i64),
    /// After everything recorded at or before this time. Within the last instants more may yet be recorded at the same time;
    /// only the position that it stands for is the same for ever.
    Time(DateTime<Utc>),
}

/// Why a moment cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MomentError {
    /// Not a moment at all.
    #[error("must be a log position, or an RFC 3339 time with its offset such as 2026-11-24T09:30:00+07:00 (in an address, + is %2B)")]
    Malformed,
    /// A position that has not been written.
    #[error("position {position} has not been written; the log ends at {head}")]
    Unwritten {
        /// The position asked for.
        position: i64,
        /// Where the log ends.
        head: i64,
    },
    /// A time that has not come.
    #[error("the time lies in the future")]
    Future,
    /// The database failed.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl FromStr for Moment {
    type Err = MomentError;

    fn from_str(text: &str) -> Result<Self, MomentError> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(Self::Position).map_err(|_| MomentError::Malformed);
        }
        let time = DateTime::parse_from_rfc3339(text).map_err(|_| MomentError::Malformed)?;
        Ok(Self::Time(time.to_utc()))
    }
}

/// The position that a moment stands for. Either role may ask.
///
/// # Errors
/// `Unwritten`, `Future`, `Failed`.
pub async fn position_of(connection: &mut PgConnection, moment: Moment) -> Result<i64, MomentError> {
    match moment {
        Moment::Position(position) => {
            let head: i64 = sqlx::query_scalar("select log.head_pos()").fetch_one(connection).await.map_err(Error::from)?;
            if position <= head { Ok(position) } else { Err(MomentError::Unwritten { position, head }) }
        }
        Moment::Time(time) => {
            let sql = "select log.position_at($1)";
            let found: Option<i64> = sqlx::query_scalar(sql).bind(time).fetch_one(connection).await.map_err(Error::from)?;
            found.ok_or(MomentError::Future)
        }
    }
}

impl ReadModels {
    /// The position that a moment stands for.
    ///
    /// # Errors
    /// As [`position_of`].
    pub async fn position_of(&self, moment: Moment) -> Result<i64, MomentError> {
        position_of(&mut *self.pool.acquire().await.map_err(Error::from)?, moment).await
    }

    /// What `select` would have found once `position` was folded in.
    ///
    /// # Errors
    /// `Busy`; `TooMuch` for more rows or more time than one query may take; `Corrupt`, `Sql`, `BadRow`.
    pub(crate) async fn many_as_of<R: Row>(&self, scope: &ReadScope, position: i64, select: Select) -> Result<Vec<R>, Error> {
        let orphan = || Error::BadRow { table: R::TABLE, key: String::new(), what: "no projection has this table".to_owned() };
        let all = crate::all();
        let projection = all.iter().find(|projection| projection.tables().iter().any(|table| table.name == R::TABLE)).ok_or_else(orphan)?;
        let turn = if select.stream.is_none() { Some(self.turns.take(scope, WAIT_FOR_A_TURN).await.ok_or(Error::Busy)?) } else { None };
        let named = named_in(projection.as_ref(), &select);
        let mut tx = self.scoped(scope).await?;
        let rows = fold(&mut tx, projection.as_ref(), scope, position, &select, &named).await.map_err(too_slow)?;
        let (scope, schema) = (*scope, projection.schema());
        // Up to hundreds of thousands of rows: not a thing to do between two awaits.
        let (seen, _turn) = aside(turn, move || Seen::of(&rows, named, &scope, R::TABLE)).await?;
        let seen = seen?;
        let found = seen.ask(&mut tx, &schema, select).await.map_err(too_slow)?;
        tx.commit().await?;
        found.iter().map(|text| parse(text)).collect()
    }
}

/// Does `work` on a thread of its own and gives the turn back with what it made. The work goes on when whoever asked is gone, and
/// so long it keeps the turn: people who ask and hang up cannot start more of it than there are turns.
async fn aside<T: Send + 'static>(turn: Option<Turn>, work: impl FnOnce() -> T + Send + 'static) -> Result<(T, Option<Turn>), Error> {
    let done = tokio::task::spawn_blocking(move || (work(), turn)).await.map_err(std::io::Error::from);
    Ok(done.map_err(sqlx::Error::from)?)
}

/// The statement time-out says that there was too much to do.
pub(crate) fn too_slow(error: Error) -> Error {
    let Error::Sql(sqlx::Error::Database(refused)) = &error else { return error };
    if refused.code().as_deref() == Some("57014") { Error::TooMuch } else { error }
}

/// The tables that a selection names.
fn named_in(projection: &dyn Projection, select: &Select) -> Vec<TableSpec> {
    let sql = select.query.sql();
    projection.tables().iter().filter(|table| sql.as_str().contains(&format!("{READ}{} ", table.name))).copied().collect()
}

async fn fold(
    connection: &mut PgConnection,
    projection: &dyn Projection,
    scope: &ReadScope,
    position: i64,
    select: &Select,
    named: &[TableSpec],
) -> Result<Rows, Error> {
    let tenants = tenants(connection, projection, scope).await?;
    let halted = tables::halted_of(connection, &Target::live(projection), &tenants).await?;
    let mut fold = Fold::new(Rows::complete_without(left_out(projection, named)), halted);
    let kinds: Vec<&str> = StreamType::ALL.into_iter().filter(|kind| projection.reads(*kind)).map(StreamType::as_str).collect();
    let events = match select.stream {
        Some(stream) => {
            let events = of_thing(connection, projection, &tenants, &kinds, stream, position).await?;
            futures_util::stream::iter(events.into_iter().map(Ok)).boxed()
        }
        None => log_reader::of_tenants(connection, &tenants, &kinds, 0, position),
    };
    fold_events(events, projection, &mut fold, MOST_ROWS).await?;
    Ok(fold.rows)
}

/// The events of a thing's own stream and of those that it names, in order.
async fn of_thing(
    connection: &mut PgConnection,
    projection: &dyn Projection,
    tenants: &[Uuid],
    kinds: &[&str],
    stream: Ulid,
    position: i64,
) -> Result<Vec<RecordedEvent>, Error> {
    let own = log_reader::of_streams(connection, tenants, kinds, &[stream], position).await?;
    let streams = with_named(projection, stream, &own);
    if streams.len() == 1 { Ok(own) } else { log_reader::of_streams(connection, tenants, kinds, &streams, position).await }
}

fn with_named(projection: &dyn Projection, stream: Ulid, own: &[RecordedEvent]) -> Vec<Ulid> {
    let named = own.iter().filter_map(|event| projection.also_from(&DomainEvent::decode(event).ok()?));
    std::iter::once(stream).chain(named).collect()
}

/// The tables whose rows neither the question nor the fold itself needs.
fn left_out(projection: &dyn Projection, named: &[TableSpec]) -> Vec<&'static str> {
    let unused = |table: &&TableSpec| !projection.reads_back(table.name) && named.iter().all(|named| named.name != table.name);
    projection.tables().iter().filter(unused).map(|table| table.name).collect()
}

/// Whose events a scope may be answered from. What of them it sees is decided row by row.
async fn tenants(connection: &mut PgConnection, projection: &dyn Projection, scope: &ReadScope) -> Result<Vec<Uuid>, Error> {
    let mut tenants: Vec<Uuid> = scope.tenant.map(tenant_to_uuid).into_iter().collect();
    let to_psps = |table: &TableSpec| matches!(table.visibility, Visibility::StoreAndPsp | Visibility::TenantAndPsp);
    let shown_to_psps = projection.tables().iter().any(to_psps);
    if shown_to_psps && scope.psp.is_some() {
        // A merchant stays with its PSP for ever and never leaves the directory, whose policy holds here too.
        tenants.extend(sqlx::query_scalar::<_, Uuid>("select tenant from read.merchants").fetch_all(connection).await?);
    }
    tenants.sort_unstable();
    tenants.dedup();
    Ok(tenants)
}

/// The rows of a fold that a scope sees.
struct Seen {
    /// By table: its rows as a JSON array, of each what stands beside [`Self::whole`] in a statement.
    tables: Vec<(&'static str, String)>,
    /// The rows of the table asked for, by key, as JSON.
    whole: HashMap<String, String>,
}

impl Seen {
    fn of(rows: &Rows, named: Vec<TableSpec>, scope: &ReadScope, asked: &'static str) -> Result<Self, Error> {
        let mut changes = rows.changes()?;
        let (mut tables, mut whole) = (Vec::new(), HashMap::new());
        for table in named {
            let rows = changes.iter_mut().find(|changes| changes.table == table.name).map(|changes| std::mem::take(&mut changes.rows));
            let mut shown: Vec<String> = Vec::new();
            for text in rows.unwrap_or_default() {
                let bad = |error: serde_json::Error| Error::BadRow { table: table.name, key: String::new(), what: error.to_string() };
                let mut row: Value = serde_json::from_str(&text).map_err(bad)?;
                if !sees(table.visibility, scope, &row) {
                    continue;
                }
                keep_scalars(&mut row);
                shown.push(row.to_string());
                if table.name == asked {
                    whole.insert(key_of(&text).map_err(bad)?, text);
                }
            }
            tables.push((table.name, format!("[{}]", shown.join(","))));
        }
        Ok(Self { tables, whole })
    }

    /// Runs a selection over these rows in place of the tables that it names.
    async fn ask(mut self, connection: &mut PgConnection, schema: &str, mut select: Select) -> Result<Vec<String>, Error> {
        let mut query = select.query.build();
        let mut arguments: PgArguments = query.take_arguments().map_err(sqlx::Error::Encode)?.unwrap_or_default();
        let sql = query.sql();
        let mut relations = Vec::with_capacity(self.tables.len());
        for (name, rows) in self.tables {
            arguments.add(rows).map_err(sqlx::Error::Encode)?;
            // The type of this build's own table: the columns that this build's fold has filled.
            let made = format!("jsonb_populate_recordset(null::{schema}.{name}, ${}::text::jsonb)", arguments.len());
            relations.push(format!("{name} as (select * from {made})"));
        }
        // Nothing but names of ours stands in the text of a selection, so this changes table names only.
        let sql = format!("with {} {}", relations.join(", "), sql.as_str().replace(READ, ""));
        let texts: Vec<String> = sqlx::query_scalar_with(AssertSqlSafe(sql), arguments).fetch_all(connection).await?;
        let bad = |error: serde_json::Error| Error::BadRow { table: "", key: String::new(), what: error.to_string() };
        let mut found = Vec::with_capacity(texts.len());
        for text in texts {
            found.extend(self.whole.remove(&key_of(&text).map_err(bad)?));
        }
        Ok(found)
    }
}

/// Conditions and orders look at plain columns only, so documents need not travel.
fn keep_scalars(row: &mut Value) {
    if let Some(fields) = row.as_object_mut() {
        fields.retain(|_, field| !field.is_object() && !field.is_array());
    }
}

fn key_of(row: &str) -> Result<String, serde_json::Error> {
    #[derive(Deserialize)]
    struct Keyed {
        key: String,
    }
    serde_json::from_str(row).map(|Keyed { key }| key)
}

#[cfg(test)]
#[path = "as_of_tests.rs"]
mod tests;
