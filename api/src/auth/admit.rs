//! The door of the routes: who signed the request or holds the payment token, and whether it is within the rate limits.
//! Bearer tokens are looked at here only to know whom a request of a limited route counts for; [`super::Allowed`] demands them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header, uri::PathAndQuery},
    middleware::Next,
    response::{IntoResponse, Response},
};
use chrono::DateTime;
use commands::partner::{self, Credential, SigningSecrets};
use domain::ids::{PaymentIntentId, PspId, Ulid};
use quick_cache::sync::Cache;
use serde_json::Value;
use sqlx::PgPool;

use super::{
    Principal, Proof, Role, bearer,
    payment_token::{self, is_payment_token},
    signature::{Claimed, MAX_SKEW_SECONDS, Signed, Version, is_signature},
};
use crate::{
    extract::{MAX_BODY_BYTES, body_bytes, strict_json},
    limits::Party,
    problem::{Kind, Problem},
    state::AppState,
};

/// The address as it was sent, before aliases were renamed.
#[derive(Debug, Clone)]
pub struct Sent(pub Uri);

/// Routes whose requests are counted, by the beginning of their template.
const LIMITED: [&str; 3] = ["/v1/payment-intents", "/v1/payments", "/v1/refunds"];
/// Routes that a payment token opens, with their methods.
const OF_PAYERS: [(&str, Method); 5] = [
    ("/v1/payment-intents/{id}", Method::GET),
    ("/v1/payment-intents/{id}/qr.png", Method::GET),
    ("/v1/payment-intents/{id}/qr.svg", Method::GET),
    ("/v1/payment-intents/{id}/confirm", Method::POST),
    ("/v1/payment-intents/{id}/cancel", Method::POST),
];
/// A name that holds a secret in a query or a body.
pub const PAYMENT_TOKEN: &str = "payment_token";

/// Whether a payment token opens a route of this method (in any case) and template.
pub fn opens_to_payers(method: &str, route: &str) -> bool {
    OF_PAYERS.iter().any(|(template, of)| *template == route && of.as_str().eq_ignore_ascii_case(method))
}

/// The layer.
pub async fn admit(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str).to_owned();
    let of_payers = OF_PAYERS.iter().any(|(template, _)| *template == route);
    if of_payers && request.method() == Method::OPTIONS {
        return shared_with_browsers(StatusCode::NO_CONTENT.into_response());
    }
    let answer = async {
        match proven(&state, &route, request).await {
            Ok(request) => counted(&state, &route, request, next).await,
            Err(problem) => problem.into_response(),
        }
    };
    let response = match state.gate_of(&route) {
        Some(gate) => gate.pass(answer).await,
        None => answer.await,
    };
    if of_payers { shared_with_browsers(response) } else { response }
}

async fn counted(state: &AppState, route: &str, request: Request, next: Next) -> Response {
    let parties = match request.extensions().get::<Principal>() {
        Some(principal) if LIMITED.iter().any(|prefix| route.starts_with(prefix)) => parties(principal, request.uri()),
        // A caller that nobody knows is refused behind this door, and uses up nobody's share.
        Some(_) | None => return next.run(request).await,
    };
    let standing = state.limiter.take(parties).await;
    if !standing.admitted {
        return standing.refusal();
    }
    let mut response = next.run(request).await;
    standing.write(response.headers_mut());
    response
}

/// Whom a request counts for; the caller's own first.
fn parties(principal: &Principal, uri: &Uri) -> Vec<Party> {
    let merchant = principal.merchant;
    let own = match principal.proof {
        Proof::PaymentToken => [intent_of(uri).map(Party::Intent), merchant.map(Party::Payers)],
        Proof::Token | Proof::Signature => [merchant.map(Party::Merchant), None],
    };
    own.into_iter().flatten().chain([Party::All]).collect()
}

/// The request with its caller, where the caller can be known by now.
async fn proven(state: &AppState, route: &str, request: Request) -> Result<Request, Problem> {
    let authorization = one_authorization(request.headers());
    if authorization.as_deref().is_some_and(is_signature) {
        return signed(state, &authorization.unwrap_or_default(), request).await;
    }
    if opens_to_payers(request.method().as_str(), route) {
        let held = authorization.as_deref().and_then(|value| value.split_once(' ')).map(|(_, token)| token.trim().to_owned());
        match held {
            Some(token) if is_payment_token(&token) => return paying(state, &token, request),
            Some(_) => {}
            None => {
                let (token, request) = taken_out(state, request).await?;
                return match token {
                    Some(token) => paying(state, &token, request),
                    None => Ok(request),
                };
            }
        }
    }
    let mut request = request;
    if LIMITED.iter().any(|prefix| route.starts_with(prefix))
        && let Ok(principal) = bearer(request.headers()).and_then(|token| state.authenticate(token))
    {
        request.extensions_mut().insert(principal);
    }
    Ok(request)
}

/// The one `Authorization` header; several are left to be refused by whoever demands one.
fn one_authorization(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?.to_owned();
    values.next().is_none().then_some(value)
}

/// Credentials that were used a moment ago, so that not every request asks the database.
pub struct Partners {
    pool: PgPool,
    known: Cache<String, Known>,
}

#[derive(Clone)]
struct Known {
    at: Instant,
    credential: Arc<(Credential, SigningSecrets)>,
}

/// How long a credential is believed to be in force without asking.
const TRUSTED_FOR: Duration = Duration::from_secs(2);
/// Credentials remembered by a process.
const REMEMBERED: usize = 1_024;

impl Partners {
    /// Over the credentials in a database.
    pub fn new(pool: PgPool) -> Self {
        Self { pool, known: Cache::new(REMEMBERED) }
    }

    /// Where they are.
    pub const fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Forgets what was believed of a credential.
    pub fn forget(&self, key_id: &str) {
        drop(self.known.remove(key_id));
    }

    async fn find(&self, state: &AppState, key_id: &str) -> Result<Option<Arc<(Credential, SigningSecrets)>>, Problem> {
        if let Some(known) = self.known.get(key_id)
            && known.at.elapsed() < TRUSTED_FOR
        {
            return Ok(Some(known.credential));
        }
        let found = partner::find(&self.pool, &state.keyring()?, key_id).await?.map(Arc::new);
        match &found {
            Some(credential) => self.known.insert(key_id.to_owned(), Known { at: Instant::now(), credential: credential.clone() }),
            None => self.forget(key_id),
        }
        Ok(found)
    }
}

/// The request of a service that signed it. The body is what came, byte for byte, and goes on as it is.
async fn signed(state: &AppState, authorization: &str, request: Request) -> Result<Request, Problem> {
    let form = "a signature has the form 'HMAC-SHA256 <key id>:<timestamp>:<signature>' or \
                'HMAC-SHA256-V2 <key id>:<timestamp>:<nonce>:<signature>'";
    let claimed = Claimed::parse(authorization).ok_or_else(|| Problem::unauthorized(form))?;
    let now = state.clock.now();
    if !claimed.is_fresh(now) {
        return Err(Problem::plain(Kind::SignatureStale));
    }
    let found = state.partners.find(state, claimed.key_id).await?;
    let mut request = request;
    if found.is_none() {
        // Nobody knows who sends it: no long body is taken in, whatever the path takes.
        DefaultBodyLimit::max(MAX_BODY_BYTES).apply(&mut request);
    }
    let (parts, body) = request.into_parts();
    let body = body_bytes(Request::from_parts(parts.clone(), body), state).await?;
    let sent = parts.extensions.get::<Sent>().map_or_else(|| parts.uri.clone(), |sent| sent.0.clone());
    let what = Signed { method: parts.method.as_str(), path: sent.path(), query: sent.query().unwrap_or_default(), body: &body };
    // An unknown key costs the same work and gets the same answer as a wrong signature, during a rotation, too.
    let nobody = [b'-'; 64];
    let current = found.as_ref().map_or(&nobody, |found| &*found.1.current);
    let previous = found.as_ref().and_then(|found| found.1.previous_at(now)).map_or(&nobody, |secret| &**secret);
    let good = [current, previous].map(|key| claimed.is_of(key, &what)).contains(&true) && found.is_some();
    let Some(found) = found.filter(|found| good && !(found.0.nonce_only && claimed.version == Version::Published)) else {
        return Err(Problem::plain(Kind::SignatureInvalid));
    };
    let credential = &found.0;
    if let Version::WithNonce(nonce) = claimed.version {
        // Remembered for longer than any clock of ours would still believe the time-stamp.
        let until = DateTime::from_timestamp(claimed.signed_at().saturating_add(3 * MAX_SKEW_SECONDS), 0).unwrap_or(now);
        if !partner::take_nonce(state.partners.pool(), &credential.key_id, nonce, until, now).await? {
            return Err(Problem::plain(Kind::SignatureReplayed));
        }
    }
    let principal = service(credential, now).ok_or_else(|| Problem::internal(&"a credential has a role that is not known"))?;
    let mut request = Request::from_parts(parts, Body::from(body));
    request.extensions_mut().insert(principal);
    Ok(request)
}

fn service(credential: &Credential, now: DateTime<chrono::Utc>) -> Option<Principal> {
    let role = Role::ALL.into_iter().find(|role| role.as_str() == credential.role && role.needs_merchant())?;
    Some(Principal {
        subject: credential.key_id.clone(),
        role,
        psp: credential.psp,
        merchant: Some(credential.tenant),
        store: credential.store,
        device: None,
        expires_at: now,
        proof: Proof::Signature,
    })
}

/// The request of whoever holds the payment token of the very intent that it names.
fn paying(state: &AppState, token: &str, mut request: Request) -> Result<Request, Problem> {
    let refused = || Problem::unauthorized("the payment token is not valid, or not any more");
    let intent = intent_of(request.uri()).ok_or_else(refused)?;
    let (merchant, expires_at) = payment_token::verify(&state.keyring()?, token, intent, state.clock.now()).ok_or_else(refused)?;
    request.extensions_mut().insert(Principal {
        subject: intent.to_string(),
        // The least that may pay; `Principal::demand` and the routes above confine it further.
        role: Role::Cashier,
        psp: PspId(Ulid::nil()),
        merchant: Some(merchant),
        store: None,
        device: None,
        expires_at,
        proof: Proof::PaymentToken,
    });
    Ok(request)
}

fn intent_of(uri: &Uri) -> Option<PaymentIntentId> {
    uri.path().strip_prefix("/v1/payment-intents/")?.split('/').next()?.parse().ok()
}

/// The payment token of the query or the body, and the request without it, so that nothing behind this door sees or keeps it.
async fn taken_out(state: &AppState, request: Request) -> Result<(Option<String>, Request), Problem> {
    let (mut parts, body) = request.into_parts();
    let mut token = None;
    if let Some(query) = parts.uri.query() {
        let (tokens, kept): (Vec<&str>, Vec<&str>) =
            query.split('&').partition(|pair| pair.split('=').next().is_some_and(|name| name == PAYMENT_TOKEN));
        if let [one] = tokens.as_slice() {
            token = one.split_once('=').map(|(_, value)| value.to_owned());
            let query = if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) };
            parts.uri = with_target(&parts.uri, &format!("{}{query}", parts.uri.path())).unwrap_or(parts.uri);
        }
    }
    if parts.method == Method::GET || token.is_some() {
        return Ok((token, Request::from_parts(parts, body)));
    }
    let bytes = body_bytes(Request::from_parts(parts.clone(), body), state).await?;
    let body = match without_token(&bytes)? {
        Some((found, rest)) => {
            token = Some(found);
            parts.headers.remove(header::CONTENT_LENGTH);
            rest
        }
        None => bytes,
    };
    Ok((token, Request::from_parts(parts, Body::from(body))))
}

fn with_target(uri: &Uri, target: &str) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
    Uri::from_parts(parts).ok()
}

/// The token of a JSON object, and the object without it.
fn without_token(bytes: &Bytes) -> Result<Option<(String, Bytes)>, Problem> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let Value::Object(mut fields) = strict_json::parse(bytes)? else { return Ok(None) };
    let Some(Value::String(token)) = fields.remove(PAYMENT_TOKEN) else { return Ok(None) };
    Ok(Some((token, Bytes::from(Value::Object(fields).to_string()))))
}

/// Lets pages of any origin call: nothing here rests on cookies, and a token opens one intent.
fn shared_with_browsers(mut response: Response) -> Response {
    let pairs: [(HeaderName, &'static str); 5] = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type, idempotency-key, if-match, smartpos-correlation-id"),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, "etag, smartpos-correlation-id, ratelimit, ratelimit-policy, retry-after"),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    for (name, value) in pairs {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
