//! The bus as the relay needs it: a port, so that the same logic runs on NATS JetStream and in a simulation.

use std::{future::Future, time::Duration};

use async_nats::{
    HeaderMap,
    jetstream::{
        self,
        context::{GetStreamErrorKind, PublishAckFuture, PublishError},
        publish::PublishAck,
        stream,
    },
};
use futures_util::{FutureExt as _, StreamExt as _, future::Map, stream::BoxStream};
use sha2::{Digest as _, Sha256};

/// How long one request to NATS may take.
pub(crate) const NATS_TIMEOUT: Duration = Duration::from_secs(5);
/// Messages that the cache keeps; older ones are read from the log.
const MAX_MESSAGES: i64 = 1_000_000;

/// Why the bus did not do what was asked; it may have done it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BusError(pub String);

fn failed(error: impl std::fmt::Display) -> BusError {
    BusError(error.to_string())
}

/// A stream as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundStream {
    /// What its maker wrote about it.
    pub description: String,
    /// Its last sequence.
    pub last_sequence: i64,
    /// When it was made, nanoseconds since 1970: another stream of the same name has another one.
    pub created_ns: i128,
}

/// A stream to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewStream {
    /// Its name.
    pub name: String,
    /// What is to be known of it.
    pub description: String,
    /// Which subjects it takes.
    pub subjects: String,
}

/// Names a message by what it says ([`message_id`]). Within two minutes the server acknowledges a known id without a look at anything
/// else: so where it lies is not enough, for of a log that went back another event has the position. Half of a SHA-256: the server keeps
/// and compares two of them for every message.
pub type MessageId = [u8; 16];

/// The id of a message that says this.
pub fn message_id(body: &[u8]) -> MessageId {
    let digest: [u8; 32] = Sha256::digest(body).into();
    let mut id = MessageId::default();
    id.copy_from_slice(&digest[..16]);
    id
}

/// A message to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Its id.
    pub id: MessageId,
    /// Where to.
    pub subject: String,
    /// The event's position in the log.
    pub position: i64,
    /// The sequence that the stream must have before it.
    pub expected: i64,
    /// The id of the message that must be the stream's newest. The sequence alone lets the rest of a page in behind messages that
    /// kept its beginning out. A server that was started anew may have forgotten the newest id.
    pub after: Option<MessageId>,
    /// What it says.
    pub body: Vec<u8>,
}

/// One stream with compare-and-set by sequence. No call is certain to end: the caller sets the time.
pub trait Bus: Send + Sync + 'static {
    /// The sequence at which a message was taken.
    type Ack: Future<Output = Result<i64, BusError>> + Send;

    /// The stream of this name, if there is one.
    fn stream(&self, name: &str) -> impl Future<Output = Result<Option<FoundStream>, BusError>> + Send;
    /// The body of a message; nothing when it is gone.
    fn message(&self, name: &str, sequence: i64) -> impl Future<Output = Result<Option<Vec<u8>>, BusError>> + Send;
    /// Makes a stream.
    fn create(&self, wanted: NewStream) -> impl Future<Output = Result<(), BusError>> + Send;
    /// Deletes a stream.
    fn delete(&self, name: &str) -> impl Future<Output = Result<(), BusError>> + Send;
    /// Sends a message; whether it was taken the acknowledgement says.
    fn publish(&self, message: Outgoing) -> impl Future<Output = Result<Self::Ack, BusError>> + Send;
    /// Sends a message before one that names it, and is not taken without it: nobody acknowledges this one.
    fn send(&self, message: Outgoing) -> impl Future<Output = Result<(), BusError>> + Send;
    /// What others say on this subject: how far the log goes.
    fn pokes(&self, subject: String) -> impl Future<Output = Result<BoxStream<'static, i64>, BusError>> + Send;
}

/// JetStream.
pub struct Nats {
    client: async_nats::Client,
    context: jetstream::Context,
}

impl Nats {
    /// Over a client.
    pub fn new(client: async_nats::Client) -> Self {
        let mut context = jetstream::new(client.clone());
        context.set_timeout(NATS_TIMEOUT);
        Self { client, context }
    }
}

type NatsAck = Map<<PublishAckFuture as IntoFuture>::IntoFuture, fn(Result<PublishAck, PublishError>) -> Result<i64, BusError>>;

fn sequence(answer: Result<PublishAck, PublishError>) -> Result<i64, BusError> {
    answer.map(|ack| i64::try_from(ack.sequence).unwrap_or(-1)).map_err(failed)
}

fn headers(message: &Outgoing) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", hex::encode(message.id));
    headers.insert("Nats-Expected-Last-Sequence", message.expected.to_string());
    if let Some(after) = message.after {
        headers.insert("Nats-Expected-Last-Msg-Id", hex::encode(after));
    }
    headers.insert("Smartpos-Position", message.position.to_string());
    headers
}

impl Bus for Nats {
    type Ack = NatsAck;

    async fn stream(&self, name: &str) -> Result<Option<FoundStream>, BusError> {
        match self.context.get_stream(name).await {
            Ok(stream) => {
                let info = stream.cached_info();
                Ok(Some(FoundStream {
                    description: info.config.description.clone().unwrap_or_default(),
                    last_sequence: i64::try_from(info.state.last_sequence).unwrap_or(i64::MAX),
                    created_ns: info.created.unix_timestamp_nanos(),
                }))
            }
            Err(error) if matches!(error.kind(), GetStreamErrorKind::JetStream(ref e) if e.code() == 404) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    async fn message(&self, name: &str, sequence: i64) -> Result<Option<Vec<u8>>, BusError> {
        let stream = self.context.get_stream_no_info(name).await.map_err(failed)?;
        match stream.get_raw_message(u64::try_from(sequence).unwrap_or(0)).await {
            Ok(message) => Ok(Some(message.payload.to_vec())),
            Err(error) if error.kind() == stream::RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    async fn create(&self, wanted: NewStream) -> Result<(), BusError> {
        let wanted = stream::Config {
            name: wanted.name,
            description: Some(wanted.description),
            subjects: vec![wanted.subjects],
            max_messages: MAX_MESSAGES,
            storage: stream::StorageType::File,
            discard: stream::DiscardPolicy::Old,
            num_replicas: 1,
            ..stream::Config::default()
        };
        let made = self.context.create_stream(wanted.clone()).await.map_err(failed)?;
        let echo = &made.cached_info().config;
        // Old servers drop fields that they do not know without a word.
        if echo.description != wanted.description || echo.subjects != wanted.subjects || echo.max_messages != wanted.max_messages {
            return Err(failed("the server changed the stream's configuration"));
        }
        Ok(())
    }

    async fn delete(&self, name: &str) -> Result<(), BusError> {
        self.context.delete_stream(name).await.map(drop).map_err(failed)
    }

    async fn publish(&self, message: Outgoing) -> Result<Self::Ack, BusError> {
        let headers = headers(&message);
        let sent = self.context.publish_with_headers(message.subject, headers, message.body.into()).await.map_err(failed)?;
        Ok(sent.into_future().map(sequence as fn(_) -> _))
    }

    async fn send(&self, message: Outgoing) -> Result<(), BusError> {
        let headers = headers(&message);
        self.client.publish_with_headers(message.subject, headers, message.body.into()).await.map_err(failed)
    }

    async fn pokes(&self, subject: String) -> Result<BoxStream<'static, i64>, BusError> {
        // What cannot be read is a reason to look.
        let position = |text: &[u8]| std::str::from_utf8(text).ok()?.parse().ok();
        let pokes = self.client.subscribe(subject).await.map_err(failed)?;
        Ok(pokes.map(move |poke| position(&poke.payload).unwrap_or(i64::MAX)).boxed())
    }
}
