//! What was said to and heard from providers, kept so that a payment can be explained later. Masked by the connectors.

use domain::{ids::MerchantId, provider::Exchange};
use sqlx::PgPool;

use crate::event_store::uuid_of;

/// Keeps the exchanges of one call. `subject`: the attempt (`att_…`) or refund that it was about.
///
/// # Errors
/// The driver's.
pub async fn store(pool: &PgPool, tenant: MerchantId, subject: &str, provider: &str, exchanges: &[Exchange]) -> Result<(), sqlx::Error> {
    for exchange in exchanges {
        sqlx::query(include_str!("sql/store_exchange.sql"))
            .bind(uuid_of(tenant))
            .bind(subject)
            .bind(provider)
            .bind(exchange.operation)
            .bind(&exchange.request_line)
            .bind(&exchange.request_body)
            .bind(exchange.status.map(i32::from))
            .bind(&exchange.response_body)
            .bind(exchange.sent_at)
            .bind(exchange.took_ms)
            .execute(pool)
            .await?;
    }
    Ok(())
}
