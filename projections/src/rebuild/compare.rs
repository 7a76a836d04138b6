//! Live and rebuilt rows, at one position, row by row. The database compares; only differences travel.

use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection};

use super::Stage;
use crate::{
    check::differing_fields,
    error::Error,
    projection::{Projection, TableSpec},
    tables::Target,
};

/// Most differences of a table that are spelled out.
const MOST_DIFFERENCES: i64 = 20;

/// A row that the live projection and the rebuilt one do not have in common.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// The table.
    pub table: &'static str,
    /// The row.
    pub key: String,
    /// What differs.
    pub what: String,
}

/// What was found in all tables.
#[derive(Default)]
pub(super) struct Comparison {
    pub rows: i64,
    pub differing: i64,
    pub differences: Vec<Difference>,
}

/// Compares as the connection sees both.
pub(super) async fn compare(
    connection: &mut PgConnection,
    projection: &dyn Projection,
    live: &Target,
    shadow: &Target,
    progress: &mut impl FnMut(Stage),
) -> Result<Comparison, Error> {
    let mut counts = Vec::new();
    for table in projection.tables() {
        let sql = AssertSqlSafe(format!("select count(*) from {}.{}", shadow.schema, table.name));
        counts.push((table, sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut *connection).await?));
    }
    let of: i64 = counts.iter().map(|(_, count)| *count).sum();
    let mut found = Comparison::default();
    for (table, count) in counts {
        progress(Stage::Comparing { rows: found.rows, of });
        compare_table(connection, table, live, shadow, &mut found).await?;
        found.rows += count;
    }
    progress(Stage::Comparing { rows: found.rows, of });
    Ok(found)
}

async fn compare_table(
    connection: &mut PgConnection,
    table: &TableSpec,
    live: &Target,
    shadow: &Target,
    found: &mut Comparison,
) -> Result<(), Error> {
    let name = table.name;
    // Row against row is cheap; only what differs becomes JSON.
    let sql = format!(
        "select key, case when l.key is not null then to_jsonb(l)::text end, case when s.key is not null then to_jsonb(s)::text end, \
         count(*) over () from {}.{name} l full join {}.{name} s using (key) where l is distinct from s \
         order by key collate \"C\" limit {MOST_DIFFERENCES}",
        live.schema, shadow.schema
    );
    let rows: Vec<(String, Option<String>, Option<String>, i64)> = sqlx::query_as(AssertSqlSafe(sql)).fetch_all(&mut *connection).await?;
    found.differing += rows.first().map_or(0, |(_, _, _, all)| *all);
    for (key, live, rebuilt, _) in rows {
        let what = match (live, rebuilt) {
            (Some(live), Some(rebuilt)) => {
                let value = |text: &str| serde_json::from_str(text).unwrap_or(Value::Null);
                format!("differs in {}", differing_fields(&value(&rebuilt), &value(&live)))
            }
            (None, _) => "is missing in the live one".to_owned(),
            (_, None) => "is in the live one only".to_owned(),
        };
        found.differences.push(Difference { table: name, key, what });
    }
    Ok(())
}
