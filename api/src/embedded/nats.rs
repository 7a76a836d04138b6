//! The embedded NATS server with JetStream: `<data>/nats.conf`, files in `<data>/nats`, log in `<data>/nats.log`.
//!
//! NATS may lose everything at the price of latency: the log in PostgreSQL feeds it again.

use std::fs::{self, Permissions};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::{Client, ConnectError, ConnectErrorKind, ConnectOptions, ServerAddr};
use tokio::{net::TcpStream, time::Instant};

use super::EmbeddedError;
use super::account::{self, Account};
use super::connection::{NAME, write_private};
use super::process::{self, Server, Signal};

pub(super) const PROGRAM: &str = "nats-server";
/// Reading back the stores of a large stream takes its time after a crash.
const START_LIMIT: Duration = Duration::from_mins(1);
/// How often the owner's watch asks JetStream for a sign of life, how long it waits for one, and how many in a row may be missing.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const SIGN_WITHIN: Duration = Duration::from_secs(1);
const MISSING: u32 = 3;
const STOP: [(Signal, Duration); 2] = [(Signal::Term, Duration::from_secs(5)), (Signal::Kill, Duration::from_secs(2))];

/// Connects with the user and password of the URL. `async_nats::connect` reads only host and port from a URL, so against
/// a server with authorization it is refused.
///
/// # Errors
/// As `async_nats::connect`.
pub async fn connect_nats(url: &str) -> Result<Client, ConnectError> {
    let (options, address) = nats_options(url)?;
    options.connect(address).await
}

/// Options with the credentials of the URL, and its address, for a caller that sets more of them.
///
/// # Errors
/// `ServerParse` when the URL is none.
pub fn nats_options(url: &str) -> Result<(ConnectOptions, ServerAddr), ConnectError> {
    let address: ServerAddr = url.parse().map_err(|error| ConnectError::with_source(ConnectErrorKind::ServerParse, error))?;
    let mut options = ConnectOptions::new();
    match (address.username(), address.password()) {
        (Some(user), Some(password)) => {
            options = options.user_and_password(user.to_owned(), password.to_owned());
        }
        (Some(token), None) => options = options.token(token.to_owned()),
        (None, _) => {}
    }
    Ok((options, address))
}

/// The server, running or not, and how to run it.
pub(super) struct Nats {
    program: PathBuf,
    data_dir: PathBuf,
    account: Option<Account>,
    pub server: Option<Server>,
    /// When JetStream is asked next, and how often in a row it gave no answer.
    look_at: Instant,
    missing: u32,
}

impl Nats {
    pub fn new(data_dir: &Path, account: Option<Account>) -> Result<Self, EmbeddedError> {
        let mut directories = process::path_directories();
        directories.extend(["/usr/sbin", "/usr/local/bin"].map(PathBuf::from));
        let program = process::directory_with(&[PROGRAM], directories)
            .ok_or(EmbeddedError::MissingProgram { program: PROGRAM, package: "nats-server" })?
            .join(PROGRAM);
        Ok(Self { program, data_dir: data_dir.to_owned(), account, server: None, look_at: Instant::now(), missing: 0 })
    }

    /// Ends servers of an earlier run on the same configuration file.
    pub async fn end_leftovers(&self) -> Result<(), EmbeddedError> {
        let config = self.config_path();
        process::end_leftovers(PROGRAM, &STOP, || {
            process::find_processes(PROGRAM, |proc_dir| {
                fs::read(proc_dir.join("cmdline"))
                    .is_ok_and(|cmdline| cmdline.split(|byte| *byte == 0).any(|argument| argument == config.as_os_str().as_encoded_bytes()))
            })
        })
        .await
    }

    /// Starts it and waits until JetStream answers.
    pub async fn start(&mut self, port: u16, password: &str, url: &str) -> Result<(), EmbeddedError> {
        self.missing = 0;
        self.end_leftovers().await?;
        self.write_config(port, password)?;
        let mut command = process::command(&self.program, self.account, &self.data_dir);
        command.arg("--config").arg(self.config_path());
        let server = Server::spawn(PROGRAM, command, &self.data_dir.join("nats.log"))?;
        let ready = self.server.insert(server).wait_until_answering(START_LIMIT, || answers(port, url)).await;
        if ready.is_err() {
            self.stop().await;
        }
        ready
    }

    /// Whether JetStream has given no answer for some seconds. On a full disk it switches itself off, and stays off until the server is
    /// started again.
    pub async fn is_silent(&mut self, port: Option<u16>, url: &str) -> bool {
        let (Some(port), Some(_), true) = (port, &self.server, Instant::now() >= self.look_at) else { return false };
        self.look_at = Instant::now() + LOOK_EVERY;
        let answered = tokio::time::timeout(SIGN_WITHIN, answers(port, url)).await.is_ok_and(|answer| matches!(answer, Ok(true)));
        self.missing = if answered { 0 } else { self.missing + 1 };
        self.missing >= MISSING
    }

    /// SIGTERM, and SIGKILL when that takes too long.
    pub async fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.stop(&STOP).await;
        }
    }

    /// kill -9, for fault tests.
    pub async fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.stop(&STOP[1..]).await;
        }
    }

    fn config_path(&self) -> PathBuf {
        self.data_dir.join("nats.conf")
    }

    fn write_config(&self, port: u16, password: &str) -> Result<(), EmbeddedError> {
        let store = self.data_dir.join("nats");
        fs::create_dir_all(&store).map_err(EmbeddedError::data_dir("create", &store))?;
        fs::set_permissions(&store, Permissions::from_mode(0o700)).map_err(EmbeddedError::data_dir("set the mode of", &store))?;
        account::give(&store, self.account)?;
        // Quoted as JSON quotes, which is how NATS reads a quoted value.
        let store_dir = serde_json::Value::from(store.to_string_lossy()).to_string();
        let config = format!(
            "# Written by smartpos at every start: changes here are lost.\n\
             server_name: {NAME}\n\
             listen: \"127.0.0.1:{port}\"\n\
             jetstream {{ store_dir: {store_dir}, max_memory_store: 256MB }}\n\
             authorization {{ user: {NAME}, password: \"{password}\" }}\n"
        );
        let path = self.config_path();
        write_private(&path, config.as_bytes())?;
        account::give(&path, self.account)
    }
}

/// JetStream answers. Asked without the client's typed account query, which cannot decode the reply of nats-server 2.9.
async fn answers(port: u16, url: &str) -> Result<bool, EmbeddedError> {
    // A closed port needs no client, whose failed attempts would be logged.
    if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
        return Ok(false);
    }
    let account = async {
        let client = connect_nats(url).await.ok()?;
        let reply = client.request("$JS.API.INFO", "".into()).await.ok()?;
        serde_json::from_slice::<serde_json::Value>(&reply.payload).ok()
    };
    Ok(tokio::time::timeout(Duration::from_secs(5), account)
        .await
        .is_ok_and(|account| account.is_some_and(|account| account.get("error").is_none())))
}
