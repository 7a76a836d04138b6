//! `replay diff`.

use std::sync::Arc;

use clap::Args;
use projections::{
    Projection,
    past::{Difference, Past, Table, differences, installed},
};
use serde_json::{Map, Value, json};
use sqlx::{PgConnection, Row as _};

use crate::{
    answer::Answer,
    as_of::position,
    outcome::{Failure, Finding, Verdict},
    progress::Progress,
    rows::{Filter, Filters, Model, column, shown},
    session::Session,
};

/// Arguments of `diff`.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  replay diff 1200 1300\n  replay diff 2026-11-24T00:00:00+07:00 2026-11-25T00:00:00+07:00 daily_sales\n  \
                  replay diff 1200 1300 orders status=cancelled\n  replay diff orders_v1 orders_v2 orders"
)]
pub struct DiffArgs {
    /// A log position, an RFC 3339 time with its offset, or an installed version of a projection such as orders_v1.
    before: String,
    /// The same kind of thing, to compare with.
    after: String,
    /// The table of a read model; all of them unless told.
    model: Option<String>,
    /// Only rows that have this value in this column, before or after, as `column=value`; all of several. Amounts are in minor units here,
    /// as --json has them.
    #[arg(value_name = "COLUMN=VALUE")]
    filters: Vec<Filter>,
}

/// Rows of some tables before and after.
struct Sides {
    /// What is named before and after, for the last line.
    names: Value,
    tables: Vec<(&'static str, Table, Table)>,
}

/// Shows what differs in the read models between two moments or two installed versions, table by table, in the order of the keys.
///
/// # Errors
/// `Usage` for moments, versions, models and columns that do not exist; `Fault` when the database cannot be read.
pub async fn run(session: &Session, args: DiffArgs) -> Verdict {
    let models = match &args.model {
        Some(name) => vec![Model::named(name)?],
        None => Model::all(),
    };
    let filters = Filters(args.filters);
    let pool = session.reader().await?;
    let mut tx = pool.begin().await?;
    sqlx::query("set transaction isolation level repeatable read, read only").execute(&mut *tx).await?;
    let versions = (version(&mut tx, &args.before).await?, version(&mut tx, &args.after).await?);
    let sides = match versions {
        (Some(before), Some(after)) => of_versions(&mut tx, &models, &filters, &before, &after).await?,
        (None, None) => {
            let (before, after) = (position(&mut tx, &args.before).await?, position(&mut tx, &args.after).await?);
            of_moments(&mut tx, &models, &filters, before, after).await?
        }
        (Some(_), None) | (None, Some(_)) => return Err(Failure::usage("a moment cannot be compared with an installed version")),
    };
    answer(session.answer(), &filters, sides)
}

fn answer(mut answer: Answer, filters: &Filters, sides: Sides) -> Verdict {
    let [mut added, mut removed, mut changed] = [0_u64; 3];
    for (table, before, after) in sides.tables {
        for (key, difference) in differences(&before, &after) {
            if ![before.get(&key), after.get(&key)].into_iter().flatten().any(|row| filters.hold(row)) {
                continue;
            }
            let (line, text) = match difference {
                Difference::Added(row) => {
                    added += 1;
                    (json!({"read_model": table, "key": key, "added": row}), format!("+ {table} {key}  {}", shown(&row)))
                }
                Difference::Removed(row) => {
                    removed += 1;
                    (json!({"read_model": table, "key": key, "removed": row}), format!("- {table} {key}  {}", shown(&row)))
                }
                Difference::Changed(fields) => {
                    changed += 1;
                    let (old, new) = (before.get(&key).unwrap_or(&Value::Null), after.get(&key).unwrap_or(&Value::Null));
                    let field = |(name, was, is): &(String, Value, Value)| {
                        format!("{name} {} -> {}", column(old, name, was), column(new, name, is))
                    };
                    let told: Vec<String> = fields.iter().map(field).collect();
                    let fields: Map<String, Value> =
                        fields.into_iter().map(|(name, was, is)| (name, json!({"before": was, "after": is}))).collect();
                    (json!({"read_model": table, "key": key, "changed": fields}), format!("~ {table} {key}  {}", told.join(", ")))
                }
            };
            answer.line(&line, &text)?;
        }
    }
    let line = json!({"between": sides.names, "added": added, "removed": removed, "changed": changed});
    answer.line(&line, &format!("{added} added, {removed} removed, {changed} changed"))?;
    answer.finish()?;
    Ok(Finding::Sound)
}

/// Folds each projection once, to the earlier moment and on to the later.
async fn of_moments(connection: &mut PgConnection, models: &[Model], filters: &Filters, before: i64, after: i64) -> Result<Sides, Failure> {
    let (early, late) = (before.min(after), before.max(after));
    let mut tables = Vec::new();
    for projection in projections_of(models) {
        let of_it: Vec<&Model> = models.iter().filter(|model| model.projection.name() == projection.name()).collect();
        for model in &of_it {
            filters.check(connection, &model.schema(), model.table.name).await?;
        }
        let progress = Progress::new("fold", late);
        let mut past = Past::begin(connection, projection.as_ref(), filters.tenant()).await?;
        past.go_to(connection, early, |position| progress.at(position)).await?;
        let first = of_it.iter().map(|model| past.table(&model.table)).collect::<Result<Vec<_>, _>>()?;
        past.go_to(connection, late, |position| progress.at(position)).await?;
        for (model, first) in of_it.iter().zip(first) {
            let second = past.table(&model.table)?;
            let (first, second) = if before <= after { (first, second) } else { (second, first) };
            tables.push((model.table.name, first, second));
        }
    }
    Ok(Sides { names: json!([before, after]), tables })
}

fn projections_of(models: &[Model]) -> Vec<Arc<dyn Projection>> {
    projections::all().into_iter().filter(|projection| models.iter().any(|model| model.projection.name() == projection.name())).collect()
}

/// An installed version of a projection.
struct Version {
    schema: String,
    name: String,
    position: i64,
}

/// The installed version with this name, if it is one.
async fn version(connection: &mut PgConnection, text: &str) -> Result<Option<Version>, Failure> {
    let sql = "select name, pos from read.checkpoint where name || '_v' || version = $1";
    let row = sqlx::query(sql).bind(text).fetch_optional(connection).await?;
    row.map(|row| Ok(Version { schema: text.to_owned(), name: row.try_get(0)?, position: row.try_get(1)? })).transpose()
}

async fn of_versions(
    connection: &mut PgConnection,
    models: &[Model],
    filters: &Filters,
    before: &Version,
    after: &Version,
) -> Result<Sides, Failure> {
    if before.name != after.name {
        return Err(Failure::usage(format!("{} and {} are not versions of one projection", before.schema, after.schema)));
    }
    if before.position != after.position {
        let places = format!("{} stands at position {}, {} at {}", before.schema, before.position, after.schema, after.position);
        return Err(Failure::usage(format!("{places}: they can be compared once both stand at the same")));
    }
    let of_it: Vec<&Model> = models.iter().filter(|model| model.projection.name() == before.name).collect();
    if of_it.is_empty() {
        return Err(Failure::usage(format!("{} has no such table", before.schema)));
    }
    let mut tables = Vec::new();
    for model in of_it {
        let mut sides = Vec::with_capacity(2);
        for schema in [&before.schema, &after.schema] {
            filters.check(connection, schema, model.table.name).await?;
            // A table that only one version has is empty in the other.
            let there: bool = sqlx::query_scalar("select to_regclass(format('%I.%I', $1, $2)) is not null")
                .bind(schema)
                .bind(model.table.name)
                .fetch_one(&mut *connection)
                .await?;
            sides.push(if there { installed(connection, schema, model.table.name).await? } else { Table::new() });
        }
        let (second, first) = (sides.pop().unwrap_or_default(), sides.pop().unwrap_or_default());
        tables.push((model.table.name, first, second));
    }
    Ok(Sides { names: json!([before.schema, after.schema]), tables })
}
