//! Every provider that this crate can talk to: what it can do, which settings it needs, and how a connector is made.

use std::{fmt, sync::Arc};

use domain::provider::{Capabilities, PaymentProvider};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{Clock, error::GatewayError, kbank, omise, scb, stripe};

/// One setting of a provider's account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SettingField {
    /// Its name in the settings.
    pub name: &'static str,
    /// Kept sealed and never shown again.
    pub secret: bool,
    /// Without it there is no connector.
    pub required: bool,
    /// For the operator of the platform alone: an address chosen by a merchant would let them reach our own network.
    pub operator_only: bool,
    /// What it means, in one line.
    pub meaning: &'static str,
}

impl SettingField {
    /// A setting that can be left out and may be seen.
    pub(crate) const fn optional(name: &'static str, meaning: &'static str) -> Self {
        Self { name, secret: false, required: false, operator_only: false, meaning }
    }

    /// A setting that may be seen.
    pub(crate) const fn required(name: &'static str, meaning: &'static str) -> Self {
        Self { required: true, ..Self::optional(name, meaning) }
    }

    /// A setting that nobody sees again.
    pub(crate) const fn secret(name: &'static str, meaning: &'static str) -> Self {
        Self { secret: true, ..Self::required(name, meaning) }
    }

    /// The provider's base address.
    pub(crate) const fn base_url() -> Self {
        Self { operator_only: true, ..Self::required("base_url", "the provider's address, without a trailing slash") }
    }

    /// The time for one exchange.
    pub(crate) const fn timeout() -> Self {
        Self { operator_only: true, ..Self::optional("timeout_ms", "time for one exchange, 1 to 120000 ms; 10000 unless told") }
    }
}

/// Makes a connector from settings.
type Connect = fn(&Value, Clock) -> Result<Arc<dyn PaymentProvider>, GatewayError>;

/// One provider.
pub struct ProviderKind {
    /// As in events and the webhook path: `scb`.
    pub name: &'static str,
    /// For people.
    pub display_name: &'static str,
    /// With every setting that widens them switched on; a connector tells its own.
    pub capabilities: Capabilities,
    /// All its settings.
    pub fields: &'static [SettingField],
    connect: Connect,
}

impl fmt::Debug for ProviderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderKind").field("name", &self.name).field("fields", &self.fields).finish_non_exhaustive()
    }
}

impl ProviderKind {
    /// A connector with these settings (a JSON object with the names of `fields`); nothing is sent yet.
    ///
    /// # Errors
    /// `Settings`, `Setting`, `HttpClient`; no value of a setting is in any of them.
    pub fn connect(&self, settings: &Value, clock: Clock) -> Result<Arc<dyn PaymentProvider>, GatewayError> {
        (self.connect)(settings, clock)
    }
}

/// All providers, in the order of their names.
pub fn all() -> &'static [ProviderKind] {
    const ALL: &[ProviderKind] = &[
        ProviderKind {
            name: kbank::NAME,
            display_name: "Kasikornbank (K-API)",
            capabilities: kbank::CAPABILITIES,
            fields: kbank::FIELDS,
            connect: |settings, clock| Ok(Arc::new(kbank::KbankProvider::new(read(kbank::NAME, kbank::FIELDS, settings)?, clock)?)),
        },
        ProviderKind {
            name: omise::NAME,
            display_name: "Omise",
            capabilities: omise::CAPABILITIES,
            fields: omise::FIELDS,
            connect: |settings, clock| Ok(Arc::new(omise::OmiseProvider::new(read(omise::NAME, omise::FIELDS, settings)?, clock)?)),
        },
        ProviderKind {
            name: scb::NAME,
            display_name: "Siam Commercial Bank",
            capabilities: scb::capabilities_with_void(true),
            fields: scb::FIELDS,
            connect: |settings, clock| Ok(Arc::new(scb::ScbProvider::new(read(scb::NAME, scb::FIELDS, settings)?, clock)?)),
        },
        ProviderKind {
            name: stripe::NAME,
            display_name: "Stripe",
            capabilities: stripe::capabilities_with_increment(true),
            fields: stripe::FIELDS,
            connect: |settings, clock| Ok(Arc::new(stripe::StripeProvider::new(read(stripe::NAME, stripe::FIELDS, settings)?, clock)?)),
        },
    ];
    ALL
}

/// One provider by its name.
pub fn find(name: &str) -> Option<&'static ProviderKind> {
    all().iter().find(|kind| kind.name == name)
}

/// A connector to the provider of that name.
///
/// # Errors
/// `UnknownProvider`, and those of [`ProviderKind::connect`].
pub fn connect(name: &str, settings: &Value, clock: Clock) -> Result<Arc<dyn PaymentProvider>, GatewayError> {
    find(name).ok_or(GatewayError::UnknownProvider)?.connect(settings, clock)
}

/// The settings as a provider's own type. A parser's own words could quote a secret, so only names are told.
fn read<T: DeserializeOwned>(provider: &'static str, fields: &[SettingField], settings: &Value) -> Result<T, GatewayError> {
    let wrong = |problem: String| GatewayError::Settings { provider, problem };
    let given = settings.as_object().ok_or_else(|| wrong("the settings are not an object".to_owned()))?;
    if let Some(stranger) = given.keys().find(|name| fields.iter().all(|field| field.name != name.as_str())) {
        let shown: String = stranger.chars().take(40).collect();
        return Err(wrong(format!("there is no setting '{shown}'")));
    }
    if let Some(missing) = fields.iter().find(|field| field.required && given.get(field.name).is_none_or(Value::is_null)) {
        return Err(wrong(format!("setting '{}' is missing", missing.name)));
    }
    serde_path_to_error::deserialize(settings).map_err(|error| wrong(format!("setting '{}' has the wrong type", error.path())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn clock() -> Clock {
        Arc::new(chrono::DateTime::default)
    }

    fn scb_settings() -> Value {
        json!({"base_url": "http://127.0.0.1:9", "api_key": "key", "api_secret": "hush-hush-hush", "biller_id": "123456789012345",
            "webhook_path_secret": "hush-hush-hush-hush"})
    }

    #[test]
    fn a_connector_is_made_from_a_name_and_settings() {
        assert_eq!(connect("scb", &scb_settings(), clock()).map(|provider| provider.name()).unwrap(), "scb");
        assert!(matches!(connect("nobody", &scb_settings(), clock()).err(), Some(GatewayError::UnknownProvider)));
    }

    #[test]
    fn wrong_settings_are_named_and_never_quoted() {
        let changes = [
            ("api_secret", Value::Null, "setting 'api_secret' is missing"),
            ("timeout_ms", json!("hush-hush-hush"), "setting 'timeout_ms' has the wrong type"),
            ("webhook_secret", json!("x"), "there is no setting 'webhook_secret'"),
            ("biller_id", json!("hush"), "setting 'biller_id' is not 15 digits"),
        ];
        for (name, value, expected) in changes {
            let mut settings = scb_settings();
            settings[name] = value;
            let error = connect("scb", &settings, clock()).err().unwrap().to_string();
            assert!(error.contains(expected) && !error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn every_provider_names_all_its_settings_once_and_in_order_of_names() {
        assert!(all().is_sorted_by_key(|kind| kind.name));
        for kind in all() {
            let mut names: Vec<&str> = kind.fields.iter().map(|field| field.name).collect();
            names.sort_unstable();
            let count = names.len();
            names.dedup();
            assert_eq!(names.len(), count, "{}", kind.name);
            assert!(kind.connect(&json!({}), clock()).is_err());
        }
    }
}
