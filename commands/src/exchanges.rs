//! What was said to and heard from providers, kept so that a payment can be explained later. Masked by the connectors.

use domain::provider::Exchange;
use sqlx::PgPool;

use crate::{event_store::uuid_of, process_store::Said};

/// Keeps the exchanges of some calls.
///
/// # Errors
/// The driver's.
pub async fn store(pool: &PgPool, said: &[Said]) -> Result<(), sqlx::Error> {
    let mut each = Vec::new();
    for said in said {
        for exchange in &said.exchanges {
            if !(said.again && is_kept(pool, said, exchange).await?) {
                each.push((said, exchange));
            }
        }
    }
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
        .execute(pool)
        .await
        .map(drop)
}

/// Whether an earlier try kept it although that was not heard of.
async fn is_kept(pool: &PgPool, said: &Said, exchange: &Exchange) -> Result<bool, sqlx::Error> {
    let sql = "select exists (select from gateway.exchange where tenant = $1 and subject = $2 and operation = $3 and sent_at = $4)";
    let asked = sqlx::query_scalar(sql).bind(uuid_of(said.tenant)).bind(&said.subject).bind(exchange.operation).bind(exchange.sent_at);
    asked.fetch_one(pool).await
}

fn column<'a, T>(each: &[(&'a Said, &'a Exchange)], of: impl FnMut((&'a Said, &'a Exchange)) -> T) -> Vec<T> {
    each.iter().copied().map(of).collect()
}
