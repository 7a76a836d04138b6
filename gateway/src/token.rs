//! An access token that all calls of a connector share.
//!
//! One call fetches it while the others wait. It is renewed 60 s before it lapses; a refusal discards it, fetches once and
//! repeats once. A refused token means that the call was not carried out, so repeating is safe.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::failure::Failure;

/// A token is renewed this long before it lapses.
const RENEW_EARLY: Duration = Duration::from_mins(1);

/// The current token of one set of credentials.
#[derive(Default)]
pub struct TokenCell(Mutex<Tokens>);

#[derive(Default)]
struct Tokens {
    current: Option<Token>,
    /// When the last fetch failed, and how: those who were waiting for it share the failure instead of queueing for
    /// a time-out each.
    failed: Option<(Instant, Failure)>,
}

struct Token {
    value: String,
    renew_at: Instant,
}

impl TokenCell {
    /// The current token, or a fresh one with its lifetime. Single flight: the lock is held while fetching.
    ///
    /// # Errors
    /// How the fetch failed, as of a call that was never sent.
    pub async fn get<F>(&self, fetch: impl FnOnce() -> F + Send) -> Result<String, Failure>
    where
        F: Future<Output = Result<(String, Duration), Failure>> + Send,
    {
        let arrived = Instant::now();
        let mut tokens = self.0.lock().await;
        if let Some(token) = tokens.current.as_ref().filter(|t| t.renew_at > Instant::now()) {
            return Ok(token.value.clone());
        }
        if let Some((at, failure)) = &tokens.failed
            && *at > arrived
        {
            return Err(failure.clone());
        }
        match fetch().await {
            Ok((value, lifetime)) => {
                let renew_at = Instant::now() + lifetime.saturating_sub(RENEW_EARLY);
                *tokens = Tokens { current: Some(Token { value: value.clone(), renew_at }), failed: None };
                Ok(value)
            }
            Err(failure) => {
                let failure = failure.before_sending();
                *tokens = Tokens { current: None, failed: Some((Instant::now(), failure.clone())) };
                Err(failure)
            }
        }
    }

    /// Forgets a refused token, unless another call has already replaced it.
    pub async fn discard(&self, refused: &str) {
        let mut tokens = self.0.lock().await;
        if tokens.current.as_ref().is_some_and(|t| t.value == refused) {
            tokens.current = None;
        }
    }
}
