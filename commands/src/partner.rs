//! Credentials of services that sign their requests: made once, sealed at rest, revoked for ever. Each secret is shown once; the one
//! before a rotation signs as well for a while.

use chrono::{DateTime, Duration, Utc};
use domain::{
    clock::RandomSource,
    ids::{MerchantId, PspId, StoreId, Ulid},
    webhook_endpoint::ROTATION_OVERLAP_HOURS,
};
use sha2::{Digest as _, Sha256};
use sqlx::{PgPool, Row as _, postgres::PgRow};
use zeroize::Zeroizing;

use crate::{
    error::CommandError,
    event_store::{ulid_of, uuid_of},
    personal::Keyring,
};

/// The key that a service signs with: the 64 ASCII characters of hex(sha256(secret)).
pub type SigningSecret = Zeroizing<[u8; 64]>;

/// What a credential signs with.
#[derive(Debug, Clone)]
pub struct SigningSecrets {
    /// The newest.
    pub current: SigningSecret,
    /// The one before the last rotation, and until when it is good (UTC).
    pub previous: Option<(SigningSecret, DateTime<Utc>)>,
}

impl SigningSecrets {
    /// The one before the last rotation while it is good.
    pub fn previous_at(&self, now: DateTime<Utc>) -> Option<&SigningSecret> {
        self.previous.as_ref().filter(|(_, until)| *until > now).map(|(secret, _)| secret)
    }
}

/// What a new credential shall be.
#[derive(Debug, Clone)]
pub struct NewCredential {
    /// Its merchant.
    pub tenant: MerchantId,
    /// The merchant's PSP.
    pub psp: PspId,
    /// The only store that it reaches.
    pub store: Option<StoreId>,
    /// The word of its role.
    pub role: String,
    /// What people call it, 1 to 64 characters.
    pub label: String,
    /// Takes only requests that cannot be sent twice.
    pub nonce_only: bool,
    /// Names the request; a second one with this name makes nothing.
    pub request: String,
    /// Who makes it.
    pub by: String,
}

/// Most credentials of a merchant that are in force.
pub const MOST_IN_FORCE: i64 = 50;

/// What came of a request for a credential.
#[derive(Debug)]
pub enum Made {
    /// It was made; its secret is seen this once.
    Credential(Box<Credential>, Zeroizing<String>),
    /// The request made one before.
    Before,
    /// The merchant has [`MOST_IN_FORCE`].
    Full,
}

/// What came of a request for another secret.
#[derive(Debug)]
pub enum Rotated {
    /// It has another one, which is seen this once.
    Credential(Box<Credential>, Zeroizing<String>),
    /// The request rotated before.
    Before,
    /// The secret before the last rotation still signs.
    UnderWay,
    /// It was revoked.
    Revoked,
    /// The merchant, or its store, has none of this name.
    Missing,
}

/// A credential without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// `pk_…`, public.
    pub key_id: String,
    /// Its merchant.
    pub tenant: MerchantId,
    /// The merchant's PSP.
    pub psp: PspId,
    /// The only store that it reaches.
    pub store: Option<StoreId>,
    /// The word of its role.
    pub role: String,
    /// What people call it.
    pub label: String,
    /// Takes only requests that cannot be sent twice.
    pub nonce_only: bool,
    /// Who made it.
    pub created_by: String,
    /// When, UTC.
    pub created_at: DateTime<Utc>,
    /// Until when the secret before the last rotation signs as well, UTC.
    pub previous_secret_until: Option<DateTime<Utc>>,
    /// When it was revoked, UTC.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// Makes a credential and answers it with its secret, which nobody will see again.
///
/// # Errors
/// `Unavailable`; `Fault` when nothing can be sealed.
pub async fn create(
    pool: &PgPool,
    keyring: &Keyring,
    random: &dyn RandomSource,
    id: Ulid,
    new: &NewCredential,
    now: DateTime<Utc>,
) -> Result<Made, CommandError> {
    let key_id = format!("pk_{id}");
    let secret = fresh_secret(random);
    let sealed = keyring.seal_secret(&bound_to(new.tenant, &key_id), signing_secret(&secret).as_ref())?;
    let made: String = sqlx::query_scalar("select partner.add_credential($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)")
        .bind(&key_id)
        .bind(uuid_of(new.tenant))
        .bind(uuid_of(new.psp))
        .bind(new.store.map(uuid_of))
        .bind(&new.role)
        .bind(&new.label)
        .bind(new.nonce_only)
        .bind(sealed)
        .bind(&new.request)
        .bind(&new.by)
        .bind(now)
        .bind(MOST_IN_FORCE)
        .fetch_one(pool)
        .await?;
    match made.as_str() {
        "made" => {}
        "before" => return Ok(Made::Before),
        _ => return Ok(Made::Full),
    }
    let credential = Credential {
        key_id,
        tenant: new.tenant,
        psp: new.psp,
        store: new.store,
        role: new.role.clone(),
        label: new.label.clone(),
        nonce_only: new.nonce_only,
        created_by: new.by.clone(),
        created_at: now,
        previous_secret_until: None,
        revoked_at: None,
    };
    Ok(Made::Credential(Box::new(credential), secret))
}

/// The credential of this name that is in force, with what it signs with.
///
/// # Errors
/// `Unavailable`; `Fault` when the secret was sealed under another master key.
pub async fn find(pool: &PgPool, keyring: &Keyring, key_id: &str) -> Result<Option<(Credential, SigningSecrets)>, CommandError> {
    let row = sqlx::query("select * from partner.find_credential($1)").bind(key_id).fetch_optional(pool).await?;
    let Some(row) = row else { return Ok(None) };
    let credential = credential(&row)?;
    let Some(sealed) = row.try_get::<Option<Vec<u8>>, _>("secret")? else { return Ok(None) };
    let open = |sealed: &[u8]| opened(keyring, &credential, sealed);
    let previous: Option<Vec<u8>> = row.try_get("previous_secret")?;
    let previous = previous.as_deref().map(open).transpose()?.zip(credential.previous_secret_until);
    let secrets = SigningSecrets { current: open(&sealed)?, previous };
    Ok(Some((credential, secrets)))
}

fn opened(keyring: &Keyring, credential: &Credential, sealed: &[u8]) -> Result<SigningSecret, CommandError> {
    let opened = keyring.open_secret(&bound_to(credential.tenant, &credential.key_id), sealed)?;
    let secret = <[u8; 64]>::try_from(opened.as_slice());
    Ok(Zeroizing::new(secret.map_err(|_| CommandError::Fault("a stored secret has another length".to_owned()))?))
}

/// Which credential gets another secret, and how.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// Its merchant.
    pub tenant: MerchantId,
    /// The only store that whoever asks reaches.
    pub store: Option<StoreId>,
    /// `pk_…`.
    pub key_id: String,
    /// The one before signs as well for [`ROTATION_OVERLAP_HOURS`]; otherwise it ends at once.
    pub keep_previous: bool,
    /// Names the request, where it has a name; a second one with this name changes nothing.
    pub request: Option<String>,
}

/// Gives a credential another secret and answers it, which nobody will see again.
///
/// # Errors
/// `Unavailable`; `Fault` when nothing can be sealed.
pub async fn rotate(
    pool: &PgPool,
    keyring: &Keyring,
    random: &dyn RandomSource,
    rotation: &Rotation,
    now: DateTime<Utc>,
) -> Result<Rotated, CommandError> {
    let secret = fresh_secret(random);
    let sealed = keyring.seal_secret(&bound_to(rotation.tenant, &rotation.key_id), signing_secret(&secret).as_ref())?;
    let outcome: String = sqlx::query_scalar("select partner.rotate_credential($1, $2, $3, $4, $5, $6, $7)")
        .bind(uuid_of(rotation.tenant))
        .bind(rotation.store.map(uuid_of))
        .bind(&rotation.key_id)
        .bind(sealed)
        .bind(&rotation.request)
        .bind(rotation.keep_previous.then(|| now + Duration::hours(ROTATION_OVERLAP_HOURS)))
        .bind(now)
        .fetch_one(pool)
        .await?;
    match outcome.as_str() {
        "rotated" => {}
        "before" => return Ok(Rotated::Before),
        "under_way" => return Ok(Rotated::UnderWay),
        "revoked" => return Ok(Rotated::Revoked),
        _ => return Ok(Rotated::Missing),
    }
    let row = sqlx::query("select * from partner.find_credential($1)").bind(&rotation.key_id).fetch_one(pool).await?;
    Ok(Rotated::Credential(Box::new(credential(&row)?), secret))
}

/// The credentials of a merchant, or of one of its stores, newest first: at most `limit` that were made before the one named `before`.
///
/// # Errors
/// `Unavailable`.
pub async fn list(
    pool: &PgPool,
    (tenant, store): (MerchantId, Option<StoreId>),
    before: Option<&str>,
    limit: i64,
) -> Result<Vec<Credential>, CommandError> {
    let query = sqlx::query("select * from partner.list_credentials($1, $2, $3, $4)").bind(uuid_of(tenant)).bind(store.map(uuid_of));
    let rows = query.bind(before).bind(limit).fetch_all(pool).await?;
    rows.iter().map(|row| credential(row).map_err(CommandError::from)).collect()
}

/// Revokes a credential and destroys its secrets; nothing when the merchant, or its store, has none of this name.
///
/// # Errors
/// `Unavailable`.
pub async fn revoke(
    pool: &PgPool,
    (tenant, store): (MerchantId, Option<StoreId>),
    key_id: &str,
    by: &str,
    now: DateTime<Utc>,
) -> Result<Option<Credential>, CommandError> {
    let row = sqlx::query("select * from partner.revoke_credential($1, $2, $3, $4, $5)")
        .bind(uuid_of(tenant))
        .bind(store.map(uuid_of))
        .bind(key_id)
        .bind(by)
        .bind(now)
        .fetch_optional(pool)
        .await?;
    Ok(row.as_ref().map(credential).transpose()?)
}

/// Whether a nonce was not used before with this credential; it is from now on, at least until `expires_at`.
///
/// # Errors
/// `Unavailable`.
pub async fn take_nonce(
    pool: &PgPool,
    key_id: &str,
    nonce: &str,
    expires_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<bool, CommandError> {
    let fresh = sqlx::query_scalar("select partner.take_nonce($1, $2, $3, $4)").bind(key_id).bind(nonce).bind(expires_at).bind(now);
    Ok(fresh.fetch_one(pool).await?)
}

/// What a service that knows `secret` signs with.
pub fn signing_secret(secret: &str) -> SigningSecret {
    let mut key = Zeroizing::new([0_u8; 64]);
    key.copy_from_slice(hex_of(&Sha256::digest(secret.as_bytes())).as_bytes());
    key
}

fn fresh_secret(random: &dyn RandomSource) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    random.fill(bytes.as_mut());
    Zeroizing::new(format!("sk_{}", hex_of(bytes.as_ref())))
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(|digit| char::from_digit(u32::from(digit), 16)).collect()
}

fn bound_to(tenant: MerchantId, key_id: &str) -> Vec<u8> {
    [&b"partner credential"[..], &tenant.0.to_bytes(), key_id.as_bytes()].concat()
}

fn credential(row: &PgRow) -> Result<Credential, sqlx::Error> {
    let store: Option<uuid::Uuid> = row.try_get("store")?;
    Ok(Credential {
        key_id: row.try_get("key_id")?,
        tenant: MerchantId(ulid_of(row.try_get("tenant")?)),
        psp: PspId(ulid_of(row.try_get("psp")?)),
        store: store.map(|store| StoreId(ulid_of(store))),
        role: row.try_get("role")?,
        label: row.try_get("label")?,
        nonce_only: row.try_get("nonce_only")?,
        created_by: row.try_get("created_by")?,
        created_at: row.try_get("created_at")?,
        previous_secret_until: row.try_get("previous_until")?,
        revoked_at: row.try_get("revoked_at")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_signs_with_the_hash_of_its_secret_in_hex() {
        // By `printf abc | sha256sum`.
        assert_eq!(*signing_secret("abc"), *b"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
