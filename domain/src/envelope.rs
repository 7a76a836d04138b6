//! The envelope around every stored fact: which stream, which place, who, when, because of what.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::ids::{CommandId, EventId, MerchantId, StoreId, Ulid};

/// The kinds of stream. Stored as text; safe in subjects by construction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamType {
    /// A business or brand.
    Merchant,
    /// A physical place.
    Store,
    /// A purchase before payment.
    Order,
    /// A request for payment.
    Bill,
    /// One tender and its provider conversation.
    PaymentIntent,
    /// Money given back.
    Refund,
    /// An amount on a store's books.
    LedgerAdjustment,
    /// A person known to a merchant.
    Customer,
    /// A merchant's account at a payment provider.
    ProviderAccount,
    /// An address of a merchant that is told what happens.
    WebhookEndpoint,
}

impl StreamType {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::Merchant,
        Self::Store,
        Self::Order,
        Self::Bill,
        Self::PaymentIntent,
        Self::Refund,
        Self::LedgerAdjustment,
        Self::Customer,
        Self::ProviderAccount,
        Self::WebhookEndpoint,
    ];

    /// The stored word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Merchant => "merchant",
            Self::Store => "store",
            Self::Order => "order",
            Self::Bill => "bill",
            Self::PaymentIntent => "payment_intent",
            Self::Refund => "refund",
            Self::LedgerAdjustment => "ledger_adjustment",
            Self::Customer => "customer",
            Self::ProviderAccount => "provider_account",
            Self::WebhookEndpoint => "webhook_endpoint",
        }
    }

    /// Reads the stored word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// Names one stream of one tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey {
    /// The merchant that owns it.
    pub tenant: MerchantId,
    /// The kind.
    pub stream_type: StreamType,
    /// The aggregate's id without prefix.
    pub stream_id: Ulid,
}

impl StreamKey {
    /// The slice (0–1023) by which a log may later be partitioned: FNV-1a over tenant and stream id.
    pub fn slice(&self) -> i16 {
        let mut hash = 0x811c_9dc5_u32;
        for byte in self.tenant.0.to_bytes().into_iter().chain(self.stream_id.to_bytes()) {
            hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
        i16::try_from(hash % 1024).unwrap_or(0)
    }
}

/// A fact about to be stored: encoded, not yet placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// `order.opened`.
    pub event_type: &'static str,
    /// Version of the payload's shape, from 1.
    pub schema_version: i16,
    /// The exact UTF-8 JSON that is hashed and stored.
    pub payload: Vec<u8>,
    /// Personal data as ciphertext under the person's key; never plain.
    pub pii: Option<Vec<u8>>,
}

/// Where an event belongs beside its stream; stored with it and hashed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventMeta {
    /// The shop concerned, where there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub store: Option<StoreId>,
    /// The device that asked, as named by its token.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub device: Option<String>,
    /// The call of the API that asked, as method and path template: `POST /v1/payment-intents/{id}/confirm`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub operation: Option<String>,
}

/// Who asked for a command, when, and as part of what.
#[derive(Debug, Clone)]
pub struct Origin {
    /// UTC; when the fact came about by the clock of the process that decided.
    pub occurred_at: DateTime<Utc>,
    /// Ties together all that follows from one request.
    pub correlation_id: Ulid,
    /// The command that caused it.
    pub causation_id: CommandId,
    /// Who: `user:…`, `device:…`, `process:checkout`, `import:…`.
    pub actor: String,
    /// The device, if any.
    pub device: Option<String>,
    /// The call of the API, as method and path template; nothing when it was none.
    pub operation: Option<String>,
}

/// A stored fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEvent {
    /// Place in the log, from 1, without gaps.
    pub pos: i64,
    /// The stream.
    pub stream: StreamKey,
    /// Place in the stream, from 1.
    pub version: i64,
    /// `order.opened`.
    pub event_type: String,
    /// Version of the payload's shape.
    pub schema_version: i16,
    /// 0–1023.
    pub slice: i16,
    /// UTC, by the deciding process.
    pub occurred_at: DateTime<Utc>,
    /// UTC, by the database; never decreases along `pos`.
    pub recorded_at: DateTime<Utc>,
    /// Ties together all that follows from one request.
    pub correlation_id: Ulid,
    /// The command that caused it.
    pub causation_id: Ulid,
    /// Who.
    pub actor: String,
    /// Encoded [`EventMeta`].
    pub meta: Vec<u8>,
    /// The exact JSON that was hashed.
    pub payload: Vec<u8>,
    /// Personal data as ciphertext.
    pub pii: Option<Vec<u8>>,
    /// See [`crate::integrity::event_hash`].
    pub hash: [u8; 32],
}

impl RecordedEvent {
    /// Its name among merchants; the same wherever the log is read or restored.
    pub fn event_id(&self) -> EventId {
        EventId::of(self.pos, &self.hash)
    }

    /// The decoded meta data; empty when unreadable, which `integrity` would have noticed first.
    pub fn event_meta(&self) -> EventMeta {
        serde_json::from_slice(&self.meta).unwrap_or_default()
    }
}
