//! `replay reconcile`.

use std::{
    io,
    path::PathBuf,
    sync::atomic::{AtomicI64, Ordering},
};

use chrono::{DateTime, Utc};
use clap::Args;
use domain::{
    money::Money,
    reconciliation::{Booked, Difference, Listed, Period, Report, Totals},
};
use projections::reconciliation::{self, Account, Question, read_list};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    answer::Answer,
    event_line::{self, moment},
    files,
    outcome::{Failure, Finding, Verdict},
    progress::Progress,
    session::Session,
};

/// Arguments of `reconcile`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  replay reconcile --account pac_01J9ZQ8T3V5W7X9Y1Z2A3B4C5D --from 2026-05-01T00:00:00+07:00 --to 2026-05-02T00:00:00+07:00 may-1.csv
  replay reconcile --account scb --from 2026-05-01 --to 2026-06-01 may.csv --json

The list is a CSV file with the header
  transaction_id,reference,kind,currency,gross,fee,net,at
kind is payment or refund; amounts are in major units with a point, those of refunds negative; reference, fee and net may be empty; at is
a time with its offset. A file with a bad row is refused, with the lines. Dates are days of UTC; the end of the period is not part of it.

Every difference is a finding, by one of these words:
  missing_in_list   the log has it in the period, the list does not
  missing_here      the list has it, the log does not; names the intent of the reference, and whether it is left to a person
  amount_differs, currency_differs
  listed_twice      the same payment or refund again
  fee_does_not_add  the net is not the gross less the fee

Rows are found by the provider's own names, whenever they happened. Nothing is changed: money that is missing here is brought in by a
person, with `POST /v1/payment-intents/{id}/resolve`, or with the whole list, with
`POST /v1/provider-accounts/{id}/settlement-lists`.")]
pub struct ReconcileArgs {
    /// Whose list: a merchant's account (pac_...), or a provider's name (scb) for the platform's own.
    #[arg(long, value_name = "ACCOUNT")]
    account: Account,
    /// The first moment that the list covers.
    #[arg(long, value_name = "DATE|TIME", value_parser = moment)]
    from: DateTime<Utc>,
    /// The first moment that it does not cover any more.
    #[arg(long, value_name = "DATE|TIME", value_parser = moment)]
    to: DateTime<Utc>,
    /// Only what the log held up to this position; all of it unless told.
    #[arg(long, value_name = "POSITION", value_parser = clap::value_parser!(i64).range(1..))]
    until: Option<i64>,
    /// The list.
    #[arg(value_name = "FILE.csv")]
    file: PathBuf,
}

/// Prints sums and differences.
///
/// # Errors
/// `Usage` for a file that is no list, an account that nobody knows and an empty period; `Fault` when the log cannot be read.
pub async fn run(session: &Session, args: ReconcileArgs) -> Verdict {
    let ReconcileArgs { account, from, to, until, file } = args;
    if from >= to {
        return Err(Failure::usage("the period is empty: --to is the first moment after it"));
    }
    let bytes = files::bytes(&file)?;
    let list = read_list(&bytes).map_err(|bad| Failure::usage(format!("{}: {bad}", file.display())))?;
    let pool = session.reader().await?;
    let question = Question { account, period: Period { from, to }, until, bounds: None };
    let progress = Progress::new("reconcile", 0);
    let read = AtomicI64::new(0);
    let heard = |events: i64, all: i64| progress.at_of(read.fetch_add(events, Ordering::Relaxed), all);
    let reconciled = reconciliation::answer(&pool, &question, &list, heard).await.map_err(refused)?;
    drop(progress);
    let mut answer = session.answer();
    asked(&mut answer, &question, &hex::encode(Sha256::digest(&bytes)))?;
    print(&mut answer, &reconciled.report)?;
    let position = reconciled.position;
    answer.aside(&json!({"position": position}), &format!("the log up to position {position}"))?;
    answer.finish()?;
    Ok(Finding::sound_if(reconciled.report.agrees()))
}

fn refused(failure: reconciliation::Failure) -> Failure {
    match failure {
        reconciliation::Failure::NoSuchAccount(_) => Failure::usage(failure.to_string()),
        reconciliation::Failure::Sum(_) | reconciliation::Failure::Log(_) => failure.into(),
    }
}

/// The question, with the hash of the very list.
fn asked(answer: &mut Answer, question: &Question, list: &str) -> io::Result<()> {
    let Question { account, period: Period { from, to }, .. } = question;
    let (account, from, to) = (account.to_string(), event_line::time(*from), event_line::time(*to));
    let text = format!("{account} from {from} to {to}\nlist sha256 {list}");
    answer.line(&json!({"account": account, "from": from, "to": to, "list_sha256": list}), &text)
}

fn print(answer: &mut Answer, report: &Report) -> io::Result<()> {
    for (side, sums) in [("list", &report.listed), ("log", &report.booked), ("matched", &report.matched)] {
        totals(answer, side, sums)?;
    }
    for (currency, charges) in &report.charges {
        let line = json!({"side": "list", "currency": currency, "fee": charges.fee, "net": charges.net});
        let major = |minor| Money::new(minor, *currency).to_major();
        answer.line(&line, &format!("list     {currency} fees {}, net {}", major(charges.fee), major(charges.net)))?;
    }
    for difference in &report.differences {
        answer.line(&value(difference), &text(difference))?;
    }
    let (matched, differences) = (report.matched_rows(), report.differences.len());
    answer.line(&json!({"matched": matched, "differences": differences}), &format!("{matched} matched, {differences} differences"))
}

fn totals(answer: &mut Answer, side: &str, totals: &Totals) -> io::Result<()> {
    for ((currency, kind), total) in totals {
        let kind = kind.as_str();
        let line = json!({"side": side, "currency": currency, "kind": kind, "rows": total.rows, "gross": total.gross});
        let gross = Money::new(total.gross, *currency);
        answer.line(&line, &format!("{side:<8} {currency} {kind:<8} {:>8} rows {:>16}", total.rows, gross.to_major()))?;
    }
    Ok(())
}

/// A difference as JSON; amounts in minor units.
fn value(difference: &Difference) -> Value {
    let mut line =
        json!({"difference": difference.word(), "listed": difference.listed().map(listed), "booked": difference.booked().map(booked)});
    let Some(fields) = line.as_object_mut() else { return line };
    if let Difference::ListedTwice { first_line, .. } = difference {
        fields.insert("first_line".to_owned(), json!(first_line));
    }
    if let Some(intent) = difference.intent() {
        let resolvable = difference.is_resolvable();
        let named = json!({"payment_intent": intent.payment_intent_id, "status": intent.status, "resolvable": resolvable});
        fields.insert("on".to_owned(), named);
    }
    line
}

fn listed(listed: &Listed) -> Value {
    let row = &listed.row;
    json!({"line": listed.line, "transaction_id": row.transaction_id, "reference": row.reference, "kind": row.kind.as_str(), "gross": row.gross,
           "fee": row.fee, "net": row.net, "at": event_line::time(row.at)})
}

fn booked(booked: &Booked) -> Value {
    json!({"transaction_id": booked.transaction_id, "reference": booked.reference, "kind": booked.kind.as_str(), "gross": booked.gross,
           "at": event_line::time(booked.at), "payment_intent": booked.payment_intent_id, "refund": booked.refund_id})
}

/// A difference for people: its word, then what each side says.
fn text(difference: &Difference) -> String {
    let mut lines = vec![difference.word().to_owned()];
    lines.extend(difference.listed().map(listed_text));
    if let Difference::ListedTwice { first_line, .. } = difference {
        lines.push(format!("first on line {first_line}"));
    }
    lines.extend(difference.booked().map(booked_text));
    if let Some(intent) = difference.intent() {
        let what = if difference.is_resolvable() { "left to a person: resolve it with this line" } else { intent.status.as_str() };
        lines.push(format!("on {}, {what}", intent.payment_intent_id));
    }
    lines.join("\n  ")
}

fn listed_text(Listed { line, row }: &Listed) -> String {
    let (kind, at, gross) = (row.kind.as_str(), event_line::time(row.at), row.gross);
    let reference = row.reference.as_deref().unwrap_or("without a reference");
    let major = |minor: Option<i64>| minor.map_or_else(|| "not said".to_owned(), |minor| Money::new(minor, gross.currency).to_major());
    let (fee, net) = (major(row.fee), major(row.net));
    format!("line {line}: {kind} {} of {gross}, {reference}, {at}, fee {fee}, net {net}", row.transaction_id)
}

fn booked_text(booked: &Booked) -> String {
    let Booked { transaction_id, gross, reference, payment_intent_id, .. } = booked;
    let (kind, at) = (booked.kind.as_str(), event_line::time(booked.at));
    let refund = booked.refund_id.map(|refund| format!(", {refund}")).unwrap_or_default();
    format!("log: {kind} {transaction_id} of {gross}, {reference}, {at}, {payment_intent_id}{refund}")
}
