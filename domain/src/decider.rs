//! The decider: how an aggregate answers a command and how it remembers.

use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};

use crate::{envelope::StreamType, event::AggregateEvent, rejection::Rejected};

/// An aggregate as two pure functions.
///
/// `decide` looks at the state and says which facts follow, or which rule forbids it; a request already in effect yields
/// no events. `evolve` only assigns: it never fails, never computes what `decide` should have.
pub trait Aggregate: 'static {
    /// The kind of its streams.
    const STREAM_TYPE: StreamType;
    /// Raised whenever `State` changes shape; a snapshot of another schema is ignored.
    const STATE_SCHEMA: i16;
    /// What can be asked.
    type Command: Debug;
    /// What can happen.
    type Event: AggregateEvent;
    /// What is remembered.
    type State: Default + Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static;
    /// Which rules can be broken.
    type Rejection: std::error::Error + Into<Rejected>;

    /// Facts that follow from `command` in `state`.
    ///
    /// # Errors
    /// The rule that forbids it.
    fn decide(state: &Self::State, command: Self::Command) -> Result<Vec<Self::Event>, Self::Rejection>;

    /// The state after `event`.
    fn evolve(state: Self::State, event: &Self::Event) -> Self::State;

    /// The state after all of `events`, from nothing.
    fn fold<'a>(events: impl IntoIterator<Item = &'a Self::Event>) -> Self::State {
        events.into_iter().fold(Self::State::default(), Self::evolve)
    }
}
