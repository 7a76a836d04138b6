//! What is remembered of the orders that came before, within bounded memory.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

/// An order key is remembered for at least this many orders.
const REMEMBERED_KEYS: usize = 1_000_000;

/// Something about recent order keys, in two generations so that memory is bounded.
#[derive(Debug)]
pub struct Recent<V> {
    young: HashMap<[u8; 16], V>,
    old: HashMap<[u8; 16], V>,
    most: usize,
}

impl<V> Default for Recent<V> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), most: REMEMBERED_KEYS }
    }
}

impl<V> Recent<V> {
    /// Remembers `value` under `key`; false when the key is known already, and then nothing changes.
    pub(super) fn remember(&mut self, key: &str, value: V) -> bool {
        let short = short(key);
        if self.young.len() >= self.most {
            self.old = std::mem::take(&mut self.young);
        }
        if self.old.contains_key(&short) || self.young.contains_key(&short) {
            return false;
        }
        self.young.insert(short, value);
        true
    }

    /// What is remembered under `key`.
    pub(super) fn get(&self, key: &str) -> Option<&V> {
        let short = short(key);
        self.young.get(&short).or_else(|| self.old.get(&short))
    }
}

pub(super) fn short(key: &str) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&Sha256::digest(key.as_bytes())[..16]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_least_the_most_recent_keys_are_known() {
        let mut recent = Recent { most: 3, ..Recent::default() };
        for n in 0..9 {
            assert!(recent.remember(&n.to_string(), n));
            assert!(!recent.remember(&n.to_string(), 99));
            let known = (0..=n).rev().take_while(|n| recent.get(&n.to_string()) == Some(n)).count();
            assert!(known >= usize::min(3, usize::try_from(n).unwrap() + 1), "{n}: {known}");
            assert!(recent.young.len() + recent.old.len() <= 6);
        }
    }
}
