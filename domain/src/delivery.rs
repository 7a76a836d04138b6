//! Delivery of webhooks, as a pure step: what follows from an answer. The driver only carries it out.
//!
//! Any 2xx is success; 3xx is failure, nothing is followed; 410 disables the endpoint; 429, 502 and 504 pause it as long as it
//! asks. A delivery is tried again on a schedule with jitter; an endpoint that only fails for days is disabled.
//! Source: Standard Webhooks 1.0.0.

use chrono::{DateTime, Duration, Utc};

use crate::webhook_endpoint::DisableReason;

/// Longest pause that an endpoint can ask for, seconds.
pub const LONGEST_PAUSE_SECONDS: u32 = 3_600;
/// The pause of an endpoint that is overloaded and names none, seconds.
const UNNAMED_PAUSE_SECONDS: u32 = 30;

/// When to try again, and when to give up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Waits before the second, third … attempt, milliseconds. After the last one a delivery has failed.
    pub waits_ms: Vec<i64>,
    /// An endpoint that has had no success for so long is disabled.
    pub disable_after: Duration,
}

impl Default for Policy {
    /// Ten attempts over 75.6 hours: at once, then after 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h; five days.
    fn default() -> Self {
        let minutes = [5, 30, 120, 300, 600, 840, 1_200, 1_440].map(|minutes: i64| minutes.saturating_mul(60_000));
        Self { waits_ms: std::iter::once(5_000).chain(minutes).collect(), disable_after: Duration::days(5) }
    }
}

/// What a receiver did with one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It answered.
    Status {
        /// HTTP status.
        code: u16,
        /// `Retry-After`, seconds.
        retry_after: Option<u32>,
    },
    /// No answer came: refused address, no connection, time-out.
    None,
}

/// What is known before an attempt's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    /// Attempts of this delivery, this one included.
    pub attempts: u32,
    /// Since when the endpoint has had nothing but failures, UTC.
    pub failing_since: Option<DateTime<Utc>>,
}

/// What becomes of the delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Taken.
    Delivered,
    /// Tried again at this time, UTC.
    Again(DateTime<Utc>),
    /// Not tried again by itself.
    Failed,
}

/// What follows from an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effects {
    /// Of the delivery.
    pub fate: Fate,
    /// Since when the endpoint has had nothing but failures now.
    pub failing_since: Option<DateTime<Utc>>,
    /// Nothing is sent to the endpoint before this time.
    pub paused_until: Option<DateTime<Utc>>,
    /// The endpoint is to be disabled.
    pub disable: Option<DisableReason>,
}

/// The step. `dice` is any number; it spreads attempts over the fifth after their time.
pub fn step(policy: &Policy, before: Before, answer: Answer, now: DateTime<Utc>, dice: u16) -> Effects {
    let (code, retry_after) = match answer {
        Answer::Status { code, .. } if (200..300).contains(&code) => {
            return Effects { fate: Fate::Delivered, failing_since: None, paused_until: None, disable: None };
        }
        Answer::Status { code, retry_after } => (Some(code), retry_after),
        Answer::None => (None, None),
    };
    let failing_since = before.failing_since.unwrap_or(now);
    let paused_until = matches!(code, Some(429 | 502 | 504)).then(|| {
        let seconds = retry_after.unwrap_or(UNNAMED_PAUSE_SECONDS).min(LONGEST_PAUSE_SECONDS);
        after(now, i64::from(seconds).saturating_mul(1_000))
    });
    let disable = match code {
        Some(410) => Some(DisableReason::Gone),
        _ if now.signed_duration_since(failing_since) >= policy.disable_after => Some(DisableReason::Failing),
        _ => None,
    };
    let wait = usize::try_from(before.attempts).ok().and_then(|attempts| policy.waits_ms.get(attempts.saturating_sub(1)));
    let fate = wait.map_or(Fate::Failed, |wait| {
        let at = after(now, with_jitter(*wait, dice));
        Fate::Again(paused_until.map_or(at, |paused| at.max(paused)))
    });
    // Once it is enabled again, its failures are counted anew.
    let failing_since = disable.is_none().then_some(failing_since);
    Effects { fate, failing_since, paused_until, disable }
}

/// The wait and up to a fifth of it.
fn with_jitter(wait_ms: i64, dice: u16) -> i64 {
    let extra = i128::from(wait_ms) * i128::from(dice) / (5 * i128::from(u16::MAX));
    wait_ms.saturating_add(i64::try_from(extra).unwrap_or(0))
}

fn after(now: DateTime<Utc>, ms: i64) -> DateTime<Utc> {
    now.checked_add_signed(Duration::milliseconds(ms)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + Duration::seconds(seconds)
    }
    fn answered(code: u16, attempts: u32) -> Effects {
        let before = Before { attempts, failing_since: None };
        step(&Policy::default(), before, Answer::Status { code, retry_after: None }, at(0), 0)
    }

    #[test]
    fn only_2xx_is_success_and_a_redirect_is_not() {
        for code in [200, 201, 204, 299] {
            assert_eq!(answered(code, 1).fate, Fate::Delivered);
        }
        for code in [100, 301, 302, 307, 400, 401, 404, 500, 503] {
            assert_eq!(answered(code, 1).fate, Fate::Again(at(5)), "{code}");
        }
    }

    #[test]
    fn ten_attempts_are_spread_over_75_hours_and_a_half() {
        let mut seconds = 0;
        for attempts in 1..10 {
            let Fate::Again(next) = answered(500, attempts).fate else { panic!("attempt {attempts} was the last") };
            seconds += next.timestamp();
        }
        assert_eq!(seconds, 272_105, "5 s, 35 min and 75 h");
        assert_eq!(answered(500, 10).fate, Fate::Failed);
    }

    #[test]
    fn jitter_only_adds_and_at_most_a_fifth() {
        assert_eq!((with_jitter(5_000, 0), with_jitter(5_000, u16::MAX)), (5_000, 6_000));
        assert_eq!(with_jitter(i64::MAX, u16::MAX), i64::MAX);
    }

    #[test]
    fn an_overloaded_endpoint_rests_as_long_as_it_asks_within_reason() {
        let paused = |code, retry_after| {
            let before = Before { attempts: 1, failing_since: None };
            step(&Policy::default(), before, Answer::Status { code, retry_after }, at(0), 0)
        };
        for code in [429, 502, 504] {
            assert_eq!(paused(code, Some(120)).paused_until, Some(at(120)));
            assert_eq!(paused(code, Some(120)).fate, Fate::Again(at(120)), "not before the pause ends");
            assert_eq!(paused(code, None).paused_until, Some(at(30)));
            assert_eq!(paused(code, Some(u32::MAX)).paused_until, Some(at(3_600)));
        }
        assert_eq!(paused(500, Some(120)).paused_until, None);
    }

    #[test]
    fn an_endpoint_is_disabled_when_it_is_gone_or_has_failed_for_days() {
        assert_eq!(answered(410, 1).disable, Some(DisableReason::Gone));
        let fails = |since, now| {
            let before = Before { attempts: 2, failing_since: Some(at(since)) };
            step(&Policy::default(), before, Answer::None, at(now), 0)
        };
        let five_days = 5 * 86_400;
        assert_eq!(fails(0, five_days - 1).disable, None);
        assert_eq!(fails(0, five_days).disable, Some(DisableReason::Failing));
        assert_eq!(fails(7, 8).failing_since, Some(at(7)), "the first failure counts");
        assert_eq!(answered(200, 3).failing_since, None);
    }
}
