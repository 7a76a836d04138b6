//! Directories that are gone when the test process is, however it ends.

use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Waits for the end of its input, which comes when the test process ends; then ends every process that works inside the
/// directory (SIGQUIT, at which PostgreSQL saves nothing, then SIGKILL), unmounts what is mounted there and removes it. All processes
/// are looked at by one: one more for each was a fifth of the processor time of all these tests.
const WATCHDOG: &str = r#"
dir=$1
inside() { find /proc/[0-9]*/cwd -maxdepth 0 '(' -lname "$dir" -o -lname "$dir/*" ')' -printf '%h\n' 2>/dev/null; }
end() { for entry in $(inside); do kill -s "$1" "${entry#/proc/}" 2>/dev/null; done; }
while read -r _; do :; done
end QUIT
tries=0
while [ -n "$(inside)" ] && [ "$tries" -lt 40 ]; do sleep 0.1; tries=$((tries + 1)); done
end KILL
while [ -n "$(inside)" ] && [ "$tries" -lt 80 ]; do sleep 0.1; tries=$((tries + 1)); done
while read -r _ place _; do case "$place" in "$dir"/*) umount -l "$place";; esac; done </proc/mounts
rm -rf -- "$dir"
"#;

/// A directory of its own under the system's temporary directory. When it is dropped, or the test process ends in any way,
/// processes that work in it are ended, what is mounted in it is unmounted, and it is removed.
#[derive(Debug)]
pub struct ScratchDir {
    path: PathBuf,
    watchdog: Child,
    /// The pipe whose closing wakes the watchdog.
    alive: Option<ChildStdin>,
}

impl ScratchDir {
    /// A new directory; `name` is for people.
    pub fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("smartpos-test-{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
        let root = std::env::temp_dir().canonicalize().expect("a temporary directory");
        let path = root.join(unique);
        // Left by an earlier process of the same number whose watchdog was killed too.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).expect("a new directory in the temporary directory");
        let mut watchdog = Command::new("sh");
        watchdog.args(["-c", WATCHDOG, "watchdog"]).arg(&path).current_dir("/");
        watchdog.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // A Ctrl-C on the terminal ends the tests, not the one who cleans up after them.
        std::os::unix::process::CommandExt::process_group(&mut watchdog, 0);
        let mut watchdog = watchdog.spawn().expect("a shell");
        let alive = watchdog.stdin.take();
        Self { path, watchdog, alive }
    }

    /// Where it is, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        drop(self.alive.take());
        let _ = self.watchdog.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_directory_takes_its_processes_with_it() {
        let dir = ScratchDir::new("own");
        let path = dir.path().to_owned();
        std::fs::write(path.join("file"), "x").unwrap();
        let mut inside = Command::new("sleep").arg("600").current_dir(&path).spawn().unwrap();
        drop(dir);
        assert!(!inside.wait().unwrap().success());
        assert!(!path.exists());
    }
}
