//! What a day looked like: counted over the public API, shown as a table.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use anyhow::Result;
use chrono::Days;
use commands::system::SystemClock;
use domain::{
    clock::Clock,
    money::{Currency, Money},
};
use serde_json::Value;

use super::{
    client::{Client, Latencies},
    day::Tally,
};

/// All pages of a list.
///
/// # Errors
/// The API does not answer.
pub async fn all(client: &Client, path: &str) -> Result<Vec<Value>> {
    let mut items = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let next = cursor.as_ref().map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let page = client.get("list", &format!("{path}?limit=200{next}")).await?;
        items.extend(page["data"].as_array().cloned().unwrap_or_default());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => return Ok(items),
        }
    }
}

fn counted(items: &[Value], field: &str) -> BTreeMap<String, (u64, i64)> {
    let mut counts: BTreeMap<String, (u64, i64)> = BTreeMap::new();
    for item in items {
        let money = if item["totals"].is_object() { &item["totals"]["total"] } else { &item["amount"] };
        let amount = money["amount"].as_i64().unwrap_or(0);
        let entry = counts.entry(item[field].as_str().unwrap_or("?").to_owned()).or_default();
        entry.0 += 1;
        entry.1 = entry.1.saturating_add(amount);
    }
    counts
}

fn section(out: &mut String, title: &str, counts: &BTreeMap<String, (u64, i64)>) {
    for (n, (name, (count, amount))) in counts.iter().enumerate() {
        let title = if n == 0 { title } else { "" };
        let money = Money::new(*amount, Currency::THB).to_major();
        let _ = writeln!(out, "  {title:<22} {name:<22} {count:>7} {money:>16}");
    }
}

/// The figures of the daily sales report, over all stores and days.
async fn totals(out: &mut String, merchants: &[Client]) -> Result<()> {
    let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
    // A month around the day that was just played.
    let today = SystemClock.now().date_naive();
    let (from, to) = (today - Days::new(15), today + Days::new(15));
    for client in merchants {
        for store in all(client, "/v1/stores").await? {
            let store_id = store["id"].as_str().unwrap_or_default();
            let report = client.get("report", &format!("/v1/reports/daily-sales?store_id={store_id}&from={from}&to={to}")).await?;
            for day in report["data"].as_array().into_iter().flatten() {
                for name in ["total", "tax", "service_charge", "discount", "refunds", "net"] {
                    let sum = sums.entry(name).or_default();
                    *sum = sum.saturating_add(day[name]["amount"].as_i64().unwrap_or(0));
                }
            }
        }
    }
    for (title, name) in [
        ("Sales", "total"),
        ("  of which VAT", "tax"),
        ("  of which service", "service_charge"),
        ("Discounts given", "discount"),
        ("Refunds", "refunds"),
        ("Net", "net"),
    ] {
        let money = Money::new(sums.get(name).copied().unwrap_or(0), Currency::THB).to_major();
        let _ = writeln!(out, "  {title:<22} {:<22} {:>7} {money:>16}", "", "");
    }
    Ok(())
}

/// Reads everything back and writes the table.
///
/// # Errors
/// The API does not answer.
pub async fn table(merchants: &[Client], tally: &Tally, latencies: &Latencies, lag: Duration) -> Result<String> {
    let (mut orders, mut bills, mut payments, mut refunds) = (vec![], vec![], vec![], vec![]);
    for client in merchants {
        orders.extend(all(client, "/v1/orders").await?);
        bills.extend(all(client, "/v1/bills").await?);
        payments.extend(all(client, "/v1/payments").await?);
        refunds.extend(all(client, "/v1/refunds").await?);
    }
    let mut out = format!("\n  {:<22} {:<22} {:>7} {:>16}\n  {}\n", "", "", "count", "THB", "-".repeat(70));
    section(&mut out, "Orders by state", &counted(&orders, "status"));
    section(&mut out, "Bills by state", &counted(&bills, "status"));
    section(&mut out, "Payments by tender", &counted(&payments, "tender"));
    section(&mut out, "Payments by outcome", &counted(&payments, "status"));
    section(&mut out, "Refunds by outcome", &counted(&refunds, "status"));
    totals(&mut out, merchants).await?;
    let [on_time, late, twice, never] = tally.callbacks;
    let _ = writeln!(out, "  {:<22} {on_time} on time, {late} late, {twice} twice, {never} never", "Call-backs");
    let _ = writeln!(out, "  {:<22} {}", "Bills made anew", tally.voided_bills);
    let _ = writeln!(out, "  {:<22} {lag:.1?} after the last call", "Read models caught up");
    let _ = writeln!(out, "\n  {:<22} {:>7} {:>10} {:>10} {:>10}\n  {}", "Call", "count", "P50", "P95", "P99", "-".repeat(63));
    for (name, count, [p50, p95, p99]) in latencies.summary() {
        let _ = writeln!(out, "  {name:<22} {count:>7} {p50:>10.1?} {p95:>10.1?} {p99:>10.1?}");
    }
    Ok(out)
}
