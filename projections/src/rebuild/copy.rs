//! Rows into tables by COPY.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use serde::Deserialize;
use serde_json::value::RawValue;
use sqlx::{PgConnection, PgPool};

use crate::{error::Error, projection::Projection, rows::Changes};

/// Bytes sent at once.
const CHUNK: usize = 256 * 1024;

struct Column {
    name: String,
    /// Takes JSON text as it is; of other columns a string is taken without its quotes.
    json: bool,
}

/// Knows the columns of a projection's tables.
pub(super) struct Copier {
    tables: HashMap<&'static str, Vec<Column>>,
}

impl Copier {
    pub(super) async fn new(pool: &PgPool, projection: &dyn Projection, schema: &str) -> Result<Self, Error> {
        let sql = "select attname::text, atttypid in ('jsonb'::regtype, 'json'::regtype) from pg_attribute \
                   where attrelid = $1::regclass and attnum > 0 and not attisdropped order by attnum";
        let mut tables = HashMap::new();
        for table in projection.tables() {
            let columns: Vec<(String, bool)> = sqlx::query_as(sql).bind(format!("{schema}.{}", table.name)).fetch_all(pool).await?;
            tables.insert(table.name, columns.into_iter().map(|(name, json)| Column { name, json }).collect());
        }
        Ok(Self { tables })
    }

    /// Adds rows that are not there yet; the search path names the schema.
    pub(super) async fn copy(&mut self, connection: &mut PgConnection, changes: &Changes) -> Result<(), Error> {
        let bad = |what: String| Error::BadRow { table: changes.table, key: String::new(), what };
        let columns = self.tables.get(changes.table).ok_or_else(|| bad("the table is not one of the projection's".to_owned()))?;
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        let mut copy = connection.copy_in_raw(&format!("copy {} ({}) from stdin", changes.table, names.join(", "))).await?;
        let mut buffer = String::with_capacity(CHUNK);
        for row in &changes.rows {
            let fields: Fields<'_> = serde_json::from_str(row).map_err(|error| bad(error.to_string()))?;
            encode(&mut buffer, columns, &fields).map_err(bad)?;
            if buffer.len() >= CHUNK {
                copy.send(buffer.as_bytes()).await?;
                buffer.clear();
            }
        }
        copy.send(buffer.as_bytes()).await?;
        copy.finish().await?;
        Ok(())
    }
}

/// A row by column; values stay as they were written.
type Fields<'a> = BTreeMap<Name<'a>, &'a RawValue>;

/// A name that is copied only where it holds an escape.
#[derive(PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl std::borrow::Borrow<str> for Name<'_> {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// One line of COPY's text format.
fn encode(buffer: &mut String, columns: &[Column], fields: &Fields<'_>) -> Result<(), String> {
    if let Some(Name(unknown)) = fields.keys().find(|name| !columns.iter().any(|column| column.name == name.0)) {
        return Err(format!("there is no column {unknown}"));
    }
    for (index, column) in columns.iter().enumerate() {
        if index > 0 {
            buffer.push('\t');
        }
        match fields.get(column.name.as_str()).map(|value| value.get()) {
            None | Some("null") => buffer.push_str("\\N"),
            Some(quoted) if quoted.starts_with('"') && !column.json => {
                let Name(text) = serde_json::from_str(quoted).map_err(|error| error.to_string())?;
                escape(buffer, &text);
            }
            Some(value) => escape(buffer, value),
        }
    }
    buffer.push('\n');
    Ok(())
}

fn escape(buffer: &mut String, mut text: &str) {
    while let Some(at) = text.find(['\\', '\t', '\n', '\r']) {
        let (before, rest) = text.split_at(at);
        buffer.push_str(before);
        buffer.push_str(match rest.as_bytes().first() {
            Some(b'\t') => "\\t",
            Some(b'\n') => "\\n",
            Some(b'\r') => "\\r",
            _ => "\\\\",
        });
        text = &rest[1..];
    }
    buffer.push_str(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_becomes_a_line_whatever_its_texts_hold() {
        let columns =
            [("a", false), ("b", true), ("c", true), ("d", false), ("e", false)].map(|(name, json)| Column { name: name.to_owned(), json });
        let row = serde_json::json!({"a": "x\ty\\N\n", "b": "text", "c": {"k": "\n"}, "d": 7, "e": null}).to_string();
        let fields: Fields<'_> = serde_json::from_str(&row).unwrap();
        let mut line = String::new();
        encode(&mut line, &columns, &fields).unwrap();
        assert_eq!(line, "x\\ty\\\\N\\n\t\"text\"\t{\"k\":\"\\\\n\"}\t7\t\\N\n");
        assert!(encode(&mut line, &columns[..2], &fields).is_err(), "a field without a column");
    }
}
