//! `replay prove` and `replay check-proof`.

use std::{path::PathBuf, str::FromStr};

use clap::Args;
use domain::ids::EventId;
use projections::{
    masking,
    proof::{SignedProof, prove},
    search::StreamName,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    event_line,
    files::{self, PublicKey},
    outcome::{self, Failure, Finding, Verdict},
    progress::Progress,
    session::Session,
};

/// Arguments of `prove`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  replay prove 4711 --checkpoint 2026-05-01.json > event-4711.json
  replay prove evt_01HZY3T5V6W7X8Y9Z0A1B2C3D4 --checkpoint 2026-05-01.json > event.json
  replay check-proof event-4711.json --public-key auditor.pub

The proof holds the event and a few dozen hashes, however long the log is; whoever gets it needs neither log nor database.
An id is the event's position and the beginning of its hash, so the proof shows that it is the very event.
It holds the event byte for byte, or its hash would not be the log's: an event with a provider's single-use token of a card is given out
only with --with-card-token.
Standard error tells the SHA-256 of the document, with its line feed.")]
pub struct ProveArgs {
    /// Position of the event in the log, or its id.
    #[arg(value_name = "POSITION|EVENT")]
    event: Event,
    /// A checkpoint at or after that position.
    #[arg(long, value_name = "FILE")]
    checkpoint: PathBuf,
    /// Give the event out though it holds a provider's token of a card.
    #[arg(long)]
    with_card_token: bool,
}

/// An event on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Position(i64),
    Id(EventId),
}

impl FromStr for Event {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let position = text.parse().ok().filter(|position| *position > 0).map(Self::Position);
        let event = position.or_else(|| text.parse().ok().map(Self::Id));
        event.ok_or_else(|| "neither a position, from 1, nor an id, evt_…".to_owned())
    }
}

impl Event {
    /// Where it stands, if anywhere up to `until`.
    fn position(self, until: i64) -> Result<i64, Failure> {
        match self {
            Self::Position(position) if position > until => {
                Err(Failure::usage(format!("the checkpoint ends at position {until}, before {position}")))
            }
            Self::Position(position) => Ok(position),
            Self::Id(id) => Some(id.position()).filter(|position| (1..=until).contains(position)).ok_or_else(|| Self::missing(id, until)),
        }
    }

    fn missing(id: EventId, until: i64) -> Failure {
        Failure::usage(format!("the log has no {id} up to position {until}, where the checkpoint ends"))
    }
}

/// Arguments of `check-proof`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  replay check-proof event-4711.json --public-key auditor.pub
  replay check-proof event-4711.json --public-key auditor.pub --log-id 0193d3f0-…

One publisher may sign several logs: compare the log id that is printed with the one you expect, or give it.")]
pub struct CheckProofArgs {
    /// A file made by `replay prove`.
    #[arg(value_name = "FILE")]
    proof: PathBuf,
    /// Key of the checkpoint's publisher: 64 hex digits, or a file that holds them. Get it from the publisher.
    #[arg(long, value_name = "KEY")]
    public_key: PublicKey,
    /// The log that the proof must be about (`log_id` of its checkpoints).
    #[arg(long, value_name = "UUID")]
    log_id: Option<Uuid>,
}

/// Prints the proof of one event as JSON.
///
/// # Errors
/// `Usage` for a checkpoint that is none or before the event, an event that is not there, and one with a card's token that was not asked
/// for; `Fault` when the log cannot be read.
pub async fn run(session: &Session, args: ProveArgs) -> Verdict {
    let signed = files::checkpoint(&args.checkpoint)?;
    // Under its own key: whom to trust is for the one who checks the proof.
    signed.verify(&signed.public_key).map_err(|error| Failure::usage(format!("{}: {error}", args.checkpoint.display())))?;
    let pool = session.reader().await?;
    let until = signed.checkpoint.position;
    let position = args.event.position(until)?;
    let progress = Progress::new("commits", i64::try_from(signed.checkpoint.commits).unwrap_or(i64::MAX));
    let proof = prove(&pool, position, &signed, |read| progress.at(i64::try_from(read).unwrap_or(i64::MAX))).await;
    drop(progress);
    match (proof, args.event) {
        (Ok(proof), Event::Id(id)) if proof.proof.event.event_id() != id => Err(Event::missing(id, until)),
        (Ok(proof), _) if !args.with_card_token && masking::hides_something_of(&proof.proof.event) => Err(Failure::usage(format!(
            "the event at {position} holds a card's token, and so would the proof; --with-card-token gives it out"
        ))),
        (Ok(proof), _) => {
            // The document is what is handed out: one form, and no digest after it there.
            files::print_with_digest(session.json, &serde_json::to_string(&proof)?)?;
            Ok(Finding::Sound)
        }
        (Err(projections::Error::Corrupt { position, what }), _) => Ok(outcome::wrong(session.json, position, &what)),
        (Err(error), _) => Err(error.into()),
    }
}

/// Checks a proof, with nothing but the file and the key.
///
/// # Errors
/// `Usage` for a file that is not there.
pub fn check(session: &Session, args: &CheckProofArgs) -> Verdict {
    let text = files::text(&args.proof)?;
    let checked = SignedProof::read(&text).and_then(|signed| signed.verify(&args.public_key.0).map(|()| signed));
    let mut answer = session.answer();
    let finding = match checked.map_err(|error| error.to_string()).and_then(|signed| of_log(signed, args.log_id)) {
        Ok(signed) => {
            let (line, text) = shown(&signed);
            answer.line(&line, &text)?;
            Finding::Sound
        }
        Err(error) => {
            answer.line(&json!({"proven": false, "what": error}), &format!("not proven: {error}"))?;
            Finding::Wrong
        }
    };
    answer.finish()?;
    Ok(finding)
}

/// The proof, if it is about the log that is asked for.
fn of_log(signed: SignedProof, wanted: Option<Uuid>) -> Result<SignedProof, String> {
    let log_id = Uuid::from_bytes(signed.checkpoint.checkpoint.log_id);
    match wanted {
        Some(wanted) if wanted != log_id => Err(format!("the proof is about another log, {log_id}")),
        Some(_) | None => Ok(signed),
    }
}

/// What is proven, as JSON and for people.
fn shown(signed: &SignedProof) -> (Value, String) {
    let (event, checkpoint) = (&signed.proof.event, &signed.checkpoint.checkpoint);
    let (tenant, log_id) = (event.stream.tenant.to_string(), Uuid::from_bytes(checkpoint.log_id).to_string());
    let stream = StreamName::of(&event.stream);
    let recorded_at = event_line::time(event.recorded_at);
    let payload = masking::payload_text(event);
    let line = json!({"proven": true, "log_id": log_id, "epoch": checkpoint.epoch, "checkpoint_position": checkpoint.position,
        "position": event.pos, "tenant": tenant, "stream": stream.to_string(), "version": event.version, "type": event.event_type,
        "recorded_at": recorded_at, "actor": event.actor, "payload": payload});
    let text = format!(
        "proven: {} stands at position {} of the log {log_id}, epoch {}, that was signed at position {}\n\
         version {} of {stream} of {tenant}, recorded at {recorded_at}, by {}\n{payload}",
        event.event_type, event.pos, checkpoint.epoch, checkpoint.position, event.version, event.actor
    );
    (line, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_position_or_an_id() {
        let id = "evt_01HZY3T5V6W7X8Y9Z0A1B2C3D4";
        assert_eq!("4711".parse(), Ok(Event::Position(4711)));
        assert_eq!(id.parse(), Ok(Event::Id(id.parse().unwrap())));
        for bad in ["0", "-1", "", "evt_", "ord_01HZY3T5V6W7X8Y9Z0A1B2C3D4", "99999999999999999999"] {
            assert!(bad.parse::<Event>().is_err(), "{bad}");
        }
    }
}
