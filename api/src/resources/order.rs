//! Orders as callers see them.

use chrono::{DateTime, NaiveDate, Utc};
use domain::{
    envelope::RecordedEvent,
    money::{Currency, Money},
    order::{self, Status},
    pricing::{Discount, Priced, TaxClass},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{DiscountSchema, MoneySchema, Resource, TaxClassSchema, TaxLine};

/// A purchase before payment.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Order)]
pub struct OrderResource {
    /// `ord_…`.
    #[schema(examples("ord_01HZY3T5V6W7X8Y9Z0A1B2C3D4"))]
    pub id: String,
    /// `sto_…`.
    pub store_id: String,
    /// `open`, `billed`, `completed` or `cancelled`.
    #[schema(examples("open"))]
    pub status: &'static str,
    /// `dine_in`, `takeaway` or `delivery`.
    #[schema(value_type = String)]
    pub order_type: order::OrderType,
    /// Table, for dine-in.
    pub table_number: Option<String>,
    /// Number for people.
    pub order_number: Option<String>,
    /// The store's business date when it was opened.
    #[schema(value_type = String, format = Date)]
    pub business_date: NaiveDate,
    /// Of every amount in it.
    #[schema(value_type = String, examples("THB"))]
    pub currency: Currency,
    /// All lines in the order they were added, voided ones included.
    pub lines: Vec<OrderLine>,
    /// Discount on the whole order.
    #[schema(value_type = Option<DiscountSchema>)]
    pub discount: Option<Discount>,
    /// What it costs as it stands.
    pub totals: Totals,
    /// Tax by class.
    pub taxes: Vec<TaxLine>,
    /// The standing or paid bill, `bill_…`.
    pub bill_id: Option<String>,
    /// Version, as in `ETag`.
    pub version: i64,
}

/// A line of an order.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderLine {
    /// `lin_…`; unique within the order.
    pub id: String,
    /// The catalogue's code.
    pub item_code: String,
    /// Name as sold.
    pub name: String,
    /// Thousandths of a piece.
    #[schema(examples(1000))]
    pub quantity_milli: i64,
    /// For `price_base_milli`.
    #[schema(value_type = MoneySchema)]
    pub unit_price: Money,
    /// The quantity that `unit_price` buys, thousandths: 1000 for the price of one piece, more for a price finer than the minor
    /// unit.
    pub price_base_milli: i64,
    /// Class of tax.
    #[schema(value_type = TaxClassSchema)]
    pub tax_class: TaxClass,
    /// Discount of this line.
    #[schema(value_type = Option<DiscountSchema>)]
    pub discount: Option<Discount>,
    /// Taken off.
    pub voided: bool,
    /// What it adds to the total; nothing when voided.
    #[schema(value_type = Option<MoneySchema>)]
    pub total: Option<Money>,
}

/// The figures of an order or a bill.
#[derive(Debug, Serialize, ToSchema)]
pub struct Totals {
    /// Sum of quantity × price.
    #[schema(value_type = MoneySchema)]
    pub subtotal: Money,
    /// All discounts.
    #[schema(value_type = MoneySchema)]
    pub discount: Money,
    /// Service charge.
    #[schema(value_type = MoneySchema)]
    pub service_charge: Money,
    /// Tax, contained in the total.
    #[schema(value_type = MoneySchema)]
    pub tax: Money,
    /// Untaxed amount outside the lines, signed.
    #[schema(value_type = MoneySchema)]
    pub adjustment: Money,
    /// What is asked for.
    #[schema(value_type = MoneySchema)]
    pub total: Money,
}

impl Totals {
    fn of(priced: &Priced) -> Self {
        let money = |amount| Money::new(amount, priced.currency);
        Self {
            subtotal: money(priced.subtotal),
            discount: money(priced.discount),
            service_charge: money(priced.service_charge),
            tax: money(priced.tax),
            adjustment: money(priced.adjustment),
            total: money(priced.total),
        }
    }
}

impl Resource<order::State> for OrderResource {
    fn of(state: &order::State, version: i64) -> Option<Self> {
        let details = state.details.as_ref()?;
        // The aggregate refuses facts after which it could not be priced.
        let priced = state.priced()?.ok()?;
        Some(Self {
            id: details.order_id.to_string(),
            store_id: details.store_id.to_string(),
            status: state.status.as_str(),
            order_type: details.order_type,
            table_number: details.table_number.clone(),
            order_number: details.order_number.clone(),
            business_date: details.business_date,
            currency: details.currency,
            lines: lines(state, &priced),
            discount: state.discount.clone(),
            totals: Totals::of(&priced),
            taxes: priced.taxes.iter().map(|tax| TaxLine::of(tax, priced.currency)).collect(),
            bill_id: state.bill_id.map(|id| id.to_string()),
            version,
        })
    }
}

/// Priced lines are those that are not voided, in the same order.
fn lines(state: &order::State, priced: &Priced) -> Vec<OrderLine> {
    let mut figures = priced.lines.iter();
    let currency = priced.currency;
    let shown = |line: &order::Line| OrderLine {
        id: line.line.line_id.to_string(),
        item_code: line.line.item_code.clone(),
        name: line.line.name.clone(),
        quantity_milli: line.line.quantity_milli,
        unit_price: Money::new(line.line.unit_price, currency),
        price_base_milli: line.line.price_base_milli,
        tax_class: line.line.tax_class,
        discount: line.line.discount.clone(),
        voided: line.voided,
        total: if line.voided { None } else { figures.next().map(|figures| Money::new(figures.total, currency)) },
    };
    state.lines.iter().map(shown).collect()
}

/// The status that a word means.
pub fn status_of(word: &str) -> Option<Status> {
    [Status::Open, Status::Billed, Status::Completed, Status::Cancelled].into_iter().find(|status| status.as_str() == word)
}

/// One fact in the history of an order.
#[derive(Debug, Serialize, ToSchema)]
pub struct TimelineEntry {
    /// Place in the order's history, from 1.
    pub version: i64,
    /// Place in the log.
    pub position: i64,
    /// What happened.
    #[schema(examples("order.line_added"))]
    pub r#type: String,
    /// Version of the shape of `data`.
    pub schema_version: i16,
    /// Who.
    #[schema(examples("user:ann"))]
    pub actor: String,
    /// When it came about, UTC.
    #[schema(value_type = String, format = DateTime)]
    pub occurred_at: DateTime<Utc>,
    /// When it was stored, UTC.
    #[schema(value_type = String, format = DateTime)]
    pub recorded_at: DateTime<Utc>,
    /// The request that it follows from.
    pub correlation_id: String,
    /// The fact as stored.
    #[schema(value_type = Object)]
    pub data: serde_json::Value,
}

impl From<RecordedEvent> for TimelineEntry {
    fn from(event: RecordedEvent) -> Self {
        Self {
            version: event.version,
            position: event.pos,
            r#type: event.event_type,
            schema_version: event.schema_version,
            actor: event.actor,
            occurred_at: event.occurred_at,
            recorded_at: event.recorded_at,
            correlation_id: event.correlation_id.to_string(),
            // It was read as JSON to make the order.
            data: serde_json::from_slice(&event.payload).unwrap_or_default(),
        }
    }
}
