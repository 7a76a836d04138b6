//! Every line of log in this process, for tests of what must stand in none.

use std::{
    io,
    sync::{Mutex, MutexGuard, Once, PoisonError},
};

/// What one test listens for.
struct Watch {
    forbidden: &'static [&'static str],
    expected: &'static str,
    found: Vec<String>,
    listening: bool,
}

static WATCHES: Mutex<Vec<Watch>> = Mutex::new(Vec::new());

/// A test that fails while it holds them fails alone.
fn watches() -> MutexGuard<'static, Vec<Watch>> {
    WATCHES.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Lines;

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        for watch in &mut *watches() {
            watch.listening |= text.contains(watch.expected);
            if watch.forbidden.iter().any(|forbidden| text.contains(forbidden)) {
                watch.found.push(text.clone().into_owned());
            }
        }
        Ok(line.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Listens from now on.
pub struct LogWatch(usize);

impl LogWatch {
    /// For these texts, and for one of a line that is known to come.
    pub fn begin(forbidden: &'static [&'static str], expected: &'static str) -> Self {
        static INSTALLED: Once = Once::new();
        INSTALLED.call_once(|| tracing_subscriber::fmt().with_env_filter("debug").with_writer(|| Lines).try_init().unwrap());
        let mut watches = watches();
        watches.push(Watch { forbidden, expected, found: vec![], listening: false });
        Self(watches.len() - 1)
    }

    /// The line that had to come was heard, and no line held one of the texts.
    pub fn heard_nothing(&self) {
        let watch = &watches()[self.0];
        assert!(watch.listening, "log lines are heard");
        assert_eq!(watch.found, [""; 0]);
    }
}
