//! What crashes leave: of the database, of the bus, and of both when they are put back to an older state.

use commands::{
    batch::AppendItem,
    event_log::{Appender, EventLog},
    process_store::{Leaves, ProcessStore},
    webhooks::Delivery,
};
use domain::{
    clock::IdSource as _,
    ids::WebhookId,
    provider::{HintSubject, WebhookHint},
};
use projections::row_store::RowStore as _;
use support::{SeededIds, item, key_claim, stream};

use crate::{
    bus::Line,
    consumers::{COMES, MOMENT, filled, join, next},
    rows::{self, logged, rows, standing, words},
    stage::{Stage, append, connected},
    tasks::{after, attempt, begin, held, lapse, lease, left, left_leased, managed, remove, replace, start, tenant},
    told::{Told, appended, read, seen, stored},
};

async fn take_call_back<S: Stage>(stage: &S) -> Result<bool, &'static str> {
    let id = WebhookId(SeededIds::new(900).next());
    let subject = HintSubject::Reference("REF".to_owned());
    let hint = WebhookHint { delivery_id: "d".to_owned(), subject, transaction_id: None, acknowledgement: String::new() };
    let delivery = Delivery { id, provider: "scb", account: "scb", tenant: None, received_at: start(), headers: &[], body: b"d" };
    stored(stage.log().take_webhook(&delivery, &hint, None).await)
}

async fn log<S: Stage>(stage: &S, told: &mut Told) {
    told.that("the head", stored(EventLog::head(&stage.log()).await).map(|head| (head.pos, head.epoch)));
    told.that("the log", stored(stage.log().read(0, 1000).await).map(|events| seen(&events)));
}

pub async fn what_was_acknowledged_is_there_with_all_that_was_written_before_it<S: Stage>(stage: &S, told: &mut Told) {
    stage.install().await;
    let ids = SeededIds::new(41);
    let (key, mut appender, store) = (stream(&ids), connected(stage).await, managed(stage).await);
    told.that("first", appended(appender.append(&[item(&ids, &[(key, 0)], 1)]).await));
    told.that("left", stored(store.advance(0, (1, None), vec![left("a", lapse(1), start()), left("b", lapse(2), start())], vec![]).await));
    told.that("leased", stored(store.lease(start(), 5.0, 5).await).map(held));
    told.that("removed", remove(&store, "a").await);
    told.that("rows", rows::write(stage, standing(stage).await, 1, &rows(&["a", "b"], "one")).await);
    told.that("snapshot", stored(stage.log().save_snapshot(key, 1, 1, b"state".to_vec()).await));
    told.that("call-back", take_call_back(stage).await);
    told.that("appended", appended(appender.append(&[AppendItem { keys: vec![key_claim("k")], ..item(&ids, &[(key, 1)], 3) }]).await));
    stage.kill_database().await;
    told.that("over the broken connection", appended(appender.append(&[item(&ids, &[(key, 4)], 1)]).await));
    told.that("and asked over it", stored(appender.find_written(key, 1, &[0; 32]).await));
    appender.disconnect();
    told.that("connected again", stored(appender.connect().await));
    told.that("goes on", appended(appender.append(&[item(&ids, &[(key, 4)], 1)]).await));
    log(stage, told).await;
    told.that("the key", stored(stage.log().find_key(key_claim("").tenant, "test", "k").await));
    told.that("the snapshot", stored(stage.log().load_snapshot(key, 1).await));
    told.that("the call-back", stage.call_backs().await);
    told.that("the checkpoint", stored(stage.processes().checkpoint().await));
    lease(&stage.processes(), told, 4, 5).await;
    lease(&stage.processes(), told, 5, 5).await;
    told.that("the copy", standing(stage).await.pos);
    told.that("its rows", words(stage, &["a", "b"]).await);
}

/// An image: what it shows depends on when the disk was written last.
pub async fn what_did_not_wait_is_there_or_not_but_never_torn<S: Stage>(stage: &S, told: &mut Told) {
    stage.install().await;
    let (store, known) = (managed(stage).await, Leaves::Reference { tenant: tenant(), attempt: Box::new(attempt("scb", "REF")) });
    let tasks = ["a", "b", "c", "d"].map(|key| left(key, lapse(1), start()));
    told.that("left", stored(store.advance(0, (1, None), tasks.to_vec(), vec![]).await));
    // Waits for the disk, and so does all before it.
    logged(stage, 44, 4).await;
    told.that("rows", rows::write(stage, standing(stage).await, 2, &rows(&["a", "b"], "one")).await);
    told.that("leased", stored(store.lease(start(), 5.0, 5).await).map(held));
    told.that("removed", remove(&store, "a").await);
    told.that("replaced", replace(&store, "b", lapse(2), after(1)).await);
    told.that("put back", stored(store.put_back("c", after(2)).await));
    told.that("renewed", stored(store.renew(&["d".to_owned()], after(4), 5.0).await));
    told.that("named", stored(store.remember(&attempt("scb", "REF"), "chrg_1").await));
    told.that("a page", stored(store.advance(1, (2, None), vec![left("e", lapse(3), start()), known], vec![]).await));
    told.that("a page of nothing", stored(store.advance(2, (3, None), vec![], vec![]).await));
    told.that("more rows", rows::write(stage, standing(stage).await, 4, &rows(&["b", "c"], "two")).await);
    stage.kill_database().await;
    let store = stage.processes();
    told.that("the checkpoint", stored(store.checkpoint().await));
    for name in ["REF", "chrg_1"] {
        told.that(name, stored(store.attempt_of("scb", name).await).map(|found| found.is_some()));
    }
    for seconds in [2, 8, 9] {
        lease(&store, told, seconds, 9).await;
    }
    told.that("the copy", standing(stage).await.pos);
    told.that("its rows", words(stage, &["a", "b", "c"]).await);
    log(stage, told).await;
}

pub async fn a_lease_of_a_call_that_begins_something_waits_for_the_disk<S: Stage>(stage: &S, told: &mut Told) {
    stage.install().await;
    let store = managed(stage).await;
    told.that("left", stored(store.advance(0, (1, None), vec![left("a", begin(), start()), left("b", lapse(1), start())], vec![]).await));
    told.that("leased", stored(store.lease(start(), 5.0, 5).await).map(held));
    stage.kill_database().await;
    let store = stage.processes();
    told.that("the checkpoint", stored(store.checkpoint().await));
    for seconds in [4, 5] {
        lease(&store, told, seconds, 5).await;
    }
}

pub async fn so_does_one_that_is_left_leased<S: Stage>(stage: &S, told: &mut Told) {
    stage.install().await;
    let store = managed(stage).await;
    let page = vec![left_leased("a", begin(), after(5)), left("b", lapse(1), start())];
    told.that("left", stored(store.advance(0, (1, None), page, vec![]).await));
    stage.kill_database().await;
    let store = stage.processes();
    told.that("the checkpoint", stored(store.checkpoint().await));
    for seconds in [4, 5] {
        lease(&store, told, seconds, 5).await;
    }
}

pub async fn a_database_that_was_put_back_is_what_it_was<S: Stage>(stage: &S, told: &mut Told) {
    stage.install().await;
    let ids = SeededIds::new(46);
    let (key, late) = (stream(&ids), stream(&ids));
    let kept = AppendItem { keys: vec![key_claim("kept")], ..item(&ids, &[(key, 0)], 2) };
    told.that("kept", append(stage, &[kept]).await);
    told.that("left", stored(managed(stage).await.advance(0, (2, None), vec![left("kept", lapse(1), start())], vec![]).await));
    told.that("rows", rows::write(stage, standing(stage).await, 2, &rows(&["a"], "kept")).await);
    told.that("call-back", take_call_back(stage).await);
    stage.keep_copy().await;
    let void = AppendItem { keys: vec![key_claim("void")], ..item(&ids, &[(key, 2), (late, 0)], 2) };
    told.that("void", append(stage, &[void]).await);
    told.that("left", stored(stage.processes().advance(2, (6, None), vec![left("void", lapse(2), start())], vec![]).await));
    told.that("removed", remove(&stage.processes(), "kept").await);
    let from = standing(stage).await;
    told.that("rows", rows::write(stage, from, 6, &rows(&["a", "b"], "void")).await);
    let events = rows::hashes(stage, 2, 4).await;
    stage.restore_copy().await;
    log(stage, told).await;
    for name in ["kept", "void"] {
        told.that(name, stored(stage.log().find_key(key_claim("").tenant, "test", name).await).map(|found| found.is_some()));
    }
    told.that("the checkpoint", stored(stage.processes().checkpoint().await));
    lease(&stage.processes(), told, 0, 5).await;
    told.that("the copy", standing(stage).await.pos);
    told.that("its rows", words(stage, &["a", "b"]).await);
    let (store, void) = (stage.log(), rows(&["b"], "void"));
    told.that("rows of what is void", read(store.commit(&rows::target(), from, 4, &events, &void, &[]).await));
    told.that("the log goes on", append(stage, &[item(&ids, &[(key, 2)], 3)]).await);
    told.that("and the void stream is new", append(stage, &[item(&ids, &[(late, 0)], 1)]).await);
    log(stage, told).await;
}

pub async fn a_bus_that_was_killed_has_what_it_acknowledged<S: Stage>(stage: &S, told: &mut Told) {
    filled(stage, 5).await;
    let (_, mut messages) = join(stage, 4).await.expect("a stream to join");
    told.that("next", next(&mut messages, COMES).await);
    stage.kill_bus().await;
    let line = Line::of(stage).await;
    told.that("the stream", line.stream().await);
    told.that("its last message", line.message(5).await);
    told.that("again what was acknowledged", line.publish(5, 4, "message 5").await);
    told.that("behind another", line.publish_after(Some("message 4"), 6, 5, "message 6").await);
    told.that("goes on", line.publish_after(Some("message 5"), 6, 5, "message 6").await);
    let (_, mut fresh) = join(stage, 5).await.expect("a stream to join");
    told.that("to a fresh consumer", next(&mut fresh, COMES).await);
}

pub async fn a_bus_that_forgot_takes_its_messages_again<S: Stage>(stage: &S, told: &mut Told) {
    filled(stage, 3).await;
    stage.keep_bus_copy().await;
    let line = Line::of(stage).await;
    for position in 4..=6 {
        told.that("published", line.publish(position, position - 1, &format!("message {position}")).await);
    }
    let before = line.found().await.ok().flatten().map(|found| found.created_ns);
    stage.restore_bus_copy(3).await;
    let line = Line::of(stage).await;
    told.that("the stream", line.stream().await);
    told.that("the same one", line.found().await.map(|found| found.map(|found| Some(found.created_ns) == before)));
    told.that("what it forgot", line.message(5).await);
    told.that("where the relay was", line.publish(7, 6, "message 7").await);
    let (_, mut above) = join(stage, 6).await.expect("a stream to join");
    told.that("to one that is further", next(&mut above, MOMENT).await);
    told.that("behind what it forgot", line.publish_after(Some("message 6"), 4, 3, "message 4").await);
    told.that("behind what it has", line.publish_after(Some("message 3"), 4, 3, "message 4").await);
    for position in 5..=7 {
        told.that("again", line.publish(position, position - 1, &format!("message {position}")).await);
    }
    let mut got = Vec::new();
    for _ in 0..4 {
        got.push(next(&mut above, COMES).await);
    }
    told.that("to one that is further", got);
    told.that("the stream", line.stream().await);
}

pub async fn a_bus_that_was_emptied_begins_anew<S: Stage>(stage: &S, told: &mut Told) {
    filled(stage, 3).await;
    stage.wipe_bus().await;
    let line = Line::of(stage).await;
    told.that("the stream", line.stream().await);
    told.that("a message", line.message(1).await);
    told.that("published", line.publish(4, 3, "message 4").await);
    told.that("joined", join(stage, 3).await.map(|(base, _)| base));
    told.that("made anew", line.create("epoch=1 base=3").await);
    told.that("published", line.publish(4, 0, "message 4").await);
    let (base, mut messages) = join(stage, 3).await.expect("a stream to join");
    told.that("to a consumer", (base, next(&mut messages, COMES).await));
}
