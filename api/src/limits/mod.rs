//! Rate limits of the gateway routes: so many requests a minute for each merchant, for each payment token, for all payment tokens of a
//! merchant, and in all; and of call-backs: so many a minute for each account at a provider.
//!
//! A limit is a fixed window that begins with a party's first request: one counter and one end, so that what is left and when
//! it ends are exact, here and in Redis, and whoever waits as long as told is let in. Redis makes one count of several
//! processes; while it does not answer, each process counts for itself, going on from what it let in before.

mod local;
mod shared;

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use domain::ids::{MerchantId, PaymentIntentId, ProviderAccountId};
use tokio_util::sync::CancellationToken;

use self::{local::Windows, shared::Shared};
use crate::{
    config::Limits,
    problem::{Kind, Problem},
};

/// Length of a window.
pub const WINDOW: Duration = Duration::from_secs(60);
/// The limits that apply. Source: draft-ietf-httpapi-ratelimit-headers-11, section 3.
pub const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// What is left of the caller's own. Source: the same, section 4.
pub const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Whose requests are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Party {
    /// Of all callers.
    All,
    /// Of a merchant's people, terminals and services.
    Merchant(MerchantId),
    /// Of those who hold the payment token of one intent: a browser that polls must not use up its merchant's share.
    Intent(PaymentIntentId),
    /// Of the holders of all payment tokens of one merchant.
    Payers(MerchantId),
    /// Call-backs that prove their sender.
    CallBacks(Account),
    /// Call-backs that do not: whoever floods a door with forgeries must not keep out its provider.
    Forgeries(Account),
}

/// Whose call-backs come in by a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Account {
    /// The platform's own account at this provider.
    Own(&'static str),
    /// A merchant's.
    Merchants(ProviderAccountId),
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Own(provider) => f.write_str(provider),
            Self::Merchants(account) => account.fmt(f),
        }
    }
}

impl Party {
    /// The name of the policy in headers.
    const fn policy(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Merchant(_) => "merchant",
            Self::Intent(_) => "intent",
            Self::Payers(_) => "payers",
            Self::CallBacks(_) | Self::Forgeries(_) => "call-backs",
        }
    }

    /// Others count for it as well: what they have left is nobody's business until it is used up.
    const fn is_common(self) -> bool {
        matches!(self, Self::All | Self::Payers(_))
    }
}

/// A party and how many requests it may send in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Quota {
    party: Party,
    limit: u32,
}

/// What one window of a party looks like after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    taken: u32,
    ends_in: Duration,
}

/// Whether a request is let in, and the windows of the parties that were asked for, in the same order.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Verdict {
    admitted: bool,
    windows: Vec<Window>,
}

/// Counts the requests of this process, or of all processes that share a Redis.
pub struct Limiter {
    limits: Limits,
    local: Mutex<Windows>,
    shared: Option<Shared>,
}

impl std::fmt::Debug for Limiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limiter").field("limits", &self.limits).field("shared", &self.shared.is_some()).finish_non_exhaustive()
    }
}

impl Limiter {
    /// Counts in this process only.
    pub fn local(limits: Limits) -> Self {
        Self { limits, local: Mutex::new(Windows::default()), shared: None }
    }

    /// Counts in the Redis of this URL; while it is away, in this process. Must be called within a runtime.
    ///
    /// # Errors
    /// The URL cannot be read.
    pub fn shared(limits: Limits, url: &str, shutdown: CancellationToken) -> anyhow::Result<Self> {
        let patience = Duration::from_millis(limits.redis_patience_ms.get().into());
        Ok(Self { shared: Some(Shared::start(url, patience, shutdown)?), ..Self::local(limits) })
    }

    /// What limits it.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Counts a request that counts for each of these, unless a limit is reached, in which case nothing is counted.
    pub async fn take(&self, parties: impl IntoIterator<Item = Party>) -> Standing {
        let quotas = self.quotas(parties);
        if quotas.is_empty() {
            return Standing { admitted: true, standings: Vec::new() };
        }
        let asked = match &self.shared {
            Some(shared) => shared.take(&quotas).await,
            None => None,
        };
        let mut local = self.local.lock().unwrap_or_else(PoisonError::into_inner);
        let verdict = match asked {
            Some(verdict) => {
                if verdict.admitted {
                    // So that this process knows where it stands when Redis goes away.
                    local.count(&quotas, Instant::now());
                }
                verdict
            }
            None => local.take(&quotas, Instant::now()),
        };
        Standing { admitted: verdict.admitted, standings: quotas.into_iter().zip(verdict.windows).collect() }
    }

    fn quotas(&self, parties: impl IntoIterator<Item = Party>) -> Vec<Quota> {
        let all = parties.into_iter().map(|party| {
            let limit = match party {
                Party::All => self.limits.all_per_minute,
                Party::Merchant(_) => self.limits.per_merchant_per_minute,
                Party::Intent(_) => self.limits.per_payment_token_per_minute,
                Party::Payers(_) => self.limits.payers_per_merchant_per_minute,
                Party::CallBacks(Account::Merchants(_)) => self.limits.call_backs_per_account_per_minute,
                Party::CallBacks(Account::Own(_)) => self.limits.call_backs_per_platform_account_per_minute,
                Party::Forgeries(_) => self.limits.forgeries_per_account_per_minute,
            };
            Quota { party, limit }
        });
        all.filter(|quota| quota.limit > 0).collect()
    }
}

/// Where a caller stands after a request.
#[derive(Debug)]
pub struct Standing {
    /// The request was within every limit.
    pub admitted: bool,
    standings: Vec<(Quota, Window)>,
}

impl Standing {
    /// The answer to a request that is not let in.
    pub fn refusal(&self) -> Response {
        let wait = self.retry_after_seconds();
        let mut response = Problem::new(Kind::RateLimited, format!("the next request is taken in {wait} seconds")).into_response();
        self.write(response.headers_mut());
        response
    }

    /// Seconds until the last of the windows that are used up has ended; at least one.
    pub fn retry_after_seconds(&self) -> u64 {
        let full = self.standings.iter().filter(|(quota, window)| window.taken >= quota.limit);
        full.map(|(_, window)| seconds(window.ends_in)).max().unwrap_or(1).max(1)
    }

    /// Writes `RateLimit-Policy` and `RateLimit`, and `Retry-After` for a request that was refused. What is left of a common limit shows
    /// once it is used up.
    pub fn write(&self, headers: &mut HeaderMap) {
        if self.standings.is_empty() {
            return;
        }
        let policies =
            self.standings.iter().map(|(quota, _)| format!("\"{}\";q={};w={}", quota.party.policy(), quota.limit, WINDOW.as_secs()));
        let shown = self.standings.iter().filter(|(quota, window)| !quota.party.is_common() || window.taken >= quota.limit);
        let left = shown.map(|(quota, window)| {
            let remaining = quota.limit.saturating_sub(window.taken);
            format!("\"{}\";r={remaining};t={}", quota.party.policy(), seconds(window.ends_in))
        });
        set(headers, RATE_LIMIT_POLICY, &policies.collect::<Vec<_>>().join(", "));
        set(headers, RATE_LIMIT, &left.collect::<Vec<_>>().join(", "));
        if !self.admitted {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(self.retry_after_seconds()));
        }
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let (false, Ok(value)) = (text.is_empty(), HeaderValue::from_str(text)) {
        headers.insert(name, value);
    }
}

/// Whole seconds, the rest counted as one: whoever waits that long has waited long enough.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use domain::ids::Ulid;

    use super::*;

    fn merchant(n: u8) -> [Party; 2] {
        [Party::Merchant(MerchantId(Ulid::from_bytes([n; 16]))), Party::All]
    }

    fn header(standing: &Standing, name: HeaderName) -> String {
        let mut headers = HeaderMap::new();
        standing.write(&mut headers);
        headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    }

    #[tokio::test]
    async fn a_merchant_has_its_limit_and_another_one_its_own() {
        let limiter =
            Limiter::local(Limits { per_merchant_per_minute: 2, all_per_minute: 10, per_payment_token_per_minute: 1, ..Limits::off() });
        let first = limiter.take(merchant(1)).await;
        assert!(first.admitted);
        assert_eq!(header(&first, RATE_LIMIT_POLICY), "\"merchant\";q=2;w=60, \"all\";q=10;w=60");
        assert_eq!(header(&first, RATE_LIMIT), "\"merchant\";r=1;t=60");
        assert!(limiter.take(merchant(1)).await.admitted);
        let third = limiter.take(merchant(1)).await;
        assert!(!third.admitted);
        assert_eq!(header(&third, RATE_LIMIT), "\"merchant\";r=0;t=60");
        assert_eq!(header(&third, header::RETRY_AFTER), "60");
        assert!(limiter.take(merchant(2)).await.admitted);
        let intent = [Party::Intent(PaymentIntentId(Ulid::from_bytes([1; 16]))), Party::All];
        assert!(limiter.take(intent).await.admitted, "a payment token has a share of its own");
        assert!(!limiter.take(intent).await.admitted);
    }

    #[tokio::test]
    async fn what_one_merchant_is_refused_takes_nothing_from_all() {
        let limiter = Limiter::local(Limits { per_merchant_per_minute: 1, all_per_minute: 2, ..Limits::off() });
        assert!(limiter.take(merchant(1)).await.admitted);
        for _ in 0..5 {
            assert!(!limiter.take(merchant(1)).await.admitted);
        }
        assert!(limiter.take(merchant(2)).await.admitted);
        let full = limiter.take(merchant(3)).await;
        assert!(!full.admitted);
        assert_eq!(header(&full, RATE_LIMIT), "\"merchant\";r=1;t=60, \"all\";r=0;t=60", "the common limit shows once it is used up");
    }

    #[tokio::test]
    async fn the_payers_of_a_merchant_share_a_limit_that_shows_once_it_is_used_up() {
        let limiter = Limiter::local(Limits { per_payment_token_per_minute: 5, payers_per_merchant_per_minute: 2, ..Limits::off() });
        let id = |n: u8| Ulid::from_bytes([n; 16]);
        let payer = |intent: u8, of: u8| [Party::Intent(PaymentIntentId(id(intent))), Party::Payers(MerchantId(id(of)))];
        let first = limiter.take(payer(1, 1)).await;
        assert_eq!(header(&first, RATE_LIMIT), "\"intent\";r=4;t=60");
        assert!(limiter.take(payer(2, 1)).await.admitted);
        let third = limiter.take(payer(3, 1)).await;
        assert!(!third.admitted);
        assert_eq!(header(&third, RATE_LIMIT), "\"intent\";r=5;t=60, \"payers\";r=0;t=60");
        assert!(limiter.take(payer(4, 2)).await.admitted, "those of another merchant have their own");
    }

    #[tokio::test]
    async fn forgeries_take_nothing_from_genuine_call_backs_and_each_has_its_own_limit() {
        let limits = Limits {
            call_backs_per_account_per_minute: 3,
            call_backs_per_platform_account_per_minute: 4,
            forgeries_per_account_per_minute: 2,
            ..Limits::off()
        };
        let limiter = Limiter::local(limits);
        let merchants = |n: u8| Account::Merchants(ProviderAccountId(Ulid::from_bytes([n; 16])));
        for (party, limit) in [
            (Party::Forgeries(Account::Own("scb")), 2),
            (Party::CallBacks(Account::Own("scb")), 4),
            (Party::Forgeries(merchants(1)), 2),
            (Party::CallBacks(merchants(1)), 3),
            (Party::CallBacks(merchants(2)), 3),
        ] {
            let mut admitted = 0;
            while limiter.take([party]).await.admitted {
                admitted += 1;
            }
            assert_eq!(admitted, limit, "{party:?}");
        }
    }

    #[tokio::test]
    async fn zero_is_no_limit_and_no_header() {
        let limiter = Limiter::local(Limits::off());
        for _ in 0..50 {
            let standing = limiter.take(merchant(1)).await;
            assert!(standing.admitted && header(&standing, RATE_LIMIT_POLICY).is_empty());
        }
    }
}
