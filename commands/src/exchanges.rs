//! What was said to and heard from providers, kept so that a payment can be explained later. Masked by the connectors.

use domain::{ids::MerchantId, provider::Exchange};
use sqlx::PgPool;

use crate::event_store::uuid_of;

/// Keeps the exchanges of one call. `subject`: the attempt (`att_…`) or refund that it was about.
///
/// # Errors
/// The driver's.
pub async fn store(pool: &PgPool, tenant: MerchantId, subject: &str, provider: &str, exchanges: &[Exchange]) -> Result<(), sqlx::Error> {
    if exchanges.is_empty() {
        return Ok(());
    }
    sqlx::query(include_str!("sql/store_exchange.sql"))
        .bind(uuid_of(tenant))
        .bind(subject)
        .bind(provider)
        .bind(column(exchanges, |exchange| exchange.operation))
        .bind(column(exchanges, |exchange| exchange.request_line.as_str()))
        .bind(column(exchanges, |exchange| exchange.request_body.as_str()))
        .bind(column(exchanges, |exchange| exchange.status.map(i32::from)))
        .bind(column(exchanges, |exchange| exchange.response_body.as_str()))
        .bind(column(exchanges, |exchange| exchange.sent_at))
        .bind(column(exchanges, |exchange| exchange.took_ms))
        .execute(pool)
        .await
        .map(drop)
}

fn column<'a, T>(exchanges: &'a [Exchange], of: impl FnMut(&'a Exchange) -> T) -> Vec<T> {
    exchanges.iter().map(of).collect()
}
