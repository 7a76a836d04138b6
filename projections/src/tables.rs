//! How rows and checkpoints are read and written, in the schema that belongs to a version or to a rebuild beside the live one.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use domain::{
    envelope::{StreamKey, StreamType},
    ids::{MerchantId, Ulid},
};
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres, Row as _, Transaction, postgres::PgRow};
use uuid::Uuid;

use crate::{
    columns::{Column, Fields, Name, columns_of},
    error::Error,
    fold::Quarantined,
    projection::{Projection, tenant_to_uuid},
    row_store::Loaded,
    rows::Changes,
};

/// Where a projection writes: its schema, and the name of its checkpoint and quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Of the checkpoint and the quarantine.
    pub name: String,
    /// Of the projection.
    pub version: i32,
    /// Of the tables.
    pub schema: String,
}

impl Target {
    /// The copy in service.
    pub fn live(projection: &dyn Projection) -> Self {
        Self { name: projection.name().to_owned(), version: projection.version(), schema: projection.schema() }
    }
}

/// A transaction in which unqualified names are those of `schema`, a constant of this crate; one round trip.
pub(crate) async fn begin_in(pool: &PgPool, schema: &str) -> Result<Transaction<'static, Postgres>, Error> {
    Ok(pool.begin_with(AssertSqlSafe(format!("begin; set local search_path to {schema}"))).await?)
}

pub(crate) async fn set_schema(connection: &mut PgConnection, schema: &str) -> Result<(), Error> {
    sqlx::query("select set_config('search_path', $1, true)").bind(schema).execute(connection).await?;
    Ok(())
}

pub(crate) async fn checkpoint(connection: &mut PgConnection, target: &Target) -> Result<i64, Error> {
    let sql = "select pos from read.checkpoint where name = $1 and version = $2";
    Ok(sqlx::query_scalar(sql).bind(&target.name).bind(target.version).fetch_one(connection).await?)
}

/// Halted streams, each with the position from which on it is not read; and how many rows say so.
pub(crate) async fn halted(connection: &mut PgConnection, target: &Target) -> Result<(HashMap<StreamKey, i64>, usize), Error> {
    let sql = "select tenant, stream_type, stream_id, pos from read.quarantine where name = $1 and version = $2";
    let rows = sqlx::query(sql).bind(&target.name).bind(target.version).fetch_all(connection).await?;
    Ok((halted_streams(&rows)?, rows.len()))
}

/// As [`halted`], of these tenants only; for the application role.
pub(crate) async fn halted_of(connection: &mut PgConnection, target: &Target, tenants: &[Uuid]) -> Result<HashMap<StreamKey, i64>, Error> {
    let sql = "select tenant, stream_type, stream_id, pos from read.halted($1, $2, $3)";
    let rows = sqlx::query(sql).bind(&target.name).bind(target.version).bind(tenants).fetch_all(connection).await?;
    halted_streams(&rows)
}

fn halted_streams(rows: &[PgRow]) -> Result<HashMap<StreamKey, i64>, Error> {
    let mut halted = HashMap::new();
    for row in rows {
        let (tenant, stream_id): (Uuid, Uuid) = (row.try_get(0)?, row.try_get(2)?);
        let kind: String = row.try_get(1)?;
        if let Some(stream_type) = StreamType::parse(&kind) {
            let tenant = MerchantId(Ulid::from_bytes(*tenant.as_bytes()));
            let stream = StreamKey { tenant, stream_type, stream_id: Ulid::from_bytes(*stream_id.as_bytes()) };
            halted.insert(stream, row.try_get(3)?);
        }
    }
    Ok(halted)
}

/// Keys that are asked for, by table.
type Wanted = BTreeMap<&'static str, Vec<String>>;

/// Rows of the wanted keys, as (key, JSON). One statement for all tables.
pub(crate) async fn load(pool: &PgPool, schema: &str, keys: Vec<(&'static str, String)>) -> Result<Vec<Loaded>, Error> {
    let wanted = by_table(keys);
    let sql = selects(schema, &wanted).join(" union all ");
    let query = wanted.values().fold(sqlx::query_as(AssertSqlSafe(sql)), sqlx::query::QueryAs::bind);
    let found: Vec<(i32, String, String)> = query.fetch_all(pool).await?;
    Ok(loaded(wanted, found))
}

/// The same, in one statement with a look at where the copy stands: nothing when that is not `at`.
pub(crate) async fn load_at(
    pool: &PgPool,
    target: &Target,
    at: Standing,
    keys: Vec<(&'static str, String)>,
) -> Result<Option<Vec<Loaded>>, Error> {
    let wanted = by_table(keys);
    let n = wanted.len();
    let stands = format!(
        "select -1, '', '' from read.checkpoint where name = ${} and version = ${} and pos = ${} and ${} = to_regnamespace(${})::oid::bigint",
        n + 1,
        n + 2,
        n + 3,
        n + 4,
        n + 5
    );
    let mut parts = selects(&target.schema, &wanted);
    parts.push(stands);
    let sql = parts.join(" union all ");
    let query = wanted.values().fold(sqlx::query_as(AssertSqlSafe(sql)), sqlx::query::QueryAs::bind);
    let query = query.bind(&target.name).bind(target.version).bind(at.pos).bind(at.copy).bind(&target.schema);
    let found: Vec<(i32, String, String)> = query.fetch_all(pool).await?;
    let stands = found.iter().any(|(table, ..)| *table == -1);
    Ok(stands.then(|| loaded(wanted, found)))
}

fn by_table(keys: Vec<(&'static str, String)>) -> Wanted {
    let mut wanted = Wanted::new();
    for (table, key) in keys {
        wanted.entry(table).or_default().push(key);
    }
    wanted
}

fn selects(schema: &str, wanted: &Wanted) -> Vec<String> {
    let select =
        |(n, table): (usize, &&str)| format!("select {n}, key, to_jsonb(t)::text from {schema}.{table} t where key = any(${})", n + 1);
    wanted.keys().enumerate().map(select).collect()
}

fn loaded(wanted: Wanted, found: Vec<(i32, String, String)>) -> Vec<Loaded> {
    let mut loaded: Vec<Loaded> = wanted.into_iter().map(|(table, keys)| (table, keys, Vec::new())).collect();
    for (n, key, row) in found {
        if let Some((_, _, rows)) = usize::try_from(n).ok().and_then(|n| loaded.get_mut(n)) {
            rows.push((key, row));
        }
    }
    loaded
}

/// Where a copy of a projection stands, as [`commit`] compares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The checkpoint.
    pub pos: i64,
    /// Streams halted, as rows of `read.quarantine`.
    pub halted: usize,
    /// Which copy: the identity of its schema. After a rebuild or a rollback another copy has the name, at the same position and
    /// perhaps with other rows; what is in memory of the old one must not be written over them.
    pub copy: i64,
}

/// Where the copy under this name stands now; and its halted streams.
pub(crate) async fn standing(connection: &mut PgConnection, target: &Target) -> Result<(Standing, HashMap<StreamKey, i64>), Error> {
    let sql = "select pos, to_regnamespace($3)::oid::bigint from read.checkpoint where name = $1 and version = $2";
    let (pos, copy) = sqlx::query_as(sql).bind(&target.name).bind(target.version).bind(&target.schema).fetch_one(&mut *connection).await?;
    let (streams, halted) = halted(connection, target).await?;
    Ok((Standing { pos, halted, copy }, streams))
}

/// Points the views at this version if it has come as far as the one in service; says whether they name it now.
pub(crate) async fn serve(connection: &mut PgConnection, projection: &dyn Projection, anew: bool) -> Result<bool, Error> {
    let tables: Vec<&str> = projection.tables().iter().map(|table| table.name).collect();
    let query = sqlx::query_scalar("select read.serve($1, $2, $3, $4)").bind(projection.name()).bind(projection.version());
    Ok(query.bind(tables).bind(anew).fetch_one(connection).await?)
}

/// The checkpoint's step in [`commit`], with its eight parameters.
const MOVED: &str = "update read.checkpoint set pos = $4 where name = $1 and version = $2 and pos = $3 \
                     and $5 = (select count(*) from read.quarantine where name = $1 and version = $2) \
                     and $7 = to_regnamespace($6)::oid::bigint \
                     and cardinality($8::bytea[]) >= $4 - $3 \
                     and $8 = array(select hash from log.event where pos > $4 - cardinality($8) and pos <= $4 order by pos) returning true";

/// Moves the checkpoint on to `to` and writes what changed, all in one statement: one round trip, planned once for each set of
/// tables. Streams are halted in the same transaction, which is rare.
///
/// `false`: the copy stands elsewhere by now (another projector was faster, a rebuild released halted streams), another copy has taken
/// its place, or the log no longer holds `events`, because it was restored to the past; nothing is written. `events` are the hashes of
/// those up to `to`: all that are new, and the one before them, where the rows in memory come from it.
pub(crate) async fn commit(
    pool: &PgPool,
    target: &Target,
    from: Standing,
    to: i64,
    events: &[[u8; 32]],
    changes: &[Changes],
    quarantined: &[Quarantined],
) -> Result<bool, Error> {
    let (mut parts, mut values, mut next) = (vec![format!("moved as ({MOVED})")], Vec::new(), 9);
    for (n, change) in changes.iter().enumerate() {
        let Some(upsert) = Upsert::of(&target.schema, change, next, " where exists (select from moved)")? else { continue };
        parts.push(format!("written_{n} as ({})", upsert.sql));
        next += upsert.values.len();
        values.extend(upsert.values);
    }
    let sql = format!("with {} select exists (select from moved)", parts.join(", "));
    let halted = i64::try_from(from.halted).unwrap_or(i64::MAX);
    let events: Vec<&[u8]> = events.iter().map(<[u8; 32]>::as_slice).collect();
    let query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(&target.name).bind(target.version).bind(from.pos).bind(to).bind(halted);
    let query = query.bind(&target.schema).bind(from.copy).bind(events);
    let query = values.into_iter().fold(query, sqlx::query::QueryScalar::bind);
    if quarantined.is_empty() {
        return Ok(query.fetch_one(pool).await?);
    }
    let mut tx = pool.begin().await?;
    let moved = query.fetch_one(&mut *tx).await?;
    if moved {
        quarantine(&mut tx, target, quarantined).await?;
        tx.commit().await?;
    }
    Ok(moved)
}

/// Notes streams as halted.
pub(crate) async fn quarantine(connection: &mut PgConnection, target: &Target, quarantined: &[Quarantined]) -> Result<(), Error> {
    for entry in quarantined {
        let sql = "insert into read.quarantine values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing";
        sqlx::query(sql)
            .bind(&target.name)
            .bind(target.version)
            .bind(tenant_to_uuid(entry.stream.tenant))
            .bind(entry.stream.stream_type.as_str())
            .bind(Uuid::from_bytes(entry.stream.stream_id.to_bytes()))
            .bind(entry.pos)
            .bind(&entry.error)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Inserts rows, or replaces the ones with their keys.
pub(crate) async fn write(connection: &mut PgConnection, schema: &str, changes: &Changes) -> Result<(), Error> {
    let Some(Upsert { sql, values }) = Upsert::of(schema, changes, 1, "")? else { return Ok(()) };
    let query = values.into_iter().fold(sqlx::query(AssertSqlSafe(sql)), sqlx::query::Query::bind);
    query.execute(connection).await?;
    Ok(())
}

/// A statement that inserts rows, or replaces the ones with their keys, and its parameters. All rows of a table have the same fields.
/// They travel column by column: as JSON the database would have to parse and take apart every row anew, at half of the whole
/// cost of the write.
struct Upsert<'a> {
    sql: String,
    values: Vec<Vec<Option<Cow<'a, str>>>>,
}

impl<'a> Upsert<'a> {
    /// With parameters from `$first` on, of the rows for which `condition` holds; nothing without rows.
    fn of(schema: &str, changes: &'a Changes, first: usize, condition: &str) -> Result<Option<Self>, Error> {
        let table = changes.table;
        let bad = |what: String| Error::BadRow { table, key: String::new(), what };
        let rows = changes.rows.iter().map(|row| serde_json::from_str(row)).collect::<Result<Vec<Fields<'a>>, _>>();
        let rows = rows.map_err(|error| bad(error.to_string()))?;
        let Some(fields) = rows.first() else { return Ok(None) };
        let known = columns_of(table).ok_or_else(|| bad("the table is not known".to_owned()))?;
        if let Some(Name(unknown)) = fields.keys().find(|name| !known.iter().any(|column| column.name == name.0.as_ref())) {
            return Err(bad(format!("there is no column {unknown}")));
        }
        let columns: Vec<&Column> = known.iter().filter(|column| fields.contains_key(column.name)).collect();
        let mut values = Vec::with_capacity(columns.len());
        for column in &columns {
            values.push(rows.iter().map(|row| column.text(row)).collect::<Result<_, _>>().map_err(bad)?);
        }
        let listed = |each: &dyn Fn(usize, &Column) -> String| {
            columns.iter().enumerate().map(|(index, column)| each(index, column)).collect::<Vec<_>>().join(", ")
        };
        let names = listed(&|_, column| column.name.to_owned());
        let sets: Vec<String> =
            columns.iter().filter(|column| column.name != "key").map(|Column { name, .. }| format!("{name} = excluded.{name}")).collect();
        let sql = format!(
            "insert into {schema}.{table} ({names}) select {} from unnest({}) as rows ({names}){condition} on conflict (key) do update set {}",
            listed(&|_, column| format!("{}::{}", column.name, column.kind)),
            listed(&|index, _| format!("${}::text[]", first + index)),
            sets.join(", ")
        );
        Ok(Some(Self { sql, values }))
    }
}

/// Empties the tables and starts again from the first event, if the checkpoint is beyond `limit`: another copy may have done
/// it already. Readers see the old rows until the transaction ends. The copy that a rebuild retired is of the same void history:
/// without its checkpoint nobody rolls back to it, and the next rebuild drops its schema.
pub(crate) async fn wipe(pool: &PgPool, projection: &dyn Projection, target: &Target, limit: i64) -> Result<(), Error> {
    let mut tx = begin_in(pool, &target.schema).await?;
    // All of it, however much that is: given up half way it would be begun again for ever.
    sqlx::query("set local statement_timeout = 0").execute(&mut *tx).await?;
    let sql = "update read.checkpoint set pos = 0 where name = $1 and version = $2 and pos > $3";
    let wiped = sqlx::query(sql).bind(&target.name).bind(target.version).bind(limit).execute(&mut *tx).await?;
    if wiped.rows_affected() == 0 {
        return Ok(());
    }
    let retired = Target::retired(target);
    for (table, name) in [("quarantine", &target.name), ("quarantine", &retired.name), ("checkpoint", &retired.name)] {
        let sql = AssertSqlSafe(format!("delete from read.{table} where name = $1 and version = $2"));
        sqlx::query(sql).bind(name).bind(target.version).execute(&mut *tx).await?;
    }
    for table in projection.tables() {
        sqlx::query(AssertSqlSafe(format!("delete from {}", table.name))).execute(&mut *tx).await?;
    }
    Ok(tx.commit().await?)
}
