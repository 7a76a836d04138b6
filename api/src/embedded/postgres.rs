//! The embedded PostgreSQL: cluster in `<data>/postgres`, log in `<data>/postgres.log`, TCP on 127.0.0.1 only, and a socket in `<data>/run`
//! for whoever runs beside it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use super::EmbeddedError;
use super::account::{self, Account};
use super::connection::{NAME, write_private};
use super::process::{self, Server, Signal};

pub(super) const PROGRAM: &str = "postgres";
const PROGRAMS: [&str; 2] = ["postgres", "initdb"];
/// Long, because recovery after a crash replays up to `max_wal_size`.
const START_LIMIT: Duration = Duration::from_mins(2);
/// Fast shutdown (checkpoint), immediate shutdown, the end.
const STOP: [(Signal, Duration); 3] =
    [(Signal::Int, Duration::from_secs(5)), (Signal::Quit, Duration::from_secs(1)), (Signal::Kill, Duration::from_secs(1))];

/// A server that nobody stopped in order may have a large checkpoint to write.
const STOP_LEFTOVER: [(Signal, Duration); 1] = [(Signal::Int, Duration::from_secs(20))];

/// Given on the command line at every start: the durable ones cannot be edited away, and a newer release's values reach
/// old directories. Sized for 2 cores and 2 GB.
const SETTINGS: [(&str, &str); 21] = [
    ("listen_addresses", "127.0.0.1"),
    ("max_connections", "200"),
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("shared_buffers", "256MB"),
    ("effective_cache_size", "1GB"),
    ("work_mem", "8MB"),
    ("maintenance_work_mem", "128MB"),
    // Rare, spread checkpoints: each one makes the next write of every page a full page image.
    ("max_wal_size", "2GB"),
    ("checkpoint_timeout", "15min"),
    ("wal_compression", "on"),
    ("random_page_cost", "1.1"),
    // Short statements on two busy cores: neither compiling nor splitting them pays, and parallel workers take their
    // memory from /dev/shm, of which a container has 64 MB.
    ("jit", "off"),
    ("max_parallel_workers_per_gather", "0"),
    // Small hot tables (the log head, checkpoints) gather dead rows fast.
    ("autovacuum_naptime", "15s"),
    // A statement of a platform that was killed ends, and gives up its locks.
    ("client_connection_check_interval", "1s"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
    ("log_line_prefix", "%m [%p] %u@%d "),
    ("cluster_name", NAME),
];

/// How glibc's allocator gives memory back (mallopt(3)): not after every statement, at the next of which the kernel would clear the same pages
/// anew. A backend keeps about 4 MiB that it does not need. What the environment says already stays.
const ALLOCATOR: [(&str, &str); 3] =
    [("MALLOC_TOP_PAD_", "1048576"), ("MALLOC_TRIM_THRESHOLD_", "4194304"), ("MALLOC_MMAP_THRESHOLD_", "4194304")];

/// In place of its own compression, which took 3 % of two busy processors, where the server was built with it.
const LZ4: [(&str, &str); 2] = [("wal_compression", "lz4"), ("default_toast_compression", "lz4")];

/// The server, running or not, and how to run it.
pub(super) struct Postgres {
    bin: PathBuf,
    data_dir: PathBuf,
    account: Option<Account>,
    pub server: Option<Server>,
}

/// Longest path of a socket that a system takes (`sun_path` with its end, unix(7)).
const SOCKET_PATH: usize = 107;

/// Where its socket lives: only the account that it runs as, and root, get in. Nothing when the path would be too long for a socket.
pub(super) fn socket_dir(data_dir: &Path) -> Option<PathBuf> {
    let dir = data_dir.join("run");
    let longest = dir.join(".s.PGSQL.65535");
    // A comma or a quote would be taken for a part of a list.
    (longest.as_os_str().len() <= SOCKET_PATH && !dir.to_string_lossy().contains([',', '"'])).then_some(dir)
}

/// Where the cluster lives.
pub(super) fn cluster_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("postgres")
}

impl Postgres {
    pub fn new(data_dir: &Path, account: Option<Account>) -> Result<Self, EmbeddedError> {
        let bin = process::directory_with(&PROGRAMS, bin_candidates(&cluster_dir(data_dir)))
            .ok_or(EmbeddedError::MissingProgram { program: PROGRAM, package: "postgresql" })?;
        Ok(Self { bin, data_dir: data_dir.to_owned(), account, server: None })
    }

    /// A cluster was created here before.
    pub fn is_initialized(&self) -> bool {
        self.cluster_dir().join("PG_VERSION").is_file()
    }

    fn cluster_dir(&self) -> PathBuf {
        cluster_dir(&self.data_dir)
    }

    /// Creates the cluster: beside its place, then moved there, so that a crash half way leaves nothing to repair.
    pub async fn initialize(&self, admin_password: &str) -> Result<(), EmbeddedError> {
        let fresh = self.data_dir.join("postgres.new");
        if fresh.exists() {
            fs::remove_dir_all(&fresh).map_err(EmbeddedError::data_dir("remove", &fresh))?;
        }
        fs::create_dir(&fresh).map_err(EmbeddedError::data_dir("create", &fresh))?;
        fs::set_permissions(&fresh, Permissions::from_mode(0o700)).map_err(EmbeddedError::data_dir("set the mode of", &fresh))?;
        account::give(&fresh, self.account)?;
        let password_file = self.data_dir.join("postgres.pw");
        write_private(&password_file, admin_password.as_bytes())?;
        account::give(&password_file, self.account)?;

        let initdb = self.bin.join("initdb");
        let mut pwfile = std::ffi::OsString::from("--pwfile=");
        pwfile.push(&password_file);
        let output = process::command(&initdb, self.account, &self.data_dir)
            .args(["--username=postgres", "--encoding=UTF8", "--locale=C"])
            .args(["--auth-host=scram-sha-256", "--auth-local=scram-sha-256", "--data-checksums"])
            .arg(pwfile)
            .arg("--pgdata")
            .arg(&fresh)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .output()
            .await;
        fs::remove_file(&password_file).map_err(EmbeddedError::data_dir("remove", &password_file))?;
        let output = output.map_err(|source| EmbeddedError::Spawn { program: initdb, source })?;
        if !output.status.success() {
            return Err(EmbeddedError::Initdb { output: process::last_lines(&String::from_utf8_lossy(&output.stderr)) });
        }
        let place = self.cluster_dir();
        fs::rename(&fresh, &place).map_err(EmbeddedError::data_dir("put in place", place))
    }

    /// Processes of this cluster, backends included: each works inside the cluster directory.
    fn processes(&self) -> Vec<u32> {
        let dir = self.cluster_dir();
        process::find_processes(PROGRAM, |proc_dir| fs::read_link(proc_dir.join("cwd")).is_ok_and(|cwd| cwd == dir))
    }

    /// Ends servers of an earlier run on this cluster, and backends that outlived a killed postmaster.
    pub async fn end_leftovers(&self) -> Result<(), EmbeddedError> {
        // A fast shutdown is asked of the postmaster alone: to a backend the same signal means "cancel the statement".
        let postmaster = self.postmaster_file();
        let recorded = fs::read_to_string(&postmaster).ok().and_then(|content| content.lines().next()?.trim().parse::<u32>().ok());
        if let Some(pid) = recorded.filter(|pid| self.processes().contains(pid)) {
            let all_of_cluster = || {
                if self.processes().is_empty() { Vec::new() } else { vec![pid] }
            };
            // What does not end in time falls to the wider sweep below.
            let _ = process::end_leftovers(PROGRAM, &STOP_LEFTOVER, all_of_cluster).await;
        }
        process::end_leftovers(PROGRAM, &STOP[1..], || self.processes()).await?;
        // Now that no process of the cluster is left, and the directory lock keeps others out, the file is stale. It must
        // go: once its process id belongs to some other program of the same account (after a restart of a container, or
        // our own nats-server), PostgreSQL would take that for a running postmaster and refuse to start.
        if postmaster.exists() {
            fs::remove_file(&postmaster).map_err(EmbeddedError::data_dir("remove the stale", &postmaster))?;
        }
        Ok(())
    }

    fn postmaster_file(&self) -> PathBuf {
        self.cluster_dir().join("postmaster.pid")
    }

    /// An empty directory for the socket: what a killed server left there could keep the next one from starting, once its process id
    /// belongs to another program.
    fn fresh_socket_dir(&self) -> Result<Option<PathBuf>, EmbeddedError> {
        let Some(dir) = socket_dir(&self.data_dir) else { return Ok(None) };
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(EmbeddedError::data_dir("remove", &dir))?;
        }
        fs::create_dir(&dir).map_err(EmbeddedError::data_dir("create", &dir))?;
        fs::set_permissions(&dir, Permissions::from_mode(0o700)).map_err(EmbeddedError::data_dir("set the mode of", &dir))?;
        account::give(&dir, self.account)?;
        Ok(Some(dir))
    }

    /// Whether this server takes these settings, by its own word: what lies beside a program on the path may be of another.
    async fn takes(&self, settings: &[(&str, &str)]) -> bool {
        let mut command = process::command(&self.bin.join(PROGRAM), self.account, &self.data_dir);
        command.arg("-D").arg(self.cluster_dir());
        for (name, value) in settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let shown = command.args(["-C", "wal_compression"]).stdout(Stdio::null()).stderr(Stdio::null()).status().await;
        shown.is_ok_and(|shown| shown.success())
    }

    /// Starts it and waits until it answers.
    pub async fn start(&mut self, port: u16, admin_url: &str) -> Result<(), EmbeddedError> {
        self.end_leftovers().await?;
        let mut command = process::command(&self.bin.join(PROGRAM), self.account, &self.data_dir);
        command.envs(ALLOCATOR.into_iter().filter(|(name, _)| std::env::var_os(name).is_none()));
        command.arg("-D").arg(self.cluster_dir()).arg("-c").arg(format!("port={port}"));
        let fast = if self.takes(&LZ4).await { &LZ4[..] } else { &[] };
        for (name, value) in SETTINGS.iter().chain(fast) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let sockets = self.fresh_socket_dir()?;
        command.arg("-c").arg(format!("unix_socket_directories={}", sockets.unwrap_or_default().display()));
        let server = Server::spawn(PROGRAM, command, &self.data_dir.join("postgres.log"))?;
        let ready = self.server.insert(server).wait_until_answering(START_LIMIT, || answers(admin_url)).await;
        if ready.is_err() {
            self.stop().await;
        }
        ready
    }

    /// Fast shutdown; harder means when that takes too long.
    pub async fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.stop(&STOP).await;
        }
    }

    /// kill -9 of the postmaster, for fault tests; returns when its backends have noticed and are gone too.
    pub async fn kill(&mut self) -> Result<(), EmbeddedError> {
        let Some(mut server) = self.server.take() else {
            return Ok(());
        };
        server.stop(&STOP[2..]).await;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(2);
        while !self.processes().is_empty() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(process::POLL).await;
        }
        process::end_leftovers(PROGRAM, &STOP[1..], || self.processes()).await
    }
}

/// Creates the runtime role and the database when they are missing.
pub(super) async fn create_database(admin_url: &str, role_password: &str) -> Result<(), EmbeddedError> {
    let mut connection = connect_to_postgres_database(admin_url).await?;
    let role: Option<i32> =
        sqlx::query_scalar("SELECT 1 FROM pg_roles WHERE rolname = $1").bind(NAME).fetch_optional(&mut connection).await?;
    if role.is_none() {
        // A role statement takes no parameters; the password is hex of our own making.
        let create = format!(
            "CREATE ROLE {NAME} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS NOINHERIT \
             PASSWORD '{role_password}'"
        );
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut connection).await?;
    }
    let database: Option<i32> =
        sqlx::query_scalar("SELECT 1 FROM pg_database WHERE datname = $1").bind(NAME).fetch_optional(&mut connection).await?;
    if database.is_none() {
        let create = format!("CREATE DATABASE {NAME} OWNER postgres");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut connection).await?;
    }
    connection.close().await?;
    Ok(())
}

/// The same login on the maintenance database, which exists before ours does.
async fn connect_to_postgres_database(admin_url: &str) -> Result<PgConnection, sqlx::Error> {
    let options: PgConnectOptions = admin_url.parse()?;
    options.database("postgres").connect().await
}

/// False while nothing listens or recovery goes on; an error for every other answer, a refused password for instance.
async fn answers(admin_url: &str) -> Result<bool, EmbeddedError> {
    let attempt = tokio::time::timeout(Duration::from_secs(5), connect_to_postgres_database(admin_url)).await;
    match attempt {
        Ok(Ok(connection)) => {
            connection.close().await?;
            Ok(true)
        }
        // 57P03 cannot_connect_now: starting up, or replaying the log after a crash.
        Ok(Err(sqlx::Error::Database(error))) if error.code().as_deref() != Some("57P03") => Err(sqlx::Error::Database(error).into()),
        Ok(Err(_)) | Err(_) => Ok(false),
    }
}

/// `$SMARTPOS_PG_BIN`, the version an existing cluster was made with, `PATH`, then the newest Debian version.
fn bin_candidates(cluster_dir: &Path) -> Vec<PathBuf> {
    let debian = Path::new("/usr/lib/postgresql");
    let mut candidates: Vec<PathBuf> = std::env::var_os("SMARTPOS_PG_BIN").map(PathBuf::from).into_iter().collect();
    if let Ok(version) = fs::read_to_string(cluster_dir.join("PG_VERSION")) {
        candidates.push(debian.join(version.trim()).join("bin"));
    }
    candidates.extend(process::path_directories());
    let mut versions: Vec<u32> =
        fs::read_dir(debian).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    candidates.extend(versions.into_iter().map(|version| debian.join(version.to_string()).join("bin")));
    candidates
}
