//! PostgreSQL and NATS: one pair for all tests of a process, or one of a test's own to break.

use std::sync::OnceLock;

use api::embedded::{ConnectionInfo, Embedded, EmbeddedConfig};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};

use crate::{ScratchDir, TestDatabase};

/// The migrated database that fresh ones are copied from.
pub(crate) const TEMPLATE: &str = "smartpos_template";

/// The servers that all tests of this process share.
#[derive(Debug)]
pub struct TestServers {
    info: ConnectionInfo,
}

impl TestServers {
    /// Starts them the first time; they end with the process.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceLock<TestServers> = OnceLock::new();
        // The first caller blocks the others' threads for the seconds of an initdb; each test has a runtime of its own.
        tokio::task::spawn_blocking(|| SHARED.get_or_init(Self::start)).await.expect("the servers of the tests start")
    }

    /// They live on a runtime of their own, because the runtime of the test that came first ends with that test.
    fn start() -> Self {
        let (ready, info) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let dir = ScratchDir::new("shared");
                let servers = embedded(&dir).await;
                let info = servers.connection().clone();
                make_template(&info).await;
                ready.send(info).expect("the first test waits");
                std::future::pending::<()>().await;
            });
        });
        Self { info: info.recv().expect("the servers of the tests start") }
    }

    /// How to reach them.
    pub fn connection(&self) -> &ConnectionInfo {
        &self.info
    }
}

async fn embedded(dir: &ScratchDir) -> Embedded {
    let config = EmbeddedConfig { data_dir: dir.path().to_owned() };
    Embedded::start(&config).await.expect("PostgreSQL and NATS start")
}

async fn make_template(info: &ConnectionInfo) {
    let mut connection = PgConnection::connect(&info.admin_url).await.expect("PostgreSQL answers");
    sqlx::raw_sql(AssertSqlSafe(format!("create database {TEMPLATE}"))).execute(&mut connection).await.expect("the template is created");
    connection.close().await.expect("the connection closes");
    let owner = PgPool::connect(&crate::database::with_name(&info.admin_url, TEMPLATE)).await.expect("the template answers");
    commands::database::migrate(&owner, Some("smartpos")).await.expect("the migrations run");
    // A database that someone is connected to cannot be copied.
    owner.close().await;
}

/// Servers of one test's own, to be killed and restarted.
#[derive(Debug)]
pub struct OwnServers {
    /// The servers.
    pub embedded: Embedded,
    /// Last, so that the directory goes after its servers.
    _dir: ScratchDir,
}

impl OwnServers {
    /// Starts them in a new directory.
    pub async fn start(name: &str) -> Self {
        let dir = ScratchDir::new(name);
        Self { embedded: embedded(&dir).await, _dir: dir }
    }

    /// The platform's own database there, migrated.
    pub async fn database(&self) -> TestDatabase {
        let database = TestDatabase::on(self.embedded.connection(), "smartpos").await;
        commands::database::migrate(&database.admin, Some("smartpos")).await.expect("the migrations run");
        database
    }

    /// Another, empty but for the migrations of the log, under this name.
    pub async fn fresh_database(&self, name: &str) -> TestDatabase {
        let info = self.embedded.connection();
        on_maintenance(&info.admin_url, format!("create database {name}")).await;
        let database = TestDatabase::on(info, name).await;
        commands::database::migrate(&database.admin, Some("smartpos")).await.expect("the migrations run");
        database
    }

    /// A [`Self::fresh_database`] that is reached as `smartpos up` reaches its own: by a socket, which no proxy stands before.
    pub async fn near_database(&self, name: &str) -> TestDatabase {
        let mut database = self.fresh_database(name).await;
        database.url = self.embedded.by_socket(&database.url);
        database
    }

    /// Drops a [`Self::fresh_database`] and ends whoever is still connected.
    pub async fn drop_database(database: TestDatabase) {
        database.admin.close().await;
        let name = database.admin_url.rsplit('/').next().and_then(|rest| rest.split('?').next()).expect("a URL with a database");
        on_maintenance(&database.admin_url, format!("drop database {name} with (force)")).await;
    }
}

async fn on_maintenance(admin_url: &str, statement: String) {
    let url = crate::database::with_name(admin_url, "postgres");
    let mut connection = PgConnection::connect(&url).await.expect("PostgreSQL answers");
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.expect("the statement runs");
    connection.close().await.expect("the connection closes");
}
