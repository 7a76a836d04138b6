//! Which sales of the file a refund may belong to: by their keys, or by rows that agree. Within bounded memory.

use std::collections::HashMap;

use domain::{ids::PaymentIntentId, payment_intent::Tender};

use super::recent::Recent;

/// Rows that can be matched are remembered for at least this many rows.
const REMEMBERED_ROWS: usize = 500_000;

/// A row by the values that must agree.
pub(super) type RowKey = [u8; 16];

/// How a sale was paid: what a refund needs to know of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paid {
    /// The payment.
    pub payment_intent_id: PaymentIntentId,
    /// Its tender.
    pub tender: Tender,
}

/// A sale found by its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Matched {
    /// Its order key.
    pub key: String,
    /// How it was paid.
    pub paid: Paid,
    /// What was not given back yet, minor units.
    pub left: i64,
}

/// What is known of sales that refunds may follow.
#[derive(Debug, Default)]
pub struct Links {
    /// By order key.
    pub(super) paid: Recent<Paid>,
    young: Generation,
    old: Generation,
    sales: u64,
}

#[derive(Debug, Default)]
struct Generation {
    /// The sales that have such a row, oldest first.
    rows: HashMap<RowKey, Vec<u64>>,
    sales: HashMap<u64, Matched>,
    numbers: HashMap<PaymentIntentId, u64>,
    size: usize,
}

impl Links {
    /// Remembers the rows of a paid sale over `amount`.
    pub(super) fn remember(&mut self, key: &str, paid: Paid, amount: i64, rows: impl Iterator<Item = RowKey>) {
        if self.young.size >= REMEMBERED_ROWS {
            self.old = std::mem::take(&mut self.young);
        }
        let number = self.sales;
        self.sales += 1;
        let before = self.young.size;
        for row in rows {
            let sales = self.young.rows.entry(row).or_default();
            if sales.last() != Some(&number) {
                sales.push(number);
                self.young.size += 1;
            }
        }
        if self.young.size == before {
            return; // no row finds it, and nothing that only grows may hold it
        }
        self.young.sales.insert(number, Matched { key: key.to_owned(), paid, left: amount });
        self.young.numbers.insert(paid.payment_intent_id, number);
    }

    /// The newest sale that has all these rows, and of which `amount` can still be given back.
    pub(super) fn matching(&self, rows: &[RowKey], amount: i64) -> Option<&Matched> {
        let (first, rest) = rows.split_first()?;
        [&self.young, &self.old].into_iter().find_map(|generation| {
            let having = |row: &RowKey| generation.rows.get(row).map_or(&[][..], Vec::as_slice);
            let candidates = having(first).iter().rev().filter(|number| rest.iter().all(|row| having(row).binary_search(number).is_ok()));
            candidates.filter_map(|number| generation.sales.get(number)).find(|sale| sale.left >= amount)
        })
    }

    /// Notes that `amount` of a payment is given back.
    pub(super) fn give_back(&mut self, payment: PaymentIntentId, amount: i64) {
        for generation in [&mut self.young, &mut self.old] {
            let number = generation.numbers.get(&payment);
            if let Some(sale) = number.and_then(|number| generation.sales.get_mut(number)) {
                sale.left = sale.left.saturating_sub(amount);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::ids::Ulid;

    use super::*;

    fn paid(n: u128) -> Paid {
        Paid { payment_intent_id: PaymentIntentId(Ulid::from(n)), tender: Tender::Invoice }
    }

    fn found(links: &Links, rows: &[RowKey], amount: i64) -> Option<String> {
        links.matching(rows, amount).map(|sale| sale.key.clone())
    }

    #[test]
    fn the_newest_sale_with_all_rows_and_enough_left_is_found() {
        let (mug, tea, pot) = ([1; 16], [2; 16], [3; 16]);
        let mut links = Links::default();
        links.remember("a", paid(1), 10_00, [mug, tea, tea].into_iter());
        links.remember("b", paid(2), 5_00, [mug, pot].into_iter());
        assert_eq!(found(&links, &[mug], 1_00).as_deref(), Some("b"));
        assert_eq!(found(&links, &[tea, mug, tea], 1_00).as_deref(), Some("a"));
        assert_eq!(found(&links, &[mug], 6_00).as_deref(), Some("a"));
        assert_eq!(found(&links, &[tea, pot], 1), None);
        assert_eq!(found(&links, &[], 1), None);
        links.give_back(paid(2).payment_intent_id, 4_50);
        assert_eq!(found(&links, &[pot], 50).as_deref(), Some("b"));
        assert_eq!(found(&links, &[pot], 51), None);
    }

    #[test]
    fn a_sale_that_no_row_finds_is_not_held() {
        let mut links = Links::default();
        links.remember("a", paid(1), 10_00, std::iter::empty());
        assert_eq!((links.young.sales.len(), links.young.numbers.len(), links.young.size), (0, 0, 0));
        links.remember("b", paid(2), 10_00, [[1; 16]].into_iter());
        assert_eq!((links.young.sales.len(), links.young.numbers.len(), links.young.size), (1, 1, 1));
    }
}
