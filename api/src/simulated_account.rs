//! What a simulated provider and the platform know of each other. Secrets of the simulation only; real ones come from whoever opens
//! the account.

use gateway::{StripeConfig, kbank, omise, scb, stripe};
use serde_json::{Value, json};

use crate::simulated_provider::Simulated;

/// The simulated shop chain's biller id.
pub(crate) const BILLER_ID: &str = "099400016550100";
pub(crate) const API_KEY: &str = "l7simulated0000000000000000000000";
pub(crate) const API_SECRET: &str = "simulated-secret";
pub(crate) const PATH_SECRET: &str = "simulated-callback-path";
const CONSUMER_ID: &str = "simulated-consumer-id";
const PARTNER_ID: &str = "PTRSIM0001";
const PARTNER_SECRET: &str = "simulated-partner-secret";
const MERCHANT_ID: &str = "KBSIM000000001";
const OMISE_KEY: &str = "skey_test_simulated";
const OMISE_SIGNING: &str = "c2ltdWxhdGVkLW9taXNlLXNpZ25pbmcta2V5";
const OMISE_NEXT_SIGNING: &str = "c2ltdWxhdGVkLW9taXNlLW5leHQta2V5LTAwMQ==";
const STRIPE_KEY: &str = "sk_test_simulated";
const STRIPE_SIGNING: &str = "whsec_simulated_signing_secret";
const STRIPE_NEXT_SIGNING: &str = "whsec_simulated_next_secret";

/// A merchant's account at a simulated provider.
#[derive(Debug, Clone)]
pub struct SimulatedAccount {
    /// Which provider.
    pub provider: Simulated,
    /// Methods that it takes, as the API names them.
    pub methods: &'static [&'static str],
    /// Settings that may be seen.
    pub settings: Value,
    /// Secrets by name.
    pub secrets: Value,
    /// The signing secret that follows the present one when it is rolled; nothing where call-backs bear no signature.
    pub next_webhook_secret: Option<&'static str>,
}

impl SimulatedAccount {
    /// The account at the simulator that listens there.
    pub fn of(provider: Simulated, base_url: &str) -> Self {
        let (methods, settings, secrets, next_webhook_secret): (&'static [&'static str], _, _, _) = match provider {
            Simulated::Scb => (
                &["promptpay"],
                json!({"base_url": base_url, "biller_id": BILLER_ID, "void_profile": true}),
                json!({"api_key": API_KEY, "api_secret": API_SECRET, "webhook_path_secret": PATH_SECRET}),
                None,
            ),
            Simulated::Kbank => (
                &["promptpay"],
                json!({"base_url": base_url, "partner_id": PARTNER_ID, "merchant_id": MERCHANT_ID}),
                json!({"consumer_id": CONSUMER_ID, "consumer_secret": API_SECRET, "partner_secret": PARTNER_SECRET,
                       "webhook_path_secret": PATH_SECRET}),
                None,
            ),
            Simulated::Omise => (
                &["card", "promptpay"],
                // The simulator's list never lags behind, so nothing has to be waited for.
                json!({"base_url": base_url, "settling_ms": 1_000}),
                json!({"secret_key": OMISE_KEY, "webhook_secret": OMISE_SIGNING}),
                Some(OMISE_NEXT_SIGNING),
            ),
            Simulated::Stripe => (
                &["card", "promptpay"],
                json!({"base_url": base_url, "incremental_authorization": true}),
                json!({"secret_key": STRIPE_KEY, "webhook_secret": STRIPE_SIGNING}),
                Some(STRIPE_NEXT_SIGNING),
            ),
        };
        Self { provider, methods, settings, secrets, next_webhook_secret }
    }

    /// The body of `POST /v1/provider-accounts` that opens it.
    pub fn opening(&self) -> Value {
        let methods: Vec<Value> = self.methods.iter().map(|method| json!({"method": method})).collect();
        json!({
            "provider": self.provider.name(), "name": format!("Simulated {}", self.provider.name()), "live": false,
            "methods": methods, "amounts": [{"currency": "THB", "min": 1, "max": 15_000_000}],
            "settings": self.settings, "secrets": self.secrets,
        })
    }

    pub(crate) fn scb() -> scb::simulator::Settings {
        let (api_key, api_secret) = (API_KEY.to_owned(), API_SECRET.to_owned());
        scb::simulator::Settings { api_key, api_secret, biller_id: BILLER_ID.to_owned(), allow_void: true }
    }

    pub(crate) fn kbank() -> kbank::simulator::Settings {
        kbank::simulator::Settings {
            consumer_id: CONSUMER_ID.to_owned(),
            consumer_secret: API_SECRET.to_owned(),
            partner_id: PARTNER_ID.to_owned(),
            partner_secret: PARTNER_SECRET.to_owned(),
            merchant_id: MERCHANT_ID.to_owned(),
        }
    }

    pub(crate) fn omise() -> omise::simulator::Settings {
        omise::simulator::Settings {
            secret_key: OMISE_KEY.to_owned(),
            webhook_secret: OMISE_SIGNING.to_owned(),
            other_webhook_secret: OMISE_NEXT_SIGNING.to_owned(),
            promptpay_refundable: false,
        }
    }

    pub(crate) fn stripe() -> stripe::simulator::Settings {
        stripe::simulator::Settings {
            secret_key: STRIPE_KEY.to_owned(),
            webhook_secret: STRIPE_SIGNING.to_owned(),
            other_webhook_secret: STRIPE_NEXT_SIGNING.to_owned(),
            api_version: StripeConfig::default_api_version(),
        }
    }
}
