//! Verifies the whole log: every hash, every Merkle root, the chain of commits, and the order of positions, versions and times.
//!
//! The verifier is pure; [`verify_log`] streams the log through it. Memory grows with the number of streams, not of events.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use domain::{
    envelope::{RecordedEvent, StreamKey},
    integrity::{commit_hash, merkle_root, recorded_hash},
};
use futures_util::StreamExt as _;
use sqlx::{PgPool, Row as _};

use crate::{
    error::Error,
    log_reader::{Head, LogReader, fixed},
};

/// Commits read at once.
const CHUNK: i64 = 1_000;
/// Most problems that a report lists; the first ones tell the story.
const MOST_PROBLEMS: usize = 100;

/// Something in the log that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// Where.
    pub position: i64,
    /// What.
    pub what: String,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct VerifyReport {
    /// Events read.
    pub events: i64,
    /// Commits read.
    pub commits: i64,
    /// Where the log ended when the verification began.
    pub head_pos: i64,
    /// Hash of the newest commit then, hex; two logs with the same one are the same log.
    pub head_hash: String,
    /// Lowest position first; at most a hundred. Empty: the log is what was written.
    pub problems: Vec<Problem>,
}

impl VerifyReport {
    /// Nothing was found.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }
}

/// A row of `log.commit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its first position.
    pub first_pos: i64,
    /// Its last position.
    pub last_pos: i64,
    /// UTC.
    pub recorded_at: DateTime<Utc>,
    /// Hash of the commit before; zeros for the first.
    pub prev_hash: [u8; 32],
    /// Its hash.
    pub hash: [u8; 32],
}

/// Verifies commits one after the other, from the first.
#[derive(Default)]
pub struct Verifier {
    events: i64,
    commits: i64,
    last_pos: i64,
    last_hash: [u8; 32],
    last_recorded: Option<DateTime<Utc>>,
    versions: HashMap<StreamKey, i64>,
    problems: Vec<Problem>,
}

impl Verifier {
    /// The next commit, with all events that the log holds between its positions.
    pub fn commit(&mut self, commit: &Commit, events: &[RecordedEvent]) {
        self.commits += 1;
        if commit.first_pos != self.last_pos + 1 {
            self.problem(self.last_pos + 1, format!("the next commit begins at {}", commit.first_pos));
        }
        if commit.last_pos < commit.first_pos {
            self.problem(commit.first_pos, format!("the commit ends before it begins, at {}", commit.last_pos));
        }
        if commit.prev_hash != self.last_hash {
            self.problem(commit.first_pos, "the commit does not follow the one before: its previous hash is another".to_owned());
        }
        if self.last_recorded.is_some_and(|before| commit.recorded_at < before) {
            self.problem(commit.first_pos, "recorded_at goes back".to_owned());
        }
        let mut expected = commit.first_pos;
        let mut hashes = Vec::with_capacity(events.len());
        for event in events {
            if event.pos != expected {
                self.problem(expected, format!("the event is missing; the next one is at {}", event.pos));
            }
            expected = event.pos + 1;
            hashes.push(self.event(event, commit.recorded_at));
        }
        if expected != commit.last_pos + 1 {
            self.problem(expected, "the event is missing".to_owned());
        }
        let hash = commit_hash(&commit.prev_hash, commit.first_pos, commit.recorded_at.timestamp_micros(), &merkle_root(&hashes));
        if hash != commit.hash {
            self.problem(commit.first_pos, "the commit does not hash to what it claims".to_owned());
        }
        (self.last_pos, self.last_hash, self.last_recorded) = (commit.last_pos, commit.hash, Some(commit.recorded_at));
    }

    /// The hash that the event should have.
    fn event(&mut self, event: &RecordedEvent, recorded_at: DateTime<Utc>) -> [u8; 32] {
        self.events += 1;
        let hash = recorded_hash(event);
        if hash != event.hash {
            self.problem(event.pos, "the event does not hash to what it claims".to_owned());
        }
        if event.recorded_at != recorded_at {
            self.problem(event.pos, "recorded_at differs from that of its commit".to_owned());
        }
        let version = self.versions.entry(event.stream).or_insert(0);
        let before = std::mem::replace(version, event.version);
        if event.version != before + 1 {
            self.problem(event.pos, format!("version {} of its stream comes after {before}", event.version));
        }
        hash
    }

    /// The end: what was seen must be what the head says.
    pub fn finish(mut self, head: &Head) -> VerifyReport {
        if self.last_pos != head.pos {
            self.problem(self.last_pos.min(head.pos) + 1, format!("the log ends at {} but its head says {}", self.last_pos, head.pos));
        } else if self.last_hash != head.hash {
            self.problem(head.pos, "the head has another hash than the newest commit".to_owned());
        }
        self.problems.sort_by_key(|problem| problem.position);
        let (events, commits, problems) = (self.events, self.commits, self.problems);
        VerifyReport { events, commits, head_pos: head.pos, head_hash: hex::encode(head.hash), problems }
    }

    fn problem(&mut self, position: i64, what: String) {
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(Problem { position, what });
        }
    }
}

/// Verifies the log up to its present end. `pool`: a role that is a member of `smartpos_worker`. `progress` hears the
/// position reached, now and then.
///
/// # Errors
/// `Sql`; `Corrupt` for a row that cannot even be read. What can be read and is wrong is a [`Problem`].
pub async fn verify_log(pool: &PgPool, mut progress: impl FnMut(i64)) -> Result<VerifyReport, Error> {
    let reader = LogReader::new(pool.clone());
    let head = reader.head().await?;
    let mut verifier = Verifier::default();
    let mut last = 0;
    loop {
        let commits = read_commits(pool, last, head.pos).await?;
        let Some(end) = commits.last().map(|commit| commit.last_pos) else { break };
        let mut events = reader.stream(last, end);
        let mut ahead: Option<RecordedEvent> = None;
        for commit in &commits {
            let mut of_commit: Vec<RecordedEvent> = Vec::new();
            loop {
                let next = match ahead.take() {
                    Some(event) => Some(event),
                    None => events.next().await.transpose()?,
                };
                match next {
                    Some(event) if event.pos <= commit.last_pos => of_commit.push(event),
                    beyond => {
                        ahead = beyond;
                        break;
                    }
                }
            }
            verifier.commit(commit, &of_commit);
        }
        last = end;
        progress(last);
    }
    Ok(verifier.finish(&head))
}

async fn read_commits(pool: &PgPool, after: i64, until: i64) -> Result<Vec<Commit>, Error> {
    let sql = "select first_pos, last_pos, recorded_at, prev_hash, hash from log.commit \
               where first_pos > $1 and first_pos <= $2 order by first_pos limit $3";
    let rows = sqlx::query(sql).bind(after).bind(until).bind(CHUNK).fetch_all(pool).await?;
    let commits = rows.into_iter().map(|row| {
        let first_pos = row.try_get(0)?;
        let (prev_hash, hash) = (fixed(row.try_get(3)?, first_pos)?, fixed(row.try_get(4)?, first_pos)?);
        Ok(Commit { first_pos, last_pos: row.try_get(1)?, recorded_at: row.try_get(2)?, prev_hash, hash })
    });
    commits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::History;

    type Commits = Vec<(Commit, Vec<RecordedEvent>)>;

    fn commits(events: &[RecordedEvent], size: usize) -> (Commits, Head) {
        let mut prev_hash = [0; 32];
        let mut commits = Vec::new();
        for chunk in events.chunks(size) {
            let (first, last) = (&chunk[0], &chunk[chunk.len() - 1]);
            let chunk: Vec<_> = chunk.iter().cloned().map(|event| RecordedEvent { recorded_at: first.recorded_at, ..event }).collect();
            let root = merkle_root(&chunk.iter().map(|event| event.hash).collect::<Vec<_>>());
            let hash = commit_hash(&prev_hash, first.pos, first.recorded_at.timestamp_micros(), &root);
            let commit = Commit { first_pos: first.pos, last_pos: last.pos, recorded_at: first.recorded_at, prev_hash, hash };
            commits.push((commit, chunk));
            prev_hash = hash;
        }
        let head = Head { pos: i64::try_from(events.len()).unwrap(), epoch: 1, log_id: uuid::Uuid::nil(), hash: prev_hash };
        (commits, head)
    }
    fn verify(commits: &[(Commit, Vec<RecordedEvent>)], head: &Head) -> Vec<i64> {
        let mut verifier = Verifier::default();
        for (commit, events) in commits {
            verifier.commit(commit, events);
        }
        verifier.finish(head).problems.into_iter().map(|problem| problem.position).collect()
    }
    fn sample() -> (Commits, Head) {
        let events: Vec<_> = History::sale_and_refund().iter().map(|event| (**event).clone()).collect();
        commits(&events, 3)
    }

    #[test]
    fn an_untouched_log_is_sound() {
        let (commits, head) = sample();
        assert!(verify(&commits, &head).is_empty());
        assert!(verify(&[], &Head { pos: 0, hash: [0; 32], ..head }).is_empty());
    }

    #[test]
    fn every_kind_of_change_is_found_at_its_place() {
        let (sound, head) = sample();
        let broken = |change: &dyn Fn(&mut Commits)| {
            let mut commits = sound.clone();
            change(&mut commits);
            verify(&commits, &head).first().copied()
        };
        assert_eq!(broken(&|commits| commits[1].1[1].payload.push(b' ')), Some(4), "a payload, named by its commit first");
        assert_eq!(
            broken(&|commits| {
                commits[1].1.remove(1);
            }),
            Some(4),
            "an event cut out"
        );
        assert_eq!(
            broken(&|commits| {
                commits.remove(1);
            }),
            Some(4),
            "a commit cut out"
        );
        assert_eq!(broken(&|commits| commits[0].0.hash[0] ^= 1), Some(1), "a commit's hash");
        assert_eq!(
            broken(&|commits| {
                commits.pop();
            }),
            Some(i64::try_from(sound.len() * 3).unwrap() - 2),
            "the end cut off"
        );
        assert_eq!(broken(&|commits| commits[2].1[0].recorded_at += chrono::TimeDelta::seconds(1)), Some(7), "a time");
    }
}
