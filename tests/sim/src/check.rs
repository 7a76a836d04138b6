//! The invariants at the end, by number as in the fault catalogue. I10 (card numbers and secrets) concerns what is not simulated.

use std::collections::HashMap;

use domain::integrity::{commit_hash, merkle_root, recorded_hash};

use crate::{check_money, check_read, db::Db, model::Books, world::World};

/// All of them.
pub(crate) fn all(world: &World) {
    let books = Books::of(&world.db());
    answers(world, &books);
    log(world);
    chain(world);
    tenants(world);
    check_money::all(world, &books);
    check_read::all(world);
    leases(world);
    left_over(world, &books);
}

/// Nothing is waiting to be done now; something may be due later.
pub(crate) fn is_idle(world: &World) -> bool {
    let now = world.now();
    let outside = {
        let journal = world.journal();
        journal.pending > 0 || journal.later.iter().any(|at| *at <= now)
    };
    let db = world.db();
    !outside
        && db.process.checkpoint == db.head()
        && db.process.tasks.values().all(|task| task.due_at > now && task.leased_until.is_none_or(|leased| leased <= task.due_at))
        && projections::all().iter().all(|projection| db.read.0.get(projection.name()).is_some_and(|copy| copy.pos == db.head()))
        && check_read::bus_is_level(world, &db)
}

/// What keeps a simulation from coming to rest.
pub(crate) fn what_is_left(world: &World) -> String {
    let pending = world.journal().pending;
    let db = world.db();
    let tasks: Vec<&String> = db.process.tasks.keys().take(4).collect();
    let behind: Vec<_> =
        db.read.0.iter().filter(|(_, copy)| copy.pos != db.head()).map(|(name, copy)| format!("{name} at {}", copy.pos)).collect();
    let level = check_read::bus_is_level(world, &db);
    format!(
        "not at rest: head {}, managers at {}, tasks {tasks:?}, behind {behind:?}, outside {pending}, bus level {level}",
        db.head(),
        db.process.checkpoint
    )
}

/// I1, I2, I11: what was answered is in the log, once, and was true.
fn answers(world: &World, books: &Books) {
    let (db, journal) = (world.db(), world.journal());
    let mut first: HashMap<(domain::ids::Ulid, &str, &str), &[u8]> = HashMap::new();
    for acked in &journal.acked {
        let name = (acked.tenant, acked.scope.clone(), acked.key.clone());
        match db.keys.get(&name) {
            None => world.violated("I1", format!("{} was answered with {} and is not in the log", acked.key, acked.status)),
            Some(stored) if acked.position.is_some() && stored.last_pos != acked.position => {
                world.violated("I1", format!("{} was told {:?} and stands at {:?}", acked.key, acked.position, stored.last_pos));
            }
            Some(_) => {}
        }
        if acked.position.is_some_and(|position| position > db.head()) {
            world.violated("I1", format!("{} was told a position beyond the log", acked.key));
        }
        let body = *first.entry((acked.tenant, &acked.scope, &acked.key)).or_insert(&acked.body);
        if body != acked.body {
            world.violated("I2", format!("{} was answered in two ways", acked.key));
        }
        if let (Some(stream), Some(position)) = (&acked.stream, acked.position) {
            let version = db.stream(stream, 0).iter().filter(|event| event.pos <= position).map(|event| event.version).max().unwrap_or(0);
            if version != acked.version {
                world.violated("I11", format!("{} was told version {}, and it was {version}", acked.key, acked.version));
            }
        }
    }
    for ((_, number), orders) in &books.orders {
        if orders.len() > 1 {
            world.violated("I2", format!("{} orders under the number {number}", orders.len()));
        }
    }
    for ((_, reference), count) in &books.asked {
        if *count > 1 {
            world.violated("I2", format!("{count} payments under the reference {reference}"));
        }
    }
}

/// I3: positions without gaps, versions without gaps, time that does not go back.
fn log(world: &World) {
    let db = world.db();
    let mut versions = HashMap::new();
    let mut time = None;
    for (place, event) in (1_i64..).zip(&db.events) {
        if event.pos != place {
            world.violated("I3", format!("position {} at the place of {place}", event.pos));
        }
        let version: &mut i64 = versions.entry(event.stream).or_default();
        *version += 1;
        if event.version != *version {
            world.violated("I3", format!("version {} at the place of {version} in {:?}", event.version, event.stream.stream_type));
        }
        if time.is_some_and(|before| event.recorded_at < before) {
            world.violated("I3", format!("the time of recording goes back at {place}"));
        }
        time = Some(event.recorded_at);
    }
    for (stream, head) in &db.heads {
        if versions.get(stream) != Some(head) {
            world.violated("I3", "the head of a stream is not its last event");
        }
    }
}

/// I4: the chain holds from the first event to the head, and through every published end.
fn chain(world: &World) {
    let db = world.db();
    let (mut prev, mut after) = ([0; 32], 0);
    for commit in &db.commits {
        let events = db.range(commit.first_pos - 1, commit.last_pos - commit.first_pos + 1);
        let hashes: Vec<[u8; 32]> = events.iter().map(|event| recorded_hash(event)).collect();
        if events.iter().zip(&hashes).any(|(event, hash)| event.hash != *hash) {
            world.violated("I4", format!("an event of the commit at {} is not what was hashed", commit.first_pos));
        }
        let hash = commit_hash(&prev, commit.first_pos, commit.recorded_at.timestamp_micros(), &merkle_root(&hashes));
        if commit.prev != prev || commit.hash != hash || commit.first_pos != after + 1 {
            world.violated("I4", format!("the chain breaks at {}", commit.first_pos));
        }
        (prev, after) = (commit.hash, commit.last_pos);
    }
    if after != db.head() || prev != db.hash {
        world.violated("I4", "the chain does not end at the head");
    }
    for (position, hash) in &world.journal().anchors {
        if *position > 0 && !db.commits.iter().any(|commit| commit.last_pos == *position && commit.hash == *hash) {
            world.violated("I4", format!("the end published at {position} is not in the chain"));
        }
    }
}

/// I9: what one tenant wrote stands in no stream and no row of another.
fn tenants(world: &World) {
    let (db, journal) = (world.db(), world.journal());
    let owner = |text: &str| journal.tenants.iter().find(|(_, canary)| text.contains(canary.as_str())).map(|(tenant, _)| *tenant);
    for event in &db.events {
        let text = String::from_utf8_lossy(&event.payload);
        if owner(&text).is_some_and(|tenant| tenant != event.stream.tenant.0) {
            world.violated("I9", format!("position {} holds what another tenant wrote", event.pos));
        }
    }
}

/// I12: nobody looks into a call-back whose task it did not take. (That nobody takes a free task for one that was begun is seen when it is
/// taken.)
fn leases(world: &World) {
    for (key, look) in &world.journal().first_looks {
        if look.begun > look.taken {
            world.violated("I12", format!("'{key}' was taken {} times and begun {} times", look.taken, look.begun));
        }
    }
}

/// I8: nothing that could be known is unknown, nothing that could be done is left, no call-back that was thanked for is lost.
fn left_over(world: &World, books: &Books) {
    let (db, journal): (_, _) = (world.db(), world.journal());
    for (id, payment) in &books.payments {
        if matches!(payment.status, "under way" | "held") {
            world.violated("I8", format!("{id} is still {} ({})", payment.status, payment.tender));
        }
        if payment.unknown {
            world.violated("I8", format!("the outcome of {id} is unknown for ever"));
        }
    }
    for (id, refund) in &books.refunds {
        if refund.succeeded + refund.failed == 0 {
            world.violated("I8", format!("{id} came to no end"));
        }
    }
    for stuck in &db.process.stuck {
        world.violated("I8", format!("a reaction of {} to {} is stuck: {}", stuck.manager, stuck.pos, stuck.error));
    }
    for delivery in &journal.hooks {
        match db.process.hooks.get(&(crate::bank::NAME.to_owned(), delivery.clone())) {
            None => world.violated("I8", format!("the call-back '{delivery}' was thanked for and is not stored")),
            Some(row) if row.state == "received" => world.violated("I8", format!("the call-back '{delivery}' was never looked into")),
            Some(row) if row.state == "parked" && row.name.as_ref().is_some_and(|name| known(&db, name)) => {
                world.violated("I8", format!("the call-back '{delivery}' is parked for ever"));
            }
            Some(row) if row.state == "parked" && journal.restores == 0 => {
                world.violated("I8", format!("the call-back '{delivery}' found nobody who knows its name"));
            }
            Some(_) => {}
        }
    }
    see(world, books);
}

fn known(db: &Db, name: &str) -> bool {
    db.process.attempt_of(crate::bank::NAME, name).is_some()
}

fn see(world: &World, books: &Books) {
    for payment in books.payments.values() {
        let sights = [
            (payment.was_unknown, "payment outcome unknown"),
            (payment.was_unknown && !payment.unknown, "unknown outcome resolved"),
            (payment.status == "expired", "payment expired"),
            (payment.status == "canceled", "payment canceled"),
            (payment.held_first && payment.succeeded > 0, "payment held and captured"),
            (payment.unmatched > 0, "unmatched payment recorded"),
        ];
        sights.into_iter().filter(|(seen, _)| *seen).for_each(|(_, what)| world.saw(what));
    }
}
