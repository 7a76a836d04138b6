//! The day proves itself: the log verifies, every read model equals a fold from nothing, and the provider's own ledger
//! shows the same money as ours.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use sqlx::PgPool;

use super::{client::Client, report::all};

/// Runs every proof; each line of the answer is one that held.
///
/// # Errors
/// The first proof that fails, with what is wrong.
pub async fn prove(pool: &PgPool, merchants: &[Client], simulator: &str) -> Result<Vec<String>> {
    let mut lines = vec![log(pool).await?];
    lines.extend(read_models(pool).await?);
    lines.push(provider(merchants, simulator).await?);
    Ok(lines)
}

async fn log(pool: &PgPool) -> Result<String> {
    let report = projections::verify::verify_log(pool, |_| {}).await?;
    if let Some(problem) = report.problems.first() {
        bail!("the log does not verify: position {}: {}", problem.position, problem.what);
    }
    Ok(format!("the log verifies: {} events in {} commits, head {}", report.events, report.commits, report.head_hash))
}

async fn read_models(pool: &PgPool) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for report in projections::check::check(pool).await? {
        if let Some(difference) = report.differences.first() {
            bail!("read model {} differs from a fold from nothing: {difference}", report.projection);
        }
        lines.push(format!("{} equals a fold from nothing: {} rows at position {}", report.projection, report.rows, report.position));
    }
    Ok(lines)
}

/// Transaction by transaction: what the provider took in and sent back, against what we captured and refunded through it.
async fn provider(merchants: &[Client], simulator: &str) -> Result<String> {
    let ledger: Value = reqwest::get(format!("{simulator}/sim/ledger")).await?.json().await?;
    let theirs = ledger["payments"].as_array().context("the simulator shows no ledger")?;
    let mut ours: BTreeMap<String, (i64, bool)> = BTreeMap::new();
    let mut refunded = std::collections::BTreeSet::new();
    for client in merchants {
        for refund in all(client, "/v1/refunds").await? {
            if refund["destination"] == "original" && refund["status"] == "succeeded" {
                refunded.insert(refund["payment_id"].as_str().unwrap_or_default().to_owned());
            }
        }
        for payment in all(client, "/v1/payments").await? {
            let Some(transaction) = payment["transaction_id"].as_str().filter(|_| payment["tender"] == "promptpay") else { continue };
            let amount = payment["captured"]["amount"].as_i64().context("a payment shows no captured amount")?;
            let sent_back = refunded.contains(payment["id"].as_str().unwrap_or_default());
            if ours.insert(transaction.to_owned(), (amount, sent_back)).is_some() {
                bail!("the transaction {transaction} was counted twice");
            }
        }
    }
    let mut sum = 0_i64;
    for entry in theirs {
        let id = entry["transaction_id"].as_str().unwrap_or_default();
        let (amount, reversed) = (entry["amount"].as_i64().unwrap_or(-1), entry["reversed"] == true);
        match ours.remove(id) {
            Some(known) if known == (amount, reversed) => sum = sum.saturating_add(if reversed { 0 } else { amount }),
            other => bail!("transaction {id}: the provider shows {amount} (sent back: {reversed}), we show {other:?}"),
        }
    }
    if let Some((id, _)) = ours.first_key_value() {
        bail!("we show transaction {id}, the provider does not");
    }
    let kept = domain::money::Money::thb(sum);
    Ok(format!("the provider's ledger equals ours: {} transactions, {kept} kept", theirs.len()))
}
