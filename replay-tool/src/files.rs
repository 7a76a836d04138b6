//! What verbs read from and write to files: keys, checkpoints, results.

use std::{
    fs::{self, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    str::FromStr,
};

use anyhow::Context as _;
use projections::checkpoint::SignedCheckpoint;

use crate::outcome::Failure;

/// An Ed25519 public key on the command line: 64 hex digits, or a file that holds them.
#[derive(Debug, Clone, Copy)]
pub struct PublicKey(pub [u8; 32]);

impl FromStr for PublicKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = |text: &str| hex::decode(text.trim()).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        if let Some(key) = digits(text) {
            return Ok(Self(key));
        }
        let content = fs::read_to_string(text).map_err(|error| format!("neither 64 hex digits nor a file ({error})"))?;
        digits(&content).map(Self).ok_or_else(|| "the file does not hold 64 hex digits".to_owned())
    }
}

/// The text of a file that the command line names.
///
/// # Errors
/// `Usage` when it cannot be read.
pub fn text(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

/// The bytes of a file that the command line names.
///
/// # Errors
/// `Usage` when it cannot be read.
pub fn bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

/// A signed checkpoint; its signature is not looked at.
///
/// # Errors
/// `Usage` when there is none in the file.
pub fn checkpoint(path: &Path) -> Result<SignedCheckpoint, Failure> {
    SignedCheckpoint::read(&text(path)?).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

/// Writes a secret into a new file that only its owner can read.
///
/// # Errors
/// `Usage` when the file exists; `Fault` when it cannot be written.
pub fn write_secret(path: &Path, content: &str) -> Result<(), Failure> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            file.write_all(content.as_bytes()).and_then(|()| file.sync_all()).with_context(|| path.display().to_string())?;
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(Failure::usage(format!("{} exists; a key is never overwritten", path.display())))
        }
        Err(error) => Err(anyhow::Error::new(error).context(path.display().to_string()).into()),
    }
}

/// Writes a file that is to stay as it is; whether it holds the content now. One that exists is left alone.
///
/// # Errors
/// It cannot be written, or not be read when it exists.
pub fn keep(path: &Path, content: &str) -> anyhow::Result<bool> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => {
            file.write_all(content.as_bytes()).and_then(|()| file.sync_all()).with_context(|| path.display().to_string())?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Ok(fs::read(path).with_context(|| path.display().to_string())? == content.as_bytes())
        }
        Err(error) => Err(anyhow::Error::new(error).context(path.display().to_string())),
    }
}

/// Prints a document on standard output.
///
/// # Errors
/// Standard output is closed or full.
pub fn print(document: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{document}")?;
    out.flush()
}

/// Where a result goes: `-` is standard output, anything else a file that must not exist yet.
///
/// # Errors
/// `Usage` when the file exists; `Fault` when it cannot be made.
pub fn sink(path: &Path) -> Result<Box<dyn Write + Send>, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(BufWriter::new(io::stdout())));
    }
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(file) => Ok(Box::new(BufWriter::new(file))),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Failure::usage(format!("{} exists", path.display()))),
        Err(error) => Err(anyhow::Error::new(error).context(path.display().to_string()).into()),
    }
}
