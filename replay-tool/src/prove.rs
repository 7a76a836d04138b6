//! `replay prove` and `replay check-proof`.

use std::path::PathBuf;

use clap::Args;
use projections::proof::{SignedProof, prove};
use serde_json::json;

use crate::{
    files::{self, PublicKey},
    outcome::{Failure, Finding, Verdict},
    progress::Progress,
    session::Session,
};

/// Arguments of `prove`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  replay prove 4711 --checkpoint 2026-05-01.json > event-4711.json
  replay check-proof event-4711.json --public-key auditor.pub

The proof holds the event and a few dozen hashes, however long the log is; whoever gets it needs neither log nor database.")]
pub struct ProveArgs {
    /// Position of the event in the log.
    #[arg(value_name = "POSITION", value_parser = clap::value_parser!(i64).range(1..))]
    position: i64,
    /// A checkpoint at or after that position.
    #[arg(long, value_name = "FILE")]
    checkpoint: PathBuf,
}

/// Arguments of `check-proof`.
#[derive(Args)]
#[command(after_help = "Example:\n  replay check-proof event-4711.json --public-key auditor.pub")]
pub struct CheckProofArgs {
    /// A file made by `replay prove`.
    #[arg(value_name = "FILE")]
    proof: PathBuf,
    /// Key of the checkpoint's publisher: 64 hex digits, or a file that holds them. Get it from the publisher.
    #[arg(long, value_name = "KEY")]
    public_key: PublicKey,
}

/// Prints the proof of one event as JSON.
///
/// # Errors
/// `Usage` for a checkpoint that is none or before the event; `Fault` when the log cannot be read.
pub async fn run(session: &Session, args: ProveArgs) -> Verdict {
    let signed = files::checkpoint(&args.checkpoint)?;
    // Under its own key: whom to trust is for the one who checks the proof.
    signed.verify(&signed.public_key).map_err(|error| Failure::usage(format!("{}: {error}", args.checkpoint.display())))?;
    let until = signed.checkpoint.position;
    if args.position > until {
        return Err(Failure::usage(format!("the checkpoint ends at position {until}, before {}", args.position)));
    }
    let pool = session.reader().await?;
    let progress = Progress::new("commits", i64::try_from(signed.checkpoint.commits).unwrap_or(i64::MAX));
    let proof = prove(&pool, args.position, &signed, |read| progress.at(i64::try_from(read).unwrap_or(i64::MAX))).await;
    drop(progress);
    match proof {
        Ok(proof) => {
            println!("{}", serde_json::to_string(&proof)?);
            Ok(Finding::Sound)
        }
        Err(projections::Error::Corrupt { position, what }) => {
            eprintln!("replay: position {position}: {what}");
            Ok(Finding::Wrong)
        }
        Err(error) => Err(error.into()),
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
    let finding = match checked {
        Ok(signed) => {
            let (event, checkpoint) = (&signed.proof.event, &signed.checkpoint.checkpoint);
            let line = json!({"proven": true, "position": event.pos, "type": event.event_type, "checkpoint_position": checkpoint.position,
                "payload": String::from_utf8_lossy(&event.payload)});
            let text = format!(
                "proven: {} stands at position {} of the log that was signed at position {}\n{}",
                event.event_type,
                event.pos,
                checkpoint.position,
                String::from_utf8_lossy(&event.payload)
            );
            answer.line(&line, &text)?;
            Finding::Sound
        }
        Err(error) => {
            answer.line(&json!({"proven": false, "what": error.to_string()}), &format!("not proven: {error}"))?;
            Finding::Wrong
        }
    };
    answer.finish()?;
    Ok(finding)
}
