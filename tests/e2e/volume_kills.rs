//! When an import is killed: once when it has hardly begun, then at positions that a printed seed draws over its whole length.

use commands::system::RandomIds;
use domain::clock::IdSource;
use sha2::{Digest, Sha256};
use sqlx::PgPool;

/// Hardly begun: stores are being opened.
const FIRST: i64 = 37;
/// Kills that are spread over the whole length.
const SPREAD: u64 = 3;

/// The positions of one run.
pub struct Kills {
    seed: u64,
    orders: u64,
}

impl Kills {
    /// Of an import of so many orders. `VOLUME_SEED` repeats the positions of an earlier run; what the processes make of them is theirs.
    pub fn new(orders: u64) -> Self {
        let seed = match std::env::var("VOLUME_SEED") {
            Ok(seed) => seed.parse().expect("VOLUME_SEED is a number"),
            Err(_) => u64::try_from(RandomIds.next().random() % 1_000_000).unwrap(),
        };
        println!("VOLUME_SEED={seed}");
        Self { seed, orders }
    }

    /// Number `n` of the seed's draws, from `low` to `high`, both included.
    fn draw(&self, n: u64, low: i64, high: i64) -> i64 {
        let digest = Sha256::new().chain_update(self.seed.to_be_bytes()).chain_update(n.to_be_bytes()).finalize();
        let number = u64::from_be_bytes(digest[..8].try_into().unwrap());
        low + i64::try_from(number % u64::try_from(high - low + 1).unwrap()).unwrap()
    }

    /// Those that need not know how long the whole is. Every order has more events than one.
    pub fn early(&self) -> [i64; 2] {
        let orders = i64::try_from(self.orders).unwrap();
        [FIRST, self.draw(0, FIRST.max(orders / 4), FIRST.max(orders / 2))]
    }

    /// The others, between the head and four fifths of the length that the orders so far let expect.
    pub async fn spread(&self, log: &PgPool) -> Vec<i64> {
        let sql = "select count(*) filter (where type = 'order.opened'), count(*), (select pos from log.head) from log.event \
                   where stream_type in ('order', 'bill', 'payment_intent')";
        let (opened, events, head): (i64, i64, i64) = sqlx::query_as(sql).fetch_one(log).await.unwrap();
        let expected = i64::try_from(self.orders).unwrap() * events / opened.max(1);
        let last = (expected * 4 / 5).max(head + 1);
        let mut drawn: Vec<i64> = (1..=SPREAD).map(|n| self.draw(n, head + 1, last)).collect();
        drawn.sort_unstable();
        drawn
    }
}
