//! The auditor's command line as a process.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::{TestDatabase, process::built};

/// What `replay --json` said, and how it ended.
#[derive(Debug)]
pub struct Replayed {
    /// 0 sound, 1 something is wrong, 2 cannot be asked, 3 fault.
    pub code: i32,
    /// The lines of the answer without the digest.
    pub lines: Vec<Value>,
    /// The digest at its end; empty when there is none.
    pub digest: String,
    /// Standard error.
    pub errors: String,
}

impl Replayed {
    /// The answer of a run that found nothing wrong.
    #[expect(clippy::must_use_candidate, clippy::return_self_not_must_use, reason = "often only the check is wanted")]
    pub fn sound(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }
}

/// The program beside the test binary's `deps` directory, or the one that `REPLAY_UNDER_TEST` names.
pub fn replay_program() -> PathBuf {
    std::env::var_os("REPLAY_UNDER_TEST").map_or_else(|| built("replay"), PathBuf::from)
}

/// A `replay` command on a database; the owner's URL is known to it too. Not started yet.
pub fn replay_command(database: &TestDatabase, arguments: &[&str]) -> Command {
    let mut command = Command::new(replay_program());
    command.args(arguments).env("DATABASE_URL", &database.url).env("MIGRATE_DATABASE_URL", &database.admin_url).stdin(Stdio::null());
    command
}

/// Runs `replay <arguments> --json` on a database.
pub async fn replay(database: &TestDatabase, arguments: &[&str]) -> Replayed {
    let mut command = replay_command(database, arguments);
    command.arg("--json");
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("the program runs");
    read(&output)
}

fn read(output: &Output) -> Replayed {
    let text = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    let digest = lines.pop_if(|line| line.get("digest").is_some() && line.as_object().is_some_and(|line| line.len() == 1));
    Replayed {
        code: output.status.code().expect("an exit code"),
        lines,
        digest: digest.and_then(|line| line["digest"].as_str().map(str::to_owned)).unwrap_or_default(),
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
