//! The schemas of the read models and the port on them.

use std::collections::{BTreeMap, HashMap};

use domain::envelope::StreamKey;
use projections::{
    Error, Projection,
    fold::Quarantined,
    row_store::{Loaded, RowStore, Standing, Target},
    rows::Changes,
};

use crate::{
    log_ports::{SimLog, read_error},
    sabotage::Saboteur,
    world::World,
};

type Table = BTreeMap<String, String>;

/// Undoes one commit that did not wait for the disk.
#[derive(Clone)]
struct Undo {
    pos: i64,
    quarantined: usize,
    rows: Vec<(&'static str, String, Option<String>)>,
}

/// A copy of one projection.
#[derive(Clone, Default)]
pub(crate) struct Copy {
    pub pos: i64,
    pub quarantined: Vec<(StreamKey, i64, String)>,
    pub tables: BTreeMap<&'static str, Table>,
    unsynced: Vec<Undo>,
}

/// All copies, by the name of their checkpoint.
#[derive(Clone, Default)]
pub(crate) struct ReadRows(pub BTreeMap<String, Copy>);

#[derive(serde::Deserialize)]
struct Keyed {
    key: String,
}

fn key_of(row: &str) -> String {
    // Nearly always the first field, and plain.
    if let Some((key, _)) = row.strip_prefix("{\"key\":\"").and_then(|rest| rest.split_once('"'))
        && !key.contains('\\')
    {
        return key.to_owned();
    }
    serde_json::from_str::<Keyed>(row).map(|row| row.key).unwrap_or_default()
}

impl ReadRows {
    pub fn durable(&mut self) {
        self.0.values_mut().for_each(|copy| copy.unsynced.clear());
    }

    /// Undoes some of the newest commits that did not wait for the disk; how many.
    pub fn lose(&mut self, world: &World) -> u64 {
        let mut all = 0;
        for copy in self.0.values_mut() {
            let lost = world.draw(u64::try_from(copy.unsynced.len()).unwrap_or(0) + 1);
            all += lost;
            for _ in 0..lost {
                let Some(undo) = copy.unsynced.pop() else { break };
                copy.pos = undo.pos;
                copy.quarantined.truncate(undo.quarantined);
                for (table, key, before) in undo.rows {
                    let rows = copy.tables.entry(table).or_default();
                    match before {
                        Some(row) => drop(rows.insert(key, row)),
                        None => drop(rows.remove(&key)),
                    }
                }
            }
        }
        all
    }

    fn standing(&self, name: &str) -> Standing {
        let copy = self.0.get(name);
        Standing { pos: copy.map_or(0, |copy| copy.pos), halted: copy.map_or(0, |copy| copy.quarantined.len()), copy: 1 }
    }

    fn commit(&mut self, world: &World, name: &str, from: Standing, to: i64, changes: &[Changes], quarantined: &[Quarantined]) -> bool {
        if self.standing(name) != from && world.sabotage != Some(Saboteur::ProjectorNotFenced) {
            world.saw("projector was overtaken by its twin");
            return false;
        }
        let copy = self.0.entry(name.to_owned()).or_default();
        let mut undo = Undo { pos: copy.pos, quarantined: copy.quarantined.len(), rows: Vec::new() };
        let forgets_rows = world.sabotaged(Saboteur::CheckpointBeforeRows, 10);
        for change in changes {
            let table = copy.tables.entry(change.table).or_default();
            for row in &change.rows {
                if world.sabotaged(Saboteur::RowForgotten, 60) || forgets_rows {
                    continue;
                }
                let key = key_of(row);
                let before = table.insert(key.clone(), row.clone());
                undo.rows.push((change.table, key, before));
            }
        }
        undo.rows.reverse();
        for entry in quarantined {
            if !copy.quarantined.iter().any(|(stream, ..)| *stream == entry.stream) {
                copy.quarantined.push((entry.stream, entry.pos, entry.error.clone()));
            }
        }
        if !world.sabotaged(Saboteur::RowsBeforeCheckpoint, 10) {
            copy.pos = to;
        }
        copy.unsynced.push(undo);
        true
    }
}

impl RowStore for SimLog {
    async fn standing(&self, target: &Target) -> Result<(Standing, HashMap<StreamKey, i64>), Error> {
        let read = |db: &mut crate::db::Db| {
            let halted = db.read.0.get(&target.name).map(|copy| copy.quarantined.iter().map(|(stream, pos, _)| (*stream, *pos)).collect());
            (db.read.standing(&target.name), halted.unwrap_or_default())
        };
        self.0.ask("standing", read).await.map_err(|error| read_error(&error))
    }

    async fn load(&self, target: &Target, at: Standing, keys: Vec<(&'static str, String)>) -> Result<Option<Vec<Loaded>>, Error> {
        let world = &self.0.world;
        let load = |db: &mut crate::db::Db| {
            let now = db.read.standing(&target.name);
            if (now.pos, now.copy) != (at.pos, at.copy) {
                return None;
            }
            let copy = db.read.0.get(&target.name);
            let mut loaded = BTreeMap::<_, (Vec<_>, Vec<_>)>::new();
            for (table, key) in keys {
                let row = copy.and_then(|copy| copy.tables.get(table)).and_then(|rows| rows.get(&key)).cloned();
                let (asked, found) = loaded.entry(table).or_default();
                if let Some(row) = row.filter(|_| !world.sabotaged(Saboteur::RowNotFound, 20)) {
                    found.push((key.clone(), row));
                }
                asked.push(key);
            }
            Some(loaded.into_iter().map(|(table, (asked, found))| (table, asked, found)).collect())
        };
        self.0.ask("load rows", load).await.map_err(|error| read_error(&error))
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
        let world = &self.0.world;
        let commit = |db: &mut crate::db::Db| {
            let count = i64::try_from(events.len()).unwrap_or(0);
            let held = count >= to - from.pos && db.range(to - count, count).iter().map(|event| &event.hash).eq(events);
            if !held && world.sabotage != Some(Saboteur::FoldsVoidHistory) {
                world.saw("projector held a void history");
                return false;
            }
            db.read.commit(world, &target.name, from, to, changes, quarantined)
        };
        self.0.ask("fold", commit).await.map_err(|error| read_error(&error))
    }

    async fn serve(&self, _projection: &dyn Projection) -> Result<bool, Error> {
        Ok(true)
    }

    async fn wipe(&self, _projection: &dyn Projection, target: &Target, limit: i64) -> Result<(), Error> {
        let world = &self.0.world;
        let wipe = |db: &mut crate::db::Db| {
            if let Some(copy) = db.read.0.get_mut(&target.name).filter(|copy| copy.pos > limit) {
                world.saw("read model folded again from the start");
                if world.sabotage == Some(Saboteur::WipesCheckpointOnly) {
                    copy.pos = 0;
                } else {
                    *copy = Copy::default();
                }
                db.durable();
            }
        };
        self.0.ask("wipe", wipe).await.map_err(|error| read_error(&error))
    }
}
