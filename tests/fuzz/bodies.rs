//! JSON bodies: read strictly, then as every command of the API.

use api::{
    extract::{
        card::{holds_card_number, is_article_number},
        strict_json::{self, MAX_DEPTH},
    },
    problem::Kind,
    routes::{
        api_keys::CreateApiKey, auth::DevToken, bills::IssueBill, customers, inbound_webhooks::ReprocessInput, merchants, order_lines,
        orders, payment_intent_changes, payment_intents, payments::PayBill, provider_accounts, refunds, stores,
        webhook_deliveries::ResendInput, webhook_endpoints::EndpointInput,
    },
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Tally, edits::Samples, fuzz};

/// `value` as one kind of body, in words; nothing when it is none.
fn shown<T: DeserializeOwned + std::fmt::Debug>(value: &Value) -> Option<String> {
    match strict_json::read::<T>(value) {
        Ok(body) => Some(format!("{body:?}")),
        Err(problem) => {
            assert_eq!(problem.kind(), Kind::BodyInvalid);
            None
        }
    }
}

/// `value` as each command.
fn as_every_command(value: &Value) -> Vec<Option<String>> {
    vec![
        shown::<orders::OpenOrder>(value),
        shown::<orders::LineInput>(value),
        shown::<orders::ReasonInput>(value),
        shown::<order_lines::QuantityInput>(value),
        shown::<order_lines::DiscountInput>(value),
        shown::<order_lines::AdjustmentInput>(value),
        shown::<IssueBill>(value),
        shown::<PayBill>(value),
        shown::<payment_intents::CreateIntent>(value),
        shown::<payment_intents::ConfirmIntent>(value),
        shown::<payment_intent_changes::AcknowledgeOverRefund>(value),
        shown::<refunds::RequestRefund>(value),
        shown::<refunds::RefundPayment>(value),
        shown::<refunds::ResolveRefund>(value),
        shown::<customers::CustomerInput>(value),
        shown::<customers::EraseInput>(value),
        shown::<merchants::RegisterMerchant>(value),
        shown::<merchants::RenameMerchant>(value),
        shown::<stores::OpenStore>(value),
        shown::<stores::ModifyStore>(value),
        shown::<provider_accounts::OpenAccount>(value),
        shown::<provider_accounts::ModifyAccount>(value),
        shown::<EndpointInput>(value),
        shown::<ResendInput>(value),
        shown::<ReprocessInput>(value),
        shown::<CreateApiKey>(value),
        shown::<DevToken>(value),
    ]
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// The same without fractions: those do not come back bit for bit, and no command takes one.
fn without_fractions(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(without_fractions).collect(),
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), without_fractions(value))).collect(),
        Value::Number(number) if number.is_f64() => Value::Null,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// No text in it is what must never come in.
fn is_clean(value: &Value, article: bool) -> bool {
    let clean = |text: &str| !text.contains('\0') && !holds_card_number(text);
    match value {
        Value::Array(items) => items.iter().all(|value| is_clean(value, article)),
        Value::Object(members) => members.iter().all(|(name, value)| {
            let article = ["item_code", "barcode", "gtin", "sku"].contains(&name.as_str());
            clean(name) && is_clean(value, article)
        }),
        Value::String(text) => clean(text) || (article && is_article_number(text)),
        Value::Number(number) => number.is_f64() || clean(&number.to_string()),
        Value::Null | Value::Bool(_) => true,
    }
}

#[test]
fn json_bodies_have_one_meaning_or_none() {
    let tally = Tally::default();
    let refused = |text: &str| strict_json::parse(text.as_bytes()).is_err();
    fuzz!(2_500, Samples::of("bodies"), |input| {
        let value = match strict_json::parse(&input.bytes) {
            Ok(value) => value,
            Err(problem) => {
                assert!([Kind::BodyMalformed, Kind::CardNumberRefused].contains(&problem.kind()), "{problem:?}");
                return tally.refused();
            }
        };
        tally.accepted();
        assert!(depth(&value) <= MAX_DEPTH && is_clean(&value, false));
        let plain: Value = serde_json::from_slice(&input.bytes).unwrap();
        assert_eq!(without_fractions(&plain), without_fractions(&value), "another reader sees something else");
        let written = serde_json::to_string(&value).unwrap();
        let again = strict_json::parse(written.as_bytes()).unwrap();
        assert_eq!(without_fractions(&again), without_fractions(&value));
        assert_eq!(as_every_command(&value), as_every_command(&again));
        let deeper = MAX_DEPTH + 1 - depth(&value);
        assert!(refused(&format!("{}{written}{}", "[".repeat(deeper), "]".repeat(deeper))), "deeper than allowed");
        if let Some((name, member)) = value.as_object().and_then(|members| members.iter().next()) {
            let name = Value::from(name.clone());
            assert!(refused(&format!("{{{name}:{member},{}", &written[1..])), "a name twice");
        }
    });
    tally.has_seen_both("bodies");
}
