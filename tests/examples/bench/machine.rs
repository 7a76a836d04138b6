//! The machine and the programs that the figures belong to.

use std::{fs, process::Command};

use serde::Serialize;

/// What a figure depends on.
#[derive(Debug, Serialize)]
pub struct Machine {
    cpu: String,
    cores: usize,
    memory_mib: u64,
    kernel: String,
    postgresql: String,
    nats: String,
    rustc: String,
    load_before: String,
}

impl Machine {
    /// Looks around.
    pub fn here() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let after_colon = |text: &str, name: &str| {
            text.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
        };
        let kib = after_colon(&meminfo, "MemTotal").and_then(|value| value.split(' ').next()?.parse::<u64>().ok()).unwrap_or(0);
        Self {
            cpu: after_colon(&cpuinfo, "model name").unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: kib / 1024,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            postgresql: version("postgres"),
            nats: version("nats-server"),
            rustc: version("rustc"),
            load_before: fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned(),
        }
    }

    /// One paragraph.
    pub fn description(&self) -> String {
        format!(
            "Machine: {} × {}, {} MiB, Linux {}; {}; {}; {}. Load before the run (`/proc/loadavg`): {}.",
            self.cores, self.cpu, self.memory_mib, self.kernel, self.postgresql, self.nats, self.rustc, self.load_before
        )
    }
}

/// What a program says of itself, in one line.
fn version(program: &str) -> String {
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path().join("bin").join(program));
    let candidates = debian.chain([program.into()]);
    let answer = candidates.into_iter().find_map(|path| Command::new(path).arg("--version").output().ok());
    answer.map_or_else(|| format!("{program} unknown"), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
