//! Provider accounts as callers see them: never a secret.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use domain::{
    money::Currency,
    provider::MethodKind,
    provider_account::{self, AmountRange, Status},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::Resource;

/// A merchant's account at a payment provider.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProviderAccount)]
pub struct ProviderAccountResource {
    /// `pac_…`.
    #[schema(examples("pac_01HZY3T5V6W7X8Y9Z0A1B2C3D4"))]
    pub id: String,
    /// The provider's stable name.
    #[schema(examples("scb"))]
    pub provider: String,
    /// The only store that it serves; all of the merchant's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_id: Option<String>,
    /// Real money; otherwise the provider's test mode.
    pub live: bool,
    /// `enabled` or `disabled`.
    #[schema(value_type = String, examples("enabled"))]
    pub status: Status,
    /// Name for people.
    pub name: String,
    /// The lower is asked first.
    pub priority: u16,
    /// Which methods it takes.
    pub methods: Vec<AcceptedMethod>,
    /// Which currencies and amounts it takes.
    pub amounts: Vec<AcceptedAmounts>,
    /// The provider's own settings, without secrets.
    #[schema(value_type = Object)]
    pub settings: BTreeMap<String, Value>,
    /// Which secrets are set: four characters by which people tell one from another.
    #[schema(value_type = Object, examples(json!({"api_secret": "…9f3a"})))]
    pub secrets: BTreeMap<String, String>,
    /// Until when call-backs by the former secrets are taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub former_secrets_good_until: Option<DateTime<Utc>>,
    /// Where the provider sends its call-backs; a provider that signs nothing adds the secret of the path.
    #[schema(examples("/webhooks/scb/accounts/pac_01HZY3T5V6W7X8Y9Z0A1B2C3D4"))]
    pub webhook_path: String,
    /// Version, as in `ETag`.
    pub version: i64,
}

/// A method that an account takes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceptedMethod {
    /// `promptpay` or `card`.
    #[schema(value_type = String, examples("promptpay"))]
    pub method: MethodKind,
}

/// How much of one currency an account takes with one payment.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceptedAmounts {
    /// ISO 4217.
    #[schema(value_type = String, examples("THB"))]
    pub currency: Currency,
    /// Smallest, minor units; 1 unless told.
    #[serde(default = "one")]
    #[schema(minimum = 1)]
    pub min: i64,
    /// Largest, minor units; no limit of its own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<i64>,
}

const fn one() -> i64 {
    1
}

impl From<AcceptedAmounts> for AmountRange {
    fn from(AcceptedAmounts { currency, min, max }: AcceptedAmounts) -> Self {
        Self { currency, min, max }
    }
}

impl From<AmountRange> for AcceptedAmounts {
    fn from(AmountRange { currency, min, max }: AmountRange) -> Self {
        Self { currency, min, max }
    }
}

impl Resource<provider_account::State> for ProviderAccountResource {
    fn of(state: &provider_account::State, version: i64) -> Option<Self> {
        let details = state.details.as_ref()?;
        let terms = &details.terms;
        let id = details.provider_account_id.to_string();
        Some(Self {
            webhook_path: format!("/webhooks/{}/accounts/{id}", details.provider),
            id,
            provider: details.provider.clone(),
            store_id: details.store_id.map(|store| store.to_string()),
            live: details.live,
            status: state.status,
            name: terms.name.clone(),
            priority: terms.priority,
            methods: terms.methods.iter().map(|method| AcceptedMethod { method: *method }).collect(),
            amounts: terms.amounts.iter().copied().map(AcceptedAmounts::from).collect(),
            settings: terms.settings.clone(),
            secrets: details.secrets.iter().map(|(name, mark)| (name.clone(), format!("…{mark}"))).collect(),
            former_secrets_good_until: state.former_good_until,
            version,
        })
    }
}
