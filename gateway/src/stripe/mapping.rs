//! Stripe's objects, its error classes, and their meaning in our words.

use chrono::{DateTime, Utc};
use domain::{
    money::{Currency, Money},
    provider::{AttemptKey, AttemptStatus, AttemptView, NextAction, PaymentSeen, RefundStatus},
};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    failure::{Failure, decline},
    moment::believable,
};

/// An id or token: nothing that could change a path or a form.
pub(super) fn is_id(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[derive(Deserialize)]
pub(super) struct Intent {
    pub(super) id: String,
    amount: i64,
    #[serde(default)]
    amount_received: i64,
    #[serde(default)]
    amount_capturable: i64,
    currency: String,
    status: String,
    #[serde(default)]
    cancellation_reason: Option<String>,
    #[serde(default)]
    next_action: Option<Action>,
    #[serde(default)]
    last_payment_error: Option<Problem>,
    #[serde(default)]
    latest_charge: Option<Charge>,
    #[serde(default)]
    pub(super) metadata: Map<String, Value>,
}

#[derive(Deserialize)]
struct Action {
    #[serde(default)]
    promptpay_display_qr_code: Option<Code>,
    #[serde(default)]
    redirect_to_url: Option<RedirectTo>,
}

#[derive(Deserialize)]
struct Code {
    data: String,
}

#[derive(Deserialize)]
struct RedirectTo {
    url: String,
}

/// The charge, which every call asks to be expanded.
#[derive(Deserialize)]
struct Charge {
    id: String,
    created: i64,
    #[serde(default)]
    amount_refunded: i64,
    #[serde(default)]
    disputed: bool,
    #[serde(default)]
    payment_method_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default)]
    card: Option<CardDetails>,
}

#[derive(Deserialize)]
struct CardDetails {
    #[serde(default)]
    capture_before: Option<i64>,
}

#[derive(Deserialize)]
pub(super) struct Problem {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    decline_code: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    payment_intent: Option<Box<Intent>>,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: Problem,
}

#[derive(Deserialize)]
pub(super) struct List<T> {
    pub(super) data: Vec<T>,
    #[serde(default)]
    pub(super) has_more: bool,
}

#[derive(Deserialize)]
pub(super) struct Dispute {
    pub(super) status: String,
    #[serde(default)]
    pub(super) reason: Option<String>,
}

impl Intent {
    /// The charge that is contested, if one is.
    pub(super) fn disputed_charge(&self) -> Option<&str> {
        self.latest_charge.as_ref().filter(|charge| charge.disputed).map(|charge| charge.id.as_str())
    }
}

#[derive(Deserialize)]
pub(super) struct Refund {
    pub(super) id: String,
    status: String,
    #[serde(default)]
    failure_reason: Option<String>,
    #[serde(default)]
    pub(super) metadata: Map<String, Value>,
}

impl Problem {
    fn words(&self, http: u16) -> String {
        let code = self.code.as_deref().unwrap_or(&self.kind);
        let message: String = self.message.iter().flat_map(|text| text.chars()).take(160).collect();
        format!("HTTP {http}, {code}: {message}")
    }

    fn our_code(&self) -> &str {
        match (self.code.as_deref().unwrap_or_default(), self.decline_code.as_deref()) {
            ("payment_intent_authentication_failure", _) => "authentication_failed",
            ("card_declined", Some("insufficient_funds")) => "insufficient_funds",
            ("card_declined", Some("lost_card" | "stolen_card")) => "lost_or_stolen_card",
            ("card_declined", Some("fraudulent")) => "suspected_fraud",
            (code @ ("card_declined" | "expired_card" | "incorrect_cvc" | "insufficient_funds" | "processing_error"), _) => code,
            ("amount_too_small" | "amount_too_large", _) => "amount_not_allowed",
            ("", _) => "declined",
            (_, _) => "invalid_request",
        }
    }
}

/// What an answer that is not a success means. A refused card comes with its intent: the caller may read it.
pub(super) fn read_failure(http: u16, body: &[u8]) -> (Failure, Option<Box<Intent>>) {
    let Ok(ErrorBody { mut error }) = serde_json::from_slice(body) else {
        let said = format!("HTTP {http} with an unreadable body");
        return match http {
            401 | 403 => (Failure::Unauthorized(said), None),
            429 => (Failure::NotAttempted(said), None),
            _ => (Failure::Uncertain(said), None),
        };
    };
    let said = error.words(http);
    let intent = error.payment_intent.take();
    let code = error.code.as_deref().unwrap_or_default();
    let failure = match (http, code) {
        (401 | 403, _) => Failure::Unauthorized(said),
        (404, _) => Failure::NotFound(said),
        (429, _) => Failure::NotAttempted(said),
        (
            400 | 402,
            "payment_intent_unexpected_state" | "charge_already_captured" | "charge_already_refunded" | "charge_expired_for_capture",
        ) => Failure::Conflict(said),
        (400, _) if error.kind == "idempotency_error" => Failure::Conflict(said),
        (400 | 402, _) => Failure::Declined(decline(error.our_code(), &said)),
        // 409: the same key is at work right now, so it may well succeed. 424 and 5xx: anything.
        _ => Failure::Uncertain(said),
    };
    (failure, intent)
}

fn money(amount: i64, currency: &str) -> Result<Money, Failure> {
    let currency: Currency = currency
        .to_ascii_uppercase()
        .parse()
        .map_err(|e: domain::money::MoneyError| Failure::Uncertain(format!("the answer is unreadable: {e}")))?;
    if amount < 0 { Err(Failure::Uncertain("a negative amount".to_owned())) } else { Ok(Money::new(amount, currency)) }
}

fn time(seconds: i64) -> Result<DateTime<Utc>, Failure> {
    let at = DateTime::from_timestamp(seconds, 0).ok_or_else(|| "a time out of range".to_owned());
    at.and_then(believable).map_err(Failure::Uncertain)
}

/// An intent in our words; `Uncertain` when it is another attempt's.
pub(super) fn read_intent(intent: Intent, key: &AttemptKey) -> Result<AttemptView, Failure> {
    if intent.metadata.get("attempt").and_then(Value::as_str) != Some(&key.attempt_id.0.to_string()) {
        return Err(Failure::Uncertain("the answer speaks of another attempt".to_owned()));
    }
    let mut payments = Vec::new();
    if intent.amount_received > 0 {
        let Some(charge) = &intent.latest_charge else {
            return Err(Failure::Uncertain("money without a charge".to_owned()));
        };
        payments.push(PaymentSeen {
            transaction_id: charge.id.clone(),
            amount: money(intent.amount_received, &intent.currency)?,
            paid_at: time(charge.created)?,
            refunded: charge.amount_refunded.max(0),
            // The charge says only that there is one; the client asks how it stands.
            dispute: None,
        });
    }
    Ok(AttemptView { provider_id: Some(intent.id.clone()), status: status(intent)?, payments })
}

fn status(intent: Intent) -> Result<AttemptStatus, Failure> {
    Ok(match intent.status.as_str() {
        "requires_action" => match intent.next_action {
            Some(Action { promptpay_display_qr_code: Some(code), .. }) => {
                AttemptStatus::ActionRequired(NextAction::ShowQr { payload: code.data })
            }
            Some(Action { redirect_to_url: Some(to), .. }) => AttemptStatus::ActionRequired(NextAction::Redirect { url: to.url }),
            Some(_) | None => AttemptStatus::Pending,
        },
        "processing" | "requires_confirmation" => AttemptStatus::Pending,
        "requires_capture" => {
            let card = intent.latest_charge.and_then(|charge| charge.payment_method_details).and_then(|details| details.card);
            let capture_before = card.and_then(|card| card.capture_before).map(time).transpose()?;
            AttemptStatus::Authorized { amount: money(intent.amount_capturable, &intent.currency)?, capture_before }
        }
        "succeeded" if intent.amount_received > 0 => AttemptStatus::Paid,
        "succeeded" => AttemptStatus::Unrecognized(format!("succeeded, with nothing received of {}", intent.amount)),
        "requires_payment_method" => match intent.last_payment_error {
            Some(problem) if problem.code.as_deref() == Some("payment_intent_payment_attempt_expired") => AttemptStatus::Expired,
            Some(problem) => AttemptStatus::Failed(decline(problem.our_code(), &problem.words(402))),
            None => AttemptStatus::Pending,
        },
        "canceled" if matches!(intent.cancellation_reason.as_deref(), Some("expired" | "automatic")) => AttemptStatus::Expired,
        "canceled" => AttemptStatus::Canceled,
        other => AttemptStatus::Unrecognized(other.chars().take(64).collect()),
    })
}

pub(super) fn read_refund(refund: Refund) -> Result<RefundStatus, Failure> {
    let provider_reference = refund.id;
    match refund.status.as_str() {
        "succeeded" => Ok(RefundStatus::Succeeded { provider_reference }),
        // PromptPay: the payer is asked for an account.
        "pending" | "requires_action" => Ok(RefundStatus::Pending { provider_reference }),
        word @ ("failed" | "canceled") => {
            let reason: String = refund.failure_reason.unwrap_or_default().chars().take(64).collect();
            Ok(RefundStatus::Failed(decline("refund_failed", &format!("{word}: {reason}"))))
        }
        _ => Err(Failure::Uncertain("the refund has a status that nobody knows".to_owned())),
    }
}
