//! SCB's wire format, its error classes, and their meaning in our words.

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::{
    money::{Currency, Money},
    provider::{AttemptKey, AttemptStatus, PaymentSeen, RefundRequest, RefundStatus, void_reference},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::ScbConfig;
use crate::{
    amount::read_major,
    bangkok::{bangkok_text, read_bangkok},
    failure::{Failure, decline},
};

/// A customer scanned our tag 30.
pub(super) const EVENT_BILL_PAYMENT: &str = "00300100";

#[derive(Deserialize)]
struct Envelope<'a> {
    status: Status,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Status {
    code: i64,
    #[serde(default)]
    description: Option<String>,
}

/// The `data` of a success, or what the answer means instead.
pub(super) fn read_answer(http: u16, body: &[u8]) -> Result<String, Failure> {
    let Ok(Envelope { status: Status { code, description }, data }) = serde_json::from_slice(body) else {
        let said = format!("HTTP {http} with an unreadable body");
        return Err(match http {
            401 => Failure::Unauthorized(said),
            429 => Failure::NotAttempted(said),
            _ => Failure::Uncertain(said),
        });
    };
    let description: String = description.unwrap_or_default().chars().take(120).collect();
    let said = format!("HTTP {http}, code {code}: {description}");
    match (http, code) {
        (200..=299, 1000) => Ok(data.map_or("null", RawValue::get).to_owned()),
        (403, _) | (_, 9500 | 9503) => Err(Failure::Declined(decline("credentials_refused", &said))),
        (401, _) => Err(Failure::Unauthorized(said)),
        (429, _) | (_, 8888) => Err(Failure::NotAttempted(said)),
        (404, 1104) => Err(Failure::NotFound(said)),
        (_, 1111) => Err(Failure::Conflict(said)),
        (501, 4101) => Err(Failure::Declined(decline("not_supported", &said))),
        // 8101/8102 are troubles behind the bank's door; with 409 the bank itself advises to ask again later.
        (408 | 409, _) | (_, 1000 | 8101 | 8102) => Err(Failure::Uncertain(said)),
        (400..=499, _) => Err(Failure::Declined(decline("invalid_request", &said))),
        _ => Err(Failure::Uncertain(said)),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TokenRequest<'a> {
    pub(super) application_key: &'a str,
    pub(super) application_secret: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenData {
    access_token: String,
    expires_in: u64,
}

/// The token and how long it lives.
pub(super) fn read_token(data: &str) -> Result<(String, Duration), Failure> {
    match serde_json::from_str::<TokenData>(data) {
        // A day at most, so that a nonsensical lifetime cannot overflow the clock.
        Ok(token) if !token.access_token.is_empty() => Ok((token.access_token, Duration::from_secs(token.expires_in.min(86_400)))),
        Ok(_) | Err(_) => Err(Failure::Uncertain("the token answer is unreadable".to_owned())),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CreateBody<'a> {
    qr_type: &'static str,
    pp_type: &'static str,
    pp_id: &'a str,
    amount: String,
    ref1: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    ref3: &'a str,
}

pub(super) fn create_body<'a>(config: &'a ScbConfig, key: &'a AttemptKey) -> CreateBody<'a> {
    CreateBody {
        qr_type: "PP",
        pp_type: "BILLERID",
        pp_id: &config.biller_id,
        amount: key.amount.to_major(),
        ref1: &key.reference,
        ref3: &config.reference3_prefix,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct QrData {
    qr_raw_data: String,
}

pub(super) fn read_qr(data: &str) -> Result<String, Failure> {
    serde_json::from_str::<QrData>(data).map(|qr| qr.qr_raw_data).map_err(|_| Failure::Uncertain("the answer holds no QR".to_owned()))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct VoidBody<'a> {
    channel_date_time: String,
    original_payment_information_and_reversal: Original<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the bank's own names")]
struct Original<'a> {
    original_message_identification: &'a str,
    original_creation_date_time: String,
    original_instruction_identification: &'a str,
    original_end_to_end_identification: &'a str,
    original_instructed_amount: Instructed,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Instructed {
    transaction_amount: String,
    transaction_currency: &'static str,
}

pub(super) fn void_body(request: &RefundRequest, now: DateTime<Utc>) -> VoidBody<'_> {
    VoidBody {
        channel_date_time: bangkok_text(now),
        original_payment_information_and_reversal: Original {
            original_message_identification: &request.transaction_id,
            original_creation_date_time: bangkok_text(request.paid_at),
            original_instruction_identification: &request.transaction_id,
            original_end_to_end_identification: &request.reference,
            original_instructed_amount: Instructed { transaction_amount: request.amount.to_major(), transaction_currency: "THB" },
        },
    }
}

/// A void has no name of its own at the bank.
pub(super) fn voided(transaction_id: &str) -> RefundStatus {
    RefundStatus::Succeeded { provider_reference: void_reference(transaction_id) }
}

/// The inquiry knows no status, only payments: one in full means paid. Without it what is owed is not found, whatever else came on
/// the code; that the bank would say more about it later is not to be expected.
pub(super) fn status_of(payments: &[PaymentSeen], owed: Money) -> AttemptStatus {
    if payments.iter().any(|p| p.amount == owed) { AttemptStatus::Paid } else { AttemptStatus::NotFound }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    transaction_id: String,
    // The bank's own spelling.
    #[serde(rename = "transactionDateandTime")]
    transaction_date_and_time: String,
    #[serde(borrow)]
    amount: &'a RawValue,
    #[serde(default)]
    currency_code: Option<String>,
    #[serde(default)]
    reverse_flag: Option<String>,
    #[serde(default)]
    payee_proxy_id: Option<String>,
    #[serde(default)]
    bill_payment_ref1: Option<String>,
}

/// The payments on our reference. One unreadable record spoils the answer: to leave it out would hide money.
pub(super) fn read_payments(data: &str, biller_id: &str, reference: &str) -> Result<Vec<PaymentSeen>, Failure> {
    let unreadable = |problem: String| Failure::Uncertain(format!("the inquiry answer is unreadable: {problem}"));
    let records: Option<Vec<Record<'_>>> = serde_json::from_str(data).map_err(|e| unreadable(e.to_string()))?;
    let mut seen = Vec::new();
    for record in records.unwrap_or_default() {
        let is_ours = record.bill_payment_ref1.as_deref().is_none_or(|r| r == reference)
            && record.payee_proxy_id.as_deref().is_none_or(|b| b == biller_id);
        if !is_ours {
            tracing::error!(provider = "scb", reference, "the inquiry shows a payment of another reference or biller");
            continue;
        }
        if record.transaction_id.is_empty() {
            return Err(unreadable("a payment without a transaction id".to_owned()));
        }
        let currency = read_currency(record.currency_code.as_deref()).map_err(unreadable)?;
        let amount = read_major(record.amount, currency).map_err(unreadable)?;
        seen.push(PaymentSeen {
            transaction_id: record.transaction_id,
            amount,
            paid_at: read_bangkok(&record.transaction_date_and_time).map_err(unreadable)?,
            refunded: if record.reverse_flag.as_deref() == Some("R") { amount.amount } else { 0 },
            dispute: None,
        });
    }
    Ok(seen)
}

/// ISO 4217 numbers of the currencies that cross-border PromptPay can bring; absent means baht.
fn read_currency(number: Option<&str>) -> Result<Currency, String> {
    let code = match number {
        None | Some("" | "764") => return Ok(Currency::THB),
        Some("156") => "CNY",
        Some("344") => "HKD",
        Some("392") => "JPY",
        Some("458") => "MYR",
        Some("702") => "SGD",
        Some("840") => "USD",
        Some(other) => other,
    };
    code.parse().map_err(|e: domain::money::MoneyError| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bangkok::bangkok_date;

    fn payments(amount: &str) -> Result<Vec<PaymentSeen>, Failure> {
        let data = format!(
            r#"[{{"transactionId":"T1","transactionDateandTime":"2026-01-01T00:30:00.000+07:00","amount":{amount},
                "currencyCode":"764","payeeProxyId":"123456789012345","billPaymentRef1":"REF1","tepaCode":null}}]"#
        );
        read_payments(&data, "123456789012345", "REF1")
    }

    #[test]
    fn amounts_are_read_by_their_digits() {
        for (wire, satang) in
            [("100.5", 100_50), ("\"100.50\"", 100_50), ("100.50", 100_50), ("\"0.01\"", 1), ("90071992547409.93", 90_071_992_547_409_93)]
        {
            assert_eq!(payments(wire).unwrap()[0].amount, Money::thb(satang), "{wire}");
        }
        for bad in ["1e2", "\"1,000.00\"", "\"\"", "null", "0.001", "{}"] {
            assert!(matches!(payments(bad), Err(Failure::Uncertain(_))), "{bad} was accepted");
        }
    }

    #[test]
    fn money_of_another_amount_does_not_keep_an_attempt_open() {
        let seen = payments("50").unwrap();
        assert_eq!(status_of(&seen, Money::thb(100_00)), AttemptStatus::NotFound);
        assert_eq!(status_of(&seen, Money::thb(50_00)), AttemptStatus::Paid);
        assert_eq!(status_of(&[], Money::thb(50_00)), AttemptStatus::NotFound);
    }

    #[test]
    fn a_payment_of_nothing_or_less_is_none() {
        for bad in ["-100.50", "\"-0.01\"", "0", "\"0.00\""] {
            assert!(matches!(payments(bad), Err(Failure::Uncertain(_))), "{bad} was accepted");
        }
    }

    #[test]
    fn a_payment_in_a_year_that_no_clock_shows_spoils_the_answer() {
        for time in ["+262142-12-31T23:59:59", "-262143-01-01T00:00:00", "0001-01-01T00:30:00+07:00"] {
            let data = format!(r#"[{{"transactionId":"T","transactionDateandTime":"{time}","amount":1}}]"#);
            assert!(matches!(read_payments(&data, "1", "REF1"), Err(Failure::Uncertain(_))), "{time} was accepted");
        }
    }

    #[test]
    fn a_payment_after_midnight_in_bangkok_keeps_its_instant() {
        let paid_at = payments("1").unwrap()[0].paid_at;
        assert_eq!(paid_at.to_rfc3339(), "2025-12-31T17:30:00+00:00");
        assert_eq!(bangkok_date(paid_at).to_string(), "2026-01-01");
        assert_eq!(read_bangkok("2026-01-01T00:30:00").unwrap(), paid_at);
    }

    #[test]
    fn payments_of_another_reference_or_biller_are_left_out() {
        let data = |biller: &str, reference: &str| {
            format!(
                r#"[{{"transactionId":"T","transactionDateandTime":"2026-01-01T00:30:00+07:00","amount":1,
                    "payeeProxyId":"{biller}","billPaymentRef1":"{reference}"}}]"#
            )
        };
        assert_eq!(read_payments(&data("1", "REF1"), "1", "REF1").unwrap().len(), 1);
        assert!(read_payments(&data("2", "REF1"), "1", "REF1").unwrap().is_empty());
        assert!(read_payments(&data("1", "REF2"), "1", "REF1").unwrap().is_empty());
        assert!(read_payments("null", "1", "REF1").unwrap().is_empty());
    }

    #[test]
    fn every_answer_has_its_class() {
        let answer = |http, code| read_answer(http, format!(r#"{{"status":{{"code":{code}}},"data":null}}"#).as_bytes());
        assert!(answer(201, 1000).is_ok());
        assert!(matches!(answer(500, 1000), Err(Failure::Uncertain(_))));
        assert!(matches!(answer(200, 9900), Err(Failure::Uncertain(_))));
        assert!(matches!(answer(400, 8101), Err(Failure::Uncertain(_))));
        assert!(matches!(answer(504, 9900), Err(Failure::Uncertain(_))));
        assert!(matches!(answer(401, 9300), Err(Failure::Unauthorized(_))));
        assert!(matches!(answer(401, 9500), Err(Failure::Declined(_))));
        assert!(matches!(answer(403, 9503), Err(Failure::Declined(_))));
        assert!(matches!(answer(429, 8888), Err(Failure::NotAttempted(_))));
        assert!(matches!(answer(404, 1104), Err(Failure::NotFound(_))));
        assert!(matches!(answer(400, 1111), Err(Failure::Conflict(_))));
        assert!(matches!(answer(400, 1102), Err(Failure::Declined(_))));
        assert!(matches!(answer(501, 4101), Err(Failure::Declined(_))));
        for body in ["", "<html>", r#"{"status":{"code":1000"#] {
            assert!(matches!(read_answer(200, body.as_bytes()), Err(Failure::Uncertain(_))), "{body}");
        }
    }
}
