//! The directory: merchants and their stores. Tables `merchants`, `stores`; a PSP sees its own.

use domain::{
    decider::Aggregate,
    envelope::{RecordedEvent, StreamType},
    event::DomainEvent,
    ids::{MerchantId, PspId, StoreId},
    merchant::{self, Merchant},
    money::Currency,
    store::{self, Store},
};
use serde::{Deserialize, Serialize};

use super::{Stamp, never_opened};
use crate::{
    error::Error,
    projection::{ApplyError, Locality, Projection, Row, TableSpec, Visibility, tenant_uuid},
    queries::{Page, ReadModels, ReadScope, Select},
    rows::Rows,
};

/// A merchant as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MerchantRow {
    /// The merchant.
    #[serde(rename = "key")]
    pub merchant_id: MerchantId,
    /// The same, as the tenant of all that it owns.
    #[serde(with = "tenant_uuid")]
    pub tenant: MerchantId,
    /// Its PSP.
    pub psp_id: PspId,
    /// Short code, unique within the PSP.
    pub code: String,
    /// Name for people.
    pub name: String,
    /// Life.
    pub status: merchant::Status,
    /// Places and times.
    #[serde(flatten)]
    pub stamp: Stamp,
    /// The merchant itself.
    pub document: merchant::State,
}

impl Row for MerchantRow {
    const TABLE: &'static str = "merchants";
    fn key(&self) -> String {
        self.merchant_id.to_string()
    }
}

/// A store as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreRow {
    /// `{store_id}`.
    pub key: String,
    /// The merchant.
    #[serde(with = "tenant_uuid")]
    pub tenant: MerchantId,
    /// The store.
    pub store_id: StoreId,
    /// The merchant's PSP.
    pub psp_id: PspId,
    /// Short code, unique within the merchant.
    pub code: String,
    /// Name for people.
    pub name: String,
    /// Life.
    pub status: store::Status,
    /// The only currency of its prices.
    pub currency: Currency,
    /// IANA time zone.
    pub zone: String,
    /// Places and times.
    #[serde(flatten)]
    pub stamp: Stamp,
    /// The store itself, with its tax profile.
    pub document: store::State,
}

impl Row for StoreRow {
    const TABLE: &'static str = "stores";
    fn key(&self) -> String {
        self.key.clone()
    }
}

/// The projection.
pub struct Directory;

const TABLES: &[TableSpec] = &[
    TableSpec::of::<MerchantRow>(include_str!("../../sql/merchants.sql"), Visibility::TenantAndPsp),
    TableSpec::of::<StoreRow>(include_str!("../../sql/stores.sql"), Visibility::StoreAndPsp),
];

impl Projection for Directory {
    fn name(&self) -> &'static str {
        "directory"
    }
    fn version(&self) -> i32 {
        1
    }
    fn tables(&self) -> &'static [TableSpec] {
        TABLES
    }
    fn reads(&self, stream_type: StreamType) -> bool {
        matches!(stream_type, StreamType::Merchant | StreamType::Store)
    }
    fn locality(&self) -> Locality {
        Locality::Stream
    }

    fn prefetch(&self, event: &RecordedEvent, decoded: &DomainEvent) -> Vec<(&'static str, String)> {
        let id = event.stream.stream_id;
        match decoded {
            DomainEvent::Merchant(_) if event.version > 1 => vec![(MerchantRow::TABLE, MerchantId(id).to_string())],
            DomainEvent::Store(_) if event.version > 1 => vec![(StoreRow::TABLE, StoreId(id).to_string())],
            DomainEvent::Merchant(_)
            | DomainEvent::Store(_)
            | DomainEvent::Order(_)
            | DomainEvent::Bill(_)
            | DomainEvent::PaymentIntent(_)
            | DomainEvent::Refund(_)
            | DomainEvent::Customer(_)
            | DomainEvent::ProviderAccount(_)
            | DomainEvent::WebhookEndpoint(_)
            | DomainEvent::LedgerAdjustment(_) => vec![],
        }
    }

    fn apply(&self, rows: &mut Rows, event: &RecordedEvent, decoded: &DomainEvent) -> Result<(), ApplyError> {
        match decoded {
            DomainEvent::Merchant(change) => apply_merchant(rows, event, change),
            DomainEvent::Store(change) => apply_store(rows, event, change),
            DomainEvent::Order(_)
            | DomainEvent::Bill(_)
            | DomainEvent::PaymentIntent(_)
            | DomainEvent::Refund(_)
            | DomainEvent::Customer(_)
            | DomainEvent::ProviderAccount(_)
            | DomainEvent::WebhookEndpoint(_)
            | DomainEvent::LedgerAdjustment(_) => Ok(()),
        }
    }
}

fn apply_merchant(rows: &mut Rows, event: &RecordedEvent, change: &merchant::Event) -> Result<(), ApplyError> {
    let merchant_id = MerchantId(event.stream.stream_id);
    let before: Option<MerchantRow> = if event.version == 1 { None } else { rows.get(&merchant_id.to_string())? };
    let stamp = Stamp::next(before.as_ref().map(|row| &row.stamp), event);
    let document = Merchant::evolve(before.map(|row| row.document).unwrap_or_default(), change);
    let details = document.details.clone().ok_or_else(|| never_opened(event))?;
    let (tenant, status) = (event.stream.tenant, document.status);
    let merchant::Registered { psp_id, code, name, .. } = details;
    rows.put(MerchantRow { merchant_id, tenant, psp_id, code, name, status, stamp, document });
    Ok(())
}

fn apply_store(rows: &mut Rows, event: &RecordedEvent, change: &store::Event) -> Result<(), ApplyError> {
    let store_id = StoreId(event.stream.stream_id);
    let key = store_id.to_string();
    let before: Option<StoreRow> = if event.version == 1 { None } else { rows.get(&key)? };
    let stamp = Stamp::next(before.as_ref().map(|row| &row.stamp), event);
    let document = Store::evolve(before.map(|row| row.document).unwrap_or_default(), change);
    let details = document.details.clone().ok_or_else(|| never_opened(event))?;
    let (tenant, status) = (event.stream.tenant, document.status);
    let store::Opened { psp_id, code, name, currency, zone, .. } = details;
    rows.put(StoreRow { key, tenant, store_id, psp_id, code, name, status, currency, zone, stamp, document });
    Ok(())
}

impl ReadModels {
    /// One merchant; `None` when there is none in the scope.
    ///
    /// # Errors
    /// `Sql`, `BadRow`.
    pub async fn merchant(&self, scope: &ReadScope, merchant_id: MerchantId) -> Result<Option<MerchantRow>, Error> {
        self.one(scope, merchant_id).await
    }

    /// Merchants, newest first.
    ///
    /// # Errors
    /// `Sql`, `BadRow`.
    pub async fn merchants(&self, scope: &ReadScope, page: Page) -> Result<Vec<MerchantRow>, Error> {
        self.many(scope, Select::of::<MerchantRow>().page(page)).await
    }

    /// One store; `None` when there is none in the scope.
    ///
    /// # Errors
    /// `Sql`, `BadRow`.
    pub async fn store(&self, scope: &ReadScope, store_id: StoreId) -> Result<Option<StoreRow>, Error> {
        self.one(scope, store_id).await
    }

    /// Stores, newest first, of one merchant or of all in the scope.
    ///
    /// # Errors
    /// `Sql`, `BadRow`.
    pub async fn stores(&self, scope: &ReadScope, merchant: Option<MerchantId>, page: Page) -> Result<Vec<StoreRow>, Error> {
        self.many(scope, Select::of::<StoreRow>().of_tenant(merchant).page(page)).await
    }
}
