//! How to reach SCB and who we are there.

use std::time::Duration;

use serde::Deserialize;

use super::NAME;
use crate::{
    error::{GatewayError, check_base_url, check_timeout},
    promptpay::is_reference,
    secret::Secret,
};

/// One app of the bank.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScbConfig {
    /// Without a trailing slash: `https://api-sandbox.partners.scb/partners/sandbox`, or a simulator's `http://…`.
    pub base_url: String,
    /// The app's key.
    pub api_key: Secret,
    /// The app's secret.
    pub api_secret: Secret,
    /// 15 digits.
    pub biller_id: String,
    /// The bank-assigned start of reference 3, which routes the call-back; empty when there is none.
    #[serde(default)]
    pub reference3_prefix: String,
    /// The last segment of the registered call-back address, the only proof of the sender; at least 16 characters.
    pub webhook_path_secret: Secret,
    /// For one HTTP exchange, connecting included; 10 s unless told.
    #[serde(default = "ScbConfig::default_timeout_ms")]
    pub timeout_ms: u64,
    /// The contract has the void call: whole payments can be sent back until the end of the Bangkok day.
    #[serde(default)]
    pub void_profile: bool,
}

impl ScbConfig {
    /// What most installations wait for one exchange.
    pub const fn default_timeout_ms() -> u64 {
        10_000
    }

    pub(super) const fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// # Errors
    /// `Setting`, naming the field and never its value.
    pub fn check(&self) -> Result<(), GatewayError> {
        let wrong = |setting, problem| Err(GatewayError::Setting { provider: NAME, setting, problem });
        check_base_url(NAME, &self.base_url)?;
        check_timeout(NAME, self.timeout_ms)?;
        if self.api_key.reveal().is_empty() {
            return wrong("api_key", "is empty");
        }
        if self.api_secret.reveal().is_empty() {
            return wrong("api_secret", "is empty");
        }
        if self.biller_id.len() != 15 || !self.biller_id.bytes().all(|b| b.is_ascii_digit()) {
            return wrong("biller_id", "is not 15 digits");
        }
        if !self.reference3_prefix.is_empty() && !is_reference(&self.reference3_prefix) {
            return wrong("reference3_prefix", "is not at most 20 characters of [A-Z0-9]");
        }
        // An empty or short secret would let anyone announce payments.
        if self.webhook_path_secret.reveal().len() < 16 {
            return wrong("webhook_path_secret", "is shorter than 16 characters");
        }
        Ok(())
    }
}
