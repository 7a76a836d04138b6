//! Server processes: finding their programs, starting them without privileges, signalling them, finding those that an
//! earlier run left behind, and reading the end of their logs.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::EmbeddedError;
use super::account::Account;

/// A log that has grown past this many bytes is set aside at the next start.
const LOG_LIMIT: u64 = 16 * 1024 * 1024;
const TAIL_BYTES: u64 = 4096;
const TAIL_LINES: usize = 15;
/// Between two looks at a process or a port.
pub(super) const POLL: Duration = Duration::from_millis(30);

/// Signals by their `kill` names.
#[derive(Debug, Clone, Copy)]
pub(super) enum Signal {
    Int,
    Term,
    Quit,
    Kill,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Int => "INT",
            Self::Term => "TERM",
            Self::Quit => "QUIT",
            Self::Kill => "KILL",
        }
    }
}

/// Sends a signal. A process that is already gone is no error: every caller then looks whether it is.
pub(super) fn send(signal: Signal, pids: &[u32]) {
    if pids.is_empty() {
        return;
    }
    // The shell's own `kill`: the program of that name is not on every minimal system, and a direct call is unsafe code.
    let result = std::process::Command::new("sh")
        .args(["-c", "kill -s \"$0\" \"$@\"", signal.name()])
        .args(pids.iter().map(ToString::to_string))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if let Err(error) = result {
        tracing::warn!(%error, signal = signal.name(), ?pids, "cannot send a signal");
    }
}

/// A command that runs as the account, in its own process group so that Ctrl-C on the terminal reaches only us and we
/// stop the servers in order.
pub(super) fn command(program: &Path, account: Option<Account>, cwd: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(cwd).stdin(Stdio::null()).env("LC_ALL", "C").process_group(0);
    for inherited in ["PGDATA", "PGPORT", "PGOPTIONS", "PGHOST", "NOTIFY_SOCKET"] {
        command.env_remove(inherited);
    }
    if let Some(Account { uid, gid }) = account {
        command.uid(uid).gid(gid);
    }
    command
}

/// A server we started.
pub(super) struct Server {
    name: &'static str,
    child: Child,
    log: PathBuf,
    /// Length of the log before this start.
    log_start: u64,
}

impl Server {
    /// Starts it with both outputs appended to the log file.
    pub fn spawn(name: &'static str, mut command: Command, log: &Path) -> Result<Self, EmbeddedError> {
        let cannot_log = || EmbeddedError::data_dir("open", log);
        if fs::metadata(log).is_ok_and(|meta| meta.len() > LOG_LIMIT) {
            fs::rename(log, log.with_extension("log.1")).map_err(cannot_log())?;
        }
        let stdout = OpenOptions::new().append(true).create(true).mode(0o600).open(log).map_err(cannot_log())?;
        let log_start = stdout.metadata().map_err(cannot_log())?.len();
        let stderr = stdout.try_clone().map_err(cannot_log())?;
        let child = command
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .map_err(|source| EmbeddedError::Spawn { program: command.as_std().get_program().into(), source })?;
        Ok(Self { name, child, log: log.to_owned(), log_start })
    }

    /// `None` once it has been seen to end.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            send(signal, &[pid]);
        }
    }

    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end; false when the limit passed first.
    pub async fn wait(&mut self, limit: Duration) -> bool {
        timeout(limit, self.child.wait()).await.is_ok()
    }

    /// Each signal in turn, with its patience, until the process has ended.
    pub async fn stop(&mut self, signals: &[(Signal, Duration)]) {
        for (signal, patience) in signals {
            self.signal(*signal);
            if self.wait(*patience).await {
                return;
            }
            tracing::warn!(server = self.name, signal = signal.name(), "does not stop in time");
        }
    }

    pub fn not_answering(&self, reason: String) -> EmbeddedError {
        EmbeddedError::NotAnswering { server: self.name, reason, log: self.log.clone(), log_tail: tail(&self.log, self.log_start) }
    }

    /// Asks `answers` again and again until it says yes, the process ends, the limit passes, or it fails for good.
    pub async fn wait_until_answering<F>(&mut self, limit: Duration, mut answers: impl FnMut() -> F) -> Result<(), EmbeddedError>
    where
        F: Future<Output = Result<bool, EmbeddedError>>,
    {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.exited() {
                return Err(self.not_answering(format!("ended while starting ({status})")));
            }
            if answers().await? {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(self.not_answering(format!("did not answer within {} s", limit.as_secs())));
            }
            sleep(POLL).await;
        }
    }
}

/// Processes whose program has this short name and for which `ours` holds, given their `/proc/<pid>` directory.
pub(super) fn find_processes(program: &str, ours: impl Fn(&Path) -> bool) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            let proc_dir = PathBuf::from(format!("/proc/{pid}"));
            fs::read_to_string(proc_dir.join("comm")).is_ok_and(|comm| comm.trim_end() == program) && ours(&proc_dir)
        })
        .collect()
}

/// Ends what `leftovers` finds: each signal in turn, with its patience.
pub(super) async fn end_leftovers(
    server: &'static str,
    signals: &[(Signal, Duration)],
    leftovers: impl Fn() -> Vec<u32>,
) -> Result<(), EmbeddedError> {
    let mut pids = leftovers();
    if pids.is_empty() {
        return Ok(());
    }
    tracing::warn!(server, ?pids, "ending servers that an earlier run left behind");
    for (signal, patience) in signals {
        send(*signal, &pids);
        let deadline = Instant::now() + *patience;
        while !pids.is_empty() && Instant::now() < deadline {
            sleep(POLL).await;
            pids = leftovers();
        }
        if pids.is_empty() {
            return Ok(());
        }
    }
    Err(EmbeddedError::Leftover { server, pids })
}

/// The first of the directories that has all these programs.
pub(super) fn directory_with(programs: &[&str], directories: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    directories.into_iter().find(|dir| programs.iter().all(|program| dir.join(program).is_file()))
}

/// The directories of `PATH`.
pub(super) fn path_directories() -> Vec<PathBuf> {
    std::env::var_os("PATH").as_deref().map(|path: &OsStr| std::env::split_paths(path).collect()).unwrap_or_default()
}

/// The last lines of a text, for an error message.
pub(super) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

fn tail(log: &Path, from: u64) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = fs::File::open(log)?;
        let start = file.metadata()?.len().saturating_sub(TAIL_BYTES).max(from);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    last_lines(&String::from_utf8_lossy(&read().unwrap_or_default()))
}
