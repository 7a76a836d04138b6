//! Stripe's side of the wire format. Written apart from the connector's, so that a shared mistake cannot hide.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::{
    promptpay::{QrSpec, Target, is_reference},
    simulator::{
        Reply,
        charges::{Charge, Dispute, SentBack, Stand},
        ledger::Refusal,
    },
};
use domain::money::Money;

/// Whom a code pays.
const BILLER: &str = "099400016550100";

/// How long a hold lasts.
pub(super) const HOLD_SECONDS: i64 = 7 * 86_400;

pub(super) fn error(status: StatusCode, kind: &str, code: &str, message: &str) -> Reply {
    Reply::json(status, &json!({"error": {"type": kind, "code": code, "message": message}}))
}

pub(super) fn invalid(code: &str, message: &str) -> Reply {
    error(StatusCode::BAD_REQUEST, "invalid_request_error", code, message)
}

pub(super) fn missing() -> Reply {
    error(StatusCode::NOT_FOUND, "invalid_request_error", "resource_missing", "No such object")
}

pub(super) fn refused(refusal: Refusal, conflict: &str) -> Reply {
    match refusal {
        Refusal::Unknown => missing(),
        Refusal::Duplicate | Refusal::Closed(_) => invalid(conflict, "The object is not in a state for this"),
        Refusal::Rule("it is paid") => invalid(conflict, "It is paid"),
        Refusal::Rule(rule) => invalid("amount_too_large", rule),
        Refusal::Disk(problem) => error(StatusCode::INTERNAL_SERVER_ERROR, "api_error", "", &problem.to_string()),
    }
}

/// A refused card: 402 with the intent inside.
pub(super) fn declined(charge: &Charge) -> Reply {
    let mut problem = last_error(charge);
    problem["payment_intent"] = intent(charge);
    Reply::json(StatusCode::PAYMENT_REQUIRED, &json!({"error": problem}))
}

/// The code of a failure, `code/decline_code`.
fn last_error(charge: &Charge) -> Value {
    match &charge.stand {
        Stand::Failed(code) => {
            let (code, decline_code) = code.split_once('/').unwrap_or((code, "generic_decline"));
            json!({"type": "card_error", "code": code, "decline_code": decline_code, "message": "Your card was declined."})
        }
        Stand::Expired if !charge.card => {
            json!({"type": "invalid_request_error", "code": "payment_intent_payment_attempt_expired", "message": "The code has expired."})
        }
        Stand::Expired | Stand::AwaitsPayer | Stand::Held | Stand::Paid | Stand::Canceled => Value::Null,
    }
}

pub(super) fn status(charge: &Charge) -> &'static str {
    match charge.stand {
        Stand::AwaitsPayer => "requires_action",
        Stand::Held => "requires_capture",
        Stand::Paid => "succeeded",
        Stand::Failed(_) => "requires_payment_method",
        Stand::Expired if !charge.card => "requires_payment_method",
        Stand::Canceled | Stand::Expired => "canceled",
    }
}

pub(super) fn charge_id(charge: &Charge) -> String {
    charge.id.replacen("pi_", "ch_", 1)
}

pub(super) fn intent(charge: &Charge) -> Value {
    let reason = match charge.stand {
        Stand::Canceled => json!("requested_by_customer"),
        Stand::Expired if charge.card => json!("automatic"),
        Stand::Expired | Stand::AwaitsPayer | Stand::Held | Stand::Paid | Stand::Failed(_) => Value::Null,
    };
    let has_charge = matches!(charge.stand, Stand::Held | Stand::Paid);
    json!({
        "id": charge.id, "object": "payment_intent", "amount": charge.amount, "amount_received": charge.captured,
        "amount_capturable": charge.held, "currency": charge.paid_currency.unwrap_or(charge.currency).code().to_lowercase(),
        "status": status(charge), "cancellation_reason": reason, "capture_method": if charge.manual { "manual" } else { "automatic" },
        "created": charge.created_at.timestamp(), "metadata": charge.shown_metadata(), "livemode": false,
        "next_action": next_action(charge), "last_payment_error": last_error(charge),
        "latest_charge": if has_charge { charge_object(charge) } else { Value::Null },
        "client_secret": format!("{}_secret_sim", charge.id), "payment_method": "pm_of_the_payer",
    })
}

pub(super) fn charge_object(charge: &Charge) -> Value {
    json!({
        "id": charge_id(charge), "object": "charge", "amount": charge.amount, "amount_captured": charge.captured,
        "amount_refunded": charge.refunded(), "captured": charge.captured > 0, "disputed": charge.dispute.is_some(),
        "created": charge.paid_at.unwrap_or(charge.created_at).timestamp(), "payment_intent": charge.id, "metadata": charge.shown_metadata(),
        "payment_method_details": {"card": {"last4": "4242", "capture_before": charge.created_at.timestamp() + HOLD_SECONDS}},
    })
}

fn next_action(charge: &Charge) -> Value {
    if charge.stand != Stand::AwaitsPayer {
        return Value::Null;
    }
    if charge.card {
        let url = format!("https://hooks.stripe.example/3d_secure/{}", charge.id);
        return json!({"type": "redirect_to_url", "redirect_to_url": {"url": url, "return_url": null}});
    }
    let reference1 = Some(charge.reference()).filter(|reference| is_reference(reference)).unwrap_or_else(|| "SIM".to_owned());
    let target = Target::Bill { biller_id: BILLER.to_owned(), reference1, reference2: None };
    let data = QrSpec::new(target, Some(Money::new(charge.amount, charge.currency))).encode().unwrap_or_default();
    json!({"type": "promptpay_display_qr_code", "promptpay_display_qr_code": {
        "data": data, "image_url_png": "https://qr.stripe.example/x.png", "image_url_svg": "https://qr.stripe.example/x.svg",
        "hosted_instructions_url": "https://payments.stripe.example/x",
    }})
}

pub(super) fn refund(charge: &Charge, refund: &SentBack) -> Value {
    json!({
        "id": refund.id, "object": "refund", "amount": refund.amount, "currency": charge.currency.code().to_lowercase(),
        "charge": charge_id(charge), "payment_intent": charge.id, "metadata": refund.metadata, "status": refund.state,
        "failure_reason": if refund.state == "failed" { json!("lost_or_stolen_card") } else { Value::Null },
        "created": refund.created_at.timestamp(),
    })
}

pub(super) fn dispute_id(charge: &Charge) -> String {
    charge.id.replacen("pi_", "dp_", 1)
}

pub(super) fn dispute(charge: &Charge) -> Value {
    let status = match charge.dispute {
        Some(Dispute::Won) => "won",
        Some(Dispute::Lost) => "lost",
        Some(Dispute::Open) | None => "needs_response",
    };
    json!({
        "object": "dispute", "id": dispute_id(charge), "amount": charge.captured, "currency": charge.currency.code().to_lowercase(),
        "charge": charge_id(charge), "payment_intent": charge.id, "status": status, "reason": "fraudulent",
    })
}

pub(super) fn list(data: &[Value], has_more: bool, url: &str) -> Reply {
    Reply::json(StatusCode::OK, &json!({"object": "list", "url": url, "has_more": has_more, "data": data}))
}

pub(super) fn event(id: &str, kind: &str, created: i64, object: &Value) -> String {
    json!({"id": id, "object": "event", "api_version": "2026-10-28.endive", "created": created, "type": kind, "livemode": false,
           "data": {"object": object}})
    .to_string()
}
