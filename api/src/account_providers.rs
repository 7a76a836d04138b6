//! Connectors to providers: one per provider account, made of its settings and opened secrets, and the platform's own ones.
//!
//! A connector is kept for as long as its account stands at the version that it was made of. One that cannot be made right now
//! (the database is away, the secrets do not open) is no reason to declare anything declined: calls then end as *not attempted*.

use std::{collections::BTreeMap, sync::Arc};

use axum::http::Uri;
use chrono::{DateTime, Utc};
use commands::{
    error::CommandError,
    provider_accounts::{Account, ProviderAccounts, Secrets},
};
use domain::{
    ids::{MerchantId, ProviderAccountId},
    provider::{
        AttemptView, BoxFuture, CallOutcome, Capabilities, ExchangeLog, InquiryRequest, PaymentProvider, RawWebhook, RefundRequest,
        RefundStatus, StartRequest, WebhookHint, WebhookRefusal,
    },
    provider_account::{Rejection, Terms},
    routing::{Candidate, Health},
};
use gateway::{
    Clock, ProviderRegistry, catalog,
    guard::{Bulkhead, CALLS_OF_PROVIDER, Circuit, GuardSettings, Guarded},
};
use quick_cache::sync::Cache;
use serde_json::Value;

use crate::config;

/// Connectors kept per process.
const KEPT: usize = 1_000;
/// Priority of the platform's own accounts; they serve merchants without any, so it only orders them among themselves.
const OWN_PRIORITY: u16 = 100;

/// All connectors of a process. Cheap to clone.
#[derive(Clone)]
pub struct AccountProviders(Arc<Inner>);

struct Inner {
    /// Nothing in processes that neither call providers nor serve the edge: they have no master key.
    accounts: Option<ProviderAccounts>,
    own: BTreeMap<&'static str, Arc<Guarded>>,
    /// What all accounts of a provider have in common.
    bulkheads: BTreeMap<&'static str, Arc<Bulkhead>>,
    kept: Cache<ProviderAccountId, Arc<Connected>>,
    clock: Clock,
    settings: config::AccountSettings,
}

/// A connector with what it was made of.
pub struct Connected {
    /// The account.
    pub account: Arc<Account>,
    guarded: Arc<Guarded>,
    /// Proves call-backs by the secrets before, until then.
    former: Option<(DateTime<Utc>, Arc<dyn PaymentProvider>)>,
}

impl Connected {
    /// Reads a call-back by the secrets in force or, while they are good, the ones before.
    ///
    /// # Errors
    /// What the secrets in force say of it.
    pub fn read_webhook(&self, raw: &RawWebhook<'_>) -> Result<WebhookHint, WebhookRefusal> {
        let refusal = match self.guarded.read_webhook(raw) {
            Err(refusal @ WebhookRefusal::NotAuthentic) => refusal,
            other @ (Ok(_) | Err(WebhookRefusal::Stale | WebhookRefusal::Malformed(..))) => return other,
        };
        match &self.former {
            Some((until, former)) if raw.received_at < *until => former.read_webhook(raw),
            Some(_) | None => Err(refusal),
        }
    }

    /// The connector itself.
    pub fn provider(&self) -> Arc<dyn PaymentProvider> {
        self.guarded.clone()
    }
}

impl AccountProviders {
    /// Over the platform's own providers and the accounts of merchants.
    pub fn new(accounts: Option<ProviderAccounts>, own: &ProviderRegistry, clock: Clock, settings: config::AccountSettings) -> Self {
        let bulkheads = catalog::all().iter().map(|kind| (kind.name, Arc::new(Bulkhead::new(CALLS_OF_PROVIDER)))).collect();
        let own = own.names().filter_map(|name| Some((name, guard(own.get(name)?, &bulkheads, &clock)))).collect();
        Self(Arc::new(Inner { accounts, own, bulkheads, kept: Cache::new(KEPT), clock, settings }))
    }

    /// The accounts of merchants.
    ///
    /// # Errors
    /// `Fault` in a process without the master key.
    pub fn accounts(&self) -> Result<&ProviderAccounts, CommandError> {
        self.0.accounts.as_ref().ok_or_else(|| CommandError::Fault("this process has no master key".to_owned()))
    }

    /// The platform's own provider of that name.
    pub fn own(&self, name: &str) -> Option<Arc<dyn PaymentProvider>> {
        self.0.own.get(name).map(|guarded| guarded.clone() as Arc<dyn PaymentProvider>)
    }

    /// The connector that a payment of this merchant names: by account, or by name for the platform's own. `None` for what the
    /// merchant does not have.
    pub async fn find(&self, tenant: MerchantId, name: &str) -> Option<Arc<dyn PaymentProvider>> {
        let Ok(id) = name.parse::<ProviderAccountId>() else { return self.own(name) };
        match self.account_of(tenant, id).await {
            Ok(found) => found.map(|connected| connected.provider()),
            Err(error) => {
                tracing::error!(%tenant, account = name, %error, "a provider account cannot be used right now");
                Some(Arc::new(NotNow))
            }
        }
    }

    /// The connector of a merchant's account; `None` when the merchant has no such account.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`; `Fault` when no connector can be made of it.
    pub async fn account_of(&self, tenant: MerchantId, id: ProviderAccountId) -> Result<Option<Arc<Connected>>, CommandError> {
        match self.accounts()?.get(tenant, id).await? {
            Some(account) => self.connected(account).await.map(Some),
            None => Ok(None),
        }
    }

    /// The connector of an account, whoever owns it: for call-backs.
    ///
    /// # Errors
    /// As [`Self::account_of`].
    pub async fn account(&self, id: ProviderAccountId) -> Result<Option<Arc<Connected>>, CommandError> {
        match self.accounts()?.find(id).await? {
            Some(account) => self.connected(account).await.map(Some),
            None => Ok(None),
        }
    }

    async fn connected(&self, account: Arc<Account>) -> Result<Arc<Connected>, CommandError> {
        if let Some(kept) = self.0.kept.get(&account.id)
            && kept.account.version >= account.version
        {
            return Ok(kept);
        }
        let details = account.state.known().map_err(|rejection| CommandError::Rejected(rejection.into()))?;
        let secrets = self.accounts()?.secrets(&account).await?;
        let connect = |secrets: &Secrets| {
            let made = self.connect(&details.provider, &details.terms, secrets);
            made.map_err(|rejection| CommandError::Fault(rejection.to_string()))
        };
        let guarded = guard(connect(&secrets.current)?, &self.0.bulkheads, &self.0.clock);
        let former = match (account.state.former_good_until, &secrets.former) {
            (Some(until), Some(former)) => Some((until, connect(former)?)),
            (Some(_) | None, _) => None,
        };
        let connected = Arc::new(Connected { account: account.clone(), guarded, former });
        self.0.kept.insert(account.id, connected.clone());
        Ok(connected)
    }

    /// A connector of these settings; nothing is sent. What a merchant may not set is filled in from the configuration.
    ///
    /// # Errors
    /// `ProviderUnknown`, `SettingsRefused`, `MethodsInvalid`; no value of a setting is in any of them.
    pub fn connect(&self, provider: &str, terms: &Terms, secrets: &Secrets) -> Result<Arc<dyn PaymentProvider>, Rejection> {
        let kind = catalog::find(provider).ok_or_else(|| Rejection::ProviderUnknown { provider: provider.chars().take(40).collect() })?;
        let refused = |problem: String| Rejection::SettingsRefused { problem };
        let field = |name: &str| kind.fields.iter().find(|field| field.name == name);
        let mut settings = serde_json::Map::new();
        for (name, value) in &terms.settings {
            // A secret among the settings would be stored in the clear.
            if field(name).is_some_and(|field| field.secret) {
                return Err(refused(format!("'{name}' belongs among the secrets")));
            }
            let address = name == "base_url";
            if field(name).is_some_and(|field| field.operator_only) && !(address && self.may_reach(value)) {
                return Err(refused(format!("'{name}' is for the operator of the platform")));
            }
            settings.insert(name.clone(), value.clone());
        }
        for (name, value) in secrets.iter() {
            if !field(name).is_some_and(|field| field.secret) {
                return Err(refused(format!("there is no secret '{}'", name.chars().take(40).collect::<String>())));
            }
            settings.insert(name.to_owned(), Value::String(value.to_owned()));
        }
        if let (false, Some(base_url)) = (settings.contains_key("base_url"), self.0.settings.base_urls.get(provider)) {
            settings.insert("base_url".to_owned(), Value::String(base_url.clone()));
        }
        let made = kind.connect(&Value::Object(settings), self.0.clock.clone()).map_err(|error| refused(error.to_string()))?;
        let takes = made.capabilities().methods;
        if terms.methods.iter().all(|method| takes.contains(method)) { Ok(made) } else { Err(Rejection::MethodsInvalid) }
    }

    /// Whether a merchant may have the platform call this address: only where the operator said so, or anybody could make it
    /// reach what stands behind the platform's own walls.
    fn may_reach(&self, base_url: &Value) -> bool {
        let uri: Option<Uri> = base_url.as_str().and_then(|text| text.parse().ok());
        let host = uri.as_ref().and_then(Uri::host);
        host.is_some_and(|host| self.0.settings.hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(host)))
    }

    /// The accounts that a payment of this merchant could go to, as routing wants them. Merchants without an account of their own
    /// use the platform's.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub async fn candidates(&self, tenant: MerchantId) -> Result<Vec<Candidate>, CommandError> {
        let accounts = self.accounts()?.of(tenant).await?;
        if accounts.is_empty() {
            return Ok(self.0.own.iter().map(|(name, guarded)| own_candidate(name, guarded)).collect());
        }
        let health = |id: &ProviderAccountId| self.0.kept.peek(id).map_or(Health::Good, |connected| health_of(&connected.guarded));
        Ok(accounts.iter().filter_map(|account| Candidate::of(&account.state, health(&account.id))).collect())
    }
}

/// Around a connector, with the bulkhead of its provider.
fn guard(provider: Arc<dyn PaymentProvider>, bulkheads: &BTreeMap<&'static str, Arc<Bulkhead>>, clock: &Clock) -> Arc<Guarded> {
    let shared = bulkheads.get(provider.name()).cloned().unwrap_or_else(|| Arc::new(Bulkhead::new(CALLS_OF_PROVIDER)));
    Arc::new(Guarded::new(provider, GuardSettings::default(), shared, clock.clone()))
}

fn own_candidate(name: &str, guarded: &Guarded) -> Candidate {
    Candidate {
        account: name.to_owned(),
        provider: name.to_owned(),
        store: None,
        enabled: true,
        live: true,
        priority: OWN_PRIORITY,
        methods: guarded.capabilities().methods.to_vec(),
        amounts: None,
        health: health_of(guarded),
    }
}

fn health_of(guarded: &Guarded) -> Health {
    match guarded.health().circuit {
        Circuit::Closed => Health::Good,
        Circuit::HalfOpen => Health::Recovering,
        Circuit::Open => Health::Away,
    }
}

/// Stands for a connector that cannot be made at the moment.
struct NotNow;

fn not_now<'a, T: Send + 'a>() -> BoxFuture<'a, CallOutcome<T>> {
    Box::pin(std::future::ready(CallOutcome::NotAttempted("the provider account cannot be used right now".to_owned())))
}

impl PaymentProvider for NotNow {
    fn name(&self) -> &'static str {
        "not_now"
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            methods: &[],
            manual_capture: true,
            partial_capture: true,
            incremental_authorization: true,
            // Not known, so whatever was begun may be payable.
            cancel: false,
            refund: true,
            partial_refund: true,
            signed_webhooks: false,
        }
    }
    fn start<'a>(&'a self, _: &'a StartRequest, _: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>> {
        not_now()
    }
    fn inquire<'a>(&'a self, _: &'a InquiryRequest, _: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>> {
        not_now()
    }
    fn capture<'a>(&'a self, _: &'a domain::provider::CaptureRequest, _: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>> {
        not_now()
    }
    fn increment<'a>(&'a self, _: &'a domain::provider::IncrementRequest, _: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>> {
        not_now()
    }
    fn cancel<'a>(&'a self, _: &'a domain::provider::CancelRequest, _: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<AttemptView>> {
        not_now()
    }
    fn refund<'a>(&'a self, _: &'a RefundRequest, _: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<RefundStatus>> {
        not_now()
    }
    fn inquire_refund<'a>(&'a self, _: &'a RefundRequest, _: &'a ExchangeLog) -> BoxFuture<'a, CallOutcome<RefundStatus>> {
        not_now()
    }
    fn read_webhook(&self, _: &RawWebhook<'_>) -> Result<WebhookHint, WebhookRefusal> {
        Err(WebhookRefusal::NotAuthentic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_has_a_place_for_every_call_that_all_providers_together_let_under_way() {
        // So that those that hang, however many, leave the others theirs.
        let calls = catalog::all().len() * CALLS_OF_PROVIDER * 2;
        assert!(calls <= commands::tasks::Breadth::default().side_by_side, "{calls}");
    }
}
