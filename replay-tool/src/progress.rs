//! A bar with the time left, on standard error, and only when that is a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shows how far a long piece of work is. Gone when dropped.
pub struct Progress(ProgressBar);

impl Progress {
    /// `what` in one word; of `total` positions.
    pub fn new(what: &'static str, total: i64) -> Self {
        // Standard error that is no terminal stays silent.
        let bar = ProgressBar::with_draw_target(Some(total.unsigned_abs()), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{msg} [{bar:32}] {human_pos} of {human_len}, {per_sec}, {eta} left");
        // The template is a constant; the default bar would do as well.
        // Nothing is drawn before something is known.
        Self(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())).with_message(what))
    }

    /// This far.
    pub fn at(&self, position: i64) {
        self.0.set_position(position.unsigned_abs());
    }

    /// So much more.
    pub fn more(&self, positions: i64) {
        self.0.inc(positions.unsigned_abs());
    }

    /// This far, of this much.
    pub fn at_of(&self, position: i64, total: i64) {
        self.0.set_length(total.unsigned_abs());
        self.at(position);
    }

    /// So many, of so many that are known.
    pub fn of(&self, done: usize, known: usize) {
        self.at_of(i64::try_from(done).unwrap_or(i64::MAX), i64::try_from(known).unwrap_or(i64::MAX));
    }

    /// Does something that writes to a terminal, on which the bar may stand, too.
    pub fn beside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.0.suspend(write)
    }

    /// Another stage of the work, with another measure.
    pub fn stage(&self, what: impl Into<String>, total: i64) {
        self.0.set_length(total.unsigned_abs());
        self.0.reset();
        self.0.set_message(what.into());
    }

    /// So far in this stage of the work, which begins with the first word of it.
    pub fn stage_at(&self, what: &str, done: i64, total: i64) {
        if self.0.message() != what {
            self.stage(what, total);
        }
        self.at_of(done, total);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
