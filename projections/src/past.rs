//! Whole tables of read models as they stood at a position, and what differs between two of them. For auditors: nothing but
//! the log is asked, and memory grows with the rows of the read model.

use std::collections::BTreeMap;

use domain::{
    envelope::{StreamKey, StreamType},
    ids::MerchantId,
};
use futures_util::StreamExt as _;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use crate::{
    check::HaltedStream,
    error::Error,
    fold::{Fold, fold_events},
    log_reader,
    projection::{Projection, TableSpec, tenant_to_uuid},
    rows::Rows,
    search::StreamName,
    tables::{self, Target},
};

/// Rows of one table by key, in byte order of the keys.
pub type Table = BTreeMap<String, Value>;

/// A read model on its way through the log.
pub struct Past<'p> {
    projection: &'p dyn Projection,
    tenant: Option<Uuid>,
    fold: Fold,
    position: i64,
}

impl<'p> Past<'p> {
    /// Before the first event. With a tenant only that tenant's events are read, and rows made. Streams that the live read
    /// model leaves alone are left alone here.
    ///
    /// # Errors
    /// `Sql`.
    pub async fn begin(connection: &mut PgConnection, projection: &'p dyn Projection, tenant: Option<MerchantId>) -> Result<Self, Error> {
        let (halted, _) = tables::halted(connection, &Target::live(projection)).await?;
        Ok(Self { projection, tenant: tenant.map(tenant_to_uuid), fold: Fold::new(Rows::complete(), halted), position: 0 })
    }

    /// Goes on to `position`, which must not lie behind. `progress` hears the positions passed.
    ///
    /// # Errors
    /// `Sql`; `Corrupt` for an event that this build does not know.
    pub async fn go_to(&mut self, connection: &mut PgConnection, position: i64, progress: impl Fn(i64) + Send + Sync) -> Result<(), Error> {
        let after = self.position;
        let events = match self.tenant {
            None => log_reader::stream(connection, after, position),
            Some(tenant) => {
                let kinds: Vec<&str> =
                    StreamType::ALL.into_iter().filter(|kind| self.projection.reads(*kind)).map(StreamType::as_str).collect();
                log_reader::of_tenants(connection, &[tenant], &kinds, after, position)
            }
        };
        let events = events.inspect(|event| {
            if let Ok(event) = event {
                progress(event.pos);
            }
        });
        fold_events(events.boxed(), self.projection, &mut self.fold, usize::MAX).await?;
        self.position = position;
        Ok(())
    }

    /// The rows of one of the projection's tables as they stand now.
    ///
    /// # Errors
    /// `BadRow` for a row that cannot be written as JSON.
    pub fn table(&self, table: &TableSpec) -> Result<Table, Error> {
        Ok(self.fold.rows.table(table.name)?.into_iter().collect())
    }

    /// Streams of which something was left out on the way, by position: the live read model halted at them, or they cannot be applied.
    pub fn left_out(&self) -> Vec<HaltedStream> {
        let asked = |stream: &StreamKey| self.tenant.is_none_or(|tenant| tenant == tenant_to_uuid(stream.tenant));
        let passed = self.fold.halted.iter().filter(|(stream, from)| **from <= self.position && asked(stream));
        let named = |(stream, from): (&StreamKey, &i64)| HaltedStream {
            tenant: stream.tenant.to_string(),
            stream: StreamName::of(stream).to_string(),
            position: *from,
        };
        let mut streams: Vec<HaltedStream> = passed.map(named).collect();
        streams.sort_by(|a, b| (a.position, &a.stream).cmp(&(b.position, &b.stream)));
        streams
    }
}

/// The rows of a table as an installed version of a projection holds them, whichever build made it. `read` hears of each.
///
/// # Errors
/// `Sql`.
pub async fn installed(connection: &mut PgConnection, schema: &str, table: &str, read: impl Fn()) -> Result<Table, Error> {
    let sql = AssertSqlSafe(format!("select key, to_jsonb(t) from \"{schema}\".\"{table}\" t"));
    let mut rows = sqlx::query_as::<_, (String, Value)>(sql).fetch(connection);
    let mut table = Table::new();
    while let Some(row) = rows.next().await {
        let (key, row) = row?;
        table.insert(key, row);
        read();
    }
    Ok(table)
}

/// Rows that travel to the database and back at once.
const ROWS_AT_ONCE: usize = 1_000;

/// Folded rows as the installed version of this build would hold them, so that they can be compared with [`installed`] ones: a time, for
/// instance, is written in more than one way.
///
/// # Errors
/// `Sql`.
pub async fn as_installed(connection: &mut PgConnection, schema: &str, table: &str, rows: Table) -> Result<Table, Error> {
    let sql = format!("select key, to_jsonb(t) from jsonb_populate_recordset(null::\"{schema}\".\"{table}\", $1) t");
    let (mut rows, mut held) = (rows.into_values(), Table::new());
    loop {
        let some: Vec<Value> = rows.by_ref().take(ROWS_AT_ONCE).collect();
        if some.is_empty() {
            return Ok(held);
        }
        let query = sqlx::query_as::<_, (String, Value)>(AssertSqlSafe(sql.clone())).bind(Value::Array(some));
        held.extend(query.fetch_all(&mut *connection).await?);
    }
}

/// What differs between two tables in one row.
#[derive(Debug, Clone, PartialEq)]
pub enum Difference {
    /// Only the second table has it.
    Added(Value),
    /// Only the first table has it.
    Removed(Value),
    /// Both have it: each field that differs, with what it was and what it is; null where there is no such field.
    Changed(Vec<(String, Value, Value)>),
}

/// Every row in which two tables differ, in key order.
pub fn differences(before: &Table, after: &Table) -> Vec<(String, Difference)> {
    let mut keys: Vec<&String> = before.keys().chain(after.keys().filter(|key| !before.contains_key(*key))).collect();
    keys.sort_unstable();
    let differing = keys.into_iter().filter_map(|key| {
        let difference = match (before.get(key), after.get(key)) {
            (None, Some(row)) => Difference::Added(row.clone()),
            (Some(row), None) => Difference::Removed(row.clone()),
            (Some(was), Some(is)) if was != is => Difference::Changed(changed_fields(was, is)),
            (Some(_), Some(_)) | (None, None) => return None,
        };
        Some((key.clone(), difference))
    });
    differing.collect()
}

fn changed_fields(was: &Value, is: &Value) -> Vec<(String, Value, Value)> {
    let names = |row: &Value| row.as_object().into_iter().flat_map(|fields| fields.keys().cloned()).collect::<Vec<_>>();
    let mut all = names(was);
    all.extend(names(is));
    all.sort_unstable();
    all.dedup();
    let field = |row: &Value, name: &str| row.get(name).cloned().unwrap_or(Value::Null);
    all.into_iter()
        .map(|name| (field(was, &name), field(is, &name), name))
        .filter(|(was, is, _)| was != is)
        .map(|(was, is, name)| (name, was, is))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table(rows: &[(&str, Value)]) -> Table {
        rows.iter().map(|(key, row)| ((*key).to_owned(), row.clone())).collect()
    }

    #[test]
    fn rows_are_added_removed_or_changed_field_by_field() {
        let before = table(&[("a", json!({"n": 1})), ("b", json!({"n": 1, "s": "x"})), ("c", json!({"n": 3}))]);
        let after = table(&[("b", json!({"n": 2, "s": "x", "new": true})), ("c", json!({"n": 3})), ("d", json!({"n": 4}))]);
        let changed = Difference::Changed(vec![("n".into(), json!(1), json!(2)), ("new".into(), Value::Null, json!(true))]);
        let expected = [
            ("a".to_owned(), Difference::Removed(json!({"n": 1}))),
            ("b".to_owned(), changed),
            ("d".to_owned(), Difference::Added(json!({"n": 4}))),
        ];
        assert_eq!(differences(&before, &after), expected);
        assert_eq!(differences(&before, &before), []);
        assert_eq!(differences(&Table::new(), &before).len(), 3);
    }
}
