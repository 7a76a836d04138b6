//! Customers. Table `customers`. A profile stands here as the ciphertext that the log has: who holds its key reads it, and once
//! the key is destroyed nobody does, whether this row was rebuilt or not.

use domain::{
    customer::{Customer, ErasureReason, Event, State, Status},
    decider::Aggregate,
    envelope::{RecordedEvent, StreamType},
    event::DomainEvent,
    ids::{CustomerId, MerchantId},
};
use serde::{Deserialize, Serialize};

use super::Stamp;
use crate::{
    error::Error,
    projection::{ApplyError, Locality, Projection, Row, TableSpec, Visibility, tenant_uuid},
    queries::{Page, ReadModels, ReadScope, Select},
    rows::Rows,
};

/// A customer as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomerRow {
    /// The customer.
    #[serde(rename = "key")]
    pub customer_id: CustomerId,
    /// The merchant.
    #[serde(with = "tenant_uuid")]
    pub tenant: MerchantId,
    /// Life.
    pub status: Status,
    /// Why the person was forgotten.
    pub erasure_reason: Option<ErasureReason>,
    /// The newest profile as ciphertext, lower-case hex; nothing once erased.
    pub sealed: Option<String>,
    /// Places and times.
    #[serde(flatten)]
    pub stamp: Stamp,
}

impl CustomerRow {
    /// The ciphertext of the profile.
    pub fn ciphertext(&self) -> Option<Vec<u8>> {
        self.sealed.as_deref().and_then(|text| hex::decode(text).ok())
    }

    /// The aggregate's state.
    pub const fn state(&self) -> State {
        State { status: self.status, customer_id: Some(self.customer_id), erasure_reason: self.erasure_reason }
    }
}

impl Row for CustomerRow {
    const TABLE: &'static str = "customers";
    fn key(&self) -> String {
        self.customer_id.to_string()
    }
}

/// The projection.
pub struct Customers;

const TABLES: &[TableSpec] = &[TableSpec::of::<CustomerRow>(include_str!("../../sql/customers.sql"), Visibility::Tenant)];

impl Projection for Customers {
    fn name(&self) -> &'static str {
        "customers"
    }
    fn version(&self) -> i32 {
        1
    }
    fn tables(&self) -> &'static [TableSpec] {
        TABLES
    }
    fn reads(&self, stream_type: StreamType) -> bool {
        stream_type == StreamType::Customer
    }

    fn locality(&self) -> Locality {
        Locality::Stream
    }

    fn prefetch(&self, event: &RecordedEvent, _: &DomainEvent) -> Vec<(&'static str, String)> {
        if event.version == 1 { vec![] } else { vec![(CustomerRow::TABLE, CustomerId(event.stream.stream_id).to_string())] }
    }

    fn apply(&self, rows: &mut Rows, event: &RecordedEvent, decoded: &DomainEvent) -> Result<(), ApplyError> {
        let DomainEvent::Customer(change) = decoded else { return Ok(()) };
        let customer_id = CustomerId(event.stream.stream_id);
        let before: Option<CustomerRow> = if event.version == 1 { None } else { rows.get(&customer_id.to_string())? };
        let stamp = Stamp::next(before.as_ref().map(|row| &row.stamp), event);
        let state = Customer::evolve(before.as_ref().map(CustomerRow::state).unwrap_or_default(), change);
        let sealed = match change {
            Event::Registered(_) | Event::ProfileChanged(_) => event.pii.as_deref().map(hex::encode),
            Event::Erased(_) => None,
        };
        rows.put(CustomerRow {
            customer_id,
            tenant: event.stream.tenant,
            status: state.status,
            erasure_reason: state.erasure_reason,
            sealed,
            stamp,
        });
        Ok(())
    }
}

impl ReadModels {
    /// One customer; `None` when there is none in the scope.
    ///
    /// # Errors
    /// `Sql`, `BadRow`.
    pub async fn customer(&self, scope: &ReadScope, customer_id: CustomerId) -> Result<Option<CustomerRow>, Error> {
        self.one(scope, customer_id).await
    }

    /// Customers, newest first.
    ///
    /// # Errors
    /// `Sql`, `BadRow`.
    pub async fn customers(&self, scope: &ReadScope, page: Page) -> Result<Vec<CustomerRow>, Error> {
        self.many(scope, Select::of::<CustomerRow>().page(page)).await
    }
}
