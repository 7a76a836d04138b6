//! What verbs read from and write to files: keys, checkpoints, results.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    str::FromStr,
};

use anyhow::Context as _;
use projections::checkpoint::SignedCheckpoint;
use serde_json::json;
use sha2::{Digest as _, Sha256};

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

/// Makes a file that is to stay as it is; whether it holds the content now. It is there as a whole or not at all, whenever the machine stops.
/// One that exists is left alone.
///
/// # Errors
/// It cannot be written, or not be read when it exists.
pub fn keep(path: &Path, content: &str) -> anyhow::Result<bool> {
    keep_whole(path, content.as_bytes()).with_context(|| path.display().to_string())
}

fn keep_whole(path: &Path, content: &[u8]) -> anyhow::Result<bool> {
    let (dir, name) = path.parent().zip(path.file_name()).context("it is no file in a directory")?;
    let mut random = [0; 8];
    getrandom::fill(&mut random)?;
    let draft = dir.join(format!(".{}.{}", name.display(), hex::encode(random)));
    let written = write_new(&draft, content).and_then(|()| {
        // A second name for it, which is refused where that is taken; a renamed file would replace the other one.
        match fs::hard_link(&draft, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(fs::read(path)? == content),
            linked => linked.map(|()| true),
        }
    });
    // What was written counts for more than a draft that is left behind.
    let _ = fs::remove_file(&draft);
    let kept = written?;
    // Names are the directory's; a bare file name lies in the present one.
    File::open(if dir.as_os_str().is_empty() { Path::new(".") } else { dir })?.sync_all()?;
    Ok(kept)
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Prints a document on standard output, and its digest on standard error: SHA-256 over its line with the line feed, so that `sha256sum` of a
/// file into which it was redirected gives the same.
///
/// # Errors
/// Standard output is closed or full.
pub fn print_with_digest(json: bool, document: &str) -> io::Result<()> {
    print(document)?;
    tell_digest(json, &hex::encode(Sha256::new().chain_update(document).chain_update("\n").finalize()));
    Ok(())
}

/// Tells the digest of what went to standard output, where nothing else may stand, on standard error; in JSON when that was asked for.
pub fn tell_digest(json: bool, digest: &str) {
    eprintln!("{}", if json { json!({"digest": digest}).to_string() } else { format!("digest {digest}") });
}

/// Prints a line on standard output.
///
/// # Errors
/// Standard output is closed or full.
pub fn print(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_file_is_written_once_and_nothing_else_is_left_beside_it() {
        let dir = std::env::temp_dir().join(format!("replay-kept-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let file = dir.join("one.json");
        for (content, kept) in [("first", true), ("first", true), ("second", false)] {
            assert_eq!(keep(&file, content).unwrap(), kept, "{content}");
            assert_eq!(fs::read_to_string(&file).unwrap(), "first");
            let names: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(names, ["one.json"]);
        }
        assert!(keep(&dir.join("nowhere").join("one.json"), "first").is_err());
        fs::remove_dir_all(&dir).unwrap();
    }
}
