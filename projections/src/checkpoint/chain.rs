//! What a checkpoint is taken of: the commits of the log as one chain, which has to go on from whatever was signed of it before.

use chrono::{DateTime, Utc};
use domain::integrity::{checkpoint::Checkpoint, merkle::Accumulator};
use futures_util::TryStreamExt as _;
use sqlx::{PgConnection, PgPool, Row as _};
use uuid::Uuid;

use crate::{
    error::Error,
    log_reader::{self, Head, fixed, time},
    snapshot,
    verify::Commit,
};

/// The checkpoint of the log's present head, see [`Chain::take`].
///
/// # Errors
/// As there.
pub async fn take(pool: &PgPool, progress: impl FnMut(i64)) -> Result<Option<Checkpoint>, Error> {
    Chain::default().take(pool, progress).await
}

/// What keeps a log from being the one that `signed` speaks of; `here`: how it stands at the end of the first commit that reaches as far.
pub(crate) fn contradiction(signed: &Checkpoint, here: &Checkpoint) -> Option<String> {
    let what = if signed.position != here.position {
        "lies within a commit"
    } else if signed.log_id != here.log_id {
        "is of another log"
    } else if signed.epoch > here.epoch {
        "is of a later epoch: the database was restored to the past"
    } else if *signed != (Checkpoint { epoch: signed.epoch, ..here.clone() }) {
        "was signed over another log: everything before it was rewritten in a consistent way, or part of it"
    } else {
        return None;
    };
    Some(format!("the checkpoint of position {} {what}", signed.position))
}

/// The chain of commits as far as it was read. Kept from one checkpoint to the next, it reads only what is new, and takes only what
/// continues what it read before.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    /// Which log it is of, and the epoch of that when it was last looked at.
    log: Option<(Uuid, i32)>,
    /// Last position, time and hash of the newest commit.
    last: Option<(i64, DateTime<Utc>, [u8; 32])>,
    tree: Accumulator,
    /// What was signed before and has not been met yet.
    signed: Option<Checkpoint>,
}

impl Chain {
    /// Of the log that was `signed` before: nothing is taken of another one, nor of one in which that is not found as it was.
    pub fn continuing(signed: Checkpoint) -> Self {
        Self { log: Some((Uuid::from_bytes(signed.log_id), signed.epoch)), signed: Some(signed), ..Self::default() }
    }

    /// The checkpoint of the log's present head; nothing for an empty log. Commits are checked to be one chain up to the head: nothing else
    /// is ever signed. What they say of their events is for [`crate::verify`]. `pool`: a role that is a member of `smartpos_auditor` or
    /// `smartpos_worker`. `progress` hears the position reached.
    ///
    /// # Errors
    /// `Sql`, after which it can be asked again; `Corrupt` when the commits are not one chain, or not the one that was read or signed before.
    pub async fn take(&mut self, pool: &PgPool, progress: impl FnMut(i64)) -> Result<Option<Checkpoint>, Error> {
        let mut moment = snapshot::take(pool).await?;
        let head = log_reader::head(&mut moment.keeper).await?;
        // Half of what is new must not be counted twice, should the rest of it not come.
        let mut further = self.clone();
        further.begin(&head)?;
        further.read(&mut moment.keeper, &head, progress).await?;
        moment.keeper.commit().await?;
        *self = further;
        self.end(&head)
    }

    async fn read(&mut self, connection: &mut PgConnection, head: &Head, mut progress: impl FnMut(i64)) -> Result<(), Error> {
        let sql = "select first_pos, last_pos, recorded_at, prev_hash, hash from log.commit where first_pos > $1 order by first_pos";
        let after = self.last.map_or(i64::MIN, |(last, ..)| last);
        let mut rows = sqlx::query(sql).bind(after).fetch(connection);
        while let Some(row) = rows.try_next().await? {
            let first_pos = row.try_get(0)?;
            let (prev_hash, hash) = (fixed(row.try_get(3)?, first_pos)?, fixed(row.try_get(4)?, first_pos)?);
            let commit = Commit { first_pos, last_pos: row.try_get(1)?, recorded_at: time(&row, 2, first_pos)?, prev_hash, hash };
            self.commit(head, &commit)?;
            if self.tree.size().is_multiple_of(1_000) {
                progress(commit.last_pos);
            }
        }
        Ok(())
    }

    /// The log is looked at again.
    fn begin(&mut self, head: &Head) -> Result<(), Error> {
        let what = match self.log {
            Some((log_id, _)) if log_id != head.log_id => format!("this is another log, {}: before, it was {log_id}", head.log_id),
            Some((_, epoch)) if epoch > head.epoch => {
                format!("the epoch of the log is {}, and was {epoch}: the database was restored to the past", head.epoch)
            }
            _ => {
                self.log = Some((head.log_id, head.epoch));
                return Ok(());
            }
        };
        Err(Error::Corrupt { position: head.pos, what })
    }

    /// The next commit.
    fn commit(&mut self, head: &Head, commit: &Commit) -> Result<(), Error> {
        let (before, before_hash) = self.last.map_or((0, [0; 32]), |(last, _, hash)| (last, hash));
        if before.checked_add(1) != Some(commit.first_pos) || commit.prev_hash != before_hash {
            return Err(Error::Corrupt { position: before.saturating_add(1), what: "the commits are not one chain here".to_owned() });
        }
        self.last = Some((commit.last_pos, commit.recorded_at, commit.hash));
        self.tree.push(&commit.hash);
        self.meet_signed(head, commit.last_pos)
    }

    /// Compares with what was signed before, once that is reached.
    fn meet_signed(&mut self, head: &Head, last_pos: i64) -> Result<(), Error> {
        let Some(signed) = self.signed.take_if(|signed| signed.position <= last_pos) else { return Ok(()) };
        let here = self.checkpoint(head);
        match here.and_then(|here| contradiction(&signed, &here)) {
            None => Ok(()),
            Some(what) => Err(Error::Corrupt { position: signed.position, what }),
        }
    }

    /// All was read: what was seen must be what the head says, and what was signed must have been on the way.
    fn end(&self, head: &Head) -> Result<Option<Checkpoint>, Error> {
        if let Some(Checkpoint { position, .. }) = self.signed {
            let what = format!("the log ends before position {position}, for which there is a checkpoint");
            return Err(Error::Corrupt { position, what });
        }
        let (position, hash) = match self.last {
            None if head.pos == 0 => return Ok(None),
            None => return Err(Error::Corrupt { position: 1, what: "the commit is missing".to_owned() }),
            Some((position, _, hash)) => (position, hash),
        };
        if (position, hash) != (head.pos, head.hash) {
            return Err(Error::Corrupt { position, what: "the head of the log is not its newest commit".to_owned() });
        }
        Ok(self.checkpoint(head))
    }

    /// How the log stands at the newest commit that was read.
    fn checkpoint(&self, head: &Head) -> Option<Checkpoint> {
        let (position, recorded_at, head_hash) = self.last?;
        Some(Checkpoint {
            log_id: *head.log_id.as_bytes(),
            epoch: head.epoch,
            position,
            head_hash,
            recorded_at_us: recorded_at.timestamp_micros(),
            commits: self.tree.size(),
            root: self.tree.root(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Commits of two events each.
    fn commits(count: i64) -> Vec<Commit> {
        let hash = |n: i64| if n == 0 { [0; 32] } else { [u8::try_from(n).unwrap(); 32] };
        let commit = |n| Commit {
            first_pos: 2 * n - 1,
            last_pos: 2 * n,
            recorded_at: DateTime::from_timestamp(1_780_000_000 + n, 0).unwrap(),
            prev_hash: hash(n - 1),
            hash: hash(n),
        };
        (1..=count).map(commit).collect()
    }

    fn head(commits: &[Commit]) -> Head {
        let (pos, hash) = commits.last().map_or((0, [0; 32]), |commit| (commit.last_pos, commit.hash));
        Head { pos, epoch: 1, log_id: Uuid::from_u128(7), hash }
    }

    /// As [`Chain::take`] does it.
    fn taken(chain: &mut Chain, head: &Head, new: &[Commit]) -> Result<Option<Checkpoint>, String> {
        let take = |chain: &mut Chain| {
            chain.begin(head)?;
            new.iter().try_for_each(|commit| chain.commit(head, commit))?;
            chain.end(head)
        };
        take(chain).map_err(|error| error.to_string())
    }

    fn signed(commits: &[Commit]) -> Checkpoint {
        taken(&mut Chain::default(), &head(commits), commits).unwrap().unwrap()
    }

    #[test]
    fn a_chain_goes_on_from_what_it_read_or_from_what_was_signed_before() {
        let all = commits(5);
        let whole = signed(&all);
        let mut chain = Chain::default();
        assert_eq!(taken(&mut chain, &head(&all[..3]), &all[..3]), Ok(Some(signed(&all[..3]))));
        assert_eq!(taken(&mut chain, &head(&all), &all[3..]), Ok(Some(whole.clone())));
        for before in 1..=5 {
            let mut anew = Chain::continuing(signed(&all[..before]));
            assert_eq!(taken(&mut anew, &head(&all), &all), Ok(Some(whole.clone())), "{before}");
            assert_eq!(taken(&mut anew, &head(&all), &[]), Ok(Some(whole.clone())), "{before}, asked again");
        }
        assert_eq!(taken(&mut Chain::default(), &head(&[]), &[]), Ok(None));
    }

    #[test]
    fn a_chain_is_held_against_what_was_signed_before() {
        let all = commits(5);
        let before = signed(&all[..3]);
        let mut later = head(&all);
        later.epoch = 2;
        assert!(taken(&mut Chain::continuing(before.clone()), &later, &all).is_ok(), "restored, and holds all that was signed");
        for (changed, wanted) in [
            (Checkpoint { head_hash: [9; 32], ..before.clone() }, "another log: everything before"),
            (Checkpoint { root: [9; 32], ..before.clone() }, "another log: everything before"),
            (Checkpoint { commits: 4, ..before.clone() }, "another log: everything before"),
            (Checkpoint { recorded_at_us: 1, ..before.clone() }, "another log: everything before"),
            (Checkpoint { position: 5, ..before.clone() }, "within a commit"),
            (Checkpoint { position: 11, ..before.clone() }, "ends before position 11"),
            (Checkpoint { log_id: [9; 16], ..before.clone() }, "this is another log"),
            (Checkpoint { epoch: 2, ..before.clone() }, "restored to the past"),
        ] {
            let found = taken(&mut Chain::continuing(changed), &head(&all), &all).unwrap_err();
            assert!(found.contains(wanted), "{found}, {wanted}");
        }
        let emptied = taken(&mut Chain::continuing(before), &head(&[]), &[]).unwrap_err();
        assert!(emptied.contains("ends before position 6"), "{emptied}");
    }

    #[test]
    fn a_chain_is_of_one_log_against_another_of_the_same_commits_too() {
        let all = commits(3);
        let mut chain = Chain::default();
        assert!(taken(&mut chain, &head(&all), &all).is_ok());
        let other = Head { log_id: Uuid::from_u128(8), ..head(&all) };
        assert!(taken(&mut chain, &other, &[]).unwrap_err().contains("another log"));
    }
}
