//! A fresh, migrated database for each test, and the write side on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use api::embedded::ConnectionInfo;
use commands::{
    committer::{self, Committer},
    database::{self, Role},
    event_log::PgAppender,
    event_store::{self, LogHead},
    handle::CommandHandler,
};
use domain::envelope::RecordedEvent;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, postgres::PgPoolOptions};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{ManualClock, PATIENCE, SeededIds, TestServers, servers::TEMPLATE};

/// A database of one test's own.
#[derive(Debug)]
pub struct TestDatabase {
    /// As superuser.
    pub admin: PgPool,
    /// URL of the superuser.
    pub admin_url: String,
    /// URL of the runtime login role; it takes on a group role, see [`Self::pool`].
    pub url: String,
    /// NATS beside it.
    pub nats_url: String,
    /// The server is one test's own, which may kill it: nobody waits for it any longer than the product does.
    mortal: bool,
    seeds: AtomicU64,
}

pub(crate) fn with_name(url: &str, name: &str) -> String {
    let (server, rest) = url.rsplit_once('/').expect("a URL with a database");
    let options = rest.split_once('?').map_or("", |(_, options)| options);
    format!("{server}/{name}?{options}")
}

impl TestDatabase {
    /// A copy of the migrated template on the shared servers, with a log identity of its own.
    pub async fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let info = TestServers::shared().await.connection();
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::SeqCst));
        let mut connection = PgConnection::connect(&info.admin_url).await.expect("PostgreSQL answers");
        let create = format!("create database {name} template {TEMPLATE}");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut connection).await.expect("the template is copied");
        connection.close().await.expect("the connection closes");
        let database = Self { mortal: false, ..Self::on(info, &name).await };
        let identity = "update log.head set log_id = gen_random_uuid()";
        sqlx::query(identity).execute(&database.admin).await.expect("the log gets an identity of its own");
        database
    }

    /// A database that exists, on a server of one test's own.
    pub(crate) async fn on(info: &ConnectionInfo, name: &str) -> Self {
        let admin_url = with_name(&info.admin_url, name);
        let admin = PgPoolOptions::new().max_connections(4).connect(&admin_url).await.expect("the database answers");
        let url = with_name(&info.database_url, name);
        Self { admin, admin_url, url, nats_url: info.nats_url.clone(), mortal: true, seeds: AtomicU64::new(1) }
    }

    /// For a test that takes the log away for a while: nobody waits for longer than the product does.
    #[must_use]
    pub const fn impatient(mut self) -> Self {
        self.mortal = true;
        self
    }

    /// Up to four connections under a group role. A busy machine is given more time than the product gives it, to open one and to commit,
    /// where nobody means to take the database away.
    pub fn pool(&self, role: Role) -> PgPool {
        let pool = database::pool(&self.url, role, 4).expect("a URL");
        if self.mortal {
            return pool;
        }
        let options = (*pool.connect_options()).clone();
        pool.options().clone().acquire_timeout(PATIENCE).connect_lazy_with(options)
    }

    /// The write side as one process has it. A second call gives a second process's, with other ids.
    pub fn write_side(&self) -> WriteSide {
        self.write_side_over(&self.url)
    }

    /// The same with its committer on another URL of this database, see [`crate::Proxy`].
    pub fn write_side_over(&self, url: &str) -> WriteSide {
        let options = database::options(url, Role::App).expect("a URL");
        let (news, shutdown) = (committer::News::of_commits(), CancellationToken::new());
        let moved = news.moved.subscribe();
        let (appender, stop) = (PgAppender::new(options), shutdown.clone());
        let (committer, task) = if self.mortal {
            committer::spawn(appender, news.clone(), stop)
        } else {
            committer::spawn_patient(appender, news.clone(), stop, PATIENCE)
        };
        let (clock, ids) = (Arc::new(ManualClock::default()), Arc::new(SeededIds::new(self.seeds.fetch_add(1, Ordering::SeqCst))));
        let handler = CommandHandler::new(self.pool(Role::App), committer.clone(), clock.clone(), ids.clone());
        WriteSide { handler, committer, moved, news, clock, ids, shutdown, task }
    }

    /// A connection to NATS.
    pub async fn nats(&self) -> async_nats::Client {
        api::embedded::connect_nats(&self.nats_url).await.expect("NATS answers")
    }

    /// The log's head.
    pub async fn head(&self) -> LogHead {
        event_store::log_head(&self.admin).await.expect("the log answers")
    }

    /// Tables with a row in which `secret` stands, as text or as bytes: `schema.table`. Statements are logged, and what is looked for must
    /// stand in no line of a log: it goes beside them.
    pub async fn tables_with(&self, secret: &str) -> Vec<String> {
        let all =
            "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname not in ('pg_catalog', 'information_schema')";
        let tables: Vec<String> = sqlx::query_scalar(all).fetch_all(&self.admin).await.expect("the catalog answers");
        assert!(tables.len() > 20, "{tables:?}");
        let (text, bytes) = (format!("%{secret}%"), format!("%{}%", hex::encode(secret)));
        let mut found = Vec::new();
        for table in tables {
            let sql = format!("select exists (select from {table} t where t::text like $1 or t::text like $2)");
            let looked = sqlx::query_scalar(AssertSqlSafe(sql)).bind(&text).bind(&bytes).fetch_one(&self.admin).await;
            if looked.expect("the table answers") {
                found.push(table);
            }
        }
        found
    }

    /// The whole log.
    pub async fn log(&self) -> Vec<RecordedEvent> {
        event_store::read_log(&self.admin, 0, i64::MAX).await.expect("the log answers")
    }
}

/// What one process writes with.
pub struct WriteSide {
    /// Runs use cases.
    pub handler: CommandHandler,
    /// Takes raw items, see [`crate::item`].
    pub committer: Committer,
    /// Follows what this process wrote.
    pub moved: watch::Receiver<i64>,
    /// Whom the committer tells what it wrote.
    pub news: committer::News,
    /// Its clock.
    pub clock: Arc<ManualClock>,
    /// Its ids.
    pub ids: Arc<SeededIds>,
    /// Ends it.
    pub shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl WriteSide {
    /// Stops in order; what was taken in is written first.
    pub async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("the committer stops").expect("the committer did not panic");
    }
}
