//! Facts about money that is held before it is taken.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::AttemptStarted;
use crate::{ids::AttemptId, money::Money};

/// The provider holds the amount. Said again when the hold was raised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Authorized {
    /// The attempt.
    pub attempt_id: AttemptId,
    /// How much is held.
    pub amount: Money,
    /// When the provider lets go of it by itself (UTC), where it says so.
    pub capture_before: Option<DateTime<Utc>>,
}

/// A capture is about to be asked for. The fact before the call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CaptureRequested {
    /// The attempt that holds the money.
    pub attempt: AttemptStarted,
    /// The provider's own name for it.
    pub provider_id: Option<String>,
    /// How much; the rest is released.
    pub amount: Money,
}

/// The provider refused the capture; the money is still held, as far as it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CaptureFailed {
    /// The attempt.
    pub attempt_id: AttemptId,
    /// Our word.
    pub code: String,
    /// The provider's words.
    pub message: String,
}

/// A higher hold is about to be asked for. The fact before the call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IncreaseRequested {
    /// The attempt that holds the money.
    pub attempt: AttemptStarted,
    /// The provider's own name for it.
    pub provider_id: Option<String>,
    /// The new total to be held.
    pub amount: Money,
}

/// The provider refused the higher hold; what was held is still held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IncreaseFailed {
    /// The attempt.
    pub attempt_id: AttemptId,
    /// Our word.
    pub code: String,
    /// The provider's words.
    pub message: String,
}
