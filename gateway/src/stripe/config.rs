//! How to reach Stripe and who we are there.

use std::time::Duration;

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
pub struct StripeConfig {
    /// Without a trailing slash: `https://api.stripe.com`, or a simulator's `http://…`.
    pub base_url: String,
    /// `sk_…` or `rk_…`.
    pub secret_key: Secret,
    /// `whsec_…` of the registered endpoint, used as it is. While it is rolled Stripe signs with both.
    pub webhook_secret: Secret,
    /// The version of the interface that answers are written in.
    #[serde(default = "StripeConfig::default_api_version")]
    pub api_version: String,
    /// The payer's address that PromptPay asks for, where refunds are announced; not sent when absent.
    #[serde(default)]
    pub promptpay_email: Option<String>,
    /// The account may raise held amounts.
    #[serde(default)]
    pub incremental_authorization: bool,
    /// For one HTTP exchange, connecting included; 10 s unless told.
    #[serde(default = "StripeConfig::default_timeout_ms")]
    pub timeout_ms: u64,
}

impl StripeConfig {
    /// What most installations wait for one exchange.
    pub const fn default_timeout_ms() -> u64 {
        10_000
    }

    /// The version that this connector was written against.
    pub fn default_api_version() -> String {
        "2026-10-28.endive".to_owned()
    }

    pub(super) const fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// # Errors
    /// `Setting`, naming the field and never its value.
    pub fn check(&self) -> Result<(), GatewayError> {
        let wrong = |setting, problem| Err(GatewayError::Setting { provider: NAME, setting, problem });
        let is_word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        check_base_url(NAME, &self.base_url)?;
        check_timeout(NAME, self.timeout_ms)?;
        if !is_word(self.secret_key.reveal()) {
            return wrong("secret_key", "is not printable text");
        }
        // An empty or short secret would let anyone announce payments.
        if self.webhook_secret.reveal().len() < 16 {
            return wrong("webhook_secret", "is shorter than 16 characters");
        }
        if !is_word(&self.api_version) {
            return wrong("api_version", "is not printable text");
        }
        Ok(())
    }
}

/// For whoever fills in the settings.
pub const FIELDS: &[SettingField] = &[
    SettingField::base_url(),
    SettingField::secret("secret_key", "sk_… or rk_… of the account"),
    SettingField::secret("webhook_secret", "whsec_… of the registered endpoint, at least 16 characters"),
    SettingField::optional("api_version", "the version of the interface; the one this connector was written against unless told"),
    SettingField::optional("promptpay_email", "where Stripe announces PromptPay refunds; not sent unless told"),
    SettingField::optional("incremental_authorization", "the account may raise held amounts"),
    SettingField::timeout(),
];
