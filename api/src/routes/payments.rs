//! `/v1/payments`: money taken against bills, as the shop sees it.

use axum::{extract::State, response::Response};
use chrono::Duration;
use commands::{
    error::CommandError,
    payments::{self, AttemptOptions, NewPayment, PayFor},
};
use domain::{
    bill::{self, Bill},
    ids::{BillId, PaymentId, StoreId},
    money::Money,
    payment_intent::{self, DEFAULT_VALID_MINUTES, Evidence, PaymentIntent, Tender},
};
use projections::models::payments::{PaymentFilter, PaymentRow};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    command::{Change, respond, shown, within},
    orders::check_currency,
    query::{Ask, Payments},
};
use crate::{
    auth::may,
    extract::{Filter, Id, Json},
    problem::{Kind, Problem},
    resources::{ListOf, MoneySchema, PaymentResource, Resource, TenderSchema},
    state::AppState,
};

const COLLECTION: &str = "/v1/payments";
/// How long a QR is good at most.
const MAX_MINUTES: i64 = 60;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(pay, list)).routes(routes!(get))
}

/// A payment to be taken.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PayBill {
    /// `bill_…`.
    #[schema(value_type = String)]
    bill_id: BillId,
    /// How.
    #[schema(value_type = TenderSchema)]
    tender: Tender,
    /// How much; all that is due unless told.
    #[schema(value_type = Option<MoneySchema>)]
    amount: Option<Money>,
    /// For cash: handed over; exactly what is to be collected unless told.
    #[schema(value_type = Option<MoneySchema>)]
    cash_received: Option<Money>,
    /// For card and invoice: approval code or invoice number.
    transaction_id: Option<String>,
    /// The caller's own reference.
    merchant_reference: Option<String>,
    /// For PromptPay: how long the QR is good, 1 to 60; 15 unless told.
    #[schema(minimum = 1, maximum = 60)]
    expires_in_minutes: Option<i64>,
}

/// How long a payment may wait for its payer.
///
/// # Errors
/// `RuleBroken`.
pub(super) fn validity(minutes: Option<i64>) -> Result<Duration, Problem> {
    let minutes = minutes.unwrap_or(DEFAULT_VALID_MINUTES);
    if (1..=MAX_MINUTES).contains(&minutes) {
        return Ok(Duration::minutes(minutes));
    }
    Err(Problem::new(Kind::RuleBroken, format!("expires_in_minutes must be 1 to {MAX_MINUTES}")))
}

impl PayBill {
    /// What can be said about the request without knowing the bill.
    fn check(&self) -> Result<Duration, Problem> {
        let broken = |detail: &'static str| Err(Problem::new(Kind::RuleBroken, detail));
        if self.cash_received.is_some() && self.tender != Tender::Cash {
            return broken("cash_received belongs to the tender cash");
        }
        if self.transaction_id.is_some() && !matches!(self.tender, Tender::Card | Tender::Invoice) {
            return broken("transaction_id belongs to the tenders card and invoice");
        }
        if self.tender == Tender::Unknown {
            return broken("the tender unknown is for imported records only; say how the money came");
        }
        let printable = |text: &String| (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !self.transaction_id.as_ref().is_none_or(printable) {
            return broken("transaction_id must have 1 to 64 printable ASCII characters");
        }
        validity(self.expires_in_minutes)
    }
}

/// Takes a payment against a bill. Cash, card and invoice are captured at once; PromptPay begins to wait for its payer.
#[utoipa::path(post, path = "/v1/payments", tag = "payments", request_body = PayBill,
    responses((status = 201, description = "Taken, or waiting for the payer", body = PaymentResource)),
    extensions(("x-permission" = json!("payment_take"))))]
async fn pay(State(state): State<AppState>, change: Change<may::PaymentTake>, body: Json<PayBill>) -> Result<Response, Problem> {
    let only = change.only_store();
    let input = body.value;
    let valid_for = input.check()?;
    let provider = state.default_provider.clone();
    let caller = change.caller(&body.raw)?;
    let work = state.commands.transact(&caller, |unit| {
        let (input, provider) = (input.clone(), provider.clone());
        Box::pin(async move {
            unit.reaches_only(only);
            within::<Bill>(unit, only, input.bill_id).await?;
            let bill = unit.state::<Bill>(input.bill_id).await?;
            check_cash(&bill, input.cash_received)?;
            let id = unit.next_id();
            let new = NewPayment {
                payment_intent_id: id,
                pay_for: PayFor::Bill { bill_id: input.bill_id, amount: input.amount },
                tender: input.tender,
                provider,
                valid_for,
                cash_received: input.cash_received.map(|cash| cash.amount),
                transaction_id: input.transaction_id,
                merchant_reference: input.merchant_reference,
                description: None,
                merchant_terminal_id: None,
                paid_at: None,
                evidence: Evidence::Staff,
                tip: 0,
                acquirer: None,
                confirm: true,
                options: AttemptOptions::default(),
            };
            let intent = payments::start(unit, new).await?;
            unit.reply::<PaymentIntent>(201, id, &shown(PaymentResource::of(&intent, unit.version::<PaymentIntent>(id)))?)
        })
    });
    Ok(respond(work.await?, COLLECTION))
}

/// Cash is of the bill's own currency.
///
/// # Errors
/// `CurrencyMismatch`.
pub(super) fn check_cash(bill: &bill::State, cash_received: Option<Money>) -> Result<(), CommandError> {
    match (&bill.details, cash_received) {
        (Some(details), Some(cash)) => check_currency(cash, details.currency),
        (None, _) | (_, None) => Ok(()),
    }
}

/// Which payments.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PaymentQuery {
    /// Of this bill, `bill_…`.
    #[param(value_type = Option<String>)]
    bill_id: Option<BillId>,
    /// Of this store, `sto_…`.
    #[param(value_type = Option<String>)]
    store_id: Option<StoreId>,
    /// With, or without, money that nothing asks for.
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

/// Payments, newest first.
#[utoipa::path(get, path = "/v1/payments", tag = "payments", params(PaymentQuery),
    responses((status = 200, description = "A page", body = ListOf<PaymentResource>)),
    extensions(("x-permission" = json!("payment_read"))))]
async fn list(ask: Ask<may::PaymentRead, Payments>, Filter(query): Filter<PaymentQuery>) -> Result<Response, Problem> {
    let page = ask.page("payments", query.limit, query.cursor.as_deref())?;
    let filter = PaymentFilter {
        store: query.store_id,
        bill: query.bill_id,
        provider_reference: None,
        status: None,
        needs_attention: query.needs_attention,
        unmatched: None,
    };
    let rows = ask.reads.payments(&ask.scope, &filter, page).await?;
    let show = |row: PaymentRow| PaymentResource::of(&row.document, row.stamp.version).map(|shown| shown.as_read(&row));
    Ok(ask.list("payments", page, rows, |row| row.stamp.opened_pos, show))
}

/// One payment.
#[utoipa::path(get, path = "/v1/payments/{id}", tag = "payments", params(("id" = String, Path, description = "`pay_…`")),
    responses((status = 200, description = "The payment", body = PaymentResource)),
    extensions(("x-permission" = json!("payment_read"))))]
async fn get(ask: Ask<may::PaymentRead, Payments>, Id(payment_id): Id<PaymentId>) -> Result<Response, Problem> {
    let row = ask.reads.payment(&ask.scope, payment_id.intent_id()).await?;
    let missing = payment_intent::Rejection::PaymentIntentNotFound;
    let Some(row) = row else { return Err(Problem::missing(missing)) };
    ask.anew(row.parked > 0).one_with(Some((&row.document, row.stamp.version)), missing, |shown: PaymentResource| shown.as_read(&row))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(text: &str) -> Result<(), String> {
        let input: PayBill = serde_json::from_str(text).unwrap();
        input.check().map(drop).map_err(|problem| problem.detail().to_owned())
    }

    #[test]
    fn a_payment_names_only_what_its_tender_knows() {
        let bill = "bill_01HZY3T5V6W7X8Y9Z0A1B2C3D4";
        let pay = |rest: &str| input(&format!(r#"{{"bill_id":"{bill}",{rest}}}"#));
        assert_eq!(pay(r#""tender":"cash","cash_received":{"amount":1,"currency":"THB"}"#), Ok(()));
        assert_eq!(pay(r#""tender":"card","transaction_id":"A-1"}"#.trim_end_matches('}')), Ok(()));
        assert!(pay(r#""tender":"promptpay","cash_received":{"amount":1,"currency":"THB"}"#).is_err());
        assert!(pay(r#""tender":"cash","transaction_id":"A-1""#).is_err());
        assert!(pay(r#""tender":"card","transaction_id":"a b""#).is_err());
        assert!(pay(r#""tender":"promptpay","expires_in_minutes":61"#).is_err());
        assert!(pay(r#""tender":"promptpay","expires_in_minutes":0"#).is_err());
    }
}
