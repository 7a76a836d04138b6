//! Secrets in files of their own: made once, readable by their owner only, never half written.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use commands::system::SystemRandom;
use domain::clock::RandomSource as _;
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
        install(path, &make()?).map_err(failed)?;
    }
    if fs::metadata(path).map_err(failed)?.permissions().mode() & 0o077 != 0 {
        return Err(KeyFileError::Open(path.to_owned()).into());
    }
    Ok(Zeroizing::new(fs::read_to_string(path).map_err(failed)?))
}

/// Puts a file with this text in place, for good, unless another process was faster.
fn install(path: &Path, text: &str) -> io::Result<()> {
    // Written aside and linked into place: whoever finds the file finds all of it. Nobody else knows or uses this name.
    let mut suffix = [0_u8; 8];
    SystemRandom.fill(&mut suffix);
    let aside = path.with_extension(format!("new-{}", hex::encode(suffix)));
    let linked = write(&aside, text).and_then(|()| fs::hard_link(&aside, path));
    let _ = fs::remove_file(&aside);
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    // The name is durable before anything is sealed or signed with the secret.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(parent)?.sync_all()
}

fn write(path: &Path, text: &str) -> io::Result<()> {
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

    #[test]
    fn all_who_make_a_secret_at_once_get_the_one_that_stays() {
        let directory = std::env::temp_dir().join(format!("smartpos-secrets-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        for round in 0..50 {
            let path = directory.join(format!("secret-{round}"));
            let together = std::sync::Barrier::new(8);
            let got: Vec<String> = std::thread::scope(|scope| {
                let start = |n: u8| {
                    let (path, together) = (&path, &together);
                    scope.spawn(move || {
                        let make = || {
                            together.wait(); // nobody has found a file
                            Ok::<_, KeyFileError>(Zeroizing::new(n.to_string().repeat(2_000)))
                        };
                        load_or_create(path, make).unwrap().to_string()
                    })
                };
                let makers: Vec<_> = (0..8).map(start).collect();
                makers.into_iter().map(|maker| maker.join().unwrap()).collect()
            });
            let stays = fs::read_to_string(&path).unwrap();
            assert!(got.iter().all(|text| *text == stays), "round {round}");
        }
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 50, "nothing is left beside them");
        fs::remove_dir_all(&directory).unwrap();
    }
}
