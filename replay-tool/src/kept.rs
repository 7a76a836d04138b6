//! The directory of `checkpoint --every`: what was signed last, and the next one.

use std::{
    io,
    path::{Path, PathBuf},
};

use domain::integrity::checkpoint::Checkpoint;
use projections::checkpoint::{PrivateKey, SignedCheckpoint};

use crate::files;

/// Checkpoints in files that are named after their positions.
pub struct Kept<'a> {
    dir: &'a Path,
    key: &'a PrivateKey,
}

impl<'a> Kept<'a> {
    /// In `dir`, signed by `key`.
    pub const fn new(dir: &'a Path, key: &'a PrivateKey) -> Self {
        Self { dir, key }
    }

    /// The file of the highest position, with that. Other files may lie there, too.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn newest(&self) -> io::Result<Option<(i64, PathBuf)>> {
        let mut newest = None;
        for entry in std::fs::read_dir(self.dir)? {
            let entry = entry?;
            if let Some(position) = entry.file_name().to_str().and_then(position_of) {
                newest = newest.max(Some((position, entry.path())));
            }
        }
        Ok(newest)
    }

    /// What a file says, which has to be of the position that its name says, and signed by the key.
    ///
    /// # Errors
    /// Why it cannot be gone on from.
    pub fn read(&self, position: i64, file: &Path) -> Result<Checkpoint, String> {
        let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
        let signed = SignedCheckpoint::read(&text).map_err(|error| error.to_string())?;
        signed.verify(&self.key.public()).map_err(|error| error.to_string())?;
        if signed.checkpoint.position == position {
            Ok(signed.checkpoint)
        } else {
            Err(format!("it is the checkpoint of position {}", signed.checkpoint.position))
        }
    }

    /// Signs one into its file, unless it is there already. The file; nothing when it holds something else.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn add(&self, checkpoint: Checkpoint) -> anyhow::Result<Option<PathBuf>> {
        let file = self.dir.join(name(checkpoint.position));
        let document = format!("{}\n", serde_json::to_string(&SignedCheckpoint::sign(checkpoint, self.key))?);
        Ok(files::keep(&file, &document)?.then_some(file))
    }
}

/// As wide as a position can be, so that names stand in the order of the log.
fn name(position: i64) -> String {
    format!("checkpoint-{position:019}.json")
}

/// The position in a name of this form.
fn position_of(file: &str) -> Option<i64> {
    let position = file.strip_prefix("checkpoint-")?.strip_suffix(".json")?.parse().ok()?;
    (name(position) == file).then_some(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_position_at_its_full_width() {
        for position in [0, 1, 12, i64::MAX] {
            assert_eq!(position_of(&name(position)), Some(position));
        }
        for other in
            ["checkpoint-12.json", "checkpoint-.json", "checkpoint-0000000000000000012.json.tmp", "checkpoint-first.json", "12.json"]
        {
            assert_eq!(position_of(other), None, "{other}");
        }
    }
}
