//! Rows that are no sale: left out under a reason, or put on the books.

use domain::money::Money;

use super::{
    bind::{BoundLedger, Planner},
    ids::OrderIds,
    mapping_rows::{Condition, Sign},
    plan::time,
    sale::{LedgerUnit, Row, RowProblem},
    value::shown,
};

impl Planner {
    /// The reason under which a row is left out, if a skip rule says so.
    pub fn skips(&self, row: &Row) -> Option<&str> {
        self.skips.iter().find(|skip| self.holds(&skip.when, row)).map(|skip| skip.reason.as_str())
    }

    /// The rule by which a row goes to the books, if there is one.
    pub(super) fn ledger_rule(&self, row: &Row) -> Option<&BoundLedger> {
        self.ledger.iter().find(|ledger| self.holds(&ledger.when, row))
    }

    /// Whether all conditions hold for a row.
    pub(super) fn holds(&self, when: &[(usize, Condition)], row: &Row) -> bool {
        let decimal = self.mapping.file.decimal;
        when.iter().all(|(place, condition)| {
            let text = row.cells.get(*place).unwrap_or_default().trim();
            condition.is.as_ref().is_none_or(|values| values.iter().any(|value| value == text))
                && condition.starts_with.as_ref().is_none_or(|start| text.starts_with(start.as_str()))
                && condition.empty.is_none_or(|empty| text.is_empty() == empty)
                // What is not a number has no sign: the row stays in and is judged as a sale.
                && condition.sign.is_none_or(|sign| decimal.sign(text) == Some(sign))
        })
    }

    /// What a row puts on the books.
    ///
    /// # Errors
    /// A cell that cannot be read, an unknown store, an amount of zero.
    pub(super) fn plan_ledger(&self, row: &Row, rule: &BoundLedger) -> Result<LedgerUnit, RowProblem> {
        let at_row = |reason: String| RowProblem { line: row.line, reason };
        let key = self.key(row);
        if key.is_empty() {
            return Err(at_row("the order key is empty".to_owned()));
        }
        let store = self.store_of(self.store.text(&row.cells)).map_err(at_row)?;
        let adjusted_at = time(row, &self.opened_at)?;
        let currency = self.mapping.store.currency;
        let text = rule.amount.text(&row.cells);
        let amount = self.mapping.file.decimal.money(text, currency).map_err(at_row)?;
        if amount == 0 {
            return Err(at_row(format!("the amount '{}' changes nothing on the books", shown(text))));
        }
        let ids = OrderIds { tenant: &self.tenant, source: &self.mapping.source, key, at: adjusted_at };
        Ok(LedgerUnit {
            key: key.to_owned(),
            ledger_adjustment_id: ids.id("ledger adjustment"),
            store_id: store.store_id,
            store,
            amount: Money::new(amount, currency),
            adjusted_at,
            reason: rule.reason.text(&row.cells).to_owned(),
        })
    }
}

/// Sign of a number.
pub(super) const fn sign_of(value: i128) -> Sign {
    match value {
        i128::MIN..=-1 => Sign::Negative,
        0 => Sign::Zero,
        1..=i128::MAX => Sign::Positive,
    }
}
