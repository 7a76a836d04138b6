//! The published signature vectors, the states of a charge, and the classes of answers.

use chrono::DateTime;
use domain::{
    ids::{AttemptId, Ulid},
    money::Money,
    provider::{AttemptKey, AttemptStatus, AttemptView, RawWebhook, WebhookRefusal},
};
use serde_json::{Value, json};

use super::{OmiseConfig, mapping, webhook};
use crate::{failure::Failure, shared_vectors::shared_vectors};

fn config(secret: &str) -> OmiseConfig {
    serde_json::from_value(json!({"base_url": "http://127.0.0.1:9", "secret_key": "skey_test_1", "webhook_secret": secret})).unwrap()
}

#[test]
fn the_published_signatures_are_accepted_and_refused() {
    let Some(vectors) = shared_vectors("webhook-signatures.json") else { return };
    let vectors = &vectors["omise"];
    let mut cases = 0;
    for case in vectors["cases"].as_array().unwrap() {
        let headers = [
            ("omise-signature".to_owned(), case["signature"].as_str().unwrap().to_owned()),
            ("omise-signature-timestamp".to_owned(), case["timestamp"].as_str().unwrap().to_owned()),
        ];
        let body = vectors["payload"].as_str().unwrap().as_bytes();
        let received_at = DateTime::from_timestamp(case["now"].as_i64().unwrap(), 0).unwrap();
        let raw = RawWebhook { proven: false, path_secret: None, headers: &headers, body, received_at };
        let read = webhook::read(&config(case["secret_base64"].as_str().unwrap()), &raw);
        assert_eq!(read.is_ok(), case["expect"] == "accept", "{}: {read:?}", case["id"]);
        cases += 1;
    }
    assert!(cases >= 5);
}

#[test]
fn an_unsigned_event_is_refused() {
    let raw = RawWebhook { proven: false, path_secret: None, headers: &[], body: b"{}", received_at: DateTime::UNIX_EPOCH };
    assert_eq!(webhook::read(&config("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="), &raw), Err(WebhookRefusal::NotAuthentic));
    assert!(config("AAAA").check().is_err());
}

fn view(change: &Value) -> Result<AttemptView, Failure> {
    let attempt_id = AttemptId(Ulid(5));
    let key = AttemptKey {
        attempt_id,
        reference: "R".to_owned(),
        provider_id: None,
        amount: Money::thb(100_00),
        started_at: DateTime::UNIX_EPOCH,
    };
    let mut charge = json!({
        "object": "charge", "id": "chrg_test_1", "amount": 10000, "currency": "thb", "status": "pending", "authorized": false, "capturable": false,
        "paid": false, "created_at": "2026-01-01T00:00:00Z", "metadata": {"attempt": attempt_id.0.to_string()}, "new_field": [1],
    });
    for (name, value) in change.as_object().unwrap() {
        charge[name] = value.clone();
    }
    mapping::read_charge(serde_json::from_value(charge).unwrap(), &key)
}

#[test]
fn complete_is_not_paid_and_unknown_words_stay_unresolved() {
    let status = |change| view(&change).unwrap().status;
    assert_eq!(status(json!({})), AttemptStatus::Pending);
    assert!(
        matches!(status(json!({"authorized": true, "capturable": true})), AttemptStatus::Authorized { amount, .. } if amount == Money::thb(100_00))
    );
    assert!(matches!(status(json!({"status": "successful"})), AttemptStatus::Unrecognized(_)));
    assert_eq!(status(json!({"status": "successful", "paid": true})), AttemptStatus::Paid);
    assert!(
        matches!(status(json!({"status": "failed", "failure_code": "insufficient_fund"})), AttemptStatus::Failed(d) if d.code == "insufficient_funds")
    );
    assert!(matches!(status(json!({"status": "failed", "failure_code": "confirmed_amount_mismatch"})), AttemptStatus::Unrecognized(_)));
    assert_eq!(status(json!({"status": "reversed"})), AttemptStatus::Canceled);
    assert_eq!(status(json!({"status": "reversed", "expired": true})), AttemptStatus::Expired);
    assert!(matches!(status(json!({"status": "brand_new"})), AttemptStatus::Unrecognized(word) if word == "brand_new"));
}

#[test]
fn amounts_keep_their_currency_and_another_attempts_charge_is_not_ours() {
    let paid =
        |currency, captured: i64| view(&json!({"status": "successful", "paid": true, "currency": currency, "captured_amount": captured}));
    for (currency, minor) in [("thb", 1), ("jpy", 700_000), ("kwd", 1_001), ("THB", 70_000_000)] {
        let seen = paid(currency, minor).unwrap().payments;
        assert_eq!(seen[0].amount, Money::new(minor, currency.to_uppercase().parse().unwrap()));
    }
    assert!(matches!(paid("zzz", 1), Err(Failure::Uncertain(_))));
    assert!(matches!(paid("thb", -1), Err(Failure::Uncertain(_))));
    assert!(matches!(view(&json!({"metadata": {}})), Err(Failure::Uncertain(_))));
    assert!(matches!(view(&json!({"object": "source"})), Err(Failure::Uncertain(_))));
}

#[test]
fn a_payment_of_nothing_or_in_a_year_that_no_clock_shows_spoils_the_answer() {
    let paid = |name: &str, value: Value| view(&json!({"status": "successful", "paid": true, name: value}));
    assert!(matches!(paid("amount", json!(0)), Err(Failure::Uncertain(_))));
    for name in ["paid_at", "created_at"] {
        for time in ["+262142-12-31T23:59:59Z", "-262143-01-01T00:00:00Z"] {
            assert!(matches!(paid(name, json!(time)), Err(Failure::Uncertain(_))), "{name} {time}");
        }
    }
}

#[test]
fn every_error_has_its_class() {
    let class =
        |http, code: &str| mapping::read_failure(http, json!({"object": "error", "code": code, "message": "m"}).to_string().as_bytes());
    assert!(matches!(class(400, "backend_error"), Failure::Uncertain(_)));
    assert!(matches!(class(500, "internal_error"), Failure::Uncertain(_)));
    assert!(matches!(class(401, "authentication_failure"), Failure::Unauthorized(_)));
    assert!(matches!(class(404, "not_found"), Failure::NotFound(_)));
    assert!(matches!(class(429, "too_many_requests"), Failure::NotAttempted(_)));
    for code in ["failed_capture", "failed_expire", "failed_refund", "failed_reverse", "expired_charge", "failed_void"] {
        assert!(matches!(class(400, code), Failure::Conflict(_)), "{code}");
    }
    assert!(matches!(class(400, "used_token"), Failure::Declined(d) if d.code == "card_declined"));
    assert!(matches!(class(422, "bad_request"), Failure::Declined(d) if d.code == "invalid_request"));
    assert!(matches!(mapping::read_failure(200, b""), Failure::Uncertain(_)));
}
