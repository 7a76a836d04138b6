//! `replay verify`.

use std::{cell::Cell, io, path::PathBuf};

use clap::Args;
use projections::{
    LogReader,
    checkpoint::SignedCheckpoint,
    verify::{
        Problem, Stage, VerifyReport,
        against::{Comparison, compare},
        verify_against,
    },
};
use serde_json::json;
use sqlx::PgPool;

use crate::{
    answer::Answer,
    export_file::ExportFile,
    files::{self, PublicKey},
    outcome::{self, Failure, Finding, Verdict},
    progress::Progress,
    session::Session,
};

/// Arguments of `verify`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  replay verify
  replay verify --checkpoint 2026-05-01.json --checkpoint 2026-06-01.json --public-key auditor.pub
  replay verify --json --connections 8
  replay verify --against may.jsonl

Finds whatever leaves a hash, a version, a head or a count as it was. Who owns the database can recompute all of them: only what
was kept elsewhere before that shows it. A checkpoint shows that it was done; an export shows where.
Every problem names the first and last position that it may concern.

--against proves that each event of the export still stands in the log at its position, at its time, the same in every column that
its hash covers (all but those two), and that nothing was put between them: whatever of the range was replaced, put in, removed or
moved is named at its position. When something before the range was put in or removed, it says by how much all of the range moved.
It says nothing of what came after the export, nor of the file: keep that, or the SHA-256 that `export` told and that is told here
again, where the owner of the database cannot change it. With --json an export is named by its SHA-256; exports are answered in the order
in which they are given.")]
pub struct VerifyArgs {
    /// A signed checkpoint (a file made by `replay checkpoint`) that the log must hold to; may be repeated.
    #[arg(long, value_name = "FILE", requires = "public_key")]
    checkpoint: Vec<PathBuf>,
    /// Key of the checkpoints' publisher: 64 hex digits, or a file that holds them. Get it from the publisher, not from here.
    #[arg(long, value_name = "KEY")]
    public_key: Option<PublicKey>,
    /// An export made before (JSON lines, by `replay export`), whose events the log must still hold; may be repeated.
    #[arg(long, value_name = "FILE")]
    against: Vec<PathBuf>,
}

/// Verifies the log, and tells what it found before it turns to the exports: a file that is no export must not hide it.
///
/// # Errors
/// `Usage` for a checkpoint that is none or not to be trusted, and for a file that is no export; `Fault` when the log cannot be read.
pub async fn run(session: &Session, args: VerifyArgs) -> Verdict {
    let checkpoints = trusted(&args)?;
    let exports = args.against.iter().map(|path| ExportFile::open(path)).collect::<Result<Vec<_>, _>>()?;
    let pool = session.reader().await?;
    let report = verified(session, &pool, &checkpoints).await?;
    let mut answer = session.answer();
    for problem in &report.problems {
        answer.line(&json!(problem), &format!("{}: {}", place(problem), problem.what))?;
    }
    print_summary(&mut answer, &report)?;
    answer.flush()?;
    let (mut sound, mut failures) = (report.is_sound(), Vec::new());
    for export in exports {
        match Compared::with(&pool, export).await {
            Ok(compared) => {
                compared.print(&mut answer)?;
                sound &= compared.found.problems.is_empty();
            }
            Err(failure) => failures.push(failure),
        }
    }
    ended(session, answer, sound, failures)
}

/// The end of an answer, in which what was found counts for more than what could not be compared.
fn ended(session: &Session, mut answer: Answer, sound: bool, failures: Vec<Failure>) -> Verdict {
    if failures.is_empty() {
        answer.finish()?;
        return Ok(Finding::sound_if(sound));
    }
    // No digest: it is not the whole answer.
    answer.flush()?;
    let mut failures = failures.into_iter();
    let last = if sound { failures.next_back() } else { None };
    for failure in failures {
        outcome::tell_failure(session.json, &failure);
    }
    last.map_or(Ok(Finding::Wrong), Err)
}

/// The checkpoints, which the given key signed.
fn trusted(args: &VerifyArgs) -> Result<Vec<SignedCheckpoint>, Failure> {
    let mut checkpoints = Vec::new();
    for (file, key) in args.checkpoint.iter().zip(std::iter::repeat(args.public_key)) {
        let signed = files::checkpoint(file)?;
        let key = key.ok_or_else(|| Failure::usage("give --public-key"))?;
        signed.verify(&key.0).map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
        checkpoints.push(signed);
    }
    Ok(checkpoints)
}

async fn verified(session: &Session, pool: &PgPool, checkpoints: &[SignedCheckpoint]) -> Result<VerifyReport, Failure> {
    let head = LogReader::new(pool.clone()).head().await?;
    let (progress, second) = (Progress::new("verify", head.pos), Cell::new(false));
    let show = |stage| match stage {
        Stage::Log(position) => progress.at(position),
        Stage::Streams(events) => {
            if !second.replace(true) {
                progress.stage("streams", head.pos);
            }
            progress.at(events);
        }
    };
    Ok(verify_against(pool, session.connections, checkpoints, show).await?)
}

fn place(problem: &Problem) -> String {
    if problem.until == problem.position {
        format!("position {}", problem.position)
    } else {
        format!("positions {} to {}", problem.position, problem.until)
    }
}

fn print_summary(answer: &mut Answer, report: &VerifyReport) -> io::Result<()> {
    let line = json!({"events": report.events, "commits": report.commits, "head_position": report.head_pos,
        "head_hash": report.head_hash, "checkpoints": report.checkpoints, "problems": report.problems.len()});
    let checkpoints =
        if report.checkpoints.is_empty() { String::new() } else { format!(", {} checkpoints hold", report.checkpoints.len()) };
    let text = format!(
        "{} events in {} commits, head at position {}, {} problems{checkpoints}\nhead {}",
        report.events,
        report.commits,
        report.head_pos,
        report.problems.len(),
        report.head_hash
    );
    answer.line(&line, &text)
}

/// The log held to an export.
struct Compared {
    file: String,
    sha256: String,
    found: Comparison,
}

impl Compared {
    async fn with(pool: &PgPool, mut file: ExportFile) -> Result<Self, Failure> {
        let progress = Progress::new("compare", i64::try_from(file.size()).unwrap_or(i64::MAX));
        let events = std::iter::from_fn(|| {
            let event = file.next();
            progress.at(i64::try_from(file.read()).unwrap_or(i64::MAX));
            event
        });
        let found = compare::<Failure>(pool, events).await?;
        drop(progress);
        Ok(Self { file: file.path().display().to_string(), sha256: file.sha256(), found })
    }

    fn print(&self, answer: &mut Answer) -> io::Result<()> {
        let Self { file, sha256, found: Comparison { events, first, last, head_pos, problems } } = self;
        for problem in problems {
            let line = json!({"position": problem.position, "until": problem.until, "what": problem.what, "against": sha256});
            answer.line(&line, &format!("{}: {}", place(problem), problem.what))?;
        }
        let (problems, after) = (problems.len(), head_pos.saturating_sub(*last).max(0));
        // By what it holds, not where it lies: the same question has the same digest from any directory.
        let line = json!({"against": sha256, "events": events, "first": first, "last": last, "not_covered": after, "problems": problems});
        let text = format!(
            "against {file}: {events} events, positions {first} to {last}, {problems} problems; the log has {after} positions after them\n\
             SHA-256 of the export {sha256}"
        );
        answer.line(&line, &text)
    }
}
