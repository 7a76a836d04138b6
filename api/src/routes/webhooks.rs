//! `/webhooks/{provider}`: call-backs of payment providers. Stored byte for byte (but for card data) with what their signature proved, acknowledged in
//! the provider's own words; what they claim counts only once the provider's books confirm it.

use std::sync::Arc;

use axum::{
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use commands::{
    fail_point,
    webhooks::{self, Delivery},
};
use domain::{
    ids::{MerchantId, ProviderAccountId, WebhookId},
    provider::{PaymentProvider, RawWebhook, WebhookHint, WebhookRefusal},
};
use metrics::counter;
use tracing::Instrument as _;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    account_providers::Connected,
    extract::{body_bytes, card::without_card_data},
    limits::{self, Party},
    problem::{Kind, Problem},
    state::AppState,
};

/// Headers that are worth keeping and hold no secret; a signature proves the body and tells nothing of its key.
const KEPT_HEADERS: [&str; 8] = [
    "content-type",
    "content-length",
    "user-agent",
    "date",
    "x-request-id",
    "stripe-signature",
    "omise-signature",
    "omise-signature-timestamp",
];

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(receive))
        .routes(routes!(receive_with_secret))
        .routes(routes!(receive_for_account))
        .routes(routes!(receive_for_account_with_secret))
}

/// Takes a call-back of a provider that signs what it sends, for the platform's own account there.
#[utoipa::path(post, path = "/webhooks/{provider}", tag = "webhooks", security(()),
    params(("provider" = String, Path, description = "Name of the provider")),
    request_body(content = String, description = "As the provider sends it", content_type = "application/json"),
    responses((status = 200, description = "Taken; in the provider's own words", content_type = "application/json")))]
async fn receive(State(state): State<AppState>, Path(provider): Path<String>, request: Request) -> Result<Response, Problem> {
    let door = Door::own(&state, &provider)?;
    take(state, door, None, request).await
}

/// Takes a call-back of a provider that proves itself by a secret in the path, for the platform's own account there.
#[utoipa::path(post, path = "/webhooks/{provider}/{secret}", tag = "webhooks", security(()),
    params(("provider" = String, Path, description = "Name of the provider"), ("secret" = String, Path, description = "Known to the provider only")),
    request_body(content = String, description = "As the provider sends it", content_type = "application/json"),
    responses((status = 200, description = "Taken; in the provider's own words", content_type = "application/json")))]
async fn receive_with_secret(
    State(state): State<AppState>,
    Path((provider, secret)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let door = Door::own(&state, &provider)?;
    take(state, door, Some(secret), request).await
}

/// Takes a call-back for a merchant's account at a provider that signs what it sends.
#[utoipa::path(post, path = "/webhooks/{provider}/accounts/{account_id}", tag = "webhooks", security(()),
    params(("provider" = String, Path, description = "Name of the provider"), ("account_id" = String, Path, description = "`pac_…`")),
    request_body(content = String, description = "As the provider sends it", content_type = "application/json"),
    responses((status = 200, description = "Taken; in the provider's own words", content_type = "application/json")))]
async fn receive_for_account(
    State(state): State<AppState>,
    Path((provider, account)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let door = Door::account(&state, &provider, &account).await?;
    take(state, door, None, request).await
}

/// Takes a call-back for a merchant's account at a provider that proves itself by a secret in the path.
#[utoipa::path(post, path = "/webhooks/{provider}/accounts/{account_id}/{secret}", tag = "webhooks", security(()),
    params(("provider" = String, Path, description = "Name of the provider"), ("account_id" = String, Path, description = "`pac_…`"),
        ("secret" = String, Path, description = "Known to the provider only")),
    request_body(content = String, description = "As the provider sends it", content_type = "application/json"),
    responses((status = 200, description = "Taken; in the provider's own words", content_type = "application/json")))]
async fn receive_for_account_with_secret(
    State(state): State<AppState>,
    Path((provider, account, secret)): Path<(String, String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let door = Door::account(&state, &provider, &account).await?;
    take(state, door, Some(secret), request).await
}

/// Whose call-backs come in here, and who can tell whether they are genuine.
pub(super) enum Door {
    /// The platform's own account at a provider.
    Own(Arc<dyn PaymentProvider>),
    /// A merchant's account.
    Account(Arc<Connected>),
}

impl Door {
    fn own(state: &AppState, provider: &str) -> Result<Self, Problem> {
        state.providers.own(provider).map(Self::Own).ok_or_else(unknown)
    }

    async fn account(state: &AppState, provider: &str, account: &str) -> Result<Self, Problem> {
        let id: ProviderAccountId = account.parse().map_err(|_| unknown())?;
        let connected = state.providers.account(id).await?.ok_or_else(unknown)?;
        if connected.provider().name() == provider { Ok(Self::Account(connected)) } else { Err(unknown()) }
    }

    /// The door through which a stored call-back came.
    pub(super) async fn of(state: &AppState, account: &str) -> Result<Self, Problem> {
        match account.parse::<ProviderAccountId>() {
            Ok(id) => state.providers.account(id).await?.map(Self::Account).ok_or_else(unknown),
            Err(_) => Self::own(state, account),
        }
    }

    /// Reads a call-back.
    ///
    /// # Errors
    /// Why it is refused.
    pub(super) fn read(&self, raw: &RawWebhook<'_>) -> Result<WebhookHint, WebhookRefusal> {
        match self {
            Self::Own(provider) => provider.read_webhook(raw),
            Self::Account(connected) => connected.read_webhook(raw),
        }
    }

    fn provider(&self) -> &'static str {
        match self {
            Self::Own(provider) => provider.name(),
            Self::Account(connected) => connected.provider().name(),
        }
    }

    /// For whom its call-backs count.
    fn counts_for(&self) -> limits::Account {
        match self {
            Self::Own(provider) => limits::Account::Own(provider.name()),
            Self::Account(connected) => limits::Account::Merchants(connected.account.id),
        }
    }

    fn names(&self) -> (String, Option<MerchantId>) {
        match self {
            Self::Own(provider) => (provider.name().to_owned(), None),
            Self::Account(connected) => (connected.account.id.to_string(), Some(connected.account.tenant)),
        }
    }
}

fn unknown() -> Problem {
    Problem::new(Kind::NotFound, "there is no such provider")
}

/// Goes on when the sender hangs up: what was stored is handed to whoever looks into it.
async fn take(state: AppState, door: Door, secret: Option<String>, request: Request) -> Result<Response, Problem> {
    let taking = async move { taken(&state, &door, secret.as_deref(), request).await };
    tokio::spawn(taking.in_current_span()).await.map_err(|error| Problem::internal(&error))?
}

async fn taken(state: &AppState, door: &Door, secret: Option<&str>, request: Request) -> Result<Response, Problem> {
    let headers = texts(request.headers());
    let body = body_bytes(request, state).await?;
    let most = state.limiter.limits().call_back_bytes;
    if most > 0 && body.len() > most {
        return Err(Problem::new(Kind::BodyTooLarge, format!("a call-back has at most {most} bytes")));
    }
    let received_at = state.clock.now();
    let read = door.read(&RawWebhook { proven: false, path_secret: secret, headers: &headers, body: &body, received_at });
    // Before anything is kept: a flood costs no more than the check of its signatures.
    let account = door.counts_for();
    let proven = !matches!(read, Err(WebhookRefusal::NotAuthentic | WebhookRefusal::Stale));
    let standing = state.limiter.take([if proven { Party::CallBacks(account) } else { Party::Forgeries(account) }]).await;
    if !standing.admitted {
        counter!("smartpos_webhooks_total", "provider" => door.provider(), "result" => "limited").increment(1);
        return Ok(standing.refusal());
    }
    let kept: Vec<_> = headers.iter().filter(|(name, _)| KEPT_HEADERS.contains(&name.as_str())).cloned().collect();
    let (account, tenant) = door.names();
    let (provider, id) = (door.provider(), WebhookId(state.ids.next()));
    // Its signature was checked over all of it; what is kept holds no card data, whoever sent it.
    let body = without_card_data(&body);
    let delivery = Delivery { id, provider, account: &account, tenant, received_at, headers: &kept, body: &body };
    match read {
        Ok(hint) => {
            fail_point::reach("before_webhook").await;
            let stores = (&state.call_back_pool, &state.log_pool);
            let received = webhooks::receive(stores, &state.tasks, state.clock.now(), &delivery, &hint).await;
            let fresh = received.map_err(|error| Problem::unavailable(&error))?;
            fail_point::reach("before_webhook_answer").await;
            let kind = if fresh { "fresh" } else { "repeated" };
            counter!("smartpos_webhooks_total", "provider" => provider, "result" => kind).increment(1);
            tracing::debug!(provider, fresh, delivery = %hint.delivery_id, "a call-back was taken");
            let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
            Ok((json, hint.acknowledgement).into_response())
        }
        Err(refusal) => refused(state, &delivery, refusal).await,
    }
}

/// Keeps a call-back that has no effect and says why it has none. One that proved its sender, and could not be read, must be kept.
async fn refused(state: &AppState, delivery: &Delivery<'_>, refusal: WebhookRefusal) -> Result<Response, Problem> {
    let provider = delivery.provider.to_owned();
    let unread = matches!(refusal, WebhookRefusal::Malformed(..));
    let result = if unread { "unread" } else { "refused" };
    counter!("smartpos_webhooks_total", "provider" => provider.clone(), "result" => result).increment(1);
    tracing::warn!(provider, %refusal, "a call-back was refused");
    // A burst passes, so a second try has a chance.
    let keep = || webhooks::refuse(&state.call_back_pool, delivery, &refusal);
    let kept = match keep().await {
        Ok(()) => Ok(()),
        Err(_) => keep().await,
    };
    match kept {
        Ok(()) => {}
        Err(error) if unread => return Err(Problem::unavailable(&error)),
        Err(error) => {
            // For whoever looks into it; the refusal does not depend on it.
            counter!("smartpos_webhooks_refusals_lost_total", "provider" => provider.clone()).increment(1);
            tracing::warn!(provider, %error, "a refused call-back was not kept");
        }
    }
    Err(match refusal {
        WebhookRefusal::NotAuthentic | WebhookRefusal::Stale => Problem::plain(Kind::WebhookRefused),
        WebhookRefusal::Malformed(_, reason) => Problem::new(Kind::WebhookMalformed, reason),
    })
}

fn texts(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}
