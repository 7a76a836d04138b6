//! Who a request comes from, and what follows from it: actor, tenant, read scope.

use chrono::{DateTime, Utc};
use domain::ids::{MerchantId, PspId, StoreId};
use projections::ReadScope;

use super::{
    role::{Permission, Role},
    sight::Sight,
    token::{Claims, TokenError},
};
use crate::problem::{Kind, Problem};

/// How a caller proved who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// By a token of the issuer.
    Token,
    /// By a signature over the request.
    Signature,
    /// By the payment token of one intent; it is let in to that intent's routes only, see `admit`.
    PaymentToken,
}

/// Somebody whose proof was believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Who, as the issuer knows them.
    pub subject: String,
    /// As what.
    pub role: Role,
    /// Under which PSP.
    pub psp: PspId,
    /// For which merchant; nothing for those who run a PSP.
    pub merchant: Option<MerchantId>,
    /// In which store only.
    pub store: Option<StoreId>,
    /// On which device.
    pub device: Option<String>,
    /// When the proof ends, UTC.
    pub expires_at: DateTime<Utc>,
    /// How it was proven.
    pub proof: Proof,
}

impl Principal {
    pub(super) fn of(claims: Claims) -> Result<Self, TokenError> {
        if !is_name(&claims.sub) || !claims.device.as_deref().is_none_or(is_name) {
            return Err(TokenError::Incomplete("sub and device are 1 to 128 characters of A-Z, a-z, 0-9 and ._:@+-"));
        }
        if claims.role.needs_merchant() != claims.merchant.is_some() {
            return Err(TokenError::Incomplete("exactly the roles within a merchant name a merchant"));
        }
        if claims.store.is_some() && claims.merchant.is_none() {
            return Err(TokenError::Incomplete("a store without its merchant"));
        }
        let expires_at = DateTime::from_timestamp(claims.exp, 0).ok_or(TokenError::Incomplete("exp is out of range"))?;
        Ok(Self {
            subject: claims.sub,
            role: claims.role,
            psp: claims.psp,
            merchant: claims.merchant,
            store: claims.store,
            device: claims.device,
            expires_at,
            proof: Proof::Token,
        })
    }

    /// The name in the log: `user:…`, `device:…`, `service:…` or `payer:…`.
    pub fn actor(&self) -> String {
        let kind = match (self.proof, self.role) {
            (Proof::Signature, _) => "service",
            (Proof::PaymentToken, _) => "payer",
            (Proof::Token, Role::Device) => "device",
            (Proof::Token, Role::PlatformAdmin | Role::MerchantAdmin | Role::Manager | Role::Cashier | Role::Auditor) => "user",
        };
        format!("{kind}:{}", self.subject)
    }

    /// Whose rows it may see.
    pub const fn read_scope(&self) -> ReadScope {
        match self.merchant {
            Some(merchant) => ReadScope { tenant: Some(merchant), psp: None, store: self.store },
            None => ReadScope { tenant: None, psp: Some(self.psp), store: None },
        }
    }

    /// Which events it sees; nothing for those who act for no merchant.
    pub fn sight(&self) -> Option<Sight> {
        self.merchant.map(|tenant| Sight { tenant, store: self.store, role: self.role })
    }

    /// The merchant that it acts for.
    ///
    /// # Errors
    /// `Forbidden` for those who act for none.
    pub fn tenant(&self) -> Result<MerchantId, Problem> {
        self.merchant.ok_or_else(|| Problem::new(Kind::Forbidden, "the token acts for no merchant"))
    }

    /// Whether anybody who proves themselves so may hold this permission.
    pub fn proof_reaches(proof: Proof, permission: Permission) -> bool {
        match proof {
            // A service is within a merchant, and does not make itself others.
            Proof::Signature => {
                permission != Permission::CredentialManage && Role::ALL.iter().any(|role| role.needs_merchant() && role.allows(permission))
            }
            Proof::PaymentToken => matches!(permission, Permission::PaymentTake | Permission::PaymentRead),
            Proof::Token => true,
        }
    }

    /// Lets it pass or not.
    ///
    /// # Errors
    /// `Forbidden`.
    pub fn demand(&self, permission: Permission) -> Result<(), Problem> {
        if !Self::proof_reaches(self.proof, permission) || !self.role.allows(permission) {
            return Err(Problem::plain(Kind::Forbidden));
        }
        if self.store.is_some() && permission.is_of_the_whole_merchant() {
            return Err(Problem::forbidden("this belongs to the whole merchant, and whoever is limited to one store does not reach it"));
        }
        Ok(())
    }
}

/// Names become part of the log and of key scopes, whose parts are joined by `|`.
fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:@+-".contains(&byte);
    (1..=128).contains(&text.len()) && text.bytes().all(allowed)
}
