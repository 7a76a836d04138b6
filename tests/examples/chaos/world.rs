//! The processes: two servers, the five roles of the platform in six processes, a simulated provider; a proxy on every line between them.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use api::{
    auth::{SigningKey, load_or_create_key},
    embedded::{Embedded, EmbeddedConfig},
    platform::{Servers, migrate},
    simulated_provider::free_address,
};
use sqlx::{PgPool, postgres::PgPoolOptions};
use support::{PATIENCE, Process, Proxy, ScratchDir, bank_environment};

use crate::{
    disks::Disks,
    measure::Measure,
    plan::{End, Line, Part, ROLES, lines},
    schedule::Means,
};

/// How long one question whether a process serves waits for its answer; then it is asked again.
const ONE_QUESTION: Duration = Duration::from_secs(10);

/// Everything that runs, and how to break it.
pub struct World {
    pub embedded: Embedded,
    pub disks: Option<Disks>,
    /// Why there are none.
    pub no_disks: Option<String>,
    pub lines: BTreeMap<Line, Proxy>,
    pub processes: BTreeMap<Part, Process>,
    /// Second copies.
    pub twins: Vec<Process>,
    /// Straight to the database, past every proxy.
    pub log: PgPool,
    pub http: reqwest::Client,
    /// Signs tokens.
    pub key: SigningKey,
    pub measure: Arc<Measure>,
    listen: BTreeMap<Part, String>,
    /// How long the logs were when their processes were started.
    log_start: BTreeMap<Part, u64>,
    dir: ScratchDir,
}

impl World {
    /// Starts everything.
    pub async fn start(seed: u64, measure: Arc<Measure>) -> Result<Self> {
        let dir = ScratchDir::new(&format!("chaos-{seed}"));
        let config = EmbeddedConfig { data_dir: dir.path().join("data") };
        Embedded::start(&config).await?.stop().await?;
        let made = Disks::make(dir.path(), &config.data_dir);
        let no_disks = made.as_ref().err().map(|error| format!("{error:#}"));
        let embedded = Embedded::start(&config).await?;
        let info = embedded.connection().clone();
        migrate(&Servers {
            database_url: info.database_url.clone(),
            owner_url: Some(info.admin_url.clone()),
            nats_url: info.nats_url.clone(),
        })
        .await?;
        fs::create_dir(dir.path().join("roles"))?;
        let key = load_or_create_key(&dir.path().join("roles/auth.pem"))?;
        let mut listen = BTreeMap::new();
        for part in [Part::Api, Part::Gateway, Part::Bank] {
            listen.insert(part, free_address()?.to_string());
        }
        let mut proxies = BTreeMap::new();
        for line in lines() {
            let url = match line.1 {
                End::Postgres => info.database_url.clone(),
                End::Nats => info.nats_url.clone(),
                End::Bank => format!("http://{}", listen[&Part::Bank]),
                End::Gateway => format!("http://{}", listen[&Part::Gateway]),
            };
            proxies.insert(line, Proxy::before(&url).await);
        }
        let log = PgPoolOptions::new().max_connections(4).acquire_timeout(PATIENCE).connect_lazy(&info.admin_url)?;
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
        let mut world = Self {
            embedded,
            disks: made.ok(),
            no_disks,
            lines: proxies,
            processes: BTreeMap::new(),
            twins: Vec::new(),
            log,
            http,
            key,
            measure,
            listen,
            log_start: BTreeMap::new(),
            dir,
        };
        for part in [&[Part::Bank], &ROLES[..]].concat() {
            world.spawn(part, &[]);
        }
        for part in [&[Part::Bank], &ROLES[..]].concat() {
            world.serves(part).await.with_context(|| format!("{} does not serve", part.name()))?;
        }
        Ok(world)
    }

    /// What this machine and this build allow.
    pub const fn means(&self) -> Means {
        Means { disks: self.disks.is_some(), fail_points: cfg!(debug_assertions) }
    }

    /// Where everything lies.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where the servers store.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// `http://…` of a process, past the proxies.
    pub fn base(&self, part: Part) -> String {
        format!("http://{}", self.listen[&part])
    }

    fn arguments(&self, part: Part, listen: &str) -> Vec<String> {
        let words: Vec<&str> = match part {
            Part::Api => vec!["serve", "--role", "api", "--listen", listen],
            Part::Gateway => vec!["serve", "--role", "gateway", "--listen", listen],
            Part::Relay => vec!["serve", "--role", "relay"],
            Part::ProjectorA | Part::ProjectorB => vec!["serve", "--role", "projector"],
            Part::Worker => vec!["serve", "--role", "worker"],
            Part::Bank => {
                let platform = self.lines[&(Part::Bank, End::Gateway)].url();
                let ledger = self.dir.path().join("ledger.jsonl").display().to_string();
                let words = ["simulate-provider", "--listen", listen, "--platform", platform, "--ledger", &ledger];
                return words.map(str::to_owned).to_vec();
            }
        };
        words.into_iter().map(str::to_owned).collect()
    }

    fn environment(&self, part: Part, more: &[(&str, String)]) -> Vec<(String, String)> {
        let roles = self.dir.path().join("roles");
        let mut set = vec![
            ("SMARTPOS_DATA_DIR", roles.display().to_string()),
            ("SMARTPOS_LIMITS__PER_MERCHANT_PER_MINUTE", "0".to_owned()),
            ("SMARTPOS_LIMITS__ALL_PER_MINUTE", "0".to_owned()),
        ];
        set.extend(bank_environment(self.lines[&(Part::Gateway, End::Bank)].url()));
        if part != Part::Bank {
            set.push(("DATABASE_URL", self.lines[&(part, End::Postgres)].url().to_owned()));
            set.push(("NATS_URL", self.lines[&(part, End::Nats)].url().to_owned()));
        }
        set.extend(more.iter().map(|(name, value)| (*name, value.clone())));
        set.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn log_of(&self, part: Part) -> PathBuf {
        self.dir.path().join("roles").join(format!("{}.log", part.name().replace(' ', "-")))
    }

    /// Starts a process, in place of one that has ended.
    pub fn spawn(&mut self, part: Part, more: &[(&str, String)]) {
        self.spawn_as(part, &Process::program(), &[], more);
    }

    /// The same by another program that takes these words first.
    pub fn spawn_as(&mut self, part: Part, program: &Path, first: &[&str], more: &[(&str, String)]) {
        let listen = self.listen.get(&part).cloned().unwrap_or_default();
        let arguments = self.arguments(part, &listen);
        let words: Vec<&str> = first.iter().copied().chain(arguments.iter().map(String::as_str)).collect();
        self.log_start.insert(part, fs::metadata(self.log_of(part)).map_or(0, |file| file.len()));
        let roles = self.dir.path().join("roles");
        let process = Process::spawn_program(program, &part.name().replace(' ', "-"), &roles, &words, self.environment(part, more));
        self.processes.insert(part, process);
    }

    /// A second copy of a role on the lines of the first.
    pub fn spawn_twin(&mut self, part: Part) -> Result<()> {
        let arguments = self.arguments(part, &free_address()?.to_string());
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let roles = self.dir.path().join("roles");
        self.twins.push(Process::spawn_program(&Process::program(), "twin", &roles, &words, self.environment(part, &[])));
        Ok(())
    }

    /// Waits until a process serves; says how long that took.
    pub async fn serves(&mut self, part: Part) -> Result<Duration> {
        let started = Instant::now();
        loop {
            let process = self.processes.get_mut(&part).context("it was never started")?;
            if let Some(status) = process.exited() {
                anyhow::bail!("{} ended with {status}:\n{}", part.name(), last_lines(&self.log_since_start(part)));
            }
            let serves = match part {
                Part::Api | Part::Gateway => self.answers(part, "/healthz").await,
                Part::Bank => self.answers(part, "/sim/health").await,
                Part::Relay | Part::ProjectorA | Part::ProjectorB | Part::Worker => self.log_since_start(part).contains("started"),
            };
            if serves {
                return Ok(started.elapsed());
            }
            if started.elapsed() > PATIENCE {
                anyhow::bail!("{} does not serve after {PATIENCE:?}:\n{}", part.name(), last_lines(&self.log_since_start(part)));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the edge is ready: its database answers, and the read models are not far behind.
    pub async fn ready(&mut self) -> Result<Duration> {
        let started = Instant::now();
        while !self.answers(Part::Api, "/readyz").await {
            anyhow::ensure!(started.elapsed() < PATIENCE, "the edge is not ready after {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(started.elapsed())
    }

    /// Starts again whatever has ended by itself, and says what did: nothing should.
    pub fn revive(&mut self) -> Result<()> {
        let ended: Vec<Part> = self.processes.iter_mut().filter_map(|(part, process)| process.exited().map(|_| *part)).collect();
        let mut why = Vec::new();
        for part in &ended {
            why.push(format!("{} ended by itself: {}", part.name(), last_lines(&self.log_since_start(*part))));
            self.spawn(*part, &[]);
        }
        anyhow::ensure!(ended.is_empty(), "{}", why.join("; "));
        Ok(())
    }

    async fn answers(&self, part: Part, path: &str) -> bool {
        let request = self.http.get(format!("{}{path}", self.base(part))).timeout(ONE_QUESTION);
        request.send().await.is_ok_and(|answer| answer.status().is_success())
    }

    /// What a process has written since it was started last.
    pub fn log_since_start(&self, part: Part) -> String {
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = fs::File::open(self.log_of(part))?;
            file.seek(SeekFrom::Start(self.log_start.get(&part).copied().unwrap_or(0)))?;
            let mut bytes = Vec::new();
            file.take(1 << 22).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
    }

    /// Process ids of the postmaster and all its children.
    pub fn postgres_pids(&self) -> Vec<u32> {
        let Some(postmaster) = self.embedded.postgres_pid() else { return Vec::new() };
        let mut pids = vec![postmaster];
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            // pid (name) state parent …
            let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<u32>().ok());
            if parent == Some(postmaster) {
                pids.extend(entry.file_name().to_str().and_then(|pid| pid.parse::<u32>().ok()));
            }
        }
        pids
    }
}

/// Enough of a log to see why.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

/// Sends a signal, by its name; one that has gone needs none.
pub fn signal(pids: &[u32], name: &str) {
    let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
    let words = ["-c", "kill -s \"$0\" \"$@\" 2>/dev/null", name].into_iter().chain(pids.iter().map(String::as_str));
    let _ = std::process::Command::new("sh").args(words).status();
}
