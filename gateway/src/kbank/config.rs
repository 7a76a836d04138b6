//! How to reach KBank and who we are there.

use std::time::Duration;

use serde::Deserialize;

use super::NAME;
use crate::{
    catalog::SettingField,
    error::{GatewayError, check_base_url, check_timeout},
    secret::Secret,
};

/// One partner and merchant of the bank.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KbankConfig {
    /// Without a trailing slash: `https://openapi-sandbox.kasikornbank.com`, or a simulator's `http://…`.
    pub base_url: String,
    /// Of the app.
    pub consumer_id: Secret,
    /// Of the app.
    pub consumer_secret: Secret,
    /// At most 10 characters.
    pub partner_id: String,
    /// At most 32 characters; travels in every body.
    pub partner_secret: Secret,
    /// At most 14 characters.
    pub merchant_id: String,
    /// At most 8 characters; left out when empty.
    #[serde(default)]
    pub terminal_id: String,
    /// The last segment of the registered call-back address, the only proof of the sender; at least 16 characters.
    pub webhook_path_secret: Secret,
    /// For one HTTP exchange, connecting included; 10 s unless told.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// No call goes out for so long after the bank said that there were too many; 60 s unless told.
    #[serde(default = "default_quota_pause_ms")]
    pub quota_pause_ms: u64,
    /// The sandbox's exercise (`env-id`), with its test mode; production has none.
    #[serde(default)]
    pub sandbox_exercise: Option<String>,
}

fn default_timeout_ms() -> u64 {
    10_000
}

fn default_quota_pause_ms() -> u64 {
    60_000
}

impl KbankConfig {
    pub(super) const fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// # Errors
    /// `Setting`, naming the field and never its value.
    pub fn check(&self) -> Result<(), GatewayError> {
        let wrong = |setting, problem| Err(GatewayError::Setting { provider: NAME, setting, problem });
        check_base_url(NAME, &self.base_url)?;
        check_timeout(NAME, self.timeout_ms)?;
        let texts = [
            ("consumer_id", self.consumer_id.reveal(), 1, 255),
            ("consumer_secret", self.consumer_secret.reveal(), 1, 255),
            ("partner_id", self.partner_id.as_str(), 1, 10),
            ("partner_secret", self.partner_secret.reveal(), 1, 32),
            ("merchant_id", self.merchant_id.as_str(), 1, 14),
            ("terminal_id", self.terminal_id.as_str(), 0, 8),
            // An empty or short secret would let anyone announce payments.
            ("webhook_path_secret", self.webhook_path_secret.reveal(), 16, 255),
            ("sandbox_exercise", self.sandbox_exercise.as_deref().unwrap_or_default(), 0, 32),
        ];
        for (setting, value, least, most) in texts {
            if value.len() < least || value.len() > most || !value.bytes().all(|b| b.is_ascii_graphic()) {
                return wrong(setting, "is not printable text of the right length");
            }
        }
        if self.quota_pause_ms > 3_600_000 {
            return wrong("quota_pause_ms", "is more than an hour");
        }
        Ok(())
    }
}

/// All settings.
pub const FIELDS: &[SettingField] = &[
    SettingField::base_url(),
    SettingField::secret("consumer_id", "the app's consumer id"),
    SettingField::secret("consumer_secret", "the app's consumer secret"),
    SettingField::required("partner_id", "at most 10 characters"),
    SettingField::secret("partner_secret", "at most 32 characters"),
    SettingField::required("merchant_id", "at most 14 characters"),
    SettingField::optional("terminal_id", "at most 8 characters"),
    SettingField::secret("webhook_path_secret", "the last segment of the registered call-back address, at least 16 characters"),
    SettingField::timeout(),
    SettingField::optional("quota_pause_ms", "pause after the bank said that there were too many calls; 60000 unless told"),
    SettingField::optional("sandbox_exercise", "the sandbox's env-id; none in production"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn with(name: &str, value: serde_json::Value) -> KbankConfig {
        let mut settings = json!({"base_url": "http://127.0.0.1:9", "consumer_id": "hush-1", "consumer_secret": "hush-2",
            "partner_id": "PTR0000001", "partner_secret": "hush-3", "merchant_id": "KB000000000001",
            "webhook_path_secret": "hush-hush-hush-hush"});
        settings[name] = value;
        serde_json::from_value(settings).unwrap()
    }

    #[test]
    fn settings_are_checked_and_secrets_do_not_show() {
        let good = with("terminal_id", json!("term1"));
        assert!(good.check().is_ok());
        assert!(!format!("{good:?}").contains("hush"));
        let bad = [
            ("base_url", json!("openapi.kasikornbank.com")),
            ("consumer_secret", json!("")),
            ("partner_id", json!("12345678901")),
            ("merchant_id", json!("has a space")),
            ("terminal_id", json!("123456789")),
            ("webhook_path_secret", json!("short")),
            ("timeout_ms", json!(0)),
            ("quota_pause_ms", json!(3_600_001)),
        ];
        for (name, value) in bad {
            let error = with(name, value).check().unwrap_err().to_string();
            assert!(error.contains(name) && !error.contains("hush"), "{error}");
        }
    }
}
