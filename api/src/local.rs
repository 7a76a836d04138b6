//! The whole platform on one machine: embedded servers (unless URLs are given), all roles, and a provider simulator when no
//! provider is configured. What `up`, `demo` and `import` run on.

use anyhow::{Context, Result};
use gateway::Secret;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use crate::{
    config::Config,
    embedded::{Embedded, EmbeddedConfig, write_api_url},
    key_file,
    platform::{Platform, ProcessRole, Servers, migrate},
    simulated_provider::{self, SimulatorProcess},
};

/// Embedded servers under supervision: one that ends by itself is started again.
pub struct LocalServers {
    /// Where they are.
    pub servers: Servers,
    /// The same for the platform itself, which runs beside them.
    beside: Servers,
    stop: oneshot::Sender<()>,
    supervisor: tokio::task::JoinHandle<Result<()>>,
}

impl LocalServers {
    /// Starts PostgreSQL and NATS in the data directory.
    ///
    /// # Errors
    /// A server does not start, or another process uses the directory.
    pub async fn start(config: &Config) -> Result<Self> {
        let embedded = Embedded::start(&EmbeddedConfig { data_dir: config.data_dir.clone() }).await?;
        let servers = Servers {
            database_url: embedded.database_url().to_owned(),
            owner_url: Some(embedded.admin_url().to_owned()),
            nats_url: embedded.nats_url().to_owned(),
        };
        let beside = Servers {
            database_url: embedded.by_socket(&servers.database_url),
            owner_url: servers.owner_url.as_deref().map(|url| embedded.by_socket(url)),
            nats_url: servers.nats_url.clone(),
        };
        let (stop, stopped) = oneshot::channel();
        let supervisor = tokio::spawn(supervise(embedded, stopped));
        Ok(Self { servers, beside, stop, supervisor })
    }

    /// Stops both servers in order.
    ///
    /// # Errors
    /// A server did not stop by itself and was ended.
    pub async fn stop(self) -> Result<()> {
        let _ = self.stop.send(());
        self.supervisor.await?
    }
}

async fn supervise(mut embedded: Embedded, mut stopped: oneshot::Receiver<()>) -> Result<()> {
    loop {
        tokio::select! {
            _ = &mut stopped => return Ok(embedded.stop().await?),
            () = tokio::time::sleep(std::time::Duration::from_millis(250)) => match embedded.revive().await {
                Ok(revived) if revived.is_empty() => {}
                Ok(revived) => tracing::warn!(?revived, "an embedded server had ended and was started again"),
                Err(error) => tracing::error!(%error, "an embedded server had ended and does not start"),
            },
        }
    }
}

/// Everything that runs on this machine for one command.
pub struct Local {
    /// The roles.
    pub platform: Platform,
    /// The provider simulator, when there is one.
    pub simulator: Option<SimulatorProcess>,
    /// Where the servers are.
    pub servers: Servers,
    /// The configuration as completed.
    pub config: Config,
    embedded: Option<LocalServers>,
}

impl Local {
    /// Starts servers, migrates, starts the simulator if needed, then `roles`.
    ///
    /// # Errors
    /// Whatever does not start, with its reason.
    pub async fn start(mut config: Config, roles: &[ProcessRole]) -> Result<Self> {
        let embedded = match (&config.database_url, &config.nats_url) {
            (Some(_), Some(_)) => None,
            (None, None) => Some(LocalServers::start(&config).await?),
            _ => anyhow::bail!("set both DATABASE_URL and NATS_URL, or neither to use embedded servers"),
        };
        let servers = match &embedded {
            Some(local) => local.servers.clone(),
            None => external_servers(&config)?,
        };
        migrate(&servers).await?;
        if config.auth.dev_issuer && config.auth.dev_secret.is_none() {
            config.auth.dev_secret = Some(dev_secret(&config)?);
        }
        let mut simulator = None;
        if config.providers.scb.is_none() && roles.contains(&ProcessRole::Gateway) {
            let process = SimulatorProcess::start(&format!("http://{}", config.http.listen), &config.data_dir).await?;
            config.providers.scb = Some(simulated_provider::settings(&process.base_url));
            simulator = Some(process);
        }
        let beside = embedded.as_ref().map_or(&servers, |local| &local.beside);
        let platform = Platform::start(&config, beside, roles).await?;
        if let (Some(address), Some(_)) = (platform.address, &embedded) {
            write_api_url(&config.data_dir, &format!("http://{address}")).context("the connection file cannot be written")?;
        }
        Ok(Self { platform, simulator, servers, config, embedded })
    }

    /// Stops everything: first the roles, then the simulator, then the servers.
    ///
    /// # Errors
    /// A server did not stop by itself.
    pub async fn stop(self) -> Result<()> {
        self.platform.stop().await;
        if let Some(simulator) = self.simulator {
            simulator.stop().await;
        }
        match self.embedded {
            Some(embedded) => embedded.stop().await,
            None => Ok(()),
        }
    }
}

/// The servers that the configuration names.
///
/// # Errors
/// One of the URLs is missing.
pub fn external_servers(config: &Config) -> Result<Servers> {
    let nats_url = config.nats_url.as_ref().context("NATS_URL is not set")?.reveal().to_owned();
    Ok(Servers { nats_url, ..database_servers(config)? })
}

/// The database that the configuration names, without a bus: enough for migrations.
///
/// # Errors
/// `DATABASE_URL` is missing.
pub fn database_servers(config: &Config) -> Result<Servers> {
    let database_url = config.database_url.as_ref().context("DATABASE_URL is not set")?.reveal().to_owned();
    let owner_url = config.migrate_database_url.as_ref().map(|url| url.reveal().to_owned());
    Ok(Servers { database_url, owner_url, nats_url: String::new() })
}

/// The secret of the development issuer, kept beside the data.
fn dev_secret(config: &Config) -> Result<Secret> {
    let secret = key_file::load_or_create::<anyhow::Error>(&config.data_dir.join("dev-secret"), || {
        let mut random = [0_u8; 24];
        getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        Ok(Zeroizing::new(hex::encode(random)))
    })?;
    Ok(Secret::new(secret.trim()))
}
