//! The columns of the read models' tables, and the values of a row by column.

use std::{
    borrow::{Borrow, Cow},
    collections::{BTreeMap, HashMap},
    sync::LazyLock,
};

use serde::Deserialize;
use serde_json::value::RawValue;

/// A column as its `create table` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Column {
    pub name: &'static str,
    /// Its type in PostgreSQL.
    pub kind: &'static str,
}

/// A row as JSON by field; values stay as they were written.
pub(crate) type Fields<'a> = BTreeMap<Name<'a>, &'a RawValue>;

/// A text that is copied only where it holds an escape.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) struct Name<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl Borrow<str> for Name<'_> {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Column {
    /// What PostgreSQL's input function for this column reads; nothing for null and for a field that is not there.
    pub(crate) fn text<'a>(&self, fields: &Fields<'a>) -> Result<Option<Cow<'a, str>>, String> {
        let value: &'a str = match fields.get(self.name) {
            None => return Ok(None),
            Some(value) => value.get(),
        };
        // Of other columns a string is taken without its quotes.
        if value.starts_with('"') && self.kind != "jsonb" {
            return serde_json::from_str::<Name<'a>>(value).map(|Name(text)| Some(text)).map_err(|error| error.to_string());
        }
        Ok((value != "null").then_some(Cow::Borrowed(value)))
    }
}

static COLUMNS: LazyLock<HashMap<&'static str, Vec<Column>>> = LazyLock::new(|| {
    let projections = crate::all();
    projections.iter().flat_map(|projection| projection.tables()).map(|table| (table.name, read(table.create))).collect()
});

/// The columns of a table in their order; nothing for a name that no projection gave.
pub(crate) fn columns_of(table: &str) -> Option<&'static [Column]> {
    COLUMNS.get(table).map(Vec::as_slice)
}

/// The columns of the first `create table`, which has one on each line.
fn read(create: &'static str) -> Vec<Column> {
    let lines = create.lines().skip_while(|line| !line.starts_with("create table")).skip(1);
    let columns = lines.take_while(|line| !line.starts_with(')')).filter(|line| !line.trim_start().starts_with("--"));
    columns
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some(Column { name: words.next()?, kind: words.next()?.trim_end_matches(',') })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_a_line_with_a_name_and_a_type() {
        let create = "-- What it is for.\ncreate table t (\n    key   text primary key,\n    -- More.\n    n     bigint,\n    d     jsonb not null\n) with (fillfactor = 80);\ncreate index on t (n);";
        let columns = [("key", "text"), ("n", "bigint"), ("d", "jsonb")].map(|(name, kind)| Column { name, kind });
        assert_eq!(read(create), columns);
    }

    #[test]
    fn every_field_of_a_row_has_a_column() {
        for projection in crate::all() {
            for table in projection.tables() {
                let columns = columns_of(table.name).unwrap();
                assert_eq!(columns.first().map(|column| column.name), Some("key"), "{}", table.name);
                assert!(columns.iter().all(|column| column.kind.chars().all(|letter| letter.is_ascii_lowercase())), "{columns:?}");
            }
        }
    }

    #[test]
    fn values_are_what_the_input_functions_read() {
        let fields: Fields<'_> = serde_json::from_str(r#"{"a":"x\ty","b":"text","c":null,"d":{"k":"v"},"e":7}"#).unwrap();
        let text = |name, kind| Column { name, kind }.text(&fields).unwrap();
        assert_eq!(text("a", "text").as_deref(), Some("x\ty"));
        assert_eq!(text("b", "jsonb").as_deref(), Some("\"text\""));
        assert_eq!(text("c", "text"), None);
        assert_eq!(text("d", "jsonb").as_deref(), Some("{\"k\":\"v\"}"));
        assert_eq!(text("e", "bigint").as_deref(), Some("7"));
        assert_eq!(text("f", "bigint"), None);
    }
}
