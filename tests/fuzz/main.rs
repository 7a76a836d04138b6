//! Fuzzing of everything that reads bytes from outside: requests, call-backs, answers of providers, codes, files, proofs.
//!
//! Each target is a test, and runs for a moment with `cargo test`; `FUZZ_SECONDS=60` gives each target a minute. Inputs are
//! samples (`corpus/<target>/`) with a few edits, see [`edits`], so that plain random ones get deep, too. With `cargo-bolero`
//! installed, `cargo bolero test -p tests <target>` lets the coverage of the code choose the edits.
//!
//! A target judges more than "no panic": what is accepted must be worth it. It also fails when nothing was accepted or
//! nothing refused, because then it has seen nothing. A failure prints `BOLERO_RANDOM_SEED=…`, which repeats it.
//!
//! **To add a target**: a test in the file of its subject with the `fuzz!` macro, a folder with samples, a line in
//! `docs/reliability.md`. **A finding** becomes a test with its smallest input beside the code that it was found in.

#[cfg(test)]
mod bodies;
#[cfg(test)]
mod call_backs;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod edits;
#[cfg(test)]
mod events;
#[cfg(test)]
mod imports;
#[cfg(test)]
mod numbers;
#[cfg(test)]
mod promptpay;
#[cfg(test)]
mod proofs;
#[cfg(test)]
mod provider_answers;
#[cfg(test)]
mod queries;
#[cfg(test)]
mod sockets;
#[cfg(test)]
mod texts;
#[cfg(test)]
mod world;

use std::{
    panic::{AssertUnwindSafe, RefUnwindSafe},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// How long one target runs: `FUZZ_SECONDS`, or else `usual_ms`.
fn time_for(usual_ms: u64) -> Duration {
    let told = std::env::var("FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    told.map_or(Duration::from_millis(usual_ms), Duration::from_secs)
}

/// What judges an input, as the front end wants it. A panic is the end of a target; what it leaves half done is of use to nobody.
fn judge_of(check: impl Fn(&edits::Input)) -> impl Fn(&edits::Input) + RefUnwindSafe {
    let check = AssertUnwindSafe(check);
    move |input| {
        let check = &check;
        (**check)(input);
    }
}

/// Runs a target over edited samples for its time. It must stand in the test function itself: its name is the target's.
macro_rules! fuzz {
    ($usual_ms:expr, $samples:expr, $check:expr) => {
        bolero::check!()
            .with_test_time($crate::time_for($usual_ms))
            .with_iterations(usize::MAX)
            .with_generator($samples)
            .for_each($crate::judge_of($check))
    };
}
pub(crate) use fuzz;

/// What became of the inputs.
#[derive(Default)]
struct Tally {
    accepted: AtomicU64,
    refused: AtomicU64,
}

impl Tally {
    fn accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// A target that never said yes, or never no, has tested nothing.
    fn has_seen_both(&self, target: &str) {
        let (accepted, refused) = (self.accepted.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed));
        println!("{target}: {accepted} accepted, {refused} refused");
        assert!(accepted > 0 && refused > 0, "{target}: {accepted} accepted, {refused} refused");
    }
}
