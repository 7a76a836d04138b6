//! Personal data at rest: sealed under the person's own key, which is wrapped by the master key and destroyed with the person.
//! Secrets of provider accounts and webhook endpoints are kept the same way, each of them being a subject with a key of its own.
//!
//! What belongs to a subject (a person, an account, an endpoint) goes under the subject's key and is gone with it. Credentials of
//! services have no stream and no subject: they go under a key of their own kind, so that the door opens one without a second question
//! to the database, and are deleted when they are revoked.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use domain::{
    clock::RandomSource,
    customer::{Profile, Rejection, Sealed},
    ids::{CustomerId, MerchantId, ProviderAccountId, Ulid, WebhookEndpointId},
};
use serde_json::Value;
use sqlx::{PgPool, Row as _};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    cipher::{authentic, decrypt, encrypt},
    error::CommandError,
    event_store::{ulid_of, uuid_of},
};

/// What secrets of services are sealed for.
const SECRETS: &[u8] = b"secrets of services";

/// The key that wraps the keys of persons. Kept outside the database; whoever loses it loses every profile.
pub struct MasterKey(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

impl MasterKey {
    /// A key of these bytes.
    pub const fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }
}

/// Whose key something is sealed under, and what it is there.
#[derive(Debug, Clone, Copy)]
pub struct Subject {
    tenant: MerchantId,
    id: Ulid,
    /// Keeps what is sealed for one purpose out of another.
    purpose: &'static [u8],
}

impl Subject {
    /// A person's profile.
    pub const fn person(tenant: MerchantId, id: CustomerId) -> Self {
        Self { tenant, id: id.0, purpose: b"smartpos personal 1" }
    }

    /// The secrets of an account at a provider.
    pub const fn account(tenant: MerchantId, id: ProviderAccountId) -> Self {
        Self { tenant, id: id.0, purpose: b"smartpos personal 1" }
    }

    /// The signing secrets of a webhook endpoint.
    pub const fn endpoint(tenant: MerchantId, id: WebhookEndpointId) -> Self {
        Self { tenant, id: id.0, purpose: b"smartpos webhook secret 1" }
    }

    /// What a ciphertext is bound to.
    fn bound(&self) -> Vec<u8> {
        [self.purpose, &self.tenant.0.to_bytes(), &self.id.to_bytes()].concat()
    }
}

/// Seals and opens what must not be read by whoever reads the database. Cheap to clone.
#[derive(Clone)]
pub struct Keyring(Arc<Inner>);

struct Inner {
    pool: PgPool,
    master: MasterKey,
    random: Arc<dyn RandomSource>,
}

impl Keyring {
    /// Over the keys in a database.
    pub fn new(pool: PgPool, master: MasterKey, random: Arc<dyn RandomSource>) -> Self {
        Self(Arc::new(Inner { pool, master, random }))
    }

    /// Whether the keys in this database are wrapped by this master key. The first one that asks becomes the database's.
    ///
    /// # Errors
    /// The database's, as it is: whoever starts tells one that is away from one that refuses.
    pub async fn is_of_this_database(&self) -> sqlx::Result<bool> {
        let tag = authentic(&self.0.master.0, &[b"smartpos master key check"]);
        sqlx::query_scalar("select privacy.check_master($1)").bind(&tag[..]).fetch_one(&self.0.pool).await
    }

    /// Checks a profile and seals it under the person's key, which is made when there is none.
    ///
    /// # Errors
    /// A rejection of the profile; `CustomerErased` when the key was destroyed; `Unavailable`; `Fault` when the key was wrapped
    /// under another master key.
    pub async fn seal(&self, tenant: MerchantId, customer: CustomerId, profile: &Profile) -> Result<Sealed, CommandError> {
        profile.check().map_err(|rejection| CommandError::Rejected(rejection.into()))?;
        let text = Zeroizing::new(serde_json::to_vec(profile).map_err(|error| CommandError::Fault(error.to_string()))?);
        let sealed = self.seal_for(&Subject::person(tenant, customer), &text).await?;
        sealed.ok_or_else(|| CommandError::Rejected(Rejection::CustomerErased.into()))
    }

    /// Seals a text under the key of its subject, which is made when there is none; nothing when that key was destroyed.
    ///
    /// # Errors
    /// `Unavailable`; `Fault` when the key was wrapped under another master key.
    pub async fn seal_for(&self, subject: &Subject, text: &[u8]) -> Result<Option<Sealed>, CommandError> {
        let bound = subject.bound();
        let offered = self.encrypt(&self.0.master.0, &bound, self.fresh_secret().as_ref())?;
        let wrapped: Option<Vec<u8>> = sqlx::query_scalar("select privacy.take_key($1, $2, $3)")
            .bind(uuid_of(subject.tenant))
            .bind(uuid_of(subject.id))
            .bind(offered)
            .fetch_one(&self.0.pool)
            .await?;
        let Some(wrapped) = wrapped else { return Ok(None) };
        Ok(Some(Sealed(self.encrypt(&*self.unwrap(&bound, &wrapped)?, &bound, text)?)))
    }

    /// Opens what [`Self::seal_for`] sealed for the same subject, in the same order; nothing once its key was destroyed.
    ///
    /// # Errors
    /// `Unavailable`; `Fault` for one that does not open.
    pub async fn open_for(&self, subject: &Subject, sealed: &[Vec<u8>]) -> Result<Option<Vec<Zeroizing<Vec<u8>>>>, CommandError> {
        let wrapped: Option<Vec<u8>> = sqlx::query_scalar("select wrapped from privacy.find_keys($1, $2)")
            .bind(uuid_of(subject.tenant))
            .bind(vec![uuid_of(subject.id)])
            .fetch_optional(&self.0.pool)
            .await?;
        let Some(wrapped) = wrapped else { return Ok(None) };
        let bound = subject.bound();
        let key = self.unwrap(&bound, &wrapped)?;
        sealed.iter().map(|sealed| decrypt(&key, &bound, sealed).ok_or_else(does_not_open)).collect::<Result<_, _>>().map(Some)
    }

    /// Four hex digits by which people tell one secret from another, and nobody can try one without the master key.
    pub(crate) fn mark(&self, parts: &[&[u8]]) -> String {
        let key = Zeroizing::new(authentic(&self.0.master.0, &[b"smartpos secret mark"]));
        let [first, second, ..] = authentic(&key, parts);
        format!("{first:02x}{second:02x}")
    }

    /// Opens the profiles of one tenant's customers. Those whose key was destroyed are not among the answers, nor is one that does not
    /// open, which is logged: the others can be read all the same.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn open(&self, tenant: MerchantId, sealed: &[(CustomerId, Vec<u8>)]) -> Result<HashMap<CustomerId, Profile>, CommandError> {
        if sealed.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = sqlx::query("select subject, wrapped from privacy.find_keys($1, $2)")
            .bind(uuid_of(tenant))
            .bind(sealed.iter().map(|(customer, _)| uuid_of(*customer)).collect::<Vec<Uuid>>())
            .fetch_all(&self.0.pool)
            .await?;
        let mut keys = HashMap::new();
        for row in rows {
            keys.insert(CustomerId(ulid_of(row.try_get(0)?)), row.try_get::<Vec<u8>, _>(1)?);
        }
        let mut profiles = HashMap::new();
        for (customer, ciphertext) in sealed {
            let Some(wrapped) = keys.get(customer) else { continue };
            match self.open_one(&Subject::person(tenant, *customer).bound(), wrapped, ciphertext) {
                Ok(profile) => {
                    profiles.insert(*customer, profile);
                }
                Err(error) => tracing::error!(%tenant, %customer, %error, "a profile cannot be read"),
            }
        }
        Ok(profiles)
    }

    /// Fresh bytes that nobody can guess.
    pub fn fresh_secret(&self) -> Zeroizing<[u8; 32]> {
        let mut fresh = Zeroizing::new([0_u8; 32]);
        self.0.random.fill(fresh.as_mut());
        fresh
    }

    fn open_one(&self, bound: &[u8], wrapped: &[u8], ciphertext: &[u8]) -> Result<Profile, CommandError> {
        let text = decrypt(&*self.unwrap(bound, wrapped)?, bound, ciphertext).ok_or_else(does_not_open)?;
        // What serde says could repeat the text.
        serde_json::from_slice(&text).map_err(|_| does_not_open())
    }

    /// A request body whose `profile` and `secrets` are replaced by short tags that only the master key makes; `request` is what
    /// tells the request apart from all others: tenant, scope, operation, idempotency key.
    ///
    /// Fingerprints of bodies are kept for ever, longer than a person. A tag tells a repeat from another profile, and no more: at
    /// 16 bits very many profiles have the same one, and none says anything about another request's.
    pub fn masked(&self, body: &Value, request: &[&[u8]]) -> Value {
        let mut masked = body.clone();
        for field in ["profile", "secrets"] {
            let Some(hidden) = masked.get_mut(field) else { continue };
            let key = Zeroizing::new(authentic(&self.0.master.0, &[b"smartpos fingerprint"]));
            let text = Zeroizing::new(in_order(hidden).to_string());
            let [first, second, ..] = authentic(&key, &[request, &[text.as_bytes()]].concat());
            *hidden = Value::String(format!("{first:02x}{second:02x}"));
        }
        masked
    }

    /// Seals a secret without a subject under a key of its own kind; `bound` is what it belongs to.
    ///
    /// # Errors
    /// `Fault` when nothing can be sealed.
    pub fn seal_secret(&self, bound: &[u8], secret: &[u8]) -> Result<Vec<u8>, CommandError> {
        self.encrypt(&self.key_for(SECRETS), bound, secret)
    }

    /// Opens what [`Self::seal_secret`] sealed for the same `bound`.
    ///
    /// # Errors
    /// `Fault` when it was sealed under another master key or for something else.
    pub fn open_secret(&self, bound: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, CommandError> {
        let opened = decrypt(&self.key_for(SECRETS), bound, sealed);
        opened.ok_or_else(|| CommandError::Fault("a secret does not open: the master key is another one".to_owned()))
    }

    /// A tag over `parts` that only the master key makes. `purpose` keeps the tags of one use out of another.
    pub fn tag(&self, purpose: &'static str, parts: &[&[u8]]) -> [u8; 32] {
        authentic(&self.key_for(purpose.as_bytes()), parts)
    }

    fn key_for(&self, purpose: &[u8]) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(authentic(&self.0.master.0, &[b"smartpos key for", purpose]))
    }

    fn encrypt(&self, key: &[u8; 32], bound: &[u8], text: &[u8]) -> Result<Vec<u8>, CommandError> {
        encrypt(&*self.0.random, key, bound, text)
    }

    fn unwrap(&self, bound: &[u8], wrapped: &[u8]) -> Result<Zeroizing<[u8; 32]>, CommandError> {
        let key = decrypt(&self.0.master.0, bound, wrapped).and_then(|key| <[u8; 32]>::try_from(key.as_slice()).ok());
        key.map(Zeroizing::new).ok_or_else(|| {
            CommandError::Fault("the key of a person or of an endpoint does not unwrap: the master key is another one".to_owned())
        })
    }
}

/// The same with the fields of an object in the order of their names, whatever order they came in.
fn in_order(value: &Value) -> Value {
    let Value::Object(fields) = value else { return value.clone() };
    let sorted: BTreeMap<&String, &Value> = fields.iter().collect();
    sorted.into_iter().map(|(name, value)| (name.clone(), in_order(value))).collect()
}

fn does_not_open() -> CommandError {
    CommandError::Fault("what was sealed does not open under its key".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use serde_json::json;

    use super::*;

    /// Bytes that count up: different at every call, the same in every run.
    struct Counting(AtomicU8);
    impl RandomSource for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0.fetch_add(1, Ordering::Relaxed));
        }
    }
    fn keyring(master: u8) -> Keyring {
        let pool = PgPool::connect_lazy("postgres://nobody@127.0.0.1:1/none").unwrap();
        Keyring::new(pool, MasterKey::new(Zeroizing::new([master; 32])), Arc::new(Counting(AtomicU8::new(1))))
    }

    #[tokio::test]
    async fn a_repeat_has_the_same_tag_and_the_same_person_elsewhere_has_another() {
        let body = |name: &str| json!({"profile": {"name": name, "phone": "+66812345678"}, "note": 1});
        let (ring, request) = (keyring(1), [&b"tenant"[..], b"scope", b"operation", b"key"]);
        let masked = ring.masked(&body("Somchai"), &request);
        let turned: Value = serde_json::from_str(r#"{"note":1,"profile":{"phone":"+66812345678","name":"Somchai"}}"#).unwrap();
        assert_eq!(ring.masked(&turned, &request), masked);
        assert_ne!(ring.masked(&body("Malee"), &request), masked);
        assert_ne!(keyring(2).masked(&body("Somchai"), &request), masked, "cannot be tried without the master key");
        for part in 0..request.len() {
            let mut other = request;
            other[part] = b"another";
            assert_ne!(ring.masked(&body("Somchai"), &other), masked, "part {part}");
        }
        // Parts cannot run into each other.
        assert_ne!(ring.masked(&body("Somchai"), &[b"tenants", b"cope", b"operation", b"key"]), masked);
        // 16 bits for the whole profile: too few to find a person by trying, none for a single field.
        assert_eq!((masked["profile"].as_str().unwrap().len(), &masked["note"]), (4, &json!(1)));
    }

    #[tokio::test]
    async fn a_secret_opens_only_for_what_it_belongs_to() {
        let ring = keyring(1);
        let sealed = ring.seal_secret(b"key 1", b"secret").unwrap();
        assert_eq!(ring.open_secret(b"key 1", &sealed).unwrap().as_slice(), b"secret");
        assert!(ring.open_secret(b"key 2", &sealed).is_err());
        assert!(keyring(2).open_secret(b"key 1", &sealed).is_err());
        assert!(decrypt(&ring.0.master.0, b"key 1", &sealed).is_none(), "no secret is sealed under the key that wraps persons' keys");
        assert_ne!(ring.tag("a", &[b"x"]), ring.tag("b", &[b"x"]));
    }

    #[test]
    fn what_is_sealed_is_bound_with_tenant_subject_and_purpose() {
        let (a, b) = (Ulid::from_bytes([1; 16]), Ulid::from_bytes([2; 16]));
        assert_ne!(Subject::person(MerchantId(a), CustomerId(b)).bound(), Subject::person(MerchantId(b), CustomerId(a)).bound());
        assert_ne!(Subject::person(MerchantId(a), CustomerId(b)).bound(), Subject::endpoint(MerchantId(a), WebhookEndpointId(b)).bound());
    }
}
