//! What every provider's simulator is made of: settings, fault rules, a journal that outlives the process, and call-backs
//! that are resent until answered. The wire formats live with the providers.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::Clock;

/// Settings of one simulated provider. Holds secrets of the simulation only.
#[derive(Clone)]
pub struct SimulatorConfig {
    /// What the connector must present.
    pub api_key: String,
    /// The same.
    pub api_secret: String,
    /// The payee; other billers are refused.
    pub biller_id: String,
    /// Where call-backs go, path secret included.
    pub webhook_url: String,
    /// Makes transaction ids, tokens and the choice among equivalent wire forms repeatable.
    pub seed: u64,
    /// Void is part of the contract.
    pub allow_void: bool,
    /// Each money movement is appended here as one JSON line; read back at start. `None`: memory only.
    pub ledger_file: Option<PathBuf>,
    /// The provider's own time.
    pub clock: Clock,
}

/// What a rule breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// The access token.
    Token,
    /// Making a QR.
    Create,
    /// Asking for payments.
    Inquiry,
    /// Sending money back.
    Void,
}

/// How it breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Nothing happens; the answer comes after `delay_ms`, and then it is a 504.
    TimeoutBefore,
    /// It happens at once; the answer comes after `delay_ms`, and then it is a 504.
    TimeoutAfter,
    /// Nothing happens; HTTP 500.
    #[serde(rename = "http_500")]
    Http500,
    /// It happens; HTTP 500.
    #[serde(rename = "http_500_after")]
    Http500After,
    /// It happens; the connection is cut in the middle of the answer.
    CutBody,
    /// It happens; the answer is HTTP 200 with a web page.
    NotJson,
    /// Nothing happens; HTTP 429.
    #[serde(rename = "http_429")]
    Http429,
    /// Nothing happens; every access token becomes invalid; HTTP 401.
    TokenExpired,
    /// Inquiry only: answers as if nothing had been paid.
    NotVisibleYet,
}

/// A fault that hits the next `times` matching calls.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// Which call.
    pub operation: Operation,
    /// How it breaks.
    pub fault: Fault,
    /// How many calls are hit.
    pub times: u32,
    /// Only calls on this reference; `None`: any.
    #[serde(default)]
    pub reference: Option<String>,
    /// How long the two time-outs hold the answer back; 30 s unless told.
    #[serde(default)]
    pub delay_ms: Option<u64>,
}

/// The rules in force, oldest first.
#[derive(Default)]
pub(crate) struct FaultBook(Mutex<VecDeque<FaultRule>>);

impl FaultBook {
    pub(crate) fn add(&self, rules: Vec<FaultRule>) {
        locked(&self.0).extend(rules);
    }

    pub(crate) fn clear(&self) {
        locked(&self.0).clear();
    }

    pub(crate) fn remaining(&self) -> Vec<FaultRule> {
        locked(&self.0).iter().cloned().collect()
    }

    /// Uses up one stroke of the oldest rule that matches.
    pub(crate) fn strike(&self, operation: Operation, reference: Option<&str>) -> Option<(Fault, Duration)> {
        let mut rules = locked(&self.0);
        rules.retain(|rule| rule.times > 0);
        let rule = rules
            .iter_mut()
            .find(|rule| rule.operation == operation && (rule.reference.is_none() || rule.reference.as_deref() == reference))?;
        rule.times -= 1;
        Some((rule.fault, Duration::from_millis(rule.delay_ms.unwrap_or(30_000))))
    }
}

/// A simulator has no state worth losing to another thread's panic.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An append-only file of JSON lines.
pub(crate) struct Journal(Option<File>);

impl Journal {
    /// Opens or makes the file and reads it. A torn last line, from a kill in mid-write, was never answered: cut off.
    pub(crate) fn open(path: Option<&Path>) -> io::Result<(Self, Vec<String>)> {
        let Some(path) = path else { return Ok((Self(None), Vec::new())) };
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let mut text = Vec::new();
        file.seek(SeekFrom::Start(0))?;
        file.read_to_end(&mut text)?;
        let whole = text.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        text.truncate(whole);
        file.set_len(whole as u64)?;
        let text = String::from_utf8(text).map_err(io::Error::other)?;
        Ok((Self(Some(file)), text.lines().map(str::to_owned).collect()))
    }

    /// Appends one line; `durable` waits for the disk.
    pub(crate) fn append(&mut self, entry: &impl Serialize, durable: bool) -> io::Result<()> {
        let Some(file) = &mut self.0 else { return Ok(()) };
        let mut line = serde_json::to_string(entry)?;
        line.push('\n');
        file.write_all(line.as_bytes())?;
        if durable { file.sync_data() } else { Ok(()) }
    }
}

/// How the call-backs of one payment go out.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum CallbackPlan {
    /// The word `"never"`: the payer pays and nobody is told.
    Word(Never),
    /// `copies` of the same call-back, each `delays_ms[i]` after the payment (0 where the list ends), at the same time.
    Copies {
        /// How many; at most 100.
        #[serde(default = "one")]
        copies: usize,
        /// One for each copy.
        #[serde(default)]
        delays_ms: Vec<u64>,
        /// Between a refused try and the next; 12 s unless told.
        #[serde(default = "twelve_seconds")]
        retry_ms: u64,
    },
}

/// The word `never`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Never {
    /// No call-back.
    Never,
}

impl Default for CallbackPlan {
    fn default() -> Self {
        Self::Copies { copies: 1, delays_ms: Vec::new(), retry_ms: twelve_seconds() }
    }
}

fn one() -> usize {
    1
}

fn twelve_seconds() -> u64 {
    12_000
}

/// Tries after the first.
const RESENDS: u32 = 3;

/// Sends call-backs and resends each until `accepted` likes the answer to it.
#[derive(Clone)]
pub(crate) struct Courier {
    pub(crate) http: reqwest::Client,
    pub(crate) url: String,
    pub(crate) stop: CancellationToken,
    pub(crate) accepted: fn(&[u8]) -> bool,
}

impl Courier {
    pub(crate) fn dispatch(&self, body: &str, plan: &CallbackPlan) {
        let CallbackPlan::Copies { copies, delays_ms, retry_ms } = plan else { return };
        for copy in 0..(*copies).min(100) {
            let delay = Duration::from_millis(delays_ms.get(copy).copied().unwrap_or(0));
            let (courier, body, pause) = (self.clone(), body.to_owned(), Duration::from_millis(*retry_ms));
            tokio::spawn(async move {
                let stop = courier.stop.clone();
                stop.run_until_cancelled(courier.deliver(body, delay, pause)).await;
            });
        }
    }

    async fn deliver(self, body: String, delay: Duration, pause: Duration) {
        tokio::time::sleep(delay).await;
        for attempt in 0..=RESENDS {
            if attempt > 0 {
                tokio::time::sleep(pause).await;
            }
            let request = self.http.post(&self.url).header("content-type", "application/json").body(body.clone());
            let Ok(answer) = request.send().await else { continue };
            let ok = answer.status() == reqwest::StatusCode::OK;
            if let Ok(answer) = answer.bytes().await
                && ok
                && (self.accepted)(&answer)
            {
                return;
            }
        }
        tracing::warn!("simulator: a call-back was never accepted");
    }
}
