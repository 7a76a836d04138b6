//! Connections and servers that die under load: what was acknowledged is there, once; the rest can be repeated.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use commands::{committer::ItemOutcome, error::CommandError, event_store};
use domain::ids::OrderId;
use futures_util::future::join_all;
use serde_json::json;
use support::{OwnServers, Proxy, Shop, TestDatabase, WriteSide, eventually, item, new_line, stream};

/// What the load saw.
#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    acknowledged: AtomicUsize,
    /// Answers that said "come again".
    away: AtomicUsize,
    unknown: AtomicUsize,
}

/// One terminal: adds line after line to its order; after a transient fault it repeats with the same key, as a terminal does.
/// Returns the item codes that were acknowledged.
async fn terminal(write: &WriteSide, shop: Shop, order: OrderId, name: usize, seen: &Seen) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for n in 0.. {
        let code = format!("T{name}-{n}");
        let caller = shop.caller_with_key(&write.handler, &code, "POST /lines", &json!({"item": code}));
        loop {
            // Not before the command is answered: one that is left unknown proves nothing.
            match shop.add_line(&write.handler, &caller, order, new_line(&code, 100)).await {
                Ok(_) => break,
                Err(CommandError::Unavailable(_)) => drop(seen.away.fetch_add(1, Ordering::SeqCst)),
                Err(CommandError::OutcomeUnknown) => drop(seen.unknown.fetch_add(1, Ordering::SeqCst)),
                Err(error) => panic!("{error}"),
            }
        }
        acknowledged.push(code);
        seen.acknowledged.fetch_add(1, Ordering::SeqCst);
        // An order holds 500 lines.
        if seen.stop.load(Ordering::SeqCst) || n == 450 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    acknowledged
}

/// Runs `terminals` while `faults` does its work, then compares the log with what was acknowledged.
async fn under_load(database: &TestDatabase, write: &WriteSide, terminals: usize, seen: &Seen, faults: impl Future<Output = ()>) {
    let shop = Shop::open(&write.handler).await;
    let mut orders = Vec::new();
    for _ in 0..terminals {
        orders.push(shop.open_order(&write.handler, &[]).await);
    }
    let load = join_all(orders.iter().enumerate().map(|(name, order)| terminal(write, shop, *order, name, seen)));
    let faults = async {
        faults.await;
        seen.stop.store(true, Ordering::SeqCst);
    };
    let (acknowledged, ()) = tokio::join!(load, faults);

    let mut stored: BTreeMap<String, usize> = BTreeMap::new();
    let log = database.log().await;
    for event in log.iter().filter(|event| event.event_type == "order.line_added") {
        let payload: serde_json::Value = serde_json::from_slice(&event.payload).unwrap();
        *stored.entry(payload["item_code"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let expected: BTreeMap<String, usize> = acknowledged.into_iter().flatten().map(|code| (code, 1)).collect();
    assert_eq!(expected.len(), seen.acknowledged.load(Ordering::SeqCst));
    assert_eq!(stored, expected, "every acknowledged command once, and nothing else");
    let positions: Vec<i64> = log.iter().map(|event| event.pos).collect();
    assert_eq!(positions, (1..=database.head().await.pos).collect::<Vec<_>>());
}

/// Waits until the load got another `more` commands through.
async fn progress(seen: &Seen, more: usize) {
    let target = seen.acknowledged.load(Ordering::SeqCst) + more;
    let reached = || async { (seen.acknowledged.load(Ordering::SeqCst) >= target).then_some(()) };
    eventually("commands are acknowledged again", Duration::from_secs(30), reached).await;
}

/// Ends the connections of those who append; says how many.
async fn cut_appenders(database: impl sqlx::PgExecutor<'_>) -> i64 {
    let sql = "select count(*) from (select pg_terminate_backend(pid) from pg_stat_activity \
               where datname = current_database() and application_name = 'smartpos' and query like '%log.append(%') cut";
    sqlx::query_scalar::<_, i64>(sql).fetch_one(database).await.unwrap()
}

/// Makes the database one that takes no writes, as a standby before it is promoted, or one that does; those who append connect anew.
async fn takes_writes(admin: &mut sqlx::PgConnection, writes: bool) {
    let (refuse, take) = (
        "do $$ begin execute format('alter database %I set default_transaction_read_only = on', current_database()); end $$",
        "do $$ begin execute format('alter database %I reset default_transaction_read_only', current_database()); end $$",
    );
    sqlx::query(if writes { take } else { refuse }).execute(&mut *admin).await.unwrap();
    cut_appenders(admin).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_takes_no_writes_for_a_while_refuses_nothing() {
    let database = TestDatabase::new().await.impatient();
    let write = database.write_side();
    let seen = Seen::default();
    // This connection was made before, so it may write all the time.
    let mut admin = database.admin.acquire().await.unwrap();
    let faults = async {
        progress(&seen, 20).await;
        let failed = || seen.away.load(Ordering::SeqCst) + seen.unknown.load(Ordering::SeqCst);
        takes_writes(&mut admin, false).await;
        let noticed = || async { (failed() > 0).then_some(()) };
        eventually("a caller is told to come again", Duration::from_secs(30), noticed).await;
        takes_writes(&mut admin, true).await;
        progress(&seen, 20).await;
    };
    under_load(&database, &write, 8, &seen, faults).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_committer_whose_connection_is_cut_again_and_again_loses_and_doubles_nothing() {
    let database = TestDatabase::new().await;
    let write = database.write_side();
    let seen = Seen::default();
    let mut cut = 0;
    let faults = async {
        for _ in 0..25 {
            progress(&seen, 20).await;
            cut += cut_appenders(&database.admin).await;
        }
    };
    under_load(&database, &write, 16, &seen, faults).await;
    assert!(cut >= 25, "only {cut} connections were cut");
    // The committer hides a short break from its callers.
    assert_eq!((seen.away.into_inner(), seen.unknown.into_inner()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_found_again() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::before(&database.url).await;
    let write = database.write_side_over(proxy.url());
    let streams: Vec<_> = (0..4).map(|_| stream(&write.ids)).collect();
    for version in 0..30 {
        proxy.swallow_answer();
        let appends = streams.iter().map(|key| write.committer.append(item(&write.ids, &[(*key, version * 2)], 2)));
        // Without keys: only the log itself can say that this very batch is in it.
        for (key, outcome) in streams.iter().zip(join_all(appends).await) {
            let Ok(ItemOutcome::Committed { last_pos }) = outcome else { panic!("version {version}: {outcome:?}") };
            let event = &event_store::read_log(&database.admin, last_pos - 1, 1).await.unwrap()[0];
            assert_eq!((event.stream, event.version), (*key, version * 2 + 2));
        }
    }
    assert!(proxy.swallowed() >= 25, "only {} answers were lost", proxy.swallowed());
    assert_eq!(database.head().await.pos, 4 * 30 * 2);
}

#[tokio::test]
async fn a_conflict_whose_answer_is_lost_stays_a_conflict() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::before(&database.url).await;
    let (write, other) = (database.write_side_over(proxy.url()), database.write_side());
    for n in 1..=10 {
        let key = stream(&write.ids);
        other.committer.append(item(&other.ids, &[(key, 0)], 2)).await.unwrap();
        proxy.swallow_answer();
        let outcome = write.committer.append(item(&write.ids, &[(key, 0)], 2)).await.unwrap();
        assert_eq!(outcome, ItemOutcome::Conflict { stream: key });
        assert_eq!(database.head().await.pos, n * 2);
    }
    assert!(proxy.swallowed() >= 8, "only {} answers were lost", proxy.swallowed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_is_killed_under_load_loses_and_doubles_nothing() {
    let mut servers = OwnServers::start("postgres-killed").await;
    let database = servers.database().await;
    let write = database.write_side();
    let seen = Seen::default();
    let faults = async {
        for _ in 0..2 {
            progress(&seen, 100).await;
            let failed = || seen.away.load(Ordering::SeqCst) + seen.unknown.load(Ordering::SeqCst);
            let before = failed();
            servers.embedded.kill_postgres().await.unwrap();
            let noticed = || async { (failed() > before).then_some(()) };
            eventually("a caller is told that the log is away", Duration::from_secs(20), noticed).await;
            servers.embedded.restart_postgres().await.unwrap();
            progress(&seen, 100).await;
        }
    };
    under_load(&database, &write, 8, &seen, faults).await;
    write.stop().await;
    servers.embedded.stop().await.unwrap();
}
