//! The overlay by itself.

use serde::{Deserialize, Serialize};

use super::*;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Counter {
    key: String,
    n: i64,
}
impl Row for Counter {
    const TABLE: &'static str = "counters";
    fn key(&self) -> String {
        self.key.clone()
    }
}
fn counter(key: &str, n: i64) -> Counter {
    Counter { key: key.into(), n }
}

#[test]
fn a_row_never_asked_for_is_missing_and_not_absent() {
    let mut rows = Rows::new();
    assert_eq!(rows.get::<Counter>("a"), Err(ApplyError::Missing));
    assert_eq!(rows.take_missing(), [("counters", "a".to_owned())]);
    rows.load("counters", &["a".into(), "b".into()], vec![("b".into(), r#"{"key":"b","n":7}"#.into())]);
    assert_eq!(rows.get::<Counter>("a"), Ok(None));
    assert_eq!(rows.get::<Counter>("b"), Ok(Some(counter("b", 7))));
    assert_eq!(Rows::complete().get::<Counter>("a"), Ok(None));
}

#[test]
fn rows_that_were_taken_are_gone_and_the_others_are_left_in_order() {
    let mut rows = Rows::complete();
    for key in ["c", "a", "b"] {
        rows.put(counter(key, 1));
    }
    rows.keep();
    assert_eq!(rows.take("counters", "b").unwrap(), Some(serde_json::json!({"key": "b", "n": 1})));
    assert_eq!(rows.take("counters", "b").unwrap(), None);
    assert_eq!(rows.take("others", "a").unwrap(), None);
    assert_eq!(rows.keys("counters").iter().map(|key| &**key).collect::<Vec<_>>(), ["a", "c"]);
    assert!(rows.keys("others").is_empty());
}

#[test]
fn a_roll_back_undoes_all_changes_of_one_event_and_no_more() {
    let mut rows = Rows::complete();
    rows.put(counter("a", 1));
    rows.keep();
    rows.put(counter("a", 2));
    rows.put(counter("a", 3));
    rows.put(counter("b", 1));
    rows.roll_back(0);
    assert_eq!(rows.get::<Counter>("a"), Ok(Some(counter("a", 1))));
    assert_eq!(rows.get::<Counter>("b"), Ok(None));
    assert_eq!(rows.changes().unwrap(), [Changes { table: "counters", rows: vec![r#"{"key":"a","n":1}"#.into()] }]);
}

#[test]
fn only_changed_rows_are_written_and_loading_never_overwrites() {
    let mut rows = Rows::new();
    rows.put(counter("a", 1));
    rows.keep();
    rows.load("counters", &["a".into()], vec![("a".into(), r#"{"key":"a","n":0}"#.into())]);
    assert_eq!(rows.get::<Counter>("a"), Ok(Some(counter("a", 1))));
    rows.written(10);
    assert!(rows.changes().unwrap().is_empty());
    assert_eq!(rows.get::<Counter>("a"), Ok(Some(counter("a", 1))));
    rows.written(0);
    assert_eq!(rows.get::<Counter>("a"), Err(ApplyError::Missing));
}

#[test]
fn what_changed_in_vain_or_twice_is_written_as_it_stands() {
    let mut rows = Rows::complete();
    for key in ["b", "a", "c"] {
        rows.put(counter(key, 1));
    }
    rows.keep();
    rows.written(10);
    rows.put(counter("a", 2));
    rows.roll_back(0);
    assert!(rows.changes().unwrap().is_empty(), "it was undone");
    rows.put(counter("c", 2));
    rows.put(counter("a", 3));
    rows.put(counter("a", 4));
    rows.keep();
    let changes = Changes { table: "counters", rows: vec![r#"{"key":"a","n":4}"#.into(), r#"{"key":"c","n":2}"#.into()] };
    assert_eq!(rows.changes().unwrap(), [changes]);
}

#[test]
fn over_empty_tables_a_key_is_absent_until_it_was_written_and_forgotten() {
    let mut rows = Rows::over_empty_tables();
    assert_eq!(rows.get::<Counter>("a"), Ok(None));
    rows.put(counter("a", 1));
    rows.keep();
    assert_eq!(rows.new_and_returning().unwrap().0.len(), 1);
    rows.written(0);
    assert_eq!(rows.get::<Counter>("a"), Err(ApplyError::Missing), "it is in the table now");
    assert_eq!(rows.get::<Counter>("b"), Ok(None));
    rows.load("counters", &["a".into()], vec![("a".into(), r#"{"key":"a","n":1}"#.into())]);
    rows.put(counter("a", 2));
    let (new, returning) = rows.new_and_returning().unwrap();
    assert_eq!((new.len(), returning.len()), (0, 1));
}

#[test]
fn a_nul_character_becomes_one_that_the_database_can_hold() {
    let mut rows = Rows::complete();
    rows.put(counter("a\0", 1));
    assert_eq!(rows.changes().unwrap()[0].rows, ["{\"key\":\"a\u{FFFD}\",\"n\":1}"]);
}
