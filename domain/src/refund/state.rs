//! What is remembered of a refund.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Failed, Requested, ResolvedByPerson};

/// Life of a refund.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Never requested.
    #[default]
    Absent,
    /// Under way.
    Pending,
    /// Gone back.
    Succeeded,
    /// Refused.
    Failed,
}

impl Status {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Pending => "pending",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

/// What is remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Life.
    pub status: Status,
    /// As requested.
    pub details: Option<Requested>,
    /// The outcome of the last call is not known.
    pub unknown: bool,
    /// Since when (UTC).
    pub unknown_since: Option<DateTime<Utc>>,
    /// For too long no answer said how it stands; since then a person has to look (UTC).
    pub left_to_person: Option<DateTime<Utc>>,
    /// What a person said of it, out of a statement.
    pub resolved_by_person: Option<ResolvedByPerson>,
    /// The provider's name for it.
    pub provider_reference: Option<String>,
    /// Why it failed.
    pub failure: Option<Failed>,
}

impl State {
    /// The outcome is known now.
    pub(super) const fn know(&mut self) {
        self.unknown = false;
        self.unknown_since = None;
        self.left_to_person = None;
    }

    /// It failed by the word of a person, which the provider's books may still contradict.
    pub fn is_declared_unsent(&self) -> bool {
        self.status == Status::Failed && self.resolved_by_person.as_ref().is_some_and(|said| !said.sent)
    }
}
