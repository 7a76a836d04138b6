//! Inbound call-backs: stored exactly as they came, acknowledged fast, followed later by a task.

use chrono::{DateTime, Utc};
use domain::{
    ids::WebhookId,
    process::Task,
    provider::{HintSubject, WebhookHint},
};
use sqlx::{PgPool, types::Json};
use uuid::Uuid;

use crate::event_store::uuid_of;

/// A call-back that proved its sender.
#[derive(Debug)]
pub struct Received<'a> {
    /// Our name for this delivery.
    pub id: WebhookId,
    /// The provider's name.
    pub provider: &'a str,
    /// What it claims.
    pub hint: &'a WebhookHint,
    /// When it came, UTC.
    pub received_at: DateTime<Utc>,
    /// Its headers, secrets left out.
    pub headers: &'a [(String, String)],
    /// Its body, byte for byte.
    pub body: &'a [u8],
}

/// Stores a call-back and schedules the look at the provider's books; one row and one task per delivery id, however
/// often it is delivered. Returns whether it was new.
///
/// # Errors
/// The driver's; the sender must then not be acknowledged.
pub async fn receive(pool: &PgPool, received: &Received<'_>) -> Result<bool, sqlx::Error> {
    let task = match &received.hint.subject {
        HintSubject::Reference(name) | HintSubject::ProviderId(name) => Some(Task::FollowHint {
            provider: received.provider.to_owned(),
            reference: name.clone(),
            transaction_id: received.hint.transaction_id.clone(),
            tried: 0,
        }),
        HintSubject::Nothing => None,
    };
    let key = format!("hint:{}:{}", received.provider, received.hint.delivery_id);
    let fresh: bool = sqlx::query_scalar(include_str!("sql/receive_webhook.sql"))
        .bind(uuid_of(received.id))
        .bind(received.provider)
        .bind(&received.hint.delivery_id)
        .bind(received.received_at)
        .bind(Json(received.headers))
        .bind(received.body)
        .bind(key)
        .bind(Uuid::nil())
        .bind(task.map(Json))
        .fetch_one(pool)
        .await?;
    Ok(fresh)
}
