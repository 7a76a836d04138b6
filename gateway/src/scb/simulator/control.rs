//! The levers of a test: the payer pays, faults come, the books are opened. Not part of the bank's interface.

use std::sync::{Arc, atomic::Ordering};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Bank,
    ledger::{Payment, Refusal},
    wire,
};
use crate::simulator::{CallbackPlan, FaultRule, locked};

pub(super) fn routes() -> Router<Arc<Bank>> {
    Router::new()
        .route("/sim/health", get(health))
        .route("/sim/pay", post(pay))
        .route("/sim/ledger", get(ledger))
        .route("/sim/faults", post(add_faults).get(list_faults).delete(clear_faults))
}

async fn health(State(bank): State<Arc<Bank>>) -> Json<serde_json::Value> {
    Json(json!({"status": "ok", "tokens_issued": bank.tokens_issued.load(Ordering::Relaxed)}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PayRequest {
    reference: String,
    /// Satang; what the code says when absent.
    #[serde(default)]
    amount: Option<i64>,
    #[serde(default)]
    webhook: CallbackPlan,
}

#[derive(Serialize)]
struct PaymentView {
    transaction_id: String,
    reference: String,
    amount: i64,
    currency: &'static str,
    paid_at: DateTime<Utc>,
    reversed: bool,
}

impl PaymentView {
    fn of(payment: &Payment, reversed: bool) -> Self {
        Self {
            transaction_id: payment.transaction_id.clone(),
            reference: payment.reference.clone(),
            amount: payment.amount,
            currency: "THB",
            paid_at: payment.paid_at,
            reversed,
        }
    }
}

async fn pay(State(bank): State<Arc<Bank>>, Json(request): Json<PayRequest>) -> Response {
    // No account holds more, and sums of the ledger must stay in range.
    if request.amount.is_some_and(|amount| !(1..=1_000_000_000_000).contains(&amount)) {
        return refused(Refusal::Rule("the amount must be between 1 and 1,000,000,000,000 satang"));
    }
    let now = (bank.config.clock)();
    let (payment, callback) = {
        let mut ledger = locked(&bank.ledger);
        if ledger.qr(&request.reference).is_none() {
            return refused(Refusal::Unknown);
        }
        let payment = match ledger.pay(&request.reference, request.amount, now) {
            Ok(payment) => payment,
            Err(refusal) => return refused(refusal),
        };
        let as_number = bank.flip(ledger.payments().len());
        let qr = ledger.qr(&payment.reference);
        let body = wire::transaction(&bank.config.biller_id, &payment, qr, None, as_number)
            .and_then(|transaction| serde_json::to_string(&transaction));
        (payment, body)
    };
    match callback {
        Ok(body) => bank.courier.dispatch(&body, &request.webhook),
        Err(error) => tracing::error!(%error, "simulator: a call-back could not be written"),
    }
    Json(PaymentView::of(&payment, false)).into_response()
}

fn refused(refusal: Refusal) -> Response {
    let (status, text) = match refusal {
        Refusal::Unknown => (StatusCode::NOT_FOUND, "no such QR".to_owned()),
        Refusal::Duplicate => (StatusCode::CONFLICT, "duplicate".to_owned()),
        Refusal::Rule(rule) => (StatusCode::UNPROCESSABLE_ENTITY, rule.to_owned()),
        Refusal::Disk(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    (status, Json(json!({"error": text}))).into_response()
}

async fn ledger(State(bank): State<Arc<Bank>>) -> Json<serde_json::Value> {
    let ledger = locked(&bank.ledger);
    let views: Vec<PaymentView> =
        ledger.payments().iter().map(|payment| PaymentView::of(payment, ledger.is_reversed(&payment.transaction_id))).collect();
    let received: i64 = views.iter().map(|v| v.amount).sum();
    let reversed: i64 = views.iter().filter(|v| v.reversed).map(|v| v.amount).sum();
    Json(json!({
        "payments": views,
        "qr_codes": ledger.qr_count(),
        "totals": {"received": received, "reversed": reversed, "net": received - reversed, "currency": "THB"},
    }))
}

/// One rule or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Rules {
    One(FaultRule),
    Many(Vec<FaultRule>),
}

async fn add_faults(State(bank): State<Arc<Bank>>, Json(rules): Json<Rules>) -> Json<Vec<FaultRule>> {
    bank.faults.add(match rules {
        Rules::One(rule) => vec![rule],
        Rules::Many(rules) => rules,
    });
    Json(bank.faults.remaining())
}

async fn list_faults(State(bank): State<Arc<Bank>>) -> Json<Vec<FaultRule>> {
    Json(bank.faults.remaining())
}

async fn clear_faults(State(bank): State<Arc<Bank>>) -> StatusCode {
    bank.faults.clear();
    StatusCode::NO_CONTENT
}
