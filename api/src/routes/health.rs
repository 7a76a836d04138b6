//! `/healthz` (published as `/health`), `/readyz`, `/metrics`: how the process is.

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    problem::{Kind, Problem},
    state::{AppState, Readiness},
};

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(healthz)).routes(routes!(health)).routes(routes!(readyz)).routes(routes!(metrics))
}

/// The process is alive.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// `ok`.
    status: &'static str,
}

/// Whether the process is alive; asks nobody else.
#[utoipa::path(get, path = "/healthz", tag = "operation", security(()),
    responses((status = 200, description = "Alive", body = Health)))]
async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Whether the process is alive, by the published name.
#[utoipa::path(get, path = "/health", tag = "operation", security(()),
    responses((status = 200, description = "Alive", body = Health)))]
async fn health() -> Json<Health> {
    healthz().await
}

/// Whether requests can be served: the database answers and the read models are not far behind.
#[utoipa::path(get, path = "/readyz", tag = "operation", security(()),
    responses((status = 200, description = "Ready", body = Readiness), (status = 503, description = "Not ready", body = Readiness)))]
async fn readyz(State(state): State<AppState>) -> Response {
    let readiness = (state.readiness)().await;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}

/// Figures for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "operation", security(()),
    responses((status = 200, description = "Figures", content_type = "text/plain")))]
async fn metrics(State(state): State<AppState>) -> Result<Response, Problem> {
    let handle = state.metrics.as_ref().ok_or_else(|| Problem::plain(Kind::RouteNotFound))?;
    let text = HeaderValue::from_static("text/plain; version=0.0.4");
    Ok(([(header::CONTENT_TYPE, text)], handle.render()).into_response())
}
