//! What changes a payment intent beside the straight way.

use axum::{extract::State, response::Response};
use chrono::{DateTime, Utc};
use commands::payment_cases::{self, Decision};
use domain::{
    ids::PaymentIntentId,
    money::Money,
    payment_intent::{Command, DisputeOutcome, Finding, Tender, Update},
};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{command::Change, payment_intents::change_intent};
use crate::{
    auth::{Policy, may},
    extract::{Id, Json, MaybeJson, moment::Moment},
    problem::{Kind, Problem},
    resources::{MoneySchema, PaymentIntentResource, TenderSchema},
    state::AppState,
};

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(update))
        .routes(routes!(capture))
        .routes(routes!(increment))
        .routes(routes!(resolve))
        .routes(routes!(resolve_unmatched))
        .routes(routes!(dispute))
        .routes(routes!(resolve_dispute))
        .routes(routes!(acknowledge_over_refund))
}

/// What is to change; the rest stays.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateIntent {
    /// What is owed; only for an intent without a bill.
    #[schema(value_type = Option<MoneySchema>)]
    amount: Option<Money>,
    /// How it will be paid: `promptpay` or `online_card`.
    #[schema(value_type = Option<TenderSchema>)]
    tender: Option<Tender>,
    /// The caller's own reference; used once per merchant, for ever.
    merchant_reference: Option<String>,
    /// What it is for, in the caller's words, 1 to 200 characters.
    description: Option<String>,
    /// The caller's own name of the terminal that takes it, 1 to 64 characters.
    merchant_terminal_id: Option<String>,
}

impl From<UpdateIntent> for Update {
    fn from(input: UpdateIntent) -> Self {
        let UpdateIntent { amount, tender, merchant_reference, description, merchant_terminal_id } = input;
        Self { amount, tender, merchant_reference, description, merchant_terminal_id }
    }
}

/// How much is captured.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CaptureIntent {
    /// All that is held unless told.
    #[schema(value_type = Option<MoneySchema>)]
    amount: Option<Money>,
}

/// How much is held from now on.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IncrementIntent {
    /// The new total.
    #[schema(value_type = MoneySchema)]
    amount: Money,
}

/// What a statement shows.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolveIntent {
    /// The money arrived.
    paid: bool,
    /// The statement and its line that show it, or the statement that lacks it; 1 to 200 characters.
    statement_reference: String,
    /// When it arrived: the provider's transaction.
    transaction_id: Option<String>,
    /// When it arrived: how much.
    #[schema(value_type = Option<MoneySchema>)]
    amount: Option<Money>,
    /// When it arrived: the moment, UTC; it has come.
    #[schema(value_type = Option<String>, format = DateTime)]
    paid_at: Option<Moment>,
}

impl ResolveIntent {
    fn finding(&self, now: DateTime<Utc>) -> Result<Finding, Problem> {
        match (self.paid, &self.transaction_id, self.amount, self.paid_at) {
            (true, Some(transaction_id), Some(amount), Some(paid_at)) if names_transaction(transaction_id) => {
                if !paid_at.has_come(now) {
                    return Err(Problem::new(Kind::RuleBroken, "paid_at lies in the future"));
                }
                Ok(Finding::Paid { transaction_id: transaction_id.clone(), amount, paid_at: paid_at.0 })
            }
            (false, None, None, None) => Ok(Finding::NotPaid),
            (true | false, _, _, _) => Err(Problem::new(
                Kind::RuleBroken,
                "with paid: true name transaction_id (1 to 64 characters), amount and paid_at; with paid: false none of them",
            )),
        }
    }
}

/// Whether a finding may name the provider's transaction so.
pub(super) fn names_transaction(text: &str) -> bool {
    (1..=64).contains(&text.len())
}

/// What becomes of money that does not close the intent.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolveUnmatched {
    /// `accept`: a late payment in full counts after all. `refund`: it goes back. `keep`: it stays.
    decision: DecisionInput,
    /// Why, 1 to 200 characters.
    reason: String,
}

/// A decision about money that does not close the intent.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecisionInput {
    /// It counts after all.
    Accept,
    /// It goes back.
    Refund,
    /// It stays.
    Keep,
}

impl From<DecisionInput> for Decision {
    fn from(input: DecisionInput) -> Self {
        match input {
            DecisionInput::Accept => Self::Accept,
            DecisionInput::Refund => Self::Refund,
            DecisionInput::Keep => Self::Keep,
        }
    }
}

/// How a dispute ended.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolveDispute {
    /// `won`: the shop keeps the money. `lost`: the payer got it back.
    #[schema(value_type = String)]
    outcome: DisputeOutcome,
    /// The provider's name of the contested transaction, where it is one of `unmatched`; without it the payment.
    transaction_id: Option<String>,
}

/// That the payer contests it.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenDispute {
    /// Why, 1 to 200 characters.
    reason: String,
    /// The provider's name of the contested transaction, where it is one of `unmatched`; without it the payment.
    transaction_id: Option<String>,
}

/// Changes what is asked for, before an attempt is alive.
#[utoipa::path(patch, path = "/v1/payment-intents/{id}", tag = "payment-intents", request_body = UpdateIntent,
    params(("id" = String, Path, description = "`pi_…`")),
    responses((status = 200, description = "As it is now", body = PaymentIntentResource)),
    extensions(("x-permission" = json!("payment_take"))))]
async fn update(
    State(state): State<AppState>,
    change: Change<may::PaymentTake>,
    Id(id): Id<PaymentIntentId>,
    body: Json<UpdateIntent>,
) -> Result<Response, Problem> {
    let update = Update::from(body.value);
    change_intent(&state, &change, &body.raw, id, move |unit| Box::pin(payment_cases::update(unit, id, update.clone()))).await
}

/// Captures what is held, in full or in part; the rest is released.
#[utoipa::path(post, path = "/v1/payment-intents/{id}/capture", tag = "payment-intents", request_body = CaptureIntent,
    params(("id" = String, Path, description = "`pi_…`")),
    responses((status = 200, description = "The capture is asked for; the provider's answer decides", body = PaymentIntentResource)),
    extensions(("x-permission" = json!("payment_take"))))]
async fn capture(
    State(state): State<AppState>,
    change: Change<may::PaymentTake>,
    Id(id): Id<PaymentIntentId>,
    MaybeJson(body): MaybeJson<CaptureIntent>,
) -> Result<Response, Problem> {
    ask(&state, &change, &body.raw, id, Command::Capture { amount: body.value.amount }).await
}

/// Raises what is held, where the provider allows it.
#[utoipa::path(post, path = "/v1/payment-intents/{id}/increment", tag = "payment-intents", request_body = IncrementIntent,
    params(("id" = String, Path, description = "`pi_…`")),
    responses((status = 200, description = "The higher hold is asked for; the provider's answer decides", body = PaymentIntentResource)),
    extensions(("x-permission" = json!("payment_take"))))]
async fn increment(
    State(state): State<AppState>,
    change: Change<may::PaymentTake>,
    Id(id): Id<PaymentIntentId>,
    body: Json<IncrementIntent>,
) -> Result<Response, Problem> {
    ask(&state, &change, &body.raw, id, Command::Increase { amount: body.value.amount }).await
}

/// Somebody takes note of what was given back beyond what came.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcknowledgeOverRefund {
    /// As `over_refunded` says; refused when it has become another amount.
    #[schema(value_type = MoneySchema)]
    amount: Money,
    /// What is done about it, 1 to 200 characters.
    reason: String,
}

/// A change that is one command to the intent and to nothing else.
async fn ask<P: Policy>(
    state: &AppState,
    change: &Change<P>,
    body: &Value,
    id: PaymentIntentId,
    command: Command,
) -> Result<Response, Problem> {
    change_intent(state, change, body, id, move |unit| Box::pin(payment_cases::ask(unit, id, command.clone()))).await
}

/// Says what happened to a payment whose provider does not tell, out of a statement.
#[utoipa::path(post, path = "/v1/payment-intents/{id}/resolve", tag = "payment-intents", request_body = ResolveIntent,
    params(("id" = String, Path, description = "`pi_…`")),
    responses((status = 200, description = "Resolved by the caller's word", body = PaymentIntentResource)),
    extensions(("x-permission" = json!("refund_request"))))]
async fn resolve(
    State(state): State<AppState>,
    change: Change<may::RefundRequest>,
    Id(id): Id<PaymentIntentId>,
    body: Json<ResolveIntent>,
) -> Result<Response, Problem> {
    let (finding, reference) = (body.value.finding(state.clock.now())?, body.value.statement_reference);
    change_intent(&state, &change, &body.raw, id, move |unit| {
        Box::pin(payment_cases::resolve_by_person(unit, id, finding.clone(), reference.clone()))
    })
    .await
}

/// Decides about money that does not close the intent.
#[utoipa::path(post, path = "/v1/payment-intents/{id}/unmatched/{transaction_id}/resolve", tag = "payment-intents", request_body = ResolveUnmatched,
    params(("id" = String, Path, description = "`pi_…`"), ("transaction_id" = String, Path, description = "The provider's transaction")),
    responses((status = 200, description = "Decided; a refund follows by itself", body = PaymentIntentResource)),
    extensions(("x-permission" = json!("refund_request"))))]
async fn resolve_unmatched(
    State(state): State<AppState>,
    change: Change<may::RefundRequest>,
    Id((id, transaction_id)): Id<(PaymentIntentId, String)>,
    body: Json<ResolveUnmatched>,
) -> Result<Response, Problem> {
    let (decision, reason) = (body.value.decision.into(), body.value.reason);
    change_intent(&state, &change, &body.raw, id, move |unit| {
        let (transaction_id, reason) = (transaction_id.clone(), reason.clone());
        Box::pin(async move { payment_cases::resolve_unmatched(unit, id, &transaction_id, decision, reason).await })
    })
    .await
}

/// Records that the payer contests the payment.
#[utoipa::path(post, path = "/v1/payment-intents/{id}/dispute", tag = "payment-intents", request_body = OpenDispute,
    params(("id" = String, Path, description = "`pi_…`")),
    responses((status = 200, description = "Contested; nothing of it can be given back meanwhile", body = PaymentIntentResource)),
    extensions(("x-permission" = json!("refund_request"))))]
async fn dispute(
    State(state): State<AppState>,
    change: Change<may::RefundRequest>,
    Id(id): Id<PaymentIntentId>,
    body: Json<OpenDispute>,
) -> Result<Response, Problem> {
    let (OpenDispute { reason, transaction_id }, now) = (body.value, state.clock.now());
    change_intent(&state, &change, &body.raw, id, move |unit| {
        Box::pin(payment_cases::dispute_by_person(unit, id, transaction_id.clone(), reason.clone(), now))
    })
    .await
}

/// Records how a dispute was decided.
#[utoipa::path(post, path = "/v1/payment-intents/{id}/dispute/resolve", tag = "payment-intents", request_body = ResolveDispute,
    params(("id" = String, Path, description = "`pi_…`")),
    responses((status = 200, description = "Decided", body = PaymentIntentResource)),
    extensions(("x-permission" = json!("refund_request"))))]
async fn resolve_dispute(
    State(state): State<AppState>,
    change: Change<may::RefundRequest>,
    Id(id): Id<PaymentIntentId>,
    body: Json<ResolveDispute>,
) -> Result<Response, Problem> {
    let (ResolveDispute { outcome, transaction_id }, now) = (body.value, state.clock.now());
    change_intent(&state, &change, &body.raw, id, move |unit| {
        Box::pin(payment_cases::resolve_dispute_by_person(unit, id, transaction_id.clone(), outcome, now))
    })
    .await
}

/// Takes note that more was given back than came; the payment needs no attention for it any more.
#[utoipa::path(post, path = "/v1/payment-intents/{id}/over-refund/acknowledge", tag = "payment-intents",
    request_body = AcknowledgeOverRefund, params(("id" = String, Path, description = "`pi_…`")),
    responses((status = 200, description = "Noted, with what is done about it", body = PaymentIntentResource)),
    extensions(("x-permission" = json!("refund_request"))))]
async fn acknowledge_over_refund(
    State(state): State<AppState>,
    change: Change<may::RefundRequest>,
    Id(id): Id<PaymentIntentId>,
    body: Json<AcknowledgeOverRefund>,
) -> Result<Response, Problem> {
    let AcknowledgeOverRefund { amount, reason } = body.value;
    ask(&state, &change, &body.raw, id, Command::AcknowledgeOverRefund { amount, reason }).await
}
