//! The development issuer's signing key: P-256, PKCS #8 PEM, in a file that only its owner reads.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use p256::{
    SecretKey,
    pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey, LineEnding},
};
use sha2::{Digest, Sha256};

/// Why there is no signing key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than the owner can read the file.
    #[error("{0}: a signing key must be readable by its owner only (mode 0600)")]
    Open(PathBuf),
    /// The file holds no P-256 key in PKCS #8 PEM.
    #[error("{0}: not a P-256 private key in PKCS #8 PEM")]
    NotAKey(PathBuf),
    /// The operating system gives no randomness.
    #[error("no randomness for a new key: {0}")]
    NoRandomness(getrandom::Error),
    /// The key could not be encoded.
    #[error("the key could not be encoded")]
    Encoding,
}

/// A signing key with its public half. Shows nothing of itself.
pub struct SigningKey {
    pub(super) private_pem: String,
    pub(super) public_pem: String,
    /// Names the key in token headers: the first 16 hex digits of the SHA-256 of its public half.
    pub(super) kid: String,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// A new key.
    ///
    /// # Errors
    /// `NoRandomness`, `Encoding`.
    pub fn generate() -> Result<Self, KeyError> {
        loop {
            let mut bytes = [0_u8; 32];
            getrandom::fill(&mut bytes).map_err(KeyError::NoRandomness)?;
            // Zero and numbers beyond the group's order are no keys; once in four billion tries another one is drawn.
            if let Ok(secret) = SecretKey::from_slice(&bytes) {
                return Self::of(&secret);
            }
        }
    }

    fn of(secret: &SecretKey) -> Result<Self, KeyError> {
        let private_pem = secret.to_pkcs8_pem(LineEnding::LF).map_err(|_| KeyError::Encoding)?.to_string();
        let public_pem = secret.public_key().to_public_key_pem(LineEnding::LF).map_err(|_| KeyError::Encoding)?;
        let kid = hex::encode(&Sha256::digest(public_pem.as_bytes())[..8]);
        Ok(Self { private_pem, public_pem, kid })
    }
}

/// The key in the file at `path`; makes file and key when there is none.
///
/// # Errors
/// Any [`KeyError`]. A file that others can read is refused rather than repaired: the key may be known already.
pub fn load_or_create_key(path: &Path) -> Result<SigningKey, KeyError> {
    let failed = |source| KeyError::File { path: path.to_owned(), source };
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            let key = SigningKey::generate()?;
            file.write_all(key.private_pem.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
            Ok(key)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if fs::metadata(path).map_err(failed)?.permissions().mode() & 0o077 != 0 {
                return Err(KeyError::Open(path.to_owned()));
            }
            let pem = fs::read_to_string(path).map_err(failed)?;
            let secret = SecretKey::from_pkcs8_pem(&pem).map_err(|_| KeyError::NotAKey(path.to_owned()))?;
            SigningKey::of(&secret)
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_guarded() {
        let directory = std::env::temp_dir().join(format!("smartpos-key-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("issuer.pem");
        let made = load_or_create_key(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load_or_create_key(&path).unwrap().kid, made.kid);
        assert!(!format!("{made:?}").contains("PRIVATE"));

        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(load_or_create_key(&path), Err(KeyError::Open(_))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "nonsense").unwrap();
        assert!(matches!(load_or_create_key(&path), Err(KeyError::NotAKey(_))));
        fs::remove_dir_all(&directory).unwrap();
    }
}
