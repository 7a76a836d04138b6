//! The proof that one event stands at its position in the log that a checkpoint speaks of, by hashes alone.
//!
//! event → Merkle path in its commit → commit hash → Merkle path among all commits → the checkpoint's root. A commit's hash
//! does not cover its last position, on which the shape of its tree depends; so the commit that follows, which begins right
//! after it, is part of the proof (or the checkpoint's own position, for the last commit).

use super::{
    checkpoint::Checkpoint,
    commit_hash,
    merkle::{Hash, root_of_path},
    recorded_hash,
};
use crate::envelope::RecordedEvent;

/// An event tied to a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventProof {
    /// The event; its `hash` is not trusted.
    pub event: RecordedEvent,
    /// First position of its commit.
    pub first_pos: i64,
    /// Last position of its commit.
    pub last_pos: i64,
    /// Hash of the commit before; zeros for the first.
    pub prev_hash: Hash,
    /// From the event to the root of its commit.
    pub event_path: Vec<Hash>,
    /// Place of the commit among all, from 0.
    pub commit_index: u64,
    /// From the commit to the checkpoint's root.
    pub commit_path: Vec<Hash>,
    /// The commit that follows; none for the last of the checkpoint.
    pub next: Option<NextCommit>,
}

/// What is needed of the commit that follows, to know where the one before ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextCommit {
    /// When it was stored, microseconds since 1970.
    pub recorded_at_us: i64,
    /// Root over its event hashes.
    pub events_root: Hash,
    /// From it to the checkpoint's root.
    pub path: Vec<Hash>,
}

/// Why a proof proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Position and commit do not fit together.
    #[error("the event's position does not lie in its commit")]
    OutsideCommit,
    /// Event, its path, the commit, or the commit's path.
    #[error("event and commit do not lead to the checkpoint's root")]
    OtherRoot,
    /// What follows the commit.
    #[error("the commit does not end where the proof says")]
    OtherEnd,
}

impl EventProof {
    /// Whether the event stands where it says in the log of `checkpoint`, whose signature is not looked at here.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn verify(&self, checkpoint: &Checkpoint) -> Result<(), ProofError> {
        let place = |pos: i64| pos.checked_sub(self.first_pos).and_then(|place| u64::try_from(place).ok());
        let index = place(self.event.pos).filter(|_| self.event.pos <= self.last_pos).ok_or(ProofError::OutsideCommit)?;
        let size = place(self.last_pos).and_then(|last| last.checked_add(1)).ok_or(ProofError::OutsideCommit)?;
        let events_root = root_of_path(&recorded_hash(&self.event), index, size, &self.event_path).ok_or(ProofError::OtherRoot)?;
        let hash = commit_hash(&self.prev_hash, self.first_pos, self.event.recorded_at.timestamp_micros(), &events_root);
        let in_tree = |hash: &Hash, index: u64, path: &[Hash]| root_of_path(hash, index, checkpoint.commits, path) == Some(checkpoint.root);
        if !in_tree(&hash, self.commit_index, &self.commit_path) {
            return Err(ProofError::OtherRoot);
        }
        let follows = self.commit_index.checked_add(1).ok_or(ProofError::OtherEnd)?;
        let ends_there = match &self.next {
            None => follows == checkpoint.commits && self.last_pos == checkpoint.position && hash == checkpoint.head_hash,
            Some(next) => {
                let first_pos = self.last_pos.checked_add(1).ok_or(ProofError::OtherEnd)?;
                let next_hash = commit_hash(&hash, first_pos, next.recorded_at_us, &next.events_root);
                in_tree(&next_hash, follows, &next.path)
            }
        };
        if ends_there { Ok(()) } else { Err(ProofError::OtherEnd) }
    }
}
