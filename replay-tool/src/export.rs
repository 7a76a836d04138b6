//! `replay export`.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use domain::envelope::RecordedEvent;
use futures_util::TryStreamExt as _;
use projections::{
    LogReader, masking,
    search::{Filter, search},
};
use serde_json::{Value, json, value::RawValue};
use sha2::{Digest as _, Sha256};

use crate::{
    event_line::{self, Bound},
    files,
    outcome::{Finding, Verdict},
    parquet_file::ParquetFile,
    progress::Progress,
    session::Session,
};

/// Arguments of `export`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  replay export --format parquet --out may.parquet --from 2026-05-01 --to 2026-06-01
  replay export --format jsonl --out - --from 1000 --to 2000 | jq .payload

Personal data stays ciphertext, single-use tokens of cards are masked (so that the hash of such an event is not that of the line).
The summary names the SHA-256 of what was written; the same range always gives the same bytes.
With --out - the summary goes to standard error, and so does the digest, which is the SHA-256 of what was written.")]
pub struct ExportArgs {
    /// First position, or a date or time (UTC, of recording).
    #[arg(long, value_name = "POSITION|TIME")]
    from: Option<Bound>,
    /// Last position, or a date or time, which is then not part of the range.
    #[arg(long, value_name = "POSITION|TIME")]
    to: Option<Bound>,
    /// One JSON object a line, with the payload as stored; or Parquet with typed columns.
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
    /// A file that does not exist yet, or - for standard output.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Jsonl,
    Parquet,
}

/// Writes a range of the log.
///
/// # Errors
/// `Usage` when the file exists; `Fault` when the log cannot be read or lacks a position, an event is no JSON, or the file cannot
/// be written. What was written by then stays, without a summary.
pub async fn run(session: &Session, args: ExportArgs) -> Verdict {
    let pool = session.reader().await?;
    let (after, until) = event_line::positions(&pool, args.from, args.to).await?;
    let until = until.unwrap_or(i64::MAX).min(LogReader::new(pool.clone()).head().await?.pos);
    let hasher = Arc::new(Mutex::new(Sha256::new()));
    let sink = Hashing { inner: files::sink(&args.out)?, hasher: Arc::clone(&hasher) };
    let mut file = match args.format {
        Format::Jsonl => File::Jsonl(sink),
        Format::Parquet => File::Parquet(Box::new(ParquetFile::new(sink)?)),
    };
    let progress = Progress::new("export", until.saturating_sub(after).max(0));
    let filter = Filter { after, until: Some(until), ..Filter::default() };
    let mut written = 0_i64;
    let mut events = search(&pool, &filter, None);
    let mut last = after;
    while let Some(event) = events.try_next().await? {
        gapless(last, event.pos)?;
        last = event.pos;
        written += 1;
        if written % 1_000 == 0 {
            progress.at(written);
        }
        file.event(event)?;
    }
    if last < until {
        gapless(last, until.saturating_add(1))?;
    }
    file.finish()?;
    drop(progress);
    let sha256 = hex::encode(hasher.lock().unwrap_or_else(PoisonError::into_inner).clone().finalize());
    let line = json!({"events": written, "after": after, "until": until, "sha256": sha256});
    let text = format!("{written} events after position {after} up to {until}, SHA-256 {sha256}");
    if args.out == Path::new("-") {
        eprintln!("{}", if session.json { line.to_string() } else { text });
        files::tell_digest(session.json, &sha256);
    } else {
        let mut answer = session.answer();
        answer.line(&line, &text)?;
        answer.finish()?;
    }
    Ok(Finding::Sound)
}

/// Every position of a range is exported, or nothing is said to be.
fn gapless(before: i64, next: i64) -> anyhow::Result<()> {
    let expected = before.saturating_add(1);
    anyhow::ensure!(next == expected, "position {expected}: the event is missing; the export is not complete");
    Ok(())
}

enum File {
    Jsonl(Hashing),
    Parquet(Box<ParquetFile<Hashing>>),
}

impl File {
    fn event(&mut self, event: RecordedEvent) -> anyhow::Result<()> {
        match self {
            Self::Jsonl(sink) => json_line(sink, &event),
            Self::Parquet(file) => file.event(event),
        }
    }

    fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Jsonl(mut sink) => Ok(sink.flush()?),
            Self::Parquet(file) => file.finish(),
        }
    }
}

/// The payload's bytes as they are stored, but for tokens of cards; the rest as `show --json` has it, in this order.
fn json_line(sink: &mut Hashing, event: &RecordedEvent) -> anyhow::Result<()> {
    let place = || format!("position {}: the payload is not JSON", event.pos);
    let shown = masking::payload(event);
    let payload: &RawValue = serde_json::from_slice(&shown).with_context(place)?;
    let mut line = event_line::value(event);
    if let Some(fields) = line.as_object_mut() {
        fields.remove("payload");
    }
    let rest = line.to_string();
    // Appended as raw text, so that not one byte of it is another.
    let open = rest.strip_suffix('}').unwrap_or(&rest);
    // Only a payload that somebody laid out over several lines loses its layout: a line is an event.
    let payload =
        if payload.get().contains('\n') { serde_json::from_str::<Value>(payload.get())?.to_string() } else { payload.get().to_owned() };
    Ok(writeln!(sink, "{open},\"payload\":{payload}}}")?)
}

/// Hashes what goes through.
pub struct Hashing {
    inner: Box<dyn Write + Send>,
    hasher: Arc<Mutex<Sha256>>,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.lock().unwrap_or_else(PoisonError::into_inner).update(bytes.get(..count).unwrap_or(bytes));
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
