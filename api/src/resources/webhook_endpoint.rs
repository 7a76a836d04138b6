//! Webhook endpoints as callers see them.

use chrono::{DateTime, Utc};
use domain::webhook_endpoint::{DisableReason, State, Status};
use serde::Serialize;
use utoipa::ToSchema;

use super::Resource;

/// An address that is told what happens.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WebhookEndpoint)]
pub struct WebhookEndpointResource {
    /// `whe_…`.
    #[schema(examples("whe_01HZY3T5V6W7X8Y9Z0A1B2C3D4"))]
    pub id: String,
    /// Where deliveries go.
    #[schema(examples("https://shop.example/hooks"))]
    pub url: String,
    /// Which events: exact types, `payment_intent.*`, or `*`.
    pub events: Vec<String>,
    /// For people.
    pub description: Option<String>,
    /// `enabled`, `disabled` or `deleted`.
    #[schema(value_type = String, examples("enabled"))]
    pub status: Status,
    /// Why it is disabled: `requested`, `failing` or `gone`.
    #[schema(value_type = Option<String>)]
    pub disabled_reason: Option<DisableReason>,
    /// Until when the secret before the newest one signs as well, UTC.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub previous_secret_until: Option<DateTime<Utc>>,
    /// The signing secret: only in the first answer to its creation or rotation, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Version, as in `ETag`.
    pub version: i64,
}

impl Resource<State> for WebhookEndpointResource {
    fn of(state: &State, version: i64) -> Option<Self> {
        let details = state.details.as_ref()?;
        Some(Self {
            id: state.webhook_endpoint_id?.to_string(),
            url: details.url.clone(),
            events: details.events.clone(),
            description: details.description.clone(),
            status: state.status,
            disabled_reason: state.disabled,
            previous_secret_until: state.previous_secret_until,
            secret: None,
            version,
        })
    }
}
