//! A runtime of one thread whose clock is paused and whose own chance comes from the seed.

use tokio::runtime::{Builder, RngSeed, Runtime};

/// For one simulation.
#[expect(clippy::expect_used, reason = "without a runtime there is nothing to say")]
pub fn paused(seed: u64) -> Runtime {
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .rng_seed(RngSeed::from_bytes(&seed.to_be_bytes()))
        .build()
        .expect("a runtime of one thread")
}
