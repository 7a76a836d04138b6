//! Rows into tables by COPY.

use sqlx::PgConnection;

use crate::{
    columns::{Column, Fields, Name, columns_of},
    error::Error,
    rows::Changes,
};

/// Bytes sent at once.
const CHUNK: usize = 256 * 1024;

/// Adds rows that are not there yet; the search path names the schema.
pub(super) async fn copy(connection: &mut PgConnection, changes: &Changes) -> Result<(), Error> {
    let bad = |what: String| Error::BadRow { table: changes.table, key: String::new(), what };
    let columns = columns_of(changes.table).ok_or_else(|| bad("the table is not known".to_owned()))?;
    let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
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

/// One line of COPY's text format.
fn encode(buffer: &mut String, columns: &[Column], fields: &Fields<'_>) -> Result<(), String> {
    if let Some(Name(unknown)) = fields.keys().find(|name| !columns.iter().any(|column| column.name == name.0.as_ref())) {
        return Err(format!("there is no column {unknown}"));
    }
    for (index, column) in columns.iter().enumerate() {
        if index > 0 {
            buffer.push('\t');
        }
        match column.text(fields)? {
            None => buffer.push_str("\\N"),
            Some(text) => escape(buffer, &text),
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
            [("a", "text"), ("b", "jsonb"), ("c", "jsonb"), ("d", "bigint"), ("e", "text")].map(|(name, kind)| Column { name, kind });
        let row = serde_json::json!({"a": "x\ty\\N\n", "b": "text", "c": {"k": "\n"}, "d": 7, "e": null}).to_string();
        let fields: Fields<'_> = serde_json::from_str(&row).unwrap();
        let mut line = String::new();
        encode(&mut line, &columns, &fields).unwrap();
        assert_eq!(line, "x\\ty\\\\N\\n\t\"text\"\t{\"k\":\"\\\\n\"}\t7\t\\N\n");
        assert!(encode(&mut line, &columns[..2], &fields).is_err(), "a field without a column");
    }
}
