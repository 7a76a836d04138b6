//! `replay timeline`.

use std::io;

use clap::Args;
use domain::envelope::StreamType;
use projections::{
    masking,
    search::StreamName,
    trail::{MOST_STREAMS, Step, Trail, trail},
};
use serde_json::json;

use crate::{
    answer::Answer,
    event_line,
    outcome::{Failure, Finding, Verdict},
    progress::Progress,
    session::Session,
};

/// Arguments of `timeline`.
#[derive(Args)]
#[command(after_help = "\
Example:
  replay timeline ord_01J9ZQ8T3V5W7X9Y1Z2A3B4C5D

Shows the order with its bills, payments and refunds, whichever of them is named, in the order of the log. Events of one command
stand together; 'because of' names the event to which a process reacted. Ends at 500 streams, and says so.")]
pub struct TimelineArgs {
    /// An order, bill, payment (or payment intent) or refund.
    #[arg(value_name = "ORDER|BILL|INTENT|REFUND")]
    stream: StreamName,
}

/// Prints all that belongs to a stream.
///
/// # Errors
/// `Usage` for a merchant or a store, and a stream that does not exist; `Fault` when the log cannot be read.
pub async fn run(session: &Session, args: TimelineArgs) -> Verdict {
    if matches!(args.stream.stream_type, StreamType::Merchant | StreamType::Store) {
        return Err(Failure::usage("a merchant or store touches everything: use `replay show`, or `replay grep --tenant`"));
    }
    let pool = session.reader().await?;
    let progress = Progress::new("streams", 0);
    let Trail { steps, cut } = trail(&pool, args.stream, |read, known| progress.of(read, known)).await?;
    drop(progress);
    if steps.is_empty() {
        return Err(Failure::usage(format!("the log has no {}", args.stream)));
    }
    let mut answer = session.answer();
    let mut command = None;
    for step in &steps {
        let first = command.replace(step.event.causation_id) != Some(step.event.causation_id);
        let mut line = event_line::value(&step.event);
        if let Some(fields) = line.as_object_mut() {
            fields.insert("because_of".to_owned(), json!(step.cause));
        }
        answer.line(&line, &text(step, first))?;
    }
    tell_cut(&mut answer, cut)?;
    answer.finish()?;
    Ok(Finding::Sound)
}

/// Says of a trail that ended too early that it did.
pub(crate) fn tell_cut(answer: &mut Answer, cut: bool) -> io::Result<()> {
    if !cut {
        return Ok(());
    }
    let text = format!("\nCut at {MOST_STREAMS} streams: more belongs to it. `replay show` has each stream as a whole.");
    answer.line(&json!({"cut_at_streams": MOST_STREAMS}), &text)
}

pub(crate) fn text(step: &Step, first_of_command: bool) -> String {
    let event = &step.event;
    let cause = match step.cause {
        _ if !first_of_command => "together with the above".to_owned(),
        Some(position) => format!("because of {position}, by {}", event.actor),
        None => format!("asked for by {}", event.actor),
    };
    let line = format!(
        "{:>9}  {}  {}  {}  {cause}\n           {}",
        event.pos,
        event_line::time(event.recorded_at),
        StreamName::of(&event.stream),
        event.event_type,
        masking::payload_text(event)
    );
    // A blank line between commands shows what happened at once.
    if first_of_command { format!("\n{line}") } else { line }
}
