//! Composes the roles of a process: connects, starts the loops that its roles need, stops them in order.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use async_nats::Client as Nats;
use axum::Router;
use commands::{
    bus, call_backs, committer,
    database::{self, Role},
    event_log::PgAppender,
    event_store::{self, LogHead},
    handle::CommandHandler,
    own_commits::OwnCommits,
    personal::Keyring,
    process_runner,
    provider_accounts::ProviderAccounts,
    provider_worker, relay,
    system::{RandomIds, SystemClock},
    tasks::Tasks,
};
use domain::{clock::Clock, event::DomainEvent, upcast};
use gateway::{ProviderRegistry, ScbProvider};
use metrics_exporter_prometheus::PrometheusHandle;
use projections::{Feed, LogReader, ReadModels, queries::Progress, runner};
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    account_providers::AccountProviders,
    auth::{SigningKey, TokenIssuer, TokenVerifier, admit::Partners, load_or_create_key},
    config::Config,
    gate::Gate,
    limits::Limiter,
    master_key, router, server,
    state::{AppState, Lag, Parts, Readiness},
    telemetry,
    webhook_delivery::Courier,
    ws::{self, WsState, hub::Hub},
};

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ProcessRole {
    /// The HTTP edge and the WebSocket.
    Api,
    /// Calls providers and takes their call-backs.
    Gateway,
    /// Copies the log to JetStream.
    Relay,
    /// Folds the read models.
    Projector,
    /// Drives the process managers, delivers webhooks.
    Worker,
}

impl ProcessRole {
    /// Every role: what `up` runs in one process.
    pub const ALL: [Self; 5] = [Self::Api, Self::Gateway, Self::Relay, Self::Projector, Self::Worker];
}

/// Where the servers are.
#[derive(Debug, Clone)]
pub struct Servers {
    /// PostgreSQL, as the login role that may take on the group roles.
    pub database_url: String,
    /// PostgreSQL, as the owner; only for migrations.
    pub owner_url: Option<String>,
    /// NATS.
    pub nats_url: String,
}

/// Brings the database to this build's schema: log, processes, read models. Safe to repeat and to run twice at once.
///
/// # Errors
/// The database does not answer, or a newer build migrated it.
pub async fn migrate(servers: &Servers) -> Result<()> {
    let owner_url = servers.owner_url.as_deref().unwrap_or(&servers.database_url);
    let owner = PgPoolOptions::new().max_connections(2).acquire_timeout(Duration::from_secs(10)).connect(owner_url).await;
    let owner = owner.context("the database does not answer")?;
    let member = database::options(&servers.database_url, Role::App)?.get_username().to_owned();
    let owner_name = database::options(owner_url, Role::App)?.get_username().to_owned();
    database::migrate(&owner, (member != owner_name).then_some(member.as_str())).await.context("the database could not be migrated")?;
    projections::install::install(&owner).await.context("the read models could not be set up")?;
    owner.close().await;
    Ok(())
}

/// A running process.
pub struct Platform {
    /// Where this process listens, if anywhere.
    pub address: Option<SocketAddr>,
    /// Handles commands.
    pub commands: CommandHandler,
    /// The log and the read models under the worker role.
    pub worker_pool: PgPool,
    /// Answers queries.
    pub reads: ReadModels,
    /// Signs tokens.
    pub key: SigningKey,
    shutdown: CancellationToken,
    committer_stop: CancellationToken,
    loops: JoinSet<&'static str>,
    committer: tokio::task::JoinHandle<()>,
}

/// What the loops of a process share.
struct Shared {
    commands: CommandHandler,
    app_pool: PgPool,
    call_back_pool: PgPool,
    /// Before these two.
    gates: (Gate, Gate),
    worker_pool: PgPool,
    process_pool: PgPool,
    projector_pool: PgPool,
    nats: Nats,
    news: committer::News,
    tasks: Arc<Tasks>,
    providers: AccountProviders,
    shutdown: CancellationToken,
    head: LogHead,
    feed: Feed,
    hub: Hub,
    metrics: Option<PrometheusHandle>,
}

/// How far the readers of a log are, by positions.
#[derive(Debug)]
pub struct Standing {
    /// Where the log ends.
    pub head: i64,
    /// Up to where each reader has read, inclusive.
    pub read: Vec<i64>,
}

impl Platform {
    /// Connects and starts `roles`. NATS may be away: that only costs latency.
    ///
    /// # Errors
    /// The database does not answer, is not migrated, or a setting cannot be used.
    pub async fn start(config: &Config, servers: &Servers, roles: &[ProcessRole]) -> Result<Self> {
        Self::start_by(config, servers, roles, Arc::new(SystemClock)).await
    }

    /// The same by another clock: deadlines, schedules and signature windows follow it. The log keeps the database's time.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_by(config: &Config, servers: &Servers, roles: &[ProcessRole], clock: Arc<dyn Clock>) -> Result<Self> {
        let gaps = upcast::prove_complete(&DomainEvent::catalog(), upcast::STEPS);
        if !gaps.is_empty() {
            bail!("this build cannot read every stored event: {}", gaps.join("; "));
        }
        let shutdown = CancellationToken::new();
        let committer_stop = CancellationToken::new();
        // Before any loop: a gauge that is set once would be set for nobody.
        let listen = listens_at(config, roles);
        let metrics = listen.and_then(|_| telemetry::start_metrics());
        let news = committer::News::of_commits();
        let (app_pool, used) = database::watched_pool(&servers.database_url, Role::App, config.http.query_connections)?;
        let (call_back_pool, called_back) = database::watched_pool(&servers.database_url, Role::App, config.http.call_back_connections)?;
        let gates = (Gate::before(app_pool.clone(), used), Gate::before(call_back_pool.clone(), called_back));
        let worker_pool = database::pool(&servers.database_url, Role::Worker, 16)?;
        let process_pool = database::pool_of_derived(&servers.database_url, 8)?;
        let projector_pool = database::pool_of_derived(&servers.database_url, 8)?;
        let head = event_store::log_head(&worker_pool).await.context("the log cannot be read; was the database migrated?")?;
        // Before anything runs: with the wrong key nothing may be written.
        let sealing = [ProcessRole::Api, ProcessRole::Gateway, ProcessRole::Worker].iter().any(|role| roles.contains(role));
        let keyring = if sealing { Some(master_key::keyring(config, &app_pool).await?) } else { None };
        let app_options = database::options(&servers.database_url, Role::App)?;
        let (committer, committer_task) = committer::spawn(PgAppender::new(app_options), news.clone(), committer_stop.clone());
        let commands = CommandHandler::new(app_pool.clone(), committer, clock.clone(), Arc::new(RandomIds));
        let providers = account_providers(config, &app_pool, keyring.as_ref(), clock)?;
        let known = providers.clone();
        commands.route_by(Arc::new(move |tenant| {
            let known = known.clone();
            Box::pin(async move { known.candidates(tenant).await })
        }));
        let (options, address) = crate::embedded::nats_options(&servers.nats_url).context("NATS_URL cannot be used")?;
        let nats = options.retry_on_initial_connect().connect(address).await.context("NATS_URL cannot be used")?;
        // One reader of the log for all projections and the sockets of this process.
        let feed = Feed::start(LogReader::new(projector_pool.clone()), Some(nats.clone()), news.follow(), shutdown.clone());
        let shared = Shared {
            commands: commands.clone(),
            app_pool,
            call_back_pool,
            gates,
            worker_pool: worker_pool.clone(),
            process_pool,
            projector_pool,
            nats,
            news,
            tasks: Arc::new(Tasks::default()),
            providers,
            shutdown: shutdown.clone(),
            head,
            feed,
            hub: Hub::starting_at(head.pos, head.epoch),
            metrics,
        };
        let key = signing_key(config)?;
        let mut loops = JoinSet::new();
        // Whoever handles commands must hear of what others write, also where no socket listens.
        if sealing {
            shared.follow_log(&mut loops);
        }
        if let (true, Some(keyring)) = (roles.contains(&ProcessRole::Worker), &keyring) {
            let courier = Courier::new(config, worker_pool.clone(), commands.clone(), keyring.clone())?;
            loops.spawn(named("webhook deliveries", courier.run(shared.news.moved.subscribe(), shutdown.clone())));
        }
        loops.spawn(named("poke", poke(shared.nats.clone(), shared.head, shared.news.moved.subscribe(), shutdown.clone())));
        let mut projectors = Vec::new();
        for role in roles {
            shared.start(*role, &mut loops, &mut projectors);
        }
        let reads = ReadModels::new(shared.app_pool.clone()).following(projectors);
        let mut address = None;
        if let Some(listen) = listen {
            let app = shared.app(roles, shared.state(config, &key, &reads, keyring)?);
            address = Some(shared.serve(listen, config, app, &mut loops)?);
        }
        Ok(Self { address, commands, worker_pool, reads, key, shutdown, committer_stop, loops, committer: committer_task })
    }

    /// How far read models and process managers are.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn standing(&self) -> Result<Standing> {
        let lags = self.reads.lag().await?;
        let managers = "select coalesce(max(pos), 0) from process.checkpoint";
        let managers: i64 = sqlx::query_scalar(managers).fetch_one(&self.worker_pool).await?;
        let head = lags.iter().map(|lag| lag.head).max().unwrap_or(0);
        Ok(Standing { head, read: lags.iter().map(|lag| lag.checkpoint).chain([managers]).collect() })
    }

    /// Waits until a loop ends by itself, which none should; names it.
    pub async fn failed(&mut self) -> String {
        match self.loops.join_next().await {
            Some(Ok(name)) => format!("{name} ended"),
            Some(Err(error)) => format!("a loop broke: {error}"),
            None => std::future::pending().await,
        }
    }

    /// Stops taking requests, finishes those under way, stops the loops, then the committer. Bounded.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        let all = async { while self.loops.join_next().await.is_some() {} };
        if tokio::time::timeout(Duration::from_secs(6), all).await.is_err() {
            tracing::warn!("some loops did not stop in time");
            self.loops.abort_all();
        }
        self.committer_stop.cancel();
        if tokio::time::timeout(Duration::from_secs(2), self.committer).await.is_err() {
            tracing::warn!("the committer did not stop in time");
        }
        self.worker_pool.close().await;
    }
}

/// Where a process of these roles listens, if anywhere.
fn listens_at(config: &Config, roles: &[ProcessRole]) -> Option<SocketAddr> {
    if roles.contains(&ProcessRole::Api) || roles.contains(&ProcessRole::Gateway) {
        Some(config.http.listen)
    } else {
        config.http.metrics_listen
    }
}

async fn named(name: &'static str, work: impl Future<Output = ()>) -> &'static str {
    work.await;
    name
}

impl Shared {
    /// Starts the loops of a role; `projectors` gets the checkpoint of each projector among them.
    fn start(&self, role: ProcessRole, loops: &mut JoinSet<&'static str>, projectors: &mut Vec<Progress>) {
        match role {
            ProcessRole::Api => {}
            ProcessRole::Relay => {
                let (log, bus) = (self.worker_pool.clone(), bus::Nats::new(self.nats.clone()));
                let work = relay::run(log, bus, self.news.moved.subscribe(), self.own_commits(), self.shutdown.clone());
                loops.spawn(named("relay", work));
            }
            ProcessRole::Projector => {
                let turns = runner::Turns::default();
                for projection in projections::all() {
                    let (progress, follow) = watch::channel(0);
                    projectors.push((projection.name(), follow));
                    let (pool, feed, shutdown) = (self.projector_pool.clone(), self.feed.clone(), self.shutdown.clone());
                    let work = runner::run(projection, pool, feed, shutdown, progress, turns.clone());
                    loops.spawn(named("projector", work));
                }
            }
            ProcessRole::Worker => {
                let (pool, commands) = (self.process_pool.clone(), self.commands.clone());
                let (moved, tasks) = (self.news.moved.subscribe(), self.tasks.clone());
                let work = process_runner::run(pool, commands, moved, self.own_commits(), tasks, self.shutdown.clone());
                loops.spawn(named("process managers", work));
            }
            ProcessRole::Gateway => {
                let known = self.providers.clone();
                let find: provider_worker::Providers = Arc::new(move |tenant, name| {
                    let known = known.clone();
                    Box::pin(async move { known.find(tenant, &name).await })
                });
                let (pool, commands) = (self.process_pool.clone(), self.commands.clone());
                let work = provider_worker::run(pool, commands, find, self.tasks.clone(), self.shutdown.clone());
                loops.spawn(named("provider worker", work));
                let work = call_backs::run(self.worker_pool.clone(), self.commands.clock().clone(), self.shutdown.clone());
                loops.spawn(named("parked call-backs", work));
            }
        }
    }

    /// Tells the command handler what other processes wrote and when the log went back, and sockets what happened.
    fn follow_log(&self, loops: &mut JoinSet<&'static str>) {
        let (feed, log, hub) = (self.feed.clone(), self.worker_pool.clone(), self.hub.clone());
        let work = ws::feed_hub(feed, log, hub, self.commands.clone(), self.head.pos, self.shutdown.clone());
        loops.spawn(named("live events", work));
    }

    fn own_commits(&self) -> OwnCommits {
        OwnCommits::of(self.news.follow())
    }

    fn state(&self, config: &Config, key: &SigningKey, reads: &ReadModels, keyring: Option<Keyring>) -> Result<AppState> {
        let dev = config.auth.dev_issuer;
        let readiness_of = reads.clone();
        let parts = Parts {
            commands: self.commands.clone(),
            reads: reads.clone(),
            keyring,
            partners: Partners::new(self.app_pool.clone()),
            limiter: limiter(config, &self.shutdown)?,
            app_pool: self.app_pool.clone(),
            call_back_pool: self.call_back_pool.clone(),
            gate: self.gates.0.clone(),
            call_back_gate: self.gates.1.clone(),
            tasks: self.tasks.clone(),
            looks: commands::looks::Looks::default(),
            log_pool: self.worker_pool.clone(),
            webhook_addresses: config.webhooks.addresses(),
            providers: self.providers.clone(),
            default_provider: "scb".to_owned(),
            verifier: TokenVerifier::new(key)?,
            issuer: if dev { Some(TokenIssuer::new(key)?) } else { None },
            dev_secret: config.auth.dev_secret.as_ref().filter(|_| dev).map(|secret| secret.reveal().to_owned()),
            clock: self.commands.clock().clone(),
            ids: self.commands.ids().clone(),
            metrics: self.metrics.clone(),
            readiness: Arc::new(move || {
                let reads = readiness_of.clone();
                Box::pin(async move { readiness(&reads).await })
            }),
        };
        Ok(AppState::from(parts))
    }

    /// What these roles answer.
    fn app(&self, roles: &[ProcessRole], state: AppState) -> Router {
        let app = if roles.contains(&ProcessRole::Api) {
            router::router(state.clone())
        } else if roles.contains(&ProcessRole::Gateway) {
            router::gateway_router(state.clone())
        } else {
            router::operation_router(state.clone())
        };
        if !roles.contains(&ProcessRole::Api) {
            return app;
        }
        let (hub, log, shutdown) = (self.hub.clone(), self.worker_pool.clone(), self.shutdown.clone());
        app.merge(ws::router(WsState { hub, log, app: state, shutdown }))
    }

    fn serve(&self, listen: SocketAddr, config: &Config, app: Router, loops: &mut JoinSet<&'static str>) -> Result<SocketAddr> {
        let listener = server::listen(listen).with_context(|| {
            format!("{listen} cannot be listened on; set SMARTPOS_HTTP__LISTEN (SMARTPOS_HTTP__METRICS_LISTEN without the roles api and gateway)")
        })?;
        let address = listener.local_addr()?;
        let (keep_alive, shutdown) = (Duration::from_secs(config.http.keep_alive_seconds.get().into()), self.shutdown.clone());
        loops.spawn(named("http", server::serve(listener, app, keep_alive, shutdown)));
        Ok(address)
    }
}

fn account_providers(config: &Config, pool: &PgPool, keyring: Option<&Keyring>, clock: Arc<dyn Clock>) -> Result<AccountProviders> {
    let accounts = keyring.map(|keyring| ProviderAccounts::new(pool.clone(), keyring.clone()));
    let clock: gateway::Clock = Arc::new(move || clock.now());
    Ok(AccountProviders::new(accounts, &providers(config, clock.clone())?, clock, config.providers.accounts.clone()))
}

fn providers(config: &Config, clock: gateway::Clock) -> Result<ProviderRegistry> {
    let mut registry = ProviderRegistry::new();
    if let Some(scb) = &config.providers.scb {
        let provider = ScbProvider::new(scb.clone(), clock).context("providers.scb cannot be used")?;
        registry = registry.with(Arc::new(provider))?;
    }
    Ok(registry)
}

fn limiter(config: &Config, shutdown: &CancellationToken) -> Result<Limiter> {
    match &config.redis_url {
        Some(url) => Limiter::shared(config.limits, url.reveal(), shutdown.clone()),
        None => Ok(Limiter::local(config.limits)),
    }
}

fn signing_key(config: &Config) -> Result<SigningKey> {
    let file = config.auth.key_file.clone().unwrap_or_else(|| config.data_dir.join("auth.pem"));
    load_or_create_key(&file).with_context(|| format!("the key {} cannot be used", file.display()))
}

/// A projection further behind than this makes the process not ready.
const MAX_LAG: i64 = 10_000;

async fn readiness(reads: &ReadModels) -> Readiness {
    match tokio::time::timeout(Duration::from_secs(2), reads.lag()).await {
        Ok(Ok(lags)) => {
            let caught_up = lags.iter().all(|lag| lag.events() <= MAX_LAG);
            let lag = lags.into_iter().map(|lag| Lag { positions: lag.events(), projection: lag.name }).collect();
            Readiness { ready: caught_up, database: true, lag }
        }
        Ok(Err(_)) | Err(_) => Readiness { ready: false, database: false, lag: Vec::new() },
    }
}

/// Tells other processes that this one wrote to the log. Best effort: they poll as well.
async fn poke(nats: Nats, head: LogHead, mut moved: watch::Receiver<i64>, shutdown: CancellationToken) {
    let subject = relay::poke_subject(&head);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = moved.changed() => if changed.is_err() { return },
        }
        let position = *moved.borrow_and_update();
        if nats.connection_state() == async_nats::connection::State::Connected {
            let _ = nats.publish(subject.clone(), position.to_string().into()).await;
        }
    }
}
