//! Everything that is not a success, in the classes that decide what happens next.

use domain::{
    payment_intent::DisputeOutcome,
    provider::{AttemptStatus, AttemptView, CallOutcome, Decline, DisputeSeen, RefundRequest, RefundStatus},
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
            (Self::Uncertain(reason), Kind::Money) => CallOutcome::Unknown(without_tokens(&reason)),
            (Self::NotAttempted(reason), _) | (Self::Uncertain(reason), Kind::Read) => CallOutcome::NotAttempted(without_tokens(&reason)),
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
    Decline { code: code.to_owned(), message: without_tokens(message) }
}

/// What it means that a provider refused a capture because it cannot be done, by a look at its books: where they show the hold untouched,
/// it was refused for good.
pub fn capture_refused(reason: &str, books: CallOutcome<AttemptView>) -> CallOutcome<AttemptView> {
    let untouched = matches!(
        &books,
        CallOutcome::Done(AttemptView { status: AttemptStatus::Authorized { .. }, payments, .. }) if payments.is_empty()
    );
    if untouched { CallOutcome::Declined(decline("capture_refused", reason)) } else { books }
}

/// Whether nothing of a refund can have reached a bank's books: the first call for it was refused for who asked.
pub fn surely_not_sent(refusal: &Decline, request: &RefundRequest) -> bool {
    request.uncertain_since.is_none() && refusal.code == "credentials_refused"
}

/// What it means that a void was refused, by a look at the bank's books. A whole payment goes back once: what the bank has taken already it
/// refuses as well, so without its books nothing is refused.
pub fn void_refused(refusal: Decline, books: CallOutcome<RefundStatus>) -> CallOutcome<RefundStatus> {
    match books {
        CallOutcome::Done(RefundStatus::NotFound) => CallOutcome::Declined(refusal),
        CallOutcome::Done(known) => CallOutcome::Done(known),
        CallOutcome::Declined(Decline { message: reason, .. }) | CallOutcome::NotAttempted(reason) | CallOutcome::Unknown(reason) => {
            CallOutcome::NotAttempted(reason)
        }
    }
}

/// A provider's words without what it may quote of the request: they are kept in events for ever, a payer's token must not be.
fn without_tokens(text: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let shown = |part: &str| match ["tokn_", "pm_"].iter().find(|prefix| part.starts_with(**prefix)) {
        Some(prefix) => format!("{prefix}…{}", part.trim_start_matches(is_word)),
        None => part.to_owned(),
    };
    text.split_inclusive(|c| !is_word(c)).map(shown).collect()
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
    use chrono::DateTime;
    use domain::{money::Money, provider::PaymentSeen};

    use super::*;

    #[test]
    fn a_quoted_token_is_kept_nowhere() {
        let said = "HTTP 404, resource_missing: No such PaymentMethod: 'pm_1ABC'; token tokn_test_5, card_declined at 5 pm";
        let kept = "HTTP 404, resource_missing: No such PaymentMethod: 'pm_…'; token tokn_…, card_declined at 5 pm";
        assert_eq!(decline("card_declined", said).message, kept);
        assert_eq!(Failure::Uncertain(said.to_owned()).outcome::<()>(Kind::Money), CallOutcome::Unknown(kept.to_owned()));
    }

    #[test]
    fn a_capture_is_refused_for_good_only_where_the_books_show_the_hold_untouched() {
        let held = || AttemptStatus::Authorized { amount: Money::thb(100_00), capture_before: None };
        let books = |status, payments| CallOutcome::Done(AttemptView { provider_id: None, status, payments });
        let refused = |books| matches!(capture_refused("failed_capture", books), CallOutcome::Declined(d) if d.code == "capture_refused");
        assert!(refused(books(held(), vec![])));
        let paid_at = DateTime::UNIX_EPOCH;
        let captured = PaymentSeen { transaction_id: "T1".to_owned(), amount: Money::thb(60_00), paid_at, refunded: 0, dispute: None };
        let others = [
            books(held(), vec![captured.clone()]),
            books(AttemptStatus::Paid, vec![captured]),
            books(AttemptStatus::Expired, vec![]),
            CallOutcome::NotAttempted("the look was cut".to_owned()),
        ];
        for books in others {
            assert_eq!(capture_refused("failed_capture", books.clone()), books);
        }
    }

    #[test]
    fn a_refused_void_is_believed_only_where_the_books_do_not_show_it() {
        let refused = |books| void_refused(decline("cut_off_passed", "E"), books);
        assert_eq!(refused(CallOutcome::Done(RefundStatus::NotFound)), CallOutcome::Declined(decline("cut_off_passed", "E")));
        let sent = CallOutcome::Done(RefundStatus::Succeeded { provider_reference: "void:T1".to_owned() });
        assert_eq!(refused(sent.clone()), sent);
        let silent = [CallOutcome::Declined(decline("credentials_refused", "cut")), CallOutcome::NotAttempted("cut".to_owned())];
        for books in silent {
            assert_eq!(refused(books), CallOutcome::NotAttempted("cut".to_owned()));
        }
    }

    #[test]
    fn an_uncertain_read_is_safe_to_repeat_and_an_uncertain_payment_is_unknown() {
        let failure = || Failure::Uncertain("cut".to_owned());
        assert_eq!(failure().outcome::<()>(Kind::Read), CallOutcome::NotAttempted("cut".to_owned()));
        assert_eq!(failure().outcome::<()>(Kind::Money), CallOutcome::Unknown("cut".to_owned()));
    }
}
