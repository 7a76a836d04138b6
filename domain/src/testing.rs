//! The given/when/then harness for deciders. Each step is a type, so that a half-written test does not compile.

use crate::decider::Aggregate;

/// History given; a command must follow.
pub struct Given<A: Aggregate>(A::State);

/// Command decided; an expectation must follow.
#[must_use = "a test without an expectation proves nothing"]
pub struct Decided<A: Aggregate>(Result<Vec<A::Event>, A::Rejection>);

/// Starts from a history of events.
pub fn given<A: Aggregate>(events: &[A::Event]) -> Given<A> {
    Given(A::fold(events))
}

impl<A: Aggregate> Given<A> {
    /// Decides the command.
    pub fn when(self, command: A::Command) -> Decided<A> {
        Decided(A::decide(&self.0, command))
    }
}

impl<A: Aggregate> Decided<A> {
    /// Exactly these events follow.
    pub fn then(self, expected: &[A::Event]) {
        match self.0 {
            Ok(events) => assert_eq!(events, expected),
            Err(rejection) => panic!("rejected: {rejection}"),
        }
    }

    /// Exactly this rule forbids it.
    pub fn then_rejected(self, code: &str) {
        match self.0 {
            Ok(events) => panic!("accepted: {events:?}"),
            Err(rejection) => assert_eq!(rejection.into().code, code),
        }
    }

    /// The events, for a closer look.
    pub fn events(self) -> Vec<A::Event> {
        match self.0 {
            Ok(events) => events,
            Err(rejection) => panic!("rejected: {rejection}"),
        }
    }
}
