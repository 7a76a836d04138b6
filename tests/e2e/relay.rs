//! The relay on a real NATS: the stream follows the log, whatever happens to the stream.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use commands::{
    bus::Nats,
    database::Role,
    own_commits::OwnCommits,
    relay::{description, parse_description, run, stream_name},
};
use domain::wire;
use sha2::{Digest as _, Sha256};
use support::{OwnServers, Proxy, TestDatabase, WriteSide, eventually, item, stream as new_stream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(40);

struct Relay {
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Relay {
    async fn start(database: &TestDatabase, write: &WriteSide) -> Self {
        Self::start_on(database.nats().await, database, write)
    }

    fn start_on(client: async_nats::Client, database: &TestDatabase, write: &WriteSide) -> Self {
        let shutdown = CancellationToken::new();
        let (log, bus, own) = (database.pool(Role::Worker), Nats::new(client), OwnCommits::of(write.news.follow()));
        let task = tokio::spawn(run(log, bus, write.moved.clone(), own, shutdown.clone()));
        Self { shutdown, task }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

struct Bus {
    context: jetstream::Context,
    name: String,
}

impl Bus {
    async fn of(database: &TestDatabase) -> Self {
        Self { context: jetstream::new(database.nats().await), name: stream_name(&database.head().await) }
    }

    /// Epoch, base and last sequence of the stream, when there is one.
    async fn view(&self) -> Option<(i32, i64, i64)> {
        let stream = self.context.get_stream(&self.name).await.ok()?;
        let info = stream.cached_info();
        let (epoch, base) = parse_description(info.config.description.as_deref()?)?;
        Some((epoch, base, i64::try_from(info.state.last_sequence).unwrap()))
    }

    /// Waits until the stream exists, and returns its base.
    async fn created(&self) -> i64 {
        eventually("the stream is created", PATIENCE, || async { self.view().await.map(|view| view.1) }).await
    }

    /// Waits until the stream ends where the log ends, with at least `messages` in it; returns epoch and base.
    async fn aligned(&self, database: &TestDatabase, messages: i64) -> (i32, i64) {
        let aligned = || async {
            let (epoch, base, last) = self.view().await?;
            (last >= messages && base + last == database.head().await.pos).then_some((epoch, base))
        };
        eventually("the stream ends where the log ends", PATIENCE, aligned).await
    }

    /// Every message is the event at its sequence plus the base, byte by byte.
    async fn check_messages(&self, database: &TestDatabase) {
        let (_, base, last) = self.view().await.unwrap();
        let stream = self.context.get_stream(&self.name).await.unwrap();
        let log = database.log().await;
        for sequence in 1..=last {
            let message = stream.get_raw_message(u64::try_from(sequence).unwrap()).await.unwrap();
            let event = &log[usize::try_from(base + sequence - 1).unwrap()];
            assert_eq!(wire::decode(&message.payload).as_ref(), Ok(event));
            let header = |name: &str| message.headers.get(name).map(|value| value.as_str().to_owned());
            assert_eq!(header("Smartpos-Position"), Some(event.pos.to_string()));
            assert_eq!(header("Nats-Msg-Id"), Some(hex::encode(&Sha256::digest(&message.payload)[..16])));
            assert!(message.subject.ends_with(&format!(".{}.order.{}", event.slice, event.event_type)), "{}", message.subject);
        }
    }

    /// Makes the stream as a relay left it before the log was restored to the past.
    async fn left_behind(&self, database: &TestDatabase, description: String) {
        let log = database.head().await.log_id.simple().to_string();
        let config = stream::Config {
            name: self.name.clone(),
            description: Some(description),
            subjects: vec![format!("ev.{log}.>")],
            ..stream::Config::default()
        };
        self.context.create_stream(config).await.unwrap();
    }

    async fn publish(&self, subject: String, message: Vec<u8>) {
        self.context.publish(subject, message.into()).await.unwrap().await.unwrap();
    }

    /// Waits for the stream of the second epoch, and returns its base.
    async fn renewed(&self) -> i64 {
        let renewed = || async { self.view().await.filter(|view| view.0 == 2) };
        eventually("a stream of the new epoch", PATIENCE, renewed).await.1
    }

    async fn delete(&self) {
        self.context.delete_stream(&self.name).await.unwrap();
    }
}

async fn append(write: &WriteSide, items: i64) {
    for _ in 0..items {
        let (items, count) = (&write.ids, 2);
        write.committer.append(item(items, &[(new_stream(items), 0)], count)).await.unwrap();
    }
}

/// Appends until told to stop.
async fn load(write: &WriteSide, stop: &AtomicBool) {
    while !stop.load(Ordering::SeqCst) {
        append(write, 1).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn while_loaded(write: &WriteSide, work: impl Future<Output = ()>) {
    let stop = AtomicBool::new(false);
    let work = async {
        work.await;
        stop.store(true, Ordering::SeqCst);
    };
    tokio::join!(load(write, &stop), work);
}

#[tokio::test]
async fn every_event_is_published_in_order_at_its_position_minus_the_base() {
    let database = TestDatabase::new().await;
    let (write, bus) = (database.write_side(), Bus::of(&database).await);
    // What is older than the stream stays in the log only.
    append(&write, 5).await;
    let relay = Relay::start(&database, &write).await;
    assert_eq!(bus.created().await, 10);
    // More than one page, while nobody relays: the next relay goes on where the stream ends.
    relay.stop().await;
    append(&write, 400).await;
    let relay = Relay::start(&database, &write).await;
    assert_eq!(bus.aligned(&database, 800).await, (1, 10));
    bus.check_messages(&database).await;
    relay.stop().await;
}

#[tokio::test]
async fn an_event_of_another_process_is_on_the_bus_at_once() {
    let database = TestDatabase::new().await;
    let (relaying, elsewhere, bus) = (database.write_side(), database.write_side(), Bus::of(&database).await);
    let relay = Relay::start(&database, &relaying).await;
    bus.created().await;
    for n in 1..=5 {
        append(&elsewhere, 1).await;
        bus.aligned(&database, n * 2).await;
    }
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_deleted_under_load_comes_back_aligned() {
    let database = TestDatabase::new().await;
    let (write, bus) = (database.write_side(), Bus::of(&database).await);
    let relay = Relay::start(&database, &write).await;
    bus.created().await;
    while_loaded(&write, async {
        let mut base = 0;
        for _ in 0..3 {
            bus.aligned(&database, 20).await;
            bus.delete().await;
            let moved = || async { bus.view().await.map(|view| view.1).filter(|newer| *newer > base) };
            base = eventually("the stream is created anew, further on", PATIENCE, moved).await;
        }
        bus.aligned(&database, 20).await;
    })
    .await;
    assert_eq!(bus.aligned(&database, 20).await.0, 1, "a lost stream is no new epoch");
    bus.check_messages(&database).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relays_that_come_and_go_beside_another_do_no_harm() {
    let database = TestDatabase::new().await;
    let (write, bus) = (database.write_side(), Bus::of(&database).await);
    let relay = Relay::start(&database, &write).await;
    let base = bus.created().await;
    while_loaded(&write, async {
        for _ in 0..60 {
            let second = Relay::start(&database, &write).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
            second.stop().await;
        }
    })
    .await;
    assert_eq!(bus.aligned(&database, 50).await, (1, base), "the first stream is still there, in the first epoch");
    assert_eq!(database.head().await.epoch, 1);
    bus.check_messages(&database).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_sees_the_stream_late_does_not_take_it_for_ahead_of_the_log() {
    let database = TestDatabase::new().await;
    let (write, bus) = (database.write_side(), Bus::of(&database).await);
    let relay = Relay::start(&database, &write).await;
    let base = bus.created().await;
    let line = Proxy::before(&database.nats_url).await;
    let client = api::embedded::connect_nats(line.url()).await.unwrap();
    line.delay(Duration::from_millis(50));
    while_loaded(&write, async {
        for _ in 0..5 {
            // Between its look at the log and the stream's answer the other relay publishes dozens of events.
            let late = Relay::start_on(client.clone(), &database, &write);
            tokio::time::sleep(Duration::from_millis(400)).await;
            late.stop().await;
        }
    })
    .await;
    assert_eq!(bus.aligned(&database, 100).await, (1, base), "the first stream is still there, in the first epoch");
    bus.check_messages(&database).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nats_that_is_killed_under_load_is_filled_again() {
    let mut servers = OwnServers::start("nats-killed").await;
    let database = servers.database().await;
    let (write, bus) = (database.write_side(), Bus::of(&database).await);
    let relay = Relay::start(&database, &write).await;
    bus.created().await;
    while_loaded(&write, async {
        bus.aligned(&database, 50).await;
        servers.embedded.kill_nats().await;
        let before = database.head().await.pos;
        let moved = || async { (database.head().await.pos > before + 50).then_some(()) };
        eventually("commands are taken without NATS", PATIENCE, moved).await;
        servers.embedded.restart_nats().await.unwrap();
        bus.aligned(&database, 100).await;
    })
    .await;
    bus.aligned(&database, 100).await;
    bus.check_messages(&database).await;
    relay.stop().await;
    write.stop().await;
    servers.embedded.stop().await.unwrap();
}

#[tokio::test]
async fn a_bus_ahead_of_the_log_begins_a_new_epoch() {
    let database = TestDatabase::new().await;
    let (write, bus) = (database.write_side(), Bus::of(&database).await);
    append(&write, 5).await;
    // As if the log had been at position 13 once and was restored to 10.
    bus.left_behind(&database, description(1, 8)).await;
    let log = database.head().await.log_id.simple().to_string();
    for _ in 0..5 {
        bus.publish(format!("ev.{log}.0.order.lost"), b"{}".to_vec()).await;
    }
    let relay = Relay::start(&database, &write).await;
    assert_eq!((bus.renewed().await, database.head().await.epoch), (10, 2));
    append(&write, 3).await;
    assert_eq!(bus.aligned(&database, 6).await, (2, 10));
    bus.check_messages(&database).await;
    relay.stop().await;
}

#[tokio::test]
async fn a_log_that_outgrew_what_it_lost_begins_a_new_epoch() {
    let database = TestDatabase::new().await;
    let (write, bus) = (database.write_side(), Bus::of(&database).await);
    append(&write, 5).await;
    // As if the log had been at position 9 once, was restored to 8 and went on to 10: the counts look like a mere lag.
    bus.left_behind(&database, description(1, 6)).await;
    let (log, mut sent) = (database.head().await.log_id.simple().to_string(), database.log().await[6..9].to_vec());
    sent[2].hash = [7; 32];
    for event in &sent {
        bus.publish(format!("ev.{log}.{}.order.{}", event.slice, event.event_type), wire::encode(event)).await;
    }
    let relay = Relay::start(&database, &write).await;
    assert_eq!((bus.renewed().await, database.head().await.epoch), (10, 2));
    append(&write, 3).await;
    assert_eq!(bus.aligned(&database, 6).await, (2, 10));
    bus.check_messages(&database).await;
    relay.stop().await;
}

#[tokio::test]
async fn an_empty_stream_that_goes_on_from_another_event_begins_a_new_epoch() {
    let database = TestDatabase::new().await;
    let (write, bus) = (database.write_side(), Bus::of(&database).await);
    append(&write, 5).await;
    // As if a stream had been made at position 8, the log restored to 6 before anything was published, and gone on to 10.
    bus.left_behind(&database, format!("{} hash={}", description(1, 8), "07".repeat(32))).await;
    let relay = Relay::start(&database, &write).await;
    assert_eq!((bus.renewed().await, database.head().await.epoch), (10, 2));
    relay.stop().await;
    // The new one names the event that the log has there: the next relay goes on with it.
    append(&write, 1).await;
    let relay = Relay::start(&database, &write).await;
    assert_eq!(bus.aligned(&database, 2).await, (2, 10));
    bus.check_messages(&database).await;
    relay.stop().await;
}

#[tokio::test]
async fn an_epoch_does_not_come_back_with_a_log_that_is_restored_again() {
    let database = TestDatabase::new().await;
    let (write, bus) = (database.write_side(), Bus::of(&database).await);
    append(&write, 5).await;
    // The stream that followed the first restores; nothing was published there that the backup lacks, but its epoch.
    bus.left_behind(&database, description(3, 8)).await;
    let relay = Relay::start(&database, &write).await;
    let renewed = || async { bus.view().await.filter(|view| view.0 == 4) };
    assert_eq!(eventually("a stream of an epoch that never was", PATIENCE, renewed).await.1, 10);
    assert_eq!(database.head().await.epoch, 4);
    relay.stop().await;
}

#[tokio::test]
async fn a_purged_stream_goes_on_in_its_epoch() {
    let database = TestDatabase::new().await;
    let (write, bus) = (database.write_side(), Bus::of(&database).await);
    let relay = Relay::start(&database, &write).await;
    let base = bus.created().await;
    append(&write, 5).await;
    bus.aligned(&database, 10).await;
    relay.stop().await;
    bus.context.get_stream(&bus.name).await.unwrap().purge().await.unwrap();
    let relay = Relay::start(&database, &write).await;
    append(&write, 5).await;
    assert_eq!(bus.aligned(&database, 20).await, (1, base));
    assert_eq!(database.head().await.epoch, 1);
    relay.stop().await;
}

#[tokio::test]
async fn a_stream_of_an_older_epoch_is_replaced() {
    let database = TestDatabase::new().await;
    let (write, bus) = (database.write_side(), Bus::of(&database).await);
    let relay = Relay::start(&database, &write).await;
    bus.created().await;
    append(&write, 5).await;
    bus.aligned(&database, 10).await;
    sqlx::query("select log.raise_epoch()").execute(&database.pool(Role::Worker)).await.unwrap();
    bus.renewed().await;
    append(&write, 5).await;
    assert_eq!(bus.aligned(&database, 10).await.0, 2);
    bus.check_messages(&database).await;
    relay.stop().await;
}
