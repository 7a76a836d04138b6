//! Each stream by itself: versions without gaps in the order of positions, up to what the stream's head says.

use futures_util::TryStreamExt as _;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::{Problem, problems::Problems};
use crate::{error::Error, log_reader::Head};

/// Events beside the heads of their streams, by stream and version; either may be missing.
const SQL: &str = "select tenant, stream_type, stream_id, e.version, e.pos, h.version \
                   from log.event e full join log.stream_head h using (tenant, stream_type, stream_id) \
                   order by tenant, stream_type, stream_id, e.version, e.pos";

/// A stream as it is stored, whatever its type says.
type StoredKey = (Uuid, String, Uuid);

/// Version and position of the newest event seen of a stream, and the version that its head names.
struct Current {
    key: StoredKey,
    version: i64,
    pos: i64,
    head: Option<i64>,
    /// An event beyond the head was named already.
    beyond: bool,
}

/// Verifies streams, event by event; remembers one stream.
pub(super) struct StreamVerifier {
    /// Where something that is missing at the end of the log would stand.
    after_head: i64,
    current: Option<Current>,
    problems: Problems,
}

impl StreamVerifier {
    pub(super) fn new(head_pos: i64) -> Self {
        Self { after_head: head_pos.saturating_add(1), current: None, problems: Problems::default() }
    }

    /// The next event of a stream, or a stream's head without events.
    pub(super) fn row(&mut self, key: StoredKey, event: Option<(i64, i64)>, head: Option<i64>) {
        if self.current.as_ref().is_none_or(|current| current.key != key) {
            self.close();
            self.current = Some(Current { key, version: 0, pos: 0, head, beyond: false });
        }
        let (Some((version, pos)), Some(current)) = (event, &mut self.current) else { return };
        let (before, before_pos) = (current.version, current.pos);
        (current.version, current.pos) = (version, pos);
        let past = current.head.is_none_or(|head| version > head);
        let beyond = past && !current.beyond;
        current.beyond |= past;
        let head = current.head.unwrap_or(0);
        if before.checked_add(1) != Some(version) {
            // What is missing between the two may be an event of another stream now.
            let what = format!("version {version} of its stream, at {pos}, comes after {before}");
            self.problems.push(Problem::within(before_pos.max(1).min(pos), pos, what));
        }
        if pos <= before_pos {
            let what = format!("version {version} of its stream, at {pos}, stands before version {before}, at {before_pos}");
            self.problems.push(Problem::within(pos, before_pos, what));
        }
        if beyond {
            self.problems.push(Problem::at(pos, format!("the head of its stream knows versions up to {head}, this is {version}")));
        }
    }

    pub(super) fn finish(mut self) -> Problems {
        self.close();
        self.problems
    }

    fn close(&mut self) {
        let Some(Current { key: (_, kind, id), version, pos, head: Some(head), .. }) = self.current.take() else { return };
        if head > version {
            let stream = domain::ids::Ulid::from_bytes(*id.as_bytes());
            let what = format!("the head of {kind} {stream} is version {head}, the log has no more than {version}");
            // It is an event of another stream now, or was cut off at the end of the log.
            let from = pos.max(1);
            self.problems.push(Problem::within(from, self.after_head.max(from), what));
        }
    }
}

/// Events between two reports of progress.
const TOLD_EVERY: i64 = 10_000;

/// Verifies all streams of the log as the connection sees it. `progress` hears how many events were read.
pub(super) async fn verify(connection: &mut PgConnection, head: &Head, progress: impl Fn(i64)) -> Result<Problems, Error> {
    let mut verifier = StreamVerifier::new(head.pos);
    let mut rows = sqlx::query(SQL).fetch(connection);
    let mut read = 0;
    while let Some(row) = rows.try_next().await? {
        read += 1;
        if read % TOLD_EVERY == 0 {
            progress(read);
        }
        let (version, pos): (Option<i64>, Option<i64>) = (row.try_get(3)?, row.try_get(4)?);
        verifier.row((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?), version.zip(pos), row.try_get(5)?);
    }
    Ok(verifier.finish())
}
