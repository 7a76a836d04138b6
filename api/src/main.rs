//! `smartpos`: the platform as one binary with many roles.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use api::{
    api_key_command::{self, ApiKeyArgs},
    config::{Config, LogFormat},
    demo::{self, DemoArgs},
    import_command::{self, ImportArgs},
    local::{Local, database_servers, external_servers},
    platform::{Platform, ProcessRole, Servers, migrate},
    schemas_command,
    simulated_provider::{self, SimulatorArgs},
    telemetry,
    token_command::{self, TokenArgs},
    webhook_command,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Event-sourced orders, bills and payments for SmartPOS terminals.
#[derive(Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    /// Configuration file; without it `smartpos.toml` in the working directory, if there is one.
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    /// Where embedded servers keep their data.
    #[arg(long, global = true)]
    data_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything in one process on embedded PostgreSQL and NATS (or on DATABASE_URL and NATS_URL), and stay.
    Up {
        /// Address of the HTTP edge.
        #[arg(long)]
        listen: Option<std::net::SocketAddr>,
    },
    /// Play a trading day on a fresh platform, show it and prove it.
    Demo(DemoArgs),
    /// Run one or more roles against DATABASE_URL and NATS_URL.
    Serve {
        /// The roles of this process.
        #[arg(long = "role", required = true, value_enum)]
        roles: Vec<ProcessRole>,
        /// Address of the HTTP edge.
        #[arg(long)]
        listen: Option<std::net::SocketAddr>,
    },
    /// Bring the database to this build's schema and exit.
    Migrate,
    /// Import historical sales from a CSV file (plain or gzip) through the ordinary command path.
    Import(ImportArgs),
    /// Make a development token for the running platform of the data directory.
    Token(TokenArgs),
    /// Make a credential for a service that signs its requests.
    ApiKey(ApiKeyArgs),
    /// Run a provider's simulator.
    SimulateProvider(SimulatorArgs),
    /// Look into deliveries of webhooks.
    Webhook {
        /// What to do.
        #[command(subcommand)]
        action: webhook_command::Action,
    },
    /// Write or check the generated OpenAPI document and event schemas.
    Schemas {
        /// What to do.
        #[arg(value_enum)]
        action: schemas_command::Action,
    },
}

/// More open files than a process needs; some programs that are started from here look at every possible one.
const OPEN_FILES: u64 = 65_536;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    // Each connection is an open file, and the usual limit is 1,024 until somebody asks for what is allowed.
    let _ = rlimit::increase_nofile_limit(OPEN_FILES);
    match run(Cli::parse()).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            // The chain of causes is for the user; a backtrace is for a debugger.
            eprintln!("smartpos: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<()> {
    // First of all: whoever asks a process to stop while it starts is heard as well.
    let stop = match cli.command {
        Command::Up { .. } | Command::Serve { .. } | Command::SimulateProvider(_) => stop_on_signal().context("signals cannot be heard")?,
        Command::Demo(_)
        | Command::Migrate
        | Command::Import(_)
        | Command::Token(_)
        | Command::ApiKey(_)
        | Command::Webhook { .. }
        | Command::Schemas { .. } => CancellationToken::new(),
    };
    let mut config = Config::load(cli.config.as_deref()).context("the configuration cannot be used")?;
    if let Some(data_dir) = cli.data_dir {
        config.data_dir = data_dir;
    }
    // A demo and an import show their own progress; only trouble is worth a log line there.
    if matches!(cli.command, Command::Demo(_) | Command::Import(_)) && config.log.format == LogFormat::Text {
        "error".clone_into(&mut config.log.filter);
    }
    telemetry::start_logs(&config.log);
    match cli.command {
        Command::Up { listen } => up(listening(config, listen), stop).await,
        Command::Demo(args) => demo::run(config, args).await,
        Command::Serve { roles, listen } => serve(listening(config, listen), &roles, stop).await,
        Command::Migrate => migrate(&database_servers(&config)?).await,
        Command::Import(args) => import_command::run(config, args).await,
        Command::Token(args) => token_command::run(&config, &args),
        Command::ApiKey(args) => api_key_command::run(&config, args).await,
        Command::SimulateProvider(args) => simulated_provider::run(args, stop).await,
        Command::Webhook { action } => webhook_command::run(&action),
        Command::Schemas { action } => schemas_command::run(action),
    }
}

fn listening(mut config: Config, listen: Option<std::net::SocketAddr>) -> Config {
    config.http.listen = listen.unwrap_or(config.http.listen);
    config
}

/// Cancelled by Ctrl-C or SIGTERM.
fn stop_on_signal() -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let cancelled = token.clone();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        cancelled.cancel();
    });
    Ok(token)
}

async fn up(mut config: Config, stop: CancellationToken) -> Result<()> {
    config.auth.dev_issuer = true;
    // Servers are worth starting only when the edge can listen.
    std::net::TcpListener::bind(config.http.listen).with_context(|| format!("{} cannot be listened on", config.http.listen))?;
    let mut local = Local::start(config, &ProcessRole::ALL).await?;
    if let Some(address) = local.platform.address {
        println!("SmartPOS is up. Ctrl-C stops it.\n");
        println!("  API            http://{address}/v1");
        println!("  Documentation  http://{address}/docs");
        println!("  Health         http://{address}/readyz");
        println!("  Metrics        http://{address}/metrics");
        println!("  Data           {}", local.config.data_dir.display());
        println!("  SQL            psql '{}'", as_auditor(&local.servers.database_url));
        if let Some(simulator) = &local.simulator {
            println!("  Bank simulator {}/sim/ledger", simulator.base_url);
        }
        println!("\nA token:  smartpos --data-dir {} token --role platform_admin", local.config.data_dir.display());
    }
    let failed = tokio::select! {
        () = stop.cancelled() => None,
        failed = local.platform.failed() => Some(failed),
    };
    println!("Stopping.");
    local.stop().await?;
    failed.map_or(Ok(()), |failed| Err(anyhow::anyhow!(failed)))
}

/// The URL for a person (or `replay`) who looks around under the auditors' role, which can only read.
fn as_auditor(database_url: &str) -> String {
    let separator = if database_url.contains('?') { '&' } else { '?' };
    format!("{database_url}{separator}options=-crole%3Dsmartpos_auditor")
}

async fn serve(config: Config, roles: &[ProcessRole], stop: CancellationToken) -> Result<()> {
    let servers = external_servers(&config)?;
    // A database that is away is waited for: a process that gave up would have to be started again by somebody.
    let mut platform = loop {
        let started = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            started = start(&config, &servers, roles) => started,
        };
        match started {
            Ok(platform) => break platform,
            Err(error) if database_is_away(&error) => {
                tracing::warn!("waiting for the database: {error:#}");
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    () = tokio::time::sleep(std::time::Duration::from_millis(300)) => {}
                }
            }
            Err(error) => return Err(error),
        }
    };
    if let Some(address) = platform.address {
        tracing::info!(?roles, %address, "started");
    } else {
        tracing::info!(?roles, "started");
    }
    let failed = tokio::select! {
        () = stop.cancelled() => None,
        failed = platform.failed() => Some(failed),
    };
    platform.stop().await;
    failed.map_or(Ok(()), |failed| Err(anyhow::anyhow!(failed)))
}

async fn start(config: &Config, servers: &Servers, roles: &[ProcessRole]) -> Result<Platform> {
    if servers.owner_url.is_some() {
        migrate(servers).await?;
    }
    Platform::start(config, servers, roles).await
}

/// The server could not be reached, is starting or stopping, or takes no writes for now, as opposed to refusing what it was asked.
fn database_is_away(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref::<sqlx::Error>()).any(|error| match error.as_database_error() {
        Some(database) => database.code().is_some_and(|code| ["08", "25", "53", "57"].iter().any(|class| code.starts_with(class))),
        None => matches!(error, sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::Protocol(_)),
    })
}

#[cfg(test)]
mod tests {
    use super::as_auditor;

    #[test]
    fn the_url_that_is_printed_is_one_whatever_it_holds_already() {
        for url in ["postgres://smartpos:x@127.0.0.1:5432/smartpos", "postgres://smartpos:x@127.0.0.1:5432/smartpos?sslmode=disable"] {
            let printed: sqlx::postgres::PgConnectOptions = as_auditor(url).parse().unwrap();
            assert_eq!(printed.get_options(), Some("-crole=smartpos_auditor"), "{url}");
        }
    }
}
