//! What Omise can do.

use domain::provider::{Capabilities, MethodKind};

/// Cards and PromptPay; holds are for cards. Whether one charge can be refunded, the charge itself says.
pub const CAPABILITIES: Capabilities = Capabilities {
    methods: &[MethodKind::Card, MethodKind::PromptPay],
    manual_capture: true,
    partial_capture: true,
    incremental_authorization: false,
    cancel: true,
    refund: true,
    partial_refund: true,
    signed_webhooks: true,
};
