//! Set-up: schemas, tables, grants, row-level security, checkpoints and views, for every projection. Run by the owner.
//!
//! Repeatable, and safe when two processes do it at once.

use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use crate::{
    error::Error,
    projection::{Projection, TableSpec},
    tables::{self, set_schema},
    visibility,
};

/// One lock for all set-ups of a database. The number only has to be ours.
const SETUP_LOCK: i64 = 0x736d_6172_7470_6f73;

/// Makes what is missing; leaves alone what exists. A new version of a projection gets tables beside the old one's, and
/// the views stay with the old one until its projector
/// has caught up (`read.serve`).
///
/// # Errors
/// `Sql`.
pub async fn install(owner: &PgPool) -> Result<(), Error> {
    let mut tx = owner.begin().await?;
    sqlx::query("select pg_advisory_xact_lock($1)").bind(SETUP_LOCK).execute(&mut *tx).await?;
    for projection in crate::all() {
        let schema = projection.schema();
        install_tables(&mut tx, projection.as_ref(), &schema).await?;
        add_checkpoint(&mut tx, projection.name(), projection.version()).await?;
        // The first version there is serves at once; a later one when its projector has caught up.
        let missing = "select exists (select from unnest($1::text[]) as t (name) where to_regclass('read.' || t.name) is null)";
        let tables: Vec<&str> = projection.tables().iter().map(|table| table.name).collect();
        if sqlx::query_scalar(missing).bind(tables).fetch_one(&mut *tx).await? {
            tables::serve(&mut tx, projection.as_ref(), false).await?;
        }
    }
    Ok(tx.commit().await?)
}

pub(crate) async fn add_checkpoint(connection: &mut PgConnection, name: &str, version: i32) -> Result<(), Error> {
    let sql = "insert into read.checkpoint (name, version, pos) values ($1, $2, 0) on conflict do nothing";
    sqlx::query(sql).bind(name).bind(version).execute(connection).await?;
    Ok(())
}

pub(crate) async fn install_tables(connection: &mut PgConnection, projection: &dyn Projection, schema: &str) -> Result<(), Error> {
    run(connection, format!("create schema if not exists {schema}")).await?;
    run(connection, format!("grant usage on schema {schema} to smartpos_worker, smartpos_app, smartpos_auditor")).await?;
    set_schema(connection, schema).await?;
    for table in projection.tables() {
        // A table comes with its rights in one transaction, so one that exists has them.
        if !exists(connection, schema, table.name).await? {
            create_table(connection, table).await?;
            secure_table(connection, table).await?;
        }
    }
    Ok(())
}

/// A new schema with empty tables that only the worker reaches, and without row-level security, with which nothing can be
/// copied in. [`open_to_readers`] makes it like any other.
pub(crate) async fn install_closed(connection: &mut PgConnection, projection: &dyn Projection, schema: &str) -> Result<(), Error> {
    run(connection, format!("create schema {schema}")).await?;
    run(connection, format!("grant usage on schema {schema} to smartpos_worker")).await?;
    set_schema(connection, schema).await?;
    for table in projection.tables() {
        create_table(connection, table).await?;
    }
    Ok(())
}

/// Drops the indexes of a schema that only readers need, and gives what makes them again: one that is built over a full table costs
/// a fraction of one that grows row by row.
pub(crate) async fn drop_indexes_of_readers(connection: &mut PgConnection, schema: &str) -> Result<Vec<String>, Error> {
    let sql = "select format('%I.%I', $1, c.relname), pg_get_indexdef(c.oid) from pg_index i join pg_class c on c.oid = i.indexrelid \
               where c.relnamespace = $1::regnamespace and not i.indisunique order by c.relname";
    let indexes: Vec<(String, String)> = sqlx::query_as(sql).bind(schema).fetch_all(&mut *connection).await?;
    for (name, _) in &indexes {
        run(connection, format!("drop index {name}")).await?;
    }
    Ok(indexes.into_iter().map(|(_, definition)| definition).collect())
}

/// Makes an index that [`drop_indexes_of_readers`] dropped.
pub(crate) async fn make_index(connection: &mut PgConnection, definition: String) -> Result<(), Error> {
    run(connection, definition).await
}

/// See [`install_closed`].
pub(crate) async fn open_to_readers(connection: &mut PgConnection, projection: &dyn Projection, schema: &str) -> Result<(), Error> {
    set_schema(connection, schema).await?;
    for table in projection.tables() {
        secure_table(connection, table).await?;
    }
    run(connection, format!("grant usage on schema {schema} to smartpos_app, smartpos_auditor")).await
}

async fn create_table(connection: &mut PgConnection, table: &TableSpec) -> Result<(), Error> {
    sqlx::raw_sql(table.create).execute(&mut *connection).await?;
    sqlx::query("select log.few_statistics($1::regclass)").bind(table.name).execute(&mut *connection).await?;
    run(connection, format!("grant select, insert, update, delete on {} to smartpos_worker", table.name)).await
}

async fn secure_table(connection: &mut PgConnection, table: &TableSpec) -> Result<(), Error> {
    let name = table.name;
    for sql in [
        format!("grant select on {name} to smartpos_app, smartpos_auditor"),
        format!("alter table {name} enable row level security"),
        // The owner too: only the roles below have a policy.
        format!("alter table {name} force row level security"),
        format!("create policy worker on {name} to smartpos_worker using (true) with check (true)"),
        format!("create policy app on {name} for select to smartpos_app using ({})", visibility::policy(table.visibility)),
        format!("create policy auditor on {name} for select to smartpos_auditor using (true)"),
    ] {
        run(connection, sql).await?;
    }
    Ok(())
}

async fn exists(connection: &mut PgConnection, schema: &str, relation: &str) -> Result<bool, Error> {
    let sql = "select to_regclass($1) is not null";
    Ok(sqlx::query_scalar(sql).bind(format!("{schema}.{relation}")).fetch_one(connection).await?)
}

/// Names come from constants of this crate, never from input.
async fn run(connection: &mut PgConnection, sql: String) -> Result<(), Error> {
    sqlx::query(AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}
