//! Trying again what may succeed a moment later.

use std::{future::Future, time::Duration};

use commands::error::CommandError;

/// How often something is tried; with the pauses between, about half a minute.
const ATTEMPTS: usize = 12;
/// Pause after the first failure; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Tries `work` until it gives an answer, fails for good, or has failed [`ATTEMPTS`] times.
///
/// # Errors
/// The last error.
pub(super) async fn retrying<T, F, W>(work: W) -> Result<T, CommandError>
where
    F: Future<Output = Result<T, CommandError>>,
    W: FnMut() -> F,
{
    retrying_after(pauses(), work).await
}

fn pauses() -> impl Iterator<Item = Duration> {
    std::iter::successors(Some(FIRST_PAUSE), |pause| Some((*pause * 2).min(LONGEST_PAUSE))).take(ATTEMPTS - 1)
}

async fn retrying_after<T, F, W>(pauses: impl Iterator<Item = Duration>, mut work: W) -> Result<T, CommandError>
where
    F: Future<Output = Result<T, CommandError>>,
    W: FnMut() -> F,
{
    for pause in pauses {
        match work().await {
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, pause_ms = pause.as_millis(), "no answer from the log; trying again");
            }
            answer => return answer,
        }
        tokio::time::sleep(pause).await;
    }
    work().await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    async fn tried(outcome: impl Fn(usize) -> Result<u8, CommandError>) -> (Result<u8, CommandError>, usize) {
        let tries = Cell::new(0);
        let work = || {
            tries.set(tries.get() + 1);
            std::future::ready(outcome(tries.get()))
        };
        let answer = retrying_after(pauses().map(|_| Duration::ZERO), work).await;
        (answer, tries.get())
    }

    #[tokio::test]
    async fn what_may_pass_is_tried_again_within_a_bound() {
        let (answer, tries) = tried(|n| if n < 4 { Err(CommandError::Overloaded) } else { Ok(7) }).await;
        assert_eq!((answer.unwrap(), tries), (7, 4));
        let (answer, tries) = tried(|_| Err(CommandError::OutcomeUnknown)).await;
        assert!(matches!(answer, Err(CommandError::OutcomeUnknown)));
        assert_eq!(tries, ATTEMPTS);
    }

    #[tokio::test]
    async fn what_cannot_pass_is_tried_once() {
        let (answer, tries) = tried(|_| Err(CommandError::Fault("no".to_owned()))).await;
        assert!(answer.is_err());
        assert_eq!(tries, 1);
    }

    #[test]
    fn the_pauses_grow_and_end() {
        let all: Vec<_> = pauses().collect();
        assert_eq!((all[0], all[1], all.len()), (Duration::from_millis(100), Duration::from_millis(200), ATTEMPTS - 1));
        assert!(all.iter().sum::<Duration>() < Duration::from_mins(1));
    }
}
