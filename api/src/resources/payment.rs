//! Payments as callers see them: the shop's view of a payment intent, same ULID, other prefix.

use chrono::{DateTime, Utc};
use domain::{
    money::Money,
    payment_intent::{self, Status, Tender},
};
use projections::models::payments::PaymentRow;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    MoneySchema, Resource, TenderSchema,
    payment_intent::{Failure, NextAction, failure, next_action},
};

/// A payment.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Payment)]
pub struct PaymentResource {
    /// `pay_…`.
    #[schema(examples("pay_01HZY3T5V6W7X8Y9Z0A1B2C3D4"))]
    pub id: String,
    /// The gateway's name for the same, `pi_…`.
    pub payment_intent_id: String,
    /// `sto_…`.
    pub store_id: String,
    /// `bill_…` that it pays, if any.
    pub bill_id: Option<String>,
    /// `ord_…` behind the bill.
    pub order_id: Option<String>,
    /// `pending`, `processing`, `completed`, `failed`, `cancelled`, `partially_refunded` or `refunded`.
    #[schema(examples("completed"))]
    pub status: &'static str,
    /// How it is tendered.
    #[schema(value_type = TenderSchema)]
    pub tender: Tender,
    /// What is paid.
    #[schema(value_type = MoneySchema)]
    pub amount: Money,
    /// What arrived and closed it.
    #[schema(value_type = MoneySchema)]
    pub captured: Money,
    /// Tip collected beside it.
    #[schema(value_type = MoneySchema)]
    pub tip: Money,
    /// What the payer contests, if anything.
    #[schema(value_type = Option<MoneySchema>)]
    pub disputed: Option<Money>,
    /// Who took the money in for the shop.
    pub acquirer: Option<String>,
    /// For cash: handed over.
    #[schema(value_type = Option<MoneySchema>)]
    pub cash_received: Option<Money>,
    /// For cash: given back as change.
    #[schema(value_type = Option<MoneySchema>)]
    pub cash_change: Option<Money>,
    /// For cash: rounding collected beside the amount, signed.
    #[schema(value_type = Option<MoneySchema>)]
    pub cash_rounding: Option<Money>,
    /// The provider's transaction, the approval code or the invoice number.
    pub transaction_id: Option<String>,
    /// The caller's own reference.
    pub merchant_reference: Option<String>,
    /// What the payer must do.
    pub next_action: Option<NextAction>,
    /// Given back.
    #[schema(value_type = MoneySchema)]
    pub refunded: Money,
    /// Neither given back nor set aside for it; zero while the payment is disputed.
    #[schema(value_type = MoneySchema)]
    pub refundable: Money,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// When it stops being accepted, UTC.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<DateTime<Utc>>,
    /// When the money arrived, UTC.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub paid_at: Option<DateTime<Utc>>,
    /// Someone has to look: money came that does not close it (another amount, a second payment, too late) or that its bill had no use
    /// for, the payer contests it, the provider does not tell, or more went back than came. What its bill had no use for is known to
    /// `GET` only.
    pub needs_attention: bool,
    /// Version, as in `ETag`.
    pub version: i64,
}

impl PaymentResource {
    /// The same as the read model has it, which knows what the bill had no use for.
    #[must_use]
    pub const fn as_read(mut self, row: &PaymentRow) -> Self {
        self.needs_attention = row.needs_attention;
        self
    }
}

impl Resource<payment_intent::State> for PaymentResource {
    fn of(state: &payment_intent::State, version: i64) -> Option<Self> {
        let details = state.details.as_ref()?;
        let money = |amount| Money::new(amount, details.amount.currency);
        let payment = state.payment.as_ref();
        let expired = || Failure { code: "expired".to_owned(), message: "nothing was paid in time".to_owned() };
        Some(Self {
            id: details.payment_intent_id.payment_id().to_string(),
            payment_intent_id: details.payment_intent_id.to_string(),
            store_id: details.store_id.to_string(),
            bill_id: details.bill_id.map(|id| id.to_string()),
            order_id: details.order_id.map(|id| id.to_string()),
            status: status_word(state),
            tender: details.tender,
            amount: details.amount,
            captured: money(state.captured()),
            tip: money(payment.map_or(0, |payment| payment.tip)),
            disputed: state.dispute.as_ref().map(|dispute| dispute.amount),
            acquirer: payment.and_then(|payment| payment.acquirer.clone()),
            cash_received: payment.and_then(|payment| payment.cash_received).map(money),
            cash_change: payment.and_then(|payment| payment.cash_change).map(money),
            cash_rounding: payment.filter(|payment| payment.tender == Tender::Cash).map(|payment| money(payment.cash_rounding)),
            transaction_id: payment.and_then(|payment| payment.transaction_id.clone()),
            merchant_reference: details.merchant_reference.clone(),
            next_action: next_action(state),
            refunded: money(state.refunded_total),
            refundable: money(if state.is_contested() { 0 } else { state.refundable() }),
            failure: if state.status == Status::Expired { Some(expired()) } else { state.attempt.as_ref().and_then(failure) },
            expires_at: details.expires_at,
            paid_at: payment.map(|payment| payment.paid_at),
            needs_attention: state.needs_attention(),
            version,
        })
    }
}

/// The published word, derived from the intent. Waiting for the payer and for the provider are both `processing`: the shop
/// can do nothing about either.
fn status_word(state: &payment_intent::State) -> &'static str {
    match state.status {
        Status::Absent => "absent",
        Status::RequiresPaymentMethod if state.attempt.as_ref().is_some_and(|attempt| attempt.failed.is_some()) => "failed",
        Status::RequiresPaymentMethod => "pending",
        Status::Processing | Status::RequiresAction | Status::RequiresCapture => "processing",
        Status::Succeeded if state.refunded_total == 0 => "completed",
        Status::Succeeded if state.refunded_total >= state.captured() => "refunded",
        Status::Succeeded => "partially_refunded",
        Status::Canceled => "cancelled",
        Status::Expired | Status::Failed => "failed",
    }
}
