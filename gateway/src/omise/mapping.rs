//! Omise's objects, its error classes, and their meaning in our words.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    money::{Currency, Money},
    provider::{AttemptKey, AttemptStatus, AttemptView, Decline, NextAction, PaymentSeen, RefundStatus},
};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    failure::{Failure, decline, dispute_seen},
    moment::believable,
};

/// What is not captured in Thailand is let go after so long. Source: Omise documentation, charges.
pub(super) const HOLD: TimeDelta = TimeDelta::days(7);

/// An id or token: nothing that could change a path.
pub(super) fn is_id(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[derive(Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the provider's own flags")]
pub(super) struct Charge {
    object: String,
    pub(super) id: String,
    amount: i64,
    #[serde(default)]
    authorized_amount: Option<i64>,
    #[serde(default)]
    captured_amount: Option<i64>,
    #[serde(default)]
    refunded_amount: Option<i64>,
    currency: String,
    status: String,
    #[serde(default)]
    authorized: bool,
    #[serde(default)]
    capturable: bool,
    #[serde(default)]
    paid: bool,
    #[serde(default)]
    expired: bool,
    /// Absent: nobody says no.
    #[serde(default = "yes")]
    pub(super) refundable: bool,
    #[serde(default)]
    failure_code: Option<String>,
    #[serde(default)]
    failure_message: Option<String>,
    #[serde(default)]
    authorize_uri: Option<String>,
    #[serde(default)]
    paid_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    #[serde(default)]
    expires_at: Option<DateTime<Utc>>,
    #[serde(default)]
    expired_at: Option<DateTime<Utc>>,
    #[serde(default)]
    dispute: Option<Dispute>,
    #[serde(default)]
    source: Option<Source>,
    #[serde(default)]
    pub(super) metadata: Map<String, Value>,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
struct Dispute {
    status: String,
    #[serde(default)]
    reason_code: Option<String>,
}

#[derive(Deserialize)]
struct Source {
    #[serde(default)]
    scannable_code: Option<Scannable>,
}

#[derive(Deserialize)]
struct Scannable {
    image: Image,
}

#[derive(Deserialize)]
struct Image {
    download_uri: String,
}

#[derive(Deserialize)]
pub(super) struct Created {
    pub(super) id: String,
}

#[derive(Deserialize)]
pub(super) struct List<T> {
    pub(super) data: Vec<T>,
    #[serde(default)]
    pub(super) total: Option<usize>,
}

#[derive(Deserialize)]
pub(super) struct Refund {
    pub(super) id: String,
    status: String,
    #[serde(default)]
    pub(super) metadata: Map<String, Value>,
}

#[derive(Deserialize)]
struct ErrorBody {
    code: String,
    #[serde(default)]
    message: Option<String>,
}

/// What an answer that is not a success means.
pub(super) fn read_failure(http: u16, body: &[u8]) -> Failure {
    let Ok(ErrorBody { code, message }) = serde_json::from_slice(body) else {
        let said = format!("HTTP {http} with an unreadable body");
        return match http {
            401 | 403 => Failure::Unauthorized(said),
            429 => Failure::NotAttempted(said),
            _ => Failure::Uncertain(said),
        };
    };
    let message: String = message.unwrap_or_default().chars().take(160).collect();
    let said = format!("HTTP {http}, {code}: {message}");
    match (http, code.as_str()) {
        (401 | 403, _) => Failure::Unauthorized(said),
        (429, _) => Failure::NotAttempted(said),
        (404, _) => Failure::NotFound(said),
        // "Try again", says the text; whether something was made it does not say.
        (_, "backend_error") | (500.., _) => Failure::Uncertain(said),
        (_, "expired_charge" | "failed_capture" | "failed_expire" | "failed_void" | "failed_refund" | "failed_reverse") => {
            Failure::Conflict(said)
        }
        (400..=499, "failed_fraud_check") => Failure::Declined(decline("suspected_fraud", &said)),
        (400..=499, "invalid_amount") => Failure::Declined(decline("amount_not_allowed", &said)),
        (400..=499, "invalid_card" | "invalid_card_token" | "missing_card" | "used_token" | "brand_not_supported") => {
            Failure::Declined(decline("card_declined", &said))
        }
        (400..=499, _) => Failure::Declined(decline("invalid_request", &said)),
        _ => Failure::Uncertain(said),
    }
}

/// A charge in our words; `Uncertain` when it is another attempt's.
pub(super) fn read_charge(charge: Charge, key: &AttemptKey) -> Result<AttemptView, Failure> {
    let unreadable = |problem: &str| Failure::Uncertain(format!("the answer is unreadable: {problem}"));
    if charge.object != "charge" {
        return Err(unreadable("not a charge"));
    }
    if charge.metadata.get("attempt").and_then(Value::as_str) != Some(&key.attempt_id.0.to_string()) {
        return Err(Failure::Uncertain("the answer speaks of another attempt".to_owned()));
    }
    let currency: Currency = charge.currency.to_ascii_uppercase().parse().map_err(|_| unreadable("the currency is not known"))?;
    believable(charge.created_at).map_err(|problem| unreadable(&problem))?;
    let mut payments = Vec::new();
    if charge.paid {
        let amount = charge.captured_amount.filter(|captured| *captured > 0).unwrap_or(charge.amount);
        if amount == 0 {
            return Err(unreadable("a payment of nothing"));
        }
        payments.push(PaymentSeen {
            // One charge is one payment, and its transaction is named later than it is paid.
            transaction_id: charge.id.clone(),
            amount: Money::new(amount, currency),
            paid_at: believable(charge.paid_at.unwrap_or(charge.created_at)).map_err(|problem| unreadable(&problem))?,
            refunded: charge.refunded_amount.unwrap_or(0),
            dispute: charge.dispute.as_ref().map(|dispute| dispute_seen(&dispute.status, dispute.reason_code.as_deref())),
        });
    }
    let numbers = [Some(charge.amount), charge.authorized_amount, charge.captured_amount, charge.refunded_amount];
    if numbers.into_iter().flatten().any(i64::is_negative) {
        return Err(unreadable("a negative amount"));
    }
    Ok(AttemptView { provider_id: Some(charge.id.clone()), status: status(charge, currency), payments })
}

fn status(charge: Charge, currency: Currency) -> AttemptStatus {
    match charge.status.as_str() {
        "pending" if charge.authorized && charge.capturable => AttemptStatus::Authorized {
            amount: Money::new(charge.authorized_amount.unwrap_or(charge.amount), currency),
            capture_before: charge.created_at.checked_add_signed(HOLD),
        },
        "pending" => {
            let code = charge.source.and_then(|source| source.scannable_code).map(|code| code.image.download_uri);
            match code.or(charge.authorize_uri) {
                Some(url) if !charge.authorized => AttemptStatus::ActionRequired(NextAction::Redirect { url }),
                Some(_) | None => AttemptStatus::Pending,
            }
        }
        "successful" if charge.paid => AttemptStatus::Paid,
        "successful" => AttemptStatus::Unrecognized("successful, but not paid".to_owned()),
        // Money of another amount may be there: for a person, not for a rule.
        "failed" if charge.failure_code.as_deref() == Some("confirmed_amount_mismatch") => {
            AttemptStatus::Unrecognized("confirmed_amount_mismatch".to_owned())
        }
        "failed" => AttemptStatus::Failed(refusal(charge.failure_code.as_deref(), charge.failure_message.as_deref())),
        "reversed" if charge.expired => AttemptStatus::Expired,
        "reversed" => AttemptStatus::Canceled,
        // Before its time means: by our call.
        "expired" if charge.expired_at.zip(charge.expires_at).is_some_and(|(at, due)| at < due) => AttemptStatus::Canceled,
        "expired" => AttemptStatus::Expired,
        other => AttemptStatus::Unrecognized(other.chars().take(64).collect()),
    }
}

fn refusal(code: Option<&str>, message: Option<&str>) -> Decline {
    let code = code.unwrap_or("none");
    let word = match code {
        "insufficient_fund" | "insufficient_balance" => "insufficient_funds",
        "stolen_or_lost_card" => "lost_or_stolen_card",
        "failed_processing" => "processing_error",
        "invalid_security_code" => "incorrect_cvc",
        "failed_fraud_check" => "suspected_fraud",
        "invalid_account_number" | "invalid_account" => "invalid_account",
        "expired_card" => "expired_card",
        "payment_cancelled" => "canceled_by_payer",
        "timeout" => "timed_out",
        _ => "card_declined",
    };
    let message: String = message.unwrap_or_default().chars().take(160).collect();
    decline(word, &format!("{code}: {message}"))
}

pub(super) fn read_refund(refund: Refund) -> Result<RefundStatus, Failure> {
    let provider_reference = refund.id;
    match refund.status.as_str() {
        "successful" | "closed" => Ok(RefundStatus::Succeeded { provider_reference }),
        "pending" => Ok(RefundStatus::Pending { provider_reference }),
        "failed" => Ok(RefundStatus::Failed(decline("refund_failed", "the provider's refund failed"))),
        _ => Err(Failure::Uncertain("the refund has a status that nobody knows".to_owned())),
    }
}
