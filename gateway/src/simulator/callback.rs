//! Call-backs: copies, delays, an order of their own, bad signatures, and resends until the merchant has taken note.

use std::{io, sync::Arc, time::Duration};

use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::scramble;

/// How the call-backs of one event go out.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum CallbackPlan {
    /// The word `"never"`: the payer pays and nobody is told.
    Word(Never),
    /// `copies` of the same call-back, each `delays_ms[i]` after the event (0 where the list ends), at the same time.
    Copies {
        /// How many; at most 100.
        #[serde(default = "one")]
        copies: usize,
        /// One for each copy.
        #[serde(default)]
        delays_ms: Vec<u64>,
        /// Up to so much more for each copy, by the seed: call-backs of many events overtake one another.
        #[serde(default)]
        spread_ms: u64,
        /// Between a refused try and the next; 12 s unless told.
        #[serde(default = "twelve_seconds")]
        retry_ms: u64,
        /// Tries after the first, until one is answered as it should be; 3 unless told.
        #[serde(default = "three")]
        resends: u32,
        /// How many of the copies, the first ones, bear `seal` instead of a good signature. They are not resent.
        #[serde(default)]
        badly_sealed: usize,
        /// Of the badly sealed ones.
        #[serde(default)]
        seal: SealKind,
    },
}

/// The word `never`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Never {
    /// No call-back.
    Never,
}

/// How a call-back proves its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SealKind {
    /// As it should be.
    Good,
    /// By a wrong secret.
    #[default]
    Bad,
    /// Right, but made ten minutes ago.
    Stale,
    /// Right, but from ten minutes ahead.
    Future,
    /// By the old and the new secret, in the middle of a roll.
    Rolled,
    /// Not at all.
    Missing,
}

impl Default for CallbackPlan {
    fn default() -> Self {
        Self::Copies {
            copies: 1,
            delays_ms: Vec::new(),
            spread_ms: 0,
            retry_ms: twelve_seconds(),
            resends: three(),
            badly_sealed: 0,
            seal: SealKind::default(),
        }
    }
}

fn one() -> usize {
    1
}

fn twelve_seconds() -> u64 {
    12_000
}

fn three() -> u32 {
    3
}

/// Secrets that sign call-backs with a time.
pub(crate) struct Signing<'a> {
    /// Good now.
    pub(crate) secret: &'a str,
    /// Signs too while the secret is being rolled.
    pub(crate) other: &'a str,
    /// Of somebody else.
    pub(crate) wrong: &'a str,
}

impl Signing<'_> {
    /// The time that is signed (Unix seconds) and the signatures, by `sign`, with commas between them; nothing for no proof at all.
    pub(crate) fn signatures(&self, kind: SealKind, now: i64, sign: impl Fn(&str, i64) -> String) -> Option<(i64, String)> {
        Some(match kind {
            SealKind::Good => (now, sign(self.secret, now)),
            SealKind::Stale => (now - 600, sign(self.secret, now - 600)),
            SealKind::Future => (now + 600, sign(self.secret, now + 600)),
            SealKind::Bad => (now, sign(self.wrong, now)),
            SealKind::Rolled => (now, format!("{},{}", sign(self.other, now), sign(self.secret, now))),
            SealKind::Missing => return None,
        })
    }
}

/// A call-back's address and headers.
pub(crate) struct Sealed {
    pub(crate) url: String,
    pub(crate) headers: Vec<(&'static str, String)>,
}

/// Addresses and signs a body, at the time of sending.
pub(crate) type Seal = Arc<dyn Fn(&str, SealKind) -> Sealed + Send + Sync>;

/// Sends call-backs and resends each until `accepted` likes the answer to it.
#[derive(Clone)]
pub(crate) struct Courier {
    http: reqwest::Client,
    stop: CancellationToken,
    seed: u64,
    seal: Seal,
    accepted: fn(&[u8]) -> bool,
}

impl Courier {
    pub(super) fn new(stop: CancellationToken, seed: u64, seal: Seal, accepted: fn(&[u8]) -> bool) -> io::Result<Self> {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(10)).no_proxy().build().map_err(io::Error::other)?;
        Ok(Self { http, stop, seed, seal, accepted })
    }

    pub(super) fn dispatch(&self, body: &str, plan: &CallbackPlan) {
        let CallbackPlan::Copies { copies, delays_ms, spread_ms, retry_ms, resends, badly_sealed, seal } = plan else { return };
        let mut dice = body.bytes().fold(self.seed, |dice, byte| scramble(dice ^ u64::from(byte)));
        for copy in 0..(*copies).min(100) {
            dice = scramble(dice);
            let late = delays_ms.get(copy).copied().unwrap_or(0) + dice % spread_ms.saturating_add(1).max(1);
            let kind = if copy < *badly_sealed { *seal } else { SealKind::Good };
            let resends = if matches!(kind, SealKind::Good | SealKind::Rolled) { *resends } else { 0 };
            let (courier, body) = (self.clone(), body.to_owned());
            let (delay, pause) = (Duration::from_millis(late), Duration::from_millis(*retry_ms));
            tokio::spawn(async move {
                let stop = courier.stop.clone();
                stop.run_until_cancelled(courier.deliver(body, kind, delay, pause, resends)).await;
            });
        }
    }

    async fn deliver(self, body: String, kind: SealKind, delay: Duration, pause: Duration, resends: u32) {
        tokio::time::sleep(delay).await;
        for attempt in 0..=resends {
            if attempt > 0 {
                tokio::time::sleep(pause).await;
            }
            let Sealed { url, headers } = (self.seal)(&body, kind);
            let request = self.http.post(url).header("content-type", "application/json").body(body.clone());
            let request = headers.into_iter().fold(request, |request, (name, value)| request.header(name, value));
            let Ok(answer) = request.send().await else { continue };
            let ok = answer.status() == reqwest::StatusCode::OK;
            if let Ok(answer) = answer.bytes().await
                && ok
                && (self.accepted)(&answer)
            {
                return;
            }
        }
        tracing::warn!(?kind, "simulator: a call-back was never accepted");
    }
}

/// For providers that prove themselves by the last segment of the address only: a bad seal is another segment.
pub(crate) fn by_path_secret(url: String) -> Seal {
    Arc::new(move |_, kind| {
        let url = match kind {
            SealKind::Good | SealKind::Rolled | SealKind::Stale | SealKind::Future => url.clone(),
            SealKind::Bad => format!("{url}-not"),
            SealKind::Missing => url.rsplit_once('/').map_or_else(|| url.clone(), |(path, _)| path.to_owned()),
        };
        Sealed { url, headers: vec![] }
    })
}
