//! `/v1/payment-intents`: payments as the gateway sees them; the straight way of one.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use commands::{
    error::CommandError,
    handle::{Caller, UnitOfWork},
    idempotency::Answer,
    payments::{self, AttemptOptions, Confirm, NewPayment},
};
use domain::{
    ids::{BillId, OrderId, PaymentIntentId, StoreId},
    money::Money,
    payment_intent::{self, Evidence, PaymentIntent, Tender, Wishes},
};
use futures_util::future::BoxFuture;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    command::{Change, respond, shown, within},
    orders::ReasonInput,
    pay_for::Named,
    payment_token::with_payment_token,
    payments::validity,
};
use crate::{
    auth::{Policy, Proof, may},
    extract::{Id, Json, MaybeJson},
    problem::{Kind, Problem},
    resources::{MoneySchema, PaymentIntentResource, Resource, TenderSchema},
    state::AppState,
};

pub(super) const COLLECTION: &str = "/v1/payment-intents";

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(create))
        .routes(routes!(confirm))
        .routes(routes!(cancel))
        .merge(super::payment_intent_changes::router())
        .merge(super::payment_intent_sync::router())
        .merge(super::payment_intent_views::router())
}

/// What is to be paid: a bill, named outright or by its order, or an amount at a store.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateIntent {
    /// `bill_…`.
    #[schema(value_type = Option<String>)]
    bill_id: Option<BillId>,
    /// `ord_…`, for the bill that this order has.
    #[schema(value_type = Option<String>)]
    order_id: Option<OrderId>,
    /// `sto_…`, for a payment without a bill; that of the caller's token unless told. Beside `order_id`: where the order is.
    #[schema(value_type = Option<String>)]
    store_id: Option<StoreId>,
    /// How much; needed without a bill, otherwise all that is due unless told.
    #[schema(value_type = Option<MoneySchema>)]
    amount: Option<Money>,
    /// The caller's own reference.
    merchant_reference: Option<String>,
    /// What it is for, in the caller's words, 1 to 200 characters.
    description: Option<String>,
    /// The caller's own name of the terminal that takes it, 1 to 64 characters.
    merchant_terminal_id: Option<String>,
    /// How long it waits for a confirm, and how long an attempt is good, 1 to 60; 15 unless told.
    #[schema(minimum = 1, maximum = 60)]
    expires_in_minutes: Option<i64>,
    /// `false`: do not begin yet; a confirm follows, and nothing is held on the bill meanwhile. `true` unless told.
    confirm: Option<bool>,
    /// `promptpay`, `online_card` or `cash`; `promptpay` unless told. Cash has no provider: it has succeeded once it is confirmed.
    #[schema(value_type = Option<TenderSchema>)]
    tender: Option<Tender>,
    /// For cash that is confirmed at once: handed over; exactly what is to be collected unless told.
    #[schema(value_type = Option<MoneySchema>)]
    cash_received: Option<Money>,
    /// With `confirm: false`: ways of paying that the holder of the payment token may choose from beside `tender`.
    #[serde(default)]
    tenders: Vec<OfferedTender>,
    /// For a card: the token that the provider's own page gave for it. Never a card number.
    card_token: Option<String>,
    /// `automatic`, or `manual` to hold first and capture later; `automatic` unless told.
    capture_method: Option<CaptureMethod>,
    /// Where the payer's browser goes after an action (3-D Secure), an `https` address.
    return_url: Option<String>,
}

/// A way of paying that is left to the payer.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OfferedTender {
    /// `promptpay` or `online_card`.
    #[schema(value_type = TenderSchema)]
    tender: Tender,
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
    if tender.is_some_and(|tender| tender.is_recorded() && tender != Tender::Cash) {
        return broken("tender must be promptpay, online_card or cash");
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
        tenders: vec![],
    })
}

/// How to begin an attempt. What is left out is as it was said when the intent was made; the holder of a payment token says no more
/// than how it pays (`card_token`, and `tender` where the merchant left a choice) and where its browser goes after an action.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmIntent {
    /// How long the attempt is good, 1 to 60.
    #[schema(minimum = 1, maximum = 60)]
    expires_in_minutes: Option<i64>,
    /// `promptpay` or `online_card`; of an intent in cash nothing but `cash`.
    #[schema(value_type = Option<TenderSchema>)]
    tender: Option<Tender>,
    /// For an intent in cash: handed over; exactly what is to be collected unless told. Change and rounding are shown by the intent.
    #[schema(value_type = Option<MoneySchema>)]
    cash_received: Option<Money>,
    /// For a card: the token that the provider's own page gave for it. Never a card number.
    card_token: Option<String>,
    /// `automatic`, or `manual` to hold first and capture later.
    capture_method: Option<CaptureMethod>,
    /// Where the payer's browser goes after an action (3-D Secure), an `https` address.
    return_url: Option<String>,
}

/// What is left to the payer, each way once.
fn offered(tenders: &[OfferedTender]) -> Result<Vec<Tender>, Problem> {
    let mut offered: Vec<Tender> = tenders.iter().map(|offered| offered.tender).collect();
    offered.sort_unstable();
    offered.dedup();
    if offered.iter().any(|tender| tender.is_recorded()) {
        return Err(Problem::new(Kind::RuleBroken, "tenders must be promptpay or online_card"));
    }
    Ok(offered)
}

impl CreateIntent {
    /// What can be said of the tender without knowing what is paid.
    fn check_tender(&self) -> Result<(), Problem> {
        let broken = |detail: &'static str| Err(Problem::new(Kind::RuleBroken, detail));
        let cash = self.tender == Some(Tender::Cash);
        if self.cash_received.is_some() && !cash {
            return broken("cash_received belongs to the tender cash");
        }
        if self.cash_received.is_some() && self.confirm == Some(false) {
            return broken("cash_received comes with the confirm");
        }
        let of_a_provider =
            self.card_token.is_some() || self.capture_method.is_some() || self.return_url.is_some() || !self.tenders.is_empty();
        if cash && of_a_provider {
            return broken("card_token, capture_method, return_url and tenders belong to tenders with a provider");
        }
        Ok(())
    }
}

/// Starts a payment through a provider; what the payer must do appears as `next_action` once the provider has said it. Cash has succeeded
/// once it is confirmed.
#[utoipa::path(post, path = "/v1/payment-intents", tag = "payment-intents", request_body = CreateIntent,
    responses((status = 201, description = "Created; the provider is being called, unless a confirm follows or it is cash, which has succeeded", body = PaymentIntentResource)),
    extensions(("x-permission" = json!("payment_take"))))]
async fn create(State(state): State<AppState>, change: Change<may::PaymentTake>, body: Json<CreateIntent>) -> Result<Response, Problem> {
    let only = change.only_store();
    let input = &body.value;
    let named = Named::of((input.bill_id, input.order_id, input.store_id), only, input.amount)?;
    let valid_for = validity(input.expires_in_minutes)?;
    input.check_tender()?;
    let mut options = options(input.tender, input.card_token.as_ref(), input.capture_method, input.return_url.as_ref())?;
    options.tenders = offered(&input.tenders)?;
    let (tender, confirm) = (input.tender.unwrap_or(Tender::PromptPay), input.confirm.unwrap_or(true));
    let (provider, input) = (state.default_provider.clone(), body.value);
    let (cash, evidence) = (input.cash_received, if tender == Tender::Cash { Evidence::Staff } else { Evidence::Inquiry });
    let caller = change.caller(&body.raw)?;
    let tenant = caller.tenant;
    let work = state.commands.transact(&caller, |unit| {
        let (provider, options) = (provider.clone(), options.clone());
        let CreateIntent { merchant_reference, description, merchant_terminal_id, .. } = input.clone();
        Box::pin(async move {
            unit.reaches_only(only);
            let pay_for = named.found(unit, only, cash).await?;
            let id = unit.next_id();
            let new = NewPayment {
                payment_intent_id: id,
                pay_for,
                tender,
                provider,
                valid_for,
                cash_received: cash.map(|cash| cash.amount),
                transaction_id: None,
                merchant_reference,
                description,
                merchant_terminal_id,
                paid_at: None,
                evidence,
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

/// Begins an attempt, the first one or another after one that failed; of an intent in cash records what was taken.
#[utoipa::path(post, path = "/v1/payment-intents/{id}/confirm", tag = "payment-intents", request_body = Option<ConfirmIntent>,
    params(("id" = String, Path, description = "`pi_…`")),
    responses((status = 200, description = "An attempt is under way, or was already; cash has succeeded", body = PaymentIntentResource)),
    extensions(("x-permission" = json!("payment_take"))))]
async fn confirm(
    State(state): State<AppState>,
    change: Change<may::PaymentTake>,
    Id(id): Id<PaymentIntentId>,
    MaybeJson(body): MaybeJson<ConfirmIntent>,
) -> Result<Response, Problem> {
    let input = body.value;
    options(input.tender, input.card_token.as_ref(), input.capture_method, input.return_url.as_ref())?;
    let valid_for = input.expires_in_minutes.map(|minutes| validity(Some(minutes))).transpose()?;
    let manual_capture = input.capture_method.map(|method| method == CaptureMethod::Manual);
    let confirm = Confirm {
        provider: state.default_provider.clone(),
        wishes: Wishes { tender: input.tender, manual_capture, valid_for },
        by_payer: change.principal().proof == Proof::PaymentToken,
        card_token: input.card_token,
        return_url: input.return_url,
        cash_received: input.cash_received,
    };
    change_intent(&state, &change, &body.raw, id, move |unit| {
        let confirm = confirm.clone();
        Box::pin(async move {
            unit.check_if_match::<PaymentIntent>(id).await?;
            payments::confirm(unit, id, confirm).await
        })
    })
    .await
}

/// Asks to stop a payment. With an attempt under way the provider is asked first, and its answer decides. The holder of a payment token
/// cannot let go of what is held (`requires_capture`).
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
    let (reason, by_payer) = (body.value.reason, change.principal().proof == Proof::PaymentToken);
    change_intent(&state, &change, &body.raw, id, move |unit| {
        let reason = reason.clone();
        Box::pin(async move {
            if by_payer { payments::cancel_by_payer(unit, id, reason).await } else { payments::cancel(unit, id, reason).await }
        })
    })
    .await
}

/// Changes an intent within the caller's reach and answers it as it is then.
pub(super) async fn change_intent<P, W>(
    state: &AppState,
    change: &Change<P>,
    body: &serde_json::Value,
    id: PaymentIntentId,
    work: W,
) -> Result<Response, Problem>
where
    P: Policy,
    W: for<'a> Fn(&'a mut UnitOfWork) -> BoxFuture<'a, Result<Arc<payment_intent::State>, CommandError>> + Send + Sync + 'static,
{
    let caller = change.caller(body)?;
    Ok(respond(change_intent_as(state, &caller, change.only_store(), id, work).await?, COLLECTION))
}

/// The same for a caller whose request was taken apart already; `only` is the one store that it reaches, if its token says so.
///
/// # Errors
/// `PaymentIntentNotFound` out of its reach; any of the work's.
pub(super) async fn change_intent_as<W>(
    state: &AppState,
    caller: &Caller,
    only: Option<StoreId>,
    id: PaymentIntentId,
    work: W,
) -> Result<Answer, CommandError>
where
    W: for<'a> Fn(&'a mut UnitOfWork) -> BoxFuture<'a, Result<Arc<payment_intent::State>, CommandError>> + Send + Sync + 'static,
{
    let work = Arc::new(work);
    let done = state.commands.transact(caller, |unit| {
        let work = Arc::clone(&work);
        Box::pin(async move {
            unit.reaches_only(only);
            within::<PaymentIntent>(unit, only, id).await?;
            let intent = work(unit).await?;
            unit.reply::<PaymentIntent>(200, id, &shown(PaymentIntentResource::of(&intent, unit.version::<PaymentIntent>(id)))?)
        })
    });
    done.await
}
