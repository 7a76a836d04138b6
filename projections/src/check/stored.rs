//! The rows of a read model as they are stored: compared with folded ones, and hashed.

use futures_util::StreamExt as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, PgConnection};

use super::Moved;
use crate::{
    error::Error,
    log_reader,
    projection::{Projection, TableSpec},
    rows::Rows,
};

/// Most differences that a report spells out.
const MOST_DIFFERENCES: usize = 20;

/// All rows of a projection, counted and hashed in a fixed order.
pub(super) async fn digest(connection: &mut PgConnection, projection: &dyn Projection, moved: &Moved) -> Result<(u64, String), Error> {
    let (mut rows, mut hasher) = (0, Sha256::new());
    for table in projection.tables() {
        // Byte order, whatever collation the database has: the digest must not depend on it.
        let sql = AssertSqlSafe(format!("select key, to_jsonb(t)::text from {} t order by key collate \"C\"", table.name));
        let mut stored = sqlx::query_as::<_, (String, String)>(sql).fetch(&mut *connection);
        while let Some(row) = stored.next().await {
            let (key, text) = row?;
            rows += 1;
            moved(1);
            for part in [table.name, &key, &text] {
                hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
                hasher.update(part.as_bytes());
            }
        }
    }
    Ok((rows, hex::encode(hasher.finalize())))
}

/// What is found in the rows of all tables.
#[derive(Default)]
pub(super) struct Comparison {
    /// The first of them, in words.
    pub differences: Vec<String>,
    /// In all.
    pub differing: u64,
}

impl Comparison {
    /// Compares the rows of a pass, each of which leaves memory as it is compared.
    pub(super) async fn table(
        &mut self,
        connection: &mut PgConnection,
        table: &TableSpec,
        expected: &mut Rows,
        (pass, passes): (i32, i32),
        moved: &Moved,
    ) -> Result<(), Error> {
        let sql = format!(
            "select key, to_jsonb(t)::text from {} t where {} % $1 = $2 order by key collate \"C\"",
            table.name,
            log_reader::TENANT_NUMBER
        );
        let mut stored = sqlx::query_as::<_, (String, String)>(AssertSqlSafe(sql)).bind(passes).bind(pass).fetch(connection);
        while let Some(row) = stored.next().await {
            let (key, text) = row?;
            moved(1);
            match (expected.take(table.name, &key)?, (table.normalise)(&text)) {
                (None, _) => self.differs(table, &key, "the log knows no such row"),
                (Some(_), Err(error)) => self.differs(table, &key, &error),
                (Some(folded), Ok(row)) if folded != row => {
                    let what = format!("differs in {}", differing_fields(&folded, &row));
                    self.differs(table, &key, &what);
                }
                (Some(_), Ok(_)) => {}
            }
        }
        for key in expected.keys(table.name) {
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

/// The names of the fields that differ, for people.
pub(crate) fn differing_fields(folded: &Value, stored: &Value) -> String {
    let (Some(folded), Some(stored)) = (folded.as_object(), stored.as_object()) else { return "everything".to_owned() };
    let names: Vec<&str> = folded.iter().filter(|(name, value)| stored.get(*name) != Some(*value)).map(|(name, _)| name.as_str()).collect();
    names.join(", ")
}
