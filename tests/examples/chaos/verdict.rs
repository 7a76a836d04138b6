//! After everything is healed: does it come to rest, and does every promise hold? Asked of the journal's file, the log, the
//! provider's books, the bus and the read models, not of what anybody remembers.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use api::{embedded::connect_nats, simulated_provider::settings};
use async_nats::jetstream;
use commands::{
    event_store::{log_head, read_log},
    relay::{parse_description, stream_name},
};
use domain::{envelope::RecordedEvent, wire};
use futures_util::{StreamExt as _, stream};
use serde_json::Value;
use sqlx::PgPool;
use support::{PATIENCE, replay_program};
use uuid::Uuid;

use crate::{
    clients::Counter,
    db::Db,
    journal::{Acknowledged, Entry},
    model::Books,
    money::{self, Found},
    plan::Part,
    world::World,
};

/// A card number that no file may hold afterwards.
pub const CARD: &str = "4111111111111111";
/// Everything has come to rest so long after the last fault was healed. The provider's books may hide for two minutes what a call
/// without an answer did: only then a refusal counts, and by then the pauses between calls have grown to two minutes as well.
const RESTS_WITHIN: Duration = Duration::from_secs(300);
/// Messages of the bus that are compared, the newest ones.
const COMPARED: i64 = 20_000;

/// What was found besides violations.
#[derive(Debug, Default)]
pub struct Verdict {
    pub rested_after: Option<Duration>,
    pub events: usize,
    pub epoch: i32,
    pub acknowledged: usize,
    pub taken_back: usize,
    pub asked: usize,
    pub payments: usize,
    pub refunds: usize,
    pub messages: i64,
}

/// Heads of the chain that were seen under way: they must stand in it at the end.
pub type Anchors = BTreeMap<i64, Vec<u8>>;

/// The newest commit, if the database answers.
pub async fn anchor(log: &PgPool) -> Option<(i64, Vec<u8>)> {
    let sql = "select last_pos, hash from log.commit order by first_pos desc limit 1";
    let asked = tokio::time::timeout(Duration::from_millis(300), sqlx::query_as(sql).fetch_optional(log));
    asked.await.ok()?.ok()?
}

/// All of it.
pub async fn judge(world: &World, counter: &Counter, anchors: &Anchors, restores: u64) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let started = Instant::now();
    let (events, ledger) = loop {
        let mut left = left_over(world).await.unwrap_or_else(|error| vec![("I8", format!("it cannot be asked: {error:#}"))]);
        let mut seen = None;
        if left.is_empty() {
            match self::seen(world).await {
                Ok(both) => seen = Some(both),
                Err(error) => left.push(("I8", format!("log and books cannot be read: {error:#}"))),
            }
        }
        let found = seen.as_ref().map_or(left, |(log, ledger)| money::all(&Books::of(log), ledger, restores > 0));
        if found.is_empty() {
            verdict.rested_after = Some(started.elapsed());
        } else if started.elapsed() < RESTS_WITHIN {
            tokio::time::sleep(Duration::from_millis(500)).await;
            continue;
        } else {
            for (invariant, what) in &found {
                world.measure.violated(invariant, what);
            }
        }
        let (log, ledger) = match seen {
            Some(seen) => seen,
            None => self::seen(world).await?,
        };
        break (log.events, ledger);
    };
    verdict.events = events.len();
    verdict.payments = ledger["payments"].as_array().map_or(0, Vec::len);
    verdict.refunds = ledger["refunds"].as_array().map_or(0, Vec::len);
    verdict.epoch = log_head(&world.log).await?.epoch;
    answers(world, counter, &events, &mut verdict).await?;
    order(world, &events);
    chain(world, anchors).await?;
    tenants(world, counter, &events);
    secrets(world)?;
    match bus(world, &events).await {
        Ok(compared) => verdict.messages = compared,
        Err(error) => world.measure.violated("I8", format!("the bus cannot be read: {error:#}")),
    }
    for (verb, invariant) in [("verify", "I3 I4"), ("check", "I7")] {
        ask_replay(world, verb, invariant)?;
    }
    Ok(verdict)
}

async fn seen(world: &World) -> Result<(Db, Value)> {
    let ledger = world.http.get(format!("{}/sim/ledger", world.base(Part::Bank))).send().await?.json().await?;
    Ok((Db { events: read_log(&world.log, 0, i64::MAX).await? }, ledger))
}

/// I8: nothing is behind, nothing is left to do now, nothing is stuck.
async fn left_over(world: &World) -> Result<Found> {
    let head = log_head(&world.log).await?;
    let sql = "select name || ' stands at ' || pos from read.checkpoint where pos <> $1
               union all select 'the manager ' || name || ' stands at ' || pos from process.checkpoint where pos <> $1
               union all select 'to be done: ' || key from process.task
                   where task ->> 'kind' not in ('inquire', 'lapse') or due_at < now() - interval '5 seconds'
               union all select 'stuck at ' || pos || ': ' || error from process.stuck
               union all select 'a call-back waits: ' || id from process.webhook where state = 'received'
               union all select 'halted in ' || name || ': ' || error from read.quarantine";
    let left: Vec<String> = sqlx::query_scalar(sql).bind(head.pos).fetch_all(&world.log).await?;
    let mut found: Found = left.into_iter().map(|what| ("I8", what)).collect();
    let end = bus_end(world).await?;
    if end != Some((head.epoch, head.pos)) {
        found.push(("I8", format!("the bus ends at {end:?}, the log at {} in epoch {}", head.pos, head.epoch)));
    }
    Ok(found)
}

/// Epoch and position at which the stream ends.
pub async fn bus_end(world: &World) -> Result<Option<(i32, i64)>> {
    let context = jetstream::new(connect_nats(world.embedded.nats_url()).await?);
    let Ok(stream) = context.get_stream(stream_name(&log_head(&world.log).await?)).await else { return Ok(None) };
    let info = stream.cached_info();
    let described = info.config.description.as_deref().and_then(parse_description);
    let last = i64::try_from(info.state.last_sequence)?;
    Ok(described.map(|(epoch, base)| (epoch, base + last)))
}

/// I1, I2, I11: what was acknowledged is in the log, once, at its place; a repeat got the very same answer; versions were true.
async fn answers(world: &World, counter: &Counter, events: &[RecordedEvent], verdict: &mut Verdict) -> Result<()> {
    let wrong = |invariant: &str, what: String| world.measure.violated(invariant, what);
    let mut kept: Vec<Acknowledged> = Vec::new();
    for entry in counter.journal.read()? {
        match entry {
            Entry::Asked { .. } => verdict.asked += 1,
            Entry::Acknowledged(acknowledged) => kept.push(acknowledged),
            Entry::Restored { head } => {
                let before = kept.len();
                // What changed nothing has no position: it may have been said of what was taken back.
                kept.retain(|acknowledged| (1..=head).contains(&acknowledged.position));
                verdict.taken_back += before - kept.len();
            }
        }
    }
    verdict.acknowledged = kept.len();
    let keys: Vec<(Uuid, String, Option<i64>)> =
        sqlx::query_as("select tenant, key, last_pos from log.append_key").fetch_all(&world.log).await?;
    let mut stored: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for (_, key, last) in keys {
        stored.entry(key).or_default().push(last.unwrap_or(0));
    }
    let mut versions: BTreeMap<String, Vec<(i64, i64)>> = BTreeMap::new();
    for event in events {
        versions.entry(event.stream.stream_id.to_string()).or_default().push((event.pos, event.version));
    }
    let mut bodies: BTreeMap<&str, &str> = BTreeMap::new();
    for acknowledged in &kept {
        let Acknowledged { key, position, id, version, body, .. } = acknowledged;
        match stored.get(key).map(Vec::as_slice) {
            None => wrong("I1", format!("{key} was acknowledged at {position} and is not in the log")),
            Some([last]) if last == position => {}
            Some(places) => wrong("I1", format!("{key} was told {position} and stands at {places:?}")),
        }
        if *bodies.entry(key).or_insert(body) != body {
            wrong("I2", format!("{key} was answered in two ways"));
        }
        // A payment is shown under its own name, and its stream is that of its intent; the number is the same. What changed nothing
        // has no position.
        let stream = id.rsplit_once('_').map_or("", |(_, ulid)| ulid);
        let upto = if *position == 0 { i64::MAX } else { *position };
        let known = versions.get(stream).into_iter().flatten().filter(|(pos, at)| *pos <= upto && (*position != 0 || at == version));
        let at = known.map(|(_, version)| *version).max();
        if at != Some(*version) {
            wrong("I11", format!("{key}: {id} was told version {version} at {position}, and it was {at:?}"));
        }
    }
    let books = Books::of(&Db { events: events.to_vec() });
    for ((_, number), orders) in books.orders.iter().filter(|((_, number), orders)| !number.is_empty() && orders.len() > 1) {
        wrong("I2", format!("{} orders under the number {number}", orders.len()));
    }
    Ok(())
}

/// I3: positions and versions without a gap; the time of recording does not go back.
fn order(world: &World, events: &[RecordedEvent]) {
    let mut versions = BTreeMap::new();
    for (place, event) in (1_i64..).zip(events) {
        let version: &mut i64 = versions.entry((event.stream.tenant.0, event.stream.stream_id)).or_default();
        *version += 1;
        if event.pos != place || event.version != *version {
            world.measure.violated("I3", format!("position {} version {} at the place of {place} {version}", event.pos, event.version));
        }
    }
    for pair in events.windows(2) {
        if pair[1].recorded_at < pair[0].recorded_at {
            world.measure.violated("I3", format!("the time of recording goes back at {}", pair[1].pos));
        }
    }
}

/// I4: every head of the chain that was seen stands in it.
async fn chain(world: &World, anchors: &Anchors) -> Result<()> {
    for (position, hash) in anchors {
        let sql = "select hash from log.commit where last_pos = $1";
        let found: Option<Vec<u8>> = sqlx::query_scalar(sql).bind(position).fetch_optional(&world.log).await?;
        if found.as_ref() != Some(hash) {
            world.measure.violated("I4", format!("the head seen at {position} is not in the chain"));
        }
    }
    Ok(())
}

/// I9: what one merchant wrote stands in no stream of another.
fn tenants(world: &World, counter: &Counter, events: &[RecordedEvent]) {
    for event in events {
        let text = String::from_utf8_lossy(&event.payload);
        for shop in counter.shops.iter().filter(|shop| shop.merchant != event.stream.tenant) {
            if text.contains(&shop.canary) {
                world.measure.violated("I9", format!("position {} holds what {} wrote", event.pos, shop.merchant));
            }
        }
    }
}

/// I10: neither the card number nor the provider's secret in any file (logs, tables, bus, books) but what the simulated provider
/// prints of itself.
fn secrets(world: &World) -> Result<()> {
    let scb = settings("http://127.0.0.1");
    for (what, secret) in [("a card number", CARD), ("the provider's secret", scb.api_secret.reveal())] {
        let found =
            Command::new("grep").args(["-rlaF", "--exclude=bank.log", "--exclude-dir=images", "--", secret]).arg(world.dir()).output()?;
        let files = String::from_utf8_lossy(&found.stdout);
        if !files.trim().is_empty() {
            world.measure.violated("I10", format!("{what} stands in {}", files.trim()));
        }
    }
    Ok(())
}

/// Asks what only reads, again where it gives no answer, until [`PATIENCE`] is over.
async fn patiently<T>(ask: impl AsyncFn() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        match ask().await {
            Err(_) if started.elapsed() < PATIENCE => tokio::time::sleep(Duration::from_millis(250)).await,
            answer => return answer,
        }
    }
}

/// What the bus holds at a place; nothing when it says that there is none.
async fn held(stream: &jetstream::stream::Stream, sequence: i64) -> Result<Option<Vec<u8>>> {
    let place = u64::try_from(sequence).unwrap_or(0);
    patiently(async || match stream.get_raw_message(place).await {
        Ok(message) => Ok(Some(message.payload.to_vec())),
        Err(error) if error.kind() == jetstream::stream::RawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(anyhow::Error::from(error)),
    })
    .await
}

/// The bus holds at each place the log's event. Answers how many were compared.
async fn bus(world: &World, events: &[RecordedEvent]) -> Result<i64> {
    let stream = patiently(async || {
        let context = jetstream::new(connect_nats(world.embedded.nats_url()).await?);
        anyhow::Ok(context.get_stream(stream_name(&log_head(&world.log).await?)).await?)
    })
    .await?;
    let info = stream.cached_info();
    let (_, base) = info.config.description.as_deref().and_then(parse_description).context("the stream says where it begins")?;
    let last = i64::try_from(info.state.last_sequence)?;
    let first = (last - COMPARED).max(i64::try_from(info.state.first_sequence)? - 1).max(0) + 1;
    let stream = &stream;
    let mut messages =
        stream::iter(first..=last).map(|sequence| async move { (sequence, held(stream, sequence).await) }).buffer_unordered(32);
    let mut wrong = BTreeSet::new();
    while let Some((sequence, message)) = messages.next().await {
        let event = usize::try_from(base + sequence - 1).ok().and_then(|at| events.get(at));
        let same = message?.is_some_and(|message| wire::decode(&message).ok().as_ref() == event);
        if !same {
            wrong.insert(base + sequence);
        }
    }
    if let Some(place) = wrong.first() {
        world.measure.violated("I3", format!("the bus holds at {place} and {} other places what the log does not", wrong.len() - 1));
    }
    Ok((last - first + 1).max(0))
}

fn ask_replay(world: &World, verb: &str, invariant: &str) -> Result<()> {
    let mut command = Command::new(replay_program());
    command.env("DATABASE_URL", world.embedded.database_url()).env("MIGRATE_DATABASE_URL", world.embedded.admin_url());
    let output = command.args([verb, "--json"]).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        world.measure.violated(invariant, format!("replay {verb} ended with {}: {} {}", output.status, said.trim(), errors.trim()));
    }
    Ok(())
}
