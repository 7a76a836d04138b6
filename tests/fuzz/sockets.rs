//! Frames of a WebSocket client: each is answered, none ends the session, and none opens what is another's.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use domain::ids::{OrderId, Ulid};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use support::PATIENCE;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest as _};

use crate::{Tally, edits::Samples, fuzz, world::World};

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

/// Longest frame, bytes; the server ends a session with a message beyond 4 KiB.
const LONGEST: usize = 1_000;

async fn connected(world: &World) -> Socket {
    let mut request = format!("{}/ws", world.platform.base.replace("http", "ws")).into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {}", world.shop.manager).parse().unwrap());
    tokio_tungstenite::connect_async(request).await.unwrap().0
}

/// Sends a frame and then one whose answer is known; what came before that answer.
async fn said(socket: &mut Socket, frame: Message, number: u64) -> Vec<Value> {
    socket.send(frame).await.unwrap();
    // Of a topic that there can be, and that nobody listens to.
    let last = format!("order.{}", OrderId(Ulid(number.into())));
    socket.send(Message::Text(json!({"action": "unsubscribe", "topic": last}).to_string().into())).await.unwrap();
    let mut before = Vec::new();
    loop {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await.expect("an answer in time");
        let message = message.expect("the session goes on").expect("a message");
        let Message::Text(text) = message else {
            assert!(!message.is_close(), "{message:?}");
            continue;
        };
        let answer: Value = serde_json::from_str(&text).unwrap();
        if answer["topic"] == last {
            return before;
        }
        before.push(answer);
    }
}

#[test]
fn a_session_answers_every_frame_and_goes_on() {
    let (world, tally) = (World::shared(), Tally::default());
    let files = Samples::of("frames");
    let samples = files.samples.iter().map(|file| world.filled(std::str::from_utf8(file).unwrap()).trim_end().as_bytes().to_vec());
    let samples = Samples::these(samples.collect());
    let socket = world.runtime.block_on(connected(&world));
    let socket = std::sync::Mutex::new(socket);
    let (crowded, next) = (AtomicBool::new(false), AtomicU64::new(1));
    fuzz!(3_000, samples, |input| {
        let world = &*world;
        let mut socket = socket.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if crowded.swap(false, Ordering::Relaxed) {
            *socket = world.runtime.block_on(connected(world));
        }
        let bytes = &input.bytes[..input.bytes.len().min(LONGEST)];
        let frame = match std::str::from_utf8(bytes) {
            Ok(text) => Message::Text(text.into()),
            Err(_) => Message::Binary(bytes.to_vec().into()),
        };
        let answers = world.runtime.block_on(said(&mut socket, frame, next.fetch_add(1, Ordering::Relaxed)));
        for answer in &answers {
            let topic = answer["topic"].as_str().unwrap_or_default();
            let others = topic == format!("merchant.{}", world.other.merchant) || topic == format!("store.{}", world.other.store);
            assert!(!others || answer["type"] == "error" || answer["type"] == "unsubscribed", "{answer}");
            world.keeps_to_itself(&String::from_utf8_lossy(bytes), answer.to_string().as_bytes());
        }
        crowded.store(answers.iter().any(|answer| answer["code"] == "TooManyTopics"), Ordering::Relaxed);
        assert!(!answers.is_empty(), "no answer");
        if answers.iter().any(|answer| answer["type"] == "error") { tally.refused() } else { tally.accepted() }
    });
    tally.has_seen_both("frames");
}
