//! How to reach Omise and who we are there.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::TimeDelta;
use serde::Deserialize;

use super::NAME;
use crate::{
    catalog::SettingField,
    error::{GatewayError, check_base_url, check_timeout},
    secret::Secret,
};

/// One account.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OmiseConfig {
    /// Without a trailing slash: `https://api.omise.co`, or a simulator's `http://…`.
    pub base_url: String,
    /// `skey_…`.
    pub secret_key: Secret,
    /// Base64, as the dashboard shows it; at least 16 bytes. While it is rolled Omise signs with both.
    pub webhook_secret: Secret,
    /// The least that PromptPay takes, satang. Sources differ, so it is a setting: 20 baht unless told.
    #[serde(default = "OmiseConfig::default_promptpay_min")]
    pub promptpay_min: i64,
    /// The most, satang: 150,000 baht unless told.
    #[serde(default = "OmiseConfig::default_promptpay_max")]
    pub promptpay_max: i64,
    /// How long a charge may be absent from the list after it was made; 110 seconds unless told, less than the two minutes after which an
    /// empty look is believed.
    #[serde(default = "OmiseConfig::default_settling_ms")]
    pub settling_ms: u64,
    /// For one HTTP exchange, connecting included; 10 s unless told.
    #[serde(default = "OmiseConfig::default_timeout_ms")]
    pub timeout_ms: u64,
}

impl OmiseConfig {
    /// 20 baht.
    pub const fn default_promptpay_min() -> i64 {
        20_00
    }

    /// 150,000 baht.
    pub const fn default_promptpay_max() -> i64 {
        150_000_00
    }

    /// 110 seconds.
    pub const fn default_settling_ms() -> u64 {
        110_000
    }

    /// What most installations wait for one exchange.
    pub const fn default_timeout_ms() -> u64 {
        10_000
    }

    pub(super) const fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    pub(super) fn settling(&self) -> TimeDelta {
        TimeDelta::milliseconds(i64::try_from(self.settling_ms).unwrap_or(i64::MAX / 2))
    }

    /// The bytes that sign.
    pub(super) fn webhook_key(&self) -> Option<Vec<u8>> {
        STANDARD.decode(self.webhook_secret.reveal()).ok()
    }

    /// # Errors
    /// `Setting`, naming the field and never its value.
    pub fn check(&self) -> Result<(), GatewayError> {
        let wrong = |setting, problem| Err(GatewayError::Setting { provider: NAME, setting, problem });
        check_base_url(NAME, &self.base_url)?;
        check_timeout(NAME, self.timeout_ms)?;
        let key = self.secret_key.reveal();
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_graphic()) {
            return wrong("secret_key", "is not printable text");
        }
        // An empty or short secret would let anyone announce payments.
        if self.webhook_key().is_none_or(|key| key.len() < 16) {
            return wrong("webhook_secret", "is not at least 16 bytes in base64");
        }
        if self.promptpay_min < 1 || self.promptpay_max < self.promptpay_min {
            return wrong("promptpay_min", "is not between 1 and promptpay_max");
        }
        if !(1_000..=86_400_000).contains(&self.settling_ms) {
            return wrong("settling_ms", "is not between a second and a day");
        }
        Ok(())
    }
}

/// For whoever fills in the settings.
pub const FIELDS: &[SettingField] = &[
    SettingField::base_url(),
    SettingField::secret("secret_key", "skey_… of the account"),
    SettingField::secret("webhook_secret", "the webhook secret as the dashboard shows it, base64"),
    SettingField::optional("promptpay_min", "the least that PromptPay takes, satang; 2000 unless told"),
    SettingField::optional("promptpay_max", "the most that PromptPay takes, satang; 15000000 unless told"),
    SettingField::optional("settling_ms", "how long a charge may be absent from the list after it was made; 110000 unless told"),
    SettingField::timeout(),
];
