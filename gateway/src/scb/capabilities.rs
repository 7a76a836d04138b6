//! What SCB can do.

use domain::provider::{Capabilities, MethodKind};

use super::ScbConfig;

/// The bank has no cancel for tag-30 codes, and its call-backs are unsigned.
pub(super) const fn of(config: &ScbConfig) -> Capabilities {
    with_void(config.void_profile)
}

/// By contract.
pub const fn with_void(void: bool) -> Capabilities {
    Capabilities {
        methods: &[MethodKind::PromptPay],
        manual_capture: false,
        partial_capture: false,
        incremental_authorization: false,
        cancel: false,
        refund: void,
        partial_refund: false,
        signed_webhooks: false,
    }
}
