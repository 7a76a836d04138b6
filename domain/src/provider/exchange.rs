//! What was said to a provider and heard from it.

use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};

/// One exchange with a provider, for whoever must explain a payment later. Secrets, tokens and personal data are masked
/// by the connector before it is written here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// `start`, `inquire`, `capture` ...
    pub operation: &'static str,
    /// Method, path and query: `POST /charges`.
    pub request_line: String,
    /// Body as sent, masked.
    pub request_body: String,
    /// HTTP status; nothing when no answer came.
    pub status: Option<u16>,
    /// Body as received, masked and cut at 16 KiB; or what went wrong.
    pub response_body: String,
    /// When it was sent (UTC).
    pub sent_at: DateTime<Utc>,
    /// Milliseconds until the whole answer was there.
    pub took_ms: i64,
}

/// Collects the exchanges of one call on the port.
#[derive(Debug, Default)]
pub struct ExchangeLog(Mutex<Vec<Exchange>>);

impl ExchangeLog {
    /// Adds one.
    pub fn record(&self, exchange: Exchange) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(exchange);
    }

    /// Whether nothing was sent so far.
    pub fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// All so far, oldest first; leaves none.
    pub fn take(&self) -> Vec<Exchange> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
