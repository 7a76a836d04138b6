//! Signed checkpoints: published outside, they hold whoever owns the database to the log as it was.
//!
//! The key is Ed25519 in PKCS#8 PEM; the signature covers [`Checkpoint::signing_bytes`]. Signing is deterministic: the same
//! head gives the same document. What is signed is the end of a [`Chain`].

mod chain;

pub(crate) use chain::contradiction;
pub use chain::{Chain, take};
use chrono::{DateTime, Utc};
use domain::integrity::checkpoint::Checkpoint;
use ed25519_dalek::{
    Signature, Signer as _, SigningKey, VerifyingKey,
    pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, spki::der::pem::LineEnding},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::document::{self, HexHash, HexSignature};

/// What a checkpoint document begins with.
const FORMAT: &str = "smartpos checkpoint 1";

/// Why a checkpoint, a key or a proof is not to be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// It is no such document.
    #[error("not a {what}: {why}")]
    Malformed {
        /// What it should be.
        what: &'static str,
        /// Why it is not.
        why: String,
    },
    /// Signed, but by somebody else.
    #[error("the checkpoint is signed by another key, {0}")]
    OtherKey(String),
    /// The signature is not one over this checkpoint.
    #[error("the signature does not fit the checkpoint")]
    BadSignature,
    /// The hashes of a proof do not lead where they should.
    #[error(transparent)]
    Proof(#[from] domain::integrity::proof::ProofError),
}

/// A checkpoint with the signature of its publisher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "CheckpointDocument", into = "CheckpointDocument")]
pub struct SignedCheckpoint {
    /// Where the log stood.
    pub checkpoint: Checkpoint,
    /// Of the signer; says nothing until it is compared with one that is trusted.
    pub public_key: [u8; 32],
    /// Ed25519.
    pub signature: [u8; 64],
}

impl SignedCheckpoint {
    /// Signs.
    pub fn sign(checkpoint: Checkpoint, key: &PrivateKey) -> Self {
        let signature = key.0.sign(&checkpoint.signing_bytes()).to_bytes();
        Self { checkpoint, public_key: key.public(), signature }
    }

    /// Reads a published document.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn read(text: &str) -> Result<Self, TrustError> {
        document::read(text).map_err(|why| TrustError::Malformed { what: "checkpoint", why })
    }

    /// Whether `trusted` signed exactly this.
    ///
    /// # Errors
    /// `OtherKey`, `BadSignature`; `Malformed` when `trusted` is no key.
    pub fn verify(&self, trusted: &[u8; 32]) -> Result<(), TrustError> {
        if self.public_key != *trusted {
            return Err(TrustError::OtherKey(hex::encode(self.public_key)));
        }
        let malformed = |error: ed25519_dalek::SignatureError| TrustError::Malformed { what: "public key", why: error.to_string() };
        let key = VerifyingKey::from_bytes(trusted).map_err(malformed)?;
        let signature = Signature::from_bytes(&self.signature);
        key.verify_strict(&self.checkpoint.signing_bytes(), &signature).map_err(|_| TrustError::BadSignature)
    }
}

/// The document: ids and hashes in hex, times in RFC 3339.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckpointDocument {
    format: String,
    log_id: String,
    epoch: i32,
    position: i64,
    head_hash: HexHash,
    recorded_at: DateTime<Utc>,
    commits: u64,
    root: HexHash,
    public_key: HexHash,
    signature: HexSignature,
}

impl From<SignedCheckpoint> for CheckpointDocument {
    fn from(signed: SignedCheckpoint) -> Self {
        let SignedCheckpoint { checkpoint, public_key, signature } = signed;
        Self {
            format: FORMAT.to_owned(),
            log_id: Uuid::from_bytes(checkpoint.log_id).to_string(),
            epoch: checkpoint.epoch,
            position: checkpoint.position,
            head_hash: HexHash(checkpoint.head_hash),
            recorded_at: DateTime::from_timestamp_micros(checkpoint.recorded_at_us).unwrap_or_default(),
            commits: checkpoint.commits,
            root: HexHash(checkpoint.root),
            public_key: HexHash(public_key),
            signature: HexSignature(signature),
        }
    }
}

impl TryFrom<CheckpointDocument> for SignedCheckpoint {
    type Error = String;

    fn try_from(document: CheckpointDocument) -> Result<Self, String> {
        if document.format != FORMAT {
            return Err(format!("its format is '{}', wanted is '{FORMAT}'", document.format));
        }
        let log_id: Uuid = document.log_id.parse().map_err(|_| format!("'{}' is no log id", document.log_id))?;
        let checkpoint = Checkpoint {
            log_id: *log_id.as_bytes(),
            epoch: document.epoch,
            position: document.position,
            head_hash: document.head_hash.0,
            recorded_at_us: document.recorded_at.timestamp_micros(),
            commits: document.commits,
            root: document.root.0,
        };
        Ok(Self { checkpoint, public_key: document.public_key.0, signature: document.signature.0 })
    }
}

/// Signs checkpoints. Never shown.
pub struct PrivateKey(SigningKey);

impl PrivateKey {
    /// From 32 random bytes.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// From PKCS#8 PEM.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn from_pem(pem: &str) -> Result<Self, TrustError> {
        let malformed = |error: ed25519_dalek::pkcs8::Error| TrustError::Malformed { what: "private key", why: error.to_string() };
        SigningKey::from_pkcs8_pem(pem).map(Self).map_err(malformed)
    }

    /// As PKCS#8 PEM; secret.
    ///
    /// # Errors
    /// `Malformed` when it cannot be encoded, which does not happen.
    pub fn to_pem(&self) -> Result<String, TrustError> {
        let malformed = |error: ed25519_dalek::pkcs8::Error| TrustError::Malformed { what: "private key", why: error.to_string() };
        self.0.to_pkcs8_pem(LineEnding::LF).map(|pem| pem.to_string()).map_err(malformed)
    }

    /// What others verify with.
    pub fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed() -> (SignedCheckpoint, PrivateKey) {
        let key = PrivateKey::from_seed(&[7; 32]);
        let checkpoint = Checkpoint {
            log_id: [1; 16],
            epoch: 2,
            position: 30,
            head_hash: [4; 32],
            recorded_at_us: 1_777_000_000_123_456,
            commits: 6,
            root: [7; 32],
        };
        (SignedCheckpoint::sign(checkpoint, &key), key)
    }

    #[test]
    fn a_document_reads_back_and_is_trusted_under_its_key_only() {
        let (signed, key) = signed();
        let text = serde_json::to_string(&signed).unwrap();
        let read = SignedCheckpoint::read(&text).unwrap();
        assert_eq!(read, signed);
        assert_eq!(read.verify(&key.public()), Ok(()));
        let other = PrivateKey::from_seed(&[8; 32]);
        assert!(matches!(read.verify(&other.public()), Err(TrustError::OtherKey(_))));
        // Somebody else's key put into the document does not help.
        let forged = SignedCheckpoint { public_key: other.public(), ..read };
        assert_eq!(forged.verify(&other.public()), Err(TrustError::BadSignature));
    }

    #[test]
    fn a_document_in_another_form_is_refused() {
        let (signed, _) = signed();
        let good = serde_json::to_value(&signed).unwrap();
        for (field, value) in
            [("note", "x"), ("format", "smartpos checkpoint 2"), ("log_id", "?"), ("recorded_at", "2026-04-24T03:06:40.1234567Z")]
        {
            let mut changed = good.clone();
            changed[field] = value.into();
            assert!(SignedCheckpoint::read(&changed.to_string()).is_err(), "{field}");
        }
        let upper = serde_json::to_string(&signed).unwrap().replace(&hex::encode([7; 32]), &hex::encode_upper([0xab; 32]));
        assert!(SignedCheckpoint::read(&upper).is_err());
    }

    #[test]
    fn a_document_that_says_a_field_twice_is_refused() {
        let (signed, _) = signed();
        let text = serde_json::to_string(&signed).unwrap();
        assert!(SignedCheckpoint::read(&text).is_ok());
        for twice in [text.replace("\"position\":30", "\"position\":31,\"position\":30"), text.replacen('{', "{\"epoch\":1,", 1)] {
            assert_ne!(twice, text);
            let error = SignedCheckpoint::read(&twice).unwrap_err().to_string();
            assert!(error.contains("duplicate field"), "{error}");
        }
    }

    #[test]
    fn a_key_survives_its_file() {
        let (_, key) = signed();
        let pem = key.to_pem().unwrap();
        assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\n"));
        assert_eq!(PrivateKey::from_pem(&pem).unwrap().public(), key.public());
        assert!(PrivateKey::from_pem("no key").is_err());
    }
}
