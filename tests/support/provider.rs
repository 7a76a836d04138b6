//! A provider's simulator with a merchant's account at it, and its levers.

use api::{
    simulated_account::SimulatedAccount,
    simulated_provider::{Simulated, SimulatorArgs, free_address, run as run_simulator, settings},
};
use domain::ids::ProviderAccountId;
use reqwest::Method;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{ApiShop, TestPlatform, answered, eventually};

/// What a process must be told to have the simulated bank at this address as the provider of whoever has no account. Its calls are
/// given up soon: tests wait for what follows.
pub fn bank_environment(base_url: &str) -> [(&'static str, String); 7] {
    let scb = settings(base_url);
    [
        ("SMARTPOS_PROVIDERS__SCB__BASE_URL", scb.base_url.clone()),
        ("SMARTPOS_PROVIDERS__SCB__API_KEY", scb.api_key.reveal().to_owned()),
        ("SMARTPOS_PROVIDERS__SCB__API_SECRET", scb.api_secret.reveal().to_owned()),
        ("SMARTPOS_PROVIDERS__SCB__BILLER_ID", scb.biller_id.clone()),
        ("SMARTPOS_PROVIDERS__SCB__WEBHOOK_PATH_SECRET", scb.webhook_path_secret.reveal().to_owned()),
        ("SMARTPOS_PROVIDERS__SCB__TIMEOUT_MS", "1500".to_owned()),
        ("SMARTPOS_PROVIDERS__SCB__VOID_PROFILE", "true".to_owned()),
    ]
}

/// A merchant's account at a simulator of its own; the simulator ends with this value.
pub struct ProviderAt {
    /// What the simulator and the platform know of each other.
    pub known: SimulatedAccount,
    /// `pac_…`.
    pub account: String,
    /// `http://127.0.0.1:…` of the simulator.
    pub base: String,
    http: reqwest::Client,
    _stop: DropGuard,
}

impl TestPlatform {
    /// Opens an account of this merchant at a fresh simulator, over HTTP.
    pub async fn provider(&self, shop: &ApiShop, provider: Simulated) -> ProviderAt {
        self.provider_with(shop, provider, |_| {}).await
    }

    /// The same with a body that `change` had its way with.
    pub async fn provider_with(&self, shop: &ApiShop, provider: Simulated, change: impl FnOnce(&mut Value)) -> ProviderAt {
        let listen = free_address().expect("a free port");
        let base = format!("http://{listen}");
        let known = SimulatedAccount::of(provider, &base);
        let mut body = known.opening();
        change(&mut body);
        let account = self.post(&shop.admin, "/v1/provider-accounts", body).await.id();
        let named: ProviderAccountId = account.parse().expect("an account's id");
        let stop = CancellationToken::new();
        let args = SimulatorArgs { provider, account: Some(named), seed: 11, ..SimulatorArgs::new(listen, &self.base) };
        tokio::spawn(run_simulator(args, stop.clone()));
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let at = ProviderAt { known, account, base, http, _stop: stop.drop_guard() };
        eventually("the simulator listens", std::time::Duration::from_secs(60), || async {
            at.http.get(format!("{}/sim/health", at.base)).send().await.ok().map(drop)
        })
        .await;
        at
    }
}

impl ProviderAt {
    /// Moves a lever, which must work.
    pub async fn lever(&self, name: &str, body: Value) -> Value {
        answered(self.http.post(format!("{}/sim/{name}", self.base)).json(&body)).await.ok().body
    }

    /// The provider's own books.
    pub async fn ledger(&self) -> Value {
        answered(self.http.get(format!("{}/sim/ledger", self.base))).await.ok().body
    }

    /// How often each attempt stands in the provider's books, by the provider's word for its state.
    pub async fn states(&self) -> Vec<String> {
        let ledger = self.ledger().await;
        let attempts = ledger["attempts"].as_array().expect("attempts").clone();
        attempts.iter().map(|attempt| attempt["state"].as_str().expect("a word").to_owned()).collect()
    }

    /// Waits until the provider's ledger and ours say the same: of each reference what came and what went back.
    pub async fn agrees_with(&self, platform: &TestPlatform, shop: &ApiShop) {
        let row = |reference: &Value, came: &Value, back: &Value| format!("{reference} {came} {back}");
        let agreed = eventually("both ledgers say the same", std::time::Duration::from_secs(60), || async {
            let theirs = self.ledger().await;
            let ours = platform.send(&shop.admin, Method::GET, "/v1/payment-intents?limit=200", None, None).await.ok().body;
            let theirs = theirs["payments"].as_array()?.iter().map(|p| row(&p["reference"], &p["amount"], &p["refunded"]));
            let ours = ours["data"].as_array()?.iter().filter(|intent| intent["captured"]["amount"] != json!(0) && self.took(intent));
            let ours = ours.map(|intent| row(&intent["reference"], &intent["captured"]["amount"], &intent["refunded"]["amount"]));
            let (mut theirs, mut ours): (Vec<_>, Vec<_>) = (theirs.collect(), ours.collect());
            theirs.sort();
            ours.sort();
            (theirs == ours).then_some(theirs)
        });
        agreed.await;
    }

    fn took(&self, intent: &Value) -> bool {
        intent["provider"] == self.known.provider.name()
    }
}
