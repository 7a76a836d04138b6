//! Call-backs about a payment that had no effect: they did not prove their sender, or wait until somebody knows what they name.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use domain::{event::DomainEvent, payment_intent::Event, provider::masking};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::{error::Error, trail::Step};

/// A call-back as it was stored.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct CallBackRow {
    /// The account that it came to: `pac_…`, or the provider's name for the platform's own.
    pub account: String,
    /// `parked` or `refused`.
    pub state: String,
    /// What its signature proved: `ok`, `bad`, `stale` or `malformed`.
    pub signature: String,
    /// Why it was refused.
    pub problem: Option<String>,
    /// When it came (UTC).
    pub received_at: DateTime<Utc>,
    /// What it said, as it came. Of a refused one anybody may have written it.
    body: Vec<u8>,
    reference: Option<String>,
    provider_id: Option<String>,
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

    /// A refused one names nothing that is believed: that our name for the payment stands in it is why it is shown.
    fn names_one_of(&self, names: &BTreeSet<String>) -> bool {
        let named = [&self.reference, &self.provider_id].into_iter().flatten().any(|name| names.contains(name));
        let holds = |name: &String| self.body.windows(name.len().max(1)).any(|window| window == name.as_bytes());
        named || (self.state == "refused" && names.iter().any(holds))
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
    let (accounts, providers): (Vec<_>, Vec<_>) = (accounts.into_iter().collect(), providers.into_iter().collect());
    let sql = "select account, state, signature, problem, received_at, body, reference, provider_id from process.webhook \
               where state = 'refused' and account = any($1) \
               union all \
               select account, state, signature, problem, received_at, body, reference, provider_id from process.webhook \
               where state = 'parked' and provider = any($2) and account = any($1)";
    let found: Vec<CallBackRow> = sqlx::query_as(sql).bind(accounts).bind(providers).fetch_all(pool).await?;
    Ok(found.into_iter().filter(|row| row.names_one_of(&names)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(state: &str, body: &str, reference: Option<&str>) -> CallBackRow {
        CallBackRow {
            account: "scb".to_owned(),
            state: state.to_owned(),
            signature: "bad".to_owned(),
            problem: None,
            received_at: DateTime::UNIX_EPOCH,
            body: body.as_bytes().to_vec(),
            reference: reference.map(str::to_owned),
            provider_id: None,
        }
    }

    #[test]
    fn a_call_back_is_about_a_payment_whose_name_it_has() {
        let names = BTreeSet::from(["REF1".to_owned()]);
        assert!(row("parked", "", Some("REF1")).names_one_of(&names));
        assert!(!row("parked", "REF1", Some("REF2")).names_one_of(&names), "what proved its sender names what it names");
        assert!(row("refused", r#"{"ref":"REF1"}"#, None).names_one_of(&names));
        assert!(!row("refused", r#"{"ref":"REF2"}"#, None).names_one_of(&names));
        assert!(!row("refused", "", None).names_one_of(&names));
    }
}
