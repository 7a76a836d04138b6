//! `replay erase`: the one verb that changes something for good.

use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use commands::{
    committer, customers,
    database::{self, Role},
    error::CommandError,
    event_log::PgAppender,
    handle::{Caller, CommandHandler},
    system::{RandomIds, SystemClock},
};
use domain::{
    clock::IdSource as _,
    customer::{Customer, ErasureReason},
    ids::{CustomerId, MerchantId, Ulid},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    outcome::{Failure, Finding, Verdict},
    session::Session,
};

/// Arguments of `erase`.
#[derive(Args)]
#[command(
    after_help = "Example:\n  replay erase cus_01HZY3T5V6W7X8Y9Z0A1B2C3D4 --reason requested --yes\n\nThis cannot be undone. Backups \
                        of the database made before keep the key until they are gone."
)]
pub struct EraseArgs {
    /// Whom: a customer's id, cus_….
    subject: CustomerId,
    /// Why; stored with the fact.
    #[arg(long, value_enum)]
    reason: Reason,
    /// Who asks, stored with the fact as `user:NAME`; letters, digits, '-', '.', '_'.
    #[arg(long, value_name = "NAME", default_value = "replay", value_parser = person)]
    actor: String,
    /// Do it. Without this it is only said what would be done.
    #[arg(long)]
    yes: bool,
}

/// Why a person is forgotten.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Reason {
    /// The person asked for it.
    Requested,
    /// The time for which it may be kept is over.
    RetentionEnded,
    /// It should never have been registered.
    Mistake,
}

impl From<Reason> for ErasureReason {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Requested => Self::Requested,
            Reason::RetentionEnded => Self::RetentionEnded,
            Reason::Mistake => Self::Mistake,
        }
    }
}

fn person(text: &str) -> Result<String, String> {
    let plain = (1..=60).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    if plain { Ok(text.to_owned()) } else { Err("1 to 60 letters, digits, '-', '.', '_'".to_owned()) }
}

/// Destroys a person's key and appends the fact, both in one transaction.
///
/// # Errors
/// `Usage` for a subject that does not exist or without `--yes`; `Fault` when the log does not take the fact.
pub async fn run(session: &Session, args: EraseArgs) -> Verdict {
    let reader = session.reader().await?;
    let tenant: Option<Uuid> = sqlx::query_scalar("select tenant from log.stream_head where stream_type = 'customer' and stream_id = $1")
        .bind(Uuid::from_bytes(args.subject.0.to_bytes()))
        .fetch_optional(&reader)
        .await?;
    let tenant = tenant.ok_or_else(|| Failure::usage(format!("{} does not exist", args.subject)))?;
    let tenant = MerchantId(Ulid::from_bytes(tenant.into_bytes()));
    if !args.yes {
        return Err(Failure::usage(format!("this destroys the key of {} of {tenant} for ever; say --yes to do it", args.subject)));
    }
    let (handler, stop, committer) = write_side(session)?;
    let caller = Caller {
        tenant,
        actor: format!("user:{}", args.actor),
        device: None,
        operation: None,
        correlation_id: RandomIds.next(),
        idempotency: None,
        if_match: None,
    };
    let (subject, reason) = (args.subject, ErasureReason::from(args.reason));
    let erased = handler
        .transact(&caller, |unit| {
            Box::pin(async move {
                customers::erase(unit, subject, reason).await?;
                unit.reply::<Customer>(200, subject, &subject)
            })
        })
        .await;
    stop.cancel();
    committer.await?;
    let erased = erased.map_err(|error| match error {
        CommandError::Rejected(rejected) => Failure::usage(rejected.message),
        error @ (CommandError::StaleVersion { .. }
        | CommandError::Conflict
        | CommandError::KeyReused { .. }
        | CommandError::Unavailable(_)
        | CommandError::Overloaded
        | CommandError::OutcomeUnknown
        | CommandError::Fault(_)
        | CommandError::Corrupt { .. }) => Failure::Fault(error.into()),
    })?;
    let mut answer = session.answer();
    let text = match erased.position {
        Some(position) => format!("{subject} is erased: position {position}, version {}", erased.version),
        None => format!("{subject} was erased before, version {}", erased.version),
    };
    let line = json!({"subject": subject, "tenant": tenant, "position": erased.position, "version": erased.version});
    answer.line(&line, &text)?;
    answer.finish()?;
    Ok(Finding::Sound)
}

/// The one append path of the platform, for one command.
fn write_side(session: &Session) -> Result<(CommandHandler, CancellationToken, tokio::task::JoinHandle<()>), Failure> {
    let url = session.database_url()?;
    let options = database::options(url, Role::App).context("the database URL is not one")?;
    let pool = database::pool(url, Role::App, 2)?;
    let stop = CancellationToken::new();
    let (committer, task) = committer::spawn(PgAppender::new(options), committer::News::default(), stop.clone());
    Ok((CommandHandler::new(pool, committer, Arc::new(SystemClock), Arc::new(RandomIds)), stop, task))
}
