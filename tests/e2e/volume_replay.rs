//! The auditor's verbs on the log of a whole data set: each as a process of its own, whose time is told and whose memory is bounded.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use support::{TestDatabase, ended_with_peak, replay_command, replay_program};

/// Most resident memory, MiB, of a verb that streams the log.
const STREAMING: u64 = 512;
/// Of a rebuild: rows of a few thousand things for each connection, and the pages that are compared.
const REBUILDING: u64 = 1_024;
/// Of a fold of one read model in memory: all rows of a merchant, and either set is one merchant's.
const FOLDING: u64 = 2_048;
/// Of folds of several read models side by side, that of every order among them.
const CHECKING: u64 = 6_144;
/// How long a verb may take.
const PATIENCE: Duration = Duration::from_mins(30);

/// A log and where to write.
pub struct Replays<'a> {
    /// Of the import.
    pub database: &'a TestDatabase,
    /// For answers and exports.
    pub dir: &'a Path,
}

impl Replays<'_> {
    /// Runs every verb that reads or rebuilds the whole.
    pub async fn run(&self, end: i64) {
        self.verb(&["verify"], STREAMING).await;
        self.verb(&["stats"], STREAMING).await;
        self.verb(&["check"], CHECKING).await;
        for format in ["jsonl", "parquet"] {
            let file = self.dir.join(format!("whole.{format}"));
            self.verb(&["export", "--format", format, "--out", file.to_str().unwrap()], STREAMING).await;
            if format == "jsonl" {
                let lines = BufReader::new(File::open(&file).unwrap()).split(b'\n').count();
                assert_eq!(i64::try_from(lines).unwrap(), end, "one line for each event");
            }
            std::fs::remove_file(&file).unwrap();
        }
        for model in ["orders", "daily_sales"] {
            self.verb(&["rebuild", model], REBUILDING).await;
        }
        let rows: i64 = sqlx::query_scalar("select count(*) from read.daily_sales").fetch_one(&self.database.admin).await.unwrap();
        for position in [end / 2, end] {
            let answer = self.verb(&["as-of", &position.to_string(), "daily_sales"], FOLDING).await;
            let shown = BufReader::new(File::open(answer).unwrap()).split(b'\n').filter(|line| is_row(line.as_deref().unwrap())).count();
            let shown = i64::try_from(shown).unwrap();
            assert!(if position == end { shown == rows } else { (1..=rows).contains(&shown) }, "{shown} of {rows} rows at {position}");
        }
    }

    /// Runs a verb to its good end; the file with its answer.
    async fn verb(&self, arguments: &[&str], most_mib: u64) -> PathBuf {
        let answer = self.dir.join("replay.answer");
        let mut command = replay_command(self.database, arguments);
        command.arg("--json").stdout(File::create(&answer).unwrap()).stderr(File::create(self.dir.join("replay.errors")).unwrap());
        let started = Instant::now();
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", replay_program().display()));
        let (status, peak_kib) = ended_with_peak(&mut child, PATIENCE).await;
        let errors = std::fs::read_to_string(self.dir.join("replay.errors")).unwrap_or_default();
        assert!(status.success(), "replay {arguments:?}: {status}\n{errors}");
        let peak_mib = peak_kib / 1024;
        println!("  replay {}: {:.1?}, at most {peak_mib} MiB (bound {most_mib})", arguments.join(" "), started.elapsed());
        assert!((1..most_mib).contains(&peak_mib), "replay {arguments:?} took {peak_mib} MiB, {most_mib} are its bound");
        answer
    }
}

/// A row of a table, not the line about all of them nor the digest.
fn is_row(line: &[u8]) -> bool {
    let line: serde_json::Value = serde_json::from_slice(line).unwrap();
    line.get("key").is_some()
}
