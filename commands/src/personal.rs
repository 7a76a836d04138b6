//! Personal data at rest: sealed under the person's own key, which is wrapped by the master key and destroyed with the person.
//! Secrets of provider accounts and webhook endpoints are kept the same way, each of them being a subject with a key of its own.
//!
//! XChaCha20-Poly1305 throughout. A ciphertext is `1 ‖ nonce (24 bytes) ‖ text and tag`; what it belongs to (tenant and person) is
//! authenticated with it, so that one moved to another person's place does not open.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use domain::{
    clock::RandomSource,
    customer::{Profile, Rejection, Sealed},
    ids::{CustomerId, MerchantId, Ulid, WebhookEndpointId},
    webhook_endpoint::{self, SealedSecret},
};
use hmac::{Hmac, Mac as _};
use serde_json::Value;
use sha2::Sha256;
use sqlx::{PgPool, Row as _};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    error::CommandError,
    event_store::{ulid_of, uuid_of},
};

/// First byte of every ciphertext: which construction it is.
const FORMAT: u8 = 1;
const NONCE_BYTES: usize = 24;
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

/// Seals and opens profiles. Cheap to clone.
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
    /// `Unavailable`.
    pub async fn is_of_this_database(&self) -> Result<bool, CommandError> {
        let tag = authentic(&self.0.master.0, &[b"smartpos master key check"]);
        Ok(sqlx::query_scalar("select privacy.check_master($1)").bind(&tag[..]).fetch_one(&self.0.pool).await?)
    }

    /// Checks a profile and seals it under the person's key, which is made when there is none.
    ///
    /// # Errors
    /// A rejection of the profile; `CustomerErased` when the key was destroyed; `Unavailable`; `Fault` when the key was wrapped
    /// under another master key.
    pub async fn seal(&self, tenant: MerchantId, customer: CustomerId, profile: &Profile) -> Result<Sealed, CommandError> {
        profile.check().map_err(|rejection| CommandError::Rejected(rejection.into()))?;
        let text = Zeroizing::new(serde_json::to_vec(profile).map_err(|error| CommandError::Fault(error.to_string()))?);
        let sealed = self.seal_text(tenant, customer.0, &text).await?;
        sealed.ok_or_else(|| CommandError::Rejected(Rejection::CustomerErased.into()))
    }

    /// Seals a text under the key of its subject, which is made when there is none; nothing when that key was destroyed.
    ///
    /// # Errors
    /// `Unavailable`; `Fault` when the key was wrapped under another master key.
    pub(crate) async fn seal_text(&self, tenant: MerchantId, subject: Ulid, text: &[u8]) -> Result<Option<Sealed>, CommandError> {
        let bound = bound_to(tenant, subject);
        let Some(key) = self.take_key(tenant, subject, &bound).await? else { return Ok(None) };
        Ok(Some(Sealed(self.encrypt(&key, &bound, text)?)))
    }

    /// Opens what [`Self::seal_text`] sealed.
    ///
    /// # Errors
    /// `Unavailable`; `Fault` when it does not open or its key was destroyed.
    pub(crate) async fn open_text(&self, tenant: MerchantId, subject: Ulid, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, CommandError> {
        let wrapped: Option<Vec<u8>> = sqlx::query_scalar("select wrapped from privacy.find_keys($1, $2)")
            .bind(uuid_of(tenant))
            .bind(vec![uuid_of(subject)])
            .fetch_optional(&self.0.pool)
            .await?;
        let bound = bound_to(tenant, subject);
        let key = self.unwrap(&bound, &wrapped.ok_or_else(does_not_open)?)?;
        decrypt(&key, &bound, &sealed.0).ok_or_else(does_not_open)
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
            match self.open_one(&bound_to(tenant, customer.0), wrapped, ciphertext) {
                Ok(profile) => {
                    profiles.insert(*customer, profile);
                }
                Err(error) => tracing::error!(%tenant, %customer, %error, "a profile cannot be read"),
            }
        }
        Ok(profiles)
    }

    /// Seals a webhook endpoint's signing secret under the endpoint's own key, which goes the way of a person's: it is destroyed in the
    /// transaction that stores the endpoint's end.
    ///
    /// # Errors
    /// `WebhookEndpointNotFound` when the key was destroyed; `Unavailable`; `Fault` as for [`Self::seal`].
    pub async fn seal_endpoint_secret(
        &self,
        tenant: MerchantId,
        endpoint: WebhookEndpointId,
        secret: &[u8],
    ) -> Result<SealedSecret, CommandError> {
        let bound = secret_bound_to(tenant, endpoint);
        let gone = || CommandError::Rejected(webhook_endpoint::Rejection::WebhookEndpointNotFound.into());
        let key = self.take_key(tenant, endpoint.0, &bound).await?.ok_or_else(gone)?;
        Ok(SealedSecret(self.encrypt(&key, &bound, secret)?))
    }

    /// Opens signing secrets of one endpoint. Nothing once its key was destroyed.
    ///
    /// # Errors
    /// `Unavailable`; `Fault` for one that does not open.
    pub async fn open_secrets(
        &self,
        tenant: MerchantId,
        endpoint: WebhookEndpointId,
        sealed: &[Vec<u8>],
    ) -> Result<Vec<Zeroizing<Vec<u8>>>, CommandError> {
        let bound = secret_bound_to(tenant, endpoint);
        let wrapped: Option<Vec<u8>> = sqlx::query_scalar("select wrapped from privacy.find_keys($1, $2)")
            .bind(uuid_of(tenant))
            .bind(vec![uuid_of(endpoint)])
            .fetch_optional(&self.0.pool)
            .await?;
        let Some(wrapped) = wrapped else { return Ok(vec![]) };
        let key = self.unwrap(&bound, &wrapped)?;
        let shut = || CommandError::Fault("a webhook secret does not open under its key".to_owned());
        sealed.iter().map(|sealed| decrypt(&key, &bound, sealed).ok_or_else(shut)).collect()
    }

    /// Fresh bytes that nobody can guess.
    pub fn fresh_secret(&self) -> Zeroizing<[u8; 32]> {
        let mut fresh = Zeroizing::new([0_u8; 32]);
        self.0.random.fill(fresh.as_mut());
        fresh
    }

    /// The key of a subject, made when there is none; nothing when it was destroyed.
    async fn take_key(&self, tenant: MerchantId, subject: Ulid, bound: &[u8]) -> Result<Option<Zeroizing<[u8; 32]>>, CommandError> {
        let offered = self.encrypt(&self.0.master.0, bound, self.fresh_secret().as_ref())?;
        let wrapped: Option<Vec<u8>> = sqlx::query_scalar("select privacy.take_key($1, $2, $3)")
            .bind(uuid_of(tenant))
            .bind(uuid_of(subject))
            .bind(offered)
            .fetch_one(&self.0.pool)
            .await?;
        wrapped.map(|wrapped| self.unwrap(bound, &wrapped)).transpose()
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

    /// Seals a secret that no person owns under a key of its own kind; `bound` is what it belongs to.
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
        let mut nonce = [0_u8; NONCE_BYTES];
        self.0.random.fill(&mut nonce);
        let cipher = XChaCha20Poly1305::new(key.into());
        let payload = Payload { msg: text, aad: bound };
        let sealed =
            cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| CommandError::Fault("nothing could be sealed".to_owned()))?;
        Ok([&[FORMAT][..], &nonce, &sealed].concat())
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

/// HMAC-SHA256 over parts that cannot run into each other.
fn authentic(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    // A key of a whole block, which HMAC makes of a shorter one by the same zeros: so there is no length to refuse.
    let mut block = Zeroizing::new([0_u8; 64]);
    block[..32].copy_from_slice(key);
    let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new((&*block).into());
    for part in parts {
        mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn decrypt(key: &[u8; 32], bound: &[u8], ciphertext: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, sealed) = ciphertext.strip_prefix(&[FORMAT])?.split_at_checked(NONCE_BYTES)?;
    let nonce: [u8; NONCE_BYTES] = nonce.try_into().ok()?;
    let payload = Payload { msg: sealed, aad: bound };
    XChaCha20Poly1305::new(key.into()).decrypt(&XNonce::from(nonce), payload).ok().map(Zeroizing::new)
}

fn bound_to(tenant: MerchantId, subject: Ulid) -> Vec<u8> {
    [&b"smartpos personal 1"[..], &tenant.0.to_bytes(), &subject.to_bytes()].concat()
}

fn secret_bound_to(tenant: MerchantId, endpoint: WebhookEndpointId) -> Vec<u8> {
    [&b"smartpos webhook secret 1"[..], &tenant.0.to_bytes(), &endpoint.0.to_bytes()].concat()
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
    async fn what_was_sealed_opens_only_with_its_key_and_for_its_person() {
        let (ring, key) = (keyring(1), [7; 32]);
        let sealed = ring.encrypt(&key, b"somchai", b"text").unwrap();
        assert_ne!(sealed, ring.encrypt(&key, b"somchai", b"text").unwrap(), "a nonce is used once");
        assert_eq!(decrypt(&key, b"somchai", &sealed).unwrap().as_slice(), b"text");
        assert!(decrypt(&[8; 32], b"somchai", &sealed).is_none());
        assert!(decrypt(&key, b"malee", &sealed).is_none());
        for at in 0..sealed.len() {
            let mut other = sealed.clone();
            other[at] ^= 1;
            assert!(decrypt(&key, b"somchai", &other).is_none(), "byte {at} was changed");
            assert!(decrypt(&key, b"somchai", &sealed[..at]).is_none(), "cut off at {at}");
        }
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
    fn a_person_is_bound_with_the_tenant() {
        let (a, b) = (Ulid::from_bytes([1; 16]), Ulid::from_bytes([2; 16]));
        assert_ne!(bound_to(MerchantId(a), b), bound_to(MerchantId(b), a));
    }
}
