use std::{sync::Arc, time::Duration};

use domain::event::ReadEvent;
use proptest::prelude::*;

use super::*;
use crate::{
    fold::{Batch, Step},
    testing::History,
};

#[test]
fn a_moment_is_a_position_or_a_time_with_an_offset() {
    let moment = |text: &str| text.parse::<Moment>().ok();
    let at = |text: &str| Some(Moment::Time(text.parse().unwrap()));
    assert_eq!(moment("0"), Some(Moment::Position(0)));
    assert_eq!(moment("9223372036854775807"), Some(Moment::Position(i64::MAX)));
    assert_eq!(moment("2026-11-24T09:30:00.5+07:00"), at("2026-11-24T02:30:00.5Z"));
    assert_eq!(moment("2026-11-24T02:30:00Z"), at("2026-11-24T02:30:00Z"));
    for bad in ["", " ", "-1", "+1", "1e3", "9223372036854775808", "2026-11-24", "2026-11-24T09:30:00", "2026-11-24T09:30:00 07:00", "now"]
    {
        assert_eq!(moment(bad), None, "{bad}");
    }
}

/// Rows of a table as the projector has written them once it has come through `events`, batch by batch over a database.
fn projected(projection: &dyn Projection, events: &[Arc<ReadEvent>], size: usize, table: &'static str) -> HashMap<String, Value> {
    let mut stored: HashMap<&'static str, HashMap<String, String>> = HashMap::new();
    let mut fold = Fold::new(Rows::new(), HashMap::new());
    for chunk in events.chunks(size) {
        let batch = Batch::new(projection, chunk.to_vec());
        let mut from = 0;
        while let Step::Missing { keys, next } = fold.step(projection, &batch, from) {
            for (table, key) in keys {
                let found = stored.get(table).and_then(|rows| rows.get(&key)).map(|row| (key.clone(), row.clone()));
                fold.rows.load(table, &[key], found.into_iter().collect());
            }
            from = next;
        }
        for changes in fold.rows.changes().unwrap() {
            let rows = changes.rows.into_iter().map(|row| (key_of(&row).unwrap(), row));
            stored.entry(changes.table).or_default().extend(rows);
        }
        fold.rows.written(0);
    }
    let rows = stored.remove(table).unwrap_or_default();
    rows.into_iter().map(|(key, row)| (key, serde_json::from_str(&row).unwrap())).collect()
}

/// Rows of a table as a fold for a question about it makes them.
async fn folded(projection: &dyn Projection, events: Vec<RecordedEvent>, table: &TableSpec) -> HashMap<String, Value> {
    let mut fold = Fold::new(Rows::complete_without(left_out(projection, &[*table])), HashMap::new());
    fold_events(futures_util::stream::iter(events.into_iter().map(Ok)).boxed(), projection, &mut fold, usize::MAX).await.unwrap();
    assert!(fold.quarantined.is_empty(), "{:?}", fold.quarantined);
    fold.rows.table(table.name).unwrap()
}

fn of(events: &[Arc<ReadEvent>], wanted: impl Fn(Ulid) -> bool) -> Vec<RecordedEvent> {
    events.iter().filter(|event| wanted(event.stream.stream_id)).map(|event| (***event).clone()).collect()
}

/// Sales in any order of their steps, each step at most once and never before those that it needs.
fn history(steps: &[u128]) -> Vec<Arc<ReadEvent>> {
    let mut history = History::default();
    history.directory();
    let mut done: HashMap<u128, u8> = HashMap::new();
    for n in steps {
        let done = done.entry(*n).or_default();
        match *done {
            0 => history.order(*n),
            1 => history.bill(*n),
            2 => history.pay(*n),
            3 => history.refund(*n),
            _ => continue,
        };
        *done += 1;
    }
    history.0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn rows_as_of_a_position_are_those_of_a_projector_stopped_there(
        steps in prop::collection::vec(0_u128..5, 0..16),
        place in any::<prop::sample::Index>(),
        size in 1_usize..40,
    ) {
        let events = history(&steps);
        let until = place.index(events.len() + 1);
        let (before, runtime) = (&events[..until], tokio::runtime::Builder::new_current_thread().build().unwrap());
        for projection in crate::all() {
            for table in projection.tables() {
                let live = projected(projection.as_ref(), before, size, table.name);
                prop_assert_eq!(&runtime.block_on(folded(projection.as_ref(), of(before, |_| true), table)), &live, "{} at {}", table.name, until);
            }
        }
    }

    #[test]
    fn a_thing_comes_from_its_own_stream_and_those_that_it_names(steps in prop::collection::vec(0_u128..4, 0..16)) {
        let events = history(&steps);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        // The tables that are asked by the id of one thing.
        for name in ["merchants", "stores", "orders", "bills", "payments", "refunds"] {
            let all = crate::all();
            let projection = all.iter().find(|projection| projection.tables().iter().any(|table| table.name == name)).unwrap();
            let table = projection.tables().iter().find(|table| table.name == name).unwrap();
            let whole = runtime.block_on(folded(projection.as_ref(), of(&events, |_| true), table));
            let mut parts = HashMap::new();
            let streams: std::collections::HashSet<_> = events.iter().map(|event| event.stream.stream_id).collect();
            for stream in streams {
                let streams = with_named(projection.as_ref(), stream, &of(&events, |id| id == stream));
                let rows = runtime.block_on(folded(projection.as_ref(), of(&events, |id| streams.contains(&id)), table));
                // Only what is about the thing is asked for.
                parts.extend(rows.into_iter().filter(|(key, _)| key.split('|').next().is_some_and(|id| id.ends_with(&stream.to_string()))));
            }
            prop_assert_eq!(&parts, &whole, "{}", name);
        }
    }
}

#[tokio::test]
async fn a_fold_has_no_more_rows_than_it_may() {
    let events = history(&[1, 2, 1]);
    let fold = async |most: usize| {
        let mut fold = Fold::new(Rows::complete(), HashMap::new());
        let events = futures_util::stream::iter(&events).map(|event| Ok((***event).clone()));
        fold_events(events.boxed(), &crate::models::orders::Orders, &mut fold, most).await.map(|()| fold.rows.len())
    };
    let needed = fold(usize::MAX).await.unwrap();
    assert!(fold(needed).await.is_ok());
    assert!(matches!(fold(needed - 1).await, Err(Error::TooMuch)));
}

#[tokio::test]
async fn work_of_one_who_hung_up_keeps_its_turn_until_it_is_done() {
    let turns = crate::turns::Turns::new(1);
    let (scope, at_once) = (ReadScope::default(), Duration::from_millis(10));
    let turn = turns.take(&scope, at_once).await.unwrap();
    let (started, has_started) = tokio::sync::oneshot::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let asked = tokio::spawn(aside(Some(turn), move || {
        started.send(()).unwrap();
        released.recv().unwrap();
    }));
    has_started.await.unwrap();
    asked.abort();
    assert!(asked.await.unwrap_err().is_cancelled());
    assert!(turns.take(&scope, at_once).await.is_none(), "the work goes on");
    release.send(()).unwrap();
    turns.take(&scope, Duration::from_secs(10)).await.expect("the turn comes back");
}
