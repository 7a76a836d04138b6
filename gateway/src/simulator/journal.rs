//! An append-only file of JSON lines, in which a simulator's books outlive its process.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use serde::Serialize;

/// The file, or nothing for books in memory only.
pub(crate) struct Journal(Option<File>);

impl Journal {
    /// Opens or makes the file and reads it. A torn last line, from a kill in mid-write, was never answered: cut off.
    pub(crate) fn open(path: Option<&Path>) -> io::Result<(Self, Vec<String>)> {
        let Some(path) = path else { return Ok((Self(None), Vec::new())) };
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let mut text = Vec::new();
        file.seek(SeekFrom::Start(0))?;
        file.read_to_end(&mut text)?;
        let whole = text.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        text.truncate(whole);
        file.set_len(whole as u64)?;
        let text = String::from_utf8(text).map_err(io::Error::other)?;
        Ok((Self(Some(file)), text.lines().map(str::to_owned).collect()))
    }

    /// Appends one line; `durable` waits for the disk.
    pub(crate) fn append(&mut self, entry: &impl Serialize, durable: bool) -> io::Result<()> {
        let Some(file) = &mut self.0 else { return Ok(()) };
        let mut line = serde_json::to_string(entry)?;
        line.push('\n');
        file.write_all(line.as_bytes())?;
        if durable { file.sync_data() } else { Ok(()) }
    }
}
