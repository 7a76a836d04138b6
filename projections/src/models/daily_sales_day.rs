//! The rows of one store's business date: as they stand, or new.

use chrono::NaiveDate;
use domain::{
    ids::{MerchantId, StoreId},
    ledger_adjustment,
    money::Currency,
    payment_intent::{DisputeResolved, Disputed, Tender},
};

use super::daily_sales_rows::{DailyItemSalesRow, DailySalesRow, DailyTenderSalesRow, PendingBillRow, PendingRefundRow};
use crate::{projection::ApplyError, rows::Rows};

/// A store's business date, and the position that counts something on it.
pub(super) struct Day {
    tenant: MerchantId,
    store_id: StoreId,
    business_date: NaiveDate,
    currency: Currency,
    pos: i64,
}

impl Day {
    pub(super) const fn of_bill(bill: &PendingBillRow, pos: i64) -> Self {
        let PendingBillRow { tenant, store_id, business_date, currency, .. } = *bill;
        Self { tenant, store_id, business_date, currency, pos }
    }

    pub(super) const fn of_refund(refund: &PendingRefundRow, pos: i64) -> Self {
        let PendingRefundRow { tenant, store_id, business_date, currency, .. } = *refund;
        Self { tenant, store_id, business_date, currency, pos }
    }

    pub(super) const fn of_dispute(tenant: MerchantId, dispute: &Disputed, pos: i64) -> Self {
        let Disputed { store_id, business_date, amount, .. } = *dispute;
        Self { tenant, store_id, business_date, currency: amount.currency, pos }
    }

    pub(super) const fn of_decision(tenant: MerchantId, decision: &DisputeResolved, pos: i64) -> Self {
        let DisputeResolved { store_id, business_date, amount, .. } = *decision;
        Self { tenant, store_id, business_date, currency: amount.currency, pos }
    }

    pub(super) const fn of_adjustment(tenant: MerchantId, adjustment: &ledger_adjustment::Recorded, pos: i64) -> Self {
        let ledger_adjustment::Recorded { store_id, business_date, amount, .. } = *adjustment;
        Self { tenant, store_id, business_date, currency: amount.currency, pos }
    }

    pub(super) fn key(&self) -> String {
        format!("{}|{}", self.store_id, self.business_date)
    }

    pub(super) fn item_key(&self, item_code: &str) -> String {
        format!("{}|{item_code}", self.key())
    }

    pub(super) fn tender_key(&self, tender: Tender, acquirer: Option<&str>) -> String {
        let key = format!("{}|{}", self.key(), tender.as_str());
        acquirer.map_or(key.clone(), |acquirer| format!("{key}|{acquirer}"))
    }

    /// The day's row, as it stands or new, marked with the position.
    pub(super) fn sales(&self, rows: &mut Rows) -> Result<DailySalesRow, ApplyError> {
        let Self { tenant, store_id, business_date, currency, pos } = *self;
        let key = self.key();
        Ok(match rows.get::<DailySalesRow>(&key)? {
            Some(row) => DailySalesRow { updated_pos: pos, ..row },
            None => DailySalesRow {
                key,
                tenant,
                store_id,
                business_date,
                currency,
                bills_paid: 0,
                gross: 0,
                discount: 0,
                service_charge: 0,
                tax: 0,
                adjustment: 0,
                total: 0,
                tips: 0,
                written_off_count: 0,
                written_off: 0,
                refunds_count: 0,
                refunds_amount: 0,
                refunds_tax: 0,
                refunds_tips: 0,
                net: 0,
                ledger_adjustments_count: 0,
                ledger_adjustments: 0,
                updated_pos: pos,
            },
        })
    }

    /// The row of an item under its latest name.
    pub(super) fn item(&self, rows: &mut Rows, item_code: &str, name: &str) -> Result<DailyItemSalesRow, ApplyError> {
        let Self { tenant, store_id, business_date, currency, pos } = *self;
        let (key, name) = (self.item_key(item_code), name.to_owned());
        Ok(match rows.get::<DailyItemSalesRow>(&key)? {
            Some(row) => DailyItemSalesRow { name, updated_pos: pos, ..row },
            None => DailyItemSalesRow {
                key,
                tenant,
                store_id,
                business_date,
                currency,
                item_code: item_code.to_owned(),
                name,
                quantity_milli: 0,
                gross: 0,
                discount: 0,
                tax: 0,
                total: 0,
                refunded_quantity_milli: 0,
                refunded: 0,
                updated_pos: pos,
            },
        })
    }

    pub(super) fn tender(&self, rows: &mut Rows, tender: Tender, acquirer: Option<&str>) -> Result<DailyTenderSalesRow, ApplyError> {
        let Self { tenant, store_id, business_date, currency, pos } = *self;
        let key = self.tender_key(tender, acquirer);
        Ok(match rows.get::<DailyTenderSalesRow>(&key)? {
            Some(row) => DailyTenderSalesRow { updated_pos: pos, ..row },
            None => DailyTenderSalesRow {
                key,
                tenant,
                store_id,
                business_date,
                currency,
                tender,
                acquirer: acquirer.map(str::to_owned),
                count: 0,
                amount: 0,
                cash_rounding: 0,
                tips: 0,
                refunds_count: 0,
                refunds_amount: 0,
                disputes_count: 0,
                disputes_amount: 0,
                disputes_won_count: 0,
                disputes_won_amount: 0,
                disputes_lost_count: 0,
                disputes_lost_amount: 0,
                updated_pos: pos,
            },
        })
    }
}
