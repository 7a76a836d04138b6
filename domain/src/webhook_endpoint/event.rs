//! Facts of a webhook endpoint: what is stored for ever.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::customer::Sealed;
use crate::{event::events, ids::WebhookEndpointId};

/// What a merchant chooses about an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Details {
    /// Where deliveries go.
    pub url: String,
    /// Which events: exact types, `payment_intent.*`, or `*`.
    pub events: Vec<String>,
    /// For people.
    pub description: Option<String>,
}

/// Created, enabled, with its first secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Created {
    /// The endpoint.
    pub webhook_endpoint_id: WebhookEndpointId,
    /// As chosen.
    pub details: Details,
    /// The sealed secret; stored beside the payload, never in it.
    #[serde(skip)]
    pub secret: Sealed,
}

/// Address, filter or description changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Updated {
    /// As chosen now.
    pub details: Details,
}

/// A new secret signs; the one before it signs beside it for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretRotated {
    /// Until when the secret before this one signs as well, UTC.
    pub previous_until: DateTime<Utc>,
    /// The sealed secret; stored beside the payload, never in it.
    #[serde(skip)]
    pub secret: Sealed,
}

/// Why nothing is delivered any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DisableReason {
    /// The merchant asked for it.
    Requested,
    /// It failed for too long.
    Failing,
    /// It answered 410 Gone.
    Gone,
}

/// Nothing is delivered any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Disabled {
    /// Why.
    pub reason: DisableReason,
}

/// Deliveries go on where they stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Enabled {}

/// A test delivery was asked for; this very event is delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TestRequested {}

/// Deliveries are to be made again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResendRequested {
    /// Events after this position.
    pub after: i64,
    /// Up to and including this position; nothing: up to this event.
    pub until: Option<i64>,
}

/// Gone for good; its secrets are destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Deleted {}

events! {
    /// Facts of a webhook endpoint.
    {
        /// Created, enabled, with its first secret.
        Created = "webhook_endpoint.created" v 1 sealed secret;
        /// Address, filter or description changed.
        Updated = "webhook_endpoint.updated" v 1;
        /// A new secret signs.
        SecretRotated = "webhook_endpoint.secret_rotated" v 1 sealed secret;
        /// Nothing is delivered any more.
        Disabled = "webhook_endpoint.disabled" v 1;
        /// Deliveries go on.
        Enabled = "webhook_endpoint.enabled" v 1;
        /// A test delivery was asked for.
        TestRequested = "webhook_endpoint.test_requested" v 1;
        /// Deliveries are to be made again.
        ResendRequested = "webhook_endpoint.resend_requested" v 1;
        /// Gone for good.
        Deleted = "webhook_endpoint.deleted" v 1;
    }
}
