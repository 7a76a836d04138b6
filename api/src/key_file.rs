//! Secrets in files of their own: made once, readable by their owner only, never half written.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

/// Why a secret could not be had from its file.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than the owner can read the file. It is refused rather than repaired: the secret may be known already.
    #[error("{0}: must be readable by its owner only (mode 0600)")]
    Open(PathBuf),
}

/// The text in the file at `path`; makes the file with the text of `make` when there is none. Of several processes that do so at
/// once one makes it and all read it.
///
/// # Errors
/// Any [`KeyFileError`], or what `make` says.
pub fn load_or_create<E: From<KeyFileError>>(
    path: &Path,
    make: impl FnOnce() -> Result<Zeroizing<String>, E>,
) -> Result<Zeroizing<String>, E> {
    let failed = |source| KeyFileError::File { path: path.to_owned(), source };
    if !path.try_exists().map_err(failed)? {
        let text = make()?;
        // Written aside and linked into place: whoever finds the file finds all of it.
        let aside = path.with_extension(format!("new-{}", std::process::id()));
        let written = write(&aside, &text).and_then(|()| fs::hard_link(&aside, path));
        let _ = fs::remove_file(&aside);
        match written {
            Ok(()) => return Ok(text),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error).into()),
        }
    }
    if fs::metadata(path).map_err(failed)?.permissions().mode() & 0o077 != 0 {
        return Err(KeyFileError::Open(path.to_owned()).into());
    }
    Ok(Zeroizing::new(fs::read_to_string(path).map_err(failed)?))
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let _ = fs::remove_file(path); // of an earlier process with this number
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(path: &Path, text: &str) -> Result<Zeroizing<String>, KeyFileError> {
        load_or_create(path, || Ok(Zeroizing::new(text.to_owned())))
    }

    #[test]
    fn a_secret_is_made_once_and_guarded() {
        let directory = std::env::temp_dir().join(format!("smartpos-secret-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("secret");
        assert_eq!(load(&path, "first").unwrap().as_str(), "first");
        assert_eq!(load(&path, "second").unwrap().as_str(), "first");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "nothing is left beside it");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(load(&path, "third"), Err(KeyFileError::Open(_))));
        assert!(matches!(load(&directory.join("no/such"), "x"), Err(KeyFileError::File { .. })));
        fs::remove_dir_all(&directory).unwrap();
    }
}
