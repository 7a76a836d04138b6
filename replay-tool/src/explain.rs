//! `replay explain`.

use clap::Args;
use domain::{
    envelope::{RecordedEvent, StreamType},
    ids::PaymentIntentId,
    postings::Posting,
};
use projections::{
    explain::{Explanation, Line, Seen, explain},
    search::StreamName,
};

use crate::{
    outcome::{Failure, Finding, Verdict},
    progress::Progress,
    session::Session,
    timeline,
};

/// Arguments of `explain`.
#[derive(Args)]
#[command(after_help = "\
Example:
  replay explain pi_01J9ZQ8T3V5W7X9Y1Z2A3B4C5D

As `timeline`, with the calls of the API, what was said to and heard from providers between the events, masked, call-backs that had no
effect, and what was delivered to the merchant's webhook endpoints.

Exchanges, call-backs and deliveries are not of the log; some change or go with time, so the digest does not cover them.")]
pub struct ExplainArgs {
    /// A payment intent.
    #[arg(value_name = "PAYMENT_INTENT")]
    intent: StreamName,
}

/// Prints why a payment is as it is.
///
/// # Errors
/// `Usage` for anything but a payment intent, and for one that does not exist; `Fault` when the log cannot be read.
pub async fn run(session: &Session, args: ExplainArgs) -> Verdict {
    if args.intent.stream_type != StreamType::PaymentIntent {
        return Err(Failure::usage("only a payment intent can be explained: `replay timeline` shows the rest"));
    }
    let pool = session.reader().await?;
    let progress = Progress::new("streams", 0);
    let seen = Seen { events: |_: &RecordedEvent| true, deliveries: true, call_backs: true, until: None };
    let explained = explain(&pool, PaymentIntentId(args.intent.id), seen, |read, known| progress.of(read, known)).await?;
    drop(progress);
    let Explanation { lines, cut } = explained;
    if lines.is_empty() {
        return Err(Failure::usage(format!("the log has no {}", args.intent)));
    }
    let mut answer = session.answer();
    let mut command = None;
    for line in &lines {
        let text = match line {
            Line::Event(step, postings) => {
                let first = command.replace(step.event.causation_id) != Some(step.event.causation_id);
                postings.iter().fold(timeline::text(step, first), |text, posting| text + &posted(posting))
            }
            Line::Exchange(said) => format!(
                "           {}  {} {}: {} → {} in {} ms\n             {}\n             {}{}",
                crate::event_line::time(said.sent_at),
                said.provider,
                said.operation,
                said.request_line,
                said.status.map_or_else(|| "no answer".to_owned(), |status| status.to_string()),
                said.took_ms,
                said.request_body,
                said.response_body,
                said.received.as_deref().unwrap_or_default()
            ),
            Line::Request(request) => format!(
                "           {}  {} by {}, correlation {}",
                crate::event_line::time(request.at),
                request.operation,
                request.actor,
                request.correlation_id
            ),
            Line::CallBack(call_back) => format!(
                "           {}  {} call-back {}: {}\n             {}",
                crate::event_line::time(call_back.received_at),
                call_back.account,
                call_back.state,
                call_back.problem.as_deref().unwrap_or(&call_back.signature),
                call_back.said()
            ),
            Line::Delivery(told) => format!(
                "           {}  webhook {} {} to {}: {}, {}",
                told.at.map_or_else(|| "not sent yet".to_owned(), crate::event_line::time),
                told.event,
                told.event_type,
                told.endpoint_id(),
                match (told.status, &told.error) {
                    (Some(status), _) => format!("{status} in {} ms", told.elapsed_ms.unwrap_or_default()),
                    (None, Some(error)) => error.clone(),
                    (None, None) => "no attempt".to_owned(),
                },
                told.state
            ),
        };
        match line {
            Line::Event(..) | Line::Request(_) => answer.line(&line.value(), &text)?,
            Line::Exchange(_) | Line::CallBack(_) | Line::Delivery(_) => answer.aside(&line.value(), &text)?,
        }
    }
    timeline::tell_cut(&mut answer, cut)?;
    answer.finish()?;
    Ok(Finding::Sound)
}

/// A line of its own under the event.
fn posted(Posting { account, amount }: &Posting) -> String {
    format!("\n             {} {} {account}", amount.to_major(), amount.currency)
}
