//! The auditors' role: every question of `replay` is answered through it, of every tenant, and nothing is written through it.

use std::time::Duration;

use commands::database::Role;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};
use support::{ScratchDir, TestDatabase, TestPlatform, eventually, replay, settlement_list};

use crate::store_guard::refusal;

/// Refused for want of a right.
const NO_RIGHT: &str = "42501";
const OURS: &str = "n.nspname !~ '^pg_' and n.nspname <> 'information_schema'";

/// Every table and view of ours: its name, its first column, whether it is a view.
async fn relations(admin: &PgPool) -> Vec<(String, String, bool)> {
    let sql = format!(
        "select format('%I.%I', n.nspname, c.relname), quote_ident(a.attname), c.relkind = 'v' \
         from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid and a.attnum = 1 \
         where c.relkind in ('r', 'p', 'v') and {OURS} order by 1"
    );
    sqlx::query_as(AssertSqlSafe(sql)).fetch_all(admin).await.unwrap()
}

/// Every function of ours that can be called, and a call of it; only those for which the role has or has not the right.
async fn functions(admin: &PgPool, granted: bool) -> Vec<(String, String)> {
    let sql = format!(
        "select format('%s.%s', n.nspname, p.proname), format('select %I.%I(%s)', n.nspname, p.proname, \
             (select coalesce(string_agg(format('null::%s', format_type(t, null)), ', ' order by i), '') \
              from unnest(p.proargtypes::oid[]) with ordinality as a (t, i))) \
         from pg_proc p join pg_namespace n on n.oid = p.pronamespace \
         where {OURS} and p.prorettype <> 'trigger'::regtype \
           and (has_function_privilege('smartpos_auditor', p.oid, 'execute') \
                and has_schema_privilege('smartpos_auditor', n.oid, 'usage')) = $1 order by 1"
    );
    sqlx::query_as(AssertSqlSafe(sql)).bind(granted).fetch_all(admin).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_auditors_role_writes_nothing_anywhere() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    platform.billed(&shop, 40_00).await;
    platform.settled().await;
    let (admin, auditor) = (&platform.database.admin, platform.database.pool(Role::Auditor));
    let before = platform.database.head().await;
    let relations = relations(admin).await;
    for name in ["log.event", "log.event_000000000000001", "privacy.subject_key", "process.task", "orders_v3.orders", "read.orders"] {
        assert!(relations.iter().any(|(relation, ..)| relation == name), "{name} in {relations:?}");
    }
    for (name, column, is_view) in &relations {
        let mut attempts = vec![
            format!("insert into {name} default values"),
            format!("update {name} set {column} = default"),
            format!("delete from {name}"),
            format!("drop {} {name}", if *is_view { "view" } else { "table" }),
        ];
        if !is_view {
            attempts.push(format!("truncate {name}"));
            attempts.push(format!("alter table {name} disable trigger all"));
        }
        for sql in attempts {
            assert_eq!(refusal(&auditor, &sql).await, NO_RIGHT, "{sql}");
        }
    }
    let schemas: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!("select quote_ident(nspname) from pg_namespace n where {OURS}")))
        .fetch_all(admin)
        .await
        .unwrap();
    for schema in schemas {
        for sql in [
            format!("create table {schema}.mine (n int)"),
            format!("create view {schema}.mine as select 1 as n"),
            format!("create function {schema}.mine() returns int language sql as 'select 1'"),
            format!("drop schema {schema} cascade"),
        ] {
            assert_eq!(refusal(&auditor, &sql).await, NO_RIGHT, "{sql}");
        }
    }
    for sql in ["create schema mine", "create role mine"] {
        assert_eq!(refusal(&auditor, sql).await, NO_RIGHT, "{sql}");
    }
    assert_eq!(platform.database.head().await, before);
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_auditors_role_calls_no_function_that_writes() {
    let platform = TestPlatform::start().await;
    let (admin, auditor) = (&platform.database.admin, platform.database.pool(Role::Auditor));
    let granted: Vec<String> = functions(admin, true).await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(granted, ["log.head_pos", "log.position_at", "log.tenant_events"]);
    let sql = "select count(*) from pg_proc where provolatile = 'v' and has_function_privilege('smartpos_auditor', oid, 'execute') \
               and oid in ('log.head_pos'::regproc, 'log.position_at'::regproc, 'log.tenant_events'::regproc)";
    let volatile: i64 = sqlx::query_scalar(sql).fetch_one(admin).await.unwrap();
    assert_eq!(volatile, 0, "what may be called cannot write");
    let refused = functions(admin, false).await;
    for name in ["log.append", "log.save_snapshot", "log.raise_epoch", "privacy.take_key", "process.take_webhook", "read.serve"] {
        assert!(refused.iter().any(|(function, _)| function == name), "{name} in {refused:?}");
    }
    for (name, call) in &refused {
        assert_eq!(refusal(&auditor, call).await, NO_RIGHT, "{name}: {call}");
    }
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_auditors_role_sees_every_tenant_and_no_secret() {
    let platform = TestPlatform::start().await;
    let shops = [platform.shop().await, platform.shop().await];
    for shop in &shops {
        platform.billed(shop, 40_00).await;
    }
    platform.settled().await;
    let auditor = platform.database.pool(Role::Auditor);
    let schema: String = sqlx::query_scalar("select read.serving('orders')").fetch_one(&platform.database.admin).await.unwrap();
    for table in ["log.event".to_owned(), format!("{schema}.orders"), "read.orders".to_owned()] {
        let sql = format!("select count(distinct tenant) from {table}");
        let tenants: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&auditor).await.unwrap();
        assert!(tenants >= 2, "{table}: {tenants}");
    }
    // Every table of a read model, whichever; and of none of them a row less than there is.
    for (name, ..) in relations(&platform.database.admin).await.iter().filter(|(name, ..)| name.contains("_v") || name.starts_with("read."))
    {
        let sql = format!("select count(*) from {name}");
        let seen: i64 = sqlx::query_scalar(AssertSqlSafe(sql.clone())).fetch_one(&auditor).await.unwrap();
        let all: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&platform.database.admin).await.unwrap();
        assert_eq!(seen, all, "{name}");
    }
    for sql in [
        "select 1 from privacy.subject_key",
        "select 1 from privacy.master_check",
        "select secret from partner.credential",
        "select response from log.append_key",
        "select state from log.snapshot",
        "select headers from process.webhook",
        "select answer from process.webhook_attempt",
    ] {
        assert_eq!(refusal(&auditor, sql).await, NO_RIGHT, "{sql}");
    }
    platform.stop().await;
}

/// What the migration does for read models that are there already.
fn for_existing_read_models() -> &'static str {
    let migration = include_str!("../../schemas/migrations/20261130000210_auditor.sql");
    let (_, part) = migration.split_once("-- Read models that exist").unwrap();
    let (_, block) = part.split_once("do $$").unwrap();
    block.split_once("$$;").unwrap().0
}

/// A schema as a build before the role made it for a version of a read model, with rows of two tenants; or one that no reader reaches yet.
async fn read_model_before(admin: &PgPool, schema: &str, open: bool) {
    let made = format!(
        "create schema {schema}; create table {schema}.orders (key text primary key, tenant uuid not null); \
         insert into {schema}.orders values ('a', gen_random_uuid()), ('b', gen_random_uuid());"
    );
    let opened = format!(
        "grant usage on schema {schema} to smartpos_app; grant select on {schema}.orders to smartpos_app; \
         alter table {schema}.orders enable row level security; alter table {schema}.orders force row level security; \
         create policy app on {schema}.orders for select to smartpos_app using (false);"
    );
    sqlx::raw_sql(AssertSqlSafe(if open { made + &opened } else { made })).execute(admin).await.unwrap();
}

#[tokio::test]
async fn read_models_that_were_there_before_the_role_are_read_by_it() {
    let database = TestDatabase::new().await;
    let (admin, auditor) = (&database.admin, database.pool(Role::Auditor));
    let (opened, closed) = (["orders_v98", "orders_v99_retired", "foo_v1"], ["orders_v99_next", "orders_vx"]);
    for schema in opened {
        read_model_before(admin, schema, true).await;
    }
    read_model_before(admin, closed[0], false).await;
    read_model_before(admin, closed[1], true).await;
    let view = "create view read.orders_before with (security_invoker = true) as select * from orders_v98.orders";
    sqlx::raw_sql(view).execute(admin).await.unwrap();
    let readable = ["orders_v98.orders", "orders_v99_retired.orders", "foo_v1.orders", "read.orders_before"];
    for table in readable {
        assert_eq!(refusal(&auditor, &format!("select 1 from {table}")).await, NO_RIGHT, "{table}, before");
    }
    let block = format!("do $${}$$", for_existing_read_models());
    sqlx::raw_sql(AssertSqlSafe(block)).execute(admin).await.unwrap();
    for table in readable {
        let sql = format!("select count(*) from {table}");
        let rows: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&auditor).await.unwrap();
        assert_eq!(rows, 2, "{table}, of every tenant");
        assert_eq!(refusal(&auditor, &format!("delete from {table}")).await, NO_RIGHT, "{table}");
    }
    for schema in closed {
        assert_eq!(refusal(&auditor, &format!("select 1 from {schema}.orders")).await, NO_RIGHT, "{schema}");
    }
}

/// Makes a login that is an auditor and nothing else, and has `replay` use it.
async fn become_auditor(platform: &mut TestPlatform) {
    let database = &mut platform.database;
    let login: String = sqlx::query_scalar("select 'auditor_of_' || current_database()").fetch_one(&database.admin).await.unwrap();
    let sql = format!("create role {login} login password 'an_auditor' in role smartpos_auditor");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&database.admin).await.unwrap();
    let (_, place) = database.url.split_once('@').unwrap();
    database.url = format!("postgres://{login}:an_auditor@{place}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_question_is_answered_to_a_login_that_is_an_auditor_and_nothing_else() {
    let mut platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let profile = json!({"profile": {"name": "Malee"}});
    let customer = platform.post(&shop.cashier, "/v1/customers", profile).await.id();
    let (order, bill) = platform.billed(&shop, 120_00).await;
    let (_, intent, reference) = platform.started_qr(&shop, &bill).await;
    platform.pay(&reference, json!({})).await;
    platform.get_until(&shop.cashier, &format!("/v1/orders/{order}"), |order| order["status"] == "completed").await;
    platform.settled().await;
    become_auditor(&mut platform).await;
    let database = &platform.database;
    let dir = ScratchDir::new("replay-auditor");
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (key, checkpoint, list) = (file("key.pem"), file("checkpoint.json"), file("list.csv"));

    let public = replay(database, &["checkpoint", "--new-key", &key]).await.sound().lines[0]["public_key"].as_str().unwrap().to_owned();
    let signed = replay(database, &["checkpoint", "--key", &key]).await.sound();
    std::fs::write(&checkpoint, signed.lines[0].to_string()).unwrap();
    std::fs::write(&list, settlement_list(&platform.simulator).await).unwrap();
    let head = database.head().await;
    let (position, jsonl, parquet, schema) = (head.pos.to_string(), file("log.jsonl"), file("log.parquet"), "orders_v3");
    let questions: [&[&str]; 16] = [
        &["verify"],
        &["verify", "--checkpoint", &checkpoint, "--public-key", &public],
        &["prove", "1", "--checkpoint", &checkpoint],
        &["check"],
        &["reconcile", "--account", "scb", "--from", "2000-01-01", "--to", "2100-01-01", &list],
        &["show", &order],
        &["timeline", &order],
        &["grep", "--type", "order.*", "--from", "2000-01-01"],
        &["stats"],
        &["export", "--out", &jsonl],
        &["export", "--format", "parquet", "--out", &parquet],
        &["as-of", &position, "orders"],
        &["as-of", "2000-01-01T00:00:00Z", "orders"],
        &["as-of", &position, "orders", &format!("tenant={}", shop.merchant)],
        &["diff", "1", &position, "orders"],
        &["diff", schema, schema],
    ];
    for question in questions {
        let answer = replay(database, question).await;
        assert_eq!(answer.code, 0, "{question:?}: {answer:?}");
    }
    eventually("what was said to the bank and heard from it is explained", Duration::from_secs(15), || async {
        let lines = replay(database, &["explain", &intent]).await.sound().lines;
        let exchanges = lines.iter().filter(|line| line["kind"] == "exchange").count();
        (exchanges > 1 && lines.iter().any(|line| line["received"].is_string())).then_some(())
    })
    .await;

    // What changes something needs other rights.
    for refused in [&["erase", &customer, "--reason", "requested", "--yes"][..], &["rebuild", "orders"], &["rollback", "orders"]] {
        let answer = replay(database, refused).await;
        assert_eq!((answer.code, answer.lines), (3, Vec::<Value>::new()), "{refused:?}: {}", answer.errors);
    }
    assert_eq!(database.head().await, head);
    platform.stop().await;
}
