//! Amounts in rows for people: in major units with their currency, where the read models hold minor units. What is printed with `--json`,
//! and what a digest covers, keeps them as they are stored, and so do payloads of events wherever they are printed: only some of their
//! amounts name a currency, and one line must not hold both.

use domain::money::{Currency, Money};
use serde_json::Value;

/// Columns of read models that are amounts in the `currency` of their row.
const COLUMNS: [&str; 29] = [
    "adjustment",
    "amount",
    "captured",
    "cash_rounding",
    "discount",
    "disputed",
    "disputes_amount",
    "disputes_lost_amount",
    "disputes_won_amount",
    "due",
    "gross",
    "ledger_adjustments",
    "net",
    "paid_total",
    "parked",
    "parked_total",
    "refunded",
    "refunded_early",
    "refunded_total",
    "refunds_amount",
    "refunds_tax",
    "refunds_tips",
    "service_charge",
    "subtotal",
    "tax",
    "tip",
    "tips",
    "total",
    "written_off",
];

/// The value of a row's column as an amount, if it is one.
pub fn of_column(row: &Value, name: &str, value: &Value) -> Option<String> {
    let amount = value.as_i64().filter(|_| COLUMNS.contains(&name))?;
    let currency: Currency = row.get("currency")?.as_str()?.parse().ok()?;
    Some(Money::new(amount, currency).to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_column_is_an_amount_by_its_name_and_the_currency_of_its_row() {
        let row = json!({"total": 12050, "currency": "THB", "version": 3, "tip": null});
        let shown = |row: &Value, name: &str| of_column(row, name, &row[name]);
        assert_eq!(shown(&row, "total"), Some("120.50 THB".to_owned()));
        assert_eq!((shown(&row, "version"), shown(&row, "tip"), shown(&row, "currency")), (None, None, None));
        assert_eq!(shown(&json!({"total": 12050}), "total"), None);
    }

    #[test]
    fn every_number_beside_a_currency_is_an_amount_or_known_to_be_none() {
        let none = ["opened_pos", "updated_pos", "pos", "version", "bills_paid", "quantity_milli", "refunded_quantity_milli", "count"];
        for model in crate::rows::Model::all() {
            let columns: Vec<&str> = model.table.create.lines().map(str::trim).collect();
            if !columns.iter().any(|column| column.starts_with("currency ")) {
                continue;
            }
            for column in columns.iter().filter(|column| column.contains(" bigint")) {
                let name = column.split(' ').next().unwrap();
                let known = COLUMNS.contains(&name) || none.contains(&name) || name.ends_with("_count");
                assert!(known, "{}.{name}: an amount?", model.table.name);
            }
        }
    }
}
