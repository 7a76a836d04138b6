//! The bus as a feed needs it: a port, so that the same logic runs on NATS JetStream and in a simulation.

use async_nats::{
    connection::State,
    jetstream::{
        self,
        consumer::{DeliverPolicy, pull},
    },
};
use bytes::Bytes;
use domain::provider::BoxFuture;
use futures_util::stream::{BoxStream, StreamExt as _};

/// Messages as they come, each with its sequence; an error or the end means that the stream has to be joined anew.
pub type Messages = BoxStream<'static, Result<(u64, Bytes), String>>;

/// Where news of the log come from. May lie, lose or be silent: whatever it says is checked.
pub trait EventBus: Send + Sync {
    /// Whether it can be reached, as far as is known.
    fn is_connected(&self) -> bool;
    /// The description of this log's stream and its messages from the one on that carries the position after `tail`.
    fn join<'a>(&'a self, log_id: &'a str, tail: i64) -> BoxFuture<'a, Result<(i64, Messages), String>>;
    /// Positions up to which others say that they wrote; an unreadable one counts as the greatest.
    fn listen<'a>(&'a self, log_id: &'a str) -> BoxFuture<'a, Option<BoxStream<'static, i64>>>;
}

impl EventBus for async_nats::Client {
    fn is_connected(&self) -> bool {
        self.connection_state() == State::Connected
    }

    fn join<'a>(&'a self, log_id: &'a str, tail: i64) -> BoxFuture<'a, Result<(i64, Messages), String>> {
        Box::pin(join(self, log_id, tail))
    }

    fn listen<'a>(&'a self, log_id: &'a str) -> BoxFuture<'a, Option<BoxStream<'static, i64>>> {
        Box::pin(async move {
            let pokes = self.subscribe(format!("poke.{log_id}")).await.ok()?;
            // An unreadable poke is still a poke.
            let position = |poke: async_nats::Message| std::str::from_utf8(&poke.payload).ok().and_then(|text| text.parse().ok());
            Some(pokes.map(move |poke| position(poke).unwrap_or(i64::MAX)).boxed())
        })
    }
}

async fn join(nats: &async_nats::Client, log_id: &str, tail: i64) -> Result<(i64, Messages), String> {
    let stream = jetstream::new(nats.clone()).get_stream(format!("EVENTS_{log_id}")).await.map_err(|error| error.to_string())?;
    let description = stream.cached_info().config.description.clone().unwrap_or_default();
    let base = base_of(&description).ok_or_else(|| format!("the description '{description}' has no base"))?;
    let start_sequence = u64::try_from((tail + 1 - base).max(1)).map_err(|error| error.to_string())?;
    let config = pull::OrderedConfig { deliver_policy: DeliverPolicy::ByStartSequence { start_sequence }, ..Default::default() };
    let consumer = stream.create_consumer(config).await.map_err(|error| error.to_string())?;
    let messages = consumer.messages().await.map_err(|error| error.to_string())?;
    let mut made = None;
    Ok((base, messages.map(move |message| placed(message, &mut made)).boxed()))
}

/// A message with its sequence. The client makes a lost consumer anew, by the stream's name, and another stream may have that name by
/// then. Whoever joined the one is not told of the other: the end comes instead.
fn placed(message: Result<jetstream::Message, pull::OrderedError>, made: &mut Option<String>) -> Result<(u64, Bytes), String> {
    let message = message.map_err(|error| error.to_string())?;
    let info = message.info().map_err(|error| error.to_string())?;
    if made.as_ref().is_some_and(|first| first != info.consumer) {
        return Err("the consumer was made anew".to_owned());
    }
    if made.is_none() {
        *made = Some(info.consumer.to_owned());
    }
    let sequence = info.stream_sequence;
    Ok((sequence, message.message.payload))
}

/// The base in a stream's description, `epoch=<e> base=<b>`.
pub fn base_of(description: &str) -> Option<i64> {
    description.split_whitespace().find_map(|word| word.strip_prefix("base="))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_is_read_from_the_description() {
        assert_eq!(base_of("epoch=2 base=41"), Some(41));
        assert_eq!(base_of("epoch=2"), None);
    }
}
