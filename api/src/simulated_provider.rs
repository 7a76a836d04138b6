//! A provider's simulator as a process of its own. `up` and `demo` start SCB's when no provider is configured; `simulate-provider`
//! starts any of them, for the platform's own account there or for a merchant's (see `simulated_account.rs`).

use std::{
    io::Write as _,
    net::{Ipv4Addr, SocketAddr, TcpListener as StdListener},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use commands::system::SystemClock;
use domain::clock::Clock;
use domain::ids::ProviderAccountId;
use gateway::{ScbConfig, Secret, kbank, omise, scb, simulator::SimulatorConfig, stripe};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};
use tokio_util::sync::CancellationToken;

use crate::simulated_account::{API_KEY, API_SECRET, BILLER_ID, PATH_SECRET, SimulatedAccount};

/// Which provider is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Simulated {
    /// Siam Commercial Bank.
    #[default]
    Scb,
    /// Kasikornbank.
    Kbank,
    /// Omise.
    Omise,
    /// Stripe.
    Stripe,
}

impl Simulated {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Scb, Self::Kbank, Self::Omise, Self::Stripe];

    /// The provider's name, as in events and the webhook path.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scb => scb::NAME,
            Self::Kbank => kbank::NAME,
            Self::Omise => omise::NAME,
            Self::Stripe => stripe::NAME,
        }
    }
}

/// What `simulate-provider` can be told.
#[derive(Debug, Clone, clap::Args)]
pub struct SimulatorArgs {
    /// Which provider.
    #[arg(long, value_enum, default_value_t)]
    pub provider: Simulated,
    /// Address to listen on; port 0 picks a free one. The first line of output names it.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Base URL of the platform that call-backs go to.
    #[arg(long)]
    pub platform: String,
    /// `pac_…`: the merchant's account that call-backs are for. Without it they are for the platform's own account, and the
    /// second line of output is the body with which a merchant opens one here.
    #[arg(long)]
    pub account: Option<ProviderAccountId>,
    /// File that keeps the provider's own ledger.
    #[arg(long)]
    pub ledger: Option<PathBuf>,
    /// Seed of its transaction ids.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl SimulatorArgs {
    /// SCB for the platform's own account, in memory.
    pub fn new(listen: SocketAddr, platform: &str) -> Self {
        Self { provider: Simulated::Scb, listen, platform: platform.to_owned(), account: None, ledger: None, seed: 1 }
    }

    /// Where call-backs go, with the secret in the path where that is the provider's only proof.
    fn webhook_url(&self) -> String {
        let Self { provider, platform, account, .. } = self;
        let account = account.map(|id| format!("/accounts/{id}")).unwrap_or_default();
        let secret = match provider {
            Simulated::Scb | Simulated::Kbank => format!("/{PATH_SECRET}"),
            Simulated::Omise | Simulated::Stripe => String::new(),
        };
        format!("{platform}/webhooks/{}{account}{secret}", provider.name())
    }
}

/// Runs the simulator in this process until told to stop.
///
/// # Errors
/// The address or the ledger cannot be used.
pub async fn run(args: SimulatorArgs, shutdown: CancellationToken) -> Result<()> {
    let listener = tokio::net::TcpListener::bind(args.listen).await.with_context(|| format!("{} cannot be listened on", args.listen))?;
    let address = listener.local_addr()?;
    println!("{address}");
    if args.account.is_none() {
        // Who started it as a process of its own reads no further than the address, and may have closed its end by now.
        let opening = SimulatedAccount::of(args.provider, &format!("http://{address}")).opening();
        let _ = writeln!(std::io::stdout(), "{opening}");
    }
    let webhook_url = args.webhook_url();
    let config = SimulatorConfig { webhook_url, seed: args.seed, ledger_file: args.ledger, clock: Arc::new(|| SystemClock.now()) };
    let served = match args.provider {
        Simulated::Scb => scb::simulator::serve(listener, SimulatedAccount::scb(), config, shutdown).await,
        Simulated::Kbank => kbank::simulator::serve(listener, SimulatedAccount::kbank(), config, shutdown).await,
        Simulated::Omise => omise::simulator::serve(listener, SimulatedAccount::omise(), config, shutdown).await,
        Simulated::Stripe => stripe::simulator::serve(listener, SimulatedAccount::stripe(), config, shutdown).await,
    };
    served.context("the simulator ended")
}

/// Settings with which the platform uses a simulator at this base URL.
pub fn settings(base_url: &str) -> ScbConfig {
    ScbConfig {
        base_url: base_url.to_owned(),
        api_key: Secret::new(API_KEY),
        api_secret: Secret::new(API_SECRET),
        biller_id: BILLER_ID.to_owned(),
        reference3_prefix: "SIM".to_owned(),
        webhook_path_secret: Secret::new(PATH_SECRET),
        timeout_ms: 5_000,
        calls_per_second: None,
        quota_pause_ms: ScbConfig::default_quota_pause_ms(),
        void_profile: true,
    }
}

/// A simulator in a process of its own, started again when it dies; ends with this value.
pub struct SimulatorProcess {
    supervisor: tokio::task::JoinHandle<()>,
    /// `http://127.0.0.1:…`
    pub base_url: String,
}

impl SimulatorProcess {
    /// Starts this program again as a simulator that calls back to `platform`.
    ///
    /// # Errors
    /// The process does not start or does not say where it listens.
    pub async fn start(platform: &str, data_dir: &Path) -> Result<Self> {
        let listen = free_address()?;
        let ledger = data_dir.join("simulated-provider.jsonl");
        let child = spawn(platform, listen, &ledger).await?;
        let supervisor = tokio::spawn(supervise(child, platform.to_owned(), listen, ledger));
        Ok(Self { supervisor, base_url: format!("http://{listen}") })
    }

    /// Ends it.
    pub async fn stop(mut self) {
        self.supervisor.abort();
        // The child goes with the task that owns it.
        let _ = (&mut self.supervisor).await;
    }
}

impl Drop for SimulatorProcess {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

async fn spawn(platform: &str, listen: SocketAddr, ledger: &Path) -> Result<Child> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["simulate-provider", "--platform", platform, "--listen", &listen.to_string(), "--ledger"])
        .arg(ledger)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .context("the provider simulator does not start")?;
    let stdout = child.stdout.take().context("the provider simulator has no output")?;
    let line = tokio::time::timeout(Duration::from_secs(10), BufReader::new(stdout).lines().next_line()).await;
    line.ok().and_then(Result::ok).flatten().context("the provider simulator did not say where it listens")?;
    Ok(child)
}

async fn supervise(mut child: Child, platform: String, listen: SocketAddr, ledger: PathBuf) {
    loop {
        let ended = child.wait().await;
        tracing::warn!(?ended, "the provider simulator ended and is started again");
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            match spawn(&platform, listen, &ledger).await {
                Ok(next) => break child = next,
                Err(error) => tracing::error!(%error, "the provider simulator does not start"),
            }
        }
    }
}

/// A port that is free, for a listener that others must know before it listens. Below the ports that Linux gives to outgoing
/// connections (`net.ipv4.ip_local_port_range`, from 32768 on by default) and beside those that embedded servers choose from (20000 to
/// 29999), so that none takes it meanwhile; and this process never asks twice for one.
///
/// # Errors
/// The machine has none.
pub fn free_address() -> Result<SocketAddr> {
    const FIRST: u16 = 16_384;
    const COUNT: u32 = 6_384;
    static ASKED: AtomicU32 = AtomicU32::new(0);
    // Processes that are started one after the other begin far apart.
    let begin = std::process::id().wrapping_mul(3_947);
    for _ in 0..COUNT {
        let step = begin.wrapping_add(ASKED.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = FIRST + u16::try_from(step)?;
        let port = if port < 20_000 { port } else { port + 10_000 };
        if let Ok(listener) = StdListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return Ok(listener.local_addr()?);
        }
    }
    anyhow::bail!("no free port from {FIRST} on");
}
