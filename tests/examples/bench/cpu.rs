//! Where processor time and memory go, process by process.

use std::{collections::BTreeMap, fs, time::Duration};

/// Processor time used so far by processes and by what they have started.
#[derive(Debug, Clone, Default)]
pub struct Usage(BTreeMap<&'static str, Duration>);

impl Usage {
    /// Of each named process with all its children, as far as they live or were waited for.
    pub fn of(named: &[(&'static str, u32)]) -> Self {
        let all = processes();
        let tree = |root: u32| all.iter().filter(|process| process.pid == root || process.parent == root).map(|process| process.used).sum();
        Self(named.iter().map(|(name, pid)| (*name, tree(*pid))).collect())
    }

    /// What was used since `before`, by name, in microseconds for each of `count` things.
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    pub fn each(&self, before: &Self, count: u64) -> Vec<(&'static str, f64)> {
        let since = |name: &str, used: &Duration| used.saturating_sub(before.0.get(name).copied().unwrap_or_default());
        self.0.iter().map(|(name, used)| (*name, since(name, used).as_secs_f64() * 1e6 / count.max(1) as f64)).collect()
    }
}

struct Process {
    pid: u32,
    parent: u32,
    used: Duration,
}

fn processes() -> Vec<Process> {
    let ids = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter_map(read).collect()
}

/// `/proc/<pid>/stat`: after the name in brackets come state, parent, …, utime, stime, cutime, cstime (ticks of 10 ms).
fn read(pid: u32) -> Option<Process> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Some(Process { pid, parent: fields.get(1)?.parse().ok()?, used: Duration::from_millis(ticks * 10) })
}

/// Resident memory of a process in KiB: now (`VmRSS`) or at most so far (`VmHWM`).
pub fn resident_kib(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
