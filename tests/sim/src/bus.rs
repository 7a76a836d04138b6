//! JetStream as it was measured: acknowledged messages may vanish, a consumer then waits above the stream in silence, a time-out
//! may have been stored, an expected sequence is compared. And the ports of relay and feed on it.

use std::{collections::HashMap, future::Future, pin::Pin, time::Duration};

use bytes::Bytes;
use commands::{
    bus::{Bus, BusError, FoundStream, MessageId, NewStream, Outgoing, message_id},
    relay::parse_description,
};
use domain::provider::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use projections::feed::{EventBus, Messages};
use tokio::sync::watch;

use crate::{link::Link, sabotage::Saboteur, schedule::Knob, world::World};

struct Stream {
    name: String,
    description: String,
    created_ns: i128,
    /// Message `n` has sequence `n + 1`.
    messages: Vec<Bytes>,
    /// Messages that came, which are known for a while: sequence, and when.
    known: HashMap<MessageId, (i64, i64)>,
    /// The newest message; nothing where the server has forgotten it.
    newest: Option<MessageId>,
}

/// The server's window of duplicates.
const KNOWN_FOR_US: i64 = 120_000_000;

/// The server.
pub(crate) struct BusState {
    pub up: bool,
    stream: Option<Stream>,
    streams_made: i128,
    moved: watch::Sender<u64>,
    pokes: watch::Sender<i64>,
}

impl Default for BusState {
    fn default() -> Self {
        Self { up: true, stream: None, streams_made: 0, moved: watch::channel(0).0, pokes: watch::channel(0).0 }
    }
}

impl BusState {
    /// Somebody says that the log moved.
    pub fn poke(&self, head: i64) {
        if self.up {
            self.pokes.send_replace(head);
        }
    }

    fn changed(&self) {
        self.moved.send_modify(|count| *count += 1);
    }

    /// Power loss: the newest messages are gone, acknowledged or not.
    pub fn forget(&mut self, world: &World) {
        if let Some(stream) = &mut self.stream {
            let lost = world.pick(stream.messages.len() + 1);
            let kept = stream.messages.len() - lost;
            if lost > 0 {
                world.saw("bus forgot acknowledged messages");
            }
            self.keep_only(kept);
        }
    }

    /// Forgets all but the first messages.
    pub fn keep_only(&mut self, kept: usize) {
        if let Some(stream) = &mut self.stream {
            stream.messages.truncate(kept);
            stream.known.retain(|_, (sequence, _)| usize::try_from(*sequence).is_ok_and(|sequence| sequence <= kept));
            stream.newest = stream.messages.last().map(|body| message_id(body));
        }
        self.changed();
    }

    pub fn wipe(&mut self) {
        self.stream = None;
        self.changed();
    }

    pub fn set_up(&mut self, up: bool) {
        self.up = up;
        self.changed();
    }

    /// Description and messages, for the check.
    pub fn content(&self) -> Option<(&str, &[Bytes])> {
        self.stream.as_ref().map(|stream| (stream.description.as_str(), stream.messages.as_slice()))
    }

    /// The position of the last message.
    pub fn end(&self) -> Option<i64> {
        let (description, messages) = self.content()?;
        let (_, base) = parse_description(description)?;
        Some(base + i64::try_from(messages.len()).unwrap_or(0))
    }

    /// Compare-and-set by sequence; the sequence taken.
    fn publish(&mut self, world: &World, message: &Outgoing) -> Result<i64, BusError> {
        let Some(stream) = &mut self.stream else { return Err(no_stream()) };
        // Before anything is compared.
        if let Some((sequence, at)) = stream.known.get(&message.id)
            && world.now_us() - at < KNOWN_FOR_US
        {
            world.saw("bus knew a message again");
            return Ok(*sequence);
        }
        let last = i64::try_from(stream.messages.len()).unwrap_or(i64::MAX);
        let compares = world.sabotage != Some(Saboteur::BusComparesNothing);
        if last != message.expected && compares {
            world.saw("bus refused an unexpected sequence");
            return Err(BusError(format!("wrong last sequence: {last}")));
        }
        if message.after.is_some_and(|after| Some(after) != stream.newest) && compares {
            return Err(BusError("wrong last message".to_owned()));
        }
        stream.messages.push(Bytes::from(message.body.clone()));
        stream.known.insert(message.id, (last + 1, world.now_us()));
        stream.newest = Some(message.id);
        self.changed();
        Ok(if world.sabotage == Some(Saboteur::BusComparesNothing) { message.expected + 1 } else { last + 1 })
    }
}

fn no_stream() -> BusError {
    BusError("there is no stream".to_owned())
}

/// A process's connection to the bus.
#[derive(Clone)]
pub struct SimBus(pub(crate) Link);

impl SimBus {
    async fn asked<T>(&self, what: &'static str, apply: impl FnOnce(&mut BusState) -> T) -> Result<T, BusError> {
        self.0.way().await;
        if !self.0.world.bus().up {
            // Nobody answers: the caller's own time-out ends it.
            self.0.world.saw("bus away");
            tokio::time::sleep(Duration::from_secs(6)).await;
        }
        if self.0.world.strikes(Knob::BusFails) {
            return Err(BusError("no answer".to_owned()));
        }
        let answer = apply(&mut self.0.world.bus());
        self.0.world.note(what, 0);
        self.0.way().await;
        Ok(answer)
    }
}

impl SimBus {
    /// What became of a message; nothing when it was lost.
    fn takes(&self, message: &Outgoing) -> Option<Result<i64, BusError>> {
        let world = &self.0.world;
        let up = world.bus().up;
        let taken = if !up || world.strikes(Knob::BusLosesMessage) { None } else { Some(world.bus().publish(world, message)) };
        world.note("publish", message.position);
        taken
    }
}

impl Bus for SimBus {
    type Ack = Pin<Box<dyn Future<Output = Result<i64, BusError>> + Send>>;

    async fn stream(&self, name: &str) -> Result<Option<FoundStream>, BusError> {
        let found = |bus: &mut BusState| {
            bus.stream.as_ref().filter(|stream| stream.name == name).map(|stream| FoundStream {
                description: stream.description.clone(),
                last_sequence: i64::try_from(stream.messages.len()).unwrap_or(i64::MAX),
                created_ns: stream.created_ns,
            })
        };
        self.asked("bus stream", found).await
    }

    async fn message(&self, name: &str, sequence: i64) -> Result<Option<Vec<u8>>, BusError> {
        let found = |bus: &mut BusState| {
            let stream = bus.stream.as_ref().filter(|stream| stream.name == name).ok_or_else(no_stream)?;
            let place = usize::try_from(sequence - 1).map_err(|_| BusError("no such place".to_owned()))?;
            Ok(stream.messages.get(place).map(|body| body.to_vec()))
        };
        self.asked("bus message", found).await?
    }

    async fn create(&self, wanted: NewStream) -> Result<(), BusError> {
        self.0.world.saw("stream made");
        let create = |bus: &mut BusState| {
            if let Some(stream) = &bus.stream {
                // As it is, for whoever wants the very same.
                return if stream.description == wanted.description { Ok(()) } else { Err(BusError("the name is taken".to_owned())) };
            }
            bus.streams_made += 1;
            let NewStream { name, description, .. } = wanted;
            let stream =
                Stream { name, description, created_ns: bus.streams_made, messages: Vec::new(), known: HashMap::new(), newest: None };
            bus.stream = Some(stream);
            bus.changed();
            Ok(())
        };
        self.asked("bus create", create).await?
    }

    async fn delete(&self, _name: &str) -> Result<(), BusError> {
        self.0.world.saw("stream deleted");
        let delete = |bus: &mut BusState| {
            let found = bus.stream.is_some();
            bus.wipe();
            if found { Ok(()) } else { Err(no_stream()) }
        };
        self.asked("bus delete", delete).await?
    }

    async fn publish(&self, message: Outgoing) -> Result<Self::Ack, BusError> {
        let link = self.0.clone();
        let taken = self.takes(&message);
        let silent = taken.is_none() || link.world.strikes(Knob::BusLosesAck);
        Ok(Box::pin(async move {
            link.way().await;
            if silent {
                tokio::time::sleep(Duration::from_secs(20)).await;
            }
            taken.unwrap_or_else(|| Err(BusError("no answer".to_owned())))
        }))
    }

    async fn send(&self, message: Outgoing) -> Result<(), BusError> {
        drop(self.takes(&message));
        Ok(())
    }

    async fn pokes(&self, _subject: String) -> Result<BoxStream<'static, i64>, BusError> {
        Ok(positions(self.0.world.bus().pokes.subscribe()))
    }
}

/// Where a consumer stands.
struct Consumer {
    link: Link,
    created_ns: i128,
    next: usize,
    moved: watch::Receiver<u64>,
}

impl Consumer {
    /// The next message that the server hands over; nothing when the stream is gone. A consumer above the stream waits in silence.
    async fn next(mut self) -> Option<(Result<(u64, Bytes), String>, Self)> {
        loop {
            let found = {
                let bus = self.link.world.bus();
                match &bus.stream {
                    Some(stream) if stream.created_ns == self.created_ns && bus.up => Ok(stream.messages.get(self.next).cloned()),
                    Some(_) if !bus.up => Ok(None),
                    Some(_) | None => Err(()),
                }
            };
            match found {
                Err(()) => return None,
                Ok(Some(body)) => {
                    let world = &self.link.world;
                    let sequence = u64::try_from(self.next + 1).unwrap_or(0);
                    if !world.strikes(Knob::BusRepeats) {
                        self.next += 1;
                    }
                    let lies = world.strikes(Knob::BusLies) && body.len() > 40;
                    let body = if lies { Bytes::copy_from_slice(&body[..body.len() - 20]) } else { body };
                    world.note("deliver", i64::try_from(sequence).unwrap_or(0));
                    if world.draw(8) == 0 {
                        self.link.way().await;
                    }
                    return Some((Ok((sequence, body)), self));
                }
                Ok(None) => {
                    if self.moved.changed().await.is_err() {
                        return None;
                    }
                }
            }
        }
    }
}

impl EventBus for SimBus {
    fn is_connected(&self) -> bool {
        self.0.world.bus().up
    }

    fn join<'a>(&'a self, _log_id: &'a str, tail: i64) -> BoxFuture<'a, Result<(i64, Messages), String>> {
        Box::pin(async move {
            let found = |bus: &mut BusState| {
                let stream = bus.stream.as_ref()?;
                let (_, base) = parse_description(&stream.description)?;
                // Whoever asks for what comes after the end gets what comes next, whichever that is.
                let next = usize::try_from((tail - base).max(0)).unwrap_or(0).min(stream.messages.len());
                Some((base, stream.created_ns, next, bus.moved.subscribe()))
            };
            let found = self.asked("bus join", found).await.map_err(|error| error.to_string())?;
            let (base, created_ns, next, moved) = found.ok_or_else(|| "no stream".to_owned())?;
            self.0.world.saw("feed joined the stream");
            let consumer = Consumer { link: self.0.clone(), created_ns, next, moved };
            Ok((base, stream::unfold(consumer, Consumer::next).boxed()))
        })
    }

    fn listen<'a>(&'a self, _log_id: &'a str) -> BoxFuture<'a, Option<BoxStream<'static, i64>>> {
        Box::pin(async move { Some(positions(self.0.world.bus().pokes.subscribe())) })
    }
}

/// What is said of how far the log goes.
fn positions(pokes: watch::Receiver<i64>) -> BoxStream<'static, i64> {
    let next = |mut pokes: watch::Receiver<i64>| async move {
        pokes.changed().await.ok()?;
        let head = *pokes.borrow_and_update();
        Some((head, pokes))
    };
    stream::unfold(pokes, next).boxed()
}
