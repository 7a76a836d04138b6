//! What a projection is: a pure fold of events into typed rows.

use domain::{
    envelope::{RecordedEvent, StreamType},
    event::DomainEvent,
    ids::{MerchantId, Ulid},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::rows::Rows;

/// A row of a read model. Its fields, in serialised form, are the columns of its table; `key` is the primary key.
///
/// Every table has `key text primary key` and `tenant uuid not null`. No field comes from a clock or from chance.
pub trait Row: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// The table.
    const TABLE: &'static str;
    /// The primary key: the id, or parts joined by `|`.
    fn key(&self) -> String;
}

/// Which rows of a table the application role sees; row-level security is made from this in [`crate::visibility`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// Rows of the tenant; those of one store when the scope names a store. The table has `store_id`.
    Store,
    /// As `Store`, and a PSP also sees rows with its `psp_id`.
    StoreAndPsp,
    /// Rows of the tenant, whatever the store.
    Tenant,
    /// Rows of the tenant, and those of the PSP. The table has `psp_id` and no `store_id`.
    TenantAndPsp,
}

/// A table of a projection.
#[derive(Debug, Clone, Copy)]
pub struct TableSpec {
    /// Unqualified name, unique over all projections.
    pub name: &'static str,
    /// `create table` and its indexes, with unqualified names.
    pub create: &'static str,
    /// Who sees what.
    pub visibility: Visibility,
    /// Reads a row as `to_jsonb` text and writes it as the fold would have: what a check compares.
    pub normalise: fn(&str) -> Result<serde_json::Value, String>,
}

impl TableSpec {
    /// The table of rows `R`.
    pub const fn of<R: Row>(create: &'static str, visibility: Visibility) -> Self {
        Self { name: R::TABLE, create, visibility, normalise: normalise::<R> }
    }
}

fn normalise<R: Row>(text: &str) -> Result<serde_json::Value, String> {
    let row: R = serde_json::from_str(text).map_err(|error| error.to_string())?;
    serde_json::to_value(&row).map_err(|error| error.to_string())
}

/// Why an event was not applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApplyError {
    /// A row is not in memory yet. Its key is noted in [`Rows`]; the event is applied again once it is loaded.
    Missing,
    /// The event cannot be applied, however often it is tried: its stream is set aside.
    Poison(String),
}

impl ApplyError {
    /// A figure does not fit in 64 bits.
    pub fn overflow(what: &str) -> Self {
        Self::Poison(format!("{what} does not fit in 64 bits"))
    }
}

/// Which events one row can depend on; a rebuild folds groups of events side by side that share no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locality {
    /// Those of one stream.
    Stream,
    /// Those of one tenant.
    Tenant,
}

/// A pure fold of the log into rows.
pub trait Projection: Send + Sync {
    /// Snake case; together with the version it names the schema, `orders_v1`.
    fn name(&self) -> &'static str;
    /// Raised whenever rows come out differently; the new version folds from the start in a schema of its own.
    fn version(&self) -> i32;
    /// Its tables.
    fn tables(&self) -> &'static [TableSpec];
    /// Whether it has any use for events of such streams. Others are passed over without being decoded.
    fn reads(&self, stream_type: StreamType) -> bool;
    /// Which events a row can depend on.
    fn locality(&self) -> Locality;
    /// Whether `apply` ever asks for rows of this table. One whose rows are only written can be left out of a fold.
    fn reads_back(&self, _table: &str) -> bool {
        true
    }
    /// Another stream that rows of this event's own stream come from too, if the event names one. With it a read of one thing
    /// in the past finds all events that it needs.
    fn also_from(&self, _decoded: &DomainEvent) -> Option<Ulid> {
        None
    }
    /// Rows that `apply` will ask for, as far as the event tells; only saves round trips.
    fn prefetch(&self, event: &RecordedEvent, decoded: &DomainEvent) -> Vec<(&'static str, String)>;
    /// Folds one event into the rows. On an error its changes are rolled back.
    ///
    /// # Errors
    /// [`ApplyError`].
    fn apply(&self, rows: &mut Rows, event: &RecordedEvent, decoded: &DomainEvent) -> Result<(), ApplyError>;

    /// The schema of its tables.
    fn schema(&self) -> String {
        format!("{}_v{}", self.name(), self.version())
    }
}

/// A tenant as the `uuid` column that row-level security compares; for `#[serde(with)]`.
pub(crate) mod tenant_uuid {
    use domain::ids::{MerchantId, Ulid};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use uuid::Uuid;

    pub fn serialize<S: Serializer>(tenant: &MerchantId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&super::tenant_to_uuid(*tenant))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MerchantId, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let uuid: Uuid = text.parse().map_err(D::Error::custom)?;
        Ok(MerchantId(Ulid::from_bytes(*uuid.as_bytes())))
    }
}

/// A tenant as the log and the tables store it.
pub(crate) fn tenant_to_uuid(tenant: MerchantId) -> uuid::Uuid {
    uuid::Uuid::from_bytes(tenant.0.to_bytes())
}
