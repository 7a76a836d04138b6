//! Joins the parts: one chain of commits from the first to the head, and the checkpoints on its way.

use chrono::{DateTime, Utc};
use domain::integrity::{
    checkpoint::Checkpoint,
    commit_hash,
    merkle::{Accumulator, Hash},
};

use super::{
    Commit, MOST_UNEXPLAINED, Problem, VerifyReport,
    commits::{Linked, Part, Unexplained},
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
    /// First position of the newest commit.
    last_first: i64,
    last_pos: i64,
    last_hash: Hash,
    /// What its row and its events hash to.
    last_made: Hash,
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
            last_first: 0,
            last_pos: 0,
            last_hash: [0; 32],
            last_made: [0; 32],
            last_recorded: None,
            tree: Accumulator::default(),
            problems: Problems::default(),
            unexplained: Vec::new(),
        }
    }

    /// The next part.
    pub(super) fn part(&mut self, part: Part) {
        for linked in &part.commits {
            self.commit(linked);
        }
        self.events += part.events;
        self.problems.extend(part.problems);
        for unexplained in part.unexplained {
            if self.unexplained.len() < MOST_UNEXPLAINED {
                self.unexplained.push(unexplained);
            }
        }
    }

    /// The next commit, with the root of its events and what it hashes to.
    fn commit(&mut self, Linked { commit, root, made }: &Linked) {
        self.commits += 1;
        // Positions may be forged, up to the greatest there is: nothing may overflow.
        if self.last_pos.checked_add(1) != Some(commit.first_pos) {
            let from = self.last_pos.saturating_add(1);
            let until = commit.first_pos.saturating_sub(1).max(from);
            self.problems.push(Problem::within(from, until, format!("the next commit begins at {}", commit.first_pos)));
        } else if commit.prev_hash != self.last_hash {
            let linked = commit_hash(&self.last_hash, commit.first_pos, commit.recorded_at.timestamp_micros(), root);
            let (from, until) = self.unlinked(commit, &linked);
            let what = format!("the commit of {} does not follow the one before: its previous hash is another", commit.first_pos);
            self.problems.push(Problem::within(from, until.max(from), what));
        }
        if self.last_recorded.is_some_and(|before| commit.recorded_at < before) {
            // Of a commit that is what it claims it is not known whether its own time was changed or that of the one before.
            let from = if *made == commit.hash { self.last_first } else { commit.first_pos };
            let until = commit.last_pos.max(commit.first_pos);
            self.problems.push(Problem::within(from.min(commit.first_pos), until, "recorded_at goes back"));
        }
        (self.last_first, self.last_pos, self.last_hash) = (commit.first_pos, commit.last_pos, commit.hash);
        (self.last_made, self.last_recorded) = (*made, Some(commit.recorded_at));
        self.tree.push(&commit.hash);
        self.meet_checkpoints(commit);
    }

    /// Where the cause may lie that a commit does not follow the one before. `made`: what it would hash to if it did.
    fn unlinked(&self, commit: &Commit, made: &Hash) -> (i64, i64) {
        if commit.prev_hash == self.last_made {
            // It was made after the one before as that stands: only the hash in the row of that one is another.
            (self.last_first, self.last_pos)
        } else if *made == commit.hash {
            // Only the previous hash in its own row is another.
            (commit.first_pos, commit.last_pos)
        } else {
            // Hashes were computed anew, of however many commits up to here.
            (self.in_doubt(), commit.last_pos)
        }
    }

    /// The first position for which no checkpoint vouches that held so far.
    fn in_doubt(&self) -> i64 {
        self.held.last().map_or(1, |held| held.saturating_add(1))
    }

    /// Compares with every checkpoint that stands at or before the end of this commit.
    fn meet_checkpoints(&mut self, commit: &Commit) {
        while let Some(signed) = self.checkpoints.pop_if(|signed| signed.checkpoint.position <= commit.last_pos) {
            let position = signed.checkpoint.position;
            match contradiction(&signed.checkpoint, &self.standing(commit)) {
                None => self.held.push(position),
                Some(what) => {
                    // Until the checkpoint before, the log is known to be what it was; the difference lies after it.
                    self.problems.push(Problem::within(self.in_doubt().min(position), position, what));
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

    /// The end: what was seen must be what the head says. `others`: what was found beside the chain. Gives the ranges in which something is
    /// wrong, nobody knows yet at which position.
    pub(super) fn end(&mut self, others: Problems) -> Vec<(i64, i64)> {
        self.problems.extend(exchanged::explain(&std::mem::take(&mut self.unexplained)));
        self.problems.extend(others.into_vec());
        self.meet_head();
        for signed in std::mem::take(&mut self.checkpoints) {
            let position = signed.checkpoint.position;
            let what = format!("the log ends before position {position}, for which there is a checkpoint");
            self.problems.push(Problem::within(self.last_pos.saturating_add(1), position, what));
        }
        self.problems.ranges()
    }

    fn meet_head(&mut self) {
        let (last_pos, head_pos) = (self.last_pos, self.head.pos);
        if last_pos != head_pos {
            let from = last_pos.min(head_pos).saturating_add(1);
            let what = format!("the commits end at {last_pos} but the head of the log says {head_pos}");
            self.problems.push(Problem::within(from, last_pos.max(head_pos), what));
        } else if self.last_hash != self.head.hash {
            // As in `unlinked`; whether the head's own hash was changed is not known.
            let from = if self.last_made == self.head.hash { self.last_first } else { self.in_doubt() };
            self.problems.push(Problem::within(
                from.min(head_pos),
                head_pos,
                "the head of the log has another hash than the newest commit",
            ));
        }
    }

    /// The report, after [`Self::end`]. `replaced`: events that were found in the ranges that it gave.
    pub(super) fn finish(mut self, replaced: Vec<Problem>) -> VerifyReport {
        for problem in replaced {
            // What is known of a position already says more.
            if !self.problems.is_named(problem.position) {
                self.problems.push(problem);
            }
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
