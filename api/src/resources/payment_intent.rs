//! Payment intents as callers see them: the gateway's view of a payment.

use chrono::{DateTime, Utc};
use domain::{
    money::Money,
    payment_intent::{self, Attempt, Status, Tender},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{MoneySchema, Resource, TenderSchema};

/// One tender and its conversation with a provider.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PaymentIntent)]
pub struct PaymentIntentResource {
    /// `pi_…`.
    #[schema(examples("pi_01HZY3T5V6W7X8Y9Z0A1B2C3D4"))]
    pub id: String,
    /// The shop's name for the same, `pay_…`.
    pub payment_id: String,
    /// `sto_…`.
    pub store_id: String,
    /// `bill_…` that it pays, if any.
    pub bill_id: Option<String>,
    /// `ord_…` behind the bill.
    pub order_id: Option<String>,
    /// `requires_payment_method`, `processing`, `requires_action`, `succeeded`, `canceled` or `expired`.
    #[schema(examples("requires_action"))]
    pub status: &'static str,
    /// What is owed.
    #[schema(value_type = MoneySchema)]
    pub amount: Money,
    /// What arrived and closed it.
    #[schema(value_type = MoneySchema)]
    pub captured: Money,
    /// Given back.
    #[schema(value_type = MoneySchema)]
    pub refunded: Money,
    /// How it is tendered.
    #[schema(value_type = TenderSchema)]
    pub tender: Tender,
    /// The provider of the live or last attempt.
    pub provider: Option<String>,
    /// Our reference there.
    pub reference: Option<String>,
    /// What the payer must do.
    pub next_action: Option<NextAction>,
    /// The outcome of the last call to the provider is not known; it is being asked.
    pub outcome_unknown: bool,
    /// A cancellation was asked for; the provider's answer decides.
    pub cancel_requested: bool,
    /// Why the last attempt failed.
    pub failure: Option<Failure>,
    /// Money on its reference that does not close it: another amount, a second payment, or too late.
    pub unmatched: Vec<UnmatchedPayment>,
    /// The caller's own reference.
    pub merchant_reference: Option<String>,
    /// When it stops accepting payment, UTC.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<DateTime<Utc>>,
    /// Version, as in `ETag`.
    pub version: i64,
}

/// What the payer must do.
#[derive(Debug, Serialize, ToSchema)]
pub struct NextAction {
    /// `display_qr`.
    pub r#type: &'static str,
    /// EMVCo payload to show as a QR code.
    pub qr_payload: String,
}

/// Why something failed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Failure {
    /// Our stable word for it.
    #[schema(examples("not_supported"))]
    pub code: String,
    /// In words.
    pub message: String,
}

/// Money that does not close an intent.
#[derive(Debug, Serialize, ToSchema)]
pub struct UnmatchedPayment {
    /// `amount_differs`, `duplicate` or `late`.
    #[schema(value_type = String)]
    pub why: payment_intent::UnmatchedReason,
    /// What arrived.
    #[schema(value_type = MoneySchema)]
    pub amount: Money,
    /// The provider's transaction.
    pub transaction_id: String,
    /// When, UTC.
    #[schema(value_type = String, format = DateTime)]
    pub paid_at: DateTime<Utc>,
}

impl Resource<payment_intent::State> for PaymentIntentResource {
    fn of(state: &payment_intent::State, version: i64) -> Option<Self> {
        let details = state.details.as_ref()?;
        let money = |amount| Money::new(amount, details.amount.currency);
        let attempt = state.attempt.as_ref();
        Some(Self {
            id: details.payment_intent_id.to_string(),
            payment_id: details.payment_intent_id.payment_id().to_string(),
            store_id: details.store_id.to_string(),
            bill_id: details.bill_id.map(|id| id.to_string()),
            order_id: details.order_id.map(|id| id.to_string()),
            status: state.status.as_str(),
            amount: details.amount,
            captured: money(state.captured()),
            refunded: money(state.refunded_total),
            tender: details.tender,
            provider: attempt.map(|attempt| attempt.started.provider.clone()),
            reference: attempt.map(|attempt| attempt.started.reference.clone()),
            next_action: next_action(state),
            outcome_unknown: attempt.is_some_and(|attempt| attempt.unknown),
            cancel_requested: state.cancel_requested.is_some(),
            failure: attempt.and_then(failure),
            unmatched: state.unmatched.iter().map(unmatched).collect(),
            merchant_reference: details.merchant_reference.clone(),
            expires_at: details.expires_at,
            version,
        })
    }
}

fn unmatched(payment: &payment_intent::UnmatchedPaymentReceived) -> UnmatchedPayment {
    UnmatchedPayment { why: payment.why, amount: payment.amount, transaction_id: payment.transaction_id.clone(), paid_at: payment.paid_at }
}

/// A QR is shown only while it may be paid.
pub(super) fn next_action(state: &payment_intent::State) -> Option<NextAction> {
    let qr_payload = state.attempt.as_ref().filter(|attempt| attempt.failed.is_none())?.qr_payload.clone()?;
    (state.status == Status::RequiresAction).then_some(NextAction { r#type: "display_qr", qr_payload })
}

pub(super) fn failure(attempt: &Attempt) -> Option<Failure> {
    attempt.failed.as_ref().map(|failed| Failure { code: failed.code.clone(), message: failed.message.clone() })
}

/// The status that a word means.
pub fn status_of(word: &str) -> Option<Status> {
    [Status::RequiresPaymentMethod, Status::Processing, Status::RequiresAction, Status::Succeeded, Status::Canceled, Status::Expired]
        .into_iter()
        .find(|status| status.as_str() == word)
}
