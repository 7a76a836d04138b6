//! What Stripe can do.

use domain::provider::{Capabilities, MethodKind};

/// Cards and PromptPay; a hold is for cards only. Raising a hold is a feature that the account must have.
pub const fn with_increment(incremental_authorization: bool) -> Capabilities {
    Capabilities {
        methods: &[MethodKind::Card, MethodKind::PromptPay],
        manual_capture: true,
        partial_capture: true,
        incremental_authorization,
        cancel: true,
        refund: true,
        partial_refund: true,
        signed_webhooks: true,
    }
}
