//! A provider's call-back, and what is read out of it.

use chrono::{DateTime, Utc};

/// A provider's call-back, exactly as it came.
#[derive(Debug, Clone)]
pub struct RawWebhook<'a> {
    /// Its sender was proven when it came, and is not asked to prove itself again: the path is not kept, and secrets change.
    pub proven: bool,
    /// The last path segment after the provider's name: some providers prove themselves by a secret path only.
    pub path_secret: Option<&'a str>,
    /// Header names in lower case, values as text.
    pub headers: &'a [(String, String)],
    /// The raw body.
    pub body: &'a [u8],
    /// When it came (UTC): signatures are good for 300 s on either side.
    pub received_at: DateTime<Utc>,
}

/// What a call-back speaks of. A hint: the books are asked before it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookHint {
    /// The key against double processing: the provider's event or transaction id.
    pub delivery_id: String,
    /// Which attempt it is about.
    pub subject: HintSubject,
    /// The money transaction that it speaks of, if any; looked for until the books show it.
    pub transaction_id: Option<String>,
    /// The body with which the provider wants to be answered (HTTP 200, JSON).
    pub acknowledgement: String,
}

/// How a call-back names what it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HintSubject {
    /// By our reference.
    Reference(String),
    /// By the provider's own name for the attempt.
    ProviderId(String),
    /// Nothing of ours (a customer was created, a test event): stored, acknowledged, done.
    Nothing,
}

/// Why a call-back was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebhookRefusal {
    /// The secret, signature or sender does not prove the provider.
    #[error("the sender could not be verified")]
    NotAuthentic,
    /// Proven once, but too old or from the future: a replay.
    #[error("the timestamp is more than 300 seconds away")]
    Stale,
    /// The sender is proven, but the body is not what the provider sends, as far as it is known here.
    #[error("the body is not a {0} notification: {1}")]
    Malformed(&'static str, String),
}
