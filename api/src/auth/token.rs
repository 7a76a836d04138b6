//! Tokens: ES256 and nothing else. Every claim is demanded and checked; the key decides the algorithm, never the header.
//!
//! A terminal sends the same token with every request, and its signature costs more to check than the rest of the request. So
//! what a token was found to prove is remembered, by the hash of the whole token; only its time is checked again.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Duration, Utc};
use domain::ids::{MerchantId, PspId, StoreId, Ulid};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{key::SigningKey, principal::Principal, role::Role};

/// Who issues tokens during development.
pub const ISSUER: &str = "smartpos-dev";
/// Whom tokens are for.
pub const AUDIENCE: &str = "smartpos";
/// How far clocks may differ.
const LEEWAY_SECONDS: i64 = 30;
/// Longest token that is looked at.
const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// Tokens remembered; the least used go first.
const REMEMBERED: usize = 50_000;

/// What a token says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Claims {
    /// Issuer.
    pub iss: String,
    /// Audience.
    pub aud: String,
    /// Who.
    pub sub: String,
    /// As what.
    pub role: Role,
    /// Under which PSP.
    pub psp: PspId,
    /// For which merchant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merchant: Option<MerchantId>,
    /// In which store only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreId>,
    /// On which device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Issued, seconds since 1970.
    pub iat: i64,
    /// Not good before, seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// Not good after, seconds since 1970.
    pub exp: i64,
    /// Name of the token.
    pub jti: String,
}

/// Why a token is not believed. Callers learn only that it is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// No token of ours: shape, algorithm, key, signature, issuer, audience or a claim's type.
    #[error("not a valid token: {0}")]
    Invalid(String),
    /// Its time is over, or has not come.
    #[error("the token is not valid at this time")]
    NotNow,
    /// Its claims contradict each other.
    #[error("the token's claims are incomplete: {0}")]
    Incomplete(&'static str),
}

/// Checks tokens; clones share what they remember.
#[derive(Clone)]
pub struct TokenVerifier {
    keys: BTreeMap<String, DecodingKey>,
    validation: Validation,
    /// By SHA-256 of the whole token, signature included. Only what was believed; a refusal is worked out again each time.
    believed: Arc<Cache<[u8; 32], Believed>>,
}

/// What a token with a good signature and good claims says. Its time is compared at every use.
#[derive(Debug, Clone)]
struct Believed {
    begins: i64,
    ends: i64,
    principal: Arc<Principal>,
}

impl Believed {
    fn at(&self, now: DateTime<Utc>) -> Result<Principal, TokenError> {
        let at = now.timestamp();
        if at > self.ends.saturating_add(LEEWAY_SECONDS) || at < self.begins.saturating_sub(LEEWAY_SECONDS) {
            return Err(TokenError::NotNow);
        }
        Ok(Principal::clone(&self.principal))
    }
}

impl TokenVerifier {
    /// Believes tokens signed with this key.
    ///
    /// # Errors
    /// `Invalid` when the public half cannot be read.
    pub fn new(key: &SigningKey) -> Result<Self, TokenError> {
        let decoding = DecodingKey::from_ec_pem(key.public_pem.as_bytes()).map_err(|error| TokenError::Invalid(error.to_string()))?;
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Times are checked below, against the injected clock.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let keys = BTreeMap::from([(key.kid.clone(), decoding)]);
        Ok(Self { keys, validation, believed: Arc::new(Cache::new(REMEMBERED)) })
    }

    /// Who the token proves its bearer to be.
    ///
    /// # Errors
    /// Any [`TokenError`].
    pub fn verify(&self, token: &str, now: DateTime<Utc>) -> Result<Principal, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Invalid("too long".to_owned()));
        }
        let name: [u8; 32] = Sha256::digest(token).into();
        if let Some(believed) = self.believed.get(&name) {
            let principal = believed.at(now);
            if principal.is_err() {
                self.believed.remove(&name);
            }
            return principal;
        }
        let believed = self.check(token)?;
        let principal = believed.at(now)?;
        self.believed.insert(name, believed);
        Ok(principal)
    }

    /// Signature and claims, whatever the time.
    fn check(&self, token: &str) -> Result<Believed, TokenError> {
        let header = decode_header(token).map_err(|error| TokenError::Invalid(error.to_string()))?;
        let key = header.kid.as_deref().and_then(|kid| self.keys.get(kid)).ok_or_else(|| TokenError::Invalid("unknown key".to_owned()))?;
        let claims = decode::<Claims>(token, key, &self.validation).map_err(|error| TokenError::Invalid(error.to_string()))?.claims;
        let begins = claims.nbf.unwrap_or(claims.iat).max(claims.iat);
        Ok(Believed { begins, ends: claims.exp, principal: Arc::new(Principal::of(claims)?) })
    }
}

/// What a token shall say.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    /// Who.
    pub subject: String,
    /// As what.
    pub role: Role,
    /// Under which PSP.
    pub psp: PspId,
    /// For which merchant.
    pub merchant: Option<MerchantId>,
    /// In which store only.
    pub store: Option<StoreId>,
    /// On which device.
    pub device: Option<String>,
    /// How long.
    pub lifetime: Duration,
}

/// Issues tokens during development.
#[derive(Clone)]
pub struct TokenIssuer {
    key: EncodingKey,
    kid: String,
}

impl TokenIssuer {
    /// Signs with this key.
    ///
    /// # Errors
    /// `Invalid` when the key cannot be read.
    pub fn new(key: &SigningKey) -> Result<Self, TokenError> {
        let encoding = EncodingKey::from_ec_pem(key.private_pem.as_bytes()).map_err(|error| TokenError::Invalid(error.to_string()))?;
        Ok(Self { key: encoding, kid: key.kid.clone() })
    }

    /// A token good from `now` on; `id` names it.
    ///
    /// # Errors
    /// `Incomplete` when nobody would believe such a token; `Invalid` when it cannot be signed.
    pub fn issue(&self, request: TokenRequest, id: Ulid, now: DateTime<Utc>) -> Result<String, TokenError> {
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: request.subject,
            role: request.role,
            psp: request.psp,
            merchant: request.merchant,
            store: request.store,
            device: request.device,
            iat: now.timestamp(),
            nbf: None,
            exp: (now + request.lifetime).timestamp(),
            jti: id.to_string(),
        };
        Principal::of(claims.clone())?;
        self.sign(&claims)
    }

    fn sign(&self, claims: &Claims) -> Result<String, TokenError> {
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(Algorithm::ES256) };
        encode(&header, claims, &self.key).map_err(|error| TokenError::Invalid(error.to_string()))
    }
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
