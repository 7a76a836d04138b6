//! The published signature vectors, and the classes of answers.

use chrono::DateTime;
use domain::{
    ids::{AttemptId, Ulid},
    money::Money,
    provider::{AttemptKey, RawWebhook, WebhookRefusal},
};
use serde_json::json;

use super::{
    StripeConfig,
    mapping::{read_failure, read_intent},
    webhook,
};
use crate::{Secret, failure::Failure, shared_vectors::shared_vectors};

fn config(secret: &str) -> StripeConfig {
    StripeConfig {
        base_url: "http://127.0.0.1:9".to_owned(),
        secret_key: Secret::new("sk_test_1"),
        webhook_secret: Secret::new(secret),
        api_version: StripeConfig::default_api_version(),
        promptpay_email: None,
        incremental_authorization: true,
        timeout_ms: 1_000,
    }
}

fn read(secret: &str, header: &str, now: i64, body: &str) -> Result<String, WebhookRefusal> {
    let headers = [("stripe-signature".to_owned(), header.to_owned())];
    let received_at = DateTime::from_timestamp(now, 0).unwrap();
    let raw = RawWebhook { proven: false, path_secret: None, headers: &headers, body: body.as_bytes(), received_at };
    webhook::read(&config(secret), &raw).map(|hint| hint.delivery_id)
}

const BODY: &str = r#"{"id":"evt_1","object":"event","data":{"object":{"object":"payment_intent","id":"pi_1"}}}"#;

fn signed(at: i64) -> String {
    format!("t={at},v1={}", hex::encode(crate::signature::sign(b"whsec_test_secret_0001", &at.to_string(), BODY.as_bytes())))
}

#[test]
fn the_published_signatures_are_accepted_and_refused() {
    let Some(vectors) = shared_vectors("webhook-signatures.json") else { return };
    let vectors = &vectors["stripe"];
    let mut cases = 0;
    for case in vectors["cases"].as_array().unwrap() {
        let body = format!("{}{}", vectors["payload"].as_str().unwrap(), case["payload_suffix"].as_str().unwrap_or_default());
        let read = read(case["secret"].as_str().unwrap(), case["header"].as_str().unwrap(), case["now"].as_i64().unwrap(), &body);
        assert_eq!(read.is_ok(), case["expect"] == "accept", "{}: {read:?}", case["id"]);
        cases += 1;
    }
    assert!(cases >= 9);
}

#[test]
fn an_old_signature_and_one_from_the_future_are_stale_and_others_do_not_count() {
    let (now, secret) = (1_700_000_000, "whsec_test_secret_0001");
    assert_eq!(read(secret, &signed(now - 300), now, BODY), Ok("evt_1".to_owned()));
    assert_eq!(read(secret, &signed(now + 300), now, BODY), Ok("evt_1".to_owned()));
    assert_eq!(read(secret, &signed(now - 301), now, BODY), Err(WebhookRefusal::Stale));
    assert_eq!(read(secret, &signed(now + 301), now, BODY), Err(WebhookRefusal::Stale));
    assert_eq!(read(secret, &format!("{},v1=zz", signed(now)), now, BODY), Ok("evt_1".to_owned()));
    for header in [signed(now).replace("v1=", "v0="), signed(now).replace("t=", "x="), format!("{},nonsense", signed(now)), String::new()] {
        assert_eq!(read(secret, &header, now, BODY), Err(WebhookRefusal::NotAuthentic), "{header}");
    }
    assert_eq!(read(secret, &signed(now), now, &BODY.replace("pi_1", "pi_2")), Err(WebhookRefusal::NotAuthentic));
}

#[test]
fn every_error_has_its_class() {
    let class = |http, kind: &str, code: &str| {
        read_failure(http, format!(r#"{{"error":{{"type":"{kind}","code":"{code}","message":"m"}}}}"#).as_bytes()).0
    };
    assert!(matches!(class(402, "card_error", "card_declined"), Failure::Declined(d) if d.code == "card_declined"));
    assert!(matches!(class(402, "card_error", "expired_card"), Failure::Declined(d) if d.code == "expired_card"));
    assert!(matches!(class(400, "invalid_request_error", "amount_too_small"), Failure::Declined(d) if d.code == "amount_not_allowed"));
    assert!(matches!(class(400, "idempotency_error", ""), Failure::Conflict(_)));
    assert!(matches!(class(400, "invalid_request_error", "charge_already_refunded"), Failure::Conflict(_)));
    assert!(matches!(class(401, "invalid_request_error", ""), Failure::Unauthorized(_)));
    assert!(matches!(class(404, "invalid_request_error", "resource_missing"), Failure::NotFound(_)));
    assert!(matches!(class(429, "invalid_request_error", "rate_limit"), Failure::NotAttempted(_)));
    for (http, code) in [(409, "idempotency_key_in_use"), (409, "lock_timeout"), (424, ""), (500, ""), (503, "")] {
        assert!(matches!(class(http, "api_error", code), Failure::Uncertain(_)), "{http} {code}");
    }
    assert!(matches!(read_failure(500, b"<html>").0, Failure::Uncertain(_)));
    assert!(matches!(read_failure(200, b"").0, Failure::Uncertain(_)));
}

#[test]
fn a_payment_in_a_year_that_no_clock_shows_spoils_the_answer() {
    let attempt_id = AttemptId(Ulid(5));
    let (reference, amount, started_at) = ("R".to_owned(), Money::thb(100_00), DateTime::UNIX_EPOCH);
    let key = AttemptKey { attempt_id, reference, provider_id: None, amount, started_at };
    let view = |created: i64| {
        let intent = json!({"id": "pi_1", "amount": 100_00, "amount_received": 100_00, "currency": "thb", "status": "succeeded",
            "metadata": {"attempt": attempt_id.0.to_string()}, "latest_charge": {"id": "ch_1", "created": created}});
        read_intent(serde_json::from_value(intent).unwrap(), &key)
    };
    assert!(view(1_800_000_000).is_ok());
    for created in [-8_334_601_228_800, -1, 253_402_300_800, 8_210_266_876_799, i64::MAX] {
        assert!(matches!(view(created), Err(Failure::Uncertain(_))), "{created}");
    }
}
