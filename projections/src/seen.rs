//! Which keys were ever written, in constant memory: a Bloom filter. "Never" is certain; "perhaps" may be wrong, the more often
//! the fuller it is, and then only costs a question to the database.

use std::hash::{DefaultHasher, Hash, Hasher};

/// 2^27 bits, 16 MiB: ten million keys with one wrong "perhaps" in a hundred.
const BITS: u64 = 1 << 27;
/// Bits set for each key.
const PROBES: u64 = 4;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct SeenKeys {
    /// Empty until the first key.
    words: Vec<u64>,
}

impl SeenKeys {
    pub(crate) fn insert(&mut self, table: &str, key: &str) {
        if self.words.is_empty() {
            self.words = vec![0; usize::try_from(BITS / 64).unwrap_or(0)];
        }
        for (word, bit) in places(table, key) {
            if let Some(word) = self.words.get_mut(word) {
                *word |= bit;
            }
        }
    }

    /// `false`: it was never inserted.
    pub(crate) fn may_contain(&self, table: &str, key: &str) -> bool {
        !self.words.is_empty() && places(table, key).all(|(word, bit)| self.words.get(word).is_none_or(|word| word & bit != 0))
    }
}

/// Double hashing: the second hash is the step. Two words of one 64-bit hash would collide too often.
fn places(table: &str, key: &str) -> impl Iterator<Item = (usize, u64)> {
    let hash = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, table, key).hash(&mut hasher);
        hasher.finish()
    };
    let (first, step) = (hash(1), hash(2) | 1);
    (0..PROBES).map(move |probe| {
        let bit = first.wrapping_add(step.wrapping_mul(probe)) % BITS;
        (usize::try_from(bit / 64).unwrap_or(0), 1 << (bit % 64))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_inserted_is_never_denied_and_others_nearly_always_are() {
        let mut seen = SeenKeys::default();
        assert!(!seen.may_contain("orders", "ord_1"));
        for n in 0..20_000 {
            seen.insert("orders", &format!("ord_{n}"));
        }
        assert!((0..20_000).all(|n| seen.may_contain("orders", &format!("ord_{n}"))));
        assert!((0..20_000).filter(|n| seen.may_contain("bills", &format!("ord_{n}"))).count() < 20);
    }
}
