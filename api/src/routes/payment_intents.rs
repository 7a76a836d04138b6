//! `/v1/payment-intents`: PromptPay payments, as the gateway sees them.

use axum::{extract::State, response::Response};
use commands::payments::{self, AttemptOptions, NewPayment, PayFor};
use domain::{
    bill::Bill,
    ids::{BillId, PaymentIntentId, StoreId},
    money::Money,
    payment_intent::{self, Evidence, PaymentIntent, Tender},
};
use projections::models::payments::PaymentFilter;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    command::{Change, respond, shown, within, within_store},
    orders::{ReasonInput, status_filter},
    payment_token::with_payment_token,
    payments::validity,
    query::{Ask, Payments},
};
use crate::{
    auth::may,
    extract::{Filter, Id, Json, MaybeJson},
    problem::{Kind, Problem},
    resources::{ListOf, MoneySchema, PaymentIntentResource, Resource, TenderSchema, payment_intent::status_of},
    state::AppState,
};

pub(super) const COLLECTION: &str = "/v1/payment-intents";

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(get))
        .routes(routes!(confirm))
        .routes(routes!(cancel))
        .merge(super::payment_intent_changes::router())
}

/// What is to be paid: a bill, or an amount at a store.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateIntent {
    /// `bill_…`.
    #[schema(value_type = Option<String>)]
    bill_id: Option<BillId>,
    /// `sto_…`, for a payment without a bill.
    #[schema(value_type = Option<String>)]
    store_id: Option<StoreId>,
    /// How much; needed without a bill, otherwise all that is due unless told.
    #[schema(value_type = Option<MoneySchema>)]
    amount: Option<Money>,
    /// The caller's own reference.
    merchant_reference: Option<String>,
    /// How long an attempt is good, 1 to 60; 15 unless told.
    #[schema(minimum = 1, maximum = 60)]
    expires_in_minutes: Option<i64>,
    /// `false`: do not begin yet; a confirm follows, and nothing is held on the bill meanwhile. `true` unless told.
    confirm: Option<bool>,
    /// `promptpay` or `online_card`; `promptpay` unless told.
    #[schema(value_type = Option<TenderSchema>)]
    tender: Option<Tender>,
    /// For a card: the token that the provider's own page gave for it. Never a card number.
    card_token: Option<String>,
    /// `automatic`, or `manual` to hold first and capture later; `automatic` unless told.
    capture_method: Option<CaptureMethod>,
    /// Where the payer's browser goes after an action (3-D Secure), an `https` address.
    return_url: Option<String>,
}

/// When held money is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CaptureMethod {
    /// At once.
    Automatic,
    /// On request.
    Manual,
}

/// The options of an attempt, as far as they can be judged without the intent.
fn options(
    tender: Option<Tender>,
    card_token: Option<&String>,
    capture_method: Option<CaptureMethod>,
    return_url: Option<&String>,
) -> Result<AttemptOptions, Problem> {
    let broken = |detail: &'static str| Err(Problem::new(Kind::RuleBroken, detail));
    if tender.is_some_and(Tender::is_recorded) {
        return broken("tender must be promptpay or online_card");
    }
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if card_token.is_some_and(|token| !(1..=255).contains(&token.len()) || !token.bytes().all(is_token)) {
        return broken("card_token must be 1 to 255 letters, digits, _ or -");
    }
    let is_url = |url: &String| url.starts_with("https://") && url.len() <= 500 && url.bytes().all(|byte| byte.is_ascii_graphic());
    if return_url.is_some_and(|url| !is_url(url)) {
        return broken("return_url must be an https address of at most 500 characters");
    }
    Ok(AttemptOptions {
        provider_account: None,
        route: None,
        card_token: card_token.cloned(),
        manual_capture: capture_method == Some(CaptureMethod::Manual),
        return_url: return_url.cloned(),
    })
}

/// How to begin an attempt. Everything may be left out.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmIntent {
    /// How long the attempt is good, 1 to 60; 15 unless told.
    #[schema(minimum = 1, maximum = 60)]
    expires_in_minutes: Option<i64>,
    /// `promptpay` or `online_card`; as it was unless told.
    #[schema(value_type = Option<TenderSchema>)]
    tender: Option<Tender>,
    /// For a card: the token that the provider's own page gave for it. Never a card number.
    card_token: Option<String>,
    /// `automatic`, or `manual` to hold first and capture later; `automatic` unless told.
    capture_method: Option<CaptureMethod>,
    /// Where the payer's browser goes after an action (3-D Secure), an `https` address.
    return_url: Option<String>,
}

impl CreateIntent {
    fn target(&self) -> Result<PayFor, Problem> {
        match (self.bill_id, self.store_id, self.amount) {
            (Some(bill_id), None, amount) => Ok(PayFor::Bill { bill_id, amount }),
            (None, Some(store_id), Some(amount)) => Ok(PayFor::Amount { store_id, amount }),
            (Some(_), Some(_), _) | (None, None, _) | (None, Some(_), None) => {
                Err(Problem::new(Kind::RuleBroken, "name either bill_id, or store_id and amount"))
            }
        }
    }
}

/// Starts a payment through a provider; what the payer must do appears as `next_action` once the provider has said it.
#[utoipa::path(post, path = "/v1/payment-intents", tag = "payment-intents", request_body = CreateIntent,
    responses((status = 201, description = "Created; the provider is being called, unless a confirm follows", body = PaymentIntentResource)),
    extensions(("x-permission" = json!("payment_take"))))]
async fn create(State(state): State<AppState>, change: Change<may::PaymentTake>, body: Json<CreateIntent>) -> Result<Response, Problem> {
    let only = change.only_store();
    let (pay_for, valid_for) = (body.value.target()?, validity(body.value.expires_in_minutes)?);
    let input = &body.value;
    let options = options(input.tender, input.card_token.as_ref(), input.capture_method, input.return_url.as_ref())?;
    let (tender, confirm) = (input.tender.unwrap_or(Tender::PromptPay), input.confirm.unwrap_or(true));
    let (provider, merchant_reference) = (state.default_provider.clone(), body.value.merchant_reference);
    let caller = change.caller(&body.raw)?;
    let tenant = caller.tenant;
    let work = state.commands.transact(&caller, |unit| {
        let (provider, merchant_reference, options) = (provider.clone(), merchant_reference.clone(), options.clone());
        Box::pin(async move {
            match pay_for {
                PayFor::Bill { bill_id, .. } => within::<Bill>(unit, only, bill_id).await?,
                PayFor::Amount { store_id, .. } => within_store(only, store_id)?,
            }
            let id = unit.next_id();
            let new = NewPayment {
                payment_intent_id: id,
                pay_for,
                tender,
                provider,
                valid_for,
                cash_received: None,
                transaction_id: None,
                merchant_reference,
                paid_at: None,
                evidence: Evidence::Inquiry,
                tip: 0,
                acquirer: None,
                confirm,
                options,
            };
            let intent = payments::start(unit, new).await?;
            unit.reply::<PaymentIntent>(201, id, &shown(PaymentIntentResource::of(&intent, unit.version::<PaymentIntent>(id)))?)
        })
    });
    Ok(respond(with_payment_token(&state, tenant, work.await?)?, COLLECTION))
}

/// Begins an attempt: the first one, or another after one that failed.
#[utoipa::path(post, path = "/v1/payment-intents/{id}/confirm", tag = "payment-intents", request_body = Option<ConfirmIntent>,
    params(("id" = String, Path, description = "`pi_…`")),
    responses((status = 200, description = "An attempt is under way, or was already", body = PaymentIntentResource)),
    extensions(("x-permission" = json!("payment_take"))))]
async fn confirm(
    State(state): State<AppState>,
    change: Change<may::PaymentTake>,
    Id(id): Id<PaymentIntentId>,
    MaybeJson(body): MaybeJson<ConfirmIntent>,
) -> Result<Response, Problem> {
    let only = change.only_store();
    let provider = state.default_provider.clone();
    let input = &body.value;
    let options = options(input.tender, input.card_token.as_ref(), input.capture_method, input.return_url.as_ref())?;
    let (valid_for, tender) = (validity(input.expires_in_minutes)?, input.tender);
    let caller = change.caller(&body.raw)?;
    let work = state.commands.transact(&caller, |unit| {
        let (provider, options) = (provider.clone(), options.clone());
        Box::pin(async move {
            within::<PaymentIntent>(unit, only, id).await?;
            unit.check_if_match::<PaymentIntent>(id).await?;
            let intent = payments::confirm(unit, id, provider, tender, valid_for, options).await?;
            unit.reply::<PaymentIntent>(200, id, &shown(PaymentIntentResource::of(&intent, unit.version::<PaymentIntent>(id)))?)
        })
    });
    Ok(respond(work.await?, COLLECTION))
}

/// Asks to stop a payment. With an attempt under way the provider is asked first, and its answer decides.
#[utoipa::path(post, path = "/v1/payment-intents/{id}/cancel", tag = "payment-intents", request_body = ReasonInput,
    params(("id" = String, Path, description = "`pi_…`")),
    responses((status = 200, description = "Canceled, or asked for", body = PaymentIntentResource)),
    extensions(("x-permission" = json!("payment_take"))))]
async fn cancel(
    State(state): State<AppState>,
    change: Change<may::PaymentTake>,
    Id(id): Id<PaymentIntentId>,
    body: Json<ReasonInput>,
) -> Result<Response, Problem> {
    let only = change.only_store();
    let reason = body.value.reason;
    let caller = change.caller(&body.raw)?;
    let work = state.commands.transact(&caller, |unit| {
        let reason = reason.clone();
        Box::pin(async move {
            within::<PaymentIntent>(unit, only, id).await?;
            let intent = payments::cancel(unit, id, reason).await?;
            unit.reply::<PaymentIntent>(200, id, &shown(PaymentIntentResource::of(&intent, unit.version::<PaymentIntent>(id)))?)
        })
    });
    Ok(respond(work.await?, COLLECTION))
}

/// Which payment intents.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct IntentQuery {
    /// Of this bill, `bill_…`.
    #[param(value_type = Option<String>)]
    bill_id: Option<BillId>,
    /// Of this store, `sto_…`.
    #[param(value_type = Option<String>)]
    store_id: Option<StoreId>,
    /// `requires_payment_method`, `processing`, `requires_action`, `requires_capture`, `succeeded`, `canceled`, `expired` or `failed`.
    status: Option<String>,
    /// With, or without, money that did not close it and about which nobody has decided.
    unmatched: Option<bool>,
    /// With, or without, a need that someone looks.
    needs_attention: Option<bool>,
    /// Rows of a page, 1 to 200; 50 unless told.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// As the header `Smartpos-Min-Position`.
    pub min_pos: Option<i64>,
    /// As it was then: a log position, or an RFC 3339 time with its offset; `Smartpos-As-Of` answers the position.
    pub as_of: Option<String>,
}

/// Payment intents, newest first.
#[utoipa::path(get, path = "/v1/payment-intents", tag = "payment-intents", params(IntentQuery),
    responses((status = 200, description = "A page", body = ListOf<PaymentIntentResource>)),
    extensions(("x-permission" = json!("payment_read"))))]
async fn list(ask: Ask<may::PaymentRead, Payments>, Filter(query): Filter<IntentQuery>) -> Result<Response, Problem> {
    let page = ask.page("payment-intents", query.limit, query.cursor.as_deref())?;
    let status = status_filter(query.status.as_ref(), status_of)?;
    let filter = PaymentFilter {
        store: query.store_id,
        bill: query.bill_id,
        status,
        needs_attention: query.needs_attention,
        unmatched: query.unmatched,
    };
    let rows = ask.reads.payments(&ask.scope, &filter, page).await?;
    let show = |row: projections::models::payments::PaymentRow| PaymentIntentResource::of(&row.document, row.stamp.version);
    Ok(ask.list("payment-intents", page, rows, |row| row.stamp.opened_pos, show))
}

/// One payment intent.
#[utoipa::path(get, path = "/v1/payment-intents/{id}", tag = "payment-intents",
    params(("id" = String, Path, description = "`pi_…`")),
    responses((status = 200, description = "The payment intent", body = PaymentIntentResource)),
    extensions(("x-permission" = json!("payment_read"))))]
async fn get(ask: Ask<may::PaymentRead, Payments>, Id(id): Id<PaymentIntentId>) -> Result<Response, Problem> {
    let row = ask.reads.payment(&ask.scope, id).await?;
    let found = row.as_ref().map(|row| (&row.document, row.stamp.version));
    ask.one::<_, PaymentIntentResource>(found, payment_intent::Rejection::PaymentIntentNotFound)
}
