//! Cells that are kept as text hold no card number: an event log cannot forget, wherever a text comes from.

use std::borrow::Cow;

use super::{
    bind::{Cell, Planner},
    sale::{Row, RowProblem},
};
use crate::extract::card::{holds_card_number, is_article_number, without_card_numbers};

impl Planner {
    /// Why a row may not come into the log: one of its cells that are kept holds what looks like a card number. The number is not said.
    pub fn card_number_in(&self, row: &Row) -> Option<RowProblem> {
        let text = |place: usize| row.cells.get(place).unwrap_or_default();
        let held = |place: &usize| holds_card_number(text(*place));
        let article = |place: &usize| holds_card_number(text(*place)) && !is_article_number(text(*place).trim());
        let place = self.texts().find(held).or_else(|| self.articles().find(article))?;
        let reason = format!("cell {} holds what looks like a card number; it is neither kept nor shown", place + 1);
        Some(RowProblem { line: row.line, reason })
    }

    /// The cells that are kept as they are: in events, in names that follow from them, or under the key of a repeat.
    fn texts(&self) -> impl Iterator<Item = usize> {
        let (payment, refund) = (&self.payment, self.refund.as_ref());
        let own = [
            Some(&self.store),
            self.number.as_ref(),
            payment.acquirer.as_ref(),
            payment.transaction_id.as_ref(),
            payment.merchant_reference.as_ref(),
            refund.and_then(|refund| refund.of.as_ref()),
            refund.and_then(|refund| refund.reason.as_ref()),
        ];
        let names = self.lines.iter().map(|line| &line.name);
        let reasons = self.ledger.iter().map(|ledger| &ledger.reason);
        std::iter::once(self.key).chain(own.into_iter().flatten().chain(names).chain(reasons).filter_map(place))
    }

    /// Those that hold the number of an article, of which one in some hundred looks like a card number.
    fn articles(&self) -> impl Iterator<Item = usize> {
        self.lines.iter().map(|line| &line.item_code).filter_map(place)
    }
}

const fn place(cell: &Cell) -> Option<usize> {
    match cell {
        Cell::At(place, _) => Some(*place),
        Cell::Fixed(_) => None,
    }
}

/// A text of the source as it may be printed.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    match without_card_numbers(text) {
        Some(masked) if !is_article_number(text) => Cow::Owned(masked),
        Some(_) | None => Cow::Borrowed(text),
    }
}
