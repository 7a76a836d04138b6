//! What every request has at hand.

use std::{ops::Deref, sync::Arc};

use commands::{handle::CommandHandler, looks::Looks, personal::Keyring, tasks::Tasks};
use domain::clock::{Clock, IdSource};
use futures_util::future::BoxFuture;
use metrics_exporter_prometheus::PrometheusHandle;
use projections::ReadModels;
use serde::Serialize;
use sqlx::PgPool;
use utoipa::ToSchema;

use crate::{
    account_providers::AccountProviders,
    auth::{TokenIssuer, TokenVerifier, admit::Partners},
    gate::Gate,
    limits::Limiter,
    problem::Problem,
};

/// The parts that the platform is composed of, as the edge needs them.
pub struct Parts {
    /// The write side.
    pub commands: CommandHandler,
    /// The read side.
    pub reads: ReadModels,
    /// Seals and opens personal data; only processes with the whole edge have it.
    pub keyring: Option<Keyring>,
    /// Credentials of services that sign their requests; together with the keyring.
    pub partners: Partners,
    /// Counts requests of the gateway routes.
    pub limiter: Limiter,
    /// What the edge asks beside the read models: keys of requests, call-backs, credentials.
    pub app_pool: PgPool,
    /// Stores what providers call back. Each waits for the disk, and nobody's query shall wait behind hundreds of them.
    pub call_back_pool: PgPool,
    /// Before what uses the pool of the edge.
    pub gate: Gate,
    /// Before what uses the pool of call-backs.
    pub call_back_gate: Gate,
    /// Told when a call-back is to be looked into, so that a worker of this process need not find out by itself.
    pub tasks: Arc<Tasks>,
    /// Looks at providers' books on request.
    pub looks: Looks,
    /// The log, for explanations: a role that may read it.
    pub log_pool: PgPool,
    /// Where webhook endpoints may be.
    pub webhook_addresses: gateway::outbound::AddressPolicy,
    /// The payment providers in service.
    pub providers: AccountProviders,
    /// Name of the provider that PromptPay payments go to.
    pub default_provider: String,
    /// Checks tokens.
    pub verifier: TokenVerifier,
    /// Issues tokens; only together with `dev_secret` does `/v1/auth/dev-token` exist.
    pub issuer: Option<TokenIssuer>,
    /// What a caller of `/v1/auth/dev-token` must know.
    pub dev_secret: Option<String>,
    /// The injected clock.
    pub clock: Arc<dyn Clock>,
    /// The injected ids.
    pub ids: Arc<dyn IdSource>,
    /// What `/metrics` renders.
    pub metrics: Option<PrometheusHandle>,
    /// What `/readyz` answers.
    pub readiness: Probe,
}

/// Asks the platform how it is.
pub type Probe = Arc<dyn Fn() -> BoxFuture<'static, Readiness> + Send + Sync>;

/// How the platform is.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Readiness {
    /// Requests can be served.
    pub ready: bool,
    /// The database answers.
    pub database: bool,
    /// How far each projection is behind the log, in positions.
    pub lag: Vec<Lag>,
}

/// How far one projection is behind.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Lag {
    /// The projection.
    pub projection: String,
    /// Positions between its checkpoint and the log's head.
    pub positions: i64,
}

/// The parts, shared. Cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<Parts>);

impl From<Parts> for AppState {
    fn from(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl AppState {
    /// The gate before what a route asks the database; none where it asks nothing.
    pub fn gate_of(&self, route: &str) -> Option<&Gate> {
        if route.starts_with("/v1/") { Some(&self.gate) } else { route.starts_with("/webhooks/").then_some(&self.call_back_gate) }
    }

    /// Seals and opens personal data.
    ///
    /// # Errors
    /// An internal problem where this process has no master key.
    pub fn keyring(&self) -> Result<Keyring, Problem> {
        self.keyring.clone().ok_or_else(|| Problem::internal(&"this process has no master key"))
    }
}

impl Deref for AppState {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}
