//! What was said to and heard from providers, kept so that a payment can be explained later. Masked by the connectors.

use domain::provider::Exchange;
use sqlx::PgPool;

use crate::{event_store::uuid_of, process_store::Said};

/// Keeps the exchanges of some calls.
///
/// # Errors
/// The driver's.
pub async fn store(pool: &PgPool, said: &[Said]) -> Result<(), sqlx::Error> {
    let each: Vec<_> = said.iter().flat_map(|said| said.exchanges.iter().map(move |exchange| (said, exchange))).collect();
    if each.is_empty() {
        return Ok(());
    }
    sqlx::query(include_str!("sql/store_exchange.sql"))
        .bind(column(&each, |(said, _)| uuid_of(said.tenant)))
        .bind(column(&each, |(said, _)| said.subject.as_str()))
        .bind(column(&each, |(said, _)| said.provider.as_str()))
        .bind(column(&each, |(_, exchange)| exchange.operation))
        .bind(column(&each, |(_, exchange)| exchange.request_line.as_str()))
        .bind(column(&each, |(_, exchange)| exchange.request_body.as_str()))
        .bind(column(&each, |(_, exchange)| exchange.status.map(i32::from)))
        .bind(column(&each, |(_, exchange)| exchange.response_body.as_str()))
        .bind(column(&each, |(_, exchange)| exchange.sent_at))
        .bind(column(&each, |(_, exchange)| exchange.took_ms))
        .bind(column(&each, |(said, _)| said.again))
        .execute(pool)
        .await
        .map(drop)
}

fn column<'a, T>(each: &[(&'a Said, &'a Exchange)], of: impl FnMut((&'a Said, &'a Exchange)) -> T) -> Vec<T> {
    each.iter().copied().map(of).collect()
}
