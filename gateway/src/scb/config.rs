//! How to reach SCB and who we are there.

use std::time::Duration;

use serde::Deserialize;

use super::NAME;
use crate::{
    catalog::SettingField,
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
    /// So many calls a second go out at most, on each of the bank's paths, from this process: 1 to 1000. Not paced unless told: the
    /// limit of production is not published, and contracts differ.
    #[serde(default)]
    pub calls_per_second: Option<u32>,
    /// Pause of the account after the bank said that there were too many calls; a second unless told, an hour at most.
    #[serde(default = "ScbConfig::default_quota_pause_ms")]
    pub quota_pause_ms: u64,
    /// The contract has the void call: whole payments can be sent back until the end of the Bangkok day.
    #[serde(default)]
    pub void_profile: bool,
}

impl ScbConfig {
    /// What most installations wait for one exchange.
    pub const fn default_timeout_ms() -> u64 {
        10_000
    }

    /// The bank counts calls by the second.
    pub const fn default_quota_pause_ms() -> u64 {
        1_000
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
        if self.calls_per_second.is_some_and(|calls| !(1..=1_000).contains(&calls)) {
            return wrong("calls_per_second", "is not between 1 and 1000");
        }
        if self.quota_pause_ms > 3_600_000 {
            return wrong("quota_pause_ms", "is more than an hour");
        }
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

/// All settings.
pub const FIELDS: &[SettingField] = &[
    SettingField::base_url(),
    SettingField::secret("api_key", "the app's key"),
    SettingField::secret("api_secret", "the app's secret"),
    SettingField::required("biller_id", "15 digits"),
    SettingField::optional("reference3_prefix", "the bank-assigned start of reference 3, which routes the call-back"),
    SettingField::secret("webhook_path_secret", "the last segment of the registered call-back address, at least 16 characters"),
    SettingField::timeout(),
    SettingField::optional("calls_per_second", "calls a second on each of the bank's paths, 1 to 1000; not paced unless told"),
    SettingField::optional("quota_pause_ms", "pause after the bank said that there were too many calls; 1000 unless told"),
    SettingField::optional("void_profile", "true when the contract has the void call: whole payments, on the Bangkok day of payment"),
];
