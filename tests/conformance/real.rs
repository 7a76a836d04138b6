//! PostgreSQL and nats-server themselves.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use commands::{
    bus::Nats,
    database::{self, Role},
    event_log::PgAppender,
};
use projections::LogReader;
use sqlx::PgPool;
use support::{OwnServers, PATIENCE, Proxy, TestDatabase};
use tokio::sync::Mutex;

use crate::stage::Stage;

/// A database and a bus of which nothing else is asked.
pub struct Real<'a> {
    database: TestDatabase,
    proxy: Proxy,
    /// Only those that a script may break.
    servers: Option<&'a Mutex<OwnServers>>,
}

impl<'a> Real<'a> {
    /// A fresh database on the servers that all tests share.
    pub async fn fresh() -> Self {
        Self::over(TestDatabase::new().await, None).await
    }

    /// A fresh database on servers that may be broken.
    pub async fn on(servers: &'a Mutex<OwnServers>, name: &str) -> Self {
        let database = servers.lock().await.fresh_database(name).await;
        Self::over(database, Some(servers)).await
    }

    /// Gives the database up: each one that is there makes recovery slower.
    pub async fn drop(self) {
        OwnServers::drop_database(self.database).await;
    }

    async fn over(database: TestDatabase, servers: Option<&'a Mutex<OwnServers>>) -> Self {
        Self { proxy: Proxy::before(&database.url).await, database, servers }
    }

    fn servers(&self) -> &'a Mutex<OwnServers> {
        self.servers.expect("a script that breaks servers has some of its own")
    }

    /// Kills PostgreSQL, and starts it again once `meanwhile` is done with its directory.
    async fn without_database(&self, meanwhile: impl FnOnce(&Path)) {
        let mut servers = self.servers().lock().await;
        servers.embedded.kill_postgres().await.expect("PostgreSQL is killed");
        meanwhile(&servers.embedded.data_dir().join("postgres"));
        servers.embedded.restart_postgres().await.expect("PostgreSQL starts again");
    }

    /// Kills nats-server, and starts it again once `meanwhile` is done with its store.
    async fn without_bus(&self, meanwhile: impl FnOnce(&Path)) {
        let mut servers = self.servers().lock().await;
        servers.embedded.kill_nats().await;
        meanwhile(&servers.embedded.data_dir().join("nats"));
        servers.embedded.restart_nats().await.expect("nats-server starts again");
    }
}

/// The same pool, which gives a busy machine more time to open a connection than the product gives it. Nobody asks over a pool while the
/// database is away.
fn patient(pool: &PgPool) -> PgPool {
    let options = (*pool.connect_options()).clone();
    pool.options().clone().acquire_timeout(PATIENCE).connect_lazy_with(options)
}

fn copy_of(directory: &Path) -> PathBuf {
    directory.with_extension("copy")
}

/// Replaces `to` by a copy of `from`, rights included.
fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    let copied = Command::new("cp").arg("-a").args([from, to]).status().expect("cp runs");
    assert!(copied.success(), "{} cannot be copied", from.display());
}

fn empty(directory: &Path) {
    for entry in std::fs::read_dir(directory).expect("the store is there").flatten() {
        std::fs::remove_dir_all(entry.path()).expect("the store can be emptied");
    }
}

impl Stage for Real<'_> {
    type Log = PgPool;
    type Source = LogReader;
    type Appender = PgAppender;
    type Bus = Nats;
    type Feed = async_nats::Client;

    fn log(&self) -> PgPool {
        patient(&self.database.pool(Role::Worker))
    }

    fn processes(&self) -> PgPool {
        patient(&database::pool_of_derived(&self.database.url, 2).expect("a URL"))
    }

    fn source(&self) -> LogReader {
        LogReader::new(self.log())
    }

    fn appender(&self) -> PgAppender {
        PgAppender::new(database::options(self.proxy.url(), Role::App).expect("a URL"))
    }

    async fn bus(&self) -> Nats {
        Nats::new(self.database.nats().await)
    }

    async fn feed(&self) -> async_nats::Client {
        self.database.nats().await
    }

    async fn install(&self) {
        projections::install::install(&self.database.admin).await.expect("the read models are made");
    }

    async fn call_backs(&self) -> Vec<(String, String, i32)> {
        let sql = "select delivery_id, state, deliveries from process.webhook order by delivery_id collate \"C\"";
        sqlx::query_as(sql).fetch_all(&self.log()).await.expect("the database answers")
    }

    fn lose_answers(&self, lost: bool) {
        if lost { self.proxy.swallow_answer() } else { self.proxy.heal() }
    }

    async fn kill_database(&self) {
        self.without_database(|_| ()).await;
    }

    async fn keep_copy(&self) {
        self.without_database(|directory| copy(directory, &copy_of(directory))).await;
    }

    async fn restore_copy(&self) {
        self.without_database(|directory| copy(&copy_of(directory), directory)).await;
    }

    async fn kill_bus(&self) {
        self.without_bus(|_| ()).await;
    }

    async fn keep_bus_copy(&self) {
        self.without_bus(|store| copy(store, &copy_of(store))).await;
    }

    async fn restore_bus_copy(&self, _messages: usize) {
        self.without_bus(|store| copy(&copy_of(store), store)).await;
    }

    async fn wipe_bus(&self) {
        self.without_bus(empty).await;
    }
}
