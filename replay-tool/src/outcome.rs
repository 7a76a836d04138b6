//! How a run ends: what was found, or why nothing could be found; and the exit codes of both.

use std::process::ExitCode;

use serde_json::json;

/// What an answered question says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// Nothing is wrong. Exit code 0.
    Sound,
    /// Something is. Exit code 1.
    Wrong,
}

impl Finding {
    /// `Sound` when `good`.
    pub const fn sound_if(good: bool) -> Self {
        if good { Self::Sound } else { Self::Wrong }
    }
}

/// Why a question has no answer.
#[derive(Debug)]
pub enum Failure {
    /// It cannot be asked like this: something in the command line, or something that it names does not exist. Exit code 2.
    Usage(String),
    /// Something on the way to the answer failed. Exit code 3.
    Fault(anyhow::Error),
}

/// What every verb gives.
pub type Verdict = Result<Finding, Failure>;

impl Failure {
    /// A question that cannot be asked.
    pub fn usage(why: impl Into<String>) -> Self {
        Self::Usage(why.into())
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Fault(error.into())
    }
}

/// The exit code; a failure is told on standard error, in JSON when that was asked for.
pub fn exit(json: bool, verdict: Verdict) -> ExitCode {
    match verdict {
        Ok(Finding::Sound) => ExitCode::SUCCESS,
        Ok(Finding::Wrong) => ExitCode::from(1),
        Err(failure) => {
            tell_failure(json, &failure);
            ExitCode::from(match failure {
                Failure::Usage(_) => 2,
                Failure::Fault(_) => 3,
            })
        }
    }
}

/// Tells a failure on standard error, in JSON when that was asked for.
pub fn tell_failure(json: bool, failure: &Failure) {
    match failure {
        Failure::Usage(why) => tell(json, "usage", why),
        // Whoever read the output has gone: there is nobody to tell.
        Failure::Fault(error) if is_closed_pipe(error) => {}
        Failure::Fault(error) => tell(json, "fault", &format!("{error:#}")),
    }
}

/// Tells something on standard error, in JSON when that was asked for.
pub fn tell(json: bool, kind: &str, what: &str) {
    if json {
        eprintln!("{}", json!({"error": kind, "what": what}));
    } else {
        eprintln!("replay: {what}");
    }
}

/// Something is wrong at a position, so that there is no document; told on standard error, since standard output is for the document.
pub fn wrong(json: bool, position: i64, what: &str) -> Finding {
    if json {
        eprintln!("{}", json!({"error": "wrong", "position": position, "what": what}));
    } else {
        eprintln!("replay: position {position}: {what}");
    }
    Finding::Wrong
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
