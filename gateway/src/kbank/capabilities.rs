//! What KBank's QR product can do.

use domain::provider::{Capabilities, MethodKind};

/// A void is a refund of the whole payment on its Bangkok day, before settlement; call-backs are unsigned.
pub const CAPABILITIES: Capabilities = Capabilities {
    methods: &[MethodKind::PromptPay],
    manual_capture: false,
    partial_capture: false,
    incremental_authorization: false,
    cancel: true,
    refund: true,
    partial_refund: false,
    signed_webhooks: false,
};
