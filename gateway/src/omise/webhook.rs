//! Omise's events: hex HMAC-SHA256 of `timestamp "." body` by the decoded secret, several during a roll.
//!
//! `charge.complete` is not "paid" and the object inside follows the account's own version, so an event only says *look*.

use domain::provider::{HintSubject, RawWebhook, WebhookHint, WebhookRefusal};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{OmiseConfig, mapping::is_id};
use crate::{promptpay::is_reference, signature};

/// Longer bodies are not Omise's.
const MAX_BODY: usize = 256 * 1024;

#[derive(Deserialize)]
struct Event {
    id: String,
    #[serde(default)]
    data: Option<Object>,
}

#[derive(Deserialize)]
struct Object {
    /// The provider's word for its kind.
    #[serde(default, rename = "object")]
    kind: String,
    #[serde(default)]
    id: Option<String>,
    /// Of a refund or dispute.
    #[serde(default)]
    charge: Option<String>,
    #[serde(default)]
    metadata: Map<String, Value>,
    #[serde(default)]
    paid: Option<bool>,
}

pub(super) fn read(config: &OmiseConfig, raw: &RawWebhook<'_>) -> Result<WebhookHint, WebhookRefusal> {
    let malformed = |problem: &str| WebhookRefusal::Malformed("omise", problem.to_owned());
    if !raw.proven {
        check(config, raw)?;
    }
    if raw.body.len() > MAX_BODY {
        return Err(malformed("longer than 256 KiB"));
    }
    // The parser's own words could quote a payer's data.
    let event: Event = serde_json::from_slice(raw.body)
        .map_err(|e| malformed(&format!("not the expected JSON, at line {} column {}", e.line(), e.column())))?;
    if !is_id(&event.id) {
        return Err(malformed("the event has no usable id"));
    }
    let (subject, transaction_id) = event.data.map_or((HintSubject::Nothing, None), about);
    Ok(WebhookHint { delivery_id: event.id, subject, transaction_id, acknowledgement: r#"{"received":true}"#.to_owned() })
}

fn check(config: &OmiseConfig, raw: &RawWebhook<'_>) -> Result<(), WebhookRefusal> {
    let key = config.webhook_key().ok_or(WebhookRefusal::NotAuthentic)?;
    let timestamp = signature::header(raw, "omise-signature-timestamp");
    let signatures = signature::header(raw, "omise-signature").split(',').map(str::trim);
    signature::check(raw, &key, timestamp, signatures)
}

fn about(data: Object) -> (HintSubject, Option<String>) {
    match data.kind.as_str() {
        "charge" => {
            let id = data.id.filter(|id| is_id(id));
            let paid = id.clone().filter(|_| data.paid == Some(true));
            let reference = data.metadata.get("reference").and_then(Value::as_str).filter(|text| is_reference(text));
            // Our reference is known before the answer to our call came; the provider's id may not be.
            let subject = match (reference, id) {
                (Some(reference), _) => HintSubject::Reference(reference.to_owned()),
                (None, Some(id)) => HintSubject::ProviderId(id),
                (None, None) => HintSubject::Nothing,
            };
            (subject, paid)
        }
        "refund" | "dispute" => (data.charge.filter(|id| is_id(id)).map_or(HintSubject::Nothing, HintSubject::ProviderId), None),
        _ => (HintSubject::Nothing, None),
    }
}
