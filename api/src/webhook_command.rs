//! `smartpos webhook`: helps merchants whose receiver does not believe a delivery.

use std::{io::Read as _, path::PathBuf};

use anyhow::{Context as _, Result};
use commands::system::SystemClock;
use domain::clock::Clock as _;
use gateway::outbound::{Secret, signature::Signed};

/// What can be done.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Action {
    /// Check a delivery as it was received, and say which rule failed: secret, body or clock.
    Verify(VerifyArgs),
}

/// A delivery as it was received.
#[derive(Debug, Clone, clap::Args)]
pub struct VerifyArgs {
    /// The endpoint's secret, `whsec_…`.
    #[arg(long, env = "WEBHOOK_SECRET", hide_env_values = true)]
    pub secret: String,
    /// Header `webhook-id`.
    #[arg(long)]
    pub id: String,
    /// Header `webhook-timestamp`.
    #[arg(long)]
    pub timestamp: String,
    /// Header `webhook-signature`.
    #[arg(long)]
    pub signature: String,
    /// Header `smartpos-body-sha256`: tells a changed body from a wrong secret.
    #[arg(long)]
    pub body_sha256: Option<String>,
    /// When it was received, unix seconds; without it now.
    #[arg(long)]
    pub at: Option<i64>,
    /// The raw body; without it standard input.
    #[arg(long)]
    pub body: Option<PathBuf>,
}

/// Runs it.
///
/// # Errors
/// The rule that failed, or a body that cannot be read.
pub fn run(action: &Action) -> Result<()> {
    let Action::Verify(args) = action;
    let body = if let Some(file) = &args.body {
        std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?
    } else {
        let mut body = Vec::new();
        std::io::stdin().read_to_end(&mut body).context("standard input cannot be read")?;
        body
    };
    let signed = Signed {
        id: &args.id,
        timestamp: &args.timestamp,
        signatures: &args.signature,
        body_hash: args.body_sha256.as_deref(),
        body: &body,
    };
    Secret::parse(&args.secret)?.verify(signed, args.at.unwrap_or_else(|| SystemClock.now().timestamp()))?;
    println!("ok: signed with this secret, over this body, in time");
    Ok(())
}
