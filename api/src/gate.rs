//! Lets few requests in while no connection to the database lives.
//!
//! A connection is opened by whoever waits for one, and waiters have their turn in the order in which they came. After the database was away
//! for longer than anybody waits, those whose turn it is have no time left to open one: each gives up half way, and so does the next, for as
//! long as as many ask, though the database is back. So once requests fail and no connection was had for a while, only a few are let in, who
//! then have all their time; with each that is answered it is twice as many.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use commands::database::LastUse;
use metrics::counter;

use crate::{
    problem::{Kind, Problem},
    state::AppState,
};

/// Let in at once after a fault: fewer than the connections of a pool, so that each may open one.
const FEW: usize = 4;
/// From so many on all are let in.
const MANY: usize = 512;
/// Without a connection for this long there is none.
const COLD_AFTER: Duration = Duration::from_secs(1);
/// Who is turned away comes back after one to this many seconds, so that not all come at once.
const SPREAD: usize = 3;

/// The gate before one pool.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pool: LastUse,
    width: AtomicUsize,
    under_way: AtomicUsize,
    turned_away: AtomicUsize,
}

/// A request that was let in, until it is answered or given up.
struct LetIn<'a>(&'a Inner);

impl Gate {
    /// Before the pool whose connections were last had then; open.
    pub fn before(pool: LastUse) -> Self {
        let zero = AtomicUsize::default;
        Self(Arc::new(Inner { pool, width: AtomicUsize::new(MANY), under_way: zero(), turned_away: zero() }))
    }

    fn let_in(&self) -> Option<LetIn<'_>> {
        let (entered, width) = (LetIn(&self.0), self.0.width.load(Ordering::Relaxed));
        let before = self.0.under_way.fetch_add(1, Ordering::Relaxed);
        (width >= MANY || before < width).then_some(entered)
    }

    fn turn_away(&self) -> Response {
        counter!("smartpos_http_turned_away_total").increment(1);
        let seconds = 1 + self.0.turned_away.fetch_add(1, Ordering::Relaxed) % SPREAD;
        let mut response = Problem::plain(Kind::Overloaded).into_response();
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        response
    }
}

impl LetIn<'_> {
    fn answered(self, status: StatusCode) {
        let is_cold = self.0.pool.ago() >= COLD_AFTER;
        let width = self.0.width.load(Ordering::Relaxed);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            if is_cold && width != FEW {
                tracing::warn!("no connection to the database lives: few requests are let in");
                self.0.width.store(FEW, Ordering::Relaxed);
            }
        } else if width < MANY && (status.is_success() || !is_cold) {
            // Of those that were answered at the same moment one counts.
            let _ = self.0.width.compare_exchange(width, 2 * width, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

impl Drop for LetIn<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The layer.
pub async fn few_at_first(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let gate = match route {
        "/healthz" | "/health" | "/readyz" | "/metrics" => return next.run(request).await,
        route if route.starts_with("/webhooks/") => &state.call_back_gate,
        _ => &state.gate,
    };
    let Some(let_in) = gate.let_in() else { return gate.turn_away() };
    let response = next.run(request).await;
    let_in.answered(response.status());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    const DONE: StatusCode = StatusCode::OK;
    const AWAY: StatusCode = StatusCode::SERVICE_UNAVAILABLE;

    /// How many of 2,000 that come at the same moment are let in.
    fn breadth(gate: &Gate) -> usize {
        (0..2_000).map(|_| gate.let_in()).collect::<Vec<_>>().iter().flatten().count()
    }

    fn asked(gate: &Gate, status: StatusCode) {
        gate.let_in().unwrap().answered(status);
    }

    /// Before a pool of which nobody has had a connection for a while.
    fn cold() -> Gate {
        let pool = LastUse::default();
        std::thread::sleep(COLD_AFTER);
        Gate::before(pool)
    }

    #[test]
    fn all_are_let_in_until_one_fails_while_no_connection_lives() {
        let gate = cold();
        assert_eq!(breadth(&gate), 2_000);
        asked(&gate, AWAY);
        assert_eq!(breadth(&gate), FEW);
        asked(&gate, AWAY);
        assert_eq!(breadth(&gate), FEW);
    }

    #[test]
    fn with_each_that_is_answered_twice_as_many_are_let_in_until_it_is_all() {
        let gate = cold();
        asked(&gate, AWAY);
        for times in 1..7 {
            asked(&gate, DONE);
            assert_eq!(breadth(&gate), FEW << times);
        }
        asked(&gate, DONE);
        assert_eq!(breadth(&gate), 2_000);
    }

    #[test]
    fn who_is_refused_without_a_connection_proves_nothing() {
        let gate = cold();
        asked(&gate, AWAY);
        asked(&gate, StatusCode::UNAUTHORIZED);
        assert_eq!(breadth(&gate), FEW);
    }

    #[test]
    fn what_fails_while_connections_live_turns_nobody_away() {
        let gate = cold();
        gate.0.pool.note();
        asked(&gate, AWAY);
        assert_eq!(breadth(&gate), 2_000);
    }

    #[test]
    fn who_was_let_in_and_went_away_makes_room() {
        let gate = cold();
        asked(&gate, AWAY);
        let under_way: Vec<_> = (0..FEW).map(|_| gate.let_in().unwrap()).collect();
        assert!(gate.let_in().is_none());
        drop(under_way);
        assert_eq!(breadth(&gate), FEW);
    }

    #[test]
    fn who_is_turned_away_is_told_when_to_come_back_and_not_all_the_same() {
        let gate = cold();
        let told: Vec<_> = (0..4).map(|_| gate.turn_away().headers()[header::RETRY_AFTER].to_str().unwrap().to_owned()).collect();
        assert_eq!(told, ["1", "2", "3", "1"]);
        assert_eq!(gate.turn_away().status(), AWAY);
    }
}
