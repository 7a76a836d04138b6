//! The HTTP edge as one router: routes, aliases, and the layers that every request passes.

use std::{
    any::Any,
    time::{Duration, Instant},
};

use axum::{
    BoxError, Router,
    body::{Body, Bytes, HttpBody},
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    http::{self, HeaderValue, Method, StatusCode, Uri, header, uri::PathAndQuery},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
};
use metrics::histogram;
use tower::{ServiceBuilder, ServiceExt};
use tower_http::{catch_panic::CatchPanicLayer, limit::RequestBodyLimitLayer, timeout::TimeoutLayer};
use tracing::Instrument;
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use crate::{
    auth::admit::{Sent, admit},
    extract::{CORRELATION_ID, Correlation, MAX_BODY_BYTES, MAX_LIST_BYTES, refuse_card_numbers},
    linger, openapi,
    problem::{Kind, Problem},
    published,
    routes::{self, settlement_lists},
    state::AppState,
};

/// Longest time for one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// First path segments that answer without `/v1`, too.
const RESOURCES: [&str; 17] = [
    "api-keys",
    "auth",
    "bills",
    "customers",
    "events",
    "idempotency-keys",
    "inbound-webhooks",
    "merchants",
    "orders",
    "payment-intents",
    "payments",
    "provider-accounts",
    "providers",
    "refunds",
    "reports",
    "stores",
    "webhook-endpoints",
];

/// The edge of the platform. What else is to be served, such as `/ws`, is merged into it.
pub fn router(state: AppState) -> Router {
    let (routes, document) = described().split_for_parts();
    edge(routes.merge(SwaggerUi::new("/docs").url("/openapi.json", document)), state)
}

/// The edge of a process that only takes the call-backs of providers.
pub fn gateway_router(state: AppState) -> Router {
    let routes = OpenApiRouter::new().merge(routes::webhooks::router()).merge(routes::health::router());
    edge(routes.split_for_parts().0, state)
}

/// What a process answers that serves nobody else: how it is, and its figures.
pub fn operation_router(state: AppState) -> Router {
    edge(routes::health::router().split_for_parts().0, state)
}

/// All routes with their description.
pub fn described() -> OpenApiRouter<AppState> {
    let mut routes = OpenApiRouter::with_openapi(openapi::base())
        .merge(routes::auth::router())
        .merge(routes::merchants::router())
        .merge(routes::stores::router())
        .merge(routes::promptpay_qr::router())
        .merge(routes::orders::router())
        .merge(routes::order_lines::router())
        .merge(routes::bills::router())
        .merge(routes::payments::router())
        .merge(routes::payment_intents::router())
        .merge(routes::refunds::router())
        .merge(routes::customers::router())
        .merge(routes::reports::router())
        .merge(routes::provider_accounts::router())
        .merge(routes::settlement_lists::router())
        .merge(routes::providers::router())
        .merge(routes::inbound_webhooks::router())
        .merge(routes::api_keys::router())
        .merge(routes::idempotency_keys::router())
        .merge(routes::events::router())
        .merge(routes::webhook_endpoints::router())
        .merge(routes::webhook_deliveries::router())
        .merge(routes::webhooks::router())
        .merge(routes::health::router());
    openapi::complete(routes.get_openapi_mut());
    routes
}

fn edge(routes: Router<AppState>, state: AppState) -> Router {
    // One layer made of several, the outermost first: each layer of the router is a box around all that it holds, and is cloned with it
    // for every request.
    let layers = ServiceBuilder::new()
        .layer(from_fn_with_state(state.clone(), observe))
        .layer(from_fn(linger::read_on))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, REQUEST_TIMEOUT))
        .layer(RequestBodyLimitLayer::new(MAX_LIST_BYTES))
        .map_request(with_plain_body)
        .layer(from_fn(bounded))
        .layer(from_fn_with_state(state.clone(), admit))
        .layer(from_fn_with_state(state.clone(), published::translate));
    let inner = routes.fallback(no_route).layer(layers).with_state(state);
    // Aliases are renamed before routing, so that a request has one route, one metric and one idempotency scope.
    Router::new().fallback_service(inner.map_request(canonical))
}

fn with_plain_body<B>(request: http::Request<B>) -> Request
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    request.map(Body::new)
}

/// Refuses a body that is longer than its path takes, before anybody is asked for, since the door reads what is signed.
async fn bounded(mut request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let most = if route == settlement_lists::ROUTE { MAX_LIST_BYTES } else { MAX_BODY_BYTES };
    let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > most) {
        return Problem::plain(Kind::BodyTooLarge).into_response();
    }
    // One that does not say its length is cut off where it is read.
    DefaultBodyLimit::max(most).apply(&mut request);
    next.run(request).await
}

async fn no_route() -> Problem {
    Problem::plain(Kind::RouteNotFound)
}

/// The panic's own text may hold what a caller sent; the panic hook has written it where it belongs.
fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    Problem::internal(&"a handler panicked").into_response()
}

fn canonical(mut request: Request) -> Request {
    // As it was sent is how it was signed.
    let sent = Sent(request.uri().clone());
    request.extensions_mut().insert(sent);
    if let Some(uri) = canonical_uri(request.uri()) {
        *request.uri_mut() = uri;
    }
    request
}

/// The address under `/v1` for one of its aliases; `None` for any other address, and for one that stands there already.
fn canonical_uri(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    let rest = path.strip_prefix("/api/v1/").or_else(|| path.strip_prefix("/v1/")).or_else(|| path.strip_prefix('/'))?;
    let (name, tail) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let name = if name == "payment_intents" { "payment-intents" } else { name };
    if !RESOURCES.contains(&name) {
        return None;
    }
    if path.strip_prefix("/v1/").is_some_and(|rest| rest.starts_with(name)) {
        return None;
    }
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let target = format!("/v1/{name}{tail}{query}");
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
    Uri::from_parts(parts).ok()
}

/// Names, times and logs a request, and gives every problem its final form. The outermost layer.
async fn observe(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let correlation = Correlation::given(request.headers()).unwrap_or_else(|| Correlation(state.ids.next()));
    request.extensions_mut().insert(correlation);
    // The template, never the path: paths hold ids, and those of webhooks a secret.
    let route = request.extensions().get::<MatchedPath>().map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let method = method_label(request.method());
    let span = tracing::info_span!("request", method, route, correlation_id = %correlation.0);
    let screened = if route.starts_with("/webhooks/") { Ok(()) } else { refuse_card_numbers(request.uri(), request.headers()) };
    let answered = async move {
        match screened {
            Ok(()) => next.run(request).await,
            Err(problem) => problem.into_response(),
        }
    };
    let response = finished(answered.instrument(span.clone()).await, correlation);
    let (elapsed, status) = (started.elapsed(), response.status());
    histogram!("smartpos_http_seconds", "method" => method, "route" => route, "status" => status.as_u16().to_string())
        .record(elapsed.as_secs_f64());
    tracing::debug!(parent: &span, status = status.as_u16(), micros = elapsed.as_micros(), "answered");
    response
}

/// Methods are free text; metrics are not.
fn method_label(method: &Method) -> &'static str {
    let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    known.into_iter().find(|known| *known == method.as_str()).unwrap_or("OTHER")
}

fn finished(mut response: Response, correlation: Correlation) -> Response {
    let failed = response.status().is_client_error() || response.status().is_server_error();
    if failed {
        let known = response.extensions_mut().remove::<Problem>();
        // The router and the layers answer in plain text or not at all.
        let problem = known.or_else(|| (!is_json(&response)).then(|| Problem::of_bare_status(response.status())));
        if let Some(problem) = problem {
            response = problem.render(Some(correlation.0), response.headers());
        }
    }
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&correlation.0.to_string()) {
        headers.insert(CORRELATION_ID, id);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

fn is_json(response: &Response) -> bool {
    let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.starts_with("application/json") || content_type.starts_with("application/problem+json")
}

#[cfg(test)]
#[path = "router_tests/mod.rs"]
mod tests;
