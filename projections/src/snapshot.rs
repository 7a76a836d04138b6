//! One moment of the database, looked at over several connections.

use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres, Transaction};

use crate::error::Error;

/// A moment, kept as long as its transaction is open.
pub(crate) struct Snapshot {
    /// Keeps the moment; may be read with, too.
    pub keeper: Transaction<'static, Postgres>,
    /// How others join.
    pub name: String,
}

/// Takes the present moment.
pub(crate) async fn take(pool: &PgPool) -> Result<Snapshot, Error> {
    let mut keeper = begin(pool).await?;
    let name = sqlx::query_scalar("select pg_export_snapshot()").fetch_one(&mut *keeper).await?;
    patient(&mut keeper).await?;
    Ok(Snapshot { keeper, name })
}

/// Another connection that sees the moment of this name.
pub(crate) async fn join(pool: &PgPool, name: &str) -> Result<Transaction<'static, Postgres>, Error> {
    let mut tx = begin(pool).await?;
    // The name comes from the database itself.
    sqlx::query(AssertSqlSafe(format!("set transaction snapshot '{name}'"))).execute(&mut *tx).await?;
    patient(&mut tx).await?;
    Ok(tx)
}

async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>, Error> {
    let mut tx = pool.begin().await?;
    sqlx::query("set transaction isolation level repeatable read, read only").execute(&mut *tx).await?;
    Ok(tx)
}

/// Reading a whole log takes what it takes; the limits of a server's pool are not for it.
async fn patient(connection: &mut PgConnection) -> Result<(), Error> {
    for setting in ["statement_timeout", "idle_in_transaction_session_timeout"] {
        sqlx::query("select set_config($1, '0', true)").bind(setting).execute(&mut *connection).await?;
    }
    Ok(())
}
