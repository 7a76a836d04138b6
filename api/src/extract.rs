//! Extractors: how a request is read, and what is refused at the door. Every refusal is a [`Problem`].

pub mod card;
pub mod day;
pub mod moment;
pub mod strict_json;

use std::convert::Infallible;

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{HeaderMap, HeaderName, StatusCode, Uri, header, request::Parts},
    response::IntoResponse,
};
use domain::ids::Ulid;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::problem::{Kind, Problem};

/// Largest body.
pub const MAX_BODY_BYTES: usize = 64 * 1024;
/// Largest settlement list: some forty thousand rows.
pub const MAX_LIST_BYTES: usize = 4 * 1024 * 1024;
/// The key under which an answer is remembered.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Names a request across services; answered on every response.
pub const CORRELATION_ID: HeaderName = HeaderName::from_static("smartpos-correlation-id");
/// The name that others use for the same.
const X_CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");

/// A JSON body, read strictly, as `T` and as it came.
#[derive(Debug)]
pub struct Json<T> {
    /// Read as `T`.
    pub value: T,
    /// As it came, for the comparison of repeats.
    pub raw: Value,
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::plain(Kind::MediaTypeUnsupported));
        }
        let bytes = body_bytes(request, state).await?;
        let raw = strict_json::parse(&bytes)?;
        check_named(&raw, "", true)?;
        let value = strict_json::read(&raw)?;
        Ok(Self { value, raw })
    }
}

/// Fields go by their names: an object written as a list of its values would be read by their order. No request of this API
/// holds a list of anything but objects, so a list of plain values can only be that.
fn check_named(value: &Value, path: &str, object_wanted: bool) -> Result<(), Problem> {
    match value {
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| check_named(value, &format!("{path}/{name}"), false)),
        Value::Array(items) if !object_wanted => {
            items.iter().enumerate().try_for_each(|(n, item)| check_named(item, &format!("{path}/{n}"), true))
        }
        Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) if object_wanted => {
            let place = if path.is_empty() { "the body" } else { path };
            Err(Problem::new(Kind::BodyInvalid, format!("{place} must be a JSON object")))
        }
        Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

/// No body, or an empty JSON object.
#[derive(Debug, Clone, Copy)]
pub struct NoBody;

impl<S: Send + Sync> FromRequest<S> for NoBody {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let declared_json = is_json(request.headers());
        let bytes = body_bytes(request, state).await?;
        if bytes.is_empty() {
            return Ok(Self);
        }
        if !declared_json {
            return Err(Problem::plain(Kind::MediaTypeUnsupported));
        }
        let empty = strict_json::parse(&bytes)?.as_object().is_some_and(serde_json::Map::is_empty);
        if empty { Ok(Self) } else { Err(Problem::new(Kind::BodyInvalid, "this request takes no fields")) }
    }
}

/// A JSON body that may be left out altogether; then every field has its default.
#[derive(Debug)]
pub struct MaybeJson<T>(pub Json<T>);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for MaybeJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let bytes = body_bytes(Request::from_parts(parts.clone(), body), state).await?;
        if bytes.is_empty() {
            return Ok(Self(Json { value: T::default(), raw: Value::Null }));
        }
        Json::from_request(Request::from_parts(parts, bytes.into()), state).await.map(Self)
    }
}

/// A body in CSV, as it came.
#[derive(Debug)]
pub struct Csv(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for Csv {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_of_type(request.headers(), "text/csv") {
            return Err(Problem::plain(Kind::MediaTypeUnsupported));
        }
        body_bytes(request, state).await.map(Self)
    }
}

/// The bytes of a body that is no longer than its path takes: [`MAX_BODY_BYTES`], or [`MAX_LIST_BYTES`].
///
/// # Errors
/// `BodyTooLarge`, `RequestRefused`.
pub async fn body_bytes<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    Bytes::from_request(request, state).await.map_err(|rejection| match rejection.into_response().status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::plain(Kind::BodyTooLarge),
        _ => Problem::plain(Kind::RequestRefused),
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    is_of_type(headers, "application/json")
}

/// Whether the body says that it is of this media type, in UTF-8 if it says how it is written.
fn is_of_type(headers: &HeaderMap, media_type: &str) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut parts = content_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default().eq_ignore_ascii_case(media_type);
    essence && parts.all(|parameter| parameter.eq_ignore_ascii_case("charset=utf-8"))
}

/// The parameters of the path.
#[derive(Debug)]
pub struct Id<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Id<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let invalid = |error: axum::extract::rejection::PathRejection| Problem::new(Kind::ParameterInvalid, error.body_text());
        refuse_nul(parts.uri.path())?;
        Path::<T>::from_request_parts(parts, state).await.map(|Path(value)| Self(value)).map_err(invalid)
    }
}

/// The parameters of the query.
#[derive(Debug)]
pub struct Filter<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Filter<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let invalid = |error: axum::extract::rejection::QueryRejection| Problem::new(Kind::ParameterInvalid, error.body_text());
        refuse_nul(parts.uri.query().unwrap_or_default())?;
        Query::<T>::from_request_parts(parts, state).await.map(|Query(value)| Self(value)).map_err(invalid)
    }
}

/// NUL is in no text that anybody means, and no text of the database can hold it.
fn refuse_nul(encoded: &str) -> Result<(), Problem> {
    let nul = || Problem::new(Kind::ParameterInvalid, "a parameter holds the character U+0000");
    if encoded.contains("%00") { Err(nul()) } else { Ok(()) }
}

/// Names the request; made by the outermost middleware.
#[derive(Debug, Clone, Copy)]
pub struct Correlation(pub Ulid);

impl Correlation {
    /// The id that the caller gave, if it is one.
    pub fn given(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get(CORRELATION_ID).or_else(|| headers.get(X_CORRELATION_ID))?.to_str().ok()?;
        let id = Ulid::from_string(text).ok()?;
        // Only the canonical spelling, so that what is answered and logged is what was sent.
        (id.to_string() == text).then_some(Self(id))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Correlation {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().copied().unwrap_or(Self(Ulid::nil())))
    }
}

/// The caller's idempotency key.
///
/// # Errors
/// `IdempotencyKeyInvalid`.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let invalid = || Problem::plain(Kind::IdempotencyKeyInvalid);
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let key = value.to_str().map_err(|_| invalid())?;
    let printable = (1..=255).contains(&key.len()) && key.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if printable && values.next().is_none() { Ok(Some(key.to_owned())) } else { Err(invalid()) }
}

/// The version that the caller saw: `"3"`, `W/"3"` or `3`; `*` asks for nothing.
///
/// # Errors
/// `ParameterInvalid`.
pub fn if_match(headers: &HeaderMap) -> Result<Option<i64>, Problem> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    match version_of(text) {
        Some(version) => Ok(Some(version)),
        None => Err(Problem::new(Kind::ParameterInvalid, "If-Match must be the ETag of one version, such as \"3\"")),
    }
}

/// The version that an entity tag names.
pub fn version_of(tag: &str) -> Option<i64> {
    let strong = tag.trim().strip_prefix("W/").unwrap_or(tag.trim());
    let digits = strong.strip_prefix('"').map_or(Some(strong), |rest| rest.strip_suffix('"'))?;
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

/// Refuses card numbers in the path, the query and every header, and names of card data in the query; bodies are screened while they
/// are read. Headers with proofs of the caller are passed over: what they hold is hex or base64, and never kept.
///
/// # Errors
/// `CardNumberRefused`.
pub fn refuse_card_numbers(uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let target = percent_decoded(uri.path_and_query().map_or("", axum::http::uri::PathAndQuery::as_str));
    let named = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split('=').next());
    let proof = |name: &HeaderName| [header::AUTHORIZATION, header::COOKIE].contains(name);
    let texts = headers.iter().filter(|(name, _)| !proof(name)).filter_map(|(_, value)| value.to_str().ok());
    if card::holds_card_number(&target)
        || named.map(percent_decoded).any(|name| card::names_card_data(&name))
        || texts.into_iter().any(card::holds_card_number)
    {
        return Err(Problem::plain(Kind::CardNumberRefused));
    }
    Ok(())
}

/// A text with its percent escapes undone; broken ones stay.
pub fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let pair = (*byte == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        // `from_str_radix` would take `+4` as well.
        let pair = pair.filter(|pair| pair.bytes().all(|digit| digit.is_ascii_hexdigit()));
        if let Some(value) = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            decoded.push(value);
            at += 3;
        } else {
            decoded.push(*byte);
            at += 1;
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::HeaderValue};

    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    async fn body(content_type: &str, body: impl Into<Body>) -> Result<Value, Kind> {
        let request = Request::builder().method("POST").header("content-type", content_type).body(body.into()).unwrap();
        Json::<Value>::from_request(request, &()).await.map(|json| json.raw).map_err(|problem| problem.kind())
    }

    #[tokio::test]
    async fn only_json_of_a_bounded_size_is_read() {
        assert!(body("application/json", "{}").await.is_ok());
        assert!(body("Application/JSON; charset=UTF-8", "{}").await.is_ok());
        for other in ["text/plain", "", "application/x-www-form-urlencoded", "application/json; charset=latin1"] {
            assert_eq!(body(other, "{}").await, Err(Kind::MediaTypeUnsupported), "{other}");
        }
    }

    #[tokio::test]
    async fn a_list_is_csv_and_says_so() {
        let read = async |content_type: &str| {
            let request = Request::builder().method("POST").header("content-type", content_type).body(Body::from("a,b\n")).unwrap();
            Csv::from_request(request, &()).await.map(|Csv(bytes)| bytes).map_err(|problem| problem.kind())
        };
        for good in ["text/csv", "Text/CSV; charset=UTF-8"] {
            assert_eq!(read(good).await, Ok(Bytes::from_static(b"a,b\n")), "{good}");
        }
        for other in ["", "application/json", "text/plain", "text/csv; charset=tis-620"] {
            assert_eq!(read(other).await, Err(Kind::MediaTypeUnsupported), "{other}");
        }
    }

    #[tokio::test]
    async fn a_request_without_fields_takes_none() {
        let read = async |content_type: &str, body: &'static str| {
            let request = Request::builder().method("POST").header("content-type", content_type).body(Body::from(body)).unwrap();
            NoBody::from_request(request, &()).await.map_err(|problem| problem.kind())
        };
        assert!(read("text/plain", "").await.is_ok());
        assert!(read("application/json", " {} ").await.is_ok());
        assert_eq!(read("application/json", r#"{"a":1}"#).await.unwrap_err(), Kind::BodyInvalid);
        assert_eq!(read("text/plain", "{}").await.unwrap_err(), Kind::MediaTypeUnsupported);
    }

    #[test]
    fn an_idempotency_key_is_printable_and_bounded() {
        let key = |text: &str| idempotency_key(&headers(&[(IDEMPOTENCY_KEY, text)])).map_err(|problem| problem.kind());
        assert_eq!(idempotency_key(&HeaderMap::new()), Ok(None));
        assert_eq!(key("abc 1"), Ok(Some("abc 1".to_owned())));
        assert_eq!(key(&"k".repeat(255)), Ok(Some("k".repeat(255))));
        for bad in ["", "a\tb", &"k".repeat(256), "ก"] {
            assert_eq!(key(bad), Err(Kind::IdempotencyKeyInvalid), "{bad}");
        }
        let mut twice = headers(&[(IDEMPOTENCY_KEY, "a")]);
        twice.append(IDEMPOTENCY_KEY, HeaderValue::from_static("b"));
        assert!(idempotency_key(&twice).is_err());
    }

    #[test]
    fn if_match_names_a_version() {
        let version = |text: &str| if_match(&headers(&[(header::IF_MATCH, text)])).map_err(|problem| problem.kind());
        assert_eq!(version("\"3\""), Ok(Some(3)));
        assert_eq!(version("W/\"12\""), Ok(Some(12)));
        assert_eq!(version("3"), Ok(Some(3)));
        assert_eq!(version("*"), Ok(None));
        for bad in ["", "\"", "\"3", "abc", "\"1\", \"2\"", "-1", "+1", "\"\"", "99999999999999999999"] {
            assert_eq!(version(bad), Err(Kind::ParameterInvalid), "{bad}");
        }
    }

    #[test]
    fn a_correlation_id_is_taken_over_only_when_it_is_one() {
        let id = Ulid::from_bytes([5; 16]).to_string();
        let given = |text: &str| Correlation::given(&headers(&[(X_CORRELATION_ID, text)])).map(|correlation| correlation.0.to_string());
        assert_eq!(given(&id), Some(id.clone()));
        for bad in ["", "x", &id.to_lowercase(), "\u{1b}[31m"] {
            let mut map = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_str(bad) {
                map.insert(CORRELATION_ID, value);
            }
            assert!(Correlation::given(&map).is_none(), "{bad}");
        }
    }

    #[test]
    fn card_numbers_in_the_address_or_the_key_are_seen() {
        let refused = |uri: &str, key: &str| refuse_card_numbers(&uri.parse().unwrap(), &headers(&[(IDEMPOTENCY_KEY, key)])).is_err();
        assert!(refused("/v1/orders/4111111111111111", ""));
        assert!(refused("/v1/orders?note=4111%201111+1111-1111", ""));
        assert!(refused("/v1/orders?note=%34111111111111111", ""));
        assert!(refused("/v1/orders?note=%+4111111111111111", ""), "a broken escape hides no digit");
        assert!(refused("/v1/orders", "order 4111111111111111"));
        assert!(refused("/v1/orders?cvv=123", "") && refused("/v1/orders?a=1&Card%5FNumber=", ""));
        let agent = headers(&[(header::USER_AGENT, "till 4111 1111 1111 1111")]);
        assert!(refuse_card_numbers(&"/v1/orders".parse().unwrap(), &agent).is_err());
        assert!(!refused("/v1/orders/ord_01HZY3T5V6W7X8Y9Z0A1B2C3D4?limit=50&from=2026-11-22", "01HZY3T5V6W7X8Y9Z0A1B2C3D4"));
    }
}
