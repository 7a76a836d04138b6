//! The simulated log behind the ports of the write side and of the feed.

use std::sync::Arc;

use commands::{
    batch::{AppendItem, BatchAnswer, StoredKey},
    event_log::{Appender, EventLog, Reading, StoreError},
    event_store::LogHead,
};
use domain::{
    envelope::{RecordedEvent, StreamKey},
    event::ReadEvent,
    ids::{MerchantId, Ulid},
    provider::BoxFuture,
};
use projections::{
    Error,
    log_reader::{Head, LogSource},
};

use crate::{db::stored_for, link::Link, sabotage::Saboteur, schedule::Knob};

/// Reads.
#[derive(Clone)]
pub struct SimLog(pub(crate) Link);

impl EventLog for SimLog {
    fn load_stream(&self, key: StreamKey, after: i64) -> BoxFuture<'_, Result<Vec<RecordedEvent>, StoreError>> {
        Box::pin(async move {
            let world = &self.0.world;
            self.0
                .ask("load stream", |db| {
                    let mut events = db.stream(&key, after);
                    if events.is_empty() && world.sabotage == Some(Saboteur::TenantIgnored) {
                        events = db.of_anybody(&key).map(|other| db.stream(&other, after)).unwrap_or_default();
                    }
                    if world.sabotaged(Saboteur::LoadsOldStream, 4) && events.len() > 1 {
                        events.pop();
                    }
                    events
                })
                .await
        })
    }

    fn stand_at<'a>(&'a self, tenant: MerchantId, versions: &'a [(StreamKey, i64)]) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            let sabotage = self.0.world.sabotage;
            let stands = |db: &mut crate::db::Db, (key, version): &(StreamKey, i64)| match sabotage {
                Some(Saboteur::BelievesItsCache) => true,
                Some(Saboteur::TenantIgnored) => db.of_anybody(key).is_none_or(|other| db.version(&other) == *version),
                Some(_) | None => db.version(&StreamKey { tenant, ..*key }) == *version,
            };
            self.0.ask("stand at", |db| versions.iter().all(|version| stands(db, version))).await
        })
    }

    fn find_key<'a>(&'a self, tenant: Ulid, scope: &'a str, key: &'a str) -> BoxFuture<'a, Result<Option<StoredKey>, StoreError>> {
        Box::pin(async move {
            let name = (tenant, scope.to_owned(), key.to_owned());
            let world = &self.0.world;
            self.0
                .ask("find key", |db| {
                    if world.sabotage == Some(Saboteur::KeyOfAnyTenant) {
                        let any = db.keys.iter().filter(|(other, _)| other.2 == name.2).min_by_key(|(other, _)| other.0);
                        return any.map(|(_, stored)| stored_for(world, stored));
                    }
                    db.keys.get(&name).map(|stored| stored_for(world, stored))
                })
                .await
        })
    }

    fn load_snapshot(&self, key: StreamKey, schema: i16) -> Reading<'_, Option<(i64, Vec<u8>)>> {
        Box::pin(async move {
            let found = self.0.ask("load snapshot", |db| db.snapshots.get(&key).cloned()).await?;
            Ok(found.filter(|(_, of, _)| *of == schema).map(|(version, _, state)| (version, state)))
        })
    }

    fn save_snapshot(&self, key: StreamKey, version: i64, schema: i16, state: Vec<u8>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.0
                .ask("save snapshot", |db| {
                    if db.snapshots.get(&key).is_none_or(|(kept, of, _)| *kept < version || *of != schema) {
                        db.snapshots.insert(key, (version, schema, state));
                    }
                    db.durable();
                })
                .await
        })
    }

    fn head(&self) -> BoxFuture<'_, Result<LogHead, StoreError>> {
        Box::pin(
            async move { self.0.ask("head", |db| LogHead { pos: db.head(), epoch: db.epoch, log_id: db.log_id, hash: db.hash }).await },
        )
    }

    fn read(&self, after: i64, limit: i64) -> BoxFuture<'_, Result<Vec<RecordedEvent>, StoreError>> {
        Box::pin(async move {
            let events = self.0.ask("read log", |db| db.range(after, limit).to_vec()).await?;
            Ok(events.iter().map(|event| (***event).clone()).collect())
        })
    }

    fn raise_epoch(&self, beyond: i32) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.0.world.saw("epoch raised");
            let honest = self.0.world.sabotage != Some(Saboteur::EpochNotRaised);
            let raise = |db: &mut crate::db::Db| {
                if honest {
                    db.epoch = db.epoch.max(beyond) + 1;
                }
                db.durable();
            };
            self.0.ask("raise epoch", raise).await
        })
    }
}

impl LogSource for SimLog {
    fn head(&self) -> BoxFuture<'_, Result<Head, Error>> {
        Box::pin(async move {
            let head = |db: &mut crate::db::Db| Head { pos: db.head(), epoch: db.epoch, log_id: db.log_id, hash: db.hash };
            self.0.ask("feed head", head).await.map_err(|error| read_error(&error))
        })
    }

    fn range(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<Arc<ReadEvent>>, Error>> {
        Box::pin(async move {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            self.0.ask("feed range", |db| db.range(after, limit).to_vec()).await.map_err(|error| read_error(&error))
        })
    }
}

/// The read side hears of a broken connection from its driver.
pub(crate) fn read_error(error: &StoreError) -> Error {
    Error::Sql(sqlx::Error::Io(std::io::Error::other(error.to_string())))
}

const LONGER_THAN_ANYBODY_WAITS: std::time::Duration = std::time::Duration::from_secs(6);

/// Appends.
pub struct SimAppender {
    pub(crate) link: Link,
    /// The database's generation at the time of connecting.
    pub(crate) connected: Option<u64>,
}

impl Appender for SimAppender {
    async fn connect(&mut self) -> Result<(), StoreError> {
        if self.connected.is_none() {
            self.connected = Some(self.link.ask("connect", |db| db.generation).await?);
        }
        Ok(())
    }

    fn disconnect(&mut self) {
        self.connected = None;
    }

    async fn append(&mut self, batch: &[AppendItem]) -> Result<BatchAnswer, StoreError> {
        let world = &self.link.world;
        let lost = || Err(StoreError::Lost("the connection broke".to_owned()));
        self.link.way().await;
        if self.connected != Some(world.db().generation) || world.strikes(Knob::CommitLosesRequest) {
            return lost();
        }
        let hangs = world.strikes(Knob::CommitHangs);
        if hangs && world.draw(2) == 0 {
            tokio::time::sleep(LONGER_THAN_ANYBODY_WAITS).await;
        }
        let answer = {
            let mut db = world.db();
            if !db.up || self.connected != Some(db.generation) {
                return lost();
            }
            db.append(world, batch)
        };

        world.note("append", world.db().head());
        let head = world.db().head();
        world.bus().poke(head);
        if hangs {
            tokio::time::sleep(LONGER_THAN_ANYBODY_WAITS).await;
        }
        if world.strikes(Knob::CommitLosesAnswer) {
            return if world.sabotage == Some(Saboteur::LostIsRefused) { Err(StoreError::Refused("lost".to_owned())) } else { lost() };
        }
        self.link.way().await;
        if self.connected != Some(world.db().generation) {
            world.saw("database died under a commit");
            return lost();
        }
        answer
    }

    async fn find_written(&mut self, key: StreamKey, version: i64, hash: &[u8; 32]) -> Result<Option<i64>, StoreError> {
        let connected = self.connected;
        let found = self.link.ask("find written", |db| {
            let events = db.stream(&key, version - 1);
            let found = events.first().filter(|event| event.hash == *hash).map(|event| event.pos);
            if connected == Some(db.generation) { Ok(found) } else { Err(StoreError::Lost("not connected".to_owned())) }
        });
        let found = found.await??;
        if found.is_some() {
            self.link.world.saw("lost commit found in the log");
        }
        Ok(found)
    }
}
