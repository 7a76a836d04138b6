//! `/v1/providers`: what payment providers there are and what an account needs; and whether an account's settings work.

use axum::{
    Json as JsonBody,
    extract::State,
    response::{IntoResponse, Response},
};
use domain::{
    ids::{AttemptId, ProviderAccountId},
    money::Money,
    provider::{AttemptKey, CallOutcome, ExchangeLog, InquiryRequest, MethodKind, reference_of},
    provider_account::Rejection,
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    auth::{Allowed, may},
    extract::{Id, NoBody},
    problem::Problem,
    resources::{ListOf, provider_account::AcceptedMethod},
    state::AppState,
};

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(providers)).routes(routes!(check))
}

/// What a provider said to a harmless question.
#[derive(Debug, Serialize, ToSchema)]
pub struct AccountCheck {
    /// `answered`: address and credentials work. `refused`, `not_reached`, `unclear`: see `detail`.
    #[schema(value_type = String, examples("answered"))]
    outcome: &'static str,
    /// The provider's own words, without secrets.
    detail: Option<String>,
}

/// Asks the provider for a payment that does not exist: whether address and credentials work. Nothing changes anywhere, so there is no key.
#[utoipa::path(post, path = "/v1/provider-accounts/{id}/check", tag = "provider-accounts",
    params(("id" = String, Path, description = "`pac_…`")),
    responses((status = 200, description = "Asked", body = AccountCheck)),
    extensions(("x-permission" = json!("provider_account_manage"))))]
async fn check(
    State(state): State<AppState>,
    allowed: Allowed<may::ProviderAccountManage>,
    Id(id): Id<ProviderAccountId>,
    _: NoBody,
) -> Result<Response, Problem> {
    let (tenant, only) = (allowed.principal.tenant()?, allowed.principal.store);
    let missing = || Problem::missing(Rejection::ProviderAccountNotFound);
    let connected = state.providers.account_of(tenant, id).await?.ok_or_else(missing)?;
    let details = connected.account.state.known().map_err(Problem::missing)?;
    if only.is_some() && details.store_id != only {
        return Err(missing());
    }
    let attempt_id = AttemptId(state.ids.next());
    let (now, range) = (state.clock.now(), details.terms.amounts.first().ok_or_else(missing)?);
    let amount = Money::new(range.min, range.currency);
    let key = AttemptKey { attempt_id, reference: reference_of(attempt_id), provider_id: None, amount, started_at: now };
    let method = details.terms.methods.first().copied().unwrap_or(MethodKind::PromptPay);
    let asked = connected.provider();
    let (outcome, detail) = match asked.inquire(&InquiryRequest { key, method, now }, &ExchangeLog::default()).await {
        CallOutcome::Done(_) => ("answered", None),
        CallOutcome::Declined(decline) => ("refused", Some(format!("{}: {}", decline.code, decline.message))),
        CallOutcome::NotAttempted(reason) => ("not_reached", Some(reason)),
        CallOutcome::Unknown(reason) => ("unclear", Some(reason)),
    };
    Ok(JsonBody(AccountCheck { outcome, detail }).into_response())
}

/// A payment provider that accounts can be opened at.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Provider)]
#[expect(clippy::struct_excessive_bools, reason = "each says what a provider can do")]
pub struct ProviderResource {
    /// Its stable name.
    #[schema(value_type = String, examples("scb"))]
    name: &'static str,
    /// For people.
    #[schema(value_type = String)]
    display_name: &'static str,
    /// Which methods it takes.
    methods: Vec<AcceptedMethod>,
    /// Money can be held first and captured later.
    manual_capture: bool,
    /// Less than what is held can be captured.
    partial_capture: bool,
    /// What is held can be raised.
    incremental_authorization: bool,
    /// An unpaid attempt can be stopped there.
    cancel: bool,
    /// Money can be sent back by a call.
    refund: bool,
    /// In parts, too.
    partial_refund: bool,
    /// A call-back proves its sender by a signature; otherwise by a secret path.
    signed_webhooks: bool,
    /// The settings of an account.
    settings: Vec<ProviderSetting>,
}

/// One setting of an account.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProviderSetting {
    /// Its name.
    #[schema(value_type = String)]
    name: &'static str,
    /// Belongs among the secrets.
    secret: bool,
    /// Without it there is no account.
    required: bool,
    /// Set by the operator of the platform.
    operator_only: bool,
    /// What it means.
    #[schema(value_type = String)]
    meaning: &'static str,
}

/// Every provider with what it can do and what an account needs.
#[utoipa::path(get, path = "/v1/providers", tag = "provider-accounts",
    responses((status = 200, description = "All of them", body = ListOf<ProviderResource>)),
    extensions(("x-permission" = json!("provider_account_read"))))]
async fn providers(_: Allowed<may::ProviderAccountRead>) -> Response {
    let show = |kind: &gateway::catalog::ProviderKind| ProviderResource {
        name: kind.name,
        display_name: kind.display_name,
        methods: kind.capabilities.methods.iter().map(|method| AcceptedMethod { method: *method }).collect(),
        manual_capture: kind.capabilities.manual_capture,
        partial_capture: kind.capabilities.partial_capture,
        incremental_authorization: kind.capabilities.incremental_authorization,
        cancel: kind.capabilities.cancel,
        refund: kind.capabilities.refund,
        partial_refund: kind.capabilities.partial_refund,
        signed_webhooks: kind.capabilities.signed_webhooks,
        settings: kind
            .fields
            .iter()
            .map(|field| ProviderSetting {
                name: field.name,
                secret: field.secret,
                required: field.required,
                operator_only: field.operator_only,
                meaning: field.meaning,
            })
            .collect(),
    };
    JsonBody(ListOf { data: gateway::catalog::all().iter().map(show).collect::<Vec<_>>(), next_cursor: None }).into_response()
}
