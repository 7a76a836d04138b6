//! What the end-to-end tests stand on: real servers, fresh databases, a clock that stands still, and a shop to trade in.
//!
//! Everything here panics when it fails: a test whose ground gives way has nothing to report but that.
#![expect(clippy::expect_used, reason = "a support function that fails must fail its test")]
#![expect(clippy::missing_panics_doc, reason = "all of it panics, see above")]

mod clock;
mod database;
mod history;
mod platform;
mod process;
mod provider;
mod proxy;
mod raw;
mod receiver;
mod redis;
mod replay;
mod scratch;
mod servers;
mod settlement;
mod shop;
mod skip;

pub use clock::{ManualClock, SeededIds, ShiftedClock};
pub use database::{TestDatabase, WriteSide};
pub use history::write_history;
pub use platform::{Answered, ApiShop, TestPlatform, answered, answered_unless, nobody, order_body, patiently_answered, store_body};
pub use process::{Process, ended_with_peak};
pub use provider::{ProviderAt, bank_environment};
pub use proxy::{Proxy, Way};
pub use raw::{item, key_claim, stream};
pub use receiver::{Received, Receiver, Reply};
pub use redis::TestRedis;
pub use replay::{Replayed, replay, replay_command, replay_program};
pub use scratch::ScratchDir;
pub use servers::{OwnServers, TestServers};
pub use settlement::{reconcile, reconcile_as, settlement_list};
pub use shop::{Shop, new_line};
pub use skip::{Lacking, skipped};

use std::time::Duration;

/// How long what must come is waited for, however slow the machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks `condition` again and again until it gives something, at most for `limit` or [`PATIENCE`], the longer of the two; `what` stands in
/// the panic message.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, limit: Duration, mut condition: impl FnMut() -> F) -> T {
    let limit = limit.max(PATIENCE);
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(tokio::time::Instant::now() < deadline, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
