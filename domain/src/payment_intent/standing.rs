//! How an intent stands towards one of its attempts: what whoever calls the provider must know before the call.

use super::{State, Status};
use crate::ids::AttemptId;

/// What an intent wants of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The intent is open and this is its live attempt: its money is awaited.
    pub awaited: bool,
    /// The call that begins the attempt is still wanted; false as well once a caller asked to stop.
    pub begins: bool,
    /// The provider has not answered that call, so nobody knows what it did.
    pub unanswered: bool,
}

impl State {
    /// How the intent stands towards an attempt.
    pub fn standing(&self, attempt_id: AttemptId) -> Standing {
        let live = self.live_attempt(attempt_id).filter(|_| self.is_open());
        let processing = self.status == Status::Processing;
        Standing {
            awaited: live.is_some(),
            begins: live.is_some() && processing && self.cancel_requested.is_none(),
            unanswered: processing && live.is_some_and(|attempt| attempt.provider_id.is_none()),
        }
    }
}
