//! The relay against bare publishing of the same messages with ids.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use async_nats::{HeaderMap, jetstream};
use commands::{
    bus::Nats,
    database::{self, Role},
    event_store,
    own_commits::OwnCommits,
    relay,
};
use domain::wire;
use futures_util::{StreamExt, TryStreamExt, future::try_join_all, stream};
use support::{OwnServers, SeededIds, TestDatabase};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    Bench,
    bare::{self, Shape},
    measure::{median, per_second},
    report::Aim,
};

const SECTION: &str = "relay";
/// Messages sent before the acknowledgements of those before them are waited for: a page of the relay. Two of them are in flight at most.
const WINDOW: usize = 500;

/// Runs the section.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let database = bench.servers.near_database("bench_relay").await;
    let client = database.nats().await;
    let commands = bench.effort.choose(25_600, 7_680);
    let (mut relayed, mut published) = (Vec::new(), Vec::new());
    for round in 0..bench.effort.rounds() {
        relayed.push(relay_round(&database, client.clone(), commands, 10 + u64::try_from(round)?).await?);
        published.push(publish_round(&database, client.clone(), commands * 2).await?);
    }
    let (relayed, published) = (median(relayed), median(published));
    bench.report.figure(SECTION, format!("bare publish with ids, two pages of {WINDOW} in flight"), published, "events/s");
    bench.report.figure(SECTION, "log to JetStream through the relay", relayed, "events/s");
    bench.report.ratio(SECTION, "relay ÷ bare publish", (relayed, published), Some(Aim::AtLeast(0.6)));
    OwnServers::drop_database(database).await;
    Ok(())
}

/// Lets the relay make its stream, stops it, fills the log, and takes the time from its start until all is in the stream.
async fn relay_round(database: &TestDatabase, client: async_nats::Client, commands: u64, seed: u64) -> Result<f64> {
    let context = jetstream::new(client.clone());
    let name = relay::stream_name(&event_store::log_head(&database.admin).await?);
    let start = || {
        let stop = CancellationToken::new();
        let (log, bus) = (database.pool(Role::Worker), Nats::new(client.clone()));
        let work = relay::run(log, bus, watch::channel(0).1, OwnCommits::default(), stop.clone());
        (stop, tokio::spawn(work))
    };
    let (stop, task) = start();
    let made = async {
        while context.get_stream(&name).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), made).await.context("the relay makes its stream")?;
    stop.cancel();
    task.await?;

    let ids = Arc::new(SeededIds::new(seed));
    let options = database::options(&database.url, Role::App)?;
    bare::run(&options, Shape::two_events(&ids), ids, 128, commands, &AtomicU64::default()).await?;
    let mut stream = context.get_stream(&name).await?;
    let (from, started) = (stream.info().await?.state.last_sequence, Instant::now());
    let (stop, task) = start();
    let all = async {
        loop {
            let arrived = stream.info().await?.state.last_sequence - from;
            if arrived >= commands * 2 {
                return Ok::<_, anyhow::Error>(arrived);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let arrived = tokio::time::timeout(Duration::from_secs(120), all).await.context("the relay catches up")??;
    let rate = per_second(arrived, started.elapsed());
    stop.cancel();
    task.await?;
    Ok(rate)
}

/// Publishes the same events to a stream of its own.
async fn publish_round(database: &TestDatabase, client: async_nats::Client, count: u64) -> Result<f64> {
    let context = jetstream::new(client);
    let wanted = jetstream::stream::Config { name: "BENCH".to_owned(), subjects: vec!["bench.>".to_owned()], ..Default::default() };
    context.create_stream(wanted).await?;
    let events = event_store::read_log(&database.admin, 0, i64::try_from(count)?).await?;
    let bodies: Vec<(i64, bytes::Bytes)> = events.iter().map(|event| (event.pos, wire::encode(event).into())).collect();
    let started = Instant::now();
    let mut before = Vec::new();
    for page in bodies.chunks(WINDOW) {
        let acks = stream::iter(page).then(|(pos, body)| {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Msg-Id", pos.to_string());
            context.publish_with_headers("bench.event", headers, body.clone())
        });
        let acks = acks.map_ok(std::future::IntoFuture::into_future).try_collect().await?;
        try_join_all(std::mem::replace(&mut before, acks)).await?;
    }
    try_join_all(before).await?;
    let rate = per_second(u64::try_from(bodies.len())?, started.elapsed());
    context.delete_stream("BENCH").await?;
    Ok(rate)
}
