//! Payments: one row per payment intent. Table `payments`.

use chrono::{DateTime, SubsecRound, Utc};
use domain::{
    bill,
    decider::Aggregate,
    envelope::{RecordedEvent, StreamType},
    event::DomainEvent,
    ids::{AttemptId, BillId, MerchantId, OrderId, PaymentIntentId, StoreId, Ulid},
    money::Currency,
    payment_intent::{self, DisputeOutcome, PaymentIntent, Status, Tender},
};
use serde::{Deserialize, Serialize};

use super::{Stamp, never_opened};
use crate::{
    error::Error,
    projection::{ApplyError, Locality, Projection, Row, TableSpec, Visibility, tenant_uuid},
    queries::{Page, ReadModels, ReadScope, Select},
    rows::Rows,
};

/// A payment as it stands. Amounts in minor units of `currency`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentRow {
    /// The intent; `payment_intent_id.payment_id()` is the shop's name for it.
    #[serde(rename = "key")]
    pub payment_intent_id: PaymentIntentId,
    /// The merchant.
    #[serde(with = "tenant_uuid")]
    pub tenant: MerchantId,
    /// Where.
    pub store_id: StoreId,
    /// Life.
    pub status: Status,
    /// How it is tendered.
    pub tender: Tender,
    /// Of every amount on it.
    pub currency: Currency,
    /// What is owed.
    pub amount: i64,
    /// What arrived and closed it.
    pub captured: i64,
    /// Tip that came beside it.
    pub tip: i64,
    /// What the payer contests.
    pub disputed: i64,
    /// Sum given back.
    pub refunded: i64,
    /// What arrived and the bill did not ask for.
    pub parked: i64,
    /// The bill that it pays.
    pub bill_id: Option<BillId>,
    /// The order behind the bill.
    pub order_id: Option<OrderId>,
    /// The provider of the live or last attempt.
    pub provider: Option<String>,
    /// Our reference there.
    pub reference: Option<String>,
    /// The provider's own name for the live or last attempt.
    pub provider_id: Option<String>,
    /// The live or last attempt.
    pub attempt_id: Option<AttemptId>,
    /// Who took the money in for the shop.
    pub acquirer: Option<String>,
    /// The provider's transaction, or the approval code of an outside terminal.
    pub transaction_id: Option<String>,
    /// The caller's own reference.
    pub merchant_reference: Option<String>,
    /// When it stops accepting payment, UTC.
    pub expires_at: Option<DateTime<Utc>>,
    /// When the money arrived, UTC.
    pub paid_at: Option<DateTime<Utc>>,
    /// The outcome of the last call to the provider is not known.
    pub outcome_unknown: bool,
    /// Money is there that nothing asks for and that was not given back, it is contested, the provider does not tell, or more went back
    /// than came: someone has to look.
    pub needs_attention: bool,
    /// Money arrived on its reference that did not close it, and nobody has decided about it.
    pub unmatched: bool,
    /// Places and times.
    #[serde(flatten)]
    pub stamp: Stamp,
    /// The intent itself.
    pub document: payment_intent::State,
}

impl Row for PaymentRow {
    const TABLE: &'static str = "payments";
    fn key(&self) -> String {
        self.payment_intent_id.to_string()
    }
}

/// The projection.
pub struct Payments;

const TABLES: &[TableSpec] = &[TableSpec::of::<PaymentRow>(include_str!("../../sql/payments.sql"), Visibility::Store)];

impl Projection for Payments {
    fn name(&self) -> &'static str {
        "payments"
    }
    fn version(&self) -> i32 {
        9
    }
    fn tables(&self) -> &'static [TableSpec] {
        TABLES
    }
    fn reads(&self, stream_type: StreamType) -> bool {
        // Bills tell which money they could not use.
        matches!(stream_type, StreamType::PaymentIntent | StreamType::Bill)
    }
    fn locality(&self) -> Locality {
        Locality::Tenant
    }

    fn also_from(&self, decoded: &DomainEvent) -> Option<Ulid> {
        let DomainEvent::PaymentIntent(payment_intent::Event::Created(created)) = decoded else { return None };
        created.bill_id.map(Ulid::from)
    }

    fn prefetch(&self, event: &RecordedEvent, decoded: &DomainEvent) -> Vec<(&'static str, String)> {
        match decoded {
            DomainEvent::PaymentIntent(_) if event.version > 1 => {
                vec![(PaymentRow::TABLE, PaymentIntentId(event.stream.stream_id).to_string())]
            }
            DomainEvent::Bill(bill::Event::OverpaymentParked(parked)) => vec![(PaymentRow::TABLE, parked.payment_intent_id.to_string())],
            DomainEvent::PaymentIntent(_)
            | DomainEvent::Merchant(_)
            | DomainEvent::Store(_)
            | DomainEvent::Order(_)
            | DomainEvent::Bill(_)
            | DomainEvent::Refund(_)
            | DomainEvent::Customer(_)
            | DomainEvent::ProviderAccount(_)
            | DomainEvent::WebhookEndpoint(_)
            | DomainEvent::LedgerAdjustment(_) => vec![],
        }
    }

    fn apply(&self, rows: &mut Rows, event: &RecordedEvent, decoded: &DomainEvent) -> Result<(), ApplyError> {
        match decoded {
            DomainEvent::PaymentIntent(change) => apply_intent(rows, event, change),
            DomainEvent::Bill(bill::Event::OverpaymentParked(parked)) => {
                rows.update::<PaymentRow>(&parked.payment_intent_id.to_string(), |row| {
                    row.parked = parked.amount;
                    row.needs_attention = is_open(row.parked, &row.document);
                    (row.stamp.updated_at, row.stamp.updated_pos) = (event.occurred_at, event.pos);
                    Ok(())
                })?;
                Ok(())
            }
            DomainEvent::Merchant(_)
            | DomainEvent::Store(_)
            | DomainEvent::Order(_)
            | DomainEvent::Bill(_)
            | DomainEvent::Refund(_)
            | DomainEvent::Customer(_)
            | DomainEvent::ProviderAccount(_)
            | DomainEvent::WebhookEndpoint(_)
            | DomainEvent::LedgerAdjustment(_) => Ok(()),
        }
    }
}

/// Whether someone has to look: what its bill did not ask for goes back first, as in the daily sales.
fn is_open(parked: i64, document: &payment_intent::State) -> bool {
    let lost = document.dispute.as_ref().filter(|_| document.dispute_outcome == Some(DisputeOutcome::Lost));
    let gone = lost.map_or(0, |dispute| dispute.amount.amount).saturating_add(document.refunded_total);
    parked > gone || document.needs_attention()
}

fn apply_intent(rows: &mut Rows, event: &RecordedEvent, change: &payment_intent::Event) -> Result<(), ApplyError> {
    let payment_intent_id = PaymentIntentId(event.stream.stream_id);
    let before: Option<PaymentRow> = if event.version == 1 { None } else { rows.get(&payment_intent_id.to_string())? };
    let stamp = Stamp::next(before.as_ref().map(|row| &row.stamp), event);
    let parked = before.as_ref().map_or(0, |row| row.parked);
    let document = PaymentIntent::evolve(before.map(|row| row.document).unwrap_or_default(), change);
    let details = document.details.as_ref().ok_or_else(|| never_opened(event))?;
    let (attempt, payment) = (document.attempt.as_ref(), document.payment.as_ref());
    rows.put(PaymentRow {
        payment_intent_id,
        tenant: event.stream.tenant,
        store_id: details.store_id,
        status: document.status,
        tender: details.tender,
        currency: details.amount.currency,
        amount: details.amount.amount,
        captured: document.captured(),
        tip: payment.map_or(0, |payment| payment.tip),
        disputed: document.dispute.as_ref().map_or(0, |dispute| dispute.amount.amount),
        refunded: document.refunded_total,
        parked,
        bill_id: details.bill_id,
        order_id: details.order_id,
        provider: attempt.map(|attempt| attempt.started.provider.clone()),
        reference: attempt.map(|attempt| attempt.started.reference.clone()),
        provider_id: attempt.and_then(|attempt| attempt.provider_id.clone()),
        attempt_id: attempt.map(|attempt| attempt.started.attempt_id),
        acquirer: payment.and_then(|payment| payment.acquirer.clone()),
        transaction_id: payment.and_then(|payment| payment.transaction_id.clone()),
        merchant_reference: details.merchant_reference.clone(),
        // An event may say more than the microseconds that a column keeps.
        expires_at: details.expires_at.map(|at| at.trunc_subsecs(6)),
        paid_at: payment.map(|payment| payment.paid_at.trunc_subsecs(6)),
        outcome_unknown: attempt.is_some_and(|attempt| attempt.unknown && attempt.failed.is_none()) && payment.is_none(),
        needs_attention: is_open(parked, &document),
        unmatched: document.unmatched.iter().any(payment_intent::UnmatchedPayment::is_open),
        stamp,
        document,
    });
    Ok(())
}

/// Which payments; empty fields do not restrict.
#[derive(Debug, Clone, Default)]
pub struct PaymentFilter {
    /// Of this store.
    pub store: Option<StoreId>,
    /// Of this bill.
    pub bill: Option<BillId>,
    /// That its provider knows by this: our reference there, or a name of the provider's own.
    pub provider_reference: Option<String>,
    /// In this state.
    pub status: Option<Status>,
    /// With, or without, a need that someone looks.
    pub needs_attention: Option<bool>,
    /// With, or without, money that did not close it and about which nobody has decided.
    pub unmatched: Option<bool>,
}

impl ReadModels {
    /// One payment; `None` when there is none in the scope.
    ///
    /// # Errors
    /// `Sql`, `BadRow`.
    pub async fn payment(&self, scope: &ReadScope, payment_intent_id: PaymentIntentId) -> Result<Option<PaymentRow>, Error> {
        self.one(scope, payment_intent_id).await
    }

    /// Payments, newest first.
    ///
    /// # Errors
    /// `Sql`, `BadRow`.
    pub async fn payments(&self, scope: &ReadScope, filter: &PaymentFilter, page: Page) -> Result<Vec<PaymentRow>, Error> {
        let select = Select::of::<PaymentRow>()
            .equal("store_id", filter.store.map(|store| store.to_string()))
            .equal("bill_id", filter.bill.map(|bill| bill.to_string()))
            .equal("status", filter.status.map(|status| status.as_str().to_owned()))
            .any_equal(&["reference", "provider_id", "transaction_id"], filter.provider_reference.as_deref())
            .flag("needs_attention", filter.needs_attention)
            .flag("unmatched", filter.unmatched)
            .page(page);
        self.many(scope, select).await
    }
}
