//! `replay checkpoint`.

use std::path::PathBuf;

use clap::Args;
use projections::{
    LogReader,
    checkpoint::{PrivateKey, SignedCheckpoint, take},
};
use serde_json::json;

use crate::{
    files,
    outcome::{Failure, Finding, Verdict},
    progress::Progress,
    session::Session,
};

/// Arguments of `checkpoint`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  replay checkpoint --new-key auditor.pem                   make a key; prints the public key to hand out
  replay checkpoint --key auditor.pem > 2026-05-01.json     sign the present head; publish the file outside this machine

The same head gives the same checkpoint. It holds the log id, epoch, position, head hash, time and number of commits, an RFC 6962
root over all commit hashes, and an Ed25519 signature. Verify the log before you sign it.")]
pub struct CheckpointArgs {
    /// Make a key (PKCS#8 PEM) in a new file, instead of a checkpoint. An existing file is never overwritten.
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    new_key: Option<PathBuf>,
    /// The key to sign with.
    #[arg(long, value_name = "FILE", required_unless_present = "new_key")]
    key: Option<PathBuf>,
}

/// Makes a key, or prints the signed checkpoint of the present head as JSON.
///
/// # Errors
/// `Usage` for a key that is none or exists, and an empty log; `Fault` when the log cannot be read.
pub async fn run(session: &Session, args: CheckpointArgs) -> Verdict {
    if let Some(path) = args.new_key {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| anyhow::anyhow!("the system gives no random numbers: {error}"))?;
        let key = PrivateKey::from_seed(&seed);
        files::write_secret(&path, &key.to_pem()?)?;
        let public = hex::encode(key.public());
        files::print(&if session.json { json!({"public_key": public}).to_string() } else { public })?;
        return Ok(Finding::Sound);
    }
    let path = args.key.ok_or_else(|| Failure::usage("give --key or --new-key"))?;
    let pem = files::text(&path)?;
    let key = PrivateKey::from_pem(&pem).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    let pool = session.reader().await?;
    let progress = Progress::new("checkpoint", LogReader::new(pool.clone()).head().await?.pos);
    let taken = take(&pool, |position| progress.at(position)).await;
    drop(progress);
    let checkpoint = match taken {
        Ok(checkpoint) => checkpoint.ok_or_else(|| Failure::usage("the log is empty: there is nothing to sign"))?,
        Err(projections::Error::Corrupt { position, what }) => {
            eprintln!("replay: position {position}: {what}; nothing is signed");
            return Ok(Finding::Wrong);
        }
        Err(error) => return Err(error.into()),
    };
    // The document is what is published: one form, with --json or without, and no digest after it.
    files::print(&serde_json::to_string(&SignedCheckpoint::sign(checkpoint, &key))?)?;
    Ok(Finding::Sound)
}
