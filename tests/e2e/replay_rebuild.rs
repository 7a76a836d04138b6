//! `replay rebuild` and `rollback`: read models folded anew beside live ones, while the platform runs.

use std::{
    process::Child,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use commands::{database::Role, handle::CommandHandler};
use projections::runner;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use support::{Replayed, Shop, TestDatabase, TestPlatform, WriteSide, eventually, replay, replay_command};
use tokio_util::sync::CancellationToken;

/// The names of all read models.
fn models() -> Vec<&'static str> {
    projections::all().iter().map(|projection| projection.name()).collect()
}

/// A database with read models, a shop, and the projectors of a worker.
struct Trading {
    database: TestDatabase,
    write: WriteSide,
    shop: Shop,
    stop: CancellationToken,
    running: runner::Running,
}

impl Trading {
    async fn start() -> Self {
        let database = TestDatabase::new().await;
        projections::install::install(&database.admin).await.unwrap();
        let write = database.write_side();
        let shop = Shop::open(&write.handler).await;
        let stop = CancellationToken::new();
        let running = runner::start_all(&database.pool(Role::Worker), None, &stop);
        Self { database, write, shop, stop, running }
    }

    /// Paid sales, of several items each.
    async fn sell(&self, count: usize) {
        sell(&self.write.handler, self.shop, count).await;
    }

    /// Waits until every read model has read the log.
    async fn settled(&self) {
        let head = self.database.head().await.pos;
        eventually("the read models are up to date", Duration::from_secs(20), || async {
            let sql = "select min(pos) from read.checkpoint where name not like '%#%'";
            let behind: i64 = sqlx::query_scalar(sql).fetch_one(&self.database.admin).await.unwrap();
            (behind >= head).then_some(())
        })
        .await;
    }

    /// Projectors that remember nothing, in the place of those that run.
    async fn restart_projectors(&mut self) {
        self.restart_projectors_after("select 1").await;
    }

    /// The same, with this done to the database while none runs.
    async fn restart_projectors_after(&mut self, sql: &'static str) {
        self.stop.cancel();
        while self.running.tasks.join_next().await.is_some() {}
        sqlx::raw_sql(sql).execute(&self.database.admin).await.unwrap();
        self.stop = CancellationToken::new();
        self.running = runner::start_all(&self.database.pool(Role::Worker), None, &self.stop);
    }

    async fn stop(self) {
        self.stop.cancel();
        self.running.tasks.join_all().await;
        self.write.stop().await;
    }

    async fn proves_itself(&self) {
        self.settled().await;
        replay(&self.database, &["check"]).await.sound();
    }

    async fn one<T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin>(&self, sql: &str) -> T {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&self.database.admin).await.unwrap()
    }
}

async fn sell(handler: &CommandHandler, shop: Shop, count: usize) {
    for _ in 0..count {
        let order = shop.open_order(handler, &[("LAT", 85_00), ("CAK\\N\"\\.", 120_50)]).await;
        let bill = shop.bill(handler, order).await.unwrap();
        shop.pay_cash(handler, bill).await.unwrap();
    }
}

fn line<'a>(replayed: &'a Replayed, model: &str) -> &'a Value {
    replayed.lines.iter().find(|line| line["read_model"] == model).unwrap_or_else(|| panic!("{model} in {replayed:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_read_model_is_rebuilt_equal_and_the_platform_goes_on() {
    let trading = Trading::start().await;
    trading.sell(40).await;
    let (handler, shop) = (trading.write.handler.clone(), trading.shop);
    let selling = tokio::spawn(async move { sell(&handler, shop, 40).await });
    let rebuilt = replay(&trading.database, &["rebuild", "all", "--connections", "2"]).await.sound();
    for model in models() {
        let line = line(&rebuilt, model);
        assert_eq!(line["differing"], 0);
        assert!(line["switched_at"].as_i64() >= line["compared_at"].as_i64());
    }
    assert!(line(&rebuilt, "orders")["rows"].as_i64().unwrap() > 0);
    selling.await.unwrap();
    trading.proves_itself().await;
    // What serves is the new copy, seen through the views, with its row-level security.
    assert_eq!(trading.one::<i64>("select count(*) from read.orders").await, 80);
    let seen = sqlx::query_scalar::<_, i64>("select count(*) from read.orders").fetch_one(&trading.database.pool(Role::App)).await.unwrap();
    assert_eq!(seen, 0, "nothing set, nothing seen");
    trading.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_come_back_after_they_were_forgotten_are_folded_on() {
    let trading = Trading::start().await;
    trading.sell(20).await;
    trading.settled().await;
    // So few that every order is written and forgotten many times before it is complete.
    let rebuilt = replay(&trading.database, &["rebuild", "all", "--rows-in-memory", "2", "--connections", "3"]).await.sound();
    assert!(models().into_iter().all(|model| line(&rebuilt, model)["differing"] == 0), "{rebuilt:?}");
    trading.proves_itself().await;
    trading.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_difference_is_shown_and_refused_until_it_is_accepted() {
    let trading = Trading::start().await;
    trading.sell(5).await;
    trading.settled().await;
    let tamper = "update bills_v2.bills set total = total + 1 where key = (select min(key) from bills_v2.bills); \
                  delete from bills_v2.bill_orders where key = (select min(key) from bills_v2.bill_orders)";
    sqlx::raw_sql(tamper).execute(&trading.database.admin).await.unwrap();
    let refused = replay(&trading.database, &["rebuild", "bills"]).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    let summary = line(&refused, "bills");
    assert_eq!((&summary["differing"], &summary["switched_at"]), (&json!(2), &Value::Null));
    let shown: Vec<(&str, &str)> = refused
        .lines
        .iter()
        .filter(|line| line["table"].is_string())
        .map(|line| (line["table"].as_str().unwrap(), line["what"].as_str().unwrap()))
        .collect();
    assert_eq!(shown, [("bills", "differs in total"), ("bill_orders", "is missing in the live one")]);
    assert_eq!(trading.one::<i64>("select count(*) from pg_namespace where nspname like 'bills%'").await, 1, "nothing is left behind");
    assert_eq!(replay(&trading.database, &["check"]).await.code, 1, "the live rows are as they were");
    let accepted = replay(&trading.database, &["rebuild", "bills", "--accept-differences"]).await.sound();
    assert_eq!(line(&accepted, "bills")["differing"], 2);
    trading.proves_itself().await;
    trading.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projector_that_remembers_wrong_rows_does_not_write_them_over_the_healed_ones() {
    let mut trading = Trading::start().await;
    trading.sell(2).await;
    trading.settled().await;
    let tamper = "update daily_sales_v4.daily_sales set total = total + 1";
    sqlx::raw_sql(tamper).execute(&trading.database.admin).await.unwrap();
    trading.restart_projectors().await;
    trading.sell(1).await; // the wrong row is in memory now
    trading.settled().await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    replay(&trading.database, &["rebuild", "daily_sales", "--accept-differences"]).await.sound();
    trading.sell(1).await;
    trading.proves_itself().await;
    trading.stop().await;
}

/// Every table of read models, and their checkpoints, beside themselves.
const BACK_UP: &str = "create schema backup; do $$ declare t record; begin
    for t in select * from pg_tables where schemaname ~ '_v[0-9]+$' or (schemaname, tablename) = ('read', 'checkpoint') loop
        execute format('create table backup.%I as table %I.%I', t.schemaname || '.' || t.tablename, t.schemaname, t.tablename);
    end loop; end $$";
const RESTORE: &str = "do $$ declare t record; begin
    for t in select * from pg_tables where schemaname ~ '_v[0-9]+$' or (schemaname, tablename) = ('read', 'checkpoint') loop
        execute format('delete from %I.%I', t.schemaname, t.tablename);
        execute format('insert into %I.%I table backup.%I', t.schemaname, t.tablename, t.schemaname || '.' || t.tablename);
    end loop; end $$";

#[tokio::test(flavor = "multi_thread")]
async fn read_models_that_are_restored_to_the_past_alone_are_folded_on_from_their_checkpoint() {
    let mut trading = Trading::start().await;
    trading.sell(3).await;
    trading.settled().await;
    trading.restart_projectors_after(BACK_UP).await;
    trading.sell(3).await;
    trading.settled().await;
    trading.restart_projectors_after(RESTORE).await;
    trading.sell(1).await;
    trading.proves_itself().await;
    assert_eq!(trading.one::<i64>("select count(*) from read.orders").await, 7);
    trading.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_serves_once_it_has_come_as_far_as_the_old_one() {
    let mut trading = Trading::start().await;
    trading.sell(2).await;
    trading.settled().await;
    trading.stop.cancel();
    while trading.running.tasks.join_next().await.is_some() {}
    // As an earlier build left it: its version in service, read up to the head; the new one installed and empty.
    let earlier = "create schema orders_v1;
         create table orders_v1.orders as select * from orders_v3.orders;
         create table orders_v1.order_lines (key text);
         insert into read.checkpoint select 'orders', 1, pos from log.head;
         delete from orders_v3.orders;
         update read.checkpoint set pos = 0 where name = 'orders' and version = 3;
         drop view read.orders;
         create view read.orders as select * from orders_v1.orders;
         create view read.order_lines as select * from orders_v1.order_lines";
    sqlx::raw_sql(earlier).execute(&trading.database.admin).await.unwrap();
    projections::install::install(&trading.database.admin).await.unwrap();
    // Nothing for a moment, while the view of one version is taken for that of the other.
    let serving = "select coalesce(read.serving('orders'), '')";
    assert_eq!(trading.one::<String>(serving).await, "orders_v1", "an empty version does not serve");
    // Nor does a rebuild of it, which is empty as well.
    replay(&trading.database, &["rebuild", "orders"]).await.sound();
    assert_eq!(trading.one::<String>(serving).await, "orders_v1");
    trading.restart_projectors().await;
    // The log is never silent meanwhile.
    let sold = std::cell::Cell::new(2);
    eventually("the new version serves", Duration::from_secs(20), || async {
        trading.sell(1).await;
        sold.set(sold.get() + 1);
        (trading.one::<String>(serving).await == "orders_v3").then_some(())
    })
    .await;
    // Nobody folds the earlier one any more.
    sqlx::raw_sql("delete from read.checkpoint where name = 'orders' and version = 1").execute(&trading.database.admin).await.unwrap();
    trading.settled().await;
    assert_eq!(trading.one::<i64>("select count(*) from read.orders").await, sold.get());
    let stale = "select count(*) from pg_views where schemaname = 'read' and viewname = 'order_lines'";
    assert_eq!(trading.one::<i64>(stale).await, 0, "a table that the new version does not have is shown no longer");
    trading.proves_itself().await;
    trading.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_serves_the_earlier_copy_caught_up_and_can_itself_be_undone() {
    let trading = Trading::start().await;
    assert_eq!(replay(&trading.database, &["rollback", "orders"]).await.code, 2, "nothing to go back to");
    trading.sell(5).await;
    trading.settled().await;
    let table = "select 'orders_v3.orders'::regclass::oid::bigint";
    let first: i64 = trading.one(table).await;
    replay(&trading.database, &["rebuild", "orders"]).await.sound();
    let second: i64 = trading.one(table).await;
    assert_ne!(first, second);
    trading.sell(5).await;
    trading.settled().await;
    replay(&trading.database, &["rollback", "orders"]).await.sound();
    assert_eq!(trading.one::<i64>(table).await, first);
    assert_eq!(trading.one::<i64>("select count(*) from read.orders").await, 10, "caught up before it serves");
    trading.sell(5).await;
    trading.proves_itself().await;
    replay(&trading.database, &["rollback", "orders"]).await.sound();
    assert_eq!(trading.one::<i64>(table).await, second);
    trading.proves_itself().await;
    assert_eq!(trading.one::<i64>("select count(*) from read.orders").await, 15);
    trading.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_copy_that_a_rebuild_retired_is_compared_with_the_live_one_as_it_was_then() {
    let trading = Trading::start().await;
    trading.sell(2).await;
    trading.settled().await;
    replay(&trading.database, &["rebuild", "orders"]).await.sound();
    trading.sell(2).await;
    trading.settled().await;
    let stands: i64 = trading.one("select pos from read.checkpoint where name = 'orders#retired'").await;
    assert!(stands < trading.database.head().await.pos);
    let diff = async || replay(&trading.database, &["diff", "orders_v3_retired", "orders_v3"]).await.sound();
    let last = |changed: i64| json!({"between": ["orders_v3_retired", "orders_v3"], "added": 0, "removed": 0, "changed": changed, "folded_to": stands});
    assert_eq!(diff().await.lines, [last(0)]);
    let tamper = "update orders_v3_retired.orders set total = total + 1 where key = (select min(key) from orders_v3_retired.orders)";
    sqlx::raw_sql(tamper).execute(&trading.database.admin).await.unwrap();
    let found = diff().await.lines;
    let total = |side: &str| found[0]["changed"]["total"][side].as_i64().unwrap();
    assert_eq!(total("before"), total("after") + 1, "{found:?}");
    assert_eq!(found[1..], [last(1)]);
    assert_eq!(replay(&trading.database, &["diff", "orders#retired_v3", "orders_v3"]).await.code, 2, "no name of anything");
    trading.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_in_many_passes_says_what_one_in_a_single_pass_says() {
    let trading = Trading::start().await;
    // Each its own merchant, so that the passes have something to share out.
    for _ in 0..6 {
        let shop = Shop::open(&trading.write.handler).await;
        sell(&trading.write.handler, shop, 2).await;
    }
    trading.settled().await;
    let tamper = "update orders_v3.orders set total = total + 1 where key in (select key from orders_v3.orders order by key limit 3)";
    sqlx::raw_sql(tamper).execute(&trading.database.admin).await.unwrap();
    let pool = trading.database.pool(Role::Worker);
    let silent: projections::check::Moved = std::sync::Arc::new(|_| {});
    for projection in projections::all() {
        let check = async |passes| {
            let report = projections::check::check_in_passes(&pool, projection.as_ref(), Some(passes), &silent).await.unwrap();
            let differences: std::collections::BTreeSet<String> = report.differences.iter().cloned().collect();
            (report.rows, report.digest, report.differing, differences)
        };
        let single = check(1).await;
        assert_eq!(single.2, if projection.name() == "orders" { 3 } else { 0 });
        assert_eq!(check(5).await, single, "{}", projection.name());
    }
    trading.stop().await;
}

fn spawn(database: &TestDatabase, arguments: &[&str]) -> Child {
    let mut command = replay_command(database, arguments);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_killed_in_the_middle_does_no_harm_and_the_next_one_works() {
    let trading = Trading::start().await;
    trading.sell(60).await;
    trading.settled().await;
    // Once before the first event is folded, and once with every row in place, before the switch: held there by locks.
    for (lock, under_way) in [
        ("lock table log.event in access exclusive mode", "select to_regclass('orders_v3_rebuild.orders') is not null"),
        (
            "select pos from read.checkpoint where name = 'orders' for update",
            "select exists (select from read.checkpoint where name = 'orders#rebuild' and pos > 0)",
        ),
    ] {
        let mut hold = trading.database.admin.begin().await.unwrap();
        sqlx::query(lock).execute(&mut *hold).await.unwrap();
        let mut rebuilding = spawn(&trading.database, &["rebuild", "orders", "--connections", "2"]);
        eventually("the rebuild is under way", Duration::from_secs(20), || async { trading.one::<bool>(under_way).await.then_some(()) })
            .await;
        assert!(rebuilding.try_wait().unwrap().is_none(), "it waits");
        rebuilding.kill().unwrap();
        rebuilding.wait().unwrap();
        hold.rollback().await.unwrap();
        trading.sell(2).await;
        trading.proves_itself().await;
    }
    let rebuilt = eventually("the killed one's lock is free", Duration::from_secs(20), || async {
        let rebuilt = replay(&trading.database, &["rebuild", "orders"]).await;
        (rebuilt.code != 2).then_some(rebuilt)
    })
    .await;
    assert_eq!(line(&rebuilt.sound(), "orders")["differing"], 0);
    trading.proves_itself().await;
    trading.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_needs_a_model_and_the_owner() {
    let trading = Trading::start().await;
    let unknown = replay(&trading.database, &["rebuild", "invoices"]).await;
    assert_eq!(unknown.code, 2);
    assert!(unknown.errors.contains("daily_sales"), "{unknown:?}");
    let mut nobody = replay_command(&trading.database, &["rebuild", "orders"]);
    nobody.env_remove("MIGRATE_DATABASE_URL");
    assert_eq!(nobody.output().unwrap().status.code(), Some(2));
    trading.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halted_stream_is_a_finding_of_a_check_though_every_row_is_as_folded() {
    let trading = Trading::start().await;
    trading.sell(2).await;
    trading.settled().await;
    let head = trading.database.head().await.pos;
    // Halted from its next event on: what was read of it is right.
    let sql = "insert into read.quarantine select 'orders', 3, tenant, stream_type, stream_id, $1, 'x' from log.event \
               where type = 'order.opened' order by pos limit 1";
    sqlx::query(sql).bind(head + 1).execute(&trading.database.admin).await.unwrap();
    let checked = replay(&trading.database, &["check"]).await;
    assert_eq!(checked.code, 1, "{checked:?}");
    let orders = line(&checked, "orders");
    assert_eq!((&orders["differing"], &orders["halted"][0]["position"]), (&json!(0), &json!(head + 1)));
    assert!(orders["halted"][0]["stream"].as_str().unwrap().starts_with("ord_"), "{orders}");
    assert_eq!(orders["halted"][0]["tenant"], trading.shop.merchant.to_string());
    assert_eq!(line(&checked, "bills")["halted"], json!([]));
    trading.stop().await;
}

/// Whether somebody waits until a rebuild is over.
const WAITS: &str = "select exists (select from pg_locks where locktype = 'advisory' and not granted and mode = 'ShareLock' \
                     and database = (select oid from pg_database where datname = current_database()))";

#[tokio::test(flavor = "multi_thread")]
async fn a_check_waits_for_a_rebuild_of_its_model_and_none_begins_meanwhile() {
    let trading = Trading::start().await;
    trading.sell(2).await;
    trading.settled().await;
    let lock = "hashtextextended('smartpos rebuild orders_v3', 0)";
    let mut other = trading.database.admin.acquire().await.unwrap();
    let mut run = async |sql: &str| sqlx::raw_sql(AssertSqlSafe(format!("select {sql}({lock})"))).execute(&mut *other).await.unwrap();
    run("pg_advisory_lock").await;
    let mut checking = spawn(&trading.database, &["check"]);
    eventually("the check waits", Duration::from_secs(20), || async { trading.one::<bool>(WAITS).await.then_some(()) }).await;
    assert!(checking.try_wait().unwrap().is_none());
    run("pg_advisory_unlock").await;
    assert_eq!(checking.wait().unwrap().code(), Some(0));
    run("pg_advisory_lock_shared").await;
    let refused = replay(&trading.database, &["rebuild", "orders"]).await;
    assert!(refused.code == 2 && refused.errors.contains("a check or a diff is under way"), "{refused:?}");
    run("pg_advisory_unlock_shared").await;
    replay(&trading.database, &["rebuild", "orders"]).await.sound();
    trading.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_diff_of_versions_waits_for_a_rebuild_and_looks_at_what_that_left() {
    let trading = Trading::start().await;
    trading.sell(2).await;
    trading.settled().await;
    replay(&trading.database, &["rebuild", "orders"]).await.sound();
    let mut other = trading.database.admin.acquire().await.unwrap();
    let lock = "select pg_advisory_lock(hashtextextended('smartpos rebuild orders_v3', 0))";
    sqlx::raw_sql(lock).execute(&mut *other).await.unwrap();
    let rebuilt = async {
        eventually("the diff waits", Duration::from_secs(20), || async { trading.one::<bool>(WAITS).await.then_some(()) }).await;
        replay(&trading.database, &["diff", "1", "2", "orders"]).await.sound(); // moments are none of a rebuild's business
        let changed = "update orders_v3_retired.orders set total = total + 1 where key = (select min(key) from orders_v3_retired.orders)";
        sqlx::raw_sql(changed).execute(&trading.database.admin).await.unwrap();
        sqlx::raw_sql("select pg_advisory_unlock_all()").execute(&mut *other).await.unwrap();
    };
    let versions = ["diff", "orders_v3_retired", "orders_v3"];
    let (found, ()) = tokio::join!(replay(&trading.database, &versions), rebuilt);
    assert_eq!(found.sound().lines.last().unwrap()["changed"], 1);
    trading.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_the_retired_copy_keeps_the_next_rebuild_waiting_and_not_the_live_one() {
    let trading = Trading::start().await;
    trading.sell(2).await;
    trading.settled().await;
    replay(&trading.database, &["rebuild", "orders"]).await.sound();
    let mut reading = trading.database.admin.begin().await.unwrap();
    sqlx::query("lock table orders_v3_retired.orders in access share mode").execute(&mut *reading).await.unwrap();
    let mut rebuilding = spawn(&trading.database, &["rebuild", "orders"]);
    let waits = "select exists (select from pg_locks where not granted and relation = to_regclass('orders_v3_retired.orders') \
                 and database = (select oid from pg_database where datname = current_database()))";
    eventually("the rebuild waits", Duration::from_secs(20), || async { trading.one::<bool>(waits).await.then_some(()) }).await;
    // Held, the live one could not move its checkpoint. More than one try of the rebuild passes meanwhile.
    for _ in 0..4 {
        trading.sell(1).await;
        trading.settled().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(rebuilding.try_wait().unwrap().is_none(), "it tries again");
    reading.rollback().await.unwrap();
    assert_eq!(rebuilding.wait().unwrap().code(), Some(0));
    trading.proves_itself().await;
    assert_eq!(trading.one::<i64>("select count(*) from read.orders").await, 6);
    trading.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_over_events_that_are_gone_is_a_fault_and_ends() {
    let trading = Trading::start().await;
    trading.sell(2).await;
    trading.settled().await;
    replay(&trading.database, &["rebuild", "orders"]).await.sound();
    let stands: i64 = trading.one("select pos from read.checkpoint where name = 'orders#retired'").await;
    trading.sell(1).await;
    trading.settled().await;
    // One is left to be folded; all others up to where the live one stands are gone.
    let gone = stands + 2;
    let sql =
        format!("set session_replication_role = replica; delete from log.event where pos >= {gone}; set session_replication_role = origin");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&trading.database.admin).await.unwrap();
    let refused = replay(&trading.database, &["rollback", "orders"]).await;
    assert!(refused.code == 3 && refused.errors.contains(&format!("log position {gone}:")), "{refused:?}");
    let free = "select pos from read.checkpoint where name = 'orders' for update nowait";
    assert!(trading.one::<i64>(free).await >= gone, "the live one is where it was, and nobody holds it");
    trading.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_rolls_back_to_a_copy_of_a_history_that_was_given_up() {
    let trading = Trading::start().await;
    trading.sell(2).await;
    trading.settled().await;
    // What a rebuild of another version left is none of this one's business.
    let other = "insert into read.checkpoint (name, version, pos) values ('orders#rebuild', 1, 5)";
    sqlx::raw_sql(other).execute(&trading.database.admin).await.unwrap();
    replay(&trading.database, &["rebuild", "orders"]).await.sound();
    assert_eq!(trading.one::<i64>("select pos from read.checkpoint where name = 'orders#rebuild'").await, 5);
    let orders = projections::all().into_iter().find(|projection| projection.name() == "orders").unwrap();
    projections::rebuild::reset(&trading.database.pool(Role::Worker), orders.as_ref()).await.unwrap();
    let refused = replay(&trading.database, &["rollback", "orders"]).await;
    assert!(refused.code == 2 && refused.errors.contains("no earlier copy"), "{refused:?}");
    trading.proves_itself().await;
    trading.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_are_answered_with_the_whole_model_while_copies_are_switched_under_them() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    for _ in 0..30 {
        platform.post(&shop.cashier, "/v1/orders", json!({"store_id": shop.store, "order_type": "dine_in"})).await.ok();
    }
    platform.settled().await;
    let (over, answered) = (CancellationToken::new(), AtomicUsize::new(0));
    let reader = || async {
        while !over.is_cancelled() {
            let page = platform.get(&shop.cashier, "/v1/orders?limit=200").await.ok().body;
            assert_eq!(page["data"].as_array().unwrap().len(), 30, "neither half a copy nor none");
            answered.fetch_add(1, Ordering::Relaxed);
        }
    };
    let switches = async {
        let mut read_within = [0; 2];
        // On a busy machine nobody may have come to read within one of them.
        for _ in 0..20 {
            for (verb, reads) in ["rebuild", "rollback"].into_iter().zip(&mut read_within) {
                let before = answered.load(Ordering::Relaxed);
                replay(&platform.database, &[verb, "orders"]).await.sound();
                *reads += usize::from(answered.load(Ordering::Relaxed) > before);
            }
            if read_within.iter().all(|reads| *reads >= 2) {
                break;
            }
        }
        assert!(read_within.iter().all(|reads| *reads >= 2), "somebody read meanwhile: {read_within:?}");
        replay(&platform.database, &["rebuild", "orders"]).await.sound();
        over.cancel();
    };
    tokio::join!(switches, reader(), reader(), reader());
    platform.proves_itself().await;
    platform.stop().await;
}
