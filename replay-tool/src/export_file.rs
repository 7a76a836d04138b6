//! An export in JSON lines, read back: what `verify --against` holds the log to.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use projections::verify::against::ExportedEvent;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::outcome::Failure;

/// Longest line; an event is never nearly as long.
const MOST_BYTES: u64 = 64 << 20;

/// What is read of a line; the rest follows from the hash.
#[derive(Deserialize)]
struct Line {
    position: i64,
    hash: String,
    recorded_at: DateTime<Utc>,
}

/// A file made by `replay export`, or several one after the other; gives its events. Memory: one line.
pub struct ExportFile {
    path: PathBuf,
    /// Its first event, read when it was opened.
    first: Option<ExportedEvent>,
    reader: BufReader<File>,
    line: Vec<u8>,
    lines: u64,
    bytes: u64,
    last: Option<i64>,
    hasher: Sha256,
}

impl ExportFile {
    /// Opens it and reads its first line, by which most of what is no export is known before anything else is done.
    ///
    /// # Errors
    /// `Usage` when it cannot be read, and when it does not begin with an event.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        let (path, reader) = (path.to_owned(), BufReader::new(file));
        let mut file = Self { path, first: None, reader, line: Vec::new(), lines: 0, bytes: 0, last: None, hasher: Sha256::new() };
        file.first = file.read_line()?;
        if file.first.is_none() {
            return Err(Failure::usage(format!("{}: it holds no event", file.path.display())));
        }
        Ok(file)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How long it is, in bytes.
    pub fn size(&self) -> u64 {
        self.reader.get_ref().metadata().map_or(0, |metadata| metadata.len())
    }

    /// How many bytes were read.
    pub const fn read(&self) -> u64 {
        self.bytes
    }

    /// SHA-256 over what was read, hex: that of the file once all of it was. `export` told it when it made the file.
    pub fn sha256(&self) -> String {
        hex::encode(self.hasher.clone().finalize())
    }

    fn refused(&self, why: &str) -> Failure {
        Failure::usage(format!("{}: line {}: {why}", self.path.display(), self.lines))
    }

    fn read_line(&mut self) -> Result<Option<ExportedEvent>, Failure> {
        self.line.clear();
        let read = self.reader.by_ref().take(MOST_BYTES).read_until(b'\n', &mut self.line);
        let read = read.map_err(|error| Failure::usage(format!("{}: {error}", self.path.display())))?;
        if read == 0 {
            return Ok(None);
        }
        self.lines += 1;
        self.bytes += u64::try_from(read).unwrap_or(u64::MAX);
        self.hasher.update(&self.line);
        let line = serde_json::from_slice::<Line>(&self.line);
        let line = line.map_err(|error| self.refused(&format!("no event of an export in JSON lines: {error}")))?;
        let hash = hex::decode(&line.hash).ok().and_then(|hash| hash.try_into().ok());
        let hash = hash.ok_or_else(|| self.refused("its hash is not 64 hex digits"))?;
        let expected = self.last.map_or(line.position, |last| last.saturating_add(1));
        if line.position < 1 || line.position != expected {
            return Err(self.refused(&format!("position {}, where an export has {}", line.position, expected.max(1))));
        }
        self.last = Some(line.position);
        Ok(Some(ExportedEvent { position: line.position, hash, recorded_at: line.recorded_at }))
    }
}

impl Iterator for ExportFile {
    type Item = Result<ExportedEvent, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        self.first.take().map(Ok).or_else(|| self.read_line().transpose())
    }
}
