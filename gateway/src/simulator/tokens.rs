//! Access tokens that a provider gives out and forgets.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::http::HeaderMap;
use chrono::{DateTime, TimeDelta, Utc};

use super::{Core, header_text, locked};

/// How long a token is good for.
pub(crate) const TOKEN_SECONDS: i64 = 1800;

/// Tokens and when they lapse.
#[derive(Default)]
pub(crate) struct Tokens {
    lapses: Mutex<HashMap<String, DateTime<Utc>>>,
    issued: AtomicUsize,
}

impl Tokens {
    /// A new token that begins with `prefix`, repeatable by the seed, and when it lapses.
    pub(crate) fn issue(&self, core: &Core, prefix: &str) -> (String, DateTime<Utc>) {
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        let token = format!("{prefix}-{:016x}-{number}", core.config.seed);
        let lapses = core.now() + TimeDelta::seconds(TOKEN_SECONDS);
        locked(&self.lapses).insert(token.clone(), lapses);
        (token, lapses)
    }

    /// Whether a request bears a token that is good.
    pub(crate) fn is_borne(&self, core: &Core, headers: &HeaderMap) -> bool {
        let token = header_text(headers, "authorization").strip_prefix("Bearer ").unwrap_or_default();
        locked(&self.lapses).get(token).is_some_and(|lapses| *lapses > core.now())
    }

    /// Every token becomes invalid.
    pub(crate) fn forget(&self) {
        locked(&self.lapses).clear();
    }

    /// How many were given out.
    pub(crate) fn issued(&self) -> usize {
        self.issued.load(Ordering::Relaxed)
    }
}
