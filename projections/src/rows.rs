//! Rows in memory: an overlay over the tables, filled on demand and written back in bulk.
//!
//! Invariants: a change made while applying an event is undone when that event fails; a row never asked of the database is
//! [`ApplyError::Missing`], never "absent".

use std::{any::Any, collections::HashMap, sync::Arc};

use serde_json::Value;

use crate::{
    error::Error,
    projection::{ApplyError, Row},
    seen::SeenKeys,
};

/// A row whose type only its table knows.
trait Stored: Any + Send + Sync {
    fn to_json(&self) -> Result<String, serde_json::Error>;
    fn as_any(&self) -> &dyn Any;
}

impl<R: Row> Stored for R {
    fn to_json(&self) -> Result<String, serde_json::Error> {
        let text = serde_json::to_string(self)?;
        // PostgreSQL's text and jsonb cannot hold U+0000; nothing else stands in the way of storing what an event says.
        if text.contains("\\u0000") { serde_json::to_string(&without_nul(serde_json::from_str(&text)?)) } else { Ok(text) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn without_nul(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace('\0', "\u{FFFD}")),
        Value::Array(items) => Value::Array(items.into_iter().map(without_nul).collect()),
        Value::Object(fields) => fields.into_iter().map(|(name, field)| (name.replace('\0', "\u{FFFD}"), without_nul(field))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

enum Slot {
    /// Asked of the database, not there.
    Absent,
    /// As the database gave it.
    Loaded(String),
    /// Typed.
    Typed(Box<dyn Stored>),
}

struct Entry {
    slot: Slot,
    changed: bool,
}

/// Changed rows of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The table.
    pub table: &'static str,
    /// Each row as a JSON object, ordered by key.
    pub rows: Vec<String>,
}

/// The overlay. See the module.
#[derive(Default)]
pub struct Rows {
    tables: HashMap<&'static str, HashMap<Arc<str>, Entry>>,
    /// Where rows changed since they were written last; some did so in vain. Rows in memory are many, those of a batch few.
    touched: Vec<(&'static str, Arc<str>)>,
    undo: Vec<(&'static str, Arc<str>, Option<Entry>)>,
    missing: Vec<(&'static str, String)>,
    beneath: Beneath,
    left_out: Vec<&'static str>,
}

/// What lies under the overlay.
#[derive(Default)]
enum Beneath {
    /// Tables that hold rows.
    #[default]
    Tables,
    /// Nothing: what is not in memory does not exist.
    Nothing,
    /// Tables that hold exactly what this overlay wrote.
    Written(SeenKeys),
}

impl Rows {
    /// An overlay over tables that hold rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// An overlay over empty tables: what is not in memory does not exist.
    pub fn complete() -> Self {
        Self { beneath: Beneath::Nothing, ..Self::default() }
    }

    /// An overlay over tables that were empty at first and that nobody else writes: most keys never written are known to be
    /// absent without asking, in constant memory.
    pub(crate) fn over_empty_tables() -> Self {
        Self { beneath: Beneath::Written(SeenKeys::default()), ..Self::default() }
    }

    /// Whether there is certainly no such row in the tables.
    fn is_new(&self, table: &str, key: &str) -> bool {
        match &self.beneath {
            Beneath::Tables => false,
            Beneath::Nothing => true,
            Beneath::Written(seen) => !seen.may_contain(table, key),
        }
    }

    /// As [`Self::complete`], without the rows of some tables: they are not kept, and asking for one is an error.
    pub(crate) fn complete_without(left_out: Vec<&'static str>) -> Self {
        Self { beneath: Beneath::Nothing, left_out, ..Self::default() }
    }

    /// The row with this key; `None` when there is none.
    ///
    /// # Errors
    /// `Missing` when it has to be loaded first; `Poison` when the stored row does not have its shape.
    pub fn get<R: Row>(&mut self, key: &str) -> Result<Option<R>, ApplyError> {
        let Some(entry) = self.tables.get_mut(R::TABLE).and_then(|table| table.get_mut(key)) else {
            if self.left_out.contains(&R::TABLE) {
                return Err(ApplyError::Poison(format!("table {} is left out of this fold", R::TABLE)));
            }
            if self.is_new(R::TABLE, key) {
                return Ok(None);
            }
            self.missing.push((R::TABLE, key.to_owned()));
            return Err(ApplyError::Missing);
        };
        if let Slot::Loaded(text) = &entry.slot {
            let row: R = serde_json::from_str(text).map_err(|error| ApplyError::Poison(format!("row '{key}' of {}: {error}", R::TABLE)))?;
            entry.slot = Slot::Typed(Box::new(row));
        }
        match &entry.slot {
            Slot::Typed(row) => match (**row).as_any().downcast_ref::<R>() {
                Some(row) => Ok(Some(row.clone())),
                None => Err(ApplyError::Poison(format!("table {} holds rows of another type", R::TABLE))),
            },
            Slot::Absent | Slot::Loaded(_) => Ok(None),
        }
    }

    /// Asks for several rows at once, so that one load brings them all.
    ///
    /// # Errors
    /// `Missing` when one of them has to be loaded first.
    pub fn need<R: Row>(&mut self, keys: impl IntoIterator<Item = String>) -> Result<(), ApplyError> {
        let before = self.missing.len();
        for key in keys {
            if !self.knows(R::TABLE, &key) {
                self.missing.push((R::TABLE, key));
            }
        }
        if self.missing.len() > before { Err(ApplyError::Missing) } else { Ok(()) }
    }

    /// Stores a row; replaces the one with its key, known or not.
    pub fn put<R: Row>(&mut self, row: R) {
        if self.left_out.contains(&R::TABLE) {
            return;
        }
        let key: Arc<str> = row.key().into();
        let table = self.tables.entry(R::TABLE).or_default();
        let before = table.insert(Arc::clone(&key), Entry { slot: Slot::Typed(Box::new(row)), changed: true });
        if before.as_ref().is_none_or(|before| !before.changed) {
            self.touched.push((R::TABLE, Arc::clone(&key)));
        }
        self.undo.push((R::TABLE, key, before));
    }

    /// Changes the row with this key; says whether there is one.
    ///
    /// # Errors
    /// As [`Self::get`], and what `change` says.
    pub fn update<R: Row>(&mut self, key: &str, change: impl FnOnce(&mut R) -> Result<(), ApplyError>) -> Result<bool, ApplyError> {
        let Some(mut row) = self.get::<R>(key)? else { return Ok(false) };
        change(&mut row)?;
        self.put(row);
        Ok(true)
    }

    /// Whether a row is in memory, or known not to exist.
    pub(crate) fn knows(&self, table: &str, key: &str) -> bool {
        self.tables.get(table).is_some_and(|rows| rows.contains_key(key)) || self.is_new(table, key)
    }

    /// Puts in what the database holds, as `to_jsonb` text; keys that it does not hold become absent.
    pub(crate) fn load(&mut self, table: &'static str, asked: &[String], found: Vec<(String, String)>) {
        let rows = self.tables.entry(table).or_default();
        for (key, text) in found {
            rows.entry(key.into()).or_insert(Entry { slot: Slot::Loaded(text), changed: false });
        }
        for key in asked {
            rows.entry(key.as_str().into()).or_insert(Entry { slot: Slot::Absent, changed: false });
        }
    }

    /// The changes so far stay.
    pub(crate) fn keep(&mut self) {
        self.undo.clear();
    }

    /// How many changes there were since the last [`Self::keep`].
    pub(crate) const fn mark(&self) -> usize {
        self.undo.len()
    }

    /// Undoes all changes since `mark`; 0 is the last [`Self::keep`].
    pub(crate) fn roll_back(&mut self, mark: usize) {
        while self.undo.len() > mark {
            let Some((table, key, before)) = self.undo.pop() else { return };
            let rows = self.tables.entry(table).or_default();
            match before {
                Some(entry) => rows.insert(key, entry),
                None => rows.remove(&key),
            };
        }
    }

    /// The keys that were asked for in vain since the last call.
    pub(crate) fn take_missing(&mut self) -> Vec<(&'static str, String)> {
        std::mem::take(&mut self.missing)
    }

    /// Rows changed since [`Self::written`], by table and key.
    ///
    /// # Errors
    /// `BadRow` for a row that cannot be written as JSON.
    pub fn changes(&self) -> Result<Vec<Changes>, Error> {
        self.changes_where(|_, _| true)
    }

    /// As [`Self::changes`], apart: rows that are certainly new to the tables, and rows that may be there.
    pub(crate) fn new_and_returning(&self) -> Result<(Vec<Changes>, Vec<Changes>), Error> {
        Ok((self.changes_where(|table, key| self.is_new(table, key))?, self.changes_where(|table, key| !self.is_new(table, key))?))
    }

    fn changes_where(&self, wanted: impl Fn(&str, &str) -> bool) -> Result<Vec<Changes>, Error> {
        let mut touched: Vec<_> = self.touched.iter().collect();
        touched.sort_unstable();
        touched.dedup();
        let mut all: Vec<Changes> = Vec::new();
        for (table, key) in touched {
            let Some(entry) = self.changed(table, key).filter(|_| wanted(table, key)) else { continue };
            let Some(row) = json_of(table, key, entry)? else { continue };
            match all.last_mut().filter(|changes| changes.table == *table) {
                Some(changes) => changes.rows.push(row),
                None => all.push(Changes { table, rows: vec![row] }),
            }
        }
        Ok(all)
    }

    /// The row there, if it changed since it was written last.
    fn changed(&self, table: &str, key: &str) -> Option<&Entry> {
        self.tables.get(table)?.get(key).filter(|entry| entry.changed)
    }

    /// All rows of a table by key, as JSON.
    ///
    /// # Errors
    /// `BadRow` for a row that cannot be written as JSON.
    pub fn table(&self, table: &'static str) -> Result<HashMap<String, Value>, Error> {
        let Some(entries) = self.tables.get(table) else { return Ok(HashMap::new()) };
        let mut rows = HashMap::with_capacity(entries.len());
        for (key, entry) in entries {
            if let Some(text) = json_of(table, key, entry)? {
                let value = serde_json::from_str(&text).map_err(|error| bad_row(table, key, &error))?;
                rows.insert(key.to_string(), value);
            }
        }
        Ok(rows)
    }

    /// Takes a row out, as JSON; `None` when there is none. Whoever compares many rows need not have all of them as JSON at once.
    ///
    /// # Errors
    /// `BadRow` for a row that cannot be written as JSON.
    pub(crate) fn take(&mut self, table: &'static str, key: &str) -> Result<Option<Value>, Error> {
        let Some((key, entry)) = self.tables.get_mut(table).and_then(|rows| rows.remove_entry(key)) else { return Ok(None) };
        let Some(text) = json_of(table, &key, &entry)? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|error| bad_row(table, &key, &error))
    }

    /// The keys of the rows of a table that are left, in byte order.
    pub(crate) fn keys(&self, table: &str) -> Vec<Arc<str>> {
        let rows = self.tables.get(table).into_iter().flatten();
        let mut keys: Vec<_> = rows.filter(|(_, entry)| !matches!(entry.slot, Slot::Absent)).map(|(key, _)| Arc::clone(key)).collect();
        keys.sort_unstable();
        keys
    }

    /// The changes are in the database. Rows stay in memory for the next batch, unless there are more than `most`.
    pub(crate) fn written(&mut self, most: usize) {
        for (table, key) in std::mem::take(&mut self.touched) {
            let Some(entry) = self.tables.get_mut(table).and_then(|rows| rows.get_mut(&key)).filter(|entry| entry.changed) else {
                continue;
            };
            entry.changed = false;
            if let Beneath::Written(seen) = &mut self.beneath {
                seen.insert(table, &key);
            }
        }
        if self.len() > most {
            self.tables.clear();
        }
    }

    /// Rows in memory.
    pub(crate) fn len(&self) -> usize {
        self.tables.values().map(HashMap::len).sum()
    }
}

fn json_of(table: &'static str, key: &str, entry: &Entry) -> Result<Option<String>, Error> {
    match &entry.slot {
        Slot::Absent => Ok(None),
        Slot::Loaded(text) => Ok(Some(text.clone())),
        Slot::Typed(row) => (**row).to_json().map(Some).map_err(|error| bad_row(table, key, &error)),
    }
}

fn bad_row(table: &'static str, key: &str, error: &serde_json::Error) -> Error {
    Error::BadRow { table, key: key.to_owned(), what: error.to_string() }
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
