//! I7: every read model is what a fold from nothing gives; the bus holds what the log holds.

use std::collections::{BTreeMap, HashMap};

use commands::relay::parse_description;
use domain::wire;
use projections::{
    fold::{Batch, Fold, Step},
    rows::Rows,
};

use crate::{db::Db, read_rows::Copy, world::World};

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
        let nothing = Copy::default();
        let copy = db.read.0.get(name).unwrap_or(&nothing);
        if step != Step::Done || !fold.quarantined.is_empty() || !copy.quarantined.is_empty() {
            world.violated("I7", format!("{name} cannot fold the log: {:?}", fold.quarantined.first()));
            continue;
        }
        if copy.pos != db.head() {
            world.violated("I7", format!("{name} stands at {} of {}", copy.pos, db.head()));
        }
        // By table and key, byte for byte.
        let folded = fold.rows.changes().unwrap_or_default();
        for table in projection.tables() {
            let wanted = folded.iter().filter(|changes| changes.table == table.name).flat_map(|changes| &changes.rows);
            if !wanted.eq(copy.tables.get(table.name).into_iter().flat_map(BTreeMap::values)) {
                world.violated("I7", format!("{} of {name} is not what the log says", table.name));
            }
        }
    }
}

/// Every message sits where its position belongs and is the log's event; the stream is of the log's epoch.
fn bus(world: &World) {
    let (db, bus) = (world.db(), world.bus());
    let Some((description, messages)) = bus.content() else { return world.violated("I8", "there is no stream") };
    let (epoch, base) = parse_description(description).unwrap_or((0, -1));
    if epoch != db.epoch {
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
