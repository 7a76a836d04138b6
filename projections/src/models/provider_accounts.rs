//! Provider accounts. Table `provider_accounts`. No secret stands here, not even sealed.

use domain::{
    decider::Aggregate,
    envelope::{RecordedEvent, StreamType},
    event::DomainEvent,
    ids::{MerchantId, ProviderAccountId, StoreId},
    provider_account::{ProviderAccount, State, Status},
};
use serde::{Deserialize, Serialize};

use super::{Stamp, never_opened};
use crate::{
    error::Error,
    projection::{ApplyError, Locality, Projection, Row, TableSpec, Visibility, tenant_uuid},
    queries::{Page, ReadModels, ReadScope, Select},
    rows::Rows,
};

/// A provider account as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderAccountRow {
    /// The account.
    #[serde(rename = "key")]
    pub provider_account_id: ProviderAccountId,
    /// The merchant.
    #[serde(with = "tenant_uuid")]
    pub tenant: MerchantId,
    /// The only store that it serves.
    pub store_id: Option<StoreId>,
    /// The provider's name.
    pub provider: String,
    /// Life.
    pub status: Status,
    /// Places and times.
    #[serde(flatten)]
    pub stamp: Stamp,
    /// The account itself.
    pub document: State,
}

impl Row for ProviderAccountRow {
    const TABLE: &'static str = "provider_accounts";
    fn key(&self) -> String {
        self.provider_account_id.to_string()
    }
}

/// The projection.
pub struct ProviderAccounts;

const TABLES: &[TableSpec] = &[TableSpec::of::<ProviderAccountRow>(include_str!("../../sql/provider_accounts.sql"), Visibility::Store)];

impl Projection for ProviderAccounts {
    fn name(&self) -> &'static str {
        "provider_accounts"
    }
    fn version(&self) -> i32 {
        1
    }
    fn tables(&self) -> &'static [TableSpec] {
        TABLES
    }
    fn reads(&self, stream_type: StreamType) -> bool {
        stream_type == StreamType::ProviderAccount
    }
    fn locality(&self) -> Locality {
        Locality::Stream
    }

    fn prefetch(&self, event: &RecordedEvent, _: &DomainEvent) -> Vec<(&'static str, String)> {
        let key = || ProviderAccountId(event.stream.stream_id).to_string();
        if event.version == 1 { vec![] } else { vec![(ProviderAccountRow::TABLE, key())] }
    }

    fn apply(&self, rows: &mut Rows, event: &RecordedEvent, decoded: &DomainEvent) -> Result<(), ApplyError> {
        let DomainEvent::ProviderAccount(change) = decoded else { return Ok(()) };
        let provider_account_id = ProviderAccountId(event.stream.stream_id);
        let before: Option<ProviderAccountRow> = if event.version == 1 { None } else { rows.get(&provider_account_id.to_string())? };
        let stamp = Stamp::next(before.as_ref().map(|row| &row.stamp), event);
        let document = ProviderAccount::evolve(before.map(|row| row.document).unwrap_or_default(), change);
        let details = document.details.as_ref().ok_or_else(|| never_opened(event))?;
        rows.put(ProviderAccountRow {
            provider_account_id,
            tenant: event.stream.tenant,
            store_id: details.store_id,
            provider: details.provider.clone(),
            status: document.status,
            stamp,
            document,
        });
        Ok(())
    }
}

impl ReadModels {
    /// One provider account; `None` when there is none in the scope.
    ///
    /// # Errors
    /// `Sql`, `BadRow`.
    pub async fn provider_account(&self, scope: &ReadScope, id: ProviderAccountId) -> Result<Option<ProviderAccountRow>, Error> {
        self.one(scope, id).await
    }

    /// Provider accounts, newest first.
    ///
    /// # Errors
    /// `Sql`, `BadRow`.
    pub async fn provider_accounts(&self, scope: &ReadScope, page: Page) -> Result<Vec<ProviderAccountRow>, Error> {
        self.many(scope, Select::of::<ProviderAccountRow>().page(page)).await
    }
}
