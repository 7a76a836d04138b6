//! What changes a payment intent beside the straight way, and `explain`.

use axum::{extract::State, http::header, response::Response};
use chrono::{DateTime, Utc};
use commands::{
    payment_cases::{self, Decision},
    payments,
};
use domain::{
    ids::PaymentIntentId,
    money::Money,
    payment_intent::{self, Command, DisputeOutcome, Finding, PaymentIntent, Tender},
};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    command::{Change, respond, shown, within},
    orders::ReasonInput,
    payment_intents::COLLECTION,
    query::{Ask, Payments},
};
use crate::{
    auth::may,
    extract::{Id, Json, MaybeJson},
    problem::{Kind, Problem},
    resources::{MoneySchema, PaymentIntentResource, Resource, TenderSchema},
    state::AppState,
};

/// Side of one module of a QR picture.
const QR_PIXELS: usize = 8;

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
        .routes(routes!(explain))
        .routes(routes!(qr_png))
        .routes(routes!(qr_svg))
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
    /// The caller's own reference.
    merchant_reference: Option<String>,
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
    /// When it arrived: the moment, UTC.
    #[schema(value_type = Option<String>, format = DateTime)]
    paid_at: Option<DateTime<Utc>>,
}

impl ResolveIntent {
    fn finding(&self) -> Result<Finding, Problem> {
        match (self.paid, &self.transaction_id, self.amount, self.paid_at) {
            (true, Some(transaction_id), Some(amount), Some(paid_at)) if (1..=64).contains(&transaction_id.len()) => {
                Ok(Finding::Paid { transaction_id: transaction_id.clone(), amount, paid_at })
            }
            (false, None, None, None) => Ok(Finding::NotPaid),
            (true | false, _, _, _) => Err(Problem::new(
                Kind::RuleBroken,
                "with paid: true name transaction_id (1 to 64 characters), amount and paid_at; with paid: false none of them",
            )),
        }
    }
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
    let only = change.only_store();
    let input = body.value;
    let caller = change.caller(&body.raw)?;
    let work = state.commands.transact(&caller, |unit| {
        let input = input.clone();
        Box::pin(async move {
            within::<PaymentIntent>(unit, only, id).await?;
            let intent = payment_cases::ask(
                unit,
                id,
                Command::Update { amount: input.amount, tender: input.tender, merchant_reference: input.merchant_reference },
            )
            .await?;
            unit.reply::<PaymentIntent>(200, id, &shown(PaymentIntentResource::of(&intent, unit.version::<PaymentIntent>(id)))?)
        })
    });
    Ok(respond(work.await?, COLLECTION))
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
    let only = change.only_store();
    let amount = body.value.amount;
    let caller = change.caller(&body.raw)?;
    let work = state.commands.transact(&caller, |unit| {
        Box::pin(async move {
            within::<PaymentIntent>(unit, only, id).await?;
            let intent = payment_cases::ask(unit, id, Command::Capture { amount }).await?;
            unit.reply::<PaymentIntent>(200, id, &shown(PaymentIntentResource::of(&intent, unit.version::<PaymentIntent>(id)))?)
        })
    });
    Ok(respond(work.await?, COLLECTION))
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
    let only = change.only_store();
    let amount = body.value.amount;
    let caller = change.caller(&body.raw)?;
    let work = state.commands.transact(&caller, |unit| {
        Box::pin(async move {
            within::<PaymentIntent>(unit, only, id).await?;
            let intent = payment_cases::ask(unit, id, Command::Increase { amount }).await?;
            unit.reply::<PaymentIntent>(200, id, &shown(PaymentIntentResource::of(&intent, unit.version::<PaymentIntent>(id)))?)
        })
    });
    Ok(respond(work.await?, COLLECTION))
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
    let only = change.only_store();
    let (finding, reference) = (body.value.finding()?, body.value.statement_reference);
    let caller = change.caller(&body.raw)?;
    let work = state.commands.transact(&caller, |unit| {
        let (finding, reference) = (finding.clone(), reference.clone());
        Box::pin(async move {
            within::<PaymentIntent>(unit, only, id).await?;
            let intent = payment_cases::resolve_by_person(unit, id, finding, reference).await?;
            unit.reply::<PaymentIntent>(200, id, &shown(PaymentIntentResource::of(&intent, unit.version::<PaymentIntent>(id)))?)
        })
    });
    Ok(respond(work.await?, COLLECTION))
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
    let only = change.only_store();
    let (decision, reason) = (body.value.decision.into(), body.value.reason);
    let caller = change.caller(&body.raw)?;
    let work = state.commands.transact(&caller, |unit| {
        let (transaction_id, reason) = (transaction_id.clone(), reason.clone());
        Box::pin(async move {
            within::<PaymentIntent>(unit, only, id).await?;
            let intent = payment_cases::resolve_unmatched(unit, id, &transaction_id, decision, reason).await?;
            unit.reply::<PaymentIntent>(200, id, &shown(PaymentIntentResource::of(&intent, unit.version::<PaymentIntent>(id)))?)
        })
    });
    Ok(respond(work.await?, COLLECTION))
}

/// Records that the payer contests the payment.
#[utoipa::path(post, path = "/v1/payment-intents/{id}/dispute", tag = "payment-intents", request_body = ReasonInput,
    params(("id" = String, Path, description = "`pi_…`")),
    responses((status = 200, description = "Contested; nothing of it can be given back meanwhile", body = PaymentIntentResource)),
    extensions(("x-permission" = json!("refund_request"))))]
async fn dispute(
    State(state): State<AppState>,
    change: Change<may::RefundRequest>,
    Id(id): Id<PaymentIntentId>,
    body: Json<ReasonInput>,
) -> Result<Response, Problem> {
    let only = change.only_store();
    let (reason, now) = (body.value.reason, state.clock.now());
    let caller = change.caller(&body.raw)?;
    let work = state.commands.transact(&caller, |unit| {
        let reason = reason.clone();
        Box::pin(async move {
            within::<PaymentIntent>(unit, only, id).await?;
            let intent = payments::dispute(unit, id, reason, now).await?;
            unit.reply::<PaymentIntent>(200, id, &shown(PaymentIntentResource::of(&intent, unit.version::<PaymentIntent>(id)))?)
        })
    });
    Ok(respond(work.await?, COLLECTION))
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
    let only = change.only_store();
    let (outcome, now) = (body.value.outcome, state.clock.now());
    let caller = change.caller(&body.raw)?;
    let work = state.commands.transact(&caller, |unit| {
        Box::pin(async move {
            within::<PaymentIntent>(unit, only, id).await?;
            let intent = payment_cases::resolve_dispute(unit, id, outcome, now).await?;
            unit.reply::<PaymentIntent>(200, id, &shown(PaymentIntentResource::of(&intent, unit.version::<PaymentIntent>(id)))?)
        })
    });
    Ok(respond(work.await?, COLLECTION))
}

/// A line of an explanation: an event or an exchange with a provider.
#[derive(Debug, serde::Serialize, ToSchema)]
#[schema(as = Explanation)]
pub struct ExplanationResource {
    /// Lines in the order of the log; exchanges stand between the events by the time at which they were sent.
    #[schema(value_type = Vec<Object>)]
    data: Vec<Value>,
}

/// Why a payment is as it is: every event of it, its bill, order and refunds with actor and cause, the provider that was chosen and
/// why, every exchange with it (masked) and the call-backs that came.
#[utoipa::path(get, path = "/v1/payment-intents/{id}/explain", tag = "payment-intents",
    params(("id" = String, Path, description = "`pi_…`")),
    responses((status = 200, description = "The whole timeline", body = ExplanationResource)),
    extensions(("x-permission" = json!("payment_read"))))]
async fn explain(
    State(state): State<AppState>,
    ask: Ask<may::PaymentRead, Payments>,
    Id(id): Id<PaymentIntentId>,
) -> Result<Response, Problem> {
    // Who may see the payment may see why it is so; row-level security decides here, the log is read by another role.
    if ask.reads.payment(&ask.scope, id).await?.is_none() {
        return Err(Problem::missing(payment_intent::Rejection::PaymentIntentNotFound));
    }
    let lines = projections::explain::explain(&state.log_pool, id).await?;
    let data = lines.iter().map(projections::explain::Line::value).collect();
    Ok(ask.answer(axum::Json(ExplanationResource { data })))
}

/// The payload of the QR that is to be scanned now.
async fn qr_payload(ask: &Ask<may::PaymentRead, Payments>, id: PaymentIntentId) -> Result<String, Problem> {
    let row = ask.reads.payment(&ask.scope, id).await?;
    let row = row.ok_or_else(|| Problem::missing(payment_intent::Rejection::PaymentIntentNotFound))?;
    let resource = PaymentIntentResource::of(&row.document, row.stamp.version);
    let payload = resource.and_then(|intent| intent.next_action).and_then(|action| action.qr_payload);
    payload.ok_or_else(|| Problem::new(Kind::NotFound, "there is no QR to be scanned at the moment"))
}

/// The QR to be scanned, as a PNG picture with 8 pixels for the side of a module.
#[utoipa::path(get, path = "/v1/payment-intents/{id}/qr.png", tag = "payment-intents",
    params(("id" = String, Path, description = "`pi_…`")),
    responses((status = 200, description = "The picture", body = String, content_type = "image/png")),
    extensions(("x-permission" = json!("payment_read"))))]
async fn qr_png(ask: Ask<may::PaymentRead, Payments>, Id(id): Id<PaymentIntentId>) -> Result<Response, Problem> {
    let picture = gateway::qr_image::png(&qr_payload(&ask, id).await?, QR_PIXELS).map_err(|error| not_drawn(&error))?;
    Ok(ask.answer(([(header::CONTENT_TYPE, "image/png"), (header::CACHE_CONTROL, "no-store")], picture)))
}

/// The QR to be scanned, as an SVG picture.
#[utoipa::path(get, path = "/v1/payment-intents/{id}/qr.svg", tag = "payment-intents",
    params(("id" = String, Path, description = "`pi_…`")),
    responses((status = 200, description = "The picture", body = String, content_type = "image/svg+xml")),
    extensions(("x-permission" = json!("payment_read"))))]
async fn qr_svg(ask: Ask<may::PaymentRead, Payments>, Id(id): Id<PaymentIntentId>) -> Result<Response, Problem> {
    let picture = gateway::qr_image::svg(&qr_payload(&ask, id).await?).map_err(|error| not_drawn(&error))?;
    Ok(ask.answer(([(header::CONTENT_TYPE, "image/svg+xml"), (header::CACHE_CONTROL, "no-store")], picture)))
}

/// A payload that the provider gave and that fits no QR code.
fn not_drawn(error: &gateway::qr_image::QrImageError) -> Problem {
    Problem::new(Kind::NotFound, format!("the QR cannot be drawn: {error}"))
}
