//! Reconciliation while somebody waits: over a bounded part of the log, and in turn with the folds of whole tenants.

use std::io;

use chrono::TimeDelta;
use domain::{
    ids::{MerchantId, ProviderAccountId},
    reconciliation::{Listed, Period},
};
use sqlx::PgPool;

use super::{Account, Bounds, Failure, Question, Reconciled, answer};
use crate::{
    as_of::{MOST_ROWS, WAIT_FOR_A_TURN, too_slow},
    error::Error,
    queries::{ReadModels, ReadScope},
};

/// A hold is captured, and late money comes, within a month; a list that is handed in late names what is older still.
const BOUNDS: Bounds = Bounds { around: TimeDelta::days(62), movements: MOST_ROWS };

impl ReadModels {
    /// The same as [`answer`], up to the end of the log and of what was begun within 62 days of the period. `log`: a role that is a member of
    /// `smartpos_auditor` or `smartpos_worker`; `account`: one of that merchant's.
    ///
    /// # Errors
    /// Any [`Failure`]; of the log `Busy` without a turn, `TooMuch` for more time or movements than one question may take, `Sql`, `Corrupt`.
    pub async fn reconcile(
        &self,
        log: &PgPool,
        (tenant, account): (MerchantId, ProviderAccountId),
        period: Period,
        list: Vec<Listed>,
    ) -> Result<Reconciled, Failure> {
        let scope = ReadScope { tenant: Some(tenant), ..ReadScope::default() };
        let turn = self.turns.take(&scope, WAIT_FOR_A_TURN).await.ok_or(Error::Busy)?;
        let question = Question { account: Account::Merchants(account), period, until: None, bounds: Some(BOUNDS) };
        let log = log.clone();
        // A task of its own: it goes on when whoever asked is gone, and so long it keeps the turn. People who ask and hang up cannot
        // start more of it than there are turns.
        let work = tokio::spawn(async move {
            let answered = answer(&log, &question, &list, |_, _| {}).await;
            drop(turn);
            answered
        });
        let answered = work.await.map_err(|error| sqlx::Error::from(io::Error::from(error)))?;
        answered.map_err(|failure| match failure {
            Failure::Log(error) => Failure::Log(too_slow(error)),
            other @ (Failure::NoSuchAccount(_) | Failure::Sum(_)) => other,
        })
    }
}
