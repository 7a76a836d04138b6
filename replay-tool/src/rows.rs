//! Which rows a question is about, and how a row is shown: shared by `as-of` and `diff`.

use std::sync::Arc;

use domain::ids::MerchantId;
use projections::{Projection, projection::TableSpec};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{amounts, outcome::Failure};

/// A table of a read model, as its name on the command line says.
pub struct Model {
    /// The projection that fills it.
    pub projection: Arc<dyn Projection>,
    /// The table.
    pub table: TableSpec,
}

impl Model {
    /// Every table of every read model.
    pub fn all() -> Vec<Self> {
        let tables = |projection: Arc<dyn Projection>| {
            projection.tables().iter().map(move |table| Self { projection: Arc::clone(&projection), table: *table }).collect::<Vec<_>>()
        };
        projections::all().into_iter().flat_map(tables).collect()
    }

    /// The table with this name.
    ///
    /// # Errors
    /// `Usage`, naming those that exist.
    pub fn named(name: &str) -> Result<Self, Failure> {
        let unknown = || {
            let names: Vec<&str> = Self::all().iter().map(|model| model.table.name).collect();
            Failure::usage(format!("there is no read model '{name}'; there are {}", names.join(", ")))
        };
        Self::all().into_iter().find(|model| model.table.name == name).ok_or_else(unknown)
    }

    /// The schema that this build's version lives in.
    pub fn schema(&self) -> String {
        self.projection.schema()
    }
}

/// `column=value`: rows in which the column has this value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    column: String,
    value: String,
}

impl std::str::FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (column, value) = text.split_once('=').filter(|(column, _)| !column.is_empty()).ok_or("must be column=value")?;
        let value = if column == "tenant" { tenant(value) } else { value.to_owned() };
        Ok(Self { column: column.to_owned(), value })
    }
}

/// A merchant by the name that people know it by, or a uuid in any form, as the column holds it.
fn tenant(value: &str) -> String {
    let merchant = value.parse::<MerchantId>().map(|merchant| Uuid::from_bytes(merchant.0.to_bytes()));
    let uuid = merchant.ok().or_else(|| value.parse().ok());
    uuid.map_or_else(|| value.to_owned(), |uuid| uuid.to_string())
}

/// Filters, all of which must hold.
pub struct Filters(pub Vec<Filter>);

impl Filters {
    /// Whether a row is asked for.
    pub fn hold(&self, row: &Value) -> bool {
        self.0.iter().all(|filter| row.get(&filter.column).is_some_and(|value| plain(value) == filter.value))
    }

    /// The one tenant that is asked for, if there is one.
    pub fn tenant(&self) -> Option<MerchantId> {
        let tenant = self.0.iter().find(|filter| filter.column == "tenant")?;
        let uuid: Uuid = tenant.value.parse().ok()?;
        Some(MerchantId(domain::ids::Ulid::from_bytes(*uuid.as_bytes())))
    }

    /// A table must have every column that is asked about.
    ///
    /// # Errors
    /// `Usage`, naming its columns; `Fault`.
    pub async fn check(&self, connection: &mut PgConnection, schema: &str, table: &str) -> Result<(), Failure> {
        if self.0.is_empty() {
            return Ok(());
        }
        let sql = "select attname::text from pg_attribute where attrelid = to_regclass(format('%I.%I', $1, $2)) and attnum > 0 and not attisdropped order by attnum";
        let columns: Vec<String> = sqlx::query_scalar(sql).bind(schema).bind(table).fetch_all(connection).await?;
        match self.0.iter().find(|filter| !columns.contains(&filter.column)) {
            None => Ok(()),
            Some(filter) => Err(Failure::usage(format!("{table} has no column '{}'; it has {}", filter.column, columns.join(", ")))),
        }
    }
}

/// A value as people write it.
pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// The value of a row's column for people.
pub fn column(row: &Value, name: &str, value: &Value) -> String {
    amounts::of_column(row, name, value).unwrap_or_else(|| plain(value))
}

/// A row for people: its plain columns but the key, amounts in major units.
pub fn shown(row: &Value) -> String {
    let fields = row.as_object().into_iter().flatten();
    let plain_fields = fields.filter(|(name, value)| *name != "key" && !value.is_object() && !value.is_array() && !value.is_null());
    plain_fields.map(|(name, value)| format!("{name}={}", column(row, name, value))).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_filter_compares_a_column_with_what_people_write() {
        let holds = |filter: &str, row: Value| Filters(vec![filter.parse().unwrap()]).hold(&row);
        assert!(holds("status=open", json!({"status": "open"})));
        assert!(holds("total=1250", json!({"total": 1250})));
        assert!(holds("note=a=b", json!({"note": "a=b"})));
        assert!(holds("bill_id=null", json!({"bill_id": null})));
        assert!(holds("voided=true", json!({"voided": true})));
        assert!(!holds("status=open", json!({"status": "opened"})));
        assert!(!holds("status=open", json!({})));
        for bad in ["status", "=open", ""] {
            assert!(bad.parse::<Filter>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tenant_may_be_named_as_a_merchant() {
        let merchant = MerchantId(domain::ids::Ulid(7));
        let by = |text: String| Filters(vec![text.parse().unwrap()]);
        assert_eq!(by(format!("tenant={merchant}")).tenant(), Some(merchant));
        assert!(by(format!("tenant={merchant}")).hold(&json!({"tenant": "00000000-0000-0000-0000-000000000007"})));
        for uuid in ["000000000000000000000000000000AB", "{00000000-0000-0000-0000-0000000000AB}"] {
            let filters = by(format!("tenant={uuid}"));
            assert!(filters.hold(&json!({"tenant": "00000000-0000-0000-0000-0000000000ab"})), "{uuid}");
            assert_eq!(filters.tenant(), Some(MerchantId(domain::ids::Ulid(0xab))), "{uuid}");
        }
        assert_eq!(by("status=open".into()).tenant(), None);
    }

    #[test]
    fn every_table_is_a_model_and_has_its_own_name() {
        let all = Model::all();
        let names: std::collections::HashSet<_> = all.iter().map(|model| model.table.name).collect();
        assert_eq!(names.len(), all.len());
        assert_eq!(Model::named("bill_orders").ok().map(|model| model.schema()), Some("bills_v2".to_owned()));
        assert!(Model::named("nothing").is_err());
    }
}
