//! Payers, a process of their own: this program called as `bench payers`. It reads its plan from standard input and prints its
//! outcome, both as JSON.
//!
//! Each payer makes an intent, confirms it, hears on the shop's socket what to do, pays at the simulated bank, whose call-back goes
//! to the platform, and hears on the socket that the payment succeeded. Two processes and the bank compare times by the
//! machine's clock. What the bank says of the time that it held calls back is taken off.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    process::Stdio,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::{
    io::AsyncWriteExt,
    process::Command,
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    client::{Answer, Connection},
    cpu::Usage,
    frames::{Heard, heard},
    measure::Latencies,
    server::Shop,
    sockets::{self, Socket, micros},
};

/// How long one thing is waited for.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long after the end of a run payments are still begun that were due before it.
const GRACE: Duration = Duration::from_secs(2);
/// Payments that were due and could not be begun in time: the rate was not held.
const NOT_BEGUN: &str = "not begun";
/// One intent of so many is read until the read model shows that it succeeded.
const READ_ONE_OF: u64 = 8;

/// Who pays, how and how long.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// Where the server listens.
    pub address: SocketAddr,
    /// Where the provider's simulator listens.
    pub bank: SocketAddr,
    /// Who sells.
    pub shops: Vec<Shop>,
    /// By card, without an action and without the payer at the bank; otherwise by QR.
    pub card: bool,
    /// Payments that become due per second whatever the others do (an open model); nothing: each payer begins the next payment
    /// when the last one succeeded (a closed model).
    pub rate: Option<u64>,
    /// Payers.
    pub payers: usize,
    /// Not counted, at the start.
    pub warm_ms: u64,
    /// Counted.
    pub run_ms: u64,
    /// No more than so many, whatever the time.
    pub most: Option<u64>,
}

/// A part of the way of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// From when it was due to the answer of `POST /v1/payment-intents`.
    Create,
    /// From sending the confirm to the frame that says what the payer must do.
    Action,
    /// From the bank's call-back to the frame that says that it succeeded.
    Success,
    /// From the bank's call-back to an answer of `GET /v1/payment-intents/{id}` that shows it.
    Read,
    /// The first three.
    Whole,
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Payments that succeeded in the counted time.
    pub good: u64,
    /// What went wrong, with its number.
    pub bad: BTreeMap<String, u64>,
    /// Of payments that were due in the counted time, the provider's time taken off.
    pub steps: BTreeMap<Step, Latencies>,
    /// How long the provider held the calls of one payment back.
    pub held: Latencies,
    /// Length of the counted part.
    pub elapsed_ms: u64,
    /// Calls to the provider for each payment.
    pub calls_each: f64,
    /// Processor time of this process for each payment, microseconds.
    pub cpu_micros_each: f64,
}

impl Outcome {
    /// Payments per second.
    pub fn rate(&self) -> f64 {
        crate::measure::per_second(self.good, Duration::from_millis(self.elapsed_ms))
    }

    /// Payments that were due and not begun.
    pub fn not_begun(&self) -> u64 {
        self.bad.get(NOT_BEGUN).copied().unwrap_or_default()
    }

    /// A step's latencies.
    pub fn step(&self, step: Step) -> Latencies {
        self.steps.get(&step).cloned().unwrap_or_default()
    }
}

/// Runs a plan in a process of its own.
///
/// # Errors
/// A payment that was begun did not succeed.
pub async fn pay(plan: &Plan) -> Result<Outcome> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("payers").stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    child.stdin.take().context("a pipe")?.write_all(&serde_json::to_vec(plan)?).await?;
    let output = child.wait_with_output().await?;
    anyhow::ensure!(output.status.success(), "the payers failed");
    let outcome: Outcome = serde_json::from_slice(&output.stdout).context("the payers' outcome")?;
    anyhow::ensure!(outcome.bad.keys().all(|what| what == NOT_BEGUN), "not every payment succeeded: {:?}", outcome.bad);
    Ok(outcome)
}

struct Shared {
    plan: Plan,
    run: String,
    next: AtomicU64,
    started: Instant,
    /// Who waits to hear of an intent.
    waiting: Mutex<HashMap<String, mpsc::UnboundedSender<Heard>>>,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, HashMap<String, mpsc::UnboundedSender<Heard>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A payment on its way; times in microseconds since 1970.
struct Payment {
    reference: String,
    created: Duration,
    confirmed_at: u64,
    action_at: Option<u64>,
    succeeded_at: u64,
    read_at: Option<u64>,
}

/// The process itself.
pub async fn main() -> Result<()> {
    let plan: Plan = serde_json::from_reader(std::io::stdin().lock())?;
    let listening = sockets::Plan { address: plan.address, shops: plan.shops.clone(), first: 0, sockets: plan.shops.len() };
    let mut listeners = Vec::new();
    for n in 0..listening.sockets {
        listeners.push(sockets::connect(&listening, n).await?);
    }
    let mut payers = Vec::new();
    for _ in 0..plan.payers {
        payers.push((Connection::open(plan.address).await?, Connection::open(plan.bank).await?));
    }
    timings(plan.bank).await?;
    let (run, waiting) = (format!("pay-{}", std::process::id()), Mutex::default());
    let shared = Arc::new(Shared { plan, run, waiting, next: AtomicU64::new(0), started: Instant::now() });
    for socket in listeners {
        tokio::spawn(listen(socket, Arc::clone(&shared)));
    }
    let me = [("payers", std::process::id())];
    let before = Usage::of(&me);
    let tasks: Vec<_> = payers.into_iter().map(|(platform, bank)| tokio::spawn(drive(Arc::clone(&shared), platform, bank))).collect();
    let (mut payments, mut outcome) = (Vec::new(), Outcome::default());
    for task in tasks {
        let mine = task.await??;
        payments.extend(mine.payments);
        outcome.good += mine.good;
        for (what, count) in mine.bad {
            *outcome.bad.entry(what).or_default() += count;
        }
    }
    let counted = shared.started.elapsed().saturating_sub(Duration::from_millis(shared.plan.warm_ms));
    let counted = counted.min(Duration::from_millis(shared.plan.run_ms));
    outcome.elapsed_ms = u64::try_from(counted.as_millis())?;
    outcome.cpu_micros_each = Usage::of(&me).each(&before, shared.next.load(Ordering::Relaxed)).first().map_or(0.0, |(_, micros)| *micros);
    split(&mut outcome, &payments, &timings(shared.plan.bank).await?);
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

/// A line of the simulator's timings.
#[derive(Deserialize)]
struct Timing {
    operation: Option<String>,
    reference: String,
    at_micros: u64,
    held_micros: u64,
}

async fn timings(bank: SocketAddr) -> Result<HashMap<String, Vec<Timing>>> {
    let answer = reqwest::Client::new().post(format!("http://{bank}/sim/timings")).send().await?.error_for_status()?;
    let mut by_reference: HashMap<String, Vec<Timing>> = HashMap::new();
    for timing in answer.json::<Vec<Timing>>().await? {
        by_reference.entry(timing.reference.clone()).or_default().push(timing);
    }
    Ok(by_reference)
}

/// Splits the time of each payment into the platform's and the provider's.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn split(outcome: &mut Outcome, payments: &[Payment], timings: &HashMap<String, Vec<Timing>>) {
    let (mut calls, none) = (0_usize, Vec::new());
    for payment in payments {
        let of_payment = timings.get(&payment.reference).unwrap_or(&none);
        calls += of_payment.iter().filter(|timing| timing.operation.is_some()).count();
        let held = |from: u64, to: u64| -> u64 {
            let within = of_payment.iter().filter(|timing| (from..to).contains(&timing.at_micros));
            within.map(|timing| timing.held_micros.min(to.saturating_sub(timing.at_micros))).sum()
        };
        let added = |from: u64, to: u64| Duration::from_micros(to.saturating_sub(from).saturating_sub(held(from, to)));
        let mut note = |step: Step, took: Duration| outcome.steps.entry(step).or_default().add(took);
        note(Step::Create, payment.created);
        let called_back = of_payment.iter().find(|timing| timing.operation.is_none()).map(|timing| timing.at_micros);
        let (Some(action_at), Some(called_back)) = (payment.action_at, called_back) else { continue };
        let (action, success) = (added(payment.confirmed_at, action_at), added(called_back, payment.succeeded_at));
        note(Step::Action, action);
        note(Step::Success, success);
        note(Step::Whole, payment.created + action + success);
        if let Some(read_at) = payment.read_at {
            note(Step::Read, added(called_back, read_at));
        }
        let held = held(payment.confirmed_at, action_at) + held(called_back, payment.succeeded_at);
        outcome.held.add(Duration::from_micros(held));
    }
    outcome.calls_each = calls as f64 / payments.len().max(1) as f64;
}

#[derive(Default)]
struct Mine {
    good: u64,
    bad: BTreeMap<String, u64>,
    payments: Vec<Payment>,
}

/// One payer: pays what is due next, until the time is over.
async fn drive(shared: Arc<Shared>, mut platform: Connection, mut bank: Connection) -> Result<Mine> {
    let plan = &shared.plan;
    let counted_from = shared.started + Duration::from_millis(plan.warm_ms);
    let end = counted_from + Duration::from_millis(plan.run_ms);
    let mut mine = Mine::default();
    loop {
        let n = shared.next.fetch_add(1, Ordering::Relaxed);
        let due = match plan.rate {
            Some(rate) => shared.started + Duration::from_micros(n.saturating_mul(1_000_000) / rate.max(1)),
            None => Instant::now(),
        };
        if due >= end || plan.most.is_some_and(|most| n >= most) {
            return Ok(mine);
        }
        if plan.rate.is_some() && Instant::now() > end + GRACE {
            *mine.bad.entry(NOT_BEGUN.to_owned()).or_default() += 1;
            continue;
        }
        sleep_until(due).await;
        match one(&shared, &mut platform, &mut bank, n, due).await {
            Ok(payment) => {
                let within = counted_from..end;
                // In an open model every payment counts that was due; in a closed one those that were done in the time.
                let counts = if plan.rate.is_some() { due >= counted_from } else { within.contains(&Instant::now()) };
                mine.good += u64::from(counts);
                if due >= counted_from {
                    mine.payments.push(payment);
                }
            }
            Err(error) => {
                *mine.bad.entry(format!("{error:#}")).or_default() += 1;
                platform.reopen().await?;
                bank.reopen().await?;
            }
        }
    }
}

/// One payment from the order of the payer to its success.
async fn one(shared: &Shared, platform: &mut Connection, bank: &mut Connection, n: u64, due: Instant) -> Result<Payment> {
    let plan = &shared.plan;
    let shop = &plan.shops[usize::try_from(n)? % plan.shops.len()];
    let (amount, tender) = (1_000 + n % 50_000, if plan.card { "online_card" } else { "promptpay" });
    let body =
        format!(r#"{{"store_id":"{}","amount":{{"amount":{amount},"currency":"THB"}},"tender":"{tender}","confirm":false}}"#, shop.store);
    let key = format!("{}-{n}", shared.run);
    let answer = platform.send(&post(&shop.token, "/v1/payment-intents", Some(&key), &body)).await?;
    let id = answer.id.unwrap_or_default().to_owned();
    expect(&answer, 201, "create")?;
    let created = due.elapsed();
    let (sender, mut heard) = mpsc::unbounded_channel();
    shared.waiting().insert(id.clone(), sender);
    let confirmed_at = micros();
    let body = if plan.card { r#"{"card_token":"pm_card_visa"}"# } else { "{}" };
    let path = format!("/v1/payment-intents/{id}/confirm");
    let answer = platform.send(&post(&shop.token, &path, Some(&format!("{key}-confirm")), body)).await?;
    expect(&answer, 200, "confirm")?;
    let mut payment = Payment { reference: String::new(), created, confirmed_at, action_at: None, succeeded_at: 0, read_at: None };
    let position = loop {
        match timeout(PATIENCE, heard.recv()).await.ok().flatten().context("nothing was heard in time")? {
            Heard::Started { reference } => payment.reference = reference,
            Heard::ActionRequired { at } => {
                payment.action_at = Some(at);
                let body = format!(r#"{{"reference":"{}"}}"#, payment.reference);
                let answer = bank.send(&post("", "/sim/pay", None, &body)).await?;
                expect(&answer, 200, "pay")?;
            }
            Heard::Succeeded { at, position } => {
                payment.succeeded_at = at;
                break position;
            }
        }
    };
    shared.waiting().remove(&id);
    if plan.rate.is_some() && n.is_multiple_of(READ_ONE_OF) {
        let (line, token) = (format!("GET /v1/payment-intents/{id} HTTP/1.1"), &shop.token);
        let head = format!("{line}\r\nHost: bench\r\nAuthorization: Bearer {token}\r\nSmartpos-Min-Position: {position}\r\n\r\n");
        let answer = platform.send(head.as_bytes()).await?;
        expect(&answer, 200, "read")?;
        payment.read_at = Some(micros());
    }
    Ok(payment)
}

fn expect(answer: &Answer<'_>, status: u16, what: &str) -> Result<()> {
    anyhow::ensure!(answer.status == status, "{what}: {} {}", answer.status, answer.body);
    Ok(())
}

/// A request with a body; without a key also without a token, as the bank takes it.
pub fn post(token: &str, path: &str, key: Option<&str>, body: &str) -> Vec<u8> {
    let key = key.map_or_else(String::new, |key| format!("Authorization: Bearer {token}\r\nIdempotency-Key: {key}\r\n"));
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: bench\r\n{key}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// Hands on what a shop's socket says, until it closes.
async fn listen(mut socket: Socket, shared: Arc<Shared>) {
    while let Some(Ok(message)) = socket.next().await {
        let at = micros();
        let Message::Text(text) = message else { continue };
        let Some((intent, heard)) = heard(&text, at) else { continue };
        if let Some(waiting) = shared.waiting().get(intent) {
            let _ = waiting.send(heard);
        }
    }
}
