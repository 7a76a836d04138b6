//! Real servers in a temporary directory. One cluster serves a whole sequence, because each `initdb` takes seconds.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use sqlx::{Connection, PgConnection};

use super::*;

struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("smartpos-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    fn config(&self) -> EmbeddedConfig {
        EmbeddedConfig { data_dir: self.0.clone() }
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Embedded {
    /// As if the owner had been killed: the servers live on, the lock is free, the file still says "ready".
    fn abandon(mut self) -> (u32, u32) {
        let pids = (self.postgres_pid().unwrap(), self.nats_pid().unwrap());
        self.postgres.server = None;
        self.nats.server = None;
        pids
    }
}

async fn scalar<T>(url: &str, sql: &'static str) -> T
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin + 'static,
{
    let mut connection = PgConnection::connect(url).await.unwrap();
    let value = sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    value
}

async fn execute(url: &str, sql: &'static str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

fn is_alive(pid: u32) -> bool {
    // A zombie's command line is empty: it has ended, only nobody has asked for its status yet.
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|cmdline| !cmdline.is_empty())
}

async fn both_urls_answer(embedded: &Embedded) {
    for url in [embedded.admin_url(), embedded.database_url()] {
        assert_eq!(scalar::<i32>(url, "SELECT 1").await, 1);
    }
    let role: String = scalar(embedded.database_url(), "SELECT current_user::text").await;
    assert_eq!(role, "smartpos");
    let privileged: bool = scalar(
        embedded.database_url(),
        "SELECT rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication \
         FROM pg_roles WHERE rolname = current_user",
    )
    .await;
    assert!(!privileged);
}

/// By its socket the same server asks for the same password, and nobody but its account and root gets to the socket.
async fn the_socket_answers_its_owner(embedded: &Embedded) {
    let by_socket = embedded.by_socket(embedded.database_url());
    assert!(!by_socket.contains("127.0.0.1"), "the directory's name is short enough");
    let client: Option<String> = scalar(&by_socket, "SELECT inet_client_addr()::text").await;
    assert_eq!(client, None);
    let wrong = by_socket.replacen(':', ":x", 2).replacen(":x//", "://", 1);
    assert!(PgConnection::connect(&wrong).await.is_err(), "another password");
    let dir = postgres::socket_dir(embedded.data_dir()).unwrap();
    assert_eq!(std::fs::metadata(dir).unwrap().permissions().mode() & 0o777, 0o700);
}

async fn settings_are_durable(embedded: &Embedded) {
    let unsafe_settings: i64 = scalar(
        embedded.admin_url(),
        "SELECT count(*) FROM pg_settings WHERE setting <> 'on' \
         AND name IN ('fsync', 'synchronous_commit', 'full_page_writes', 'data_checksums')",
    )
    .await;
    assert_eq!(unsafe_settings, 0);
}

/// However it was found: by a link on the path too, beside which nothing tells how it was built.
async fn what_is_large_is_compressed_by_the_fast_way_where_there_is_one(embedded: &Embedded) {
    let slow: i64 = scalar(
        embedded.admin_url(),
        "SELECT count(*) FROM pg_settings WHERE name IN ('wal_compression', 'default_toast_compression') \
         AND 'lz4' = ANY (enumvals) AND setting <> 'lz4'",
    )
    .await;
    assert_eq!(slow, 0);
}

async fn jetstream_keeps_and_refuses(embedded: &Embedded) {
    let jetstream = async_nats::jetstream::new(connect_nats(embedded.nats_url()).await.unwrap());
    jetstream
        .create_stream(async_nats::jetstream::stream::Config { name: "kept".into(), subjects: vec!["kept.>".into()], ..Default::default() })
        .await
        .unwrap();
    let ack = jetstream.publish("kept.one", "1".into()).await.unwrap();
    ack.await.unwrap();
    let (_, credentials) = embedded.nats_url().split_once("//").unwrap();
    let (_, address) = credentials.split_once('@').unwrap();
    assert!(async_nats::connect(address).await.is_err(), "no password");
}

/// Waits until nobody holds the lock: a child that another test starts in this moment has a copy of it until it becomes its program.
async fn nobody_holds(dir: &TempDir) {
    for _ in 0..500 {
        if !data_dir::is_locked(&dir.0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the lock is held after ten seconds");
}

async fn second_owner_is_refused(dir: &TempDir) {
    let refused = Embedded::start(&dir.config()).await.unwrap_err();
    assert!(matches!(refused, EmbeddedError::Locked { owner: Some(pid), .. } if pid == std::process::id()));
    assert!(refused.to_string().contains("already runs on"));
}

fn running_platform_is_found(dir: &TempDir, embedded: &Embedded) {
    let found = running_connection(&dir.0).unwrap();
    assert_eq!(&found, embedded.connection());
    write_api_url(&dir.0, "http://127.0.0.1:8080").unwrap();
    let found = running_connection(&dir.0).unwrap();
    assert_eq!(found.api_url.as_deref(), Some("http://127.0.0.1:8080"));
    let mode = std::fs::metadata(connection::path(&dir.0)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_path_that_is_too_long_for_a_socket_has_none() {
    assert!(postgres::socket_dir(std::path::Path::new("/var/lib/smartpos")).is_some());
    assert!(postgres::socket_dir(&PathBuf::from("/").join("x".repeat(100))).is_none());
    assert!(postgres::socket_dir(std::path::Path::new("/var/lib/smart,pos")).is_none());
}

#[tokio::test]
async fn servers_keep_data_ports_and_one_owner_through_stops_kills_and_leftovers() {
    let dir = TempDir::new("embedded");
    assert!(running_connection(&dir.0).is_none());
    let mut embedded = Embedded::start(&dir.config()).await.unwrap();
    let urls = embedded.connection().clone();

    both_urls_answer(&embedded).await;
    the_socket_answers_its_owner(&embedded).await;
    settings_are_durable(&embedded).await;
    what_is_large_is_compressed_by_the_fast_way_where_there_is_one(&embedded).await;
    jetstream_keeps_and_refuses(&embedded).await;
    second_owner_is_refused(&dir).await;
    running_platform_is_found(&dir, &embedded);

    // A crash of PostgreSQL, with a backend at work, keeps what was committed.
    execute(&urls.admin_url, "CREATE TABLE kept AS SELECT 1 AS n").await;
    let mut connection = PgConnection::connect(&urls.admin_url).await.unwrap();
    let busy = tokio::spawn(async move { sqlx::raw_sql("SELECT pg_sleep(60)").execute(&mut connection).await });
    while scalar::<i64>(&urls.admin_url, "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'").await == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    embedded.kill_postgres().await.unwrap();
    assert!(busy.await.unwrap().is_err());
    assert_eq!(embedded.postgres_pid(), None);
    embedded.restart_postgres().await.unwrap();
    assert_eq!(scalar::<i32>(&urls.admin_url, "SELECT n FROM kept").await, 1);

    // So does a crash of NATS; the watch loop brings back what has died.
    embedded.kill_nats().await;
    assert_eq!(embedded.revive().await.unwrap(), ["nats-server"]);
    assert!(embedded.revive().await.unwrap().is_empty());

    // An orderly stop leaves nothing running and no address behind.
    let pids = (embedded.postgres_pid().unwrap(), embedded.nats_pid().unwrap());
    embedded.stop().await.unwrap();
    assert!(!is_alive(pids.0) && !is_alive(pids.1));
    assert!(running_connection(&dir.0).is_none());
    nobody_holds(&dir).await;

    // Stop and start: the same data on the same ports with the same passwords.
    let embedded = Embedded::start(&dir.config()).await.unwrap();
    assert_eq!(embedded.connection(), &urls);
    assert_eq!(scalar::<i32>(&urls.admin_url, "SELECT n FROM kept").await, 1);
    let jetstream = async_nats::jetstream::new(connect_nats(&urls.nats_url).await.unwrap());
    let mut stream = jetstream.get_stream("kept").await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.messages, 1);

    // The owner is killed, its servers live on: the next start replaces them on the same ports.
    let old = embedded.abandon();
    assert!(is_alive(old.0) && is_alive(old.1));
    nobody_holds(&dir).await;
    assert!(running_connection(&dir.0).is_none());
    let embedded = Embedded::start(&dir.config()).await.unwrap();
    assert!(!is_alive(old.0) && !is_alive(old.1));
    assert_eq!(embedded.connection(), &urls);
    both_urls_answer(&embedded).await;

    // Dropped without a stop: the next start waits for the end of what is shutting down.
    drop(embedded);
    nobody_holds(&dir).await;
    let embedded = Embedded::start(&dir.config()).await.unwrap();
    assert_eq!(scalar::<i32>(&urls.admin_url, "SELECT n FROM kept").await, 1);
    embedded.stop().await.unwrap();
}

/// On a full disk nats-server switches JetStream off, and keeps it off when there is space again: alive, and as good as dead.
#[tokio::test]
async fn a_jetstream_that_gives_no_answer_any_more_is_started_again() {
    let dir = TempDir::new("silent");
    let mut embedded = Embedded::start(&dir.config()).await.unwrap();
    let silent = embedded.nats_pid().unwrap();
    let paused = std::process::Command::new("sh").args(["-c", "kill -s STOP \"$0\"", &silent.to_string()]).status();
    assert!(paused.unwrap().success());
    let revived = async {
        loop {
            let revived = embedded.revive().await.unwrap();
            if !revived.is_empty() {
                return revived;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(120), revived).await.unwrap(), ["nats-server"]);
    assert_ne!(embedded.nats_pid().unwrap(), silent);
    assert!(embedded.revive().await.unwrap().is_empty());
    embedded.stop().await.unwrap();
}

#[tokio::test]
async fn a_database_without_its_passwords_is_not_touched() {
    let dir = TempDir::new("credentials-lost");
    let cluster = postgres::cluster_dir(&dir.0);
    std::fs::create_dir_all(&cluster).unwrap();
    std::fs::write(cluster.join("PG_VERSION"), "15\n").unwrap();
    let refused = Embedded::start(&dir.config()).await.unwrap_err();
    assert!(matches!(refused, EmbeddedError::CredentialsLost { .. }));
}

#[tokio::test]
async fn a_server_that_does_not_come_up_shows_the_end_of_its_log() {
    let dir = TempDir::new("broken");
    ConnectionFile::generate()
        .and_then(|file| {
            data_dir::create(&dir.0)?;
            file.save(&dir.0)
        })
        .unwrap();
    let cluster = postgres::cluster_dir(&dir.0);
    std::fs::create_dir_all(&cluster).unwrap();
    std::fs::write(cluster.join("PG_VERSION"), "15\n").unwrap();
    let account = account::choose(&cluster).unwrap();
    account::give(&cluster, account).unwrap();
    let refused = Embedded::start(&dir.config()).await.unwrap_err();
    assert!(matches!(&refused, EmbeddedError::NotAnswering { log_tail, .. } if log_tail.contains("postgres")), "{refused}");
}

#[tokio::test]
async fn root_is_told_which_directory_its_servers_cannot_enter() {
    if !account::running_as_root() {
        return;
    }
    let dir = TempDir::new("unreachable");
    std::fs::create_dir_all(&dir.0).unwrap();
    std::fs::set_permissions(&dir.0, std::fs::Permissions::from_mode(0o700)).unwrap();
    let config = EmbeddedConfig { data_dir: dir.0.join("data") };
    let refused = Embedded::start(&config).await.unwrap_err();
    assert!(matches!(&refused, EmbeddedError::Unreachable { path, .. } if *path == dir.0));
}
