//! KBank's wire format, its error classes, and their meaning in our words.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    money::{Currency, Money},
    provider::{AttemptKey, AttemptStatus, AttemptView, PaymentSeen},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    amount::read_major,
    failure::{Failure, decline},
};

/// A code is payable for so long. Source: K-API request QR.
const CODE_LIVES: TimeDelta = TimeDelta::minutes(10);
/// The shortest limit that any published text has for `partnerTxnUid`.
const UID_LENGTH: usize = 15;

/// Our name for the QR request: the last 15 characters of the reference, 75 random bits. The same on every repeat.
pub(super) fn uid_of(reference: &str) -> &str {
    reference.get(reference.len().saturating_sub(UID_LENGTH)..).unwrap_or(reference)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Common<'a> {
    pub(super) partner_txn_uid: &'a str,
    pub(super) partner_id: &'a str,
    pub(super) partner_secret: &'a str,
    pub(super) request_dt: String,
    pub(super) merchant_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) terminal_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RequestBody<'a> {
    #[serde(flatten)]
    pub(super) common: Common<'a>,
    qr_type: &'static str,
    txn_amount: String,
    txn_currency_code: &'static str,
    reference1: &'a str,
    reference2: Option<&'a str>,
    reference3: Option<&'a str>,
    reference4: Option<&'a str>,
}

pub(super) fn request_body<'a>(common: Common<'a>, key: &'a AttemptKey) -> RequestBody<'a> {
    RequestBody {
        common,
        qr_type: "3",
        txn_amount: key.amount.to_major(),
        txn_currency_code: "THB",
        reference1: &key.reference,
        reference2: None,
        reference3: None,
        reference4: None,
    }
}

/// Inquiry, cancel and void.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AboutBody<'a> {
    #[serde(flatten)]
    pub(super) common: Common<'a>,
    pub(super) orig_partner_txn_uid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) txn_no: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    #[serde(default)]
    status_code: Option<String>,
    #[serde(default)]
    error_code: Option<String>,
    #[serde(default)]
    error_desc: Option<String>,
    /// Of the gateway in front of the bank.
    #[serde(default)]
    message: Option<String>,
}

/// Nothing on a success, or what the answer means instead: a business error comes with HTTP 200.
pub(super) fn check_answer(http: u16, body: &[u8]) -> Result<(), Failure> {
    let Ok(envelope) = serde_json::from_slice::<Envelope>(body) else {
        let said = format!("HTTP {http} with an unreadable body");
        return Err(match http {
            401 => Failure::Unauthorized(said),
            429 => Failure::NotAttempted(said),
            _ => Failure::Uncertain(said),
        });
    };
    let text = envelope.error_desc.or(envelope.message).unwrap_or_default();
    let code = envelope.error_code.unwrap_or_default();
    let said = format!("HTTP {http}, code {}: {}", shortened(&code), shortened(&text));
    let quota = ["rate limit", "quota"].iter().any(|word| text.to_ascii_lowercase().contains(word));
    match (http, envelope.status_code.as_deref()) {
        (429, _) => Err(Failure::NotAttempted(said)),
        _ if quota => Err(Failure::NotAttempted(said)),
        (200..=299, Some("00")) => Ok(()),
        (200..=299, Some(_)) => Err(business_error(&code, said)),
        (401, _) => Err(Failure::Unauthorized(said)),
        (403, _) => Err(Failure::Declined(decline("credentials_refused", &said))),
        (400 | 404 | 405, _) => Err(Failure::Declined(decline("invalid_request", &said))),
        _ => Err(Failure::Uncertain(said)),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(120).collect()
}

/// Source: K-API error list of 2019, extended by current clients.
fn business_error(code: &str, said: String) -> Failure {
    let declined = |word| Failure::Declined(decline(word, &said));
    match code {
        "authentication_error" => declined("credentials_refused"),
        "bad_request" | "invalid_request" | "invalid_currency_code" | "invalid_txn_amount" | "invalid_qr_type" | "invalid_reference1" => {
            declined("invalid_request")
        }
        "invalid_shop_id" | "invalid_merchant" | "invalid_account" | "merchant_closed" | "account_error" => declined("account_refused"),
        "payment_exceed_limit" => declined("amount_too_large"),
        "qr_no_credit_card" | "qr_not_enable_credit_card" | "qr_void" => declined("not_supported"),
        "settlement_error" => declined("cut_off_passed"),
        "duplicate_request" | "qr_paid" | "qr_cancelled" | "payment_cancelled" | "qr_expired" => Failure::Conflict(said),
        "invalid_origPartnerTxnUid" => Failure::NotFound(said),
        // general_error, internal_error, qr_unknown, callback_error, and words of tomorrow.
        _ => Failure::Uncertain(said),
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    expires_in: Box<RawValue>,
    #[serde(default)]
    status: Option<String>,
}

/// The token and how long it lives; the lifetime comes as text.
pub(super) fn read_token(http: u16, body: &[u8]) -> Result<(String, Duration), Failure> {
    if http != 200 {
        return Err(check_answer(http, body).err().unwrap_or_else(|| Failure::Uncertain(format!("HTTP {http} for a token"))));
    }
    let unreadable = || Failure::Uncertain("the token answer is unreadable".to_owned());
    let answer: TokenAnswer = serde_json::from_slice(body).map_err(|_| unreadable())?;
    if answer.status.as_deref().is_some_and(|status| status != "approved") {
        return Err(Failure::Declined(decline("credentials_refused", "the app is not approved")));
    }
    let seconds: u64 = answer.expires_in.get().trim_matches('"').parse().map_err(|_| unreadable())?;
    // A day at most, so that a nonsensical lifetime cannot overflow the clock.
    if answer.access_token.is_empty() { Err(unreadable()) } else { Ok((answer.access_token, Duration::from_secs(seconds.min(86_400)))) }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct QrAnswer {
    partner_txn_uid: String,
    qr_code: String,
}

pub(super) fn read_qr(body: &[u8], uid: &str) -> Result<String, Failure> {
    match serde_json::from_slice::<QrAnswer>(body) {
        Ok(answer) if answer.partner_txn_uid == uid => Ok(answer.qr_code),
        Ok(_) => Err(Failure::Uncertain("the answer is about another request".to_owned())),
        Err(_) => Err(Failure::Uncertain("the answer holds no QR".to_owned())),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InquiryAnswer<'a> {
    txn_status: String,
    #[serde(default)]
    txn_no: Option<String>,
    #[serde(borrow, default)]
    txn_amount: Option<&'a RawValue>,
    /// Further payments on the code; what each of them is, an inquiry with its number tells.
    #[serde(default)]
    additional_txn_no: Option<Vec<String>>,
    #[serde(default)]
    txn_currency_code: Option<String>,
    #[serde(default)]
    reference1: Option<String>,
}

/// What the books show, and the numbers of further payments on the code. They tell no time of payment: the end of the code's life, or
/// now, whichever came first, stands for it, so that the day is never later than the day of payment allows.
pub(super) fn read_view(body: &[u8], key: &AttemptKey, now: DateTime<Utc>) -> Result<(AttemptView, Vec<String>), Failure> {
    let unreadable = |problem: String| Failure::Uncertain(format!("the inquiry answer is unreadable: {problem}"));
    let answer: InquiryAnswer<'_> = serde_json::from_slice(body).map_err(|e| unreadable(format!("at column {}", e.column())))?;
    if answer.reference1.as_deref().is_some_and(|reference| reference != key.reference) {
        return Err(unreadable("it is about another reference".to_owned()));
    }
    let seen = |refunded: bool| {
        let currency = answer.txn_currency_code.as_deref().filter(|code| !code.is_empty()).unwrap_or("THB");
        let currency: Currency = currency.parse().map_err(|_| unreadable("the currency".to_owned()))?;
        let amount: Money = match answer.txn_amount {
            Some(raw) => read_major(raw, currency).map_err(unreadable)?,
            None => return Err(unreadable("a payment without an amount".to_owned())),
        };
        let transaction_id =
            answer.txn_no.clone().filter(|n| !n.is_empty()).ok_or_else(|| unreadable("a payment without a number".to_owned()))?;
        let paid_at = now.min(key.started_at + CODE_LIVES).max(key.started_at);
        let refunded = if refunded { amount.amount } else { 0 };
        Ok(vec![PaymentSeen { transaction_id, amount, paid_at, refunded, dispute: None }])
    };
    let (status, payments) = match answer.txn_status.as_str() {
        // The text of the QR is given out once.
        "REQUESTED" => (AttemptStatus::Pending, vec![]),
        "PAID" => (AttemptStatus::Paid, seen(false)?),
        "VOIDED" => (AttemptStatus::Paid, seen(true)?),
        "CANCELLED" => (AttemptStatus::Canceled, vec![]),
        "EXPIRED" => (AttemptStatus::Expired, vec![]),
        "NOT_FOUND" => (AttemptStatus::NotFound, vec![]),
        other => (AttemptStatus::Unrecognized(shortened(other)), vec![]),
    };
    let further = answer.additional_txn_no.unwrap_or_default().into_iter().filter(|number| !number.is_empty());
    let further = further.filter(|number| payments.iter().all(|seen| seen.transaction_id != *number)).collect();
    Ok((AttemptView { provider_id: Some(uid_of(&key.reference).to_owned()), status, payments }, further))
}

/// The payment of this number, out of the answer to an inquiry that named it.
pub(super) fn read_payment(body: &[u8], key: &AttemptKey, now: DateTime<Utc>, number: &str) -> Result<PaymentSeen, Failure> {
    let (view, _) = read_view(body, key, now)?;
    let seen = view.payments.into_iter().find(|seen| seen.transaction_id == number);
    seen.ok_or_else(|| Failure::Uncertain("the inquiry answer is about another payment".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::ids::{AttemptId, Ulid};

    fn key() -> AttemptKey {
        let started_at = "2026-01-01T16:55:00Z".parse().unwrap();
        let reference = "0123456789ABCDEFGHJK".to_owned();
        AttemptKey { attempt_id: AttemptId(Ulid(1)), reference, provider_id: None, amount: Money::thb(100_50), started_at }
    }

    fn view(fields: &str) -> Result<AttemptView, Failure> {
        let body = format!(r#"{{"statusCode":"00",{fields}}}"#);
        read_view(body.as_bytes(), &key(), "2026-01-02T09:00:00Z".parse().unwrap()).map(|(view, _)| view)
    }

    #[test]
    fn the_name_of_a_request_is_short_and_the_same_every_time() {
        assert_eq!(uid_of("0123456789ABCDEFGHJK"), "56789ABCDEFGHJK");
        assert_eq!(uid_of("SHORT"), "SHORT");
    }

    #[test]
    fn every_answer_has_its_class() {
        let business = |code: &str| check_answer(200, format!(r#"{{"statusCode":"10","errorCode":"{code}","errorDesc":"x"}}"#).as_bytes());
        assert!(check_answer(200, br#"{"statusCode":"00","errorCode":null,"errorDesc":null}"#).is_ok());
        assert!(matches!(business("duplicate_request"), Err(Failure::Conflict(_))));
        assert!(matches!(business("qr_paid"), Err(Failure::Conflict(_))));
        assert!(matches!(business("invalid_origPartnerTxnUid"), Err(Failure::NotFound(_))));
        assert!(matches!(business("invalid_txn_amount"), Err(Failure::Declined(_))));
        assert!(matches!(business("settlement_error"), Err(Failure::Declined(_))));
        for code in ["general_error", "internal_error", "", "of_tomorrow"] {
            assert!(matches!(business(code), Err(Failure::Uncertain(_))), "{code}");
        }
        let gateway = |http, message: &str| check_answer(http, format!(r#"{{"code":"openapi_error","message":"{message}"}}"#).as_bytes());
        assert!(matches!(gateway(401, "token expired"), Err(Failure::Unauthorized(_))));
        assert!(matches!(gateway(403, "denied"), Err(Failure::Declined(_))));
        assert!(matches!(gateway(429, ""), Err(Failure::NotAttempted(_))));
        assert!(matches!(gateway(500, "Quota exceeded"), Err(Failure::NotAttempted(_))));
        assert!(matches!(gateway(400, "bad"), Err(Failure::Declined(_))));
        for http in [200, 302, 500, 504] {
            assert!(matches!(gateway(http, "x"), Err(Failure::Uncertain(_))), "{http}");
        }
        assert!(matches!(check_answer(200, b""), Err(Failure::Uncertain(_))));
    }

    #[test]
    fn a_payment_of_nothing_or_less_is_none() {
        for bad in ["-100.50", "\"-0.01\"", "0"] {
            let fields = format!(r#""txnStatus":"PAID","txnNo":"T1","txnAmount":{bad}"#);
            assert!(matches!(view(&fields), Err(Failure::Uncertain(_))), "{bad} was accepted");
        }
    }

    #[test]
    fn a_lifetime_in_text_or_number_is_read_and_an_app_that_is_not_approved_refused() {
        let token = |rest: &str| read_token(200, format!(r#"{{"access_token":"t"{rest}}}"#).as_bytes());
        for rest in [r#","expires_in":"1799","status":"approved","developer.email":"x""#, r#","expires_in":1799"#] {
            assert_eq!(token(rest).unwrap().1, Duration::from_secs(1799));
        }
        assert!(matches!(token(r#","expires_in":"1799","status":"revoked""#), Err(Failure::Declined(_))));
        for rest in ["", r#","expires_in":"soon""#] {
            assert!(matches!(token(rest), Err(Failure::Uncertain(_))), "{rest}");
        }
    }

    #[test]
    fn amounts_are_read_by_their_digits_and_the_day_of_payment_is_that_of_the_code() {
        for wire in ["100.5", "\"100.50\"", "100.50"] {
            let seen = view(&format!(r#""txnStatus":"PAID","txnNo":"T1","txnAmount":{wire},"txnCurrencyCode":"THB""#)).unwrap();
            assert_eq!(seen.payments[0].amount, Money::thb(100_50));
            assert_eq!(seen.payments[0].paid_at.to_rfc3339(), "2026-01-01T17:05:00+00:00");
        }
        for bad in ["1e2", "\"1,000.00\"", "0.001", "{}"] {
            assert!(matches!(view(&format!(r#""txnStatus":"PAID","txnNo":"T1","txnAmount":{bad}"#)), Err(Failure::Uncertain(_))), "{bad}");
        }
    }

    #[test]
    fn every_status_has_its_meaning_and_an_unknown_one_stays_open() {
        let status = |word: &str| view(&format!(r#""txnStatus":"{word}","txnNo":"T1","txnAmount":"1.00""#)).unwrap().status;
        assert_eq!(status("REQUESTED"), AttemptStatus::Pending);
        assert_eq!(status("CANCELLED"), AttemptStatus::Canceled);
        assert_eq!(status("EXPIRED"), AttemptStatus::Expired);
        assert_eq!(status("NOT_FOUND"), AttemptStatus::NotFound);
        assert_eq!(status("PENDING_REVIEW"), AttemptStatus::Unrecognized("PENDING_REVIEW".to_owned()));
        let voided = view(r#""txnStatus":"VOIDED","txnNo":"T1","txnAmount":"1.00""#).unwrap();
        assert!(voided.payments[0].is_reversed());
        assert!(view(r#""txnStatus":"PAID","txnNo":"T1","txnAmount":"1.00","reference1":"OTHER""#).is_err());
    }

    #[test]
    fn further_payments_on_a_code_are_named_once_and_each_answer_must_be_about_its_own() {
        let body = |number: &str| {
            format!(r#"{{"statusCode":"00","txnStatus":"PAID","txnNo":"{number}","txnAmount":"1.00","additionalTxnNo":["T1","T2",""]}}"#)
        };
        let now = "2026-01-02T09:00:00Z".parse().unwrap();
        let (view, further) = read_view(body("T1").as_bytes(), &key(), now).unwrap();
        assert_eq!((view.payments.len(), further), (1, vec!["T2".to_owned()]));
        assert_eq!(read_payment(body("T2").as_bytes(), &key(), now, "T2").unwrap().amount, Money::thb(1_00));
        assert!(matches!(read_payment(body("T1").as_bytes(), &key(), now, "T2"), Err(Failure::Uncertain(_))));
    }
}
