//! The order of the world: positions dense and gapless, visible in order, over partition borders, chained by hashes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use commands::{committer::ItemOutcome, database::Role, event_store};
use domain::integrity::{commit_hash, merkle_root, recorded_hash};
use futures_util::future::join_all;
use sqlx::Row;
use support::{TestDatabase, WriteSide, eventually, item, stream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Appends `rounds` items of one to three events, each to a stream of its own; returns how many events that were.
async fn load(write: &WriteSide, rounds: i64) -> i64 {
    let mut events = 0;
    for round in 0..rounds {
        let count = round % 3 + 1;
        let outcome = write.committer.append(item(&write.ids, &[(stream(&write.ids), 0)], count)).await.unwrap();
        assert!(matches!(outcome, ItemOutcome::Committed { .. }), "{outcome:?}");
        events += count;
    }
    events
}

/// How many pages a reader must have seen of a log that grew.
const PAGES: usize = 11;

/// Appends until a reader has come often enough, which on a busy machine may take it longer than the writers; how many events that were.
async fn load_while_read<T>(write: &WriteSide, pages: &AtomicUsize, reader: &JoinHandle<T>) -> i64 {
    let mut events = load(write, 100).await;
    while pages.load(Ordering::SeqCst) < PAGES && !reader.is_finished() {
        events += load(write, 3).await;
    }
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_asks_for_what_follows_never_skips_a_position() {
    let database = TestDatabase::new().await;
    let (one, other) = (database.write_side(), database.write_side());
    let (done, pages) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    let reader = tokio::spawn({
        let (pool, done, pages) = (database.pool(Role::Worker), done.clone(), pages.clone());
        async move {
            let mut last = 0;
            loop {
                let finished = done.is_cancelled();
                let page = event_store::read_log(&pool, last, 1000).await.unwrap();
                for event in &page {
                    assert_eq!(event.pos, last + 1, "a position was not there when the one after it was");
                    last = event.pos;
                }
                pages.fetch_add(usize::from(!page.is_empty()), Ordering::SeqCst);
                if finished && page.is_empty() {
                    return last;
                }
            }
        }
    });
    let writers = (0..8).flat_map(|_| [&one, &other]).map(|side| load_while_read(side, &pages, &reader));
    let written: i64 = join_all(writers).await.into_iter().sum();
    done.cancel();
    assert_eq!(reader.await.unwrap(), written);
    let pages = pages.load(Ordering::SeqCst);
    assert!(pages >= PAGES, "the reader saw the log only {pages} times while it grew");
    let (count, newest): (i64, i64) = sqlx::query_as("select count(*), max(pos) from log.event").fetch_one(&database.admin).await.unwrap();
    assert_eq!((count, newest), (written, written));
    assert_eq!(database.head().await.pos, written);
    let (newest_here, newest_there) = (*one.moved.borrow(), *other.moved.borrow());
    assert_eq!(newest_here.max(newest_there), written);
}

#[tokio::test]
async fn an_item_is_told_the_position_of_its_own_last_event() {
    let database = TestDatabase::new().await;
    let write = database.write_side();
    let keys: Vec<_> = (0..40).map(|_| stream(&write.ids)).collect();
    let appends = keys.iter().map(|key| write.committer.append(item(&write.ids, &[(*key, 0)], 3)));
    let outcomes = join_all(appends).await;
    let log = database.log().await;
    for (key, outcome) in keys.iter().zip(outcomes) {
        let Ok(ItemOutcome::Committed { last_pos }) = outcome else { panic!("{outcome:?}") };
        let event = &log[usize::try_from(last_pos - 1).unwrap()];
        assert_eq!((event.pos, event.stream, event.version), (last_pos, *key, 3));
    }
}

#[tokio::test]
async fn positions_go_on_over_the_borders_of_partitions() {
    let database = TestDatabase::new().await;
    // The first partition was made with the schema; the log is moved to near its end, the next ones hold four events each.
    let start = 4_999_990;
    sqlx::raw_sql("update log.head set pos = 4999990, partition_size = 4").execute(&database.admin).await.unwrap();
    let write = database.write_side();
    let long = stream(&write.ids);
    for round in 0..10 {
        let others = [stream(&write.ids), stream(&write.ids)].map(|key| item(&write.ids, &[(key, 0)], 2));
        let appends = others.into_iter().chain([item(&write.ids, &[(long, round * 3)], 3)]);
        for outcome in join_all(appends.map(|item| write.committer.append(item))).await {
            assert!(matches!(outcome, Ok(ItemOutcome::Committed { .. })), "{outcome:?}");
        }
    }
    let log = event_store::read_log(&database.pool(Role::Worker), start, 1000).await.unwrap();
    let positions: Vec<i64> = log.iter().map(|event| event.pos).collect();
    assert_eq!(positions, (start + 1..=start + 70).collect::<Vec<_>>());
    let partitions: i64 = sqlx::query_scalar("select count(distinct tableoid) from log.event where pos > $1")
        .bind(start)
        .fetch_one(&database.admin)
        .await
        .unwrap();
    assert_eq!(partitions, 16, "one of ten events, fifteen of four");
    let versions = event_store::load_stream(&database.pool(Role::App), long, 7).await.unwrap();
    assert_eq!(versions.iter().map(|event| event.version).collect::<Vec<_>>(), (8..=30).collect::<Vec<_>>());
}

#[tokio::test]
async fn one_commit_may_span_several_partitions() {
    let database = TestDatabase::new().await;
    sqlx::raw_sql("update log.head set pos = 4999999, partition_size = 4").execute(&database.admin).await.unwrap();
    let write = database.write_side();
    let outcome = write.committer.append(item(&write.ids, &[(stream(&write.ids), 0)], 11)).await.unwrap();
    assert_eq!(outcome, ItemOutcome::Committed { last_pos: 5_000_010 });
    assert_eq!(event_store::read_log(&database.admin, 4_999_999, 100).await.unwrap().len(), 11);
}

#[tokio::test]
async fn a_long_read_does_not_hold_up_a_new_partition() {
    let database = TestDatabase::new().await;
    sqlx::raw_sql("update log.head set pos = 4999999, partition_size = 4").execute(&database.admin).await.unwrap();
    let write = database.write_side();
    let mut reader = database.admin.begin().await.unwrap();
    sqlx::query("select count(*) from log.event").execute(&mut *reader).await.unwrap();
    let append = write.committer.append(item(&write.ids, &[(stream(&write.ids), 0)], 3));
    // It would wait for ever.
    let outcome = tokio::time::timeout(Duration::from_secs(60), append).await.expect("the append waits for the reader").unwrap();
    assert_eq!(outcome, ItemOutcome::Committed { last_pos: 5_000_002 });
    reader.rollback().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_commit_can_be_recomputed_from_the_rows_that_it_wrote() {
    let database = TestDatabase::new().await;
    let (one, other) = (database.write_side(), database.write_side());
    join_all((0..8).flat_map(|_| [load(&one, 12), load(&other, 12)])).await;
    let log = database.log().await;
    let commits = sqlx::query("select first_pos, last_pos, recorded_at, prev_hash, hash from log.commit order by first_pos")
        .fetch_all(&database.admin)
        .await
        .unwrap();
    assert!(commits.len() > 12, "{} commits", commits.len());
    let (mut prev, mut next_pos, mut recorded_at) = ([0_u8; 32], 1, chrono::DateTime::UNIX_EPOCH);
    for commit in &commits {
        let (first, last): (i64, i64) = (commit.get("first_pos"), commit.get("last_pos"));
        assert_eq!(first, next_pos, "commits follow each other without a gap");
        let events = &log[usize::try_from(first - 1).unwrap()..usize::try_from(last).unwrap()];
        let stamp: chrono::DateTime<chrono::Utc> = commit.get("recorded_at");
        assert!(stamp >= recorded_at, "recorded_at went back at position {first}");
        for event in events {
            assert_eq!(recorded_hash(event), event.hash, "position {}", event.pos);
            assert_eq!(event.recorded_at, stamp);
        }
        let root = merkle_root(&events.iter().map(|event| event.hash).collect::<Vec<_>>());
        assert_eq!(commit.get::<Vec<u8>, _>("prev_hash"), prev);
        prev = commit_hash(&prev, first, stamp.timestamp_micros(), &root);
        assert_eq!(commit.get::<Vec<u8>, _>("hash"), prev, "commit of position {first}");
        (next_pos, recorded_at) = (last + 1, stamp);
    }
    assert_eq!(database.head().await.pos, next_pos - 1);
    let head: Vec<u8> = sqlx::query_scalar("select hash from log.head").fetch_one(&database.admin).await.unwrap();
    assert_eq!(head, prev);
}

#[tokio::test]
async fn recorded_at_does_not_follow_a_clock_that_was_set_back() {
    let database = TestDatabase::new().await;
    // As if the machine's clock had been ahead for a while.
    sqlx::raw_sql("update log.head set recorded_at = '2100-01-01'").execute(&database.admin).await.unwrap();
    let write = database.write_side();
    load(&write, 3).await;
    let log = database.log().await;
    assert!(log.iter().all(|event| event.recorded_at.to_rfc3339() == "2100-01-01T00:00:00+00:00"), "{log:?}");
}

#[tokio::test]
async fn a_committer_that_stops_first_writes_what_it_has_taken_in() {
    let database = TestDatabase::new().await;
    let write = database.write_side();
    let committer = write.committer.clone();
    let waiting: Vec<_> = (0..300)
        .map(|_| {
            let (committer, entry) = (committer.clone(), item(&write.ids, &[(stream(&write.ids), 0)], 1));
            tokio::spawn(async move { committer.append(entry).await })
        })
        .collect();
    eventually("something is written", Duration::from_secs(10), || async { (database.head().await.pos > 0).then_some(()) }).await;
    write.stop().await;
    let mut committed = 0;
    for outcome in waiting {
        committed += i64::from(matches!(outcome.await.unwrap(), Ok(ItemOutcome::Committed { .. })));
    }
    assert_eq!(database.head().await.pos, committed);
    assert_eq!(committed, 300, "all were taken in before the stop");
}
