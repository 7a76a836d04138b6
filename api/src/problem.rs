//! Problems: the only place where something that went wrong becomes an HTTP answer (RFC 9457).
//!
//! Every kind has one `type`, title and status; `schemas/problems.md` lists them all. A rule of the domain keeps its own
//! name in `code`. Nothing of the machine room is told: no database text, no provider answer, no value that was sent.

use std::{borrow::Cow, fmt};

use axum::{
    Json,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use commands::error::CommandError;
use domain::{ids::Ulid, rejection::RejectionClass};
use serde::Serialize;
use utoipa::ToSchema;

/// What every `type` begins with.
const TYPE_PREFIX: &str = "urn:smartpos:problem:";
/// Seconds that a caller should wait before repeating.
const RETRY_AFTER_SECONDS: u8 = 1;

macro_rules! kinds {
    ($( $(#[$doc:meta])* $name:ident = $status:ident, $slug:literal, $title:literal $(, $retryable:ident)?; )*) => {
        /// A kind of problem.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Kind { $( $(#[$doc])* #[doc = $title] $name ),* }
        impl Kind {
            /// All kinds.
            pub const ALL: &'static [Self] = &[ $( Self::$name ),* ];
            /// The code of a problem of this kind that has no name of its own.
            pub const fn code(self) -> &'static str {
                match self { $( Self::$name => stringify!($name) ),* }
            }
            /// The last part of `type`.
            pub const fn slug(self) -> &'static str {
                match self { $( Self::$name => $slug ),* }
            }
            /// A short sentence that never changes.
            pub const fn title(self) -> &'static str {
                match self { $( Self::$name => $title ),* }
            }
            /// The HTTP status.
            pub const fn status(self) -> StatusCode {
                match self { $( Self::$name => StatusCode::$status ),* }
            }
            /// Repeating the very same request later may succeed.
            pub const fn is_retryable(self) -> bool {
                match self { $( Self::$name => kinds!(@flag $($retryable)?) ),* }
            }
        }
    };
    (@flag retryable) => { true };
    (@flag) => { false };
}

kinds! {
    BodyMalformed = BAD_REQUEST, "body-malformed", "The body is not acceptable JSON";
    BodyInvalid = BAD_REQUEST, "body-invalid", "A field is missing, unknown or of the wrong type";
    ParameterInvalid = BAD_REQUEST, "parameter-invalid", "A path, query or header parameter is not valid";
    CursorInvalid = BAD_REQUEST, "cursor-invalid", "The cursor was not given by this list, or not at this moment";
    MomentNotCome = BAD_REQUEST, "moment-not-come", "The moment asked for has not come yet";
    IdempotencyKeyMissing = BAD_REQUEST, "idempotency-key-missing", "The request needs an Idempotency-Key header";
    IdempotencyKeyInvalid = BAD_REQUEST, "idempotency-key-invalid", "The Idempotency-Key is not 1 to 255 printable ASCII characters";
    WebhookMalformed = BAD_REQUEST, "webhook-malformed", "The body is not a notification of this provider";
    Unauthenticated = UNAUTHORIZED, "unauthenticated", "The request carries no valid proof of who sends it";
    SignatureInvalid = UNAUTHORIZED, "signature-invalid", "The request is not signed by a credential in force";
    SignatureStale = UNAUTHORIZED, "signature-stale", "The request was signed more than five minutes away from now";
    SignatureReplayed = UNAUTHORIZED, "signature-replayed", "The request was sent before; a nonce is good once";
    WebhookRefused = UNAUTHORIZED, "webhook-refused", "The sender of the notification could not be verified";
    Forbidden = FORBIDDEN, "forbidden", "The caller's role does not allow this";
    NotFound = NOT_FOUND, "not-found", "There is no such thing for this caller";
    RouteNotFound = NOT_FOUND, "route-not-found", "There is no such path";
    MethodNotAllowed = METHOD_NOT_ALLOWED, "method-not-allowed", "The path does not take this method";
    StateConflict = CONFLICT, "state-conflict", "The thing is in a state that does not allow this";
    Conflict = CONFLICT, "conflict", "Others changed the same thing at the same time", retryable;
    VersionStale = PRECONDITION_FAILED, "version-stale", "The thing has another version than If-Match names";
    BodyTooLarge = PAYLOAD_TOO_LARGE, "body-too-large", "The body is larger than this path takes: 64 KiB, 4 MiB for a settlement list, 32 KiB for a call-back";
    MediaTypeUnsupported = UNSUPPORTED_MEDIA_TYPE, "media-type-unsupported", "The body must be application/json, or text/csv for a settlement list";
    RuleBroken = UNPROCESSABLE_ENTITY, "rule-broken", "The input breaks a rule";
    MomentTooLarge = UNPROCESSABLE_ENTITY, "moment-too-large", "Too much lies before the moment asked for to answer while the caller waits; ask for single things, or use `replay as-of`";
    SettlementListInvalid = UNPROCESSABLE_ENTITY, "settlement-list-invalid", "A line of the settlement list cannot be used, so nothing of it was";
    SettlementTooLarge = UNPROCESSABLE_ENTITY, "settlement-too-large", "Too much of the log belongs to the settlement list to answer while the caller waits; hand in one of a shorter time, or use `replay reconcile`";
    IdempotencyKeyReused = UNPROCESSABLE_ENTITY, "idempotency-key-reused", "The Idempotency-Key was used for another request";
    CardNumberRefused = UNPROCESSABLE_ENTITY, "card-number-refused", "The request holds what looks like a card number; it was neither read further nor stored";
    RateLimited = TOO_MANY_REQUESTS, "rate-limited", "Too many requests in this minute; nothing was done", retryable;
    RequestRefused = BAD_REQUEST, "request-refused", "The request could not be read";
    Internal = INTERNAL_SERVER_ERROR, "internal", "Something went wrong on our side";
    Unavailable = SERVICE_UNAVAILABLE, "unavailable", "The service cannot answer now; nothing was done", retryable;
    Overloaded = SERVICE_UNAVAILABLE, "overloaded", "Too much is waiting; nothing was done", retryable;
    OutcomeUnknown = SERVICE_UNAVAILABLE, "outcome-unknown", "It is not known whether the request took effect; repeat it with the same Idempotency-Key", retryable;
    ReadModelBehind = SERVICE_UNAVAILABLE, "read-model-behind", "The read model has not reached the wanted position", retryable;
    TimedOut = SERVICE_UNAVAILABLE, "timed-out", "The request took too long; repeat it with the same Idempotency-Key", retryable;
}

impl Kind {
    /// The `type` of RFC 9457.
    pub fn type_uri(self) -> String {
        format!("{TYPE_PREFIX}{}", self.slug())
    }
}

/// A problem on its way to the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    kind: Kind,
    code: &'static str,
    detail: Cow<'static, str>,
}

/// The body of every answer with a status of 400 and above, `application/problem+json`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// Names the kind of problem; see `schemas/problems.md`.
    #[schema(examples("urn:smartpos:problem:state-conflict"))]
    r#type: String,
    /// The kind in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What happened this time.
    detail: String,
    /// Names this occurrence.
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    /// The broken rule, or the kind; stable.
    #[schema(examples("OrderNotEditable"))]
    code: &'static str,
    /// Repeating the very same request later may succeed.
    retryable: bool,
    /// To be named when asking for help; the same as in the header `Smartpos-Correlation-Id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<String>,
}

impl Problem {
    /// A problem of this kind; `detail` is read by strangers.
    pub fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, code: kind.code(), detail: detail.into() }
    }

    /// A problem that says no more than its kind.
    pub fn plain(kind: Kind) -> Self {
        Self::new(kind, kind.title())
    }

    /// Nobody was proven to be the caller.
    pub fn unauthorized(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Unauthenticated, detail)
    }

    /// The caller may not do this.
    pub fn forbidden(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Forbidden, detail)
    }

    /// Something of ours failed. `reason` goes to the log and nowhere else.
    pub fn internal(reason: &dyn fmt::Display) -> Self {
        tracing::error!(%reason, "a request failed");
        Self::new(Kind::Internal, "the failure was recorded under the correlation id")
    }

    /// The database did not answer. `reason` goes to the log and nowhere else.
    pub fn unavailable(reason: &dyn fmt::Display) -> Self {
        tracing::warn!(%reason, "the database did not answer a request");
        Self::plain(Kind::Unavailable)
    }

    /// A thing that does not exist for this caller, under the name that the domain gives to its absence.
    pub fn missing(rejection: impl Into<domain::rejection::Rejected>) -> Self {
        CommandError::Rejected(rejection.into()).into()
    }

    /// What an answer without a problem body stands for: those of the router and of middleware.
    pub fn of_bare_status(status: StatusCode) -> Self {
        let same = |kind: &&Kind| kind.status() == status;
        let kind = match status {
            StatusCode::NOT_FOUND => Kind::RouteNotFound,
            StatusCode::BAD_REQUEST => Kind::RequestRefused,
            StatusCode::SERVICE_UNAVAILABLE => Kind::TimedOut,
            _ if status.is_server_error() => Kind::Internal,
            _ => Kind::ALL.iter().find(same).copied().unwrap_or(Kind::RequestRefused),
        };
        Self::plain(kind)
    }

    /// The kind.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The code on the wire.
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// The sentence on the wire.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The whole answer, naming the request that it belongs to. `headers` of an answer that it replaces are kept, because
    /// `Allow` and the like are part of what the status means.
    pub fn render(&self, correlation_id: Option<Ulid>, headers: &HeaderMap) -> Response {
        let body = ProblemBody {
            r#type: self.kind.type_uri(),
            title: self.kind.title(),
            status: self.kind.status().as_u16(),
            detail: self.detail.clone().into_owned(),
            // The path may hold a secret or a card number; the correlation id names the occurrence just as well.
            instance: correlation_id.map(|id| format!("urn:smartpos:request:{id}")),
            code: self.code,
            retryable: self.kind.is_retryable(),
            correlation_id: correlation_id.map(|id| id.to_string()),
        };
        let mut response = (self.kind.status(), Json(body)).into_response();
        let target = response.headers_mut();
        for (name, value) in headers {
            if !DESCRIBES_A_BODY.contains(name) {
                target.append(name, value.clone());
            }
        }
        target.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.kind.is_retryable() {
            target.entry(header::RETRY_AFTER).or_insert(HeaderValue::from(u16::from(RETRY_AFTER_SECONDS)));
        }
        if self.kind.status() == StatusCode::UNAUTHORIZED && self.kind != Kind::WebhookRefused {
            let schemes = "Bearer realm=\"smartpos\", HMAC-SHA256-V2 realm=\"smartpos\"";
            target.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(schemes));
        }
        response
    }
}

const DESCRIBES_A_BODY: [HeaderName; 4] =
    [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::TRANSFER_ENCODING];

impl IntoResponse for Problem {
    /// The answer without the names of the request; the outermost middleware writes it again with them.
    fn into_response(self) -> Response {
        let mut response = self.render(None, &HeaderMap::new());
        response.extensions_mut().insert(self);
        response
    }
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Rejected(rejected) => {
                let kind = match rejected.class {
                    RejectionClass::Missing => Kind::NotFound,
                    RejectionClass::Invalid => Kind::RuleBroken,
                    RejectionClass::State => Kind::StateConflict,
                };
                Self { kind, code: rejected.code, detail: rejected.message.into() }
            }
            CommandError::StaleVersion { current } => Self::new(Kind::VersionStale, format!("the current version is {current}")),
            CommandError::Conflict => Self::plain(Kind::Conflict),
            CommandError::KeyReused { field } => {
                Self::new(Kind::IdempotencyKeyReused, format!("the first request with this key differs in '{field}'"))
            }
            CommandError::Unavailable(reason) => Self::unavailable(&reason),
            CommandError::Overloaded => Self::plain(Kind::Overloaded),
            CommandError::OutcomeUnknown => Self::plain(Kind::OutcomeUnknown),
            error @ (CommandError::Fault(_) | CommandError::Corrupt { .. }) => Self::internal(&error),
        }
    }
}

impl From<projections::Error> for Problem {
    /// A read changes nothing, so whatever failed may be asked again; only data that makes no sense is a fault.
    fn from(error: projections::Error) -> Self {
        match error {
            projections::Error::Sql(error) => Self::unavailable(&error),
            projections::Error::Busy => Self::plain(Kind::Overloaded),
            projections::Error::TooMuch => Self::plain(Kind::MomentTooLarge),
            error @ (projections::Error::Corrupt { .. }
            | projections::Error::AheadOfLog { .. }
            | projections::Error::BadRow { .. }
            | projections::Error::Rebuild { .. }) => Self::internal(&error),
        }
    }
}

#[cfg(test)]
#[path = "problem_tests.rs"]
mod tests;
