//! The load generator, a process of its own: this program called as `bench load`. It reads its plan from standard input and
//! prints its outcome, both as JSON; where payments are paid, another line once they have ended.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdout, Command},
    time::{Instant, sleep_until},
};

use crate::{
    client::Connection,
    cpu::Usage,
    measure::Latencies,
    mix::{Mix, Operation, Traffic},
    peak_payers::{Payers, Settled},
    server::Shop,
};

/// How long after the end of a run requests are still sent that were due before it.
const GRACE: Duration = Duration::from_secs(2);

/// What to send, how and how long.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// Where the server listens.
    pub address: SocketAddr,
    /// Where the simulated bank listens, for a mix whose payments somebody pays.
    pub bank: Option<SocketAddr>,
    /// Who sends.
    pub shops: Vec<Shop>,
    /// What.
    pub mix: Mix,
    /// Requests per second that become due whatever the answers do (an open model); nothing: each connection sends its
    /// next request when it has its answer (a closed model).
    pub rate: Option<u64>,
    /// Connections.
    pub connections: usize,
    /// Not counted, at the start.
    pub warm_ms: u64,
    /// Counted.
    pub run_ms: u64,
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Good answers.
    pub good: u64,
    /// Other answers and lost connections: `409` or `lost`, with their number.
    pub bad: BTreeMap<String, u64>,
    /// From when a request was due to its answer, by what it did.
    pub latencies: BTreeMap<Operation, Latencies>,
    /// Length of the counted part.
    pub elapsed_ms: u64,
    /// Processor time of the generator for each request, microseconds.
    pub cpu_micros_each: f64,
}

impl Outcome {
    /// Good answers per second.
    pub fn rate(&self) -> f64 {
        crate::measure::per_second(self.good, Duration::from_millis(self.elapsed_ms))
    }

    /// Permille of requests that went wrong.
    pub fn bad_permille(&self) -> u64 {
        let bad: u64 = self.bad.values().sum();
        bad * 1000 / (bad + self.good).max(1)
    }

    /// Latencies of one operation.
    pub fn of(&self, operation: Operation) -> Latencies {
        self.latencies.get(&operation).cloned().unwrap_or_default()
    }

    /// All latencies together.
    pub fn all(&self) -> Latencies {
        let mut all = Latencies::default();
        self.latencies.values().for_each(|some| all.extend(some));
        all
    }
}

/// A run whose requests are answered and whose payments may still be under way.
pub struct Paying {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Paying {
    /// Waits for them, and for the end of the process.
    pub async fn settled(mut self) -> Result<Settled> {
        let mut line = String::new();
        self.output.read_line(&mut line).await?;
        anyhow::ensure!(self.child.wait().await?.success(), "the load generator failed");
        if line.is_empty() { Ok(Settled::default()) } else { serde_json::from_str(&line).context("how the payments ended") }
    }
}

/// Runs a plan in a process of its own.
pub async fn generate(plan: &Plan) -> Result<Outcome> {
    let (outcome, paying) = generate_paying(plan).await?;
    paying.settled().await?;
    Ok(outcome)
}

/// The same without waiting for its payments.
pub async fn generate_paying(plan: &Plan) -> Result<(Outcome, Paying)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("load").stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    child.stdin.take().context("a pipe")?.write_all(&serde_json::to_vec(plan)?).await?;
    let mut output = BufReader::new(child.stdout.take().context("a pipe")?);
    let mut line = String::new();
    output.read_line(&mut line).await?;
    let outcome = serde_json::from_str(&line).context("the load generator's outcome")?;
    Ok((outcome, Paying { child, output }))
}

struct Shared {
    traffic: Traffic,
    plan: Plan,
    next: AtomicU64,
    started: Instant,
}

/// The process itself.
pub async fn main() -> Result<()> {
    let plan: Plan = serde_json::from_reader(std::io::stdin().lock())?;
    let mut connections = Vec::with_capacity(plan.connections);
    for _ in 0..plan.connections {
        connections.push(Connection::open(plan.address).await?);
    }
    let run = format!("of{}at{}", std::process::id(), plan.rate.unwrap_or(0));
    let payers = match plan.bank {
        Some(bank) => Some(Payers::start(plan.address, bank, &plan.shops).await?),
        None => None,
    };
    let traffic = Traffic::new(plan.mix, plan.shops.clone(), run, payers);
    let shared = Arc::new(Shared { traffic, plan, next: AtomicU64::new(0), started: Instant::now() });
    let me = [("load", std::process::id())];
    let before = Usage::of(&me);
    let tasks: Vec<_> = connections.into_iter().map(|connection| tokio::spawn(drive(Arc::clone(&shared), connection))).collect();
    let mut outcome = Outcome { elapsed_ms: shared.plan.run_ms, ..Outcome::default() };
    for task in tasks {
        let (good, bad, latencies) = task.await??;
        outcome.good += good;
        for (status, count) in bad {
            *outcome.bad.entry(status).or_default() += count;
        }
        for (operation, some) in &latencies {
            outcome.latencies.entry(*operation).or_default().extend(some);
        }
    }
    let sent = shared.next.load(Ordering::Relaxed);
    outcome.cpu_micros_each = Usage::of(&me).each(&before, sent).first().map_or(0.0, |(_, micros)| *micros);
    println!("{}", serde_json::to_string(&outcome)?);
    if let Some(payers) = &shared.traffic.payers {
        println!("{}", serde_json::to_string(&payers.settled().await)?);
    }
    Ok(())
}

type Counted = (u64, BTreeMap<String, u64>, BTreeMap<Operation, Latencies>);

/// One connection: takes the next request that is due, until the time is over.
async fn drive(shared: Arc<Shared>, mut connection: Connection) -> Result<Counted> {
    let Shared { traffic, plan, next, started } = shared.as_ref();
    let counted_from = *started + Duration::from_millis(plan.warm_ms);
    let end = counted_from + Duration::from_millis(plan.run_ms);
    let (mut good, mut bad, mut latencies) = (0, BTreeMap::<String, u64>::new(), BTreeMap::<Operation, Latencies>::new());
    let mut request = Vec::with_capacity(2048);
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        let due = match plan.rate {
            Some(rate) => *started + Duration::from_micros(n.saturating_mul(1_000_000) / rate.max(1)),
            None => Instant::now(),
        };
        if due >= end {
            return Ok((good, bad, latencies));
        }
        // A server that cannot hold the rate leaves requests unsent: they count as bad, and the run ends in time.
        if plan.rate.is_some() && Instant::now() > end + GRACE {
            *bad.entry("unsent".to_owned()).or_default() += 1;
            continue;
        }
        sleep_until(due).await;
        let pending = traffic.write(n, &mut request);
        let status = if let Ok(answer) = connection.send(&request).await {
            traffic.learn(&pending, &answer);
            answer.status
        } else {
            traffic.lost(&pending);
            connection.reopen().await?;
            0
        };
        if due < counted_from {
            continue;
        }
        match status {
            200..300 => {
                good += 1;
                latencies.entry(pending.operation).or_default().add(due.elapsed());
            }
            0 => *bad.entry("lost".to_owned()).or_default() += 1,
            other => *bad.entry(other.to_string()).or_default() += 1,
        }
    }
}
