//! A checkpoint: where the log stood. What is signed and published, so that a rewritten log, however consistent in itself,
//! differs from what others hold.

use super::merkle::Hash;

/// Where a log stood after one of its commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Names the log.
    pub log_id: [u8; 16],
    /// Raised when the database was restored to the past.
    pub epoch: i32,
    /// Last position of the newest commit.
    pub position: i64,
    /// Hash of the newest commit.
    pub head_hash: Hash,
    /// When that commit was stored, microseconds since 1970, UTC.
    pub recorded_at_us: i64,
    /// Number of commits.
    pub commits: u64,
    /// RFC 6962 root over the hashes of all commits.
    pub root: Hash,
}

impl Checkpoint {
    /// What a signature covers: a domain tag, then each field at its fixed length, integers big endian.
    pub fn signing_bytes(&self) -> Vec<u8> {
        let mut bytes = b"smartpos checkpoint 1".to_vec();
        bytes.extend(self.log_id);
        bytes.extend(self.epoch.to_be_bytes());
        bytes.extend(self.position.to_be_bytes());
        bytes.extend(self.head_hash);
        bytes.extend(self.recorded_at_us.to_be_bytes());
        bytes.extend(self.commits.to_be_bytes());
        bytes.extend(self.root);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signed_bytes_have_a_fixed_length_and_hold_every_field() {
        let one = Checkpoint { log_id: [1; 16], epoch: 2, position: 3, head_hash: [4; 32], recorded_at_us: 5, commits: 6, root: [7; 32] };
        let bytes = one.signing_bytes();
        assert_eq!(bytes.len(), 21 + 16 + 4 + 8 + 32 + 8 + 8 + 32);
        let others = [
            Checkpoint { log_id: [9; 16], ..one.clone() },
            Checkpoint { epoch: 9, ..one.clone() },
            Checkpoint { position: 9, ..one.clone() },
            Checkpoint { head_hash: [9; 32], ..one.clone() },
            Checkpoint { recorded_at_us: 9, ..one.clone() },
            Checkpoint { commits: 9, ..one.clone() },
            Checkpoint { root: [9; 32], ..one },
        ];
        assert!(others.iter().all(|other| other.signing_bytes() != bytes));
    }
}
