//! The levers of a test: the payer pays or gives up, faults come, time passes, the books are opened. The same paths at
//! every simulator; not part of any provider's interface.
//!
//! `GET /sim/health`, `GET /sim/ledger`, `POST /sim/pay`, `POST /sim/decline`, `POST /sim/expire`, `POST /sim/lie` (a
//! call-back without a payment), `POST /sim/clock` (`{"advance_ms": …}`), `POST /sim/limit` (`{"calls_per_second": …}`),
//! `POST|GET|DELETE /sim/faults`, `POST /sim/timings` (hands them out and forgets them). Elsewhere: `GET /sim/settlement`
//! ([`super::settlement`]); `POST /sim/refund`, `/sim/dispute` and `/sim/created` of Omise and Stripe ([`super::charge_levers`]).

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
use serde_json::{Value, json};

use super::{CallbackPlan, FaultRule, Simulated, Timing, ledger::Refusal, tokens::Tokens};

/// The payer pays.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PayRequest {
    /// Our reference, or the provider's own id of the attempt.
    pub reference: String,
    /// Minor units; what is owed when absent.
    #[serde(default)]
    pub amount: Option<i64>,
    /// ISO 4217; the attempt's when absent.
    #[serde(default)]
    pub currency: Option<String>,
    /// Pays even what is cancelled or has expired: a payer's app was quicker.
    #[serde(default)]
    pub force: bool,
    /// SCB: a payer types the biller and a reference for which no code was made; needs an amount.
    #[serde(default)]
    pub by_hand: bool,
    /// How the merchant hears of it.
    #[serde(default)]
    pub webhook: CallbackPlan,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CloseRequest {
    reference: String,
    #[serde(default)]
    webhook: CallbackPlan,
}

/// How an unpaid attempt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Closing {
    /// By our own call.
    Canceled,
    /// The payer's bank or card issuer refused.
    Declined,
    /// Its time ran out.
    Expired,
}

/// What a lever moved.
pub(crate) struct Moved {
    /// The payment, or what else the lever answers with.
    pub(crate) answer: Value,
    /// The body of the call-back about it; nothing when the provider sends none.
    pub(crate) callback: Option<String>,
}

/// All books of a simulator. Amounts in minor units.
#[derive(Debug, Clone, Serialize)]
pub struct LedgerView {
    /// Everything that was begun.
    pub attempts: Vec<AttemptRow>,
    /// All money that came in.
    pub payments: Vec<PaymentRow>,
    /// All money that went back.
    pub refunds: Vec<RefundRow>,
}

/// One attempt in the books.
#[derive(Debug, Clone, Serialize)]
pub struct AttemptRow {
    /// The provider's own id, or our reference where it has none.
    pub id: String,
    /// Our reference.
    pub reference: String,
    /// What is owed.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
    /// The provider's word.
    pub state: String,
}

/// One payment in the books.
#[derive(Debug, Clone, Serialize)]
pub struct PaymentRow {
    /// The provider's transaction id.
    pub transaction_id: String,
    /// Our reference.
    pub reference: String,
    /// What came.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
    /// By the provider's clock.
    pub paid_at: DateTime<Utc>,
    /// How much went back.
    pub refunded: i64,
    /// All of it went back.
    pub reversed: bool,
}

/// One refund in the books.
#[derive(Debug, Clone, Serialize)]
pub struct RefundRow {
    /// The provider's id of the refund, or of the payment where it has none.
    pub id: String,
    /// Of which payment.
    pub transaction_id: String,
    /// How much.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
    /// The provider's word.
    pub state: String,
    /// When it was carried out, or asked for while it waits, by the provider's clock.
    pub at: DateTime<Utc>,
}

pub(super) fn routes<P: Simulated>() -> Router<Arc<P>> {
    Router::new()
        .route("/sim/health", get(health::<P>))
        .route("/sim/ledger", get(ledger::<P>))
        .route("/sim/pay", post(pay::<P>))
        .route("/sim/decline", post(decline::<P>))
        .route("/sim/expire", post(expire::<P>))
        .route("/sim/lie", post(lie::<P>))
        .route("/sim/clock", post(clock::<P>))
        .route("/sim/limit", post(limit::<P>))
        .route("/sim/faults", post(add_faults::<P>).get(list_faults::<P>).delete(clear_faults::<P>))
        .route("/sim/timings", post(take_timings::<P>))
}

async fn take_timings<P: Simulated>(State(provider): State<Arc<P>>) -> Json<Vec<Timing>> {
    Json(provider.core().timings.take())
}

async fn health<P: Simulated>(State(provider): State<Arc<P>>) -> Json<Value> {
    Json(json!({"status": "ok", "tokens_issued": provider.tokens().map_or(0, Tokens::issued), "now": provider.core().now()}))
}

async fn pay<P: Simulated>(State(provider): State<Arc<P>>, Json(request): Json<PayRequest>) -> Response {
    // No account holds more, and sums of the ledger must stay in range.
    if request.amount.is_some_and(|amount| !(1..=1_000_000_000_000).contains(&amount)) {
        return refused(Refusal::Rule("the amount must be between 1 and 1,000,000,000,000 minor units"));
    }
    moved(&*provider, provider.pay(&request), &request.reference, &request.webhook)
}

async fn decline<P: Simulated>(State(provider): State<Arc<P>>, Json(request): Json<CloseRequest>) -> Response {
    moved(&*provider, provider.close(&request.reference, Closing::Declined), &request.reference, &request.webhook)
}

async fn expire<P: Simulated>(State(provider): State<Arc<P>>, Json(request): Json<CloseRequest>) -> Response {
    moved(&*provider, provider.close(&request.reference, Closing::Expired), &request.reference, &request.webhook)
}

async fn lie<P: Simulated>(State(provider): State<Arc<P>>, Json(request): Json<PayRequest>) -> StatusCode {
    provider.core().courier.dispatch(&provider.lie(&request), &request.webhook);
    StatusCode::ACCEPTED
}

fn moved<P: Simulated>(provider: &P, moved: Result<Moved, Refusal>, reference: &str, plan: &CallbackPlan) -> Response {
    match moved {
        Ok(Moved { answer, callback }) => {
            if let Some(body) = callback {
                provider.core().call_back(reference, &body, plan);
            }
            Json(answer).into_response()
        }
        Err(refusal) => refused(refusal),
    }
}

fn refused(refusal: Refusal) -> Response {
    let (status, text) = match refusal {
        Refusal::Unknown => (StatusCode::NOT_FOUND, "no such attempt".to_owned()),
        Refusal::Duplicate => (StatusCode::CONFLICT, "duplicate".to_owned()),
        Refusal::Closed(closing) => (StatusCode::CONFLICT, format!("it is {closing:?}")),
        Refusal::Rule(rule) => (StatusCode::UNPROCESSABLE_ENTITY, rule.to_owned()),
        Refusal::Disk(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    (status, Json(json!({"error": text}))).into_response()
}

async fn ledger<P: Simulated>(State(provider): State<Arc<P>>) -> Json<Value> {
    let LedgerView { attempts, payments, refunds } = provider.ledger();
    let received: i64 = payments.iter().map(|p| p.amount).sum();
    let reversed: i64 = payments.iter().map(|p| p.refunded).sum();
    let currency = payments.first().map_or("THB", |p| p.currency.as_str());
    Json(json!({
        "totals": {"received": received, "reversed": reversed, "net": received - reversed, "currency": currency},
        "qr_codes": attempts.len(),
        "attempts": attempts,
        "payments": payments,
        "refunds": refunds,
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockRequest {
    /// 0 to a year.
    advance_ms: i64,
}

async fn clock<P: Simulated>(State(provider): State<Arc<P>>, Json(request): Json<ClockRequest>) -> Response {
    if !(0..=31_536_000_000).contains(&request.advance_ms) {
        return refused(Refusal::Rule("time goes forward, a year at most"));
    }
    let core = provider.core();
    core.advanced_ms.fetch_add(request.advance_ms, Ordering::SeqCst);
    Json(json!({"now": core.now()})).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitRequest {
    /// Of each operation; without a number as many as come.
    calls_per_second: Option<usize>,
}

async fn limit<P: Simulated>(State(provider): State<Arc<P>>, Json(request): Json<LimitRequest>) -> StatusCode {
    provider.core().limit.set(request.calls_per_second);
    StatusCode::NO_CONTENT
}

/// One rule or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Rules {
    One(FaultRule),
    Many(Vec<FaultRule>),
}

async fn add_faults<P: Simulated>(State(provider): State<Arc<P>>, Json(rules): Json<Rules>) -> Json<Vec<FaultRule>> {
    let faults = &provider.core().faults;
    faults.add(match rules {
        Rules::One(rule) => vec![rule],
        Rules::Many(rules) => rules,
    });
    Json(faults.remaining())
}

async fn list_faults<P: Simulated>(State(provider): State<Arc<P>>) -> Json<Vec<FaultRule>> {
    Json(provider.core().faults.remaining())
}

async fn clear_faults<P: Simulated>(State(provider): State<Arc<P>>) -> StatusCode {
    provider.core().faults.clear();
    StatusCode::NO_CONTENT
}
