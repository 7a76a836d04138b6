//! The bank's side of the wire format. Written apart from the connector's, so that a shared mistake cannot hide.

use axum::http::StatusCode;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use domain::money::Money;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Settings;
use crate::{
    promptpay::{Object, ParsedQr, QrError, QrSpec, Target},
    simulator::{
        Reply,
        ledger::{Code, Payment, Refusal},
    },
};

/// The common fields, and those of the call.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Asked<T> {
    pub(super) partner_txn_uid: String,
    pub(super) partner_id: String,
    pub(super) partner_secret: String,
    pub(super) request_dt: String,
    pub(super) merchant_id: String,
    #[serde(flatten)]
    pub(super) rest: T,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Requested {
    pub(super) qr_type: String,
    pub(super) txn_amount: String,
    pub(super) txn_currency_code: String,
    pub(super) reference1: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct About {
    pub(super) orig_partner_txn_uid: String,
    #[serde(default)]
    pub(super) txn_no: Option<String>,
}

pub(super) fn success<T>(asked: &Asked<T>, rest: Value) -> Reply {
    let mut body = json!({"partnerTxnUid": asked.partner_txn_uid, "partnerId": asked.partner_id, "statusCode": "00", "errorCode": null,
        "errorDesc": null});
    merge(&mut body, rest);
    Reply::json(StatusCode::OK, &body)
}

fn merge(body: &mut Value, rest: Value) {
    if let (Value::Object(body), Value::Object(rest)) = (body, rest) {
        body.extend(rest);
    }
}

/// HTTP 200 all the same.
pub(super) fn business_error(code: &str, text: &str) -> Reply {
    Reply::json(StatusCode::OK, &json!({"partnerTxnUid": "", "statusCode": "10", "errorCode": code, "errorDesc": text}))
}

/// Of the gateway in front of the bank.
pub(super) fn openapi_error(status: StatusCode, message: &str) -> Reply {
    Reply::json(status, &json!({"code": "openapi_error", "message": message}))
}

pub(super) fn unknown_origin() -> Reply {
    business_error("invalid_origPartnerTxnUid", "origPartnerTxnUid does not exist [EMITDNE]")
}

pub(super) fn refused(refusal: Refusal) -> Reply {
    match refusal {
        Refusal::Unknown => unknown_origin(),
        Refusal::Duplicate => business_error("settlement_error", "Already voided [EMSET]"),
        Refusal::Closed(_) => business_error("qr_cancelled", "QR is cancelled [EMQRC]"),
        Refusal::Rule(rule) => business_error("settlement_error", &format!("{rule} [EMSET]")),
        Refusal::Disk(problem) => openapi_error(StatusCode::INTERNAL_SERVER_ERROR, &problem.to_string()),
    }
}

/// What HTTP Basic makes of the two.
pub(super) fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{id}:{secret}")))
}

/// Tag 30 with the bank's own references and tag 31 with its transaction.
pub(super) fn payload(number: usize, code: &Code) -> Result<String, QrError> {
    let reference = format!("KPS{number:012}");
    let target = Target::Bill { biller_id: "010555808077800".to_owned(), reference1: reference.clone(), reference2: None };
    let mut qr = ParsedQr::parse(&QrSpec::new(target, Some(Money::thb(code.amount))).encode()?)?;
    let innovation = format!("0016A00000067701011301030040215{reference}");
    let after_30 = qr.objects.iter().position(|o| o.id == "30").map_or(0, |at| at + 1);
    qr.objects.insert(after_30, Object { id: "31".to_owned(), value: innovation });
    qr.encode()
}

/// Text or number: both forms are seen.
fn amount(money: Money, as_number: bool) -> Value {
    let text = money.to_major();
    if as_number { text.parse().map_or(Value::Null, Value::Number) } else { Value::from(text) }
}

pub(super) fn status(settings: &Settings, state: &str, code: &Code, payments: &[&Payment], as_number: bool) -> Value {
    let money = payments.first().map_or(Money::thb(code.amount), |p| p.money());
    let numbers: Vec<&str> = payments.iter().map(|p| p.transaction_id.as_str()).collect();
    json!({"txnStatus": state, "txnNo": numbers.first(), "loyaltyId": "00199100000", "cardScheme": null,
        "cardNo": null, "approvalCode": null, "additionalTxnNo": numbers.get(1..).unwrap_or_default(), "channel": "PMH", "merchantId": settings.merchant_id, "qrType": "3",
        "txnAmount": amount(money, as_number), "txnCurrencyCode": money.currency.code(), "reference1": code.reference, "reference2": null})
}

fn notice(settings: &Settings, uid: &str, status: &str, error: Option<&str>) -> Value {
    json!({"partnerTxnUid": uid, "partnerId": settings.partner_id, "statusCode": status, "errorCode": error, "errorDesc": error,
        "merchantId": settings.merchant_id, "loyaltyId": "00199100000", "additionalInfo": null})
}

/// Clients see our reference in some call-backs and not in others.
pub(super) fn paid(settings: &Settings, code: &Code, payment: &Payment, with_reference: bool) -> String {
    let mut body = notice(settings, &code.name, "00", None);
    let money = payment.money();
    merge(
        &mut body,
        json!({"txnAmount": amount(money, with_reference), "txnCurrencyCode": money.currency.code(), "txnNo": payment.transaction_id}),
    );
    if with_reference {
        merge(&mut body, json!({"reference1": code.reference}));
    }
    body.to_string()
}

pub(super) fn failed(settings: &Settings, code: &Code) -> String {
    notice(settings, &code.name, "11", Some("payment_cancelled")).to_string()
}

pub(super) fn lie(settings: &Settings, reference: &str, money: Money) -> String {
    let uid: String = reference.chars().rev().take(15).collect::<Vec<_>>().into_iter().rev().collect();
    let mut body = notice(settings, &uid, "00", None);
    merge(
        &mut body,
        json!({"txnAmount": money.to_major(), "txnCurrencyCode": "THB", "txnNo": format!("LIE{uid}"), "reference1": reference}),
    );
    body.to_string()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Acknowledgement {
    status_code: String,
}

/// The merchant has taken note.
pub(super) fn is_acknowledged(body: &[u8]) -> bool {
    serde_json::from_slice::<Acknowledgement>(body).is_ok_and(|a| a.status_code == "00")
}
