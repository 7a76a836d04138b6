//! I7: every read model is what a fold from nothing gives; the bus holds what the log holds.

use std::collections::{BTreeMap, HashMap};

use domain::wire;
use projections::{
    fold::{Batch, Fold, Step},
    rows::Rows,
};
use serde_json::Value;

use crate::{db::Db, world::World};

pub(crate) fn all(world: &World) {
    read_models(world);
    bus(world);
}

fn read_models(world: &World) {
    let db = world.db();
    for projection in projections::all() {
        let name = projection.name();
        let mut fold = Fold::new(Rows::complete(), HashMap::new());
        let batch = Batch::new(projection.as_ref(), db.events.clone());
        let step = fold.step(projection.as_ref(), &batch, 0);
        let copy = db.read.0.get(name).cloned().unwrap_or_default();
        if step != Step::Done || !fold.quarantined.is_empty() || !copy.quarantined.is_empty() {
            world.violated("I7", format!("{name} cannot fold the log: {:?}", fold.quarantined.first()));
            continue;
        }
        if copy.pos != db.head() {
            world.violated("I7", format!("{name} stands at {} of {}", copy.pos, db.head()));
        }
        for table in projection.tables() {
            let wanted = fold.rows.table(table.name).unwrap_or_default();
            let rows = copy.tables.get(table.name).cloned().unwrap_or_default();
            let found: BTreeMap<&String, Value> =
                rows.iter().map(|(key, row)| (key, serde_json::from_str(row).unwrap_or_default())).collect();
            if wanted.len() != found.len() || wanted.iter().any(|(key, row)| found.get(key) != Some(row)) {
                world.violated("I7", format!("{} of {name} is not what the log says", table.name));
            }
        }
    }
}

/// Every message sits where its position belongs and is the log's event; the stream is of the log's epoch.
fn bus(world: &World) {
    let (db, bus) = (world.db(), world.bus());
    let Some((description, messages)) = bus.content() else { return world.violated("I8", "there is no stream") };
    let base: i64 = description.rsplit_once("base=").and_then(|(_, base)| base.parse().ok()).unwrap_or(-1);
    if !description.contains(&format!("epoch={} ", db.epoch)) {
        world.violated("I8", format!("the stream is of another epoch: {description}, the log has {}", db.epoch));
    }
    // A second restore brings back the epoch of its backup; the stream, of a later one, is then made anew.
    if world.journal().restored_under_bus && world.journal().restores == 1 && db.epoch == 1 {
        world.violated("I8", "the log went back behind the bus and is still in its first epoch");
    }
    for (place, message) in (base + 1..).zip(messages) {
        let event = db.range(place - 1, 1).first();
        let same = wire::decode(message).is_ok_and(|sent| event.is_some_and(|event| sent.pos == place && sent.hash == event.hash));
        if !same {
            world.violated("I3", format!("the bus holds at {place} what the log does not"));
        }
    }
}

/// The stream has come as far as the log.
pub(crate) fn bus_is_level(world: &World, db: &Db) -> bool {
    world.bus().end() == Some(db.head())
}
