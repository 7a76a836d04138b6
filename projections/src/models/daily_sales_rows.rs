//! The rows of the daily sales: three reports, and two tables that remember what is not counted yet.

use chrono::NaiveDate;
use domain::{
    bill::BillLine,
    ids::{BillId, MerchantId, RefundId, StoreId},
    money::Currency,
    payment_intent::Tender,
    refund::Breakdown,
};
use serde::{Deserialize, Serialize};

use crate::projection::{Row, tenant_uuid};

/// Sales of a store on a business date. Amounts in minor units of `currency`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DailySalesRow {
    /// `{store_id}|{business_date}`.
    pub key: String,
    /// The merchant.
    #[serde(with = "tenant_uuid")]
    pub tenant: MerchantId,
    /// The store.
    pub store_id: StoreId,
    /// The date on the bills.
    pub business_date: NaiveDate,
    /// Of every amount.
    pub currency: Currency,
    /// Bills paid in full.
    pub bills_paid: i64,
    /// Sum of lines before discounts (the bills' subtotals).
    pub gross: i64,
    /// Discounts.
    pub discount: i64,
    /// Service charge.
    pub service_charge: i64,
    /// Tax contained in `total`.
    pub tax: i64,
    /// Untaxed amounts outside the lines, signed.
    pub adjustment: i64,
    /// What the paid bills asked for.
    pub total: i64,
    /// Tips that came with their payments; never part of any other sum here.
    pub tips: i64,
    /// Bills written off; they count nowhere else.
    pub written_off_count: i64,
    /// What they asked for.
    pub written_off: i64,
    /// Refunds carried out; they count on their own business date.
    pub refunds_count: i64,
    /// Money given back, tips among it.
    pub refunds_amount: i64,
    /// Tax in what was given back, as far as refunds say what they are made of.
    pub refunds_tax: i64,
    /// Tips in what was given back.
    pub refunds_tips: i64,
    /// What remains of the sales: `total` less what was given back of counted bills. Unlike in `refunds_amount`, money that
    /// was never counted as sales is not in it: refunds of payments without a bill, and of parked overpayment. What was given
    /// back of a bill before it was paid in full is missing on the bill's date, all else on the refund's. Refunds without a
    /// payment (of sales that are not known here) lower it by all but their tips.
    pub net: i64,
    /// Amounts put on, or taken off, the books outside sales and refunds.
    pub ledger_adjustments_count: i64,
    /// Their sum, signed; not part of any other sum here.
    pub ledger_adjustments: i64,
    /// Position of the last event that changed it.
    pub updated_pos: i64,
}

impl Row for DailySalesRow {
    const TABLE: &'static str = "daily_sales";
    fn key(&self) -> String {
        self.key.clone()
    }
}

/// Sales of one item in a store on a business date, and what refunds say they took back of it on that date.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DailyItemSalesRow {
    /// `{store_id}|{business_date}|{item_code}`.
    pub key: String,
    /// The merchant.
    #[serde(with = "tenant_uuid")]
    pub tenant: MerchantId,
    /// The store.
    pub store_id: StoreId,
    /// The date on the bills.
    pub business_date: NaiveDate,
    /// Of every amount.
    pub currency: Currency,
    /// The catalogue's code.
    pub item_code: String,
    /// Name as last sold.
    pub name: String,
    /// Thousandths of a piece.
    pub quantity_milli: i64,
    /// Before discounts, minor units.
    pub gross: i64,
    /// Discounts, minor units.
    pub discount: i64,
    /// Tax, minor units.
    pub tax: i64,
    /// What the lines added to their bills' totals, minor units.
    pub total: i64,
    /// Thousandths of a piece taken back by refunds that name their lines.
    pub refunded_quantity_milli: i64,
    /// What was given back for them, minor units.
    pub refunded: i64,
    /// Position of the last event that changed it.
    pub updated_pos: i64,
}

impl Row for DailyItemSalesRow {
    const TABLE: &'static str = "daily_item_sales";
    fn key(&self) -> String {
        self.key.clone()
    }
}

/// Money taken and given back by one tender, through one acquirer, in a store on a business date.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DailyTenderSalesRow {
    /// `{store_id}|{business_date}|{tender}`, and `|{acquirer}` where one is known.
    pub key: String,
    /// The merchant.
    #[serde(with = "tenant_uuid")]
    pub tenant: MerchantId,
    /// The store.
    pub store_id: StoreId,
    /// The date on the bills, or of the refund.
    pub business_date: NaiveDate,
    /// Of every amount.
    pub currency: Currency,
    /// By which the money came, or left.
    pub tender: Tender,
    /// Who moved it for the shop, where that is known.
    pub acquirer: Option<String>,
    /// Payments put against bills.
    pub count: i64,
    /// What they settled, minor units.
    pub amount: i64,
    /// Cash rounding collected beside it, less what refunds took back of it, signed, minor units.
    pub cash_rounding: i64,
    /// Tips collected beside it, minor units.
    pub tips: i64,
    /// Refunds carried out this way: out of the drawer is cash, whatever the payment was.
    pub refunds_count: i64,
    /// Money given back this way, minor units.
    pub refunds_amount: i64,
    /// Payments that were contested on this date.
    pub disputes_count: i64,
    /// What is contested, minor units: held back by whoever moves the money until the dispute is decided.
    pub disputes_amount: i64,
    /// Disputes that the shop won on this date.
    pub disputes_won_count: i64,
    /// What it got back by them, minor units.
    pub disputes_won_amount: i64,
    /// Disputes that the shop lost on this date.
    pub disputes_lost_count: i64,
    /// What is gone for good by them, minor units.
    pub disputes_lost_amount: i64,
    /// Position of the last event that changed it.
    pub updated_pos: i64,
}

impl Row for DailyTenderSalesRow {
    const TABLE: &'static str = "daily_tender_sales";
    fn key(&self) -> String {
        self.key.clone()
    }
}

/// What a bill will count for once it is paid, and what refunds of it mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingBillRow {
    /// The bill.
    #[serde(rename = "key")]
    pub bill_id: BillId,
    /// The merchant.
    #[serde(with = "tenant_uuid")]
    pub tenant: MerchantId,
    /// The store.
    pub store_id: StoreId,
    /// The store's business date at issue.
    pub business_date: NaiveDate,
    /// Of every amount.
    pub currency: Currency,
    /// Sum of gross.
    pub subtotal: i64,
    /// Discounts.
    pub discount: i64,
    /// Service charge.
    pub service_charge: i64,
    /// Tax.
    pub tax: i64,
    /// Untaxed amount outside the lines, signed.
    pub adjustment: i64,
    /// What is asked for.
    pub total: i64,
    /// As billed; dropped once counted.
    pub lines: Vec<BillLine>,
    /// Money beyond what was due that has not gone back yet; refunds take it first.
    pub parked: i64,
    /// Given back before the bill counted, beyond parked money; never part of the net sum.
    pub refunded_early: i64,
    /// Counted.
    pub counted: bool,
}

impl Row for PendingBillRow {
    const TABLE: &'static str = "daily_sales_bills";
    fn key(&self) -> String {
        self.bill_id.to_string()
    }
}

/// What a refund took off a bill, so that it can be put back should the refund fail after all. Minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedRefund {
    /// Out of parked money.
    pub unsold: i64,
    /// Out of the sale.
    pub sold: i64,
    /// The bill had not counted yet.
    pub early: bool,
}

/// What a refund will count for once it succeeds, and what it counted for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingRefundRow {
    /// The refund.
    #[serde(rename = "key")]
    pub refund_id: RefundId,
    /// The merchant.
    #[serde(with = "tenant_uuid")]
    pub tenant: MerchantId,
    /// The store.
    pub store_id: StoreId,
    /// The store's business date at the request.
    pub business_date: NaiveDate,
    /// Of the amount.
    pub currency: Currency,
    /// Minor units.
    pub amount: i64,
    /// Handed out beside the amount, signed, minor units.
    pub cash_rounding: i64,
    /// By which the money leaves.
    pub tender: Tender,
    /// Who moves it for the shop.
    pub acquirer: Option<String>,
    /// It has no payment.
    pub unlinked: bool,
    /// What is given back, where that is known.
    pub breakdown: Option<Breakdown>,
    /// Counted.
    pub counted: bool,
    /// It gives back what was never a sale, and never counts.
    pub never_sold: bool,
    /// What it took off its bill.
    pub recorded: Option<RecordedRefund>,
}

impl Row for PendingRefundRow {
    const TABLE: &'static str = "daily_sales_refunds";
    fn key(&self) -> String {
        self.refund_id.to_string()
    }
}
