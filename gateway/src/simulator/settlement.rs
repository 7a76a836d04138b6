//! The books as a settlement list: `GET /sim/settlement?from=…&to=…`, a CSV file. No provider's own format: none of the banks has a
//! public one, so that all four give the one that `domain::reconciliation` reads.
//!
//! Faults of the operation `settlement` break rows: `missing_row`, `extra_row`, `wrong_fee`. Other faults leave them as they are.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Router,
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use chrono::{DateTime, Utc};
use domain::{
    money::{Money, round_ratio},
    reconciliation::{COLUMNS, Kind, ListRow},
};
use serde::Deserialize;

use super::{Fault, Simulated, control::LedgerView};

/// What the provider keeps of a payment, thousandths of it, rounded half up; a refund costs nothing.
const FEE_PER_MILLE: i64 = 16;

/// The time of the rows, by the provider's clock (UTC). An end that is not told is open.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// The first moment.
    from: Option<DateTime<Utc>>,
    /// The first moment after it.
    to: Option<DateTime<Utc>>,
}

pub(super) fn routes<P: Simulated>() -> Router<Arc<P>> {
    Router::new().route("/sim/settlement", get(settlement::<P>))
}

async fn settlement<P: Simulated>(State(provider): State<Arc<P>>, Query(asked): Query<Asked>) -> Response {
    let is_asked = |row: &ListRow| asked.from.is_none_or(|from| from <= row.at) && asked.to.is_none_or(|to| row.at < to);
    let rows = rows(&provider.ledger()).into_iter().filter(is_asked);
    let rows: Vec<ListRow> = rows.flat_map(|row| broken(&*provider, row)).collect();
    match in_csv(&rows) {
        Ok(text) => ([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error).into_response(),
    }
}

/// All payments and all refunds that were carried out, oldest first.
fn rows(ledger: &LedgerView) -> Vec<ListRow> {
    let references = ledger.payments.iter().map(|payment| (payment.transaction_id.as_str(), payment.reference.as_str()));
    let references: HashMap<&str, &str> = references.collect();
    let payments = ledger.payments.iter().filter_map(|payment| {
        let gross = Money::new(payment.amount, payment.currency.parse().ok()?);
        Some(row(Kind::Payment, &payment.transaction_id, &payment.reference, gross, payment.paid_at))
    });
    let refunds = ledger.refunds.iter().filter(|refund| refund.state != "pending" && refund.state != "failed").filter_map(|refund| {
        let gross = Money::new(-refund.amount, refund.currency.parse().ok()?);
        Some(row(Kind::Refund, &refund.id, references.get(refund.transaction_id.as_str())?, gross, refund.at))
    });
    let mut rows: Vec<ListRow> = payments.chain(refunds).collect();
    // What happened at one moment stays in the order of the books.
    rows.sort_by_key(|row| row.at);
    rows
}

fn row(kind: Kind, transaction_id: &str, reference: &str, gross: Money, at: DateTime<Utc>) -> ListRow {
    let fee = match kind {
        Kind::Payment => i64::try_from(round_ratio(i128::from(gross.amount) * i128::from(FEE_PER_MILLE), 1000)).unwrap_or(0),
        Kind::Refund => 0,
    };
    let reference = Some(reference.to_owned()).filter(|reference| !reference.is_empty());
    ListRow { transaction_id: transaction_id.to_owned(), reference, kind, gross, fee: Some(fee), net: Some(gross.amount - fee), at }
}

/// What becomes of a row.
fn broken<P: Simulated>(provider: &P, row: ListRow) -> Vec<ListRow> {
    let fault = provider.core().faults.strike_row(row.reference.as_deref().unwrap_or_default());
    match fault {
        Some(Fault::MissingRow) => vec![],
        Some(Fault::ExtraRow) => {
            let transaction_id = format!("{}EXTRA", row.transaction_id);
            let extra =
                self::row(Kind::Payment, &transaction_id, row.reference.as_deref().unwrap_or_default(), positive(row.gross), row.at);
            vec![row, extra]
        }
        Some(Fault::WrongFee) => vec![ListRow { fee: row.fee.map(|fee| fee + 1), ..row }],
        Some(_) | None => vec![row],
    }
}

fn positive(gross: Money) -> Money {
    Money::new(gross.amount.saturating_abs(), gross.currency)
}

fn in_csv(rows: &[ListRow]) -> Result<Vec<u8>, String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS).map_err(|error| error.to_string())?;
    for row in rows {
        writer.write_record(row.cells()).map_err(|error| error.to_string())?;
    }
    writer.into_inner().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::{PaymentRow, RefundRow};

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    #[test]
    fn the_books_are_listed_oldest_first_with_a_fee_that_adds() {
        let payment = |id: &str, amount, second| PaymentRow {
            transaction_id: id.to_owned(),
            reference: format!("REF-{id}"),
            amount,
            currency: "THB".to_owned(),
            paid_at: at(second),
            refunded: 0,
            reversed: false,
        };
        let refund = |id: &str, state: &str, second| RefundRow {
            id: id.to_owned(),
            transaction_id: "A".to_owned(),
            amount: 40_00,
            currency: "THB".to_owned(),
            state: state.to_owned(),
            at: at(second),
        };
        let refunds =
            vec![refund("R1", "succeeded", 30), refund("R2", "pending", 31), refund("R3", "failed", 32), refund("A", "reversed", 3)];
        let ledger = LedgerView { attempts: vec![], payments: vec![payment("B", 99_99, 20), payment("A", 100_00, 1)], refunds };
        let text = String::from_utf8(in_csv(&rows(&ledger)).unwrap()).unwrap();
        let expected = "transaction_id,reference,kind,currency,gross,fee,net,at\n\
                        A,REF-A,payment,THB,100.00,1.60,98.40,1970-01-01T00:00:01Z\n\
                        A,REF-A,refund,THB,-40.00,0.00,-40.00,1970-01-01T00:00:03Z\n\
                        B,REF-B,payment,THB,99.99,1.60,98.39,1970-01-01T00:00:20Z\n\
                        R1,REF-A,refund,THB,-40.00,0.00,-40.00,1970-01-01T00:00:30Z\n";
        assert_eq!(text, expected);
    }
}
