//! `smartpos token`: a development token, signed with the key of the data directory.

use anyhow::{Context, Result};
use chrono::Duration;
use commands::system::{RandomIds, SystemClock};
use domain::{
    clock::{Clock, IdSource},
    ids::{MerchantId, PspId, StoreId, Ulid},
};

use crate::{
    auth::{Role, SigningKey, TokenIssuer, TokenRequest, load_or_create_key},
    config::Config,
};

/// The PSP of whoever names none.
pub const DEVELOPMENT_PSP: PspId = PspId(Ulid::from_bytes([0x11; 16]));

/// What `token` can be told.
#[derive(Debug, Clone, clap::Args)]
pub struct TokenArgs {
    /// `platform_admin`, `merchant_admin`, `manager`, `cashier`, `device` or `auditor`.
    #[arg(long)]
    pub role: String,
    /// The PSP; without it the development PSP.
    #[arg(long)]
    pub psp: Option<PspId>,
    /// The merchant, for every role but `platform_admin`.
    #[arg(long)]
    pub merchant: Option<MerchantId>,
    /// The only store that the token may touch.
    #[arg(long)]
    pub store: Option<StoreId>,
}

/// Prints a token.
///
/// # Errors
/// The key cannot be read, or the role is not known.
pub fn run(config: &Config, args: &TokenArgs) -> Result<()> {
    let file = config.auth.key_file.clone().unwrap_or_else(|| config.data_dir.join("auth.pem"));
    let key = load_or_create_key(&file).with_context(|| format!("the key {} cannot be used", file.display()))?;
    let psp = args.psp.unwrap_or(DEVELOPMENT_PSP);
    let role: Role = serde_json::from_value(args.role.clone().into()).with_context(|| format!("'{}' is no role", args.role))?;
    println!("{}", development_token(&key, role, psp, args.merchant, args.store)?);
    Ok(())
}

/// A token for a day.
///
/// # Errors
/// The role needs a merchant and none is named.
pub fn development_token(key: &SigningKey, role: Role, psp: PspId, merchant: Option<MerchantId>, store: Option<StoreId>) -> Result<String> {
    let request =
        TokenRequest { subject: "development".to_owned(), role, psp, merchant, store, device: None, lifetime: Duration::hours(24) };
    Ok(TokenIssuer::new(key)?.issue(request, RandomIds.next(), SystemClock.now())?)
}
