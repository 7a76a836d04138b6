//! The circuit breaker as a pure state machine: closed → open → half open → closed or open again.

use chrono::{DateTime, TimeDelta, Utc};

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// Begins or changes something at the provider.
    Begin,
    /// Asks only.
    Look,
}

/// Whether calls that begin something are let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Circuit {
    /// All are.
    Closed,
    /// None is.
    Open,
    /// One is, to try.
    HalfOpen,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed,
    /// From `until` on it is half open; `next_look` is when the next look may pass, nothing when all may.
    Broken {
        until: DateTime<Utc>,
        next_look: Option<DateTime<Utc>>,
        trying: bool,
    },
}

#[derive(Debug)]
pub(super) struct Breaker {
    open_after: u32,
    open_for: TimeDelta,
    look_every: TimeDelta,
    failures: u32,
    state: State,
}

impl Breaker {
    pub(super) const fn new(open_after: u32, open_for: TimeDelta, look_every: TimeDelta) -> Self {
        Self { open_after, open_for, look_every, failures: 0, state: State::Closed }
    }

    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }

    pub(super) fn circuit(&self, now: DateTime<Utc>) -> Circuit {
        match self.state {
            State::Closed => Circuit::Closed,
            State::Broken { until, .. } if now < until => Circuit::Open,
            State::Broken { .. } => Circuit::HalfOpen,
        }
    }

    /// Whether this call may go out now. Every admitted call must be reported.
    pub(super) fn admits(&mut self, call: Call, now: DateTime<Utc>) -> bool {
        let State::Broken { until, next_look, trying } = &mut self.state else { return true };
        match call {
            Call::Look if next_look.is_none() => true,
            Call::Look if next_look.is_some_and(|next| now >= next) => {
                *next_look = Some(now + self.look_every);
                true
            }
            Call::Begin if now >= *until && !*trying => {
                *trying = true;
                true
            }
            Call::Look | Call::Begin => false,
        }
    }

    /// How an admitted call went: answered, not answered, or abandoned so that nobody knows.
    pub(super) fn report(&mut self, call: Call, answered: Option<bool>, now: DateTime<Utc>) {
        match (answered, &mut self.state, call) {
            (None, State::Broken { trying, .. }, Call::Begin) => *trying = false,
            (None, ..) => {}
            (Some(true), State::Closed, _) | (Some(true), State::Broken { .. }, Call::Begin) => {
                (self.failures, self.state) = (0, State::Closed);
            }
            // Its books can be read again: nothing keeps the other looks. That does not say that it takes payments: let one try.
            (Some(true), State::Broken { until, next_look, .. }, Call::Look) => {
                *until = now.min(*until);
                *next_look = None;
            }
            (Some(false), state, _) => {
                self.failures = self.failures.saturating_add(1);
                let rest = now + self.open_for;
                match (state, call) {
                    (state @ State::Closed, _) if self.failures >= self.open_after => {
                        *state = State::Broken { until: rest, next_look: Some(now + self.look_every), trying: false };
                    }
                    (State::Broken { until, trying: trying @ true, .. }, Call::Begin) => (*until, *trying) = (rest, false),
                    (State::Broken { next_look, .. }, Call::Look) => *next_look = Some(now + self.look_every),
                    (State::Closed | State::Broken { .. }, _) => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    /// Opened at second 0 by three failures; half open from second 30.
    fn open() -> Breaker {
        let mut breaker = Breaker::new(3, TimeDelta::seconds(30), TimeDelta::seconds(5));
        for _ in 0..3 {
            assert!(breaker.admits(Call::Begin, at(0)));
            breaker.report(Call::Begin, Some(false), at(0));
        }
        assert_eq!(breaker.circuit(at(0)), Circuit::Open);
        breaker
    }

    #[test]
    fn only_failures_in_a_row_open_it() {
        let mut breaker = Breaker::new(3, TimeDelta::seconds(30), TimeDelta::seconds(5));
        for answered in [false, false, true, false, false] {
            breaker.report(Call::Begin, Some(answered), at(0));
        }
        assert_eq!((breaker.circuit(at(0)), breaker.failures()), (Circuit::Closed, 2));
    }

    #[test]
    fn while_open_nothing_begins_and_looks_trickle() {
        let mut breaker = open();
        assert!(!breaker.admits(Call::Begin, at(29)));
        let looks: Vec<bool> = [4, 5, 6, 9, 10].map(|second| breaker.admits(Call::Look, at(second))).to_vec();
        assert_eq!(looks, [false, true, false, false, true]);
    }

    #[test]
    fn half_open_lets_one_try_and_its_answer_decides() {
        let mut breaker = open();
        assert!(breaker.admits(Call::Begin, at(30)));
        assert!(!breaker.admits(Call::Begin, at(30)), "one at a time");
        breaker.report(Call::Begin, Some(false), at(31));
        assert_eq!(breaker.circuit(at(60)), Circuit::Open);
        assert!(breaker.admits(Call::Begin, at(61)));
        breaker.report(Call::Begin, Some(true), at(62));
        assert_eq!((breaker.circuit(at(62)), breaker.failures()), (Circuit::Closed, 0));
    }

    #[test]
    fn an_abandoned_try_makes_room_for_the_next() {
        let mut breaker = open();
        assert!(breaker.admits(Call::Begin, at(30)));
        breaker.report(Call::Begin, None, at(31));
        assert!(breaker.admits(Call::Begin, at(31)));
    }

    #[test]
    fn looks_flow_once_one_is_answered_until_one_is_not() {
        let mut breaker = open();
        assert!(breaker.admits(Call::Look, at(5)));
        breaker.report(Call::Look, Some(true), at(5));
        assert!((0..3).all(|_| breaker.admits(Call::Look, at(5))), "the books can be read");
        assert!(breaker.admits(Call::Begin, at(5)));
        breaker.report(Call::Begin, Some(false), at(6));
        assert!(breaker.admits(Call::Look, at(6)), "that it takes no payment does not close its books");
        breaker.report(Call::Look, Some(false), at(7));
        assert!(!breaker.admits(Call::Look, at(11)));
        assert!(breaker.admits(Call::Look, at(12)));
    }

    #[test]
    fn an_answered_look_lets_one_try_at_once() {
        let mut breaker = open();
        assert!(breaker.admits(Call::Look, at(5)));
        breaker.report(Call::Look, Some(true), at(5));
        assert_eq!(breaker.circuit(at(5)), Circuit::HalfOpen);
        assert!(breaker.admits(Call::Begin, at(5)));
    }
}
