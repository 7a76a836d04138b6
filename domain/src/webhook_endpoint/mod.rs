//! Webhook endpoint: an address of a merchant that is told what happens. Stream `webhook_endpoint-{WebhookEndpointId}`.
//!
//! Invariants: a secret stands only as ciphertext beside an event, never in one, and the state remembers none of it; a deleted
//! endpoint never comes back, and its key is destroyed in the transaction that stores the fact. Whether an address may be
//! called at all is for whoever calls it to say: names resolve differently every time.

mod event;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

pub use event::{
    Created, Deleted, Details, DisableReason, Disabled, Enabled, Event, ResendRequested, Sealed, SecretRotated, TestRequested, Updated,
};

use crate::{
    decider::Aggregate, envelope::StreamType, ids::WebhookEndpointId, merchant::is_text, public_event::Filter, rejection::rejections,
};

/// Longest address, bytes.
pub const MAX_URL_BYTES: usize = 2_048;
/// Most filters of one endpoint.
pub const MAX_FILTERS: usize = 50;
/// Most endpoints of a merchant that are not deleted.
pub const MOST_ENDPOINTS: i64 = 16;
/// How long the secret before a rotation goes on signing, hours.
pub const ROTATION_OVERLAP_HOURS: i64 = 24;

/// What can be asked of a webhook endpoint. Secrets come sealed.
#[derive(Debug, Clone)]
pub enum Command {
    /// Create it.
    Create(Box<Created>),
    /// Replace address, filter and description.
    Update(Details),
    /// Sign with a new secret.
    RotateSecret {
        /// What is to be.
        rotated: SecretRotated,
        /// Now, UTC.
        now: DateTime<Utc>,
    },
    /// Stop deliveries.
    Disable(DisableReason),
    /// Go on with deliveries.
    Enable,
    /// Deliver a test.
    Test,
    /// Deliver again.
    Resend(ResendRequested),
    /// Remove it for good.
    Delete,
}

rejections! {
    /// Rules of a webhook endpoint.
    {
        WebhookEndpointNotFound => Missing, "the webhook endpoint does not exist";
        WebhookEndpointIdReused => State, "a webhook endpoint with this id exists already";
        WebhookEndpointDisabled => State, "the webhook endpoint is disabled; enable it first";
        UrlInvalid { reason: String } => Invalid, "the url cannot be delivered to: {reason}";
        EventsInvalid { filter: String } => Invalid, "'{filter}' is no event type, no group such as payment_intent.* and not *";
        EventsRequired => Invalid, "1 to 50 event filters are required";
        DescriptionInvalid => Invalid, "description must have 1 to 200 characters";
        RotationUnderWay { until: String } => State, "the secret before the last rotation signs until {until}; rotate after that, or with keep_previous: false, which drops it now";
        TooManyWebhookEndpoints => State, "a merchant has at most 16 webhook endpoints; delete one first";
        RangeInvalid => Invalid, "after must not be negative, and until must lie behind it";
    }
}

/// Life of a webhook endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Never created.
    #[default]
    Absent,
    /// Deliveries are made.
    Enabled,
    /// Deliveries rest.
    Disabled,
    /// Gone for good.
    Deleted,
}

/// What is remembered: no secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Life.
    pub status: Status,
    /// The endpoint, once created.
    pub webhook_endpoint_id: Option<WebhookEndpointId>,
    /// As chosen.
    pub details: Option<Details>,
    /// Why it rests.
    pub disabled: Option<DisableReason>,
    /// Until when the secret before the newest one signs as well, UTC.
    pub previous_secret_until: Option<DateTime<Utc>>,
}

impl State {
    fn known(&self) -> Result<&Details, Rejection> {
        match (self.status, &self.details) {
            (Status::Enabled | Status::Disabled, Some(details)) => Ok(details),
            (Status::Absent | Status::Enabled | Status::Disabled | Status::Deleted, _) => Err(Rejection::WebhookEndpointNotFound),
        }
    }

    fn enabled(&self) -> Result<(), Rejection> {
        self.known()?;
        if self.status == Status::Enabled { Ok(()) } else { Err(Rejection::WebhookEndpointDisabled) }
    }
}

/// The decider.
pub struct WebhookEndpoint;

impl Aggregate for WebhookEndpoint {
    const STREAM_TYPE: StreamType = StreamType::WebhookEndpoint;
    const STATE_SCHEMA: i16 = 1;
    type Command = Command;
    type Event = Event;
    type State = State;
    type Rejection = Rejection;

    fn decide(state: &State, command: Command) -> Result<Vec<Event>, Rejection> {
        match command {
            Command::Create(_) if state.status != Status::Absent => Err(Rejection::WebhookEndpointIdReused),
            Command::Create(created) => {
                check(&created.details)?;
                Ok(vec![(*created).into()])
            }
            Command::Update(details) => {
                let before = state.known()?;
                check(&details)?;
                Ok(if details == *before { vec![] } else { vec![Updated { details }.into()] })
            }
            // Ciphertexts of equal secrets differ, so a repeat cannot be seen here; its idempotency key tells.
            Command::RotateSecret { rotated, now } => {
                state.known()?;
                // Two secrets sign at the most: a third would drop one that receivers were promised.
                match state.previous_secret_until.filter(|until| *until > now && rotated.previous_until > now) {
                    Some(until) => Err(Rejection::RotationUnderWay { until: until.to_rfc3339_opts(SecondsFormat::Millis, true) }),
                    None => Ok(vec![rotated.into()]),
                }
            }
            Command::Disable(reason) => {
                state.known()?;
                Ok(if state.status == Status::Disabled { vec![] } else { vec![Disabled { reason }.into()] })
            }
            Command::Enable => {
                state.known()?;
                Ok(if state.status == Status::Enabled { vec![] } else { vec![Enabled {}.into()] })
            }
            Command::Test => state.enabled().map(|()| vec![TestRequested {}.into()]),
            Command::Resend(range) => {
                state.enabled()?;
                let ordered = range.after >= 0 && range.until.is_none_or(|until| until > range.after);
                if ordered { Ok(vec![range.into()]) } else { Err(Rejection::RangeInvalid) }
            }
            Command::Delete if state.status == Status::Deleted => Ok(vec![]),
            Command::Delete => state.known().map(|_| vec![Deleted {}.into()]),
        }
    }

    fn evolve(mut state: State, event: &Event) -> State {
        match event {
            Event::Created(created) => {
                state.status = Status::Enabled;
                state.webhook_endpoint_id = Some(created.webhook_endpoint_id);
                state.details = Some(created.details.clone());
            }
            Event::Updated(updated) => state.details = Some(updated.details.clone()),
            Event::SecretRotated(rotated) => state.previous_secret_until = Some(rotated.previous_until),
            Event::Disabled(disabled) => {
                state.status = Status::Disabled;
                state.disabled = Some(disabled.reason);
            }
            Event::Enabled(_) => {
                state.status = Status::Enabled;
                state.disabled = None;
            }
            Event::TestRequested(_) | Event::ResendRequested(_) => {}
            Event::Deleted(_) => state.status = Status::Deleted,
        }
        state
    }
}

fn check(details: &Details) -> Result<(), Rejection> {
    if details.url.is_empty() || details.url.len() > MAX_URL_BYTES || details.url.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(Rejection::UrlInvalid { reason: "it must have 1 to 2,048 bytes and no spaces".to_owned() });
    }
    if details.events.is_empty() || details.events.len() > MAX_FILTERS {
        return Err(Rejection::EventsRequired);
    }
    if let Some(bad) = details.events.iter().find(|text| Filter::parse(text).is_none()) {
        return Err(Rejection::EventsInvalid { filter: bad.chars().take(60).collect() });
    }
    if details.description.as_deref().is_some_and(|text| !is_text(text, 200)) {
        return Err(Rejection::DescriptionInvalid);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
