//! The master key of personal data: in a file of its own, the same for every host of one database.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use commands::{
    personal::{Keyring, MasterKey},
    system::SystemRandom,
};
use domain::clock::RandomSource as _;
use sqlx::PgPool;
use zeroize::Zeroizing;

use crate::{
    config::Config,
    key_file::{self, KeyFileError},
};

/// Seals and opens profiles of this database. The key is made where no file is; the first key that a database sees is its key.
///
/// # Errors
/// The file cannot be used, it holds another key than the one the database began with, or the database does not answer.
pub async fn keyring(config: &Config, pool: &PgPool) -> Result<Keyring> {
    let file = config.privacy.master_key_file.clone().unwrap_or_else(|| config.data_dir.join("master.key"));
    let text = key_file::load_or_create(&file, || {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        SystemRandom.fill(bytes.as_mut());
        Ok::<_, KeyFileError>(Zeroizing::new(format!("{}\n", hex::encode(bytes.as_ref()))))
    })?;
    let mut bytes = Zeroizing::new([0_u8; 32]);
    hex::decode_to_slice(text.trim(), bytes.as_mut()).with_context(|| format!("{}: not 64 hex digits", file.display()))?;
    let keyring = Keyring::new(pool.clone(), MasterKey::new(bytes), Arc::new(SystemRandom));
    if !keyring.is_of_this_database().await.context("the master key cannot be checked; was the database migrated?")? {
        bail!("{}: not the master key of this database; put the key that it began with there, or profiles stay unreadable", file.display());
    }
    Ok(keyring)
}
