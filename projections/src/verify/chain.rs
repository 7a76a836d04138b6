//! Joins the parts: one chain of commits from the first to the head, and the checkpoints on its way.

use chrono::{DateTime, Utc};
use domain::integrity::{checkpoint::Checkpoint, merkle::Accumulator};

use super::{
    Commit, MOST_UNEXPLAINED, Problem, VerifyReport,
    commits::{Part, Unexplained},
    exchanged,
    problems::Problems,
};
use crate::{
    checkpoint::{SignedCheckpoint, contradiction},
    log_reader::Head,
};

/// The chain so far.
pub(super) struct Chain {
    head: Head,
    /// Those still ahead, nearest last.
    checkpoints: Vec<SignedCheckpoint>,
    held: Vec<i64>,
    events: i64,
    commits: i64,
    last_pos: i64,
    last_hash: [u8; 32],
    last_recorded: Option<DateTime<Utc>>,
    tree: Accumulator,
    problems: Problems,
    unexplained: Vec<Unexplained>,
}

impl Chain {
    pub(super) fn new(head: &Head, checkpoints: &[SignedCheckpoint]) -> Self {
        let mut checkpoints = checkpoints.to_vec();
        checkpoints.sort_by_key(|signed| std::cmp::Reverse(signed.checkpoint.position));
        Self {
            head: head.clone(),
            checkpoints,
            held: Vec::new(),
            events: 0,
            commits: 0,
            last_pos: 0,
            last_hash: [0; 32],
            last_recorded: None,
            tree: Accumulator::default(),
            problems: Problems::default(),
            unexplained: Vec::new(),
        }
    }

    /// The next part.
    pub(super) fn part(&mut self, part: Part) {
        for commit in &part.commits {
            self.commit(commit);
        }
        self.events += part.events;
        self.problems.extend(part.problems);
        for unexplained in part.unexplained {
            if self.unexplained.len() < MOST_UNEXPLAINED {
                self.unexplained.push(unexplained);
            }
        }
    }

    fn commit(&mut self, commit: &Commit) {
        self.commits += 1;
        // Positions may be forged, up to the greatest there is: nothing may overflow.
        if self.last_pos.checked_add(1) != Some(commit.first_pos) {
            let from = self.last_pos.saturating_add(1);
            let until = commit.first_pos.saturating_sub(1).max(from);
            self.problems.push(Problem::within(from, until, format!("the next commit begins at {}", commit.first_pos)));
        }
        if commit.prev_hash != self.last_hash {
            let what = "the commit does not follow the one before: its previous hash is another";
            self.problems.push(Problem::at(commit.first_pos, what));
        }
        if self.last_recorded.is_some_and(|before| commit.recorded_at < before) {
            self.problems.push(Problem::at(commit.first_pos, "recorded_at goes back"));
        }
        (self.last_pos, self.last_hash, self.last_recorded) = (commit.last_pos, commit.hash, Some(commit.recorded_at));
        self.tree.push(&commit.hash);
        self.meet_checkpoints(commit);
    }

    /// Compares with every checkpoint that stands at or before the end of this commit.
    fn meet_checkpoints(&mut self, commit: &Commit) {
        while let Some(signed) = self.checkpoints.pop_if(|signed| signed.checkpoint.position <= commit.last_pos) {
            let position = signed.checkpoint.position;
            match contradiction(&signed.checkpoint, &self.standing(commit)) {
                None => self.held.push(position),
                Some(what) => {
                    // Until the checkpoint before, the log is known to be what it was; the difference lies after it.
                    let from = self.held.last().map_or(1, |held| held.saturating_add(1));
                    self.problems.push(Problem::within(from.min(position), position, what));
                }
            }
        }
    }

    /// How the log stands at the end of this commit, the newest so far.
    fn standing(&self, commit: &Commit) -> Checkpoint {
        Checkpoint {
            log_id: *self.head.log_id.as_bytes(),
            epoch: self.head.epoch,
            position: commit.last_pos,
            head_hash: commit.hash,
            recorded_at_us: commit.recorded_at.timestamp_micros(),
            commits: self.tree.size(),
            root: self.tree.root(),
        }
    }

    /// Looks for what became of the commits that do not hash to what they claim; those for which it is not known, first and last position.
    pub(super) fn explain(&mut self) -> Vec<(i64, i64)> {
        let (problems, unknown) = exchanged::explain(&std::mem::take(&mut self.unexplained));
        self.problems.extend(problems);
        unknown
    }

    /// The end, after [`Self::explain`]: what was seen must be what the head says. `others`: what was found beside the chain.
    pub(super) fn finish(mut self, others: impl IntoIterator<Item = Problem>) -> VerifyReport {
        self.problems.extend(others);
        let (last_pos, head_pos) = (self.last_pos, self.head.pos);
        if last_pos != head_pos {
            let from = last_pos.min(head_pos).saturating_add(1);
            let what = format!("the commits end at {last_pos} but the head of the log says {head_pos}");
            self.problems.push(Problem::within(from, last_pos.max(head_pos), what));
        } else if self.last_hash != self.head.hash {
            self.problems.push(Problem::at(head_pos, "the head of the log has another hash than the newest commit"));
        }
        for signed in std::mem::take(&mut self.checkpoints) {
            let position = signed.checkpoint.position;
            let what = format!("the log ends before position {position}, for which there is a checkpoint");
            self.problems.push(Problem::within(last_pos.saturating_add(1), position, what));
        }
        let Self { problems, events, commits, head, held, .. } = self;
        VerifyReport {
            events,
            commits,
            head_pos: head.pos,
            head_hash: hex::encode(head.hash),
            checkpoints: held,
            problems: problems.into_vec(),
        }
    }
}
