//! The bus as the relay uses it: one stream, compare-and-set by sequence.

use std::{fmt::Display, time::Instant};

use commands::{
    bus::{Bus, FoundStream, NewStream, Outgoing, message_id},
    event_log::EventLog,
    relay::{poke_subject, stream_name},
};
use support::PATIENCE;
use tokio::time::timeout;

use crate::{
    stage::Stage,
    told::{Told, bused},
};

/// Asks what only reads, again where nobody answered in time: a busy machine takes longer than the product waits.
pub async fn patiently<T, E: Display>(ask: impl AsyncFn() -> Result<T, E>) -> Result<T, &'static str> {
    let started = Instant::now();
    loop {
        match ask().await {
            // In the client's words, which a simulated bus does not use.
            Err(error) if error.to_string().contains("timed out") && started.elapsed() < PATIENCE => {}
            answer => return answer.map_err(|_| "failed"),
        }
    }
}

/// A relay's line to the stream of one log.
pub struct Line<B> {
    pub bus: B,
    pub name: String,
    log: String,
}

impl<B: Bus> Line<B> {
    pub async fn of<S: Stage<Bus = B>>(stage: &S) -> Self {
        let head = EventLog::head(&stage.log()).await.expect("the log answers");
        let log = poke_subject(&head).replace("poke.", "");
        Self { bus: stage.bus().await, name: stream_name(&head), log }
    }

    pub async fn create(&self, description: &str) -> Result<(), &'static str> {
        let (name, subjects) = (self.name.clone(), format!("ev.{}.>", self.log));
        bused(self.bus.create(NewStream { name, description: description.to_owned(), subjects }).await)
    }

    /// The sequence that a message got.
    pub async fn publish(&self, position: i64, expected: i64, body: &str) -> Result<i64, &'static str> {
        self.publish_after(None, position, expected, body).await
    }

    /// The same of a message that names what the one before it says.
    pub async fn publish_after(&self, before: Option<&str>, position: i64, expected: i64, body: &str) -> Result<i64, &'static str> {
        let sent = bused(self.bus.publish(self.outgoing(before, position, expected, body)).await)?;
        timeout(PATIENCE, sent).await.map_or(Err("silent"), bused)
    }

    /// Sends one before another that names it.
    pub async fn send_after(&self, before: Option<&str>, position: i64, expected: i64, body: &str) -> Result<(), &'static str> {
        bused(self.bus.send(self.outgoing(before, position, expected, body)).await)
    }

    fn outgoing(&self, before: Option<&str>, position: i64, expected: i64, body: &str) -> Outgoing {
        let (subject, body) = (format!("ev.{}.1.order.test", self.log), body.as_bytes().to_vec());
        Outgoing { id: message_id(&body), subject, position, expected, after: before.map(|before| message_id(before.as_bytes())), body }
    }

    /// What its maker wrote about the stream, and where it ends.
    pub async fn stream(&self) -> Result<Option<(String, i64)>, &'static str> {
        self.found().await.map(|found| found.map(|found| (found.description, found.last_sequence)))
    }

    pub async fn found(&self) -> Result<Option<FoundStream>, &'static str> {
        patiently(async || self.bus.stream(&self.name).await).await
    }

    pub async fn message(&self, sequence: i64) -> Result<Option<String>, &'static str> {
        let body = patiently(async || self.bus.message(&self.name, sequence).await).await?;
        Ok(body.map(|body| String::from_utf8_lossy(&body).into_owned()))
    }

    pub async fn delete(&self) -> Result<(), &'static str> {
        bused(self.bus.delete(&self.name).await)
    }
}

pub async fn a_message_takes_the_place_that_it_expects_or_none<S: Stage>(stage: &S, told: &mut Told) {
    let line = Line::of(stage).await;
    told.that("made", line.create("epoch=1 base=10").await);
    told.that("empty", line.stream().await);
    told.that("first", line.publish(11, 0, "one").await);
    told.that("second", line.publish(12, 1, "two").await);
    told.that("a place that is taken", line.publish(20, 0, "other").await);
    told.that("a place behind the end", line.publish(21, 5, "other").await);
    told.that("third", line.publish(13, 2, "three").await);
    told.that("in the end", line.stream().await);
    for sequence in [1, 2, 3, 4] {
        told.that(format!("message {sequence}"), line.message(sequence).await);
    }
}

pub async fn a_position_that_was_published_is_acknowledged_again_where_it_lies<S: Stage>(stage: &S, told: &mut Told) {
    let line = Line::of(stage).await;
    told.that("made", line.create("epoch=1 base=0").await);
    told.that("first", line.publish(1, 0, "one").await);
    told.that("second", line.publish(2, 1, "two").await);
    told.that("the first again, as a twin sends it", line.publish(1, 0, "one").await);
    told.that("another under its position", line.publish(1, 0, "void").await);
    told.that("expecting the end", line.publish(2, 2, "two").await);
    told.that("in the end", line.stream().await);
    told.that("what is kept", line.message(1).await);
    told.that("goes on", line.publish(3, 2, "three").await);
}

pub async fn a_message_follows_the_one_that_it_names_or_is_refused<S: Stage>(stage: &S, told: &mut Told) {
    let line = Line::of(stage).await;
    told.that("made", line.create("epoch=1 base=0").await);
    told.that("the first follows nothing", line.publish_after(Some("none"), 1, 0, "one").await);
    told.that("first", line.publish(1, 0, "one").await);
    told.that("what follows another", line.publish_after(Some("void"), 2, 1, "two").await);
    told.that("what follows it elsewhere", line.publish_after(Some("one"), 2, 2, "two").await);
    told.that("what follows it", line.publish_after(Some("one"), 2, 1, "two").await);
    told.that("again, whatever it names", line.publish_after(Some("void"), 2, 1, "two").await);
    told.that("what follows one before", line.publish_after(Some("one"), 3, 2, "three").await);
    // Of a page whose first messages are kept out, the rest must not get in where the numbers fit.
    told.that("of another log, at a place that is taken", line.publish_after(None, 2, 1, "other two").await);
    told.that("and what follows it, at the next", line.publish_after(Some("other two"), 3, 2, "other three").await);
    told.that("in the end", line.stream().await);
}

pub async fn the_last_message_of_a_page_is_taken_with_all_before_it_or_not_at_all<S: Stage>(stage: &S, told: &mut Told) {
    let line = Line::of(stage).await;
    told.that("made", line.create("epoch=1 base=0").await);
    told.that("first", line.send_after(None, 1, 0, "one").await);
    told.that("second", line.send_after(Some("one"), 2, 1, "two").await);
    told.that("last", line.publish_after(Some("two"), 3, 2, "three").await);
    // The beginning of the next page is kept out, and nobody says so.
    told.that("void", line.send_after(None, 4, 9, "four").await);
    told.that("after it", line.send_after(Some("four"), 5, 4, "five").await);
    told.that("its last", line.publish_after(Some("five"), 6, 5, "six").await);
    told.that("in the end", line.stream().await);
    // As a relay sends all of it that has heard of none.
    told.that("first again", line.send_after(None, 1, 0, "one").await);
    told.that("third again", line.send_after(Some("two"), 3, 2, "three").await);
    told.that("fourth", line.send_after(Some("three"), 4, 3, "four").await);
    told.that("fifth", line.publish_after(Some("four"), 5, 4, "five").await);
    for sequence in 1..=6 {
        told.that(format!("message {sequence}"), line.message(sequence).await);
    }
}

pub async fn of_a_stream_that_is_not_there_nothing_can_be_had<S: Stage>(stage: &S, told: &mut Told) {
    let line = Line::of(stage).await;
    told.that("none", line.stream().await);
    told.that("a message of none", line.message(1).await);
    told.that("to none", line.publish(1, 0, "one").await);
    told.that("none is deleted", line.delete().await);
}

pub async fn a_stream_is_made_once_and_its_maker_finds_it_again<S: Stage>(stage: &S, told: &mut Told) {
    let line = Line::of(stage).await;
    told.that("made", line.create("epoch=1 base=5").await);
    told.that("first", line.publish(6, 0, "one").await);
    told.that("the very same again", line.create("epoch=1 base=5").await);
    told.that("a twin with another base", line.create("epoch=1 base=6").await);
    told.that("of another epoch", line.create("epoch=2 base=5").await);
    told.that("as it was", line.stream().await);
}

pub async fn a_stream_that_was_deleted_begins_anew_under_its_name<S: Stage>(stage: &S, told: &mut Told) {
    let line = Line::of(stage).await;
    told.that("made", line.create("epoch=1 base=0").await);
    told.that("first", line.publish(1, 0, "one").await);
    let before = line.found().await.ok().flatten().map(|found| found.created_ns);
    told.that("deleted", line.delete().await);
    told.that("none", line.stream().await);
    told.that("its message", line.message(1).await);
    told.that("made anew", line.create("epoch=2 base=0").await);
    told.that("empty", line.stream().await);
    told.that("another one", line.found().await.map(|found| found.map(|found| Some(found.created_ns) == before)));
    told.that("it does not know the position", line.publish(1, 0, "new").await);
    told.that("its message then", line.message(1).await);
    told.that("of no place", line.message(0).await);
}
