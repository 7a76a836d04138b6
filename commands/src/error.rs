//! What can go wrong with a command. Four kinds, kept apart: rejection, conflict, fault, corrupt data.

use domain::{event::DecodeError, rejection::Rejected};

use crate::event_log::StoreError;

/// Why a command gave no answer of its own.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// A business rule forbids it; nothing changed.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The caller's `If-Match` names another version than the stream has.
    #[error("the resource is at version {current}, not at the one named by If-Match")]
    StaleVersion {
        /// The stream's version.
        current: i64,
    },
    /// Others kept changing the same streams; the command was decided several times and lost each race.
    #[error("others changed the same resource at the same time")]
    Conflict,
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used for another request: '{field}' differs")]
    KeyReused {
        /// JSON pointer of the first differing field.
        field: String,
    },
    /// The database does not answer; nothing was attempted. Safe to repeat.
    #[error("the log is not available: {0}")]
    Unavailable(String),
    /// The queue is full; nothing was attempted. Safe to repeat.
    #[error("the command queue is full")]
    Overloaded,
    /// The connection broke while the command was being stored; repeat with the same idempotency key.
    #[error("the outcome of the command is not known")]
    OutcomeUnknown,
    /// The database refused the write for a reason that is no conflict.
    #[error("the log refused the write: {0}")]
    Fault(String),
    /// A stored event cannot be read.
    #[error("stream {stream} holds an unreadable event at version {version}: {error}")]
    Corrupt {
        /// Kind and id.
        stream: String,
        /// Place in the stream.
        version: i64,
        /// Why.
        error: DecodeError,
    },
}

impl CommandError {
    /// Repeating the same command later may succeed without the caller changing anything.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Conflict | Self::Unavailable(_) | Self::Overloaded | Self::OutcomeUnknown => true,
            Self::Rejected(_) | Self::StaleVersion { .. } | Self::KeyReused { .. } | Self::Fault(_) | Self::Corrupt { .. } => false,
        }
    }
}

/// Any error on the read path means that the log did not answer.
impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// As above, where PostgreSQL is asked directly.
impl From<sqlx::Error> for CommandError {
    fn from(error: sqlx::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}
