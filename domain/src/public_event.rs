//! Public events: what merchants are told, by webhook and in the feed.
//!
//! Every event of an order, a bill, a payment intent, a refund or a webhook endpoint has a public type, so that the version of a
//! thing's stream is a sequence without gaps for whoever takes all types. Other aggregates (merchants, stores, persons, books)
//! are not told. Types are stable once published; two facts may share one.

use crate::{bill, event::DomainEvent, order, payment_intent, refund, webhook_endpoint};

macro_rules! public_types {
    ($( $name:ident = $text:literal; )*) => {
        $( const $name: &str = $text; )*
        /// Every public type, in a fixed order.
        pub const TYPES: &[&str] = &[ $( $name ),* ];
    };
}

public_types! {
    ORDER_OPENED = "order.opened";
    ORDER_UPDATED = "order.updated";
    ORDER_BILLED = "order.billed";
    ORDER_REOPENED = "order.reopened";
    ORDER_COMPLETED = "order.completed";
    ORDER_CANCELED = "order.canceled";
    BILL_ISSUED = "bill.issued";
    BILL_UPDATED = "bill.updated";
    BILL_PAID = "bill.paid";
    BILL_OVERPAID = "bill.overpaid";
    BILL_VOIDED = "bill.voided";
    BILL_WRITTEN_OFF = "bill.written_off";
    BILL_REFUNDED = "bill.refunded";
    INTENT_CREATED = "payment_intent.created";
    INTENT_UPDATED = "payment_intent.updated";
    INTENT_PROCESSING = "payment_intent.processing";
    INTENT_REQUIRES_CAPTURE = "payment_intent.requires_capture";
    INTENT_CAPTURE_FAILED = "payment_intent.capture_failed";
    INTENT_INCREASE_FAILED = "payment_intent.increase_failed";
    INTENT_FAILED = "payment_intent.failed";
    INTENT_NEEDS_ATTENTION = "payment_intent.needs_attention";
    INTENT_UNMATCHED_RESOLVED = "payment_intent.unmatched_resolved";
    INTENT_OVER_REFUND_ACKNOWLEDGED = "payment_intent.over_refund_acknowledged";
    INTENT_REQUIRES_ACTION = "payment_intent.requires_action";
    INTENT_PAYMENT_FAILED = "payment_intent.payment_failed";
    INTENT_OUTCOME_UNKNOWN = "payment_intent.outcome_unknown";
    INTENT_SUCCEEDED = "payment_intent.succeeded";
    INTENT_UNMATCHED_PAYMENT = "payment_intent.unmatched_payment";
    INTENT_CANCELED = "payment_intent.canceled";
    INTENT_EXPIRED = "payment_intent.expired";
    DISPUTE_OPENED = "dispute.opened";
    DISPUTE_RESOLVED = "dispute.resolved";
    REFUND_REQUESTED = "refund.requested";
    REFUND_OUTCOME_UNKNOWN = "refund.outcome_unknown";
    REFUND_NEEDS_ATTENTION = "refund.needs_attention";
    REFUND_UPDATED = "refund.updated";
    REFUND_SUCCEEDED = "refund.succeeded";
    REFUND_FAILED = "refund.failed";
    ENDPOINT_CREATED = "webhook_endpoint.created";
    ENDPOINT_UPDATED = "webhook_endpoint.updated";
    ENDPOINT_SECRET_ROTATED = "webhook_endpoint.secret_rotated";
    ENDPOINT_DISABLED = "webhook_endpoint.disabled";
    ENDPOINT_ENABLED = "webhook_endpoint.enabled";
    ENDPOINT_TEST = "webhook_endpoint.test";
    ENDPOINT_RESENT = "webhook_endpoint.resend_requested";
    ENDPOINT_DELETED = "webhook_endpoint.deleted";
}

/// The type of the test delivery, which an endpoint gets whatever its filter says.
pub const TEST: &str = ENDPOINT_TEST;

/// The public type of an event; `None` for those of aggregates that merchants are not told of.
///
/// A new kind of event does not compile until it is decided here what merchants hear of it.
pub const fn public_type(event: &DomainEvent) -> Option<&'static str> {
    match event {
        DomainEvent::Order(event) => Some(of_order(event)),
        DomainEvent::Bill(event) => Some(of_bill(event)),
        DomainEvent::PaymentIntent(event) => Some(of_intent(event)),
        DomainEvent::Refund(event) => Some(of_refund(event)),
        DomainEvent::WebhookEndpoint(event) => Some(of_endpoint(event)),
        DomainEvent::Merchant(_)
        | DomainEvent::Store(_)
        | DomainEvent::LedgerAdjustment(_)
        | DomainEvent::Customer(_)
        | DomainEvent::ProviderAccount(_) => None,
    }
}

const fn of_order(event: &order::Event) -> &'static str {
    use order::Event as E;
    match event {
        E::Opened(_) => ORDER_OPENED,
        E::LineAdded(_)
        | E::LinesAdded(_)
        | E::LineQuantityChanged(_)
        | E::LineVoided(_)
        | E::DiscountApplied(_)
        | E::DiscountRemoved(_)
        | E::AdjustmentAdded(_) => ORDER_UPDATED,
        E::Billed(_) => ORDER_BILLED,
        E::Reopened(_) => ORDER_REOPENED,
        E::Completed(_) => ORDER_COMPLETED,
        E::Cancelled(_) => ORDER_CANCELED,
    }
}

const fn of_bill(event: &bill::Event) -> &'static str {
    use bill::Event as E;
    match event {
        E::Issued(_) => BILL_ISSUED,
        E::PaymentReserved(_) | E::ReservationReleased(_) | E::PaymentAllocated(_) | E::RefundTakenBack(_) => BILL_UPDATED,
        E::OverpaymentParked(_) => BILL_OVERPAID,
        E::Paid(_) => BILL_PAID,
        E::Voided(_) => BILL_VOIDED,
        E::WrittenOff(_) => BILL_WRITTEN_OFF,
        E::RefundRecorded(_) => BILL_REFUNDED,
    }
}

const fn of_intent(event: &payment_intent::Event) -> &'static str {
    use payment_intent::Event as E;
    match event {
        E::Created(_) => INTENT_CREATED,
        E::AttemptStarted(_) => INTENT_PROCESSING,
        E::ActionRequired(_) => INTENT_REQUIRES_ACTION,
        E::AttemptFailed(_) => INTENT_PAYMENT_FAILED,
        E::OutcomeUnknown(_) => INTENT_OUTCOME_UNKNOWN,
        E::Succeeded(_) => INTENT_SUCCEEDED,
        E::Disputed(_) => DISPUTE_OPENED,
        // Reopened: somebody has to look.
        E::UnmatchedPaymentReceived(_) | E::UnmatchedReopened(_) => INTENT_UNMATCHED_PAYMENT,
        E::DisputeResolved(_) => DISPUTE_RESOLVED,
        E::UnmatchedResolved(_) | E::UnmatchedRefunded(_) => INTENT_UNMATCHED_RESOLVED,
        E::Failed(_) => INTENT_FAILED,
        E::Authorized(_) => INTENT_REQUIRES_CAPTURE,
        E::CaptureFailed(_) => INTENT_CAPTURE_FAILED,
        E::IncreaseFailed(_) => INTENT_INCREASE_FAILED,
        E::OverRefundAcknowledged(_) => INTENT_OVER_REFUND_ACKNOWLEDGED,
        E::LeftToPerson(_) | E::RefundTakenBack(_) | E::RefundLeftToPerson(_) => INTENT_NEEDS_ATTENTION,
        // More went back than came.
        E::RefundFoundSent(found) if found.excess > 0 => INTENT_NEEDS_ATTENTION,
        E::AttemptAccepted(_)
        | E::Updated(_)
        | E::CaptureRequested(_)
        | E::IncreaseRequested(_)
        | E::ResolvedByPerson(_)
        | E::ProviderConfirmed(_)
        | E::CancelRequested(_)
        | E::RefundReserved(_)
        | E::RefundSettled(_)
        | E::RefundReleased(_)
        | E::RefundFoundSent(_) => INTENT_UPDATED,
        E::Canceled(_) => INTENT_CANCELED,
        E::Expired(_) => INTENT_EXPIRED,
    }
}

const fn of_refund(event: &refund::Event) -> &'static str {
    use refund::Event as E;
    match event {
        E::Requested(_) => REFUND_REQUESTED,
        E::OutcomeUnknown(_) => REFUND_OUTCOME_UNKNOWN,
        E::LeftToPerson(_) => REFUND_NEEDS_ATTENTION,
        E::ResolvedByPerson(_) => REFUND_UPDATED,
        E::Succeeded(_) | E::FoundSent(_) => REFUND_SUCCEEDED,
        E::Failed(_) | E::TakenBack(_) => REFUND_FAILED,
    }
}

const fn of_endpoint(event: &webhook_endpoint::Event) -> &'static str {
    use webhook_endpoint::Event as E;
    match event {
        E::Created(_) => ENDPOINT_CREATED,
        E::Updated(_) => ENDPOINT_UPDATED,
        E::SecretRotated(_) => ENDPOINT_SECRET_ROTATED,
        E::Disabled(_) => ENDPOINT_DISABLED,
        E::Enabled(_) => ENDPOINT_ENABLED,
        E::TestRequested(_) => ENDPOINT_TEST,
        E::ResendRequested(_) => ENDPOINT_RESENT,
        E::Deleted(_) => ENDPOINT_DELETED,
    }
}

/// Which events somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// All of them.
    Any,
    /// All of a group: `payment_intent.` with its point.
    Group(String),
    /// One type.
    Exact(String),
}

impl Filter {
    /// Reads `*`, `payment_intent.*` or a type; nothing for what no event could ever match.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        if let Some(group) = text.strip_suffix('*') {
            let known = group.ends_with('.') && TYPES.iter().any(|name| name.starts_with(group));
            return known.then(|| Self::Group(group.to_owned()));
        }
        TYPES.contains(&text).then(|| Self::Exact(text.to_owned()))
    }

    /// Whether a type is wanted.
    pub fn matches(&self, public_type: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Group(group) => public_type.starts_with(group),
            Self::Exact(name) => public_type == name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_type_a_group_or_everything() {
        let matches = |filter: &str, name: &str| Filter::parse(filter).is_some_and(|filter| filter.matches(name));
        assert!(matches("*", "bill.paid") && matches("bill.*", "bill.paid") && matches("bill.paid", "bill.paid"));
        assert!(!matches("bill.*", "payment_intent.created") && !matches("bill.paid", "bill.voided"));
        for bad in ["", "bill", "bill*", "b*", ".*", "bill.pay", "BILL.PAID", "customer.*", "**", "bill.*.*"] {
            assert_eq!(Filter::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn types_are_named_once() {
        let names: std::collections::BTreeSet<_> = TYPES.iter().collect();
        assert_eq!(names.len(), TYPES.len());
    }
}
