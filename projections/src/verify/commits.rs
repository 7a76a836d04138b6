//! One part of the log: its commits, and every event between its ends.

use std::collections::VecDeque;

use domain::{
    envelope::{RecordedEvent, StreamKey},
    ids::Ulid,
    integrity::{commit_hash, merkle::Hash, merkle_root, recorded_hash},
};

use super::{Commit, MOST_UNEXPLAINED, Problem, problems::Problems};

/// A commit whose events each are what they claim, and that as a whole is not.
pub(super) struct Unexplained {
    pub commit: Commit,
    pub hashes: Vec<Hash>,
    /// Of each event, in the same order.
    pub origins: Vec<EventOrigin>,
}

/// What tells of an event where in its commit it may have been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EventOrigin {
    /// Its command.
    pub command: Ulid,
    pub stream: StreamKey,
    pub version: i64,
}

impl EventOrigin {
    const fn of(event: &RecordedEvent) -> Self {
        Self { command: event.causation_id, stream: event.stream, version: event.version }
    }
}

impl Unexplained {
    /// Whether the commit is right with this root.
    pub(super) fn fits(&self, root: &Hash) -> bool {
        let commit = &self.commit;
        commit_hash(&commit.prev_hash, commit.first_pos, commit.recorded_at.timestamp_micros(), root) == commit.hash
    }
}

/// A commit, with the root of the events that it has, whatever these are, and what it hashes to with them.
pub(super) struct Linked {
    pub commit: Commit,
    pub root: Hash,
    pub made: Hash,
}

/// What a part holds.
pub(super) struct Part {
    pub events: i64,
    /// By position.
    pub commits: Vec<Linked>,
    pub problems: Vec<Problem>,
    pub unexplained: Vec<Unexplained>,
    /// Highest position seen.
    last_position: i64,
}

impl Part {
    pub(super) const fn last_position(&self) -> i64 {
        self.last_position
    }
}

/// The commit under way.
struct Open {
    commit: Commit,
    /// The position that should come next.
    expected: i64,
    hashes: Vec<Hash>,
    origins: Vec<EventOrigin>,
    /// Every event so far is there, readable, and hashes to what it claims: what is wrong then is the commit as a whole.
    intact: bool,
}

/// Verifies a part, event by event.
pub(super) struct PartVerifier {
    waiting: VecDeque<Commit>,
    open: Option<Open>,
    problems: Problems,
    part: Part,
}

impl PartVerifier {
    /// The commits of the part, by position, and what is wrong with their rows.
    pub(super) fn new(commits: Vec<Commit>, broken: Vec<Problem>) -> Self {
        let last_position = commits.last().map_or(0, |commit| commit.last_pos);
        let waiting = VecDeque::from(commits);
        let part =
            Part { events: 0, commits: Vec::with_capacity(waiting.len()), problems: Vec::new(), unexplained: Vec::new(), last_position };
        let mut verifier = Self { waiting, open: None, problems: Problems::default(), part };
        verifier.problems.extend(broken);
        verifier.open_next();
        verifier
    }

    /// The next event by position.
    pub(super) fn event(&mut self, event: &RecordedEvent) {
        let Some(open) = self.place(event.pos) else { return };
        open.hashes.push(event.hash);
        open.origins.push(EventOrigin::of(event));
        let recorded_at = open.commit.recorded_at;
        let as_claimed = recorded_hash(event) == event.hash;
        open.intact &= as_claimed;
        if !as_claimed {
            self.problems.push(Problem::at(event.pos, "the event does not hash to what it claims"));
        }
        if event.recorded_at != recorded_at {
            self.problems.push(Problem::at(event.pos, "recorded_at differs from that of its commit"));
        }
    }

    /// An event that is there and cannot be read.
    pub(super) fn unreadable(&mut self, position: i64, what: String) {
        if let Some(open) = self.place(position) {
            open.intact = false;
        }
        self.problems.push(Problem::at(position, what));
    }

    pub(super) fn finish(mut self) -> Part {
        while self.open.is_some() {
            self.close();
        }
        Part { problems: self.problems.into_vec(), ..self.part }
    }

    /// Counts the event; gives the commit that it belongs to.
    fn place(&mut self, position: i64) -> Option<&mut Open> {
        self.part.events += 1;
        self.part.last_position = self.part.last_position.max(position);
        while self.open.as_ref().is_some_and(|open| position > open.commit.last_pos) {
            self.close();
        }
        if self.open.as_ref().is_none_or(|open| position < open.commit.first_pos) {
            self.problems.push(Problem::at(position, "the event belongs to no commit"));
            return None;
        }
        let expected = self.open.as_ref().map_or(position, |open| open.expected);
        if position > expected {
            self.missing(expected, position - 1);
        }
        let open = self.open.as_mut()?;
        open.intact &= position == expected;
        open.expected = position.saturating_add(1);
        Some(open)
    }

    /// Ends the open commit and opens the next one.
    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        let Open { commit, expected, hashes, origins, intact } = open;
        let root = merkle_root(&hashes);
        let made = commit_hash(&commit.prev_hash, commit.first_pos, commit.recorded_at.timestamp_micros(), &root);
        self.part.commits.push(Linked { commit: commit.clone(), root, made });
        if commit.last_pos < commit.first_pos {
            self.problems.push(Problem::at(commit.first_pos, format!("the commit ends before it begins, at {}", commit.last_pos)));
        } else if expected <= commit.last_pos {
            self.missing(expected, commit.last_pos);
        } else if intact && made != commit.hash {
            if self.part.unexplained.len() < MOST_UNEXPLAINED {
                self.part.unexplained.push(Unexplained { commit, hashes, origins });
            } else {
                let what = "the commit does not hash to what it claims";
                self.problems.push(Problem::within(commit.first_pos, commit.last_pos, what));
            }
        }
        self.open_next();
    }

    fn open_next(&mut self) {
        let next = self.waiting.pop_front();
        self.open = next.map(|commit| Open { expected: commit.first_pos, commit, hashes: Vec::new(), origins: Vec::new(), intact: true });
    }

    fn missing(&mut self, from: i64, until: i64) {
        let what = if from == until { "the event is missing".to_owned() } else { format!("the events up to {until} are missing") };
        self.problems.push(Problem::within(from, until, what));
    }
}
