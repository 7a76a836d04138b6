//! Holds the log to an export that was made of it before: event by event, in the order of both.
//!
//! An event's hash covers all of it but its position and `recorded_at`, and the export names all three. So whatever of the exported range
//! was replaced, put in, removed or moved is named at its place, also when every hash of the log was computed anew. What came after
//! the export it cannot know.
//!
//! Both sides are read once; memory: [`WINDOW`] events of each, and a page of the log. Where they differ, the window is searched for the
//! place at which they agree again: first at the same distance (events were replaced, or changed places), then at any. An export that
//! begins in the middle of the log may stand elsewhere as a whole: it is looked for up to [`WINDOW`] positions around its place.

use std::collections::{HashMap, VecDeque};

use chrono::{DateTime, Utc};
use domain::integrity::merkle::Hash;
use sqlx::{PgConnection, PgPool, Row as _};

use super::{Problem, problems::Problems};
use crate::{
    error::Error,
    log_reader::{self, fixed, time},
    snapshot,
};

/// Events of each side among which the two are brought together again.
const WINDOW: usize = 256;
/// Positions before the export's first one at which that is looked for.
const REACH: i64 = 256;
/// Replaced events in a row up to which the two are expected to agree again at the same distance.
const IN_PLACE: usize = 64;
/// Rows read from the log at once.
const PAGE: i64 = 10_000;
/// Differences among which it is asked what became of an event.
const MOST_EXPLAINED: usize = 1_000;

/// What an export says of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedEvent {
    /// Its position then.
    pub position: i64,
    /// Its hash.
    pub hash: Hash,
    /// Of its commit, UTC.
    pub recorded_at: DateTime<Utc>,
}

/// What a comparison with an export found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// Events of the export.
    pub events: i64,
    /// Its first position; 0 when it holds none.
    pub first: i64,
    /// Its last position.
    pub last: i64,
    /// Where the log ended: what lies beyond `last` was not compared.
    pub head_pos: i64,
    /// Lowest position first; at most a hundred. Empty: the range is what it was.
    pub problems: Vec<Problem>,
}

/// Compares the log with the events of an export, which stand in the order of their positions without a gap. `pool`: a role that is a member
/// of `smartpos_auditor` or `smartpos_worker`.
///
/// # Errors
/// The export's own; `Sql`; `Corrupt` for a head of the log that cannot be read.
pub async fn compare<E: From<Error>>(pool: &PgPool, mut exported: impl Iterator<Item = Result<ExportedEvent, E>>) -> Result<Comparison, E> {
    let mut moment = snapshot::take(pool).await?;
    let head_pos = log_reader::head(&mut moment.keeper).await?.pos;
    let mut comparer = Comparer::default();
    let mut page_after = None;
    while comparer.take_exported(&mut exported)? {
        while comparer.lacks_stored() {
            let after = page_after.unwrap_or(comparer.reads_after());
            let page = page(&mut moment.keeper, after).await?;
            page_after = page.last().map(|event| event.position).or(page_after);
            comparer.take_stored(page);
        }
        comparer.step();
    }
    moment.keeper.commit().await.map_err(Error::from)?;
    let Comparer { events, first, last, .. } = comparer;
    Ok(Comparison { events, first, last, head_pos, problems: comparer.finish() })
}

/// The next rows of the log. What cannot be read of one is like nothing that was exported.
async fn page(connection: &mut PgConnection, after: i64) -> Result<Vec<StoredEvent>, Error> {
    let sql = "select pos, hash, recorded_at from log.event where pos > $1 order by pos limit $2";
    let rows = sqlx::query(sql).bind(after).bind(PAGE).fetch_all(connection).await?;
    let stored = rows.iter().map(|row| {
        let position = row.try_get(0)?;
        Ok(StoredEvent { position, hash: fixed(row.try_get(1)?, position).ok(), recorded_at: time(row, 2, position).ok() })
    });
    stored.collect()
}

/// What the log says of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredEvent {
    pub position: i64,
    pub hash: Option<Hash>,
    pub recorded_at: Option<DateTime<Utc>>,
}

/// A place at which the two sides differ: only in the export, only in the log, or another event in each.
struct Difference {
    position: i64,
    exported: Option<Hash>,
    stored: Option<Hash>,
}

/// The comparison under way.
#[derive(Default)]
pub(super) struct Comparer {
    events: i64,
    first: i64,
    last: i64,
    exported: VecDeque<ExportedEvent>,
    stored: VecDeque<StoredEvent>,
    stored_ended: bool,
    /// Where the range begins in the log was looked for.
    begun: bool,
    /// Events that agreed.
    agreed: i64,
    /// How far behind its exported position the last event that agreed stands.
    shift: i64,
    /// A difference was just told, which explains another shift.
    explained: bool,
    differences: Vec<Difference>,
    problems: Problems,
}

impl Comparer {
    /// Fills the window of the export; whether anything is left to compare.
    pub(super) fn take_exported<E>(&mut self, events: &mut impl Iterator<Item = Result<ExportedEvent, E>>) -> Result<bool, E> {
        while self.exported.len() < WINDOW {
            let Some(event) = events.next().transpose()? else { break };
            if self.events == 0 {
                self.first = event.position;
            }
            self.events += 1;
            self.last = event.position;
            self.exported.push_back(event);
        }
        Ok(!self.exported.is_empty())
    }

    /// After which position the log is read.
    pub(super) fn reads_after(&self) -> i64 {
        self.first.saturating_sub(1).saturating_sub(REACH).max(0)
    }

    /// Whether the window of the log can be fuller.
    pub(super) fn lacks_stored(&self) -> bool {
        // At first also what stands before the range.
        let wanted = if self.begun { WINDOW } else { 2 * WINDOW };
        !self.stored_ended && self.stored.len() < wanted
    }

    /// The next rows of the log; none when it has ended.
    pub(super) fn take_stored(&mut self, events: Vec<StoredEvent>) {
        self.stored_ended = events.is_empty();
        self.stored.extend(events);
    }

    /// Compares the next events.
    pub(super) fn step(&mut self) {
        if !self.begun {
            self.begin();
        }
        let Some(exported) = self.exported.front() else { return };
        match self.stored.front() {
            None => self.tell(self.exported.len(), 0),
            Some(stored) if stored.hash == Some(exported.hash) => self.agreed(),
            Some(_) => {
                let (exported, stored) = self.next_agreement();
                self.tell(exported, stored);
            }
        }
    }

    /// Sets aside what stands before the range. What was put in or removed there moved all of the range, and is no fault of an event in it.
    fn begin(&mut self) {
        self.begun = true;
        let shift = self.first_shift();
        let (begins, read_after) = (self.first.saturating_add(shift), self.reads_after());
        while self.stored.pop_front_if(|event| event.position < begins).is_some() {}
        if shift == 0 {
            return;
        }
        // Of these it is not known what stands in their places.
        while self.exported.pop_front_if(|event| event.position.saturating_add(shift) <= read_after).is_some() {}
        let (by, way) = (shift.unsigned_abs(), if shift > 0 { "later" } else { "earlier" });
        let positions = if by == 1 { "position" } else { "positions" };
        let what = format!("the range begins {by} {positions} {way} than when it was exported; the cause lies before it");
        self.problems.push(Problem::within(1, begins.max(self.first).saturating_sub(1), what));
        self.shift = shift;
    }

    /// How far behind its exported position the first event that is there stands.
    fn first_shift(&self) -> i64 {
        if self.first <= 1 {
            return 0;
        }
        let places: HashMap<&Hash, i64> = self.stored.iter().filter_map(|event| Some((event.hash.as_ref()?, event.position))).collect();
        let shift = |event: &ExportedEvent| Some(places.get(&event.hash)?.saturating_sub(event.position));
        if self.exported.iter().take(IN_PLACE).any(|event| shift(event) == Some(0)) {
            return 0;
        }
        let found = (0_i64..).zip(&self.exported).find_map(|(index, event)| Some((index, shift(event)?)));
        // As many of the range's own first events are missing as the rest moved up by: the cause does not lie before it.
        found.filter(|(index, shift)| index.saturating_add(*shift) != 0).map_or(0, |(_, shift)| shift)
    }

    /// The next event is the same one.
    fn agreed(&mut self) {
        let (Some(exported), Some(stored)) = (self.exported.pop_front(), self.stored.pop_front()) else { return };
        let shift = stored.position.saturating_sub(exported.position);
        if shift != self.shift && !self.explained {
            let what = format!("the event stood at position {} when it was exported", exported.position);
            self.problems.push(Problem::at(stored.position, what));
        }
        if stored.recorded_at != Some(exported.recorded_at) {
            self.problems.push(Problem::at(stored.position, "recorded_at is another than in the export"));
        }
        (self.shift, self.explained) = (shift, false);
        self.agreed += 1;
    }

    /// How many events of each side stand before the next one that both have; when there is none in the window, all that it has of the
    /// export, and what stands in their places.
    fn next_agreement(&self) -> (usize, usize) {
        let same = |(exported, stored): (&ExportedEvent, &StoredEvent)| stored.hash == Some(exported.hash);
        if let Some(in_place) = self.exported.iter().zip(&self.stored).take(IN_PLACE).position(same) {
            return (in_place, in_place);
        }
        let places: HashMap<&Hash, usize> =
            self.exported.iter().take(WINDOW).enumerate().map(|(index, event)| (&event.hash, index)).collect();
        let pairs = self.stored.iter().take(WINDOW).enumerate().filter_map(|(stored, event)| {
            let exported = places.get(event.hash.as_ref()?)?;
            Some((*exported, stored))
        });
        pairs.min_by_key(|(exported, stored)| exported + stored).unwrap_or_else(|| {
            let end = self.exported.back().map_or(0, |event| event.position.saturating_add(self.shift));
            (self.exported.len(), self.stored.iter().take_while(|event| event.position <= end).count())
        })
    }

    /// Notes that so many next events of each side have no like; those at one position took each other's place.
    fn tell(&mut self, exported: usize, stored: usize) {
        let mut stored: VecDeque<StoredEvent> = self.stored.drain(..stored).collect();
        let exported: Vec<ExportedEvent> = self.exported.drain(..exported).collect();
        for event in exported {
            let place = event.position.saturating_add(self.shift);
            while let Some(extra) = stored.pop_front_if(|other| other.position < place) {
                self.difference(extra.position, None, extra.hash);
            }
            match stored.pop_front_if(|other| other.position == place) {
                Some(other) => self.difference(place, Some(event.hash), other.hash),
                None => self.difference(event.position, Some(event.hash), None),
            }
        }
        for extra in stored {
            self.difference(extra.position, None, extra.hash);
        }
        self.explained = true;
    }

    fn difference(&mut self, position: i64, exported: Option<Hash>, stored: Option<Hash>) {
        let difference = Difference { position, exported, stored };
        if self.differences.len() < MOST_EXPLAINED {
            self.differences.push(difference);
        } else {
            self.problems.push(difference.problem());
        }
    }

    /// What was found: with what became of an event where that is known.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        let differences = std::mem::take(&mut self.differences);
        // Where the log has nothing at all, events are missing; where it has others, so many replaced ones say less than this.
        if self.agreed == 0 && differences.iter().any(|difference| difference.exported.is_some() && difference.stored.is_some()) {
            let what = "no event of the export is at its place or near it: it is perhaps the export of another log, or all were replaced";
            return vec![Problem::within(self.first, self.last, what)];
        }
        let places = |hash: fn(&Difference) -> Option<Hash>| -> HashMap<Hash, i64> {
            differences.iter().filter_map(|difference| Some((hash(difference)?, difference.position))).collect()
        };
        let (was, is) = (places(|difference| difference.exported), places(|difference| difference.stored));
        for difference in &differences {
            let goes_to = difference.exported.and_then(|hash| is.get(&hash));
            let came_from = difference.stored.and_then(|hash| was.get(&hash));
            let position = difference.position;
            self.problems.push(match (goes_to, came_from) {
                (Some(there), Some(from)) if there == from => {
                    let (one, other) = (position.min(*there), position.max(*there));
                    Problem::at(position, format!("the events of {one} and {other} were exchanged since the export"))
                }
                (Some(there), _) => Problem::at(position, format!("the event that the export has here stands at position {there}")),
                (None, Some(from)) => Problem::at(position, format!("the event is the one that the export has at position {from}")),
                (None, None) => difference.problem(),
            });
        }
        self.problems.into_vec()
    }
}

impl Difference {
    fn problem(&self) -> Problem {
        let what = match (self.exported, self.stored) {
            (Some(_), None) => "the event is missing: the export has one here",
            (Some(_), Some(_)) => "the event is another than in the export: it was replaced, with its hash",
            (None, _) => "the event was put in: the export has none like it here",
        };
        Problem::at(self.position, what)
    }
}
