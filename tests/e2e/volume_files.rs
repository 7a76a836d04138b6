//! The two large data sets, computed here in decimal arithmetic from their descriptions; nothing is shared with the import.

use std::collections::{BTreeMap, BTreeSet};

use csv::StringRecord;
use rust_decimal::Decimal;

use crate::volume_sums::{Facts, cents, decimal};

const ONE: Decimal = Decimal::ONE;

/// An invoice as the file has it.
#[derive(Default)]
struct Invoice {
    rows: Vec<StringRecord>,
    last: usize,
}

/// A paid sale, as a credit note may look for it.
struct Sale {
    number: String,
    /// Item and price of its lines.
    lines: BTreeSet<(String, Decimal)>,
    left: Decimal,
}

/// Invoices of the online shop: columns InvoiceNo, StockCode, Description, Quantity, InvoiceDate, UnitPrice, CustomerID, Country.
pub fn online_retail(rows: &[StringRecord]) -> Facts {
    let mut facts = Facts::default();
    let mut invoices: BTreeMap<&str, Invoice> = BTreeMap::new();
    for (n, row) in rows.iter().enumerate() {
        let (quantity, price) = (decimal(&row[3]), decimal(&row[5]));
        if quantity < Decimal::ZERO && price.is_zero() {
            facts.skipped += 1;
        } else if row[0].starts_with('A') {
            facts.sums.day(&row[7], &row[4][..10], &[("ledger_adjustments", price), ("ledger_adjustments_count", ONE)]);
        } else {
            let invoice = invoices.entry(&row[0]).or_default();
            invoice.rows.push(row.clone());
            invoice.last = n;
        }
    }
    let mut in_order: Vec<(&str, Invoice)> = invoices.into_iter().collect();
    in_order.sort_by_key(|(_, invoice)| invoice.last);
    let mut sales: BTreeMap<(String, String), Vec<Sale>> = BTreeMap::new();
    for (number, invoice) in in_order {
        if number.starts_with('C') {
            credit_note(&mut facts, &invoice, &mut sales);
        } else {
            retail_sale(&mut facts, number, &invoice, &mut sales);
        }
    }
    facts.linked.sort();
    facts
}

fn retail_sale(facts: &mut Facts, number: &str, invoice: &Invoice, sales: &mut BTreeMap<(String, String), Vec<Sale>>) {
    let first = &invoice.rows[0];
    let (store, day) = (&first[7], &first[4][..10]);
    let mut total = Decimal::ZERO;
    for row in &invoice.rows {
        let (pieces, exact) = (decimal(&row[3]), decimal(&row[3]) * decimal(&row[5]));
        let line = cents(exact);
        facts.exact += exact;
        facts.rounded += line - exact;
        total += line;
        facts.sums.item(store, day, &row[1], &[("quantity_milli", pieces), ("gross", line), ("total", line)]);
    }
    facts.orders += 1;
    facts.sums.day(store, day, &[("bills_paid", ONE), ("gross", total), ("total", total), ("net", total)]);
    if total > Decimal::ZERO {
        facts.sums.tender((store, day), "invoice", "", &[("count", ONE), ("amount", total)]);
        facts.paid_by(&first[6], total);
        if !first[6].is_empty() {
            let lines = invoice.rows.iter().map(|row| (row[1].to_owned(), decimal(&row[5]).normalize())).collect();
            let sale = Sale { number: number.to_owned(), lines, left: total };
            sales.entry((store.to_owned(), first[6].to_owned())).or_default().push(sale);
        }
    }
}

fn credit_note(facts: &mut Facts, invoice: &Invoice, sales: &mut BTreeMap<(String, String), Vec<Sale>>) {
    let first = &invoice.rows[0];
    let (store, day) = (&first[7], &first[4][..10]);
    let mut amount = Decimal::ZERO;
    for row in &invoice.rows {
        let (pieces, exact) = (-decimal(&row[3]), -decimal(&row[3]) * decimal(&row[5]));
        let line = cents(exact);
        facts.exact -= exact;
        facts.rounded -= line - exact;
        amount += line;
        facts.sums.item(store, day, &row[1], &[("refunded_quantity_milli", pieces), ("refunded", line)]);
    }
    facts.refunds += 1;
    facts.sums.day(store, day, &[("refunds_count", ONE), ("refunds_amount", amount), ("net", -amount)]);
    facts.sums.tender((store, day), "invoice", "", &[("refunds_count", ONE), ("refunds_amount", amount)]);
    let lines: Vec<_> = invoice.rows.iter().map(|row| (row[1].to_owned(), decimal(&row[5]).normalize())).collect();
    let candidates = sales.get_mut(&(store.to_owned(), first[6].to_owned())).into_iter().flat_map(|sales| sales.iter_mut().rev());
    if let Some(sale) = candidates.into_iter().find(|sale| sale.left >= amount && lines.iter().all(|line| sale.lines.contains(line))) {
        sale.left -= amount;
        facts.linked.push((sale.number.clone(), amount));
    }
}

/// Bills of the taxis: columns by their header.
pub fn nyc_taxi(header: &StringRecord, rows: &[StringRecord]) -> Facts {
    let place = |name: &str| header.iter().position(|column| column == name).unwrap();
    let [zone, dropoff, vendor, word] = ["pickup_location_id", "dropoff_datetime", "vendor_id", "payment_type"].map(place);
    let [fare, extra, tolls, improvement, congestion] =
        ["fare_amount", "extra", "tolls_amount", "improvement_surcharge", "congestion_surcharge"].map(place);
    let [tax, tip, total] = ["mta_tax", "tip_amount", "total_amount"].map(place);
    let charges =
        [("fare", fare), ("extra", extra), ("tolls", tolls), ("improvement", improvement), ("congestion", congestion), ("mta_tax", tax)];
    let mut facts = Facts::default();
    for row in rows {
        let (store, day, acquirer) = (&row[zone], &row[dropoff][..10], &row[vendor]);
        let amount = |place: usize| decimal(&row[place]);
        let (tips, charged) = (amount(tip), amount(total));
        facts.exact += charged;
        let bill = charged - tips;
        let sign = if charged < Decimal::ZERO { -ONE } else { ONE };
        let lines: Vec<(&str, Decimal)> =
            charges.iter().map(|(item, place)| (*item, amount(*place) * sign)).filter(|(_, line)| *line > Decimal::ZERO).collect();
        let gross: Decimal = lines.iter().map(|(_, line)| line).sum();
        let taxes = lines.iter().filter(|(item, _)| *item == "mta_tax").map(|(_, line)| *line).sum::<Decimal>();
        if charged < Decimal::ZERO {
            let (back, tips, net) = (-charged, -tips, bill);
            facts.refunds += 1;
            facts.sums.day(
                store,
                day,
                &[("refunds_count", ONE), ("refunds_amount", back), ("refunds_tax", taxes), ("refunds_tips", tips), ("net", net)],
            );
            let tender = if &row[word] == "2" { "cash" } else { "unknown" };
            facts.sums.tender((store, day), tender, acquirer, &[("refunds_count", ONE), ("refunds_amount", back)]);
            for (item, line) in lines {
                facts.sums.item(store, day, item, &[("refunded_quantity_milli", ONE), ("refunded", line)]);
            }
            continue;
        }
        facts.orders += 1;
        if &row[word] == "3" && bill > Decimal::ZERO {
            facts.sums.day(store, day, &[("written_off_count", ONE), ("written_off", bill)]);
            continue;
        }
        facts.sums.day(store, day, &[("bills_paid", ONE), ("gross", gross), ("tax", taxes), ("adjustment", bill - gross)]);
        facts.sums.day(store, day, &[("total", bill), ("net", bill), ("tips", tips)]);
        if bill > Decimal::ZERO {
            let tender = match &row[word] {
                "1" => "card",
                "2" => "cash",
                _ => "unknown",
            };
            facts.sums.tender((store, day), tender, acquirer, &[("count", ONE), ("amount", bill), ("tips", tips)]);
            facts.paid_by("", bill);
            if &row[word] == "4" {
                facts.sums.tender((store, day), tender, acquirer, &[("disputes_count", ONE), ("disputes_amount", bill)]);
            }
        }
        for (item, line) in &lines {
            let tax = if *item == "mta_tax" { *line } else { Decimal::ZERO };
            facts.sums.item(store, day, item, &[("quantity_milli", ONE), ("gross", *line), ("total", *line), ("tax", tax)]);
        }
        if lines.is_empty() {
            facts.sums.item(store, day, "fare", &[("quantity_milli", ONE)]);
        }
    }
    facts
}
