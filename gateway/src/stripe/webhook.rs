//! Stripe's events: `Stripe-Signature: t=<s>,v1=<hex>[,v1=<hex>]` over the raw body. Source: stripe-go, webhook/client.go.
//!
//! Events come in any order and more than once, so an event only says *look*.

use domain::provider::{HintSubject, RawWebhook, WebhookHint, WebhookRefusal};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{StripeConfig, mapping::is_id};
use crate::{promptpay::is_reference, signature};

/// Longer bodies are not Stripe's.
const MAX_BODY: usize = 256 * 1024;

#[derive(Deserialize)]
struct Event {
    id: String,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    object: Object,
}

#[derive(Deserialize)]
struct Object {
    /// The provider's word for its kind.
    #[serde(default, rename = "object")]
    kind: String,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    payment_intent: Option<String>,
    #[serde(default)]
    metadata: Option<Map<String, Value>>,
}

pub(super) fn read(config: &StripeConfig, raw: &RawWebhook<'_>) -> Result<WebhookHint, WebhookRefusal> {
    let malformed = |problem: &str| WebhookRefusal::Malformed("stripe", problem.to_owned());
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
    let Object { kind, id, payment_intent, metadata } = event.data.object;
    let metadata = metadata.unwrap_or_default();
    let reference = metadata.get("reference").and_then(Value::as_str).filter(|text| is_reference(text)).map(str::to_owned);
    let intent = if kind == "payment_intent" { id } else { payment_intent };
    let is_money = ["payment_intent", "charge", "refund", "dispute"].contains(&kind.as_str());
    // Our reference is known before the answer to our call came; the provider's id may not be.
    let subject = match (is_money, reference, intent.filter(|id| is_id(id))) {
        (true, Some(reference), _) => HintSubject::Reference(reference),
        (true, None, Some(intent)) => HintSubject::ProviderId(intent),
        (true, None, None) | (false, _, _) => HintSubject::Nothing,
    };
    Ok(WebhookHint { delivery_id: event.id, subject, transaction_id: None, acknowledgement: r#"{"received":true}"#.to_owned() })
}

fn check(config: &StripeConfig, raw: &RawWebhook<'_>) -> Result<(), WebhookRefusal> {
    let pairs: Option<Vec<(&str, &str)>> =
        signature::header(raw, "stripe-signature").split(',').map(|pair| pair.trim().split_once('=')).collect();
    let pairs = pairs.ok_or(WebhookRefusal::NotAuthentic)?;
    let timestamp = pairs.iter().find(|(name, _)| *name == "t").map_or("", |(_, value)| value);
    let signatures = pairs.iter().filter(|(name, _)| *name == "v1").map(|(_, value)| *value);
    signature::check(raw, config.webhook_secret.reveal().as_bytes(), timestamp, signatures)
}
