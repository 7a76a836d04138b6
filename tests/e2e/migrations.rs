//! A migration that is killed half-way, again and again, ends where one that was never disturbed ends.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use support::{Process, ScratchDir, TestServers};

/// Everything that a schema is made of, as one sum: columns, indexes, functions, constraints, triggers, policies, grants, versions.
const FINGERPRINT: &str = "
    with ours as (select oid, nspname from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema'), parts (part) as (
        select format('%s.%s.%s %s %s', table_schema, table_name, column_name, data_type, column_default)
            from information_schema.columns join ours on nspname = table_schema
        union all select indexdef from pg_indexes join ours on nspname = schemaname
        union all select pg_get_functiondef(p.oid) from pg_proc p join ours on ours.oid = p.pronamespace where p.prokind = 'f'
        union all select format('%s %s %s', conrelid::regclass, conname, pg_get_constraintdef(c.oid))
            from pg_constraint c join ours on ours.oid = c.connamespace
        union all select pg_get_triggerdef(t.oid) from pg_trigger t join pg_class c on c.oid = t.tgrelid join ours on ours.oid = c.relnamespace
            where not t.tgisinternal
        union all select format('%s %s %s', polrelid::regclass, polname, pg_get_expr(polqual, polrelid)) from pg_policy
        union all select format('%s %s %s %s', c.oid::regclass, c.relacl, c.relrowsecurity, c.relforcerowsecurity)
            from pg_class c join ours on ours.oid = c.relnamespace
        union all select format('%s %s', version, encode(checksum, 'hex')) from public._sqlx_migrations where success
    )
    select count(*) || ' ' || md5(string_agg(part, E'\\n' order by part)) from parts";

/// An empty database, and what tells `smartpos migrate` of it.
struct Empty {
    url: String,
    connection: PgConnection,
    scratch: ScratchDir,
}

impl Empty {
    async fn new(name: &str) -> Self {
        let info = TestServers::shared().await.connection();
        let mut connection = PgConnection::connect(&info.admin_url).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(format!("create database {name}"))).execute(&mut connection).await.unwrap();
        let url = info.admin_url.replace("/smartpos?", &format!("/{name}?"));
        Self { connection: PgConnection::connect(&url).await.unwrap(), url, scratch: ScratchDir::new(name) }
    }

    fn migrate(&self) -> Process {
        let environment = [("DATABASE_URL", self.url.as_str()), ("SMARTPOS_DATA_DIR", self.scratch.path().to_str().unwrap())];
        Process::spawn("migrate", self.scratch.path(), &["migrate"], environment)
    }

    /// How many migrations are done; none while there is nothing at all.
    async fn done(&mut self) -> i64 {
        let sql = "select count(*) from public._sqlx_migrations where success";
        sqlx::query_scalar(sql).persistent(false).fetch_one(&mut self.connection).await.unwrap_or(0)
    }

    async fn fingerprint(&mut self) -> String {
        sqlx::query_scalar(FINGERPRINT).fetch_one(&mut self.connection).await.unwrap()
    }
}

/// A database whose migrations, so many in `all`, were killed again and again, and how often.
async fn killed_again_and_again(name: &str, all: i64) -> (Empty, usize) {
    let mut broken = Empty::new(name).await;
    let (mut kills, mut before) = (0, 0);
    while before < all {
        let mut process = broken.migrate();
        // Killed as soon as one more is done: somewhere in the one after it.
        while broken.done().await <= before && process.exited().is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        process.kill();
        let now = broken.done().await;
        assert!(now > before, "{}", process.log());
        (kills, before) = (kills + 1, now);
    }
    (broken, kills)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_is_killed_half_way_is_finished_by_the_next_one() {
    let mut whole = Empty::new("migrated_at_once").await;
    assert!(whole.migrate().wait(Duration::from_mins(1)).await.success());
    let all = whole.done().await;
    let mut tries = 0;
    let mut broken = loop {
        let (broken, kills) = killed_again_and_again(&format!("migrated_with_kills_{tries}"), all).await;
        if kills > 3 {
            break broken;
        }
        // On a busy machine much may be done before it is killed.
        tries += 1;
        assert!(tries < 5, "{kills} kills over {all} migrations");
    };
    let mut last = broken.migrate();
    assert!(last.wait(Duration::from_mins(1)).await.success(), "{}", last.log());
    assert_eq!(broken.fingerprint().await, whole.fingerprint().await);
    // And once more there is nothing to do.
    assert!(broken.migrate().wait(Duration::from_mins(1)).await.success());
}
