//! The two constructions by which things are sealed and tagged at rest.
//!
//! XChaCha20-Poly1305 and HMAC-SHA256. A ciphertext is `1 ‖ nonce (24 bytes) ‖ text and tag`; what it belongs to is authenticated with
//! it, so that one moved to another place does not open.

use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use domain::clock::RandomSource;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::error::CommandError;

/// First byte of every ciphertext: which construction it is.
const FORMAT: u8 = 1;
const NONCE_BYTES: usize = 24;

/// Seals a text for what `bound` says it belongs to.
///
/// # Errors
/// `Fault` when nothing can be sealed.
pub(crate) fn encrypt(random: &dyn RandomSource, key: &[u8; 32], bound: &[u8], text: &[u8]) -> Result<Vec<u8>, CommandError> {
    let mut nonce = [0_u8; NONCE_BYTES];
    random.fill(&mut nonce);
    let cipher = XChaCha20Poly1305::new(key.into());
    let payload = Payload { msg: text, aad: bound };
    let sealed = cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| CommandError::Fault("nothing could be sealed".to_owned()))?;
    Ok([&[FORMAT][..], &nonce, &sealed].concat())
}

/// HMAC-SHA256 over parts that cannot run into each other.
pub(crate) fn authentic(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    // A key of a whole block, which HMAC makes of a shorter one by the same zeros: so there is no length to refuse.
    let mut block = Zeroizing::new([0_u8; 64]);
    block[..32].copy_from_slice(key);
    let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new((&*block).into());
    for part in parts {
        mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// Opens what [`encrypt`] made under the same key for the same `bound`.
pub(crate) fn decrypt(key: &[u8; 32], bound: &[u8], ciphertext: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, sealed) = ciphertext.strip_prefix(&[FORMAT])?.split_at_checked(NONCE_BYTES)?;
    let nonce: [u8; NONCE_BYTES] = nonce.try_into().ok()?;
    let payload = Payload { msg: sealed, aad: bound };
    XChaCha20Poly1305::new(key.into()).decrypt(&XNonce::from(nonce), payload).ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::*;

    struct Counting(AtomicU8);
    impl RandomSource for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0.fetch_add(1, Ordering::Relaxed));
        }
    }

    #[test]
    fn what_was_sealed_opens_only_with_its_key_and_for_what_it_belongs_to() {
        let (random, key) = (Counting(AtomicU8::new(1)), [7; 32]);
        let sealed = encrypt(&random, &key, b"somchai", b"text").unwrap();
        assert_ne!(sealed, encrypt(&random, &key, b"somchai", b"text").unwrap(), "a nonce is used once");
        assert_eq!(decrypt(&key, b"somchai", &sealed).unwrap().as_slice(), b"text");
        assert!(decrypt(&[8; 32], b"somchai", &sealed).is_none());
        assert!(decrypt(&key, b"malee", &sealed).is_none());
        for at in 0..sealed.len() {
            let mut other = sealed.clone();
            other[at] ^= 1;
            assert!(decrypt(&key, b"somchai", &other).is_none(), "byte {at} was changed");
            assert!(decrypt(&key, b"somchai", &sealed[..at]).is_none(), "cut off at {at}");
        }
    }
}
