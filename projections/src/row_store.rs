//! What a projector keeps: rows and how far they have come. A port, so that the same logic runs on PostgreSQL and in a
//! simulation; a pool of a member of `smartpos_worker` is a [`RowStore`].

use std::{collections::HashMap, future::Future};

use domain::envelope::StreamKey;
use sqlx::PgPool;

pub use crate::tables::{Standing, Target};
use crate::{error::Error, fold::Quarantined, projection::Projection, rows::Changes, tables};

/// Rows of one table that were asked for: table, keys, and those found as (key, JSON).
pub type Loaded = (&'static str, Vec<String>, Vec<(String, String)>);

/// Rows, checkpoints and quarantine of projections.
pub trait RowStore: Send + Sync {
    /// Where the copy under this name stands now; and its halted streams, each with the position from which on it is not read.
    fn standing(&self, target: &Target) -> impl Future<Output = Result<(Standing, HashMap<StreamKey, i64>), Error>> + Send;
    /// Rows of the wanted keys; nothing when the copy does not stand `at` this place. A database that crashed may have gone back, and its
    /// older rows must not be taken for those of a checkpoint that another projector reaches once more.
    fn load(
        &self,
        target: &Target,
        at: Standing,
        keys: Vec<(&'static str, String)>,
    ) -> impl Future<Output = Result<Option<Vec<Loaded>>, Error>> + Send;
    /// Moves the checkpoint on to `to` and writes what changed, all or nothing; false when the copy does not stand at `from`, or the
    /// log does not hold `events`: it was restored to the past. They are the hashes of the events up to `to`: those after `from`, and
    /// that at `from` where rows come from memory.
    fn commit(
        &self,
        target: &Target,
        from: Standing,
        to: i64,
        events: &[[u8; 32]],
        changes: &[Changes],
        quarantined: &[Quarantined],
    ) -> impl Future<Output = Result<bool, Error>> + Send;
    /// Points queries at this version if it has come as far as the one in service; says whether they read it now.
    fn serve(&self, projection: &dyn Projection) -> impl Future<Output = Result<bool, Error>> + Send;
    /// Empties the tables and starts again from the first event, if the checkpoint is beyond `limit`.
    fn wipe(&self, projection: &dyn Projection, target: &Target, limit: i64) -> impl Future<Output = Result<(), Error>> + Send;
}

impl RowStore for PgPool {
    async fn standing(&self, target: &Target) -> Result<(Standing, HashMap<StreamKey, i64>), Error> {
        tables::standing(&mut *self.acquire().await?, target).await
    }

    async fn load(&self, target: &Target, at: Standing, keys: Vec<(&'static str, String)>) -> Result<Option<Vec<Loaded>>, Error> {
        tables::load_at(self, target, at, keys).await
    }

    async fn commit(
        &self,
        target: &Target,
        from: Standing,
        to: i64,
        events: &[[u8; 32]],
        changes: &[Changes],
        quarantined: &[Quarantined],
    ) -> Result<bool, Error> {
        tables::commit(self, target, from, to, events, changes, quarantined).await
    }

    async fn serve(&self, projection: &dyn Projection) -> Result<bool, Error> {
        tables::serve(&mut *self.acquire().await?, projection, false).await
    }

    async fn wipe(&self, projection: &dyn Projection, target: &Target, limit: i64) -> Result<(), Error> {
        tables::wipe(self, projection, target, limit).await
    }
}
