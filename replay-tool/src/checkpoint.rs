//! `replay checkpoint`.

use std::{
    cell::Cell,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use domain::integrity::checkpoint::Checkpoint;
use projections::{
    LogReader,
    checkpoint::{Chain, PrivateKey, SignedCheckpoint, take},
};
use serde_json::json;
use sqlx::PgPool;
use tokio::time::Instant;

use crate::{
    files,
    kept::Kept,
    outcome::{self, Failure, Finding, Verdict},
    progress::Progress,
    session::Session,
};

/// How long a database may say nothing while `--every` looks at it.
const MOST_SILENCE: Duration = Duration::from_mins(1);

/// Arguments of `checkpoint`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  replay checkpoint --new-key auditor.pem                   make a key; prints the public key to hand out
  replay checkpoint --key auditor.pem > 2026-05-01.json     sign the present head; publish the file outside this machine
  replay checkpoint --key auditor.pem --every 1h --out kept     until Ctrl-C, a file in kept whenever the log has grown

The same head gives the same checkpoint. It holds the log id, epoch, position, head hash, time and number of commits, an RFC 6962
root over all commit hashes, and an Ed25519 signature. Verify the log before you sign it. Standard error tells the SHA-256 of the document,
with its line feed.
With --every it goes on from the newest file in the directory, which the same key must have signed: it ends with exit code 1, and
signs nothing more, once the log does not continue that, or is another one.")]
pub struct CheckpointArgs {
    /// Make a key (PKCS#8 PEM) in a new file, instead of a checkpoint. An existing file is never overwritten.
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    new_key: Option<PathBuf>,
    /// The key to sign with.
    #[arg(long, value_name = "FILE", required_unless_present = "new_key")]
    key: Option<PathBuf>,
    /// Go on until Ctrl-C: look at the log this often (30s, 10m, 6h, 1d), and sign it when it has grown.
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "out", conflicts_with = "new_key")]
    every: Option<Duration>,
    /// A directory that exists, for the files of --every: checkpoint-POSITION.json.
    #[arg(long, value_name = "DIRECTORY", requires = "every")]
    out: Option<PathBuf>,
}

/// A number of seconds, minutes, hours or days, at least one second.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "wanted is a number with s, m, h or d, such as 10m".to_owned();
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u32 = number.parse().map_err(|_| wrong())?;
    if number == 0 { Err(wrong()) } else { Ok(Duration::from_secs(seconds.saturating_mul(u64::from(number)))) }
}

/// Makes a key, or prints the signed checkpoint of the present head as JSON, or keeps checkpoints until Ctrl-C.
///
/// # Errors
/// `Usage` for a key that is none or exists, an empty log and a directory that is none; `Fault` when the log cannot be read.
pub async fn run(session: &Session, args: CheckpointArgs) -> Verdict {
    if let Some(path) = args.new_key {
        return new_key(session, &path);
    }
    let path = args.key.ok_or_else(|| Failure::usage("give --key or --new-key"))?;
    let pem = files::text(&path)?;
    let key = PrivateKey::from_pem(&pem).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    let pool = session.reader().await?;
    if let Some((every, out)) = args.every.zip(args.out) {
        return keep(session, &pool, &key, every, &out).await;
    }
    let progress = Progress::new("checkpoint", LogReader::new(pool.clone()).head().await?.pos);
    let taken = take(&pool, |position| progress.at(position)).await;
    drop(progress);
    let checkpoint = match taken {
        Ok(checkpoint) => checkpoint.ok_or_else(|| Failure::usage("the log is empty: there is nothing to sign"))?,
        Err(projections::Error::Corrupt { position, what }) => return Ok(not_signed(session, position, &what)),
        Err(error) => return Err(error.into()),
    };
    // The document is what is published: one form, with --json or without, and no digest after it there.
    files::print_with_digest(session.json, &serde_json::to_string(&SignedCheckpoint::sign(checkpoint, &key))?)?;
    Ok(Finding::Sound)
}

fn new_key(session: &Session, path: &Path) -> Verdict {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| anyhow::anyhow!("the system gives no random numbers: {error}"))?;
    let key = PrivateKey::from_seed(&seed);
    files::write_secret(path, &key.to_pem()?)?;
    let public = hex::encode(key.public());
    files::print(&if session.json { json!({"public_key": public}).to_string() } else { public })?;
    Ok(Finding::Sound)
}

fn not_signed(session: &Session, position: i64, what: &str) -> Finding {
    outcome::wrong(session.json, position, &format!("{what}; nothing is signed"))
}

/// Signs the log into files of a directory whenever it has grown, until Ctrl-C. A database that is away is asked again at the next turn.
async fn keep(session: &Session, pool: &PgPool, key: &PrivateKey, every: Duration, out: &Path) -> Verdict {
    if !out.is_dir() {
        return Err(Failure::usage(format!("{} is no directory", out.display())));
    }
    let kept = Kept::new(out, key);
    let (mut chain, mut signed) = match begun(&kept, kept.newest()?) {
        Ok(begun) => begun,
        Err((position, why)) => return Ok(not_signed(session, position, &why)),
    };
    let mut turns = tokio::time::interval(every);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let stop = tokio::signal::ctrl_c();
    tokio::pin!(stop);
    loop {
        let turn = async {
            turns.tick().await;
            turn(&mut chain, pool).await
        };
        let taken = tokio::select! {
            // Listened for from the first turn on, also while the database does not answer.
            biased;
            stopped = &mut stop => {
                stopped?;
                return Ok(Finding::Sound);
            }
            taken = turn => taken,
        };
        match taken {
            Ok(Some(checkpoint)) if checkpoint.position > signed => {
                signed = checkpoint.position;
                let Some(file) = kept.add(checkpoint)? else {
                    return Ok(not_signed(session, signed, "there is a file of this position that holds something else"));
                };
                let name = file.display().to_string();
                files::print(&if session.json { json!({"position": signed, "file": name}).to_string() } else { name })?;
            }
            Ok(_) => {}
            Err(Missed::Corrupt(position, what)) => return Ok(not_signed(session, position, &what)),
            Err(Missed::Away(what)) => outcome::tell(session.json, "fault", &format!("{what}; asked again in {} s", every.as_secs())),
        }
    }
}

/// Why a turn gave no checkpoint.
enum Missed {
    /// The log is not what was signed: position and what is wrong there.
    Corrupt(i64, String),
    /// The database does not answer; perhaps next time.
    Away(String),
}

/// One look at the log, given up when nothing more of it comes. A long log may take as long as it takes.
async fn turn(chain: &mut Chain, pool: &PgPool) -> Result<Option<Checkpoint>, Missed> {
    let heard = Cell::new(Instant::now());
    let silence = async {
        while heard.get().elapsed() < MOST_SILENCE {
            tokio::time::sleep_until(heard.get() + MOST_SILENCE).await;
        }
    };
    let taken = tokio::select! {
        taken = chain.take(pool, |_| heard.set(Instant::now())) => taken,
        () = silence => return Err(Missed::Away(format!("the database said nothing for {} s", MOST_SILENCE.as_secs()))),
    };
    match taken {
        Ok(taken) => Ok(taken),
        Err(projections::Error::Corrupt { position, what }) => Err(Missed::Corrupt(position, what)),
        Err(error) => Err(Missed::Away(error.to_string())),
    }
}

/// What an earlier run signed last has to be on the way of this one, or two logs would be signed by one key. The chain with the position
/// that is signed already.
///
/// # Errors
/// The position of the newest file, and why it cannot be gone on from.
fn begun(kept: &Kept<'_>, newest: Option<(i64, PathBuf)>) -> Result<(Chain, i64), (i64, String)> {
    let Some((position, file)) = newest else { return Ok((Chain::default(), 0)) };
    match kept.read(position, &file) {
        Ok(signed) => Ok((Chain::continuing(signed), position)),
        Err(why) => Err((position, format!("{}, which is to be gone on from: {why}", file.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        for (text, seconds) in [("1s", 1), ("30s", 30), ("10m", 600), ("6h", 21_600), ("1d", 86_400)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "s", "10", "0s", "-1s", "1.5h", "1w", "1 h", "99999999999d", "1ü"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
