//! Upcasters: pure steps that lift an old payload by one version, chained per event type.
//!
//! To change an event's shape: raise its version in the aggregate's `events!`, add one [`Step`] here, keep the old
//! sample in `schemas/events/samples/` and add the new one. [`prove_complete`] runs at start-up.

use std::borrow::Cow;

use serde_json::Value;

use crate::event::{DecodeError, EventSpec};

/// Lifts payloads of one type from `from` to `from + 1`.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// `order.opened`.
    pub event_type: &'static str,
    /// The version that it reads.
    pub from: i16,
    /// The change of shape; must not fail on any payload of version `from`.
    pub lift: fn(Value) -> Value,
}

/// Every step of this build.
pub const STEPS: &[Step] = &[
    Step { event_type: "order.line_added", from: 1, lift: price_of_one_piece },
    Step { event_type: "bill.payment_allocated", from: 1, lift: without_tip },
    Step { event_type: "payment_intent.succeeded", from: 1, lift: without_tip },
    Step { event_type: "refund.requested", from: 1, lift: without_parts },
    Step { event_type: "refund.requested", from: 2, lift: |value| with(value, &[("unmatched", Value::from(false))]) },
    Step { event_type: "refund.requested", from: 3, lift: |value| with(value, &[("fallback_of", Value::Null)]) },
    Step {
        event_type: "payment_intent.created",
        from: 1,
        lift: |value| with(value, &[("description", Value::Null), ("merchant_terminal_id", Value::Null)]),
    },
    Step { event_type: "payment_intent.created", from: 2, lift: |value| with(value, &[("terms", Value::Null)]) },
    Step {
        event_type: "payment_intent.updated",
        from: 1,
        lift: |value| with(value, &[("description", Value::Null), ("merchant_terminal_id", Value::Null)]),
    },
    Step { event_type: "payment_intent.attempt_started", from: 1, lift: by_qr },
    Step { event_type: "payment_intent.cancel_requested", from: 1, lift: of_a_qr_attempt },
    Step { event_type: "payment_intent.action_required", from: 1, lift: |value| with(value, &[("redirect_url", Value::Null)]) },
    Step { event_type: "payment_intent.outcome_unknown", from: 1, lift: |value| with(value, &[("since", Value::Null)]) },
    Step { event_type: "payment_intent.unmatched_payment_received", from: 1, lift: |value| with(value, &[("attempt_id", Value::Null)]) },
    Step { event_type: "refund.outcome_unknown", from: 1, lift: |value| with(value, &[("since", Value::Null)]) },
    // Version 2 only allows a refund without a payment.
    Step { event_type: "refund.succeeded", from: 1, lift: |value| value },
];

/// `value` with these fields; a payload that is no object stays as it is and fails where it is decoded.
fn with(mut value: Value, fields: &[(&str, Value)]) -> Value {
    if let Some(object) = value.as_object_mut() {
        object.extend(fields.iter().map(|(name, field)| ((*name).to_owned(), field.clone())));
    }
    value
}

/// Prices were always those of one piece.
fn price_of_one_piece(value: Value) -> Value {
    with(value, &[("price_base_milli", Value::from(1_000))])
}

/// Every attempt asked one provider's only account for a QR.
fn by_qr(value: Value) -> Value {
    let none = ["provider_account", "route", "card_token", "return_url"].map(|name| (name, Value::Null));
    with(with(value, &none), &[("tender", Value::from("promptpay")), ("manual_capture", Value::from(false))])
}

/// It names the attempt in full.
fn of_a_qr_attempt(mut value: Value) -> Value {
    let attempt = value.get_mut("attempt").map_or(Value::Null, Value::take);
    with(value, &[("attempt", by_qr(attempt)), ("provider_id", Value::Null)])
}

/// Tips and acquirers were not recorded.
fn without_tip(value: Value) -> Value {
    with(value, &[("tip", Value::from(0)), ("acquirer", Value::Null)])
}

/// Refunds were known by their amount only.
fn without_parts(value: Value) -> Value {
    with(value, &[("acquirer", Value::Null), ("breakdown", Value::Null), ("cash_rounding", Value::from(0))])
}

/// Lifts `payload` from `version` to `newest`.
///
/// # Errors
/// `UnknownVersion` when a step is missing or the version is newer than this build; `BadPayload` when it is not JSON.
pub fn lift<'a>(steps: &[Step], event_type: &str, version: i16, newest: i16, payload: &'a [u8]) -> Result<Cow<'a, [u8]>, DecodeError> {
    let unknown = || DecodeError::UnknownVersion { event_type: event_type.to_owned(), version, newest };
    let bad = |error: serde_json::Error| DecodeError::BadPayload { event_type: event_type.to_owned(), detail: error.to_string() };
    if version == newest {
        return Ok(Cow::Borrowed(payload));
    }
    if version < 1 || version > newest {
        return Err(unknown());
    }
    let mut value: Value = serde_json::from_slice(payload).map_err(bad)?;
    for from in version..newest {
        let step = steps.iter().find(|step| step.event_type == event_type && step.from == from).ok_or_else(unknown)?;
        value = (step.lift)(value);
    }
    serde_json::to_vec(&value).map(Cow::Owned).map_err(bad)
}

/// Names every (type, version) that could be stored but not read, and every step that leads nowhere.
pub fn prove_complete(catalog: &[EventSpec], steps: &[Step]) -> Vec<String> {
    let mut gaps = Vec::new();
    for spec in catalog {
        for from in 1..spec.version {
            let found = steps.iter().filter(|step| step.event_type == spec.event_type && step.from == from).count();
            if found != 1 {
                gaps.push(format!("{} v{from} has {found} upcasters, needs one", spec.event_type));
            }
        }
    }
    for step in steps {
        if !catalog.iter().any(|spec| spec.event_type == step.event_type && step.from < spec.version) {
            gaps.push(format!("the upcaster {} v{} leads to no known version", step.event_type, step.from));
        }
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn add_channel(mut value: Value) -> Value {
        value["channel"] = json!("counter");
        value
    }
    fn rename_total(mut value: Value) -> Value {
        value["total_minor"] = value["total"].take();
        value.as_object_mut().unwrap().remove("total");
        value
    }
    const TWO: &[Step] = &[
        Step { event_type: "test.happened", from: 1, lift: add_channel },
        Step { event_type: "test.happened", from: 2, lift: rename_total },
    ];
    fn spec(version: i16) -> EventSpec {
        EventSpec { event_type: "test.happened", version, schema: || schemars::json_schema!(true) }
    }

    #[test]
    fn an_old_payload_is_lifted_step_by_step() {
        let lifted = lift(TWO, "test.happened", 1, 3, br#"{"total":5}"#).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&lifted).unwrap(), json!({"channel": "counter", "total_minor": 5}));
    }

    #[test]
    fn a_version_from_the_future_or_without_a_step_is_refused() {
        assert!(matches!(lift(TWO, "test.happened", 4, 3, b"{}"), Err(DecodeError::UnknownVersion { .. })));
        assert!(matches!(lift(&TWO[1..], "test.happened", 1, 3, b"{}"), Err(DecodeError::UnknownVersion { .. })));
    }

    #[test]
    fn a_gap_in_the_chain_is_named_at_start_up() {
        assert!(prove_complete(&[spec(3)], TWO).is_empty());
        assert_eq!(prove_complete(&[spec(3)], &TWO[..1]).len(), 1);
        assert_eq!(prove_complete(&[spec(2)], TWO).len(), 1);
    }

    #[test]
    fn this_build_reads_every_version_it_could_have_written() {
        assert_eq!(prove_complete(&crate::event::DomainEvent::catalog(), STEPS), Vec::<String>::new());
    }
}
