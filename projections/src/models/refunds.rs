//! Refunds, each with its document. Table `refunds`.

use chrono::{DateTime, NaiveDate, Utc};
use domain::{
    decider::Aggregate,
    envelope::{RecordedEvent, StreamType},
    event::DomainEvent,
    ids::{BillId, MerchantId, PaymentIntentId, RefundId, StoreId},
    money::Currency,
    payment_intent::Tender,
    refund::{self, Destination, Event, Refund, Status},
};
use serde::{Deserialize, Serialize};

use super::{Stamp, never_opened};
use crate::{
    error::Error,
    projection::{ApplyError, Locality, Projection, Row, TableSpec, Visibility, tenant_uuid},
    queries::{Page, ReadModels, ReadScope, Select},
    rows::Rows,
};

/// A refund as it stands. The amount is in minor units of `currency`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundRow {
    /// The refund.
    #[serde(rename = "key")]
    pub refund_id: RefundId,
    /// The merchant.
    #[serde(with = "tenant_uuid")]
    pub tenant: MerchantId,
    /// Where.
    pub store_id: StoreId,
    /// Life.
    pub status: Status,
    /// Out of which payment; nothing for an unlinked refund.
    pub payment_intent_id: Option<PaymentIntentId>,
    /// The bill that was paid.
    pub bill_id: Option<BillId>,
    /// The store's business date when it was requested.
    pub business_date: NaiveDate,
    /// Of the amount.
    pub currency: Currency,
    /// How much.
    pub amount: i64,
    /// How the payment was tendered, or the money given.
    pub tender: Tender,
    /// Who moves the money for the shop.
    pub acquirer: Option<String>,
    /// By which way it goes back.
    pub destination: Destination,
    /// Why.
    pub reason: String,
    /// The provider's name for it.
    pub provider_reference: Option<String>,
    /// The outcome of the last call to the provider is not known.
    pub outcome_unknown: bool,
    /// For too long the provider does not say how it stands: someone has to look.
    pub needs_attention: bool,
    /// Why it failed, in our word.
    pub failure_code: Option<String>,
    /// When it succeeded or failed, UTC.
    pub completed_at: Option<DateTime<Utc>>,
    /// Places and times.
    #[serde(flatten)]
    pub stamp: Stamp,
    /// The refund itself.
    pub document: refund::State,
}

impl Row for RefundRow {
    const TABLE: &'static str = "refunds";
    fn key(&self) -> String {
        self.refund_id.to_string()
    }
}

/// The projection.
pub struct Refunds;

const TABLES: &[TableSpec] = &[TableSpec::of::<RefundRow>(include_str!("../../sql/refunds.sql"), Visibility::Store)];

impl Projection for Refunds {
    fn name(&self) -> &'static str {
        "refunds"
    }
    fn version(&self) -> i32 {
        7
    }
    fn tables(&self) -> &'static [TableSpec] {
        TABLES
    }
    fn reads(&self, stream_type: StreamType) -> bool {
        stream_type == StreamType::Refund
    }
    fn locality(&self) -> Locality {
        Locality::Stream
    }

    fn prefetch(&self, event: &RecordedEvent, _: &DomainEvent) -> Vec<(&'static str, String)> {
        if event.version == 1 { vec![] } else { vec![(RefundRow::TABLE, RefundId(event.stream.stream_id).to_string())] }
    }

    fn apply(&self, rows: &mut Rows, event: &RecordedEvent, decoded: &DomainEvent) -> Result<(), ApplyError> {
        let DomainEvent::Refund(change) = decoded else { return Ok(()) };
        let refund_id = RefundId(event.stream.stream_id);
        let before: Option<RefundRow> = if event.version == 1 { None } else { rows.get(&refund_id.to_string())? };
        let stamp = Stamp::next(before.as_ref().map(|row| &row.stamp), event);
        let completed_before = before.as_ref().and_then(|row| row.completed_at);
        let completed_at = match change {
            Event::Succeeded(_) | Event::Failed(_) | Event::TakenBack(_) | Event::FoundSent(_) => Some(event.occurred_at),
            Event::Requested(_) | Event::OutcomeUnknown(_) | Event::LeftToPerson(_) | Event::ResolvedByPerson(_) => completed_before,
        };
        let document = Refund::evolve(before.map(|row| row.document).unwrap_or_default(), change);
        let details = document.details.as_ref().ok_or_else(|| never_opened(event))?;
        rows.put(RefundRow {
            refund_id,
            tenant: event.stream.tenant,
            store_id: details.store_id,
            status: document.status,
            payment_intent_id: details.payment_intent_id,
            bill_id: details.bill_id,
            business_date: details.business_date,
            currency: details.amount.currency,
            amount: details.amount.amount,
            tender: details.tender,
            acquirer: details.acquirer.clone(),
            destination: details.destination,
            reason: details.reason.clone(),
            provider_reference: document.provider_reference.clone(),
            outcome_unknown: document.unknown,
            needs_attention: document.left_to_person.is_some(),
            failure_code: document.failure.as_ref().map(|failure| failure.code.clone()),
            completed_at,
            stamp,
            document,
        });
        Ok(())
    }
}

/// Which refunds; empty fields do not restrict.
#[derive(Debug, Clone, Default)]
pub struct RefundFilter {
    /// Of this store.
    pub store: Option<StoreId>,
    /// Out of this payment.
    pub payment_intent: Option<PaymentIntentId>,
    /// Of this bill.
    pub bill: Option<BillId>,
    /// In this state.
    pub status: Option<Status>,
    /// With, or without, somebody having to look.
    pub needs_attention: Option<bool>,
}

impl ReadModels {
    /// One refund; `None` when there is none in the scope.
    ///
    /// # Errors
    /// `Sql`, `BadRow`.
    pub async fn refund(&self, scope: &ReadScope, refund_id: RefundId) -> Result<Option<RefundRow>, Error> {
        self.one(scope, refund_id).await
    }

    /// Refunds, newest first.
    ///
    /// # Errors
    /// `Sql`, `BadRow`.
    pub async fn refunds(&self, scope: &ReadScope, filter: &RefundFilter, page: Page) -> Result<Vec<RefundRow>, Error> {
        let select = Select::of::<RefundRow>()
            .equal("store_id", filter.store.map(|store| store.to_string()))
            .equal("payment_intent_id", filter.payment_intent.map(|intent| intent.to_string()))
            .equal("bill_id", filter.bill.map(|bill| bill.to_string()))
            .equal("status", filter.status.map(|status| status.as_str().to_owned()))
            .flag("needs_attention", filter.needs_attention)
            .page(page);
        self.many(scope, select).await
    }
}
