//! The log folded into empty tables by several connections at once.
//!
//! Events are dealt out by a hash of what their rows depend on ([`Locality`]), so the parts share no row. The database filters,
//! so that each event is sent and decoded once.

use std::{collections::HashMap, sync::Arc};

use domain::{envelope::RecordedEvent, event::ReadEvent};
use futures_util::{StreamExt as _, stream::BoxStream};
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use tokio::{sync::mpsc, task::JoinSet};

use super::{Stage, Wanted, copy::copy};
use crate::{
    error::Error,
    fold::{Batch, Fold, Step},
    log_reader::{EVENT_COLUMNS, TENANT_NUMBER, kinds_read_by, row_to_event},
    projection::{Locality, Projection},
    rows::Rows,
    runner::BATCH,
    tables::{self, Target},
};

/// Folds the log up to `goal` into the empty tables of `shadow`, and puts its checkpoint there.
pub(super) async fn fold(
    worker: &PgPool,
    projection: &Arc<dyn Projection>,
    shadow: &Target,
    goal: i64,
    wanted: Wanted,
    progress: &mut impl FnMut(Stage),
) -> Result<(), Error> {
    let parts = i32::try_from(wanted.connections.max(1)).unwrap_or(1);
    let (sender, mut reached) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    for number in 0..parts {
        let part = Part {
            projection: Arc::clone(projection),
            pool: worker.clone(),
            shadow: shadow.clone(),
            number,
            parts,
            goal,
            most_rows: wanted.rows_in_memory.max(1),
            reached: sender.clone(),
        };
        tasks.spawn(part.run());
    }
    drop(sender);
    let mut positions: HashMap<i32, i64> = (0..parts).map(|part| (part, 0)).collect();
    while let Some((part, position)) = reached.recv().await {
        positions.insert(part, position);
        progress(Stage::Folding { position: positions.values().copied().min().unwrap_or(0), of: goal });
    }
    while let Some(ended) = tasks.join_next().await {
        // Dropping the set ends the other parts.
        ended.map_err(|error| Error::Corrupt {
            position: 0,
            what: format!("a part of the rebuild of {} ended early: {error}", projection.name()),
        })??;
    }
    let sql = "update read.checkpoint set pos = $3 where name = $1 and version = $2";
    sqlx::query(sql).bind(&shadow.name).bind(shadow.version).bind(goal).execute(worker).await?;
    Ok(())
}

/// One of the parts.
struct Part {
    projection: Arc<dyn Projection>,
    pool: PgPool,
    shadow: Target,
    number: i32,
    parts: i32,
    goal: i64,
    /// Rows in memory at which they are written and forgotten.
    most_rows: usize,
    reached: mpsc::UnboundedSender<(i32, i64)>,
}

impl Part {
    async fn run(self) -> Result<(), Error> {
        let mut reader = self.pool.acquire().await?;
        let mut events = self.events(&mut reader);
        let mut fold = Fold::new(Rows::over_empty_tables(), HashMap::new());
        let most = BATCH.min(self.most_rows);
        let mut batch: Vec<Arc<ReadEvent>> = Vec::with_capacity(most);
        loop {
            let next = events.next().await.transpose()?;
            let ended = next.is_none();
            batch.extend(next.map(ReadEvent::shared));
            if batch.len() >= most || ended {
                let last = batch.last().map(|event| event.pos);
                self.fold(&mut fold, std::mem::take(&mut batch)).await?;
                if ended || fold.rows.len() >= self.most_rows {
                    self.write(&mut fold).await?;
                }
                if let Some(position) = last {
                    // Nobody listens once another part has failed.
                    let _ = self.reached.send((self.number, position));
                }
            }
            if ended {
                let _ = self.reached.send((self.number, self.goal));
                return Ok(());
            }
        }
    }

    fn events<'a>(&self, connection: &'a mut PgConnection) -> BoxStream<'a, Result<RecordedEvent, Error>> {
        let number = match self.projection.locality() {
            // A stream has one slice: a hash of tenant and stream.
            Locality::Stream => "slice::integer",
            Locality::Tenant => TENANT_NUMBER,
        };
        let sql =
            format!("select {EVENT_COLUMNS} from log.event where pos <= $1 and stream_type = any($2) and {number} % $3 = $4 order by pos");
        let query = sqlx::query(AssertSqlSafe(sql))
            .bind(self.goal)
            .bind(kinds_read_by(self.projection.as_ref()))
            .bind(self.parts)
            .bind(self.number);
        query.fetch(connection).map(|row| row_to_event(&row?)).boxed()
    }

    async fn fold(&self, fold: &mut Fold, events: Vec<Arc<ReadEvent>>) -> Result<(), Error> {
        let projection = self.projection.as_ref();
        let batch = Batch::new(projection, events);
        let mut keys = fold.wanted(projection, &batch);
        let mut from = 0;
        loop {
            if !keys.is_empty() {
                for (table, asked, found) in tables::load(&self.pool, &self.shadow.schema, keys).await? {
                    fold.rows.load(table, &asked, found);
                }
            }
            match fold.step(projection, &batch, from) {
                Step::Done => return Ok(()),
                Step::Missing { keys: missing, next } => (keys, from) = (missing, next),
                Step::Unknown { next, reason } => {
                    return Err(Error::Corrupt { position: batch.position(next).unwrap_or_default(), what: reason });
                }
            }
        }
    }

    /// Writes what changed and forgets it.
    async fn write(&self, fold: &mut Fold) -> Result<(), Error> {
        let (new, returning) = fold.rows.new_and_returning()?;
        let mut tx = tables::begin_in(&self.pool, &self.shadow.schema).await?;
        for changes in &new {
            copy(&mut tx, changes).await?;
        }
        for changes in &returning {
            tables::write(&mut tx, &self.shadow.schema, changes).await?;
        }
        tables::quarantine(&mut tx, &self.shadow, &fold.quarantined).await?;
        tx.commit().await?;
        fold.quarantined.clear();
        fold.rows.written(0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::History;

    /// Folds what `chosen` lets through, from nothing, and gives every row.
    fn fold(projection: &dyn Projection, chosen: impl Fn(&RecordedEvent) -> bool) -> Vec<String> {
        let events: Vec<_> = History::sale_and_refund().iter().filter(|event| chosen(event)).cloned().collect();
        let mut fold = Fold::new(Rows::complete(), HashMap::new());
        assert_eq!(fold.step(projection, &Batch::new(projection, events), 0), Step::Done);
        assert_eq!(fold.quarantined, []);
        let mut rows: Vec<String> = fold.rows.changes().unwrap().into_iter().flat_map(|changes| changes.rows).collect();
        rows.sort_unstable();
        rows
    }

    #[test]
    fn rows_of_stream_local_models_come_out_the_same_stream_by_stream() {
        for projection in crate::all().into_iter().filter(|projection| projection.locality() == Locality::Stream) {
            let projection = projection.as_ref();
            let streams: std::collections::BTreeSet<_> = History::sale_and_refund().iter().map(|event| event.stream).collect();
            let mut parts: Vec<String> = streams.iter().flat_map(|stream| fold(projection, |event| event.stream == *stream)).collect();
            parts.sort_unstable();
            let whole = fold(projection, |_| true);
            assert!(!whole.is_empty());
            assert_eq!(parts, whole, "{}", projection.name());
        }
    }
}
