//! Installed versions of a projection side by side, for `diff`.
//!
//! Only the version in service is folded on. One that stands still (an earlier build's, or the copy that a rebuild retired) is compared
//! with this build's own, folded in memory up to where the other stands.

use std::sync::Arc;

use projections::{
    Projection,
    check::HaltedStream,
    past::{Past, Table, as_installed, installed},
};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use crate::{
    as_of::position,
    diff::Sides,
    outcome::Failure,
    progress::Progress,
    rows::{Filters, Model},
};

/// An installed version of a projection.
pub struct Version {
    schema: String,
    name: String,
    position: i64,
}

impl Version {
    /// The installed version with this name, such as `orders_v2` or `orders_v3_retired`, if it is one. A copy that a rebuild is making is
    /// none yet.
    ///
    /// # Errors
    /// `Fault`.
    pub async fn named(connection: &mut PgConnection, text: &str) -> Result<Option<Self>, Failure> {
        let sql = "with known as (select split_part(name, '#', 1) as name, version, pos, \
                       case when name like '%#retired' then '_retired' else '' end as suffix \
                       from read.checkpoint where name not like '%#%' or name like '%#retired') \
                   select name, pos from known where name || '_v' || version || suffix = $1";
        let row = sqlx::query(sql).bind(text).fetch_optional(connection).await?;
        row.map(|row| Ok(Self { schema: text.to_owned(), name: row.try_get(0)?, position: row.try_get(1)? })).transpose()
    }

    /// Whether the table is there: one that only one version has is empty in the other.
    async fn has(&self, connection: &mut PgConnection, model: &Model) -> Result<bool, Failure> {
        let sql = "select to_regclass(format('%I.%I', $1, $2)) is not null";
        Ok(sqlx::query_scalar(sql).bind(&self.schema).bind(model.table.name).fetch_one(connection).await?)
    }

    /// The rows of the tables, in their order.
    async fn installed(&self, connection: &mut PgConnection, models: &[&Model]) -> Result<Vec<Table>, Failure> {
        let (mut there, mut rows) = (Vec::with_capacity(models.len()), 0_i64);
        for model in models {
            let has = self.has(connection, model).await?;
            if has {
                let sql = AssertSqlSafe(format!("select count(*) from \"{}\".\"{}\"", self.schema, model.table.name));
                let count: i64 = sqlx::query_scalar(sql).fetch_one(&mut *connection).await?;
                rows = rows.saturating_add(count);
            }
            there.push(has);
        }
        let progress = Progress::new("rows", rows);
        let mut tables = Vec::with_capacity(models.len());
        for (model, has) in models.iter().zip(there) {
            let read = || progress.more(1);
            tables.push(if has { installed(connection, &self.schema, model.table.name, read).await? } else { Table::new() });
        }
        Ok(tables)
    }

    /// The rows that the tables had at another position, in their order, and the streams that were left out; of this build's own version
    /// only.
    async fn folded_to(
        &self,
        connection: &mut PgConnection,
        (models, filters): (&[&Model], &Filters),
        projection: &dyn Projection,
        wanted: i64,
    ) -> Result<(Vec<Table>, Vec<HaltedStream>), Failure> {
        // The log may have been restored to before it.
        let wanted = position(connection, &wanted.to_string()).await?;
        let progress = Progress::new("fold", wanted);
        let mut past = Past::begin(connection, projection, filters.tenant()).await?;
        past.go_to(connection, wanted, |position| progress.at(position)).await?;
        let mut tables = Vec::with_capacity(models.len());
        for model in models {
            tables.push(as_installed(connection, &self.schema, model.table.name, past.table(&model.table)?).await?);
        }
        Ok((tables, past.left_out()))
    }
}

/// The tables of two versions of one projection, at the same position.
///
/// # Errors
/// `Usage` for versions of two projections, tables and columns that do not exist, and versions that stand apart while neither is this build's
/// own; `Fault`.
pub async fn side_by_side(
    connection: &mut PgConnection,
    models: &[Model],
    filters: &Filters,
    before: &Version,
    after: &Version,
) -> Result<Sides, Failure> {
    if before.name != after.name {
        return Err(Failure::usage(format!("{} and {} are not versions of one projection", before.schema, after.schema)));
    }
    let of_it: Vec<&Model> = models.iter().filter(|model| model.projection.name() == before.name).collect();
    let Some(projection) = of_it.first().map(|model| Arc::clone(&model.projection)) else {
        return Err(Failure::usage(format!("{} has no such table", before.schema)));
    };
    for version in [before, after] {
        for model in &of_it {
            filters.check(connection, &version.schema, model.table.name).await?;
        }
    }
    let (asked, own) = ((of_it.as_slice(), filters), projection.schema());
    let (first, second, folded) = if before.position == after.position {
        (before.installed(connection, &of_it).await?, after.installed(connection, &of_it).await?, None)
    } else if after.schema == own {
        let (tables, left_out) = after.folded_to(connection, asked, projection.as_ref(), before.position).await?;
        (before.installed(connection, &of_it).await?, tables, Some((before.position, left_out)))
    } else if before.schema == own {
        let (tables, left_out) = before.folded_to(connection, asked, projection.as_ref(), after.position).await?;
        (tables, after.installed(connection, &of_it).await?, Some((after.position, left_out)))
    } else {
        let places = format!("{} stands at position {}, {} at {}", before.schema, before.position, after.schema, after.position);
        return Err(Failure::usage(format!("{places}: only {own}, which is this build's, can be compared with one that stands elsewhere")));
    };
    let (folded_to, left_out) = folded.unzip();
    let left_out = vec![(projection.name(), left_out.unwrap_or_default())];
    let tables = of_it.iter().zip(first).zip(second).map(|((model, first), second)| (model.table.name, first, second)).collect();
    Ok(Sides { names: json!([before.schema, after.schema]), folded_to, left_out, tables })
}
