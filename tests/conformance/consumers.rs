//! The bus as a feed uses it: messages after a position, as they come.

use std::time::Duration;

use commands::{event_log::EventLog, relay::stream_name};
use futures_util::StreamExt as _;
use projections::feed::{EventBus, Messages};
use support::PATIENCE;
use tokio::time::timeout;

use crate::{
    bus::{Line, patiently},
    stage::Stage,
    told::Told,
};

/// A feed's consumer, and the base of its stream; the kind of failure only when there is none.
pub async fn join<S: Stage>(stage: &S, tail: i64) -> Result<(i64, Messages), &'static str> {
    let head = EventLog::head(&stage.log()).await.expect("the log answers");
    let log_id = stream_name(&head).replace("EVENTS_", "");
    let feed = stage.feed().await;
    assert!(feed.is_connected(), "the bus answers");
    patiently(async || feed.join(&log_id, tail).await).await
}

/// The next message within `patience`; an end and a failure are one to a feed, which joins anew.
pub async fn next(messages: &mut Messages, patience: Duration) -> String {
    match timeout(patience, messages.next()).await {
        Ok(Some(Ok((sequence, body)))) => format!("{sequence} {}", String::from_utf8_lossy(&body)),
        Ok(Some(Err(_)) | None) => "over".to_owned(),
        Err(_) => "silence".to_owned(),
    }
}

/// For a message that must come.
pub const COMES: Duration = PATIENCE;
/// For silence.
pub const MOMENT: Duration = Duration::from_millis(700);

/// A stream with so many messages, from position 1 on.
pub async fn filled<S: Stage>(stage: &S, messages: i64) -> Line<S::Bus> {
    let line = Line::of(stage).await;
    line.create("epoch=1 base=0").await.expect("a new stream");
    for position in 1..=messages {
        line.publish(position, position - 1, &format!("message {position}")).await.expect("the next place is free");
    }
    line
}

pub async fn a_consumer_gets_what_follows_and_then_waits_for_more<S: Stage>(stage: &S, told: &mut Told) {
    let line = filled(stage, 3).await;
    let (base, mut messages) = join(stage, 1).await.expect("a stream to join");
    told.that("the base", base);
    for patience in [COMES, COMES, MOMENT] {
        told.that("next", next(&mut messages, patience).await);
    }
    told.that("published", line.publish(4, 3, "four").await);
    told.that("comes", next(&mut messages, COMES).await);
    let (_, mut late) = join(stage, 4).await.expect("a stream to join");
    told.that("at the end", next(&mut late, MOMENT).await);
    told.that("published", line.publish(5, 4, "five").await);
    told.that("comes to one", next(&mut messages, COMES).await);
    told.that("and to the other", next(&mut late, COMES).await);
}

pub async fn a_consumer_that_asks_for_more_than_there_is_gets_the_next_that_comes<S: Stage>(stage: &S, told: &mut Told) {
    let line = filled(stage, 2).await;
    let (_, mut messages) = join(stage, 4).await.expect("a stream to join");
    told.that("above the end", next(&mut messages, MOMENT).await);
    for position in 3..=6 {
        told.that("published", line.publish(position, position - 1, &format!("message {position}")).await);
        told.that("to the one above", next(&mut messages, COMES).await);
    }
}

pub async fn the_base_says_where_a_position_lies<S: Stage>(stage: &S, told: &mut Told) {
    told.that("no stream", join(stage, 0).await.map(|(base, _)| base));
    let line = Line::of(stage).await;
    line.create("epoch=1 base=40").await.expect("a new stream");
    told.that("published", line.publish(41, 0, "first").await);
    told.that("published", line.publish(42, 1, "second").await);
    for tail in [0, 39, 40, 41] {
        let (base, mut messages) = join(stage, tail).await.expect("a stream to join");
        told.that(format!("after {tail}"), (base, next(&mut messages, COMES).await));
    }
}

pub async fn a_consumer_of_a_stream_that_was_deleted_brings_nothing_more<S: Stage>(stage: &S, told: &mut Told) {
    let line = filled(stage, 2).await;
    let (_, mut messages) = join(stage, 1).await.expect("a stream to join");
    told.that("next", next(&mut messages, COMES).await);
    told.that("deleted", line.delete().await);
    told.that("made anew", line.create("epoch=2 base=0").await);
    told.that("published", line.publish(1, 0, "new").await);
    let word = next(&mut messages, MOMENT).await;
    told.that("nothing new to the old one", word == "over" || word == "silence");
    let (_, mut fresh) = join(stage, 0).await.expect("a stream to join");
    told.that("to a fresh one", next(&mut fresh, COMES).await);
}
