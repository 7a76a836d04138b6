//! The built program as a process: started, killed, waited for.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::eventually;

/// A built program, beside the test binary's `deps` directory.
pub(crate) fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test binary has a path");
    let profile = test.ancestors().nth(2).expect("a target directory");
    let program = profile.join(name);
    assert!(program.is_file(), "{} is not built: run `cargo build --bins` first", program.display());
    program
}

/// Waits until a child has ended: how, and the most memory that it had resident, KiB. Fails, and kills it, after `limit`.
pub async fn ended_with_peak(child: &mut Child, limit: Duration) -> (ExitStatus, u64) {
    let deadline = tokio::time::Instant::now() + limit;
    let mut peak_kib = 0;
    loop {
        // The kernel's own mark, which only rises: all but the last moment of the process is in it.
        peak_kib = peak_kib.max(high_water_kib(child));
        if let Some(status) = child.try_wait().expect("a child can be asked") {
            return (status, peak_kib);
        }
        if tokio::time::Instant::now() > deadline {
            let _ = child.kill();
            panic!("process {} is not done after {limit:?}", child.id());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn high_water_kib(child: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// `smartpos` as a child process; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
    arguments: Vec<String>,
}

impl Process {
    /// The program beside the test binary's `deps` directory, or the one that `PROGRAM_UNDER_TEST` names.
    pub fn program() -> PathBuf {
        std::env::var_os("PROGRAM_UNDER_TEST").map_or_else(|| built("smartpos"), PathBuf::from)
    }

    /// Starts it in `dir` with exactly these additions to the environment; its output goes to `<dir>/<name>.log`.
    pub fn spawn<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        name: &str,
        dir: &Path,
        arguments: &[&str],
        env: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        Self::spawn_program(&Self::program(), name, dir, arguments, env)
    }

    /// The same for another program.
    pub fn spawn_program<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        program: &Path,
        name: &str,
        dir: &Path,
        arguments: &[&str],
        env: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let log = dir.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log).expect("a log file");
        let errors = output.try_clone().expect("a log file");
        let mut command = Command::new(program);
        command.args(arguments).envs(env).current_dir(dir).stdin(Stdio::null()).stdout(output).stderr(errors);
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Self { child: command.spawn().expect("the program starts"), log, arguments }
    }

    /// What it was started with.
    pub fn arguments(&self) -> &[String] {
        &self.arguments
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its exit status, once it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be asked")
    }

    /// kill -9, and waits for its end.
    pub fn kill(&mut self) {
        // Refused only when it has ended already, which is what is wanted.
        let _ = self.child.kill();
        self.child.wait().expect("a killed child ends");
    }

    /// Sends any signal by its name: `TERM`, `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        let kill = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name]).arg(self.id().to_string()).status();
        assert!(kill.expect("a shell").success(), "signal {name} was not delivered");
    }

    /// Waits until it has ended by itself or by a signal.
    pub async fn wait(&mut self, limit: Duration) -> ExitStatus {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            if let Some(status) = self.exited() {
                return status;
            }
            assert!(tokio::time::Instant::now() < deadline, "still running after {limit:?}:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a GET of `url` succeeds; fails at once, with the log, when the process ends first.
    pub async fn wait_for_url(&mut self, url: &str, limit: Duration) {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(2)).build().expect("a client");
        eventually(url, limit, || {
            if let Some(status) = self.exited() {
                panic!("ended with {status} before {url} answered:\n{}", self.log());
            }
            let request = client.get(url).send();
            async { request.await.ok().filter(|answer| answer.status().is_success()).map(drop) }
        })
        .await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
