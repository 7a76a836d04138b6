//! Idempotency keys: one key, one request, one effect, one answer; stored with the effect, never expiring.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use domain::ids::Ulid;
use serde_json::{Value, value::RawValue};
use sha2::{Digest, Sha256};
use sqlx::{PgPool, Row as _, postgres::PgRow};

use crate::batch::{KeyClaim, StoredKey};
use crate::error::CommandError;
use crate::event_store::uuid_of;

/// A caller's idempotency key with the request that it stands for.
#[derive(Debug, Clone)]
pub struct IdempotencyKey {
    /// Whose keys: the tenant, or the PSP where no tenant exists yet.
    pub tenant: Ulid,
    /// Principal and operation.
    pub scope: String,
    /// The key, 1–255 printable ASCII characters.
    pub key: String,
    /// SHA-256 over operation and canonical body.
    pub request_hash: [u8; 32],
    /// JSON object: pointer of each field → first 16 hex digits of its hash. Names differences, reveals no values.
    pub fingerprint: Vec<u8>,
}

impl IdempotencyKey {
    /// A key for `operation` with this body. Field order does not matter; every value does.
    pub fn new(tenant: Ulid, scope: String, key: String, operation: &str, body: &Value) -> Self {
        let mut fields = BTreeMap::new();
        collect("", body, &mut fields);
        fields.insert("(operation)".to_owned(), short_hash(operation.as_bytes()));
        let fingerprint = serde_json::to_vec(&fields).unwrap_or_default();
        Self { tenant, scope, key, request_hash: Sha256::digest(&fingerprint).into(), fingerprint }
    }

    pub(crate) fn claim(&self, response: Vec<u8>) -> KeyClaim {
        KeyClaim {
            tenant: self.tenant,
            scope: self.scope.clone(),
            key: self.key.clone(),
            request_hash: self.request_hash,
            fingerprint: Some(self.fingerprint.clone()),
            response: Some(response),
            taken: None,
        }
    }

    /// The stored answer for this very request.
    ///
    /// # Errors
    /// `KeyReused` naming the first field that differs.
    pub(crate) fn replay(&self, stored: &StoredKey) -> Result<Answer, CommandError> {
        if stored.request_hash != self.request_hash {
            return Err(CommandError::KeyReused { field: self.first_difference(stored) });
        }
        let response = stored.response.as_deref().unwrap_or(b"{}");
        Answer::decode(response, stored.last_pos).ok_or_else(|| CommandError::Fault("a stored answer cannot be read".to_owned()))
    }

    fn first_difference(&self, stored: &StoredKey) -> String {
        let read = |bytes: &[u8]| serde_json::from_slice::<BTreeMap<String, String>>(bytes).unwrap_or_default();
        let (ours, theirs) = (read(&self.fingerprint), read(stored.fingerprint.as_deref().unwrap_or_default()));
        let names = ours.keys().chain(theirs.keys()).collect::<std::collections::BTreeSet<_>>();
        names.into_iter().find(|name| ours.get(*name) != theirs.get(*name)).cloned().unwrap_or_default()
    }
}

fn collect(pointer: &str, value: &Value, fields: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(name, value)| collect(&format!("{pointer}/{name}"), value, fields)),
        Value::Array(list) => list.iter().enumerate().for_each(|(n, value)| collect(&format!("{pointer}/{n}"), value, fields)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            fields.insert(pointer.to_owned(), short_hash(value.to_string().as_bytes()));
        }
    }
}

fn short_hash(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes)[..8])
}

/// What a command answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status of the first answer.
    pub status: u16,
    /// Version of the resource's stream after the command.
    pub version: i64,
    /// The resource, exactly as first answered.
    pub body: Vec<u8>,
    /// Last position that the command wrote; nothing when it changed nothing.
    pub position: Option<i64>,
    /// This is the stored answer of an earlier request.
    pub replayed: bool,
}

#[derive(serde::Deserialize)]
struct StoredAnswer {
    status: u16,
    version: i64,
    body: Box<RawValue>,
}

impl Answer {
    pub(crate) fn encode(status: u16, version: i64, body: &[u8]) -> Vec<u8> {
        // As `StoredAnswer` reads it, around a body that was JSON a moment ago: it is not parsed to be written once more.
        let mut stored = Vec::with_capacity(body.len() + 64);
        stored.extend_from_slice(format!(r#"{{"status":{status},"version":{version},"body":"#).as_bytes());
        stored.extend_from_slice(body);
        stored.push(b'}');
        stored
    }

    fn decode(stored: &[u8], position: Option<i64>) -> Option<Self> {
        let stored: StoredAnswer = serde_json::from_slice(stored).ok()?;
        let body = stored.body.get().as_bytes().to_vec();
        Some(Self { status: stored.status, version: stored.version, body, position, replayed: true })
    }
}

/// A request that took effect under an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedKey {
    /// Principal and operation.
    pub scope: String,
    /// JSON pointers of the fields that were sent.
    pub fields: Vec<String>,
    /// When it was stored, UTC; nothing when it changed nothing.
    pub recorded_at: Option<DateTime<Utc>>,
    /// Last position that it wrote.
    pub position: Option<i64>,
    /// HTTP status of its answer.
    pub status: u16,
    /// The resource, exactly as first answered.
    pub body: Vec<u8>,
}

/// What became of the requests with `key` within these scopes of a tenant.
///
/// # Errors
/// `Unavailable`; `Fault` for a stored answer that cannot be read.
pub async fn find(pool: &PgPool, tenant: Ulid, scopes: &[String], key: &str) -> Result<Vec<UsedKey>, CommandError> {
    let rows = sqlx::query("select * from log.find_keys($1, $2, $3)").bind(uuid_of(tenant)).bind(scopes).bind(key).fetch_all(pool).await?;
    rows.iter().map(used_key).collect()
}

fn used_key(row: &PgRow) -> Result<UsedKey, CommandError> {
    let fingerprint: Option<Vec<u8>> = row.try_get("fingerprint")?;
    let fields: BTreeMap<String, String> = serde_json::from_slice(fingerprint.as_deref().unwrap_or_default()).unwrap_or_default();
    let (position, response): (Option<i64>, Option<Vec<u8>>) = (row.try_get("last_pos")?, row.try_get("response")?);
    let answer = Answer::decode(response.as_deref().unwrap_or_default(), position);
    let answer = answer.ok_or_else(|| CommandError::Fault("a stored answer cannot be read".to_owned()))?;
    Ok(UsedKey {
        scope: row.try_get("scope")?,
        fields: fields.into_keys().filter(|field| field.starts_with('/')).collect(),
        recorded_at: if position.is_some() { row.try_get("recorded_at")? } else { None },
        position,
        status: answer.status,
        body: answer.body,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key(body: &Value) -> IdempotencyKey {
        IdempotencyKey::new(Ulid::from_bytes([1; 16]), "user:a".into(), "k".into(), "POST /v1/orders", body)
    }
    fn stored(key: &IdempotencyKey) -> StoredKey {
        StoredKey {
            request_hash: key.request_hash.to_vec(),
            fingerprint: Some(key.fingerprint.clone()),
            last_pos: Some(7),
            response: Some(Answer::encode(201, 3, br#"{"b":1, "a":2}"#)),
        }
    }

    #[test]
    fn the_same_request_gets_its_first_answer_byte_for_byte() {
        let first = key(&json!({"a": 1, "b": [1, 2]}));
        let again = key(&json!({"b": [1, 2], "a": 1}));
        let answer = again.replay(&stored(&first)).unwrap();
        assert_eq!(answer.body, br#"{"b":1, "a":2}"#);
        assert_eq!((answer.status, answer.version, answer.position, answer.replayed), (201, 3, Some(7), true));
    }

    #[test]
    fn another_request_is_refused_and_the_difference_named() {
        let first = key(&json!({"a": 1, "lines": [{"price": 5}]}));
        let other = key(&json!({"a": 1, "lines": [{"price": 6}]}));
        match other.replay(&stored(&first)) {
            Err(CommandError::KeyReused { field }) => assert_eq!(field, "/lines/0/price"),
            other => panic!("{other:?}"),
        }
    }
}
