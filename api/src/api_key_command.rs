//! `smartpos api-key`: makes a credential for a service that signs its requests, on the platform of the data directory or on
//! DATABASE_URL. Prints its secret, which nobody will see again.

use anyhow::{Context as _, Result, ensure};
use commands::{
    database::{self, Role as DatabaseRole},
    partner::{self, Made, NewCredential},
    system::{RandomIds, SystemClock, SystemRandom},
};
use domain::{
    clock::{Clock as _, IdSource as _},
    ids::{MerchantId, PspId, StoreId},
};

use crate::{auth::Role, config::Config, embedded::running_connection, master_key, token_command::DEVELOPMENT_PSP};

/// What `api-key` can be told.
#[derive(Debug, Clone, clap::Args)]
pub struct ApiKeyArgs {
    /// Its merchant.
    #[arg(long)]
    pub merchant: MerchantId,
    /// `merchant_admin`, `manager`, `cashier` or `auditor`.
    #[arg(long)]
    pub role: String,
    /// What people call it.
    #[arg(long)]
    pub label: String,
    /// The only store that it reaches.
    #[arg(long)]
    pub store: Option<StoreId>,
    /// The merchant's PSP; without it the development PSP.
    #[arg(long)]
    pub psp: Option<PspId>,
    /// Take only requests signed with a nonce.
    #[arg(long)]
    pub nonce_only: bool,
}

/// Makes and prints it.
///
/// # Errors
/// The role is not known, no platform runs there, or the database does not answer.
pub async fn run(config: &Config, args: ApiKeyArgs) -> Result<()> {
    let role: Role = serde_json::from_value(args.role.clone().into()).with_context(|| format!("'{}' is no role", args.role))?;
    ensure!(role.needs_merchant() && role != Role::Device, "the role must be merchant_admin, manager, cashier or auditor");
    ensure!((1..=64).contains(&args.label.chars().count()), "the label must have 1 to 64 characters");
    let url = match (&config.database_url, running_connection(&config.data_dir)) {
        (Some(url), _) => url.reveal().to_owned(),
        (None, Some(running)) => running.database_url,
        (None, None) => anyhow::bail!("no platform runs on {}, and DATABASE_URL is not set", config.data_dir.display()),
    };
    let pool = database::pool(&url, DatabaseRole::App, 1)?;
    let keyring = master_key::keyring(config, &pool).await?;
    let new = NewCredential {
        tenant: args.merchant,
        psp: args.psp.unwrap_or(DEVELOPMENT_PSP),
        store: args.store,
        role: role.as_str().to_owned(),
        label: args.label,
        nonce_only: args.nonce_only,
        request: format!("command:{}", RandomIds.next()),
        by: "user:operator".to_owned(),
    };
    let made = partner::create(&pool, &keyring, &SystemRandom, RandomIds.next(), &new, SystemClock.now()).await?;
    let Made::Credential(credential, secret) = made else {
        anyhow::bail!("nothing was made: the merchant has {} credentials in force", partner::MOST_IN_FORCE);
    };
    println!("key id  {}\nsecret  {}", credential.key_id, *secret);
    Ok(())
}
