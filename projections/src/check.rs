//! Proves that the read models are what the log says: folds it once more in memory and compares row by row.
//!
//! Everything is read in one REPEATABLE READ transaction, so projectors may go on meanwhile.

use std::collections::HashMap;

use futures_util::StreamExt as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use crate::{
    error::Error,
    fold::{Fold, fold_events},
    log_reader,
    projection::{Projection, TableSpec},
    rows::Rows,
    tables::{self, Target, set_schema},
};

/// Most differences that a report spells out.
const MOST_DIFFERENCES: usize = 20;

/// What a check of one projection found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct CheckReport {
    /// The projection.
    pub projection: String,
    /// The position at which rows and log were compared.
    pub position: i64,
    /// Rows in the database.
    pub rows: u64,
    /// Rows that differ, are missing or are too many: `table key: what`. At most twenty are spelled out. Empty: equal.
    pub differences: Vec<String>,
    /// How many differ in all.
    pub differing: u64,
    /// SHA-256 over all rows in a fixed order, hex: equal for equal read models, wherever they are.
    pub digest: String,
}

/// Checks every projection, each at its own checkpoint. `pool`: a role that is a member of `smartpos_worker`. Memory grows
/// with the rows of the largest projection.
///
/// # Errors
/// `Sql`; `Corrupt` for an event that this build does not know; `BadRow`.
pub async fn check(pool: &PgPool) -> Result<Vec<CheckReport>, Error> {
    let mut reports = Vec::new();
    for projection in crate::all() {
        reports.push(check_one(pool, projection.as_ref()).await?);
    }
    Ok(reports)
}

/// Checks one projection.
///
/// # Errors
/// As [`check`].
pub async fn check_one(pool: &PgPool, projection: &dyn Projection) -> Result<CheckReport, Error> {
    let target = Target::live(projection);
    let mut tx = pool.begin().await?;
    sqlx::query("set transaction isolation level repeatable read, read only").execute(&mut *tx).await?;
    sqlx::query("set local time zone 'UTC'").execute(&mut *tx).await?;
    set_schema(&mut tx, &target.schema).await?;
    let position = tables::checkpoint(&mut tx, &target).await?;
    let (halted, _) = tables::halted(&mut tx, &target).await?;
    let mut fold = Fold::new(Rows::complete(), halted);
    fold_to(&mut tx, projection, &mut fold, position).await?;
    let mut report = Comparison::default();
    for table in projection.tables() {
        report.table(&mut tx, table, fold.rows.table(table.name)?).await?;
    }
    tx.commit().await?;
    let Comparison { rows, differences, differing, hasher } = report;
    Ok(CheckReport { projection: target.name, position, rows, differences, differing, digest: hex::encode(hasher.finalize()) })
}

/// Folds the log up to `position` into memory.
///
/// # Errors
/// `Sql`; `Corrupt` for an event that this build does not know.
pub async fn fold_to(connection: &mut PgConnection, projection: &dyn Projection, fold: &mut Fold, position: i64) -> Result<(), Error> {
    fold_events(log_reader::stream(connection, 0, position), projection, fold, usize::MAX).await
}

#[derive(Default)]
struct Comparison {
    rows: u64,
    differences: Vec<String>,
    differing: u64,
    hasher: Sha256,
}

impl Comparison {
    async fn table(&mut self, connection: &mut PgConnection, table: &TableSpec, mut expected: HashMap<String, Value>) -> Result<(), Error> {
        // Byte order, whatever collation the database has: the digest must not depend on it.
        let sql = AssertSqlSafe(format!("select key, to_jsonb(t)::text from {} t order by key collate \"C\"", table.name));
        let mut stored = sqlx::query_as::<_, (String, String)>(sql).fetch(connection);
        while let Some(row) = stored.next().await {
            let (key, text) = row?;
            self.rows += 1;
            for part in [table.name, &key, &text] {
                self.hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
                self.hasher.update(part.as_bytes());
            }
            match (expected.remove(&key), (table.normalise)(&text)) {
                (None, _) => self.differs(table, &key, "the log knows no such row"),
                (Some(_), Err(error)) => self.differs(table, &key, &error),
                (Some(folded), Ok(row)) if folded != row => {
                    let what = format!("differs in {}", differing_fields(&folded, &row));
                    self.differs(table, &key, &what);
                }
                (Some(_), Ok(_)) => {}
            }
        }
        let mut missing: Vec<String> = expected.into_keys().collect();
        missing.sort_unstable();
        for key in missing {
            self.differs(table, &key, "the row is missing");
        }
        Ok(())
    }

    fn differs(&mut self, table: &TableSpec, key: &str, what: &str) {
        self.differing += 1;
        if self.differences.len() < MOST_DIFFERENCES {
            self.differences.push(format!("{} {key}: {what}", table.name));
        }
    }
}

fn differing_fields(folded: &Value, stored: &Value) -> String {
    let (Some(folded), Some(stored)) = (folded.as_object(), stored.as_object()) else { return "everything".to_owned() };
    let names: Vec<&str> = folded.iter().filter(|(name, value)| stored.get(*name) != Some(*value)).map(|(name, _)| name.as_str()).collect();
    names.join(", ")
}
