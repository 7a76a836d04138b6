//! Provider accounts: use cases, and the accounts of a merchant as routing and connectors need them.
//!
//! Which accounts there are and how far each has come is asked of the log every time; what an account is like is kept by version,
//! so that no process uses one that another has changed. Secrets are opened only for whoever makes a connector of them.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use chrono::{DateTime, Utc};
use domain::{
    decider::Aggregate,
    envelope::{StreamKey, StreamType},
    event::AggregateEvent,
    ids::{MerchantId, ProviderAccountId, StoreId},
    provider_account::{self, Command, Event, Opened, ProviderAccount, Rejection, Sealed, SecretMarks, SecretsReplaced, State, Terms},
};
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, Row as _};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    error::CommandError,
    event_log::StoreError,
    event_store::{load_stream, ulid_of, uuid_of},
    grouped::Grouped,
    handle::UnitOfWork,
    personal::{Keyring, Subject},
    tenants::trading_store,
};

/// Accounts kept by version per process.
const KEPT: usize = 2_000;
/// Call-backs whose accounts are looked for in one round trip.
const ASKED_TOGETHER: usize = 500;
/// Longest overlap of former and new secrets, minutes: a week.
const MAX_OVERLAP_MINUTES: i64 = 10_080;

/// Secrets by the name of the setting, in the clear. Shows nothing of itself; wiped when dropped.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secrets(BTreeMap<String, Zeroizing<String>>);

impl Secrets {
    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// These with `newer` in place of those of the same name.
    #[must_use]
    pub fn with(&self, newer: &Self) -> Self {
        let mut merged = self.clone();
        merged.0.extend(newer.0.clone());
        merged
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What is sealed: the secrets in force, and the ones before while call-backs may still prove themselves by them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct SecretsInForce {
    /// In force.
    pub current: Secrets,
    /// The ones before; good for call-backs until the state's `former_good_until`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub former: Option<Secrets>,
}

/// An account as it stands.
#[derive(Debug)]
pub struct Account {
    /// Its merchant.
    pub tenant: MerchantId,
    /// Itself.
    pub id: ProviderAccountId,
    /// Version of its stream.
    pub version: i64,
    /// What is known of it.
    pub state: State,
    sealed: Sealed,
}

/// The provider accounts of all merchants. Cheap to clone.
#[derive(Clone)]
pub struct ProviderAccounts(Arc<Inner>);

struct Inner {
    pool: PgPool,
    keyring: Keyring,
    kept: Cache<(MerchantId, ProviderAccountId), Arc<Account>>,
    asked: Grouped<Asked>,
}

/// An account that a call-back names, and the place of the answer.
#[derive(Clone)]
struct Asked {
    id: ProviderAccountId,
    /// Its merchant and its version; nothing where nobody has it.
    found: Arc<OnceLock<Option<(Uuid, i64)>>>,
}

impl ProviderAccounts {
    /// Over the log and the keys of one database. Must be called within a runtime.
    pub fn new(pool: PgPool, keyring: Keyring) -> Self {
        let asks = pool.clone();
        let (asked, asking) = Grouped::new(ASKED_TOGETHER, Duration::ZERO, move |asked: Vec<Asked>| look_for(asks.clone(), asked));
        // For as long as anybody may ask.
        tokio::spawn(asking);
        Self(Arc::new(Inner { pool, keyring, kept: Cache::new(KEPT), asked }))
    }

    /// All accounts of a merchant, as they stand.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub async fn of(&self, tenant: MerchantId) -> Result<Vec<Arc<Account>>, CommandError> {
        let rows = sqlx::query("select * from log.provider_accounts($1)").bind(uuid_of(tenant)).fetch_all(&self.0.pool).await?;
        let mut accounts = Vec::with_capacity(rows.len());
        for row in rows {
            let id = ProviderAccountId(ulid_of(row.try_get("stream_id")?));
            accounts.push(self.at(tenant, id, row.try_get("version")?).await?);
        }
        Ok(accounts)
    }

    /// One account of a merchant, as it stands.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub async fn get(&self, tenant: MerchantId, id: ProviderAccountId) -> Result<Option<Arc<Account>>, CommandError> {
        let version: Option<i64> = sqlx::query_scalar("select version from log.provider_accounts($1) where stream_id = $2")
            .bind(uuid_of(tenant))
            .bind(uuid_of(id))
            .fetch_optional(&self.0.pool)
            .await?;
        match version {
            Some(version) => self.at(tenant, id, version).await.map(Some),
            None => Ok(None),
        }
    }

    /// One account, whoever owns it: for call-backs, which name no merchant and whose sender is not known yet. All that ask at the same
    /// moment share one round trip: however many come for accounts that nobody has, one connection is busy with them, and none that has
    /// one is kept out. Nothing is remembered of those that nobody has, so one that was opened a moment ago is found.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub async fn find(&self, id: ProviderAccountId) -> Result<Option<Arc<Account>>, CommandError> {
        let asked = Asked { id, found: Arc::default() };
        self.0.asked.ask(asked.clone()).await?;
        match asked.found.get().copied().flatten() {
            Some((owner, version)) => self.at(MerchantId(ulid_of(owner)), id, version).await.map(Some),
            None => Ok(None),
        }
    }

    /// The secrets of an account, opened.
    ///
    /// # Errors
    /// `Unavailable`; `Fault` when they do not open.
    pub async fn secrets(&self, account: &Account) -> Result<SecretsInForce, CommandError> {
        let subject = Subject::account(account.tenant, account.id);
        let opened = self.0.keyring.open_for(&subject, std::slice::from_ref(&account.sealed.0)).await?;
        let unreadable = || CommandError::Fault("the secrets of a provider account cannot be read".to_owned());
        let text = opened.and_then(|mut texts| texts.pop()).ok_or_else(unreadable)?;
        // What serde says could repeat the text.
        serde_json::from_slice(&text).map_err(|_| unreadable())
    }

    async fn at(&self, tenant: MerchantId, id: ProviderAccountId, version: i64) -> Result<Arc<Account>, CommandError> {
        if let Some(kept) = self.0.kept.get(&(tenant, id))
            && kept.version >= version
        {
            return Ok(kept);
        }
        let account = Arc::new(self.load(tenant, id).await?);
        self.0.kept.insert((tenant, id), account.clone());
        Ok(account)
    }

    async fn load(&self, tenant: MerchantId, id: ProviderAccountId) -> Result<Account, CommandError> {
        let key = StreamKey { tenant, stream_type: StreamType::ProviderAccount, stream_id: id.0 };
        let mut account = Account { tenant, id, version: 0, state: State::default(), sealed: Sealed::default() };
        for event in load_stream(&self.0.pool, key, 0).await? {
            let decoded = Event::decode(&event.event_type, event.schema_version, &event.payload)
                .map_err(|error| CommandError::Corrupt { stream: format!("provider_account-{}", id.0), version: event.version, error })?;
            account.state = ProviderAccount::evolve(account.state, &decoded);
            account.version = event.version;
            if let Some(sealed) = event.pii {
                account.sealed = Sealed(sealed);
            }
        }
        Ok(account)
    }

    async fn seal(
        &self,
        tenant: MerchantId,
        id: ProviderAccountId,
        secrets: &SecretsInForce,
    ) -> Result<(Sealed, SecretMarks), CommandError> {
        let text = Zeroizing::new(serde_json::to_vec(secrets).map_err(|error| CommandError::Fault(error.to_string()))?);
        let sealed = self.0.keyring.seal_for(&Subject::account(tenant, id), &text).await?;
        let sealed = sealed.ok_or_else(|| CommandError::Fault("the key of a provider account was destroyed".to_owned()))?;
        let mark =
            |name: &str, value: &str| self.0.keyring.mark(&[&tenant.0.to_bytes(), &id.0.to_bytes(), name.as_bytes(), value.as_bytes()]);
        let marks = secrets.current.iter().map(|(name, value)| (name.to_owned(), mark(name, value))).collect();
        Ok((sealed, marks))
    }
}

/// Answers all that ask; each account is looked for in the indexes of the log's heads.
async fn look_for(pool: PgPool, asked: Vec<Asked>) -> Result<(), StoreError> {
    let sql = "select o.owner, (select p.version from log.provider_accounts(o.owner) p where p.stream_id = a.id)
               from unnest($1::uuid[]) with ordinality a (id, place),
                    lateral (select log.provider_account_owner(a.id) offset 0) o (owner)
               order by a.place";
    let ids: Vec<Uuid> = asked.iter().map(|asked| uuid_of(asked.id)).collect();
    let found: Vec<(Option<Uuid>, Option<i64>)> = sqlx::query_as(sql).bind(ids).fetch_all(&pool).await?;
    for (asked, (owner, version)) in asked.iter().zip(found) {
        // Who is asked a second time says the same.
        let _ = asked.found.set(owner.zip(version));
    }
    Ok(())
}

/// An account to be opened.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// The account to be.
    pub id: ProviderAccountId,
    /// The provider's stable name.
    pub provider: String,
    /// The only store that it serves.
    pub store_id: Option<StoreId>,
    /// Real money.
    pub live: bool,
    /// What may be changed later.
    pub terms: Terms,
    /// In the clear.
    pub secrets: Secrets,
}

/// Opens an account. That its settings make one is for the caller to have tried.
///
/// # Errors
/// Any rejection of a provider account; `StoreNotFound`, `StoreNotActive`, `MerchantNotActive`.
pub async fn open(unit: &mut UnitOfWork, accounts: &ProviderAccounts, new: NewAccount) -> Result<Arc<State>, CommandError> {
    if let Some(store_id) = new.store_id {
        trading_store(unit, store_id).await?;
    }
    let secrets = SecretsInForce { current: new.secrets, former: None };
    let (sealed, marks) = accounts.seal(unit.tenant(), new.id, &secrets).await?;
    let NewAccount { id, provider, store_id, live, terms, .. } = new;
    let opened = Opened { provider_account_id: id, provider, store_id, live, terms, secrets: marks, sealed };
    unit.decide::<ProviderAccount>(id, Command::Open(Box::new(opened))).await
}

/// Replaces the terms.
///
/// # Errors
/// Any rejection of a provider account; `StaleVersion`.
pub async fn change_terms(unit: &mut UnitOfWork, id: ProviderAccountId, terms: Terms) -> Result<Arc<State>, CommandError> {
    concerns(unit, id).await?;
    unit.decide::<ProviderAccount>(id, Command::ChangeTerms(Box::new(terms))).await
}

/// Replaces the secrets that are named; the others stay. With an overlap the former ones go on proving call-backs for so many
/// minutes.
///
/// # Errors
/// Any rejection of a provider account; `StaleVersion`.
pub async fn replace_secrets(
    unit: &mut UnitOfWork,
    accounts: &ProviderAccounts,
    id: ProviderAccountId,
    newer: &Secrets,
    overlap_minutes: Option<i64>,
) -> Result<Arc<State>, CommandError> {
    if overlap_minutes.is_some_and(|minutes| !(1..=MAX_OVERLAP_MINUTES).contains(&minutes)) {
        return Err(CommandError::Rejected(Rejection::OverlapInvalid.into()));
    }
    concerns(unit, id).await?;
    let tenant = unit.tenant();
    // Read after the unit has seen the stream: should another process replace them in between, the append is refused and this runs again.
    let missing = || CommandError::Rejected(Rejection::ProviderAccountNotFound.into());
    let current = accounts.secrets(&*accounts.get(tenant, id).await?.ok_or_else(missing)?).await?.current;
    let now = unit.now();
    let former_good_until: Option<DateTime<Utc>> = overlap_minutes.map(|minutes| now + chrono::Duration::minutes(minutes));
    let secrets = SecretsInForce { current: current.with(newer), former: former_good_until.map(|_| current) };
    let (sealed, marks) = accounts.seal(tenant, id, &secrets).await?;
    let replaced = SecretsReplaced { secrets: marks, former_good_until, sealed };
    unit.decide::<ProviderAccount>(id, Command::ReplaceSecrets { replaced: Box::new(replaced), now }).await
}

/// Takes an account out of service.
///
/// # Errors
/// Any rejection of a provider account; `StaleVersion`.
pub async fn disable(unit: &mut UnitOfWork, id: ProviderAccountId, reason: String) -> Result<Arc<State>, CommandError> {
    concerns(unit, id).await?;
    unit.decide::<ProviderAccount>(id, Command::Disable { reason }).await
}

/// Puts an account into service again.
///
/// # Errors
/// Any rejection of a provider account; `StaleVersion`.
pub async fn enable(unit: &mut UnitOfWork, id: ProviderAccountId) -> Result<Arc<State>, CommandError> {
    concerns(unit, id).await?;
    unit.decide::<ProviderAccount>(id, Command::Enable).await
}

/// Checks `If-Match` and notes the shop of an account that serves only one.
async fn concerns(unit: &mut UnitOfWork, id: ProviderAccountId) -> Result<(), CommandError> {
    unit.check_if_match::<ProviderAccount>(id).await?;
    let state = unit.state::<ProviderAccount>(id).await?;
    if let Some(store_id) = state.details.as_ref().and_then(|details: &provider_account::Opened| details.store_id) {
        unit.concerns_store(store_id);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_show_their_names_only() {
        let secrets: Secrets = serde_json::from_str(r#"{"api_key":"hush-hush"}"#).unwrap();
        let shown = format!("{:?}", SecretsInForce { current: secrets.clone(), former: Some(secrets) });
        assert!(shown.contains("api_key") && !shown.contains("hush"), "{shown}");
    }

    #[test]
    fn a_newer_secret_takes_the_place_of_its_namesake() {
        let of = |text: &str| serde_json::from_str::<Secrets>(text).unwrap();
        let merged = of(r#"{"a":"1","b":"2"}"#).with(&of(r#"{"b":"3"}"#));
        assert_eq!(merged.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "3")]);
    }
}
