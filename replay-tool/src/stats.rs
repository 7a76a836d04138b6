//! `replay stats`.

use std::{fmt::Display, io};

use clap::Args;
use projections::stats::{Amount, stats};
use serde_json::json;

use crate::{
    answer::Answer,
    outcome::{Finding, Verdict},
    progress::Progress,
    session::Session,
};

/// Arguments of `stats`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  replay stats
  replay stats --json

Bytes are those of payloads, meta data and personal data. Partition sizes are those on this machine's disk, with indexes; they
differ from copy to copy of the same log, so the digest does not cover them.")]
pub struct StatsArgs {}

/// Prints figures of the log.
///
/// # Errors
/// `Fault` when the log cannot be read.
pub async fn run(session: &Session, StatsArgs {}: StatsArgs) -> Verdict {
    let pool = session.reader().await?;
    let progress = Progress::new("stats", 0);
    let stats = stats(&pool, |position, head| progress.at_of(position, head)).await?;
    drop(progress);
    let mut answer = session.answer();
    answer.line(&json!({"head_position": stats.head_pos}), &format!("head at position {}", stats.head_pos))?;
    for (kind, count) in &stats.streams {
        answer.line(&json!({"stream_type": kind, "streams": count}), &format!("{count:>12} {kind} streams"))?;
    }
    amounts(&mut answer, "type", &stats.types)?;
    amounts(&mut answer, "tenant", &stats.tenants)?;
    let (mut events, mut bytes) = (0_i64, 0_i64);
    for day in &stats.days {
        (events, bytes) = (events.saturating_add(day.events), bytes.saturating_add(day.bytes));
        let line = json!({"day": day.of, "events": day.events, "bytes": day.bytes, "events_so_far": events, "bytes_so_far": bytes});
        answer.line(&line, &format!("{:>12} events {:>14} bytes  {}  {events} events so far", day.events, day.bytes, day.of))?;
    }
    for (stream, events) in &stats.largest {
        answer.line(&json!({"stream": stream.to_string(), "events": events}), &format!("{events:>12} events in {stream}"))?;
    }
    for (partition, bytes) in &stats.partitions {
        answer.aside(&json!({"partition": partition, "disk_bytes": bytes}), &format!("{bytes:>12} bytes on disk: {partition}"))?;
    }
    answer.finish()?;
    Ok(Finding::Sound)
}

fn amounts<K: Display>(answer: &mut Answer, name: &str, amounts: &[Amount<K>]) -> io::Result<()> {
    for Amount { of, events, bytes } in amounts {
        let mut line = json!({"events": events, "bytes": bytes});
        if let Some(fields) = line.as_object_mut() {
            fields.insert(name.to_owned(), json!(of.to_string()));
        }
        answer.line(&line, &format!("{events:>12} events {bytes:>14} bytes  {of}"))?;
    }
    Ok(())
}
