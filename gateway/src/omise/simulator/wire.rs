//! Omise's side of the wire format. Written apart from the connector's, so that a shared mistake cannot hide.

use axum::http::StatusCode;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::simulator::{
    Reply,
    charges::{Charge, Dispute, SentBack, Stand},
    ledger::Refusal,
};

pub(super) fn error(status: StatusCode, code: &str, message: &str) -> Reply {
    let location = format!("https://www.omise.co/api-errors#{}", code.replace('_', "-"));
    Reply::json(status, &json!({"object": "error", "location": location, "code": code, "message": message}))
}

pub(super) fn bad(code: &str, message: &str) -> Reply {
    error(StatusCode::BAD_REQUEST, code, message)
}

pub(super) fn missing() -> Reply {
    error(StatusCode::NOT_FOUND, "not_found", "the object was not found")
}

pub(super) fn refused(refusal: Refusal, code: &str) -> Reply {
    match refusal {
        Refusal::Unknown => missing(),
        Refusal::Duplicate | Refusal::Closed(_) => bad(code, "the charge is not in a state for this"),
        Refusal::Rule(rule) => bad(code, rule),
        Refusal::Disk(problem) => error(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", &problem.to_string()),
    }
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

pub(super) fn status(charge: &Charge) -> &'static str {
    match &charge.stand {
        Stand::AwaitsPayer | Stand::Held => "pending",
        Stand::Paid => "successful",
        Stand::Failed(_) => "failed",
        Stand::Canceled | Stand::Expired if charge.manual => "reversed",
        Stand::Canceled | Stand::Expired => "expired",
    }
}

/// 3.65 % of what came, rounded down.
fn fee(charge: &Charge) -> i64 {
    charge.captured.saturating_mul(365) / 10_000
}

/// `home` is the address of this simulator.
pub(super) fn charge(charge: &Charge, refundable: bool, home: &str) -> Value {
    let (held, paid) = (charge.stand == Stand::Held, charge.stand == Stand::Paid);
    let waits = charge.stand == Stand::AwaitsPayer;
    let failure = if let Stand::Failed(code) = &charge.stand { json!(code) } else { Value::Null };
    let fee = fee(charge);
    let expires_at = charge.created_at + TimeDelta::days(if charge.card { 7 } else { 1 });
    let expired_at = match charge.stand {
        Stand::Expired => Some(expires_at),
        // By a call, before its time.
        Stand::Canceled => Some(charge.created_at),
        Stand::AwaitsPayer | Stand::Held | Stand::Paid | Stand::Failed(_) => None,
    };
    let source = json!({
        "object": "source", "type": "promptpay", "flow": "offline", "amount": charge.amount,
        "scannable_code": {"object": "barcode", "type": "qr", "image": {
            "object": "document", "filename": "qrcode.svg", "download_uri": format!("{home}/charges/{}/documents/qrcode.svg", charge.id)}},
    });
    json!({
        "object": "charge", "id": charge.id, "livemode": false, "location": format!("/charges/{}", charge.id),
        "amount": charge.amount, "authorized_amount": if held || paid { charge.amount } else { 0 }, "captured_amount": charge.captured,
        "refunded_amount": charge.refunded(), "fee": fee, "fee_vat": fee * 7 / 100, "net": charge.captured - fee - fee * 7 / 100,
        "funding_amount": charge.captured, "currency": charge.paid_currency.unwrap_or(charge.currency).code(), "status": status(charge),
        "capture": !charge.manual, "authorized": held || paid, "capturable": held, "paid": paid, "reversed": status(charge) == "reversed",
        "reversible": held, "voided": false, "expired": charge.stand == Stand::Expired, "disputable": paid, "refundable": paid && refundable,
        "failure_code": failure, "failure_message": if failure.is_null() { Value::Null } else { json!("the payer's bank refused") },
        "authorize_uri": if waits && charge.card { json!(format!("{home}/payments/{}/authorize", charge.id)) } else { Value::Null },
        "paid_at": charge.paid_at.map(time), "created_at": time(charge.created_at),
        "expires_at": time(expires_at), "expired_at": expired_at.map(time),
        "transaction": if paid { json!(charge.id.replacen("chrg", "trxn", 1)) } else { Value::Null },
        "card": if charge.card { json!({"object": "card", "last_digits": "4242", "name": "SIMULATED PAYER"}) } else { Value::Null },
        "source": if charge.card { Value::Null } else { source },
        "refunds": {"object": "list", "data": charge.refunds.iter().map(|r| refund(charge, r)).collect::<Vec<_>>()},
        "metadata": charge.shown_metadata(), "dispute": if charge.dispute.is_some() { dispute(charge) } else { Value::Null },
    })
}

pub(super) fn refund(charge: &Charge, refund: &SentBack) -> Value {
    let status = match refund.state.as_str() {
        "succeeded" => "closed",
        other => other,
    };
    json!({
        "object": "refund", "id": refund.id, "amount": refund.amount, "currency": charge.currency.code(), "charge": charge.id,
        "transaction": refund.id.replacen("rfnd", "trxn", 1), "status": status, "voided": false, "funding_amount": refund.amount,
        "metadata": refund.metadata, "created_at": time(refund.created_at),
    })
}

pub(super) fn dispute(charge: &Charge) -> Value {
    let status = match charge.dispute {
        Some(Dispute::Won) => "won",
        Some(Dispute::Lost) => "lost",
        Some(Dispute::Open) | None => "open",
    };
    json!({
        "object": "dispute", "id": charge.id.replacen("chrg", "dspt", 1), "amount": charge.captured, "currency": charge.currency.code(),
        "charge": charge.id, "status": status, "reason_code": "goods_or_services_not_provided",
        "reason_message": "Services not provided or merchandise not received",
    })
}

pub(super) fn event(id: &str, key: &str, at: DateTime<Utc>, data: &Value) -> String {
    json!({"object": "event", "id": id, "livemode": false, "location": format!("/events/{id}"), "webhook_deliveries": [], "key": key,
           "created_at": time(at), "data": data})
    .to_string()
}
