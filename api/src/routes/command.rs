//! How a command comes in and its answer goes out, the same for every route that changes something.

use axum::{
    extract::{FromRequestParts, MatchedPath},
    http::{HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use commands::{
    error::CommandError,
    handle::{Caller, UnitOfWork},
    idempotency::{Answer, IdempotencyKey},
    personal::Keyring,
};
use domain::{
    bill::{self, Bill},
    decider::Aggregate,
    ids::{MerchantId, StoreId, Ulid},
    order::{self, Order},
    payment_intent::{self, PaymentIntent},
    refund::{self, Refund},
    rejection::Rejected,
    store::{self, Store},
};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    auth::{Allowed, Policy, Principal, Proof},
    extract::{Correlation, idempotency_key, if_match},
    problem::{Kind, Problem},
    state::AppState,
};

/// Last log position that a command wrote; a query that names it waits for it.
pub const POSITION: HeaderName = HeaderName::from_static("smartpos-position");
/// The answer is the stored one of an earlier request.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// A request that wants something changed, by someone who may: everything but its body.
#[derive(Debug)]
pub struct Change<P: Policy> {
    allowed: Allowed<P>,
    correlation: Correlation,
    key: Option<String>,
    if_match: Option<i64>,
    /// Method and path template: one operation, whatever it is done to.
    route: String,
    /// Method and path.
    operation: String,
}

impl<P: Policy> FromRequestParts<AppState> for Change<P> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let allowed = Allowed::from_request_parts(parts, state).await?;
        let key = idempotency_key(&parts.headers)?;
        let if_match = if_match(&parts.headers)?;
        // A PATCH may be relative: repeated blindly it would act twice, so it names a key or the version that it changes.
        // What a payment token opens acts once by itself, and browsers of the published kit send no key.
        let payer = allowed.principal.proof == Proof::PaymentToken;
        let guarded = payer || key.is_some() || (parts.method == Method::PATCH && if_match.is_some());
        if !guarded && [Method::POST, Method::PATCH].contains(&parts.method) {
            return Err(Problem::plain(Kind::IdempotencyKeyMissing));
        }
        let template = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
        Ok(Self {
            allowed,
            correlation: parts.extensions.get::<Correlation>().copied().unwrap_or(Correlation(state.ids.next())),
            key,
            if_match,
            route: format!("{} {template}", parts.method),
            operation: format!("{} {}", parts.method, parts.uri.path()),
        })
    }
}

impl<P: Policy> Change<P> {
    /// Who asks.
    pub const fn principal(&self) -> &Principal {
        &self.allowed.principal
    }

    /// The caller within the merchant of its token.
    ///
    /// # Errors
    /// `Forbidden` for those who act for no merchant.
    pub fn caller(&self, body: &Value) -> Result<Caller, Problem> {
        let tenant = self.principal().tenant()?;
        Ok(self.caller_in(tenant, tenant.0, body))
    }

    /// The same for a body with a profile, of which the idempotency key remembers no more than tells a repeat from another request.
    ///
    /// # Errors
    /// As [`Self::caller`].
    pub fn caller_masking(&self, keyring: &Keyring, body: &Value) -> Result<Caller, Problem> {
        let (tenant, scope, key) = (self.principal().tenant()?.0.to_bytes(), self.scope(), self.key.as_deref().unwrap_or_default());
        let request = [&tenant[..], scope.as_bytes(), self.operation.as_bytes(), key.as_bytes()];
        self.caller(&keyring.masked(body, &request))
    }

    /// Within which an idempotency key is used once: who asks, for which kind of operation.
    fn scope(&self) -> String {
        scope_of(&self.principal().actor(), &self.route)
    }

    /// The idempotency key that came with the request.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The caller within `tenant`, whose keys are kept under `keys_of`.
    pub fn caller_in(&self, tenant: MerchantId, keys_of: Ulid, body: &Value) -> Caller {
        let actor = self.principal().actor();
        let idempotency = self.key.as_ref().map(|key| IdempotencyKey::new(keys_of, self.scope(), key.clone(), &self.operation, body));
        Caller {
            tenant,
            actor,
            device: self.principal().device.clone(),
            operation: Some(self.route.clone()),
            correlation_id: self.correlation.0,
            idempotency,
            if_match: self.if_match,
        }
    }

    /// The only store that the caller may touch, if its token says so.
    pub const fn only_store(&self) -> Option<StoreId> {
        self.allowed.principal.store
    }
}

/// Within which an idempotency key of `actor` is used once, for an operation given as method and path template.
pub fn scope_of(actor: &str, operation: &str) -> String {
    format!("{actor}|{operation}")
}

/// Something that happens in a store.
pub trait InStore: Aggregate {
    /// Where; nothing for what does not exist.
    fn store_of(state: &Self::State) -> Option<StoreId>;
    /// What is said of one that does not exist for the caller.
    fn missing() -> Rejected;
}

impl InStore for Order {
    fn store_of(state: &order::State) -> Option<StoreId> {
        state.details.as_ref().map(|details| details.store_id)
    }
    fn missing() -> Rejected {
        order::Rejection::OrderNotFound.into()
    }
}

impl InStore for Bill {
    fn store_of(state: &bill::State) -> Option<StoreId> {
        state.details.as_ref().map(|details| details.store_id)
    }
    fn missing() -> Rejected {
        bill::Rejection::BillNotFound.into()
    }
}

impl InStore for PaymentIntent {
    fn store_of(state: &payment_intent::State) -> Option<StoreId> {
        state.details.as_ref().map(|details| details.store_id)
    }
    fn missing() -> Rejected {
        payment_intent::Rejection::PaymentIntentNotFound.into()
    }
}

impl InStore for Refund {
    fn store_of(state: &refund::State) -> Option<StoreId> {
        state.details.as_ref().map(|details| details.store_id)
    }
    fn missing() -> Rejected {
        refund::Rejection::RefundNotFound.into()
    }
}

impl InStore for Store {
    fn store_of(state: &store::State) -> Option<StoreId> {
        state.details.as_ref().map(|details| details.store_id)
    }
    fn missing() -> Rejected {
        store::Rejection::StoreNotFound.into()
    }
}

/// Lets a caller with a store's token touch only what happens in that store. What is elsewhere does not exist for it.
///
/// # Errors
/// The aggregate's word for absence; `Unavailable`, `Corrupt`.
pub async fn within<A: InStore>(unit: &mut UnitOfWork, only_store: Option<StoreId>, id: impl Into<Ulid>) -> Result<(), CommandError> {
    let state = unit.state::<A>(id).await?;
    match (A::store_of(&state), only_store) {
        (None, _) => Err(CommandError::Rejected(A::missing())),
        (Some(store), Some(only)) if store != only => Err(CommandError::Rejected(A::missing())),
        (Some(_), _) => Ok(()),
    }
}

/// The same for a store that is named outright.
///
/// # Errors
/// `StoreNotFound`.
pub fn within_store(only_store: Option<StoreId>, store_id: StoreId) -> Result<(), CommandError> {
    if only_store.is_none_or(|only| only == store_id) { Ok(()) } else { Err(CommandError::Rejected(Store::missing())) }
}

/// The body of an answer: what callers see of an aggregate after the command.
///
/// # Errors
/// `Fault` for a state that cannot be shown.
pub fn shown<R>(resource: Option<R>) -> Result<R, CommandError> {
    resource.ok_or_else(|| CommandError::Fault("a thing that was just changed cannot be shown".to_owned()))
}

#[derive(Deserialize)]
struct Named<'a> {
    id: &'a str,
}

/// The HTTP form of an answer; `collection` is where a new thing can be found, as in `/v1/orders`.
pub fn respond(answer: Answer, collection: &str) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let location = serde_json::from_slice::<Named<'_>>(&answer.body).ok().map(|named| format!("{collection}/{}", named.id));
    let mut response = (status, answer.body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let mut set = |name: HeaderName, text: String| {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(name, value);
        }
    };
    set(header::ETAG, format!("\"{}\"", answer.version));
    if let Some(position) = answer.position {
        set(POSITION, position.to_string());
    }
    if answer.replayed {
        set(REPLAYED, "true".to_owned());
    }
    if let (StatusCode::CREATED, Some(location)) = (status, location) {
        set(header::LOCATION, location);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16) -> Answer {
        Answer { status, version: 3, body: br#"{"id":"ord_X","a":"\u0e01"}"#.to_vec(), position: Some(41), replayed: status == 201 }
    }

    #[test]
    fn an_answer_carries_version_position_and_place() {
        let response = respond(answer(201), "/v1/orders");
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(response.status(), 201);
        assert_eq!(header("etag").as_deref(), Some("\"3\""));
        assert_eq!(header("smartpos-position").as_deref(), Some("41"));
        assert_eq!(header("idempotency-replayed").as_deref(), Some("true"));
        assert_eq!(header("location").as_deref(), Some("/v1/orders/ord_X"));
        let response = respond(answer(200), "/v1/orders");
        assert!(!response.headers().contains_key("location") && !response.headers().contains_key("idempotency-replayed"));
    }

    #[test]
    fn a_token_of_one_store_reaches_no_other() {
        let store = |n: u8| StoreId(Ulid::from_bytes([n; 16]));
        assert!(within_store(None, store(1)).is_ok());
        assert!(within_store(Some(store(1)), store(1)).is_ok());
        assert!(
            matches!(within_store(Some(store(2)), store(1)), Err(CommandError::Rejected(rejected)) if rejected.code == "StoreNotFound")
        );
    }
}
