//! The development issuer's signing key: P-256, PKCS #8 PEM, in a file that only its owner reads.

use std::path::{Path, PathBuf};

use p256::{
    SecretKey,
    pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey, LineEnding},
};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::key_file::{self, KeyFileError};

/// Why there is no signing key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] KeyFileError),
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
/// Any [`KeyError`].
pub fn load_or_create_key(path: &Path) -> Result<SigningKey, KeyError> {
    let pem = key_file::load_or_create(path, || SigningKey::generate().map(|key| Zeroizing::new(key.private_pem)))?;
    let secret = SecretKey::from_pkcs8_pem(&pem).map_err(|_| KeyError::NotAKey(path.to_owned()))?;
    SigningKey::of(&secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_shows_nothing_of_itself() {
        let directory = std::env::temp_dir().join(format!("smartpos-key-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("issuer.pem");
        let made = load_or_create_key(&path).unwrap();
        assert_eq!(load_or_create_key(&path).unwrap().kid, made.kid);
        assert!(!format!("{made:?}").contains("PRIVATE"));
        std::fs::write(&path, "nonsense").unwrap();
        assert!(matches!(load_or_create_key(&path), Err(KeyError::NotAKey(_))));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
