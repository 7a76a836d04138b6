//! Everything that is not a success, in the classes that decide what happens next.

use domain::{
    payment_intent::DisputeOutcome,
    provider::{CallOutcome, Decline, DisputeSeen},
};

/// Whether a call can move money: decides what an unreadable answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A read: an unclear answer changed nothing, so the call may be repeated.
    Read,
    /// Money, or something that can be paid, may have come to be.
    Money,
}

/// Why a call did not succeed. Source of the split: the banks' response code lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Certainly not carried out; safe to repeat.
    NotAttempted(String),
    /// The token or key was refused; nothing was carried out.
    Unauthorized(String),
    /// The provider has no such thing, which may mean *not yet*.
    NotFound(String),
    /// The provider is ahead of us (has it already, is paid, is cancelled): its books decide.
    Conflict(String),
    /// Final.
    Declined(Decline),
    /// Anything may have happened.
    Uncertain(String),
}

impl Failure {
    /// What the caller of the port is told.
    pub fn outcome<T>(self, kind: Kind) -> CallOutcome<T> {
        match (self, kind) {
            (Self::Uncertain(reason), Kind::Money) => CallOutcome::Unknown(reason),
            (Self::NotAttempted(reason), _) | (Self::Uncertain(reason), Kind::Read) => CallOutcome::NotAttempted(reason),
            (Self::Unauthorized(message), _) => CallOutcome::Declined(decline("credentials_refused", &message)),
            (Self::NotFound(message), _) => CallOutcome::Declined(decline("not_found", &message)),
            (Self::Conflict(message), _) => CallOutcome::Declined(decline("conflict", &message)),
            (Self::Declined(decline), _) => CallOutcome::Declined(decline),
        }
    }

    /// The same, of a call that only prepared the real one: whatever became of it, the real one was never sent.
    pub fn before_sending(self) -> Self {
        match self {
            Self::Uncertain(reason) | Self::NotAttempted(reason) | Self::NotFound(reason) | Self::Conflict(reason) => {
                Self::NotAttempted(format!("no access token: {reason}"))
            }
            Self::Unauthorized(message) => Self::Declined(decline("credentials_refused", &message)),
            Self::Declined(decline) => Self::Declined(Decline { code: "credentials_refused".to_owned(), ..decline }),
        }
    }
}

/// A refusal in our own word.
pub fn decline(code: &str, message: &str) -> Decline {
    Decline { code: code.to_owned(), message: message.to_owned() }
}

/// A dispute by the provider's words for where it stands and why; a word that is not known leaves it open.
pub fn dispute_seen(status: &str, reason: Option<&str>) -> DisputeSeen {
    let outcome = match status {
        // A warning is a question of the payer's bank; closed, it came to nothing.
        "won" | "warning_closed" => Some(DisputeOutcome::Won),
        "lost" => Some(DisputeOutcome::Lost),
        _ => None,
    };
    let reason: String = reason.unwrap_or_default().chars().filter(|letter| !letter.is_control()).take(64).collect();
    DisputeSeen { outcome, reason: if reason.trim().is_empty() { "not told".to_owned() } else { reason } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_uncertain_read_is_safe_to_repeat_and_an_uncertain_payment_is_unknown() {
        let failure = || Failure::Uncertain("cut".to_owned());
        assert_eq!(failure().outcome::<()>(Kind::Read), CallOutcome::NotAttempted("cut".to_owned()));
        assert_eq!(failure().outcome::<()>(Kind::Money), CallOutcome::Unknown("cut".to_owned()));
    }
}
