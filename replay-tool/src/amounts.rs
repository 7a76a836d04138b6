//! Amounts for people: in major units with their currency, where the log and the read models hold minor units. What is printed with `--json`,
//! and what a digest covers, keeps them as they are stored.

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

/// A payload with each amount that names its currency, `{"amount":12050,"currency":"THB"}`, as `120.50 THB`; the rest byte for byte.
pub fn in_payload(payload: &str) -> String {
    let mut shown = String::with_capacity(payload.len());
    let mut rest = payload;
    // No text of the payload can look like this: its quotes are escaped.
    while let Some((before, after)) = rest.split_once("{\"amount\":") {
        shown.push_str(before);
        rest = if let Some((money, after)) = money(after) {
            shown.push('"');
            shown.push_str(&money.to_string());
            shown.push('"');
            after
        } else {
            shown.push_str("{\"amount\":");
            after
        };
    }
    shown.push_str(rest);
    shown
}

/// The amount that begins here, and what follows its end.
fn money(text: &str) -> Option<(Money, &str)> {
    let (amount, after) = text.split_once(",\"currency\":\"")?;
    let (currency, after) = after.split_once("\"}")?;
    Some((Money::new(amount.parse().ok()?, currency.parse().ok()?), after))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn amounts_in_payloads_are_shown_in_major_units_and_nothing_else_changes() {
        for (stored, shown) in [
            (r#"{"total":{"amount":12050,"currency":"THB"},"n":1}"#, r#"{"total":"120.50 THB","n":1}"#),
            (r#"{"amount":{"amount":-7,"currency":"JPY"}}"#, r#"{"amount":"-7 JPY"}"#),
            (r#"[{"amount":1,"currency":"KWD"},{"amount":2,"currency":"KWD"}]"#, r#"["0.001 KWD","0.002 KWD"]"#),
        ] {
            assert_eq!(in_payload(stored), shown);
        }
        for other in [
            "",
            r#"{"discount":{"kind":"amount","amount":500}}"#,
            r#"{"amount":500}"#,
            r#"{"amount":1,"currency":"???"}"#,
            r#"{"amount":1,"currency":"THB","fee":2}"#,
            r#"{"amount":1.5,"currency":"THB"}"#,
            r#"{"note":"{\"amount\":1,\"currency\":\"THB\"}"}"#,
            r#"{"amount":"#,
        ] {
            assert_eq!(in_payload(other), other);
        }
    }

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
