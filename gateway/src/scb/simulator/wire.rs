//! The bank's side of the wire format. Written apart from the connector's, so that a shared mistake cannot hide.

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::{
    bangkok::bangkok_text,
    simulator::{
        Reply,
        ledger::{Code, Payment, Refusal},
    },
};

#[derive(Serialize)]
struct Envelope<T> {
    status: Status,
    data: Option<T>,
}

#[derive(Serialize)]
struct Status {
    code: u16,
    description: String,
}

pub(super) fn success(data: impl Serialize) -> Reply {
    envelope(StatusCode::OK, 1000, "Success", Some(data))
}

pub(super) fn error(status: StatusCode, code: u16, description: &str) -> Reply {
    envelope(status, code, description, None::<()>)
}

pub(super) fn bad_request(code: u16, description: &str) -> Reply {
    error(StatusCode::BAD_REQUEST, code, description)
}

pub(super) fn not_found() -> Reply {
    error(StatusCode::NOT_FOUND, 1104, "Requested entity record does not exist")
}

fn envelope(status: StatusCode, code: u16, description: &str, data: Option<impl Serialize>) -> Reply {
    Reply::json(status, &Envelope { status: Status { code, description: description.to_owned() }, data })
}

pub(super) fn refused(refusal: Refusal) -> Reply {
    match refusal {
        Refusal::Unknown => not_found(),
        Refusal::Duplicate => bad_request(1111, "Duplicate of existing data"),
        Refusal::Closed(_) => bad_request(1102, "closed"),
        Refusal::Rule(rule) => bad_request(1102, rule),
        Refusal::Disk(problem) => error(StatusCode::INTERNAL_SERVER_ERROR, 8901, &problem.to_string()),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TokenBody {
    pub(super) application_key: String,
    pub(super) application_secret: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TokenAnswer {
    pub(super) access_token: String,
    pub(super) token_type: &'static str,
    pub(super) expires_in: i64,
    pub(super) expires_at: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CreateBody {
    pub(super) qr_type: String,
    pub(super) pp_type: String,
    pub(super) pp_id: String,
    pub(super) amount: String,
    pub(super) ref1: String,
    pub(super) ref2: Option<String>,
    pub(super) ref3: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InquiryQuery {
    pub(super) event_code: String,
    pub(super) transaction_date: String,
    pub(super) biller_id: String,
    pub(super) reference1: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct VoidBody {
    pub(super) original_payment_information_and_reversal: VoidOriginal,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the bank's own names")]
pub(super) struct VoidOriginal {
    pub(super) original_message_identification: String,
    pub(super) original_end_to_end_identification: String,
    pub(super) original_instructed_amount: VoidAmount,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct VoidAmount {
    pub(super) transaction_amount: String,
    pub(super) transaction_currency: String,
}

/// One payment, as in the inquiry and, without the flag, in the call-back.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the bank's own names")]
pub(super) struct Transaction<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    event_code: Option<&'static str>,
    transaction_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reverse_flag: Option<&'static str>,
    payee_proxy_id: &'a str,
    payee_proxy_type: &'static str,
    payee_account_number: &'static str,
    payee_name: &'static str,
    payer_proxy_id: &'static str,
    payer_proxy_type: &'static str,
    payer_account_number: &'static str,
    payer_name: &'static str,
    sending_bank_code: &'static str,
    receiving_bank_code: &'static str,
    amount: Box<RawValue>,
    transaction_id: &'a str,
    #[serde(rename = "transactionDateandTime")]
    transaction_date_and_time: String,
    bill_payment_ref1: &'a str,
    bill_payment_ref2: &'a str,
    bill_payment_ref3: &'a str,
    currency_code: &'static str,
    channel_code: &'static str,
}

/// ISO 4217 numbers of what a payer can bring.
fn currency_number(code: &str) -> &'static str {
    match code {
        "USD" => "840",
        "CNY" => "156",
        "SGD" => "702",
        _ => "764",
    }
}

/// `reversed` is `None` in a call-back. `as_number` picks between the two forms in which amounts are seen.
pub(super) fn transaction<'a>(
    biller_id: &'a str,
    payment: &'a Payment,
    code: Option<&'a Code>,
    reversed: Option<bool>,
    as_number: bool,
) -> serde_json::Result<Transaction<'a>> {
    let text = payment.money().to_major();
    Ok(Transaction {
        event_code: reversed.map(|_| "00300100"),
        transaction_type: "Domestic Transfers",
        reverse_flag: reversed.map(|r| if r { "R" } else { "" }),
        payee_proxy_id: biller_id,
        payee_proxy_type: "BILLERID",
        payee_account_number: "0987654321",
        payee_name: "SIMULATED MERCHANT",
        payer_proxy_id: "0000000000",
        payer_proxy_type: "MSISDN",
        payer_account_number: "0123456789",
        payer_name: "SIMULATED PAYER",
        sending_bank_code: "014",
        receiving_bank_code: "014",
        amount: if as_number { RawValue::from_string(text)? } else { to_raw_value(&text)? },
        transaction_id: &payment.transaction_id,
        transaction_date_and_time: bangkok_text(payment.paid_at),
        bill_payment_ref1: &payment.name,
        bill_payment_ref2: code.and_then(|c| c.reference2.as_deref()).unwrap_or_default(),
        bill_payment_ref3: code.and_then(|c| c.reference3.as_deref()).unwrap_or_default(),
        currency_code: currency_number(payment.currency.code()),
        channel_code: "PMH",
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Acknowledgement {
    res_code: String,
}

/// The merchant has taken note.
pub(super) fn is_acknowledged(body: &[u8]) -> bool {
    serde_json::from_slice::<Acknowledgement>(body).is_ok_and(|a| a.res_code == "00")
}
