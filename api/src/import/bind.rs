//! A mapping bound to the header of one file: names of columns become places.

use std::{collections::BTreeMap, sync::Arc};

use commands::tenants::NewStore;
use csv::StringRecord;
use domain::{
    ids::MerchantId,
    money::Currency,
    pricing::{TaxClass, TaxProfile},
};

use super::{
    check,
    error::{ImportError, MappingError},
    mapping::{Field, Mapping},
    mapping_order::{AdjustmentMapping, LineMapping, NegativeLine, TimeMapping},
    mapping_payment::{KeepAs, PaymentMapping, RefundMapping, TenderMapping, TenderWord},
    mapping_rows::{Condition, LedgerMapping},
    setup,
    value::LocalClock,
};

/// A cell of each row, or a fixed text.
#[derive(Debug, Clone)]
pub(super) enum Cell {
    /// The cell at this place; the text where it is empty.
    At(usize, String),
    /// For all rows.
    Fixed(String),
}

impl Cell {
    /// The text for this row, without surrounding blanks.
    pub fn text<'a>(&'a self, cells: &'a StringRecord) -> &'a str {
        match self {
            Self::Fixed(text) => text,
            Self::At(place, default) => match cells.get(*place).unwrap_or_default().trim() {
                "" => default,
                text => text,
            },
        }
    }
}

/// A local time in a column.
#[derive(Debug, Clone)]
pub(super) struct BoundTime {
    pub place: usize,
    pub format: String,
    pub clock: LocalClock,
}

/// A line that each row gives.
#[derive(Debug, Clone)]
pub(super) struct BoundLine {
    pub item_code: Cell,
    pub name: Cell,
    pub quantity: Option<Cell>,
    pub price: Cell,
    /// `price` is of one piece, not of the line.
    pub per_piece: bool,
    pub tax_class: TaxClass,
    pub omit_zero: bool,
    /// Most decimals of a price of one piece.
    pub price_decimals: u32,
    /// Below zero it becomes an adjustment.
    pub may_adjust: bool,
}

/// The tender of a row.
#[derive(Debug, Clone)]
pub(super) enum BoundTender {
    ByValue(usize, BTreeMap<String, TenderWord>),
    Fixed(TenderWord),
}

/// How an order was paid.
#[derive(Debug, Clone)]
pub(super) struct BoundPayment {
    pub amount: Option<Cell>,
    pub tip: Option<Cell>,
    pub acquirer: Option<Cell>,
    /// Why payments are contested, and which.
    pub dispute: Option<BoundRule>,
    pub tender: BoundTender,
    pub paid_at: Option<BoundTime>,
    pub transaction_id: Option<Cell>,
    pub merchant_reference: Option<Cell>,
}

/// How orders below zero name or find what they refund.
#[derive(Debug, Clone)]
pub(super) struct BoundRefund {
    pub of: Option<Cell>,
    /// The columns by which rows find those of their sale; none without a match.
    pub matching: Vec<usize>,
    pub tender: Option<BoundTender>,
    pub reason: Option<Cell>,
}

/// Rows for which all conditions hold, and what they are.
#[derive(Debug, Clone)]
pub(super) struct BoundRule {
    pub reason: String,
    pub when: Vec<(usize, Condition)>,
}

/// Rows that are put on the books.
#[derive(Debug, Clone)]
pub(super) struct BoundLedger {
    pub reason: Cell,
    pub amount: Cell,
    pub when: Vec<(usize, Condition)>,
}

/// Turns rows into units of sale. Pure: the same rows give the same unit, wherever and whenever.
#[derive(Debug, Clone)]
pub struct Planner {
    pub(super) mapping: Arc<Mapping>,
    pub(super) merchant_id: MerchantId,
    /// The merchant as text, part of every id.
    pub(super) tenant: String,
    pub(super) tax_profile: TaxProfile,
    pub(super) known: BTreeMap<String, Arc<NewStore>>,
    pub(super) store: Cell,
    pub(super) key: usize,
    pub(super) opened_at: BoundTime,
    pub(super) issued_at: Option<BoundTime>,
    pub(super) number: Option<Cell>,
    pub(super) lines: Vec<BoundLine>,
    pub(super) adjustments: Vec<(usize, String)>,
    /// Reason and largest difference in minor units.
    pub(super) difference: Option<(String, i64)>,
    pub(super) payment: BoundPayment,
    pub(super) refund: Option<BoundRefund>,
    pub(super) skips: Vec<BoundRule>,
    pub(super) ledger: Vec<BoundLedger>,
}

impl Planner {
    /// Binds a mapping to a header.
    ///
    /// # Errors
    /// `Column` naming a column that the header does not have exactly once.
    pub fn bind(mapping: Mapping, header: &StringRecord) -> Result<Self, ImportError> {
        let columns = Columns(header);
        let merchant_id = setup::merchant_details(&mapping).merchant_id;
        let known = mapping.store.known.iter().map(|(value, known)| {
            let id = known.id.unwrap_or_else(|| check::store_id(&mapping, value));
            (value.clone(), Arc::new(setup::store_of(&mapping, &known.code, &known.name, Some(id))))
        });
        let difference = mapping.difference.as_ref().map(|difference| {
            let limit = difference.limit.as_deref().and_then(|text| check::limit(text, mapping.store.currency).ok());
            (difference.reason.clone(), limit.unwrap_or(i64::MAX))
        });
        let keyed = |n: usize, adjustment: &AdjustmentMapping| {
            let place = columns.place(&format!("adjustment[{n}].column"), &adjustment.column)?;
            Ok::<_, ImportError>((place, adjustment.reason.clone()))
        };
        Ok(Self {
            merchant_id,
            tenant: merchant_id.to_string(),
            tax_profile: mapping.tax_profile().unwrap_or_else(TaxProfile::untaxed),
            known: known.collect(),
            store: columns.cell("store.value", &mapping.store.value)?,
            key: columns.place("order.key", &mapping.order.key)?,
            opened_at: columns.time("order.opened_at", &mapping, &mapping.order.opened_at)?,
            issued_at: mapping.bill.as_ref().map(|bill| columns.time("bill.issued_at", &mapping, &bill.issued_at)).transpose()?,
            number: columns.optional("order.number", mapping.order.number.as_ref())?,
            lines: mapping
                .lines
                .iter()
                .enumerate()
                .map(|(n, line)| columns.line(n, line, mapping.store.currency))
                .collect::<Result<_, _>>()?,
            adjustments: mapping.adjustments.iter().enumerate().map(|(n, one)| keyed(n, one)).collect::<Result<_, _>>()?,
            difference,
            payment: columns.payment(&mapping, &mapping.payment)?,
            refund: columns.refund(mapping.refund.as_ref())?,
            skips: mapping
                .skips
                .iter()
                .enumerate()
                .map(|(n, skip)| columns.rule(&format!("skip[{n}]"), &skip.reason, &skip.when))
                .collect::<Result<_, _>>()?,
            ledger: mapping.ledger.iter().enumerate().map(|(n, ledger)| columns.ledger(n, ledger)).collect::<Result<_, _>>()?,
            mapping: Arc::new(mapping),
        })
    }

    /// The mapping.
    pub fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }
}

struct Columns<'a>(&'a StringRecord);

impl Columns<'_> {
    fn place(&self, key: &str, column: &str) -> Result<usize, ImportError> {
        let mut places = self.0.iter().enumerate().filter(|(_, name)| name.trim() == column).map(|(place, _)| place);
        match (places.next(), places.count()) {
            (Some(place), 0) => Ok(place),
            (first, more) => Err(ImportError::Column {
                key: key.to_owned(),
                column: column.to_owned(),
                found: more + usize::from(first.is_some()),
                header: self.0.iter().collect::<Vec<_>>().join(", "),
            }),
        }
    }

    fn cell(&self, key: &str, field: &Field) -> Result<Cell, ImportError> {
        match (&field.column, &field.constant) {
            (Some(column), _) => {
                let place = self.place(&format!("{key}.column"), column)?;
                Ok(Cell::At(place, field.default.clone().unwrap_or_default()))
            }
            (None, constant) => Ok(Cell::Fixed(constant.clone().unwrap_or_default())),
        }
    }

    fn optional(&self, key: &str, field: Option<&Field>) -> Result<Option<Cell>, ImportError> {
        field.map(|field| self.cell(key, field)).transpose()
    }

    fn time(&self, key: &str, mapping: &Mapping, time: &TimeMapping) -> Result<BoundTime, ImportError> {
        let clock = mapping.clock(time).map_err(|problem| MappingError::at(format!("{key}.zone"), problem))?;
        Ok(BoundTime { place: self.place(&format!("{key}.column"), &time.column)?, format: time.format.clone(), clock })
    }

    fn line(&self, n: usize, line: &LineMapping, currency: Currency) -> Result<BoundLine, ImportError> {
        let unit_price = self.optional(&format!("line[{n}].unit_price"), line.unit_price.as_ref())?;
        let amount = self.optional(&format!("line[{n}].amount"), line.amount.as_ref())?;
        let per_piece = unit_price.is_some();
        let neither = || MappingError::at(format!("line[{n}]"), "needs either 'unit_price' or 'amount'");
        Ok(BoundLine {
            item_code: self.cell(&format!("line[{n}].item_code"), &line.item_code)?,
            name: self.cell(&format!("line[{n}].name"), &line.name)?,
            quantity: self.optional(&format!("line[{n}].quantity"), line.quantity.as_ref())?,
            price: unit_price.or(amount).ok_or_else(neither)?,
            per_piece,
            tax_class: line.tax_class,
            omit_zero: line.omit_zero,
            price_decimals: line.price_decimals.unwrap_or(currency.exponent()),
            may_adjust: line.negative == NegativeLine::Adjust,
        })
    }

    fn payment(&self, mapping: &Mapping, payment: &PaymentMapping) -> Result<BoundPayment, ImportError> {
        let mut transaction_id = self.optional("payment.transaction_id", payment.transaction_id.as_ref())?;
        let mut merchant_reference = None;
        if let Some(customer) = &mapping.customer {
            let pseudonym = Cell::At(self.place("customer.column", &customer.column)?, String::new());
            match customer.keep_as {
                KeepAs::MerchantReference => merchant_reference = Some(pseudonym),
                KeepAs::TransactionId => transaction_id = Some(pseudonym),
            }
        }
        Ok(BoundPayment {
            amount: self.optional("payment.amount", payment.amount.as_ref())?,
            tip: self.optional("payment.tip", payment.tip.as_ref())?,
            acquirer: self.optional("payment.acquirer", payment.acquirer.as_ref())?,
            dispute: payment.dispute.as_ref().map(|dispute| self.rule("payment.dispute", &dispute.reason, &dispute.when)).transpose()?,
            tender: self.tender("payment.tender", &payment.tender)?,
            paid_at: payment.paid_at.as_ref().map(|time| self.time("payment.paid_at", mapping, time)).transpose()?,
            transaction_id,
            merchant_reference,
        })
    }

    fn tender(&self, key: &str, tender: &TenderMapping) -> Result<BoundTender, ImportError> {
        match (&tender.column, tender.constant) {
            (Some(column), _) => Ok(BoundTender::ByValue(self.place(&format!("{key}.column"), column)?, tender.values.clone())),
            (None, Some(word)) => Ok(BoundTender::Fixed(word)),
            (None, None) => Err(MappingError::at(key, "needs either 'column' or 'constant'").into()),
        }
    }

    fn refund(&self, refund: Option<&RefundMapping>) -> Result<Option<BoundRefund>, ImportError> {
        let Some(refund) = refund else { return Ok(None) };
        let cell = |key: &str, column: &str| Ok::<_, ImportError>(Cell::At(self.place(key, column)?, String::new()));
        let matching = refund.matching.iter().flatten().map(|column| self.place("refund.match", column));
        Ok(Some(BoundRefund {
            of: refund.of.as_deref().map(|column| cell("refund.of", column)).transpose()?,
            matching: matching.collect::<Result<_, _>>()?,
            tender: refund.tender.as_ref().map(|tender| self.tender("refund.tender", tender)).transpose()?,
            reason: refund.reason_column.as_deref().map(|column| cell("refund.reason_column", column)).transpose()?,
        }))
    }

    fn when(&self, key: &str, when: &[Condition]) -> Result<Vec<(usize, Condition)>, ImportError> {
        let bound = |(m, condition): (usize, &Condition)| {
            let place = self.place(&format!("{key}.when[{m}].column"), &condition.column)?;
            Ok::<_, ImportError>((place, condition.clone()))
        };
        when.iter().enumerate().map(bound).collect()
    }

    fn rule(&self, key: &str, reason: &str, when: &[Condition]) -> Result<BoundRule, ImportError> {
        Ok(BoundRule { reason: reason.to_owned(), when: self.when(key, when)? })
    }

    fn ledger(&self, n: usize, ledger: &LedgerMapping) -> Result<BoundLedger, ImportError> {
        Ok(BoundLedger {
            reason: self.cell(&format!("ledger[{n}].reason"), &ledger.reason)?,
            amount: self.cell(&format!("ledger[{n}].amount"), &ledger.amount)?,
            when: self.when(&format!("ledger[{n}]"), &ledger.when)?,
        })
    }
}
