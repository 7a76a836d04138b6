//! Call-backs of the four providers: what cannot be proven is not believed, and what is believed says what its bytes say.

use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use chrono::{DateTime, Utc};
use domain::provider::{HintSubject, PaymentProvider, RawWebhook, WebhookHint, WebhookRefusal};
use gateway::catalog;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::{
    Tally,
    edits::{Input, Samples},
    fuzz,
};

const PATH_SECRET: &str = "a-secret-in-the-path";
const BILLER: &str = "123456789012345";
const HOOK: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const TIME: &str = "1800000000";

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

/// A connector that nobody calls out with.
pub fn provider(name: &str, base_url: &str) -> Arc<dyn PaymentProvider> {
    let mut settings = match name {
        "scb" => json!({"api_key": "key", "api_secret": "secret-of-scb", "biller_id": BILLER, "webhook_path_secret": PATH_SECRET,
            "void_profile": true, "quota_pause_ms": 0}),
        "kbank" => {
            json!({"consumer_id": "id", "consumer_secret": "secret-of-kbank", "partner_id": "PTR0000001", "partner_secret": "partner",
            "merchant_id": "KB000000000001", "webhook_path_secret": PATH_SECRET, "quota_pause_ms": 0})
        }
        "omise" => json!({"secret_key": "skey_test", "webhook_secret": HOOK, "promptpay_min": 1, "promptpay_max": 100_000_000}),
        _ => json!({"secret_key": "sk_test", "webhook_secret": "whsec_of_the_fuzzer"}),
    };
    settings["base_url"] = json!(base_url);
    settings["timeout_ms"] = json!(5_000);
    catalog::connect(name, &settings, Arc::new(now)).unwrap()
}

fn signature(key: &[u8], time: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(time.as_bytes());
    mac.update(b".");
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}

/// The headers with which a provider proves a body.
fn headers(name: &str, body: &[u8]) -> Vec<(String, String)> {
    match name {
        "omise" => {
            let signature = signature(&BASE64_STANDARD.decode(HOOK).unwrap(), TIME, body);
            vec![("omise-signature-timestamp".to_owned(), TIME.to_owned()), ("omise-signature".to_owned(), signature)]
        }
        "stripe" => {
            let signature = signature(b"whsec_of_the_fuzzer", TIME, body);
            vec![("stripe-signature".to_owned(), format!("t={TIME},v1={signature}"))]
        }
        _ => vec![],
    }
}

fn read(
    provider: &dyn PaymentProvider,
    secret: Option<&str>,
    headers: &[(String, String)],
    body: &[u8],
) -> Result<WebhookHint, WebhookRefusal> {
    provider.read_webhook(&RawWebhook { proven: false, path_secret: secret, headers, body, received_at: now() })
}

/// Some text in `value` is `wanted`.
fn says(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => text == wanted,
        Value::Array(items) => items.iter().any(|item| says(item, wanted)),
        Value::Object(members) => members.values().any(|member| says(member, wanted)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[test]
fn a_proven_call_back_says_what_its_bytes_say() {
    let tally = Tally::default();
    let samples = Samples::of("call_backs");
    let names = samples.names.clone();
    let providers = ["scb", "kbank", "omise", "stripe"].map(|name| provider(name, "http://127.0.0.1:9"));
    fuzz!(2_000, samples, |input| {
        let provider = of(&providers, &names[input.sample]);
        let headers = headers(provider.name(), &input.bytes);
        let hint = match read(provider, Some(PATH_SECRET), &headers, &input.bytes) {
            Ok(hint) => hint,
            Err(WebhookRefusal::Malformed(name, _)) => {
                assert_eq!(name, provider.name());
                return tally.refused();
            }
            Err(WebhookRefusal::NotAuthentic) => {
                assert!(!provider.capabilities().signed_webhooks, "the signature is right");
                return tally.refused();
            }
            Err(refusal @ WebhookRefusal::Stale) => panic!("{refusal:?}"),
        };
        tally.accepted();
        assert_eq!(read(provider, Some(PATH_SECRET), &headers, &input.bytes).as_ref(), Ok(&hint), "a copy has the same name");
        // A number beyond all numbers, in a field that nobody reads, is JSON and yet no value.
        let Ok(body) = serde_json::from_slice::<Value>(&input.bytes) else {
            assert!(serde_json::from_slice::<IgnoredAny>(&input.bytes).is_ok(), "not JSON, and yet {hint:?}");
            return;
        };
        assert!(!hint.delivery_id.is_empty() && serde_json::from_str::<Value>(&hint.acknowledgement).is_ok());
        let named = match &hint.subject {
            HintSubject::Reference(name) | HintSubject::ProviderId(name) => Some(name),
            HintSubject::Nothing => None,
        };
        assert!(named.into_iter().chain(&hint.transaction_id).all(|name| !name.is_empty() && says(&body, name)), "{hint:?}");
        let ours = match provider.name() {
            "scb" => body["payeeProxyId"] == BILLER,
            "kbank" => body["partnerId"] == "PTR0000001",
            _ => true,
        };
        assert!(ours, "of another account");
    });
    tally.has_seen_both("call-backs");
}

#[test]
fn a_call_back_that_was_changed_under_way_proves_nothing() {
    let tally = Tally::default();
    let samples = Samples::of("call_backs");
    let (names, originals) = (samples.names.clone(), samples.samples.clone());
    let providers = ["scb", "kbank", "omise", "stripe"].map(|name| provider(name, "http://127.0.0.1:9"));
    fuzz!(1_500, samples, |input| {
        let (provider, original) = (of(&providers, &names[input.sample]), &originals[input.sample]);
        let sealed = headers(provider.name(), original);
        let outcome = read(provider, Some(PATH_SECRET), &sealed, &input.bytes);
        if provider.capabilities().signed_webhooks {
            let same = input.bytes == *original;
            assert_eq!(outcome == Err(WebhookRefusal::NotAuthentic), !same, "{outcome:?}");
        }
        for wrong in [None, Some(""), Some("a-secret-in-the-pat"), Some("a-secret-in-the-path ")] {
            let outcome = read(provider, wrong, &[], &input.bytes);
            assert_eq!(outcome, Err(WebhookRefusal::NotAuthentic), "without proof");
        }
        if outcome.is_ok() { tally.accepted() } else { tally.refused() }
    });
    tally.has_seen_both("altered call-backs");
}

#[test]
fn headers_of_a_call_back_prove_it_only_with_its_time_and_signature() {
    let tally = Tally::default();
    let body = br#"{"id":"evt_1","object":"event","data":{"object":{"object":"payment_intent","id":"pi_1"}}}"#;
    let signatures: Vec<String> = ["omise", "stripe"].iter().map(|name| headers(name, body).last().unwrap().1.clone()).collect();
    let providers = ["omise", "stripe"].map(|name| provider(name, "http://127.0.0.1:9"));
    let samples = Samples::these(vec![
        signatures[0].clone().into_bytes(),
        format!("{},{}", "0".repeat(64), signatures[0]).into_bytes(),
        signatures[1].clone().into_bytes(),
        format!("t={TIME},v0=abc,v1={}", &signatures[1][16..]).into_bytes(),
    ]);
    fuzz!(1_500, samples, |input: &Input| {
        let Some(text) = input.text() else { return tally.refused() };
        let (place, sent) = if input.sample < 2 {
            (0, vec![("omise-signature-timestamp".to_owned(), TIME.to_owned()), ("omise-signature".to_owned(), text.to_owned())])
        } else {
            (1, vec![("stripe-signature".to_owned(), text.to_owned())])
        };
        if read(&*providers[place], None, &sent, body).is_err() {
            return tally.refused();
        }
        tally.accepted();
        let digits = signatures[place].rsplit('=').next().unwrap();
        assert!(text.to_ascii_lowercase().contains(digits), "{text}");
        assert!(place == 0 || text.contains(TIME), "{text}");
    });
    tally.has_seen_both("headers of call-backs");
}

/// The provider whose name a sample's name begins with.
fn of<'p>(providers: &'p [Arc<dyn PaymentProvider>; 4], sample: &str) -> &'p dyn PaymentProvider {
    let found = providers.iter().find(|provider| sample.starts_with(provider.name()));
    &**found.unwrap_or_else(|| panic!("{sample} is no provider's"))
}
