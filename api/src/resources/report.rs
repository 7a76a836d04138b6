//! Reports as callers see them.

use chrono::NaiveDate;
use domain::{money::Money, payment_intent::Tender};
use projections::models::daily_sales_rows::{DailyItemSalesRow, DailySalesRow, DailyTenderSalesRow};
use serde::Serialize;
use utoipa::ToSchema;

use super::{MoneySchema, TenderSchema};

/// A report: one entry per day and what it is broken down by, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Report<T> {
    /// The entries.
    pub data: Vec<T>,
}

/// Sales of a store on a business date.
#[derive(Debug, Serialize, ToSchema)]
pub struct DailySales {
    /// `sto_…`.
    pub store_id: String,
    /// The date on the bills.
    #[schema(value_type = String, format = Date)]
    pub business_date: NaiveDate,
    /// Bills paid in full.
    pub bills_paid: i64,
    /// Sum of lines before discounts.
    #[schema(value_type = MoneySchema)]
    pub gross: Money,
    /// Discounts.
    #[schema(value_type = MoneySchema)]
    pub discount: Money,
    /// Service charge.
    #[schema(value_type = MoneySchema)]
    pub service_charge: Money,
    /// Tax contained in `total`.
    #[schema(value_type = MoneySchema)]
    pub tax: Money,
    /// Untaxed amounts outside the lines, signed.
    #[schema(value_type = MoneySchema)]
    pub adjustment: Money,
    /// What the paid bills asked for.
    #[schema(value_type = MoneySchema)]
    pub total: Money,
    /// Tips that came with their payments; never part of any other sum here.
    #[schema(value_type = MoneySchema)]
    pub tips: Money,
    /// Bills written off; they count nowhere else.
    pub written_off_count: i64,
    /// What they asked for.
    #[schema(value_type = MoneySchema)]
    pub written_off: Money,
    /// Refunds carried out; they count on their own business date.
    pub refunds_count: i64,
    /// Money given back, tips among it.
    #[schema(value_type = MoneySchema)]
    pub refunds: Money,
    /// Tax in what was given back, as far as refunds say what they are made of.
    #[schema(value_type = MoneySchema)]
    pub refunds_tax: Money,
    /// Tips in what was given back.
    #[schema(value_type = MoneySchema)]
    pub refunds_tips: Money,
    /// Sales counted on this day less refunds, given on this day, of sales that were counted; money that nothing was sold for
    /// (paid twice, without a bill) changes it neither when it comes nor when it goes back.
    #[schema(value_type = MoneySchema)]
    pub net: Money,
    /// Amounts put on, or taken off, the books outside sales and refunds.
    pub ledger_adjustments_count: i64,
    /// Their sum, signed; not part of any other sum here.
    #[schema(value_type = MoneySchema)]
    pub ledger_adjustments: Money,
}

impl From<DailySalesRow> for DailySales {
    fn from(row: DailySalesRow) -> Self {
        let money = |amount| Money::new(amount, row.currency);
        Self {
            store_id: row.store_id.to_string(),
            business_date: row.business_date,
            bills_paid: row.bills_paid,
            gross: money(row.gross),
            discount: money(row.discount),
            service_charge: money(row.service_charge),
            tax: money(row.tax),
            adjustment: money(row.adjustment),
            total: money(row.total),
            tips: money(row.tips),
            written_off_count: row.written_off_count,
            written_off: money(row.written_off),
            refunds_count: row.refunds_count,
            refunds: money(row.refunds_amount),
            refunds_tax: money(row.refunds_tax),
            refunds_tips: money(row.refunds_tips),
            net: money(row.net),
            ledger_adjustments_count: row.ledger_adjustments_count,
            ledger_adjustments: money(row.ledger_adjustments),
        }
    }
}

/// Sales of one item in a store on a business date.
#[derive(Debug, Serialize, ToSchema)]
pub struct DailyItemSales {
    /// `sto_…`.
    pub store_id: String,
    /// The date on the bills.
    #[schema(value_type = String, format = Date)]
    pub business_date: NaiveDate,
    /// The catalogue's code.
    pub item_code: String,
    /// Name as last sold.
    pub name: String,
    /// Thousandths of a piece.
    pub quantity_milli: i64,
    /// Before discounts.
    #[schema(value_type = MoneySchema)]
    pub gross: Money,
    /// Discounts.
    #[schema(value_type = MoneySchema)]
    pub discount: Money,
    /// Tax.
    #[schema(value_type = MoneySchema)]
    pub tax: Money,
    /// What the lines added to their bills' totals.
    #[schema(value_type = MoneySchema)]
    pub total: Money,
    /// Thousandths of a piece taken back, on this date, by refunds that name their lines.
    pub refunded_quantity_milli: i64,
    /// What was given back for them.
    #[schema(value_type = MoneySchema)]
    pub refunded: Money,
}

impl From<DailyItemSalesRow> for DailyItemSales {
    fn from(row: DailyItemSalesRow) -> Self {
        let money = |amount| Money::new(amount, row.currency);
        Self {
            store_id: row.store_id.to_string(),
            business_date: row.business_date,
            item_code: row.item_code,
            name: row.name,
            quantity_milli: row.quantity_milli,
            gross: money(row.gross),
            discount: money(row.discount),
            tax: money(row.tax),
            total: money(row.total),
            refunded_quantity_milli: row.refunded_quantity_milli,
            refunded: money(row.refunded),
        }
    }
}

/// Money taken and given back by one tender, through one acquirer, in a store on a business date.
#[derive(Debug, Serialize, ToSchema)]
pub struct DailyTenderSales {
    /// `sto_…`.
    pub store_id: String,
    /// The date on the bills, or of the refund.
    #[schema(value_type = String, format = Date)]
    pub business_date: NaiveDate,
    /// By which the money came, or left.
    #[schema(value_type = TenderSchema)]
    pub tender: Tender,
    /// Who moved the money for the shop, where that is known.
    pub acquirer: Option<String>,
    /// Payments put against bills.
    pub count: i64,
    /// What they settled.
    #[schema(value_type = MoneySchema)]
    pub amount: Money,
    /// Cash rounding collected beside it, signed.
    #[schema(value_type = MoneySchema)]
    pub cash_rounding: Money,
    /// Tips collected beside it.
    #[schema(value_type = MoneySchema)]
    pub tips: Money,
    /// Refunds carried out this way.
    pub refunds_count: i64,
    /// Money given back this way.
    #[schema(value_type = MoneySchema)]
    pub refunds: Money,
    /// Payments that were contested on this date.
    pub disputes_count: i64,
    /// What is contested. The provider holds this money back, or took it, until the dispute is decided; `net` does not change by it.
    #[schema(value_type = MoneySchema)]
    pub disputes: Money,
    /// Disputes that the shop won on this date.
    pub disputes_won_count: i64,
    /// What it got back by them; `disputes` less this, over all dates, is what is held back or lost.
    #[schema(value_type = MoneySchema)]
    pub disputes_won: Money,
    /// Disputes that the shop lost on this date.
    pub disputes_lost_count: i64,
    /// What is gone for good by them; it stays in `disputes`.
    #[schema(value_type = MoneySchema)]
    pub disputes_lost: Money,
}

impl From<DailyTenderSalesRow> for DailyTenderSales {
    fn from(row: DailyTenderSalesRow) -> Self {
        let money = |amount| Money::new(amount, row.currency);
        Self {
            store_id: row.store_id.to_string(),
            business_date: row.business_date,
            tender: row.tender,
            acquirer: row.acquirer,
            count: row.count,
            amount: money(row.amount),
            cash_rounding: money(row.cash_rounding),
            tips: money(row.tips),
            refunds_count: row.refunds_count,
            refunds: money(row.refunds_amount),
            disputes_count: row.disputes_count,
            disputes: money(row.disputes_amount),
            disputes_won_count: row.disputes_won_count,
            disputes_won: money(row.disputes_won_amount),
            disputes_lost_count: row.disputes_lost_count,
            disputes_lost: money(row.disputes_lost_amount),
        }
    }
}
