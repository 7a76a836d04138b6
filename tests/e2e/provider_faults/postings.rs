//! I12: the postings of the log balance, and what they say a provider holds for the merchant is what its own books say.

use std::collections::BTreeMap;

use domain::{
    event::{AggregateEvent as _, DomainEvent},
    ids::Ulid,
    money::Currency,
    payment_intent,
    postings::{Account, Balances, Journal},
    refund,
};
use sqlx::PgPool;
use uuid::Uuid;

/// What the provider holds (payments less refunds, by currency, without zeros) = its clearing account here, and no refund is told by its
/// payment alone or by itself alone.
///
/// # Errors
/// What does not balance, or cannot be read.
pub async fn clearing_holds_what_the_provider_does(
    pool: &PgPool,
    tenant: Uuid,
    account: &str,
    theirs: &BTreeMap<String, i128>,
) -> Result<(), String> {
    let (balances, clearing) = (posted(pool, tenant).await?, Account::ProviderClearing(account.to_owned()));
    let ours = come_to(&balances, &clearing);
    if ours != *theirs {
        return Err(format!("I12: {clearing} comes to {ours:?}, and the provider holds {theirs:?}"));
    }
    let half_told = come_to(&balances, &Account::RefundPayable);
    if half_told.is_empty() { Ok(()) } else { Err(format!("I12: {} comes to {half_told:?}", Account::RefundPayable)) }
}

/// What an account comes to in each currency, without zeros.
fn come_to(balances: &Balances, wanted: &Account) -> BTreeMap<String, i128> {
    let its = balances.all().filter(|(account, _, balance)| *account == wanted && *balance != 0);
    its.map(|(_, currency, balance)| (currency.code().to_owned(), balance)).collect()
}

/// The postings of a merchant's log, each event's looked at by itself.
async fn posted(pool: &PgPool, tenant: Uuid) -> Result<Balances, String> {
    let sql = "select stream_type, stream_id, type, schema_version, payload from log.event
               where tenant = $1 and stream_type in ('payment_intent', 'refund') order by pos";
    let events: Vec<(String, Uuid, String, i16, Vec<u8>)> =
        sqlx::query_as(sql).bind(tenant).fetch_all(pool).await.map_err(|error| error.to_string())?;
    let (mut journal, mut balances) = (Journal::default(), Balances::default());
    for (stream, id, kind, version, payload) in events {
        let event = match stream.as_str() {
            "refund" => refund::Event::decode(&kind, version, &payload).map(DomainEvent::Refund),
            _ => payment_intent::Event::decode(&kind, version, &payload).map(DomainEvent::PaymentIntent),
        };
        let event = event.map_err(|error| error.to_string())?;
        let postings = journal.post(Ulid::from_bytes(id.into_bytes()), &event).map_err(|error| format!("I12: {kind} of {id}: {error}"))?;
        let mut sums: BTreeMap<Currency, i128> = BTreeMap::new();
        for posting in &postings {
            *sums.entry(posting.amount.currency).or_default() += i128::from(posting.amount.amount);
        }
        if sums.values().any(|sum| *sum != 0) {
            return Err(format!("I12: {kind} of {id} does not balance: {postings:?}"));
        }
        balances.add(&postings);
    }
    Ok(balances)
}
