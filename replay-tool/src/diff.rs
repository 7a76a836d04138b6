//! `replay diff`.

use std::sync::Arc;

use clap::Args;
use projections::{
    Projection,
    check::HaltedStream,
    past::{Difference, Past, Table, differences},
    rebuild,
};
use serde_json::{Map, Value, json};
use sqlx::{Connection as _, PgConnection};

use crate::{
    answer::Answer,
    as_of::{position, tell_left_out},
    outcome::{Failure, Finding, Verdict},
    progress::Progress,
    rows::{Filter, Filters, Model, column, shown},
    session::Session,
    versions::{Version, side_by_side},
};

/// Arguments of `diff`.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  replay diff 1200 1300\n  replay diff 2026-11-24T00:00:00+07:00 2026-11-25T00:00:00+07:00 daily_sales\n  \
                  replay diff 1200 1300 orders status=cancelled\n  replay diff orders_v2 orders_v3 orders\n  \
                  replay diff orders_v3_retired orders_v3\n\n\
                  A version that is no longer in service stands still, and so does the copy that the last rebuild retired. It is compared with this\n\
                  build's own version as that was at the same position, folded from the log in memory. What compares versions waits\n\
                  for a rebuild of the model, and no rebuild of it begins meanwhile.\n\n\
                  Of what is folded, a stream that the read model halted at is left out from there on, and named."
)]
pub struct DiffArgs {
    /// A log position, an RFC 3339 time with its offset, or an installed version of a projection such as orders_v2 or orders_v3_retired.
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
pub struct Sides {
    /// What is named before and after, for the last line.
    pub names: Value,
    /// Where both stand, when this build's version was folded to the place of the other.
    pub folded_to: Option<i64>,
    /// The streams that a fold left out, by its projection.
    pub left_out: Vec<(&'static str, Vec<HaltedStream>)>,
    /// The tables, in the order of the answer.
    pub tables: Vec<(&'static str, Table, Table)>,
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
    // Closed rather than kept should this end early: with the connection, the lock is given back.
    let mut connection = pool.acquire().await?;
    connection.close_on_drop();
    // Before the transaction, whose moment must not be older than the names of versions.
    let switching = projection_of(&args.before);
    if let Some(projection) = &switching {
        rebuild::hold_off(&mut connection, projection.as_ref()).await?;
    }
    let sides = both(&mut connection, &models, &filters, &args.before, &args.after).await;
    if let Some(projection) = &switching {
        rebuild::let_go(&mut connection, projection.as_ref()).await?;
    }
    // Whoever reads the answer at leisure holds nothing in the database.
    answer(session.answer(), &filters, sides?)
}

/// The projection whose version a word on the command line names; none for a moment.
fn projection_of(text: &str) -> Option<Arc<dyn Projection>> {
    let named = |name: &str| text.strip_prefix(name).is_some_and(|rest| rest.starts_with("_v"));
    projections::all().into_iter().find(|projection| named(projection.name()))
}

/// Both sides, at one moment of the database.
async fn both(connection: &mut PgConnection, models: &[Model], filters: &Filters, before: &str, after: &str) -> Result<Sides, Failure> {
    let mut tx = connection.begin().await?;
    sqlx::query("set transaction isolation level repeatable read, read only").execute(&mut *tx).await?;
    let versions = (Version::named(&mut tx, before).await?, Version::named(&mut tx, after).await?);
    let sides = match versions {
        (Some(before), Some(after)) => side_by_side(&mut tx, models, filters, &before, &after).await?,
        (None, None) => {
            let (before, after) = (position(&mut tx, before).await?, position(&mut tx, after).await?);
            of_moments(&mut tx, models, filters, before, after).await?
        }
        (Some(_), None) | (None, Some(_)) => return Err(Failure::usage("a moment cannot be compared with an installed version")),
    };
    tx.commit().await?;
    Ok(sides)
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
    for (model, streams) in &sides.left_out {
        tell_left_out(&mut answer, model, streams)?;
    }
    let (mut line, mut text) = (
        json!({"between": sides.names, "added": added, "removed": removed, "changed": changed}),
        format!("{added} added, {removed} removed, {changed} changed"),
    );
    if let Some((position, fields)) = sides.folded_to.zip(line.as_object_mut()) {
        fields.insert("folded_to".to_owned(), json!(position));
        let place = format!("; this build's version folded to position {position}, where the other stands");
        text.push_str(&place);
    }
    answer.line(&line, &text)?;
    answer.finish()?;
    Ok(Finding::Sound)
}

/// Folds each projection once, to the earlier moment and on to the later.
async fn of_moments(connection: &mut PgConnection, models: &[Model], filters: &Filters, before: i64, after: i64) -> Result<Sides, Failure> {
    let (early, late) = (before.min(after), before.max(after));
    let (mut tables, mut left_out) = (Vec::new(), Vec::new());
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
        left_out.push((projection.name(), past.left_out()));
    }
    Ok(Sides { names: json!([before, after]), folded_to: None, left_out, tables })
}

fn projections_of(models: &[Model]) -> Vec<Arc<dyn Projection>> {
    projections::all().into_iter().filter(|projection| models.iter().any(|model| model.projection.name() == projection.name())).collect()
}
