//! What goes on, in processes that live through it, when the log was put back to an older state.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use api::{
    platform::ProcessRole,
    ws::{feed_hub, hub::Hub},
};
use async_nats::jetstream::{self, stream as bus_stream};
use commands::{
    database::Role,
    error::CommandError,
    handle::{CommandHandler, Reply, UnitOfWork},
    own_commits::OwnCommits,
    process_runner,
};
use domain::{
    envelope::RecordedEvent,
    event::{Commit, ReadEvent},
    ids::StoreId,
    store::{self, Status, Store},
};
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use projections::{Feed, LogReader, feed::EventBus as _};
use support::{PATIENCE, Shop, TestDatabase, TestPlatform, WriteSide, eventually, item, stream};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

async fn append(write: &WriteSide) {
    write.committer.append(item(&write.ids, &[(stream(&write.ids), 0)], 1)).await.unwrap();
}

#[tokio::test]
async fn managers_rest_though_this_process_wrote_beyond_what_the_log_holds_now() {
    let database = TestDatabase::new().await;
    let write = database.write_side();
    append(&write).await;
    let transactions = async || {
        let sql = "select xact_commit from pg_stat_database where datname = current_database()";
        sqlx::query_scalar::<_, i64>(sql).fetch_one(&database.admin).await.unwrap()
    };
    let before = transactions().await;
    let ((_void, moved), stop) = (watch::channel(1_000_000), CancellationToken::new());
    let pool = database.pool(Role::Worker);
    let run = process_runner::run(pool, write.handler.clone(), moved, OwnCommits::default(), Arc::default(), stop.clone());
    let managers = tokio::spawn(run);
    let (began, mut asked) = (Instant::now(), 0);
    loop {
        tokio::time::sleep(Duration::from_secs(4)).await;
        asked += 1;
        if transactions().await - before >= 20 + asked {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "managers look");
    }
    stop.cancel();
    managers.await.unwrap();
    let millis = i64::try_from(began.elapsed().as_millis()).unwrap();
    // The server counts a backend's transactions within a second.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let made = transactions().await - before;
    // Twenty looks a second at checkpoint and log; without a rest there were thousands.
    assert!((20..millis / 4).contains(&made), "{made} transactions in {millis} ms");
}

#[tokio::test]
async fn sessions_begin_anew_after_a_restore_though_events_never_pause() {
    let database = TestDatabase::new().await;
    let write = database.write_side();
    append(&write).await;
    let (pool, stop) = (database.pool(Role::Worker), CancellationToken::new());
    let head = database.head().await;
    let hub = Hub::starting_at(head.pos, head.epoch);
    let beginnings = hub.beginnings();
    let feed = Feed::start(LogReader::new(pool.clone()), None::<async_nats::Client>, None, stop.clone());
    let feeding = tokio::spawn(feed_hub(feed, pool, hub.clone(), write.handler.clone(), head.pos, stop.clone()));
    // What the relay does when it finds that the log went back.
    sqlx::query("select log.raise_epoch()").execute(&database.pool(Role::Worker)).await.unwrap();
    let anew = async {
        while hub.epoch() == head.epoch {
            append(&write).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), anew).await.expect("somebody looks at the epoch while events come");
    assert_eq!((hub.epoch(), hub.beginnings()), (2, beginnings + 1));
    append(&write).await;
    let end = database.head().await.pos;
    eventually("live events go on", Duration::from_secs(30), async || (hub.position() == end).then_some(())).await;
    stop.cancel();
    feeding.await.unwrap();
}

#[tokio::test]
async fn sessions_begin_anew_though_the_log_grew_beyond_the_void_event_that_only_they_had_heard_of() {
    let database = TestDatabase::new().await;
    let (write, others) = (database.write_side(), database.write_side());
    append(&write).await;
    let (pool, stop) = (database.pool(Role::Worker), CancellationToken::new());
    let head = database.head().await;
    let hub = Hub::starting_at(head.pos, head.epoch);
    let (commits, own) = broadcast::channel(4);
    let feed = Feed::start(LogReader::new(pool.clone()), None::<async_nats::Client>, Some(own), stop.clone());
    let mut tail = feed.watch();
    let feeding = tokio::spawn(feed_hub(feed, pool, hub.clone(), write.handler.clone(), head.pos, stop.clone()));
    tail.wait_for(|tail| *tail == head.pos).await.unwrap();
    // Acknowledged, and gone with the database that had it.
    let void = RecordedEvent { pos: head.pos + 1, hash: [7; 32], ..database.log().await.pop().unwrap() };
    commits.send(Arc::new(Commit { before: head.hash, hash: [8; 32], events: vec![ReadEvent::shared(void)] })).unwrap();
    eventually("sessions hear of it", Duration::from_secs(10), async || (hub.position() > head.pos).then_some(())).await;
    append(&others).await;
    append(&others).await;
    eventually("a new epoch", Duration::from_secs(30), async || (hub.epoch() == 2).then_some(())).await;
    let end = database.head().await.pos;
    eventually("live events go on", Duration::from_secs(30), async || (hub.position() == end).then_some(())).await;
    assert_eq!(database.head().await.epoch, 2);
    stop.cancel();
    feeding.await.unwrap();
}

/// Waits until what a process remembers of a store is gone.
async fn forgotten(commands: &CommandHandler, shop: &Shop) {
    let gone = || async { commands.last_seen::<Store>(shop.merchant, shop.store).is_none().then_some(()) };
    eventually("the store is forgotten", Duration::from_secs(30), gone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_without_sockets_forgets_what_others_wrote_and_what_was_before_a_restore() {
    let gateway = TestPlatform::start_as(&[ProcessRole::Gateway], |_| {}).await;
    let (write, commands) = (gateway.database.write_side(), gateway.platform.commands.clone());
    let shop = Shop::open(&write.handler).await;
    let status = || async { commands.read::<Store>(shop.merchant, shop.store).await.unwrap().status };
    assert_eq!(status().await, Status::Active);
    write.handler.transact(&shop.caller(&write.handler), |unit| close(unit, shop.store).boxed()).await.unwrap();
    forgotten(&commands, &shop).await;
    assert_eq!(status().await, Status::Inactive);
    // What the relay does when it finds that the log went back.
    sqlx::query("select log.raise_epoch()").execute(&gateway.database.pool(Role::Worker)).await.unwrap();
    forgotten(&commands, &shop).await;
    write.stop().await;
    gateway.stop().await;
}

async fn close(unit: &mut UnitOfWork, store: StoreId) -> Result<Reply, CommandError> {
    unit.decide::<Store>(store, store::Command::Deactivate { reason: "moved".into() }).await?;
    Ok(unit.done())
}

#[tokio::test]
async fn a_consumer_that_the_client_makes_anew_ends_what_was_joined() {
    let database = TestDatabase::new().await;
    let nats = database.nats().await;
    let (context, log) = (jetstream::new(nats.clone()), database.head().await.log_id.simple().to_string());
    let (name, subject) = (format!("EVENTS_{log}"), format!("ev.{log}.test"));
    let description = Some("epoch=1 base=0".to_owned());
    let config = bus_stream::Config { name, description, subjects: vec![subject.clone()], ..bus_stream::Config::default() };
    let stream = context.create_stream(config).await.unwrap();
    let publish = async |body: &'static str| context.publish(subject.clone(), body.into()).await.unwrap().await.unwrap();
    publish("one").await;
    let (_, mut messages) = nats.join(&log, 0).await.unwrap();
    assert_eq!(messages.next().await.unwrap().unwrap().0, 1);
    // As a server does that lost it, and as a stream does that is deleted and made anew under its name.
    for consumer in stream.consumer_names().try_collect::<Vec<_>>().await.unwrap() {
        stream.delete_consumer(&consumer).await.unwrap();
    }
    publish("two").await;
    let next = tokio::time::timeout(Duration::from_secs(120), messages.next()).await.expect("the client notices");
    assert!(next.as_ref().is_none_or(Result::is_err), "{next:?}");
}
