//! Events: what is stored for ever. Each aggregate declares its own with [`events!`]; [`DomainEvent`] is any of them.

use std::{
    fmt::Debug,
    ops::Deref,
    sync::{Arc, OnceLock},
};

use crate::envelope::{NewEvent, RecordedEvent, StreamType};
use crate::upcast;

/// An event that cannot be read. Never skipped: the reader stops and alarms.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The type is not one that this build knows.
    #[error("event type '{0}' is not known to this build")]
    UnknownType(String),
    /// The version is newer than this build, or has no upcaster.
    #[error("event type '{event_type}' version {version} is not known to this build (newest known: {newest})")]
    UnknownVersion {
        /// The stored type.
        event_type: String,
        /// The stored version.
        version: i16,
        /// The newest version that this build reads.
        newest: i16,
    },
    /// The payload does not have the declared shape.
    #[error("event '{event_type}' does not have its shape: {detail}")]
    BadPayload {
        /// The stored type.
        event_type: String,
        /// The parser's words.
        detail: String,
    },
}

/// One line of the event catalogue.
#[derive(Debug, Clone, Copy)]
pub struct EventSpec {
    /// `order.opened`.
    pub event_type: &'static str,
    /// The version that this build writes.
    pub version: i16,
    /// JSON Schema of that version's payload.
    pub schema: fn() -> schemars::Schema,
}

/// The events of one aggregate.
pub trait AggregateEvent: Sized + Clone + Debug + PartialEq + Send + Sync {
    /// All types with the versions that this build writes.
    const CATALOG: &'static [EventSpec];
    /// The stored type.
    fn event_type(&self) -> &'static str;
    /// Encodes for storage.
    fn encode(&self) -> NewEvent;
    /// Decodes a payload of the newest version.
    ///
    /// # Errors
    /// Any [`DecodeError`].
    fn decode_newest(event_type: &str, payload: &[u8]) -> Result<Self, DecodeError>;

    /// Decodes a stored payload of any version, lifting old ones first.
    ///
    /// # Errors
    /// Any [`DecodeError`].
    fn decode(event_type: &str, version: i16, payload: &[u8]) -> Result<Self, DecodeError> {
        let spec = Self::CATALOG.iter().find(|spec| spec.event_type == event_type);
        let newest = spec.ok_or_else(|| DecodeError::UnknownType(event_type.to_owned()))?.version;
        if version == newest {
            return Self::decode_newest(event_type, payload);
        }
        let lifted = upcast::lift(upcast::STEPS, event_type, version, newest, payload)?;
        Self::decode_newest(event_type, &lifted)
    }
}

/// Declares an aggregate's event enum: variant, stored type, version written and, where an event holds personal data, the field
/// with its ciphertext: it is stored in a column of its own and must be skipped by serde.
macro_rules! events {
    (@pii $body:ident) => { None };
    (@pii $body:ident $sealed:ident) => { Some($body.$sealed.0.clone()) };
    ($(#[$meta:meta])* { $( $(#[$doc:meta])* $variant:ident = $event_type:literal v $version:literal $(sealed $sealed:ident)?; )* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Event { $( $(#[$doc])* $variant($variant) ),* }

        impl $crate::event::AggregateEvent for Event {
            const CATALOG: &'static [$crate::event::EventSpec] = &[ $(
                $crate::event::EventSpec { event_type: $event_type, version: $version, schema: || schemars::schema_for!($variant) }
            ),* ];
            fn event_type(&self) -> &'static str {
                match self { $( Self::$variant(_) => $event_type ),* }
            }
            fn encode(&self) -> $crate::envelope::NewEvent {
                let (schema_version, payload, pii) = match self {
                    $( Self::$variant(body) => ($version, serde_json::to_vec(body), $crate::event::events!(@pii body $($sealed)?)) ),*
                };
                // Bodies are plain structs of numbers, texts and ids: serialising them cannot fail.
                let payload = payload.unwrap_or_default();
                $crate::envelope::NewEvent { event_type: self.event_type(), schema_version, payload, pii }
            }
            fn decode_newest(event_type: &str, payload: &[u8]) -> Result<Self, $crate::event::DecodeError> {
                match event_type {
                    $( $event_type => serde_json::from_slice(payload).map(Self::$variant), )*
                    _ => return Err($crate::event::DecodeError::UnknownType(event_type.to_owned())),
                }
                .map_err(|error| $crate::event::DecodeError::BadPayload { event_type: event_type.to_owned(), detail: error.to_string() })
            }
        }
        $( impl From<$variant> for Event { fn from(body: $variant) -> Self { Self::$variant(body) } } )*
    };
}
pub(crate) use events;

/// Any event of the platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DomainEvent {
    /// Of a merchant.
    Merchant(crate::merchant::Event),
    /// Of a store.
    Store(crate::store::Event),
    /// Of an order.
    Order(crate::order::Event),
    /// Of a bill.
    Bill(crate::bill::Event),
    /// Of a payment intent.
    PaymentIntent(crate::payment_intent::Event),
    /// Of a refund.
    Refund(crate::refund::Event),
    /// Of a ledger adjustment.
    LedgerAdjustment(crate::ledger_adjustment::Event),
    /// Of a customer.
    Customer(crate::customer::Event),
    /// Of a provider account.
    ProviderAccount(crate::provider_account::Event),
    /// Of a webhook endpoint.
    WebhookEndpoint(crate::webhook_endpoint::Event),
}

/// A stored event that several readers share: whoever asks first for what it says decodes it for all of them.
#[derive(Debug, Clone)]
pub struct ReadEvent {
    recorded: RecordedEvent,
    decoded: OnceLock<Result<DomainEvent, DecodeError>>,
}

impl ReadEvent {
    /// To be shared.
    pub fn shared(recorded: RecordedEvent) -> Arc<Self> {
        Arc::new(Self { recorded, decoded: OnceLock::new() })
    }

    /// What it says.
    ///
    /// # Errors
    /// Any [`DecodeError`].
    pub fn decoded(&self) -> Result<&DomainEvent, &DecodeError> {
        self.decoded.get_or_init(|| DomainEvent::decode(&self.recorded)).as_ref()
    }
}

impl Deref for ReadEvent {
    type Target = RecordedEvent;

    fn deref(&self) -> &RecordedEvent {
        &self.recorded
    }
}

/// What was appended to the log at once, as whoever appended it knows it.
#[derive(Debug)]
pub struct Commit {
    /// The head's hash before it: of every commit up to there, see [`crate::integrity::commit_hash`].
    pub before: [u8; 32],
    /// The head's hash with it.
    pub hash: [u8; 32],
    /// Its events in order; never empty.
    pub events: Vec<Arc<ReadEvent>>,
}

impl Commit {
    /// Position and hash of the head before it.
    pub fn place_before(&self) -> Option<(i64, [u8; 32])> {
        self.events.first().map(|first| (first.pos - 1, self.before))
    }

    /// Position and hash of the head with it.
    pub fn place(&self) -> Option<(i64, [u8; 32])> {
        self.events.last().map(|last| (last.pos, self.hash))
    }
}

impl DomainEvent {
    /// Decodes a stored event.
    ///
    /// # Errors
    /// Any [`DecodeError`].
    pub fn decode(event: &RecordedEvent) -> Result<Self, DecodeError> {
        let (kind, version, payload) = (event.event_type.as_str(), event.schema_version, event.payload.as_slice());
        Ok(match event.stream.stream_type {
            StreamType::Merchant => Self::Merchant(AggregateEvent::decode(kind, version, payload)?),
            StreamType::Store => Self::Store(AggregateEvent::decode(kind, version, payload)?),
            StreamType::Order => Self::Order(AggregateEvent::decode(kind, version, payload)?),
            StreamType::Bill => Self::Bill(AggregateEvent::decode(kind, version, payload)?),
            StreamType::PaymentIntent => Self::PaymentIntent(AggregateEvent::decode(kind, version, payload)?),
            StreamType::Refund => Self::Refund(AggregateEvent::decode(kind, version, payload)?),
            StreamType::LedgerAdjustment => Self::LedgerAdjustment(AggregateEvent::decode(kind, version, payload)?),
            StreamType::Customer => Self::Customer(AggregateEvent::decode(kind, version, payload)?),
            StreamType::ProviderAccount => Self::ProviderAccount(AggregateEvent::decode(kind, version, payload)?),
            StreamType::WebhookEndpoint => Self::WebhookEndpoint(AggregateEvent::decode(kind, version, payload)?),
        })
    }

    /// Encodes for storage.
    pub fn encode(&self) -> NewEvent {
        match self {
            Self::Merchant(event) => event.encode(),
            Self::Store(event) => event.encode(),
            Self::Order(event) => event.encode(),
            Self::Bill(event) => event.encode(),
            Self::PaymentIntent(event) => event.encode(),
            Self::Refund(event) => event.encode(),
            Self::LedgerAdjustment(event) => event.encode(),
            Self::Customer(event) => event.encode(),
            Self::ProviderAccount(event) => event.encode(),
            Self::WebhookEndpoint(event) => event.encode(),
        }
    }

    /// The whole event catalogue, in a fixed order.
    pub fn catalog() -> Vec<EventSpec> {
        [
            crate::merchant::Event::CATALOG,
            crate::store::Event::CATALOG,
            crate::order::Event::CATALOG,
            crate::bill::Event::CATALOG,
            crate::payment_intent::Event::CATALOG,
            crate::refund::Event::CATALOG,
            crate::ledger_adjustment::Event::CATALOG,
            crate::customer::Event::CATALOG,
            crate::provider_account::Event::CATALOG,
            crate::webhook_endpoint::Event::CATALOG,
        ]
        .concat()
    }
}
