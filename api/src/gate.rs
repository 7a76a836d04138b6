//! Lets few requests in while no connection to the database lives.
//!
//! A connection is opened by whoever waits for one, and waiters have their turn in the order in which they came. After the database was away
//! for longer than anybody waits, those whose turn it is have no time left to open one: each gives up half way, and so does the next, for as
//! long as as many ask, though the database is back. So once requests fail and no connection was had for a while, only a few are let in, who
//! then have all their time; with each that is answered it is twice as many.

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use commands::database::LastUse;
use metrics::counter;
use sqlx::PgPool;
use tokio::time::timeout;

use crate::problem::{Kind, Problem};

/// Let in at once after a fault: fewer than the connections of a pool, so that each may open one.
const FEW: usize = 4;
/// From so many on all are let in.
const MANY: usize = 512;
/// Nobody had a connection for this long, and none is idle: there is none.
const COLD_AFTER: Duration = Duration::from_secs(1);
/// How long a request may keep others out: longer than anybody waits for a connection, and not as long as a body may take to come.
const KEEPS_OUT: Duration = Duration::from_secs(4);
/// Who is turned away comes back after one to this many seconds, so that not all come at once.
const SPREAD: usize = 3;

/// The gate before one pool.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    is_cold: Box<dyn Fn() -> bool + Send + Sync>,
    width: AtomicUsize,
    /// Of those who were let in while not all were.
    under_way: AtomicUsize,
    turned_away: AtomicUsize,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("width", &self.width).field("under_way", &self.under_way).finish_non_exhaustive()
    }
}

/// One of few who were let in, for as long as it keeps others out.
struct LetIn<'a>(&'a AtomicUsize);

impl Drop for LetIn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gate {
    /// The gate before a pool whose connections were last had then; open.
    pub fn before(pool: PgPool, last_use: LastUse) -> Self {
        Self::closing_when(move || last_use.ago() >= COLD_AFTER && pool.num_idle() == 0)
    }

    fn closing_when(is_cold: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        let zero = AtomicUsize::default;
        Self(Arc::new(Inner { is_cold: Box::new(is_cold), width: AtomicUsize::new(MANY), under_way: zero(), turned_away: zero() }))
    }

    /// The answer to a request, or that it is to come back.
    pub async fn pass(&self, answer: impl Future<Output = Response>) -> Response {
        let response = if self.0.width.load(Ordering::Relaxed) >= MANY {
            answer.await
        } else {
            let Some(let_in) = self.let_in() else { return self.turn_away() };
            let mut answer = pin!(answer);
            if let Ok(response) = timeout(KEEPS_OUT, &mut answer).await {
                response
            } else {
                drop(let_in);
                answer.await
            }
        };
        self.heard(response.status());
        response
    }

    fn let_in(&self) -> Option<LetIn<'_>> {
        let before = self.0.under_way.fetch_add(1, Ordering::Relaxed);
        let counted = LetIn(&self.0.under_way);
        (before < self.0.width.load(Ordering::Relaxed)).then_some(counted)
    }

    fn turn_away(&self) -> Response {
        counter!("smartpos_http_turned_away_total").increment(1);
        let seconds = 1 + self.0.turned_away.fetch_add(1, Ordering::Relaxed) % SPREAD;
        let mut response = Problem::plain(Kind::Overloaded).into_response();
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        response
    }

    fn heard(&self, status: StatusCode) {
        let width = self.0.width.load(Ordering::Relaxed);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            if width != FEW && (self.0.is_cold)() {
                tracing::warn!("no connection to the database lives: few requests are let in");
                self.0.width.store(FEW, Ordering::Relaxed);
            }
        } else if width < MANY && (status.is_success() || !(self.0.is_cold)()) {
            // Of those that were answered at the same moment one counts.
            let _ = self.0.width.compare_exchange(width, 2 * width, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use futures_util::FutureExt;

    use super::*;

    const DONE: StatusCode = StatusCode::OK;
    const AWAY: StatusCode = StatusCode::SERVICE_UNAVAILABLE;

    /// A gate, and whether no connection lives.
    fn gate() -> (Gate, Arc<AtomicBool>) {
        let cold = Arc::new(AtomicBool::new(true));
        let is_cold = cold.clone();
        (Gate::closing_when(move || is_cold.load(Ordering::Relaxed)), cold)
    }

    async fn asked(gate: &Gate, status: StatusCode) -> StatusCode {
        gate.pass(async move { status.into_response() }).await.status()
    }

    /// How many of 2,000 that come at the same moment, and are not answered, are let in.
    fn breadth(gate: &Gate) -> usize {
        let mut asking: Vec<_> = (0..2_000).map(|_| Box::pin(gate.pass(std::future::pending()))).collect();
        asking.iter_mut().filter_map(FutureExt::now_or_never).fold(2_000, |let_in, refused| {
            assert_eq!(refused.status(), AWAY);
            let_in - 1
        })
    }

    #[tokio::test]
    async fn all_are_let_in_until_one_fails_while_no_connection_lives() {
        let (gate, _) = gate();
        assert_eq!(breadth(&gate), 2_000);
        asked(&gate, AWAY).await;
        assert_eq!(breadth(&gate), FEW);
        asked(&gate, AWAY).await;
        assert_eq!(breadth(&gate), FEW);
    }

    #[tokio::test]
    async fn with_each_that_is_answered_twice_as_many_are_let_in_until_it_is_all() {
        let (gate, _) = gate();
        asked(&gate, AWAY).await;
        for times in 1..7 {
            asked(&gate, DONE).await;
            assert_eq!(breadth(&gate), FEW << times);
        }
        asked(&gate, DONE).await;
        assert_eq!(breadth(&gate), 2_000);
    }

    #[tokio::test]
    async fn who_is_refused_without_a_connection_proves_nothing() {
        let (gate, cold) = gate();
        asked(&gate, AWAY).await;
        asked(&gate, StatusCode::UNAUTHORIZED).await;
        assert_eq!(breadth(&gate), FEW);
        cold.store(false, Ordering::Relaxed);
        asked(&gate, StatusCode::NOT_FOUND).await;
        assert_eq!(breadth(&gate), 2 * FEW);
    }

    #[tokio::test]
    async fn what_fails_while_connections_live_turns_nobody_away() {
        let (gate, cold) = gate();
        cold.store(false, Ordering::Relaxed);
        asked(&gate, AWAY).await;
        assert_eq!(breadth(&gate), 2_000);
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_let_in_before_or_takes_long_keeps_nobody_out() {
        let (gate, _) = gate();
        let slow = |gate: Gate| tokio::spawn(async move { gate.pass(std::future::pending()).await });
        let before: Vec<_> = (0..100).map(|_| slow(gate.clone())).collect();
        tokio::time::sleep(Duration::from_millis(1)).await;
        asked(&gate, AWAY).await;
        assert_eq!(breadth(&gate), FEW);
        let few: Vec<_> = (0..FEW).map(|_| slow(gate.clone())).collect();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(breadth(&gate), 0);
        tokio::time::sleep(KEEPS_OUT).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(breadth(&gate), FEW);
        assert!(before.iter().chain(&few).all(|one| !one.is_finished()));
    }

    #[tokio::test]
    async fn who_is_turned_away_is_told_when_to_come_back_and_not_all_the_same() {
        let (gate, _) = gate();
        let told: Vec<_> = (0..4).map(|_| gate.turn_away().headers()[header::RETRY_AFTER].to_str().unwrap().to_owned()).collect();
        assert_eq!(told, ["1", "2", "3", "1"]);
    }
}
