//! Call-backs about a payment that had no effect: they did not prove their sender, or wait until somebody knows what they name.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use domain::{event::DomainEvent, payment_intent::Event, provider::masking};
use serde_json::{Value, json};
use sqlx::{FromRow, PgPool, Row, postgres::PgRow};

use crate::{error::Error, trail::Step};

/// The newest of them that are shown.
const MOST: i64 = 50;

/// A call-back as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallBackRow {
    /// The account that it came to: `pac_…`, or the provider's name for the platform's own.
    pub account: String,
    /// `parked` or `refused`.
    pub state: String,
    /// What its signature proved: `ok`, `bad`, `stale`; `malformed` of old ones that could not be read.
    pub signature: String,
    /// Why it was refused, or could not be read.
    pub problem: Option<String>,
    /// When it came (UTC).
    pub received_at: DateTime<Utc>,
    /// What it said, as it came. Of a refused one anybody may have written it.
    body: Vec<u8>,
}

impl FromRow<'_, PgRow> for CallBackRow {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            account: row.try_get("account")?,
            state: row.try_get("state")?,
            signature: row.try_get("signature")?,
            problem: row.try_get("problem")?,
            received_at: row.try_get("received_at")?,
            body: row.try_get("body")?,
        })
    }
}

impl CallBackRow {
    /// What it said, with names and numbers of persons masked.
    pub fn said(&self) -> String {
        masking::json(&self.body, masking::is_private)
    }

    pub(super) fn value(&self) -> Value {
        json!({
            "kind": "call_back",
            "at": self.received_at,
            "account": self.account,
            "state": self.state,
            "signature": self.signature,
            "problem": self.problem,
            "received": self.said(),
        })
    }
}

/// Those that name an attempt of these steps. Of refused ones the newest few of each account are kept.
pub(super) async fn without_effect(pool: &PgPool, steps: &[Step]) -> Result<Vec<CallBackRow>, Error> {
    let (mut providers, mut accounts, mut names) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for step in steps {
        match DomainEvent::decode(&step.event) {
            Ok(DomainEvent::PaymentIntent(Event::AttemptStarted(started))) => {
                accounts.insert(started.account().to_owned());
                providers.insert(started.provider.clone());
                names.insert(started.reference);
            }
            Ok(DomainEvent::PaymentIntent(Event::AttemptAccepted(accepted))) => _ = names.insert(accepted.provider_id),
            Ok(_) | Err(_) => {}
        }
    }
    names.remove("");
    let [accounts, providers, names] = [accounts, providers, names].map(|set| set.into_iter().collect::<Vec<String>>());
    // A refused one names nothing that is believed, one that could not be read nothing at all: that our name for the payment stands in it is
    // why it is shown.
    let sql = "select id, account, state, signature, problem, received_at, body from process.webhook w \
               where (state = 'refused' or state = 'parked' and problem is not null) and account = any($1) \
                 and exists (select from unnest($3::text[]) n where position(convert_to(n, 'UTF8') in w.body) > 0) \
               union all \
               select id, account, state, signature, problem, received_at, body from process.webhook \
               where state = 'parked' and problem is null and provider = any($2) and account = any($1) and (reference = any($3) or provider_id = any($3)) \
               order by received_at desc, id limit $4";
    Ok(sqlx::query_as(sql).bind(accounts).bind(providers).bind(names).bind(MOST).fetch_all(pool).await?)
}
