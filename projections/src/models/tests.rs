//! Every projection folded over the same hand-made history, in one piece and in all others.

use std::{collections::HashMap, sync::Arc};

use domain::{
    bill,
    envelope::{StreamKey, StreamType},
    event::ReadEvent,
    ids::{BillId, OrderId, PaymentIntentId, RefundId, Ulid},
    merchant, order,
    payment_intent::Tender,
    refund, store,
};

use super::{
    bills::{BillOrderRow, BillRow},
    daily_sales::DailySales,
    daily_sales_rows::{DailyItemSalesRow, DailySalesRow, DailyTenderSalesRow},
    directory::{MerchantRow, StoreRow},
    events::Events,
    orders::OrderRow,
    payments::PaymentRow,
    refunds::RefundRow,
};
use crate::{
    fold::{Batch, Fold, Step},
    projection::{Projection, Row},
    rows::Rows,
    testing::{History, MERCHANT, STORE, day},
};

/// A database that is only a map: what the runner does, without PostgreSQL.
#[derive(Default, Clone, PartialEq, Debug)]
struct Stored(HashMap<&'static str, HashMap<String, serde_json::Value>>);

impl Stored {
    fn load(&self, rows: &mut Rows, keys: Vec<(&'static str, String)>) {
        for (table, key) in keys {
            let found = self.0.get(table).and_then(|rows| rows.get(&key));
            let found = found.map(|row| (key.clone(), row.to_string())).into_iter().collect();
            rows.load(table, &[key], found);
        }
    }

    fn write(&mut self, rows: &Rows) {
        for change in rows.changes().unwrap() {
            for text in change.rows {
                let row: serde_json::Value = serde_json::from_str(&text).unwrap();
                let key = row["key"].as_str().unwrap().to_owned();
                self.0.entry(change.table).or_default().insert(key, row);
            }
        }
    }

    /// Folds in batches of the given sizes, each with an overlay that begins empty or goes on; counts the loads.
    fn fold(projection: &dyn Projection, events: &[Arc<ReadEvent>], size: usize, keep: bool) -> (Self, usize) {
        let (mut stored, mut loads) = (Self::default(), 0);
        let mut fold = Fold::new(Rows::new(), HashMap::new());
        for chunk in events.chunks(size) {
            let batch = Batch::new(projection, chunk.to_vec());
            let wanted = fold.wanted(projection, &batch);
            stored.load(&mut fold.rows, wanted);
            let mut from = 0;
            while let Step::Missing { keys, next } = fold.step(projection, &batch, from) {
                stored.load(&mut fold.rows, keys);
                (from, loads) = (next, loads + 1);
            }
            assert!(fold.quarantined.is_empty(), "{:?}", fold.quarantined);
            stored.write(&fold.rows);
            fold.rows.written(if keep { usize::MAX } else { 0 });
        }
        (stored, loads)
    }
}

fn folded(events: &[Arc<ReadEvent>]) -> Rows {
    let mut fold = Fold::new(Rows::complete(), HashMap::new());
    for projection in crate::all() {
        assert_eq!(fold.step(projection.as_ref(), &Batch::new(projection.as_ref(), events.to_vec()), 0), Step::Done);
    }
    assert!(fold.quarantined.is_empty(), "{:?}", fold.quarantined);
    fold.rows
}

fn row<R: Row>(rows: &mut Rows, key: impl std::fmt::Display) -> R {
    rows.get(&format!("{key}")).unwrap().unwrap()
}

#[test]
fn batches_cut_anywhere_give_the_same_rows() {
    let events = History::sale_and_refund();
    for projection in crate::all() {
        let (whole, _) = Stored::fold(projection.as_ref(), &events, events.len(), true);
        for size in 1..events.len() {
            for keep in [true, false] {
                assert_eq!(Stored::fold(projection.as_ref(), &events, size, keep).0, whole, "{} by {size}", projection.name());
            }
        }
        // The fold of a check, which never loads, agrees with what was written.
        let mut fold = Fold::new(Rows::complete(), HashMap::new());
        fold.step(projection.as_ref(), &Batch::new(projection.as_ref(), events.clone()), 0);
        for table in projection.tables() {
            let rows = fold.rows.table(table.name).unwrap();
            assert_eq!(Some(&rows), whole.0.get(table.name), "{}", table.name);
            for row in rows.values() {
                assert_eq!((table.normalise)(&row.to_string()).as_ref(), Ok(row), "{}", table.name);
            }
        }
    }
}

#[test]
fn a_batch_waits_for_few_loads_however_many_rows_it_needs() {
    let mut history = History::default();
    for n in 1..=100 {
        history.order(n).bill(n).pay(n).refund(n);
    }
    for projection in crate::all() {
        let (_, loads) = Stored::fold(projection.as_ref(), &history.0, 500, false);
        assert!(loads <= 3 * history.0.len().div_ceil(500), "{} loaded {loads} times", projection.name());
    }
}

#[test]
fn a_sale_and_its_refund_make_the_daily_sales() {
    let mut rows = folded(&History::sale_and_refund());
    let sales: DailySalesRow = row(&mut rows, format!("{STORE}|2026-05-01"));
    assert_eq!((sales.bills_paid, sales.gross, sales.tax, sales.total, sales.net), (2, 214_00, 14_00, 214_00, 214_00));
    assert_eq!((sales.tenant, sales.business_date, sales.refunds_count), (MERCHANT, day(1), 0));
    // 1.00 of the refund was parked money, which was no sale.
    let later: DailySalesRow = row(&mut rows, format!("{STORE}|2026-05-02"));
    assert_eq!((later.bills_paid, later.refunds_count, later.refunds_amount, later.net), (0, 1, 53_50, -52_50));
    let item: DailyItemSalesRow = row(&mut rows, format!("{STORE}|2026-05-01|latte"));
    assert_eq!((item.quantity_milli, item.gross, item.total), (4_000, 214_00, 214_00));
    let cash: DailyTenderSalesRow = row(&mut rows, format!("{STORE}|2026-05-01|cash"));
    assert_eq!((cash.tender, cash.count, cash.amount, cash.cash_rounding), (Tender::Cash, 2, 214_00, -50));
    let drawer: DailyTenderSalesRow = row(&mut rows, format!("{STORE}|2026-05-02|cash"));
    assert_eq!((drawer.count, drawer.refunds_count, drawer.refunds_amount), (0, 1, 53_50));
}

#[test]
fn a_bill_not_paid_in_full_is_no_sale() {
    let mut history = History::default();
    history.order(1).bill(1);
    assert_eq!(folded(&history.0).get::<DailySalesRow>(&format!("{STORE}|2026-05-01")), Ok(None));
}

#[test]
fn an_order_has_its_lines() {
    let mut rows = folded(&History::sale_and_refund());
    let order_id = OrderId(Ulid(1001));
    let order: OrderRow = row(&mut rows, order_id);
    assert_eq!((order.status, order.total, order.line_count), (order::Status::Completed, Some(107_00), 1));
    assert_eq!((order.stamp.version, order.stamp.opened_pos, order.bill_id), (7, 5, Some(BillId(Ulid(2001)))));
    let lines: Vec<_> = order.document.lines.iter().map(|line| (line.line.line_id, line.voided)).collect();
    assert_eq!(lines, [1, 2].map(|n| (domain::ids::LineId(Ulid(n)), n == 2)));
}

#[test]
fn bills_payments_and_refunds_show_where_the_money_is() {
    let mut rows = folded(&History::sale_and_refund());
    let bill: BillRow = row(&mut rows, BillId(Ulid(2001)));
    assert_eq!(
        (bill.status, bill.due, bill.paid_total, bill.refunded_total, bill.parked_total),
        (bill::Status::Paid, 0, 107_00, 53_50, 1_00)
    );
    assert!(bill.paid_at.is_some());
    let link: BillOrderRow = row(&mut rows, format!("{}|{}", BillId(Ulid(2001)), OrderId(Ulid(1001))));
    assert_eq!(link.order_id, OrderId(Ulid(1001)));
    let payment: PaymentRow = row(&mut rows, PaymentIntentId(Ulid(3001)));
    assert_eq!(
        (payment.captured, payment.refunded, payment.parked, payment.needs_attention),
        (107_00, 53_50, 1_00, false),
        "what was parked went back first"
    );
    let refund: RefundRow = row(&mut rows, RefundId(Ulid(4001)));
    assert_eq!((refund.status, refund.amount, refund.completed_at.is_some()), (refund::Status::Succeeded, 53_50, true));
}

#[test]
fn what_a_bill_had_no_use_for_needs_attention_until_it_went_back() {
    let mut paid = History::default();
    paid.order(1).bill(1).pay(1);
    let before: PaymentRow = row(&mut folded(&paid.0), PaymentIntentId(Ulid(3001)));
    assert_eq!((before.parked, before.needs_attention), (1_00, true));
    paid.refund(1);
    let after: PaymentRow = row(&mut folded(&paid.0), PaymentIntentId(Ulid(3001)));
    assert_eq!((after.refunded, after.needs_attention), (53_50, false));
}

#[test]
fn the_directory_follows_names_and_lives() {
    let mut rows = folded(&History::sale_and_refund());
    let merchant: MerchantRow = row(&mut rows, MERCHANT);
    assert_eq!((merchant.name.as_str(), merchant.status, merchant.stamp.version), ("Kopi & Co", merchant::Status::Active, 2));
    let store: StoreRow = row(&mut rows, STORE);
    assert_eq!((store.status, store.zone.as_str()), (store::Status::Inactive, "Asia/Bangkok"));
}

#[test]
fn an_event_that_cannot_be_applied_halts_its_stream_and_no_other() {
    let stream = StreamKey { tenant: MERCHANT, stream_type: StreamType::Bill, stream_id: Ulid(2001) };
    let mut history = History::default();
    history.bill(1).raw(stream, "bill.paid", b"{\"total\":\"much\"}".to_vec()).pay(1).bill(2).pay(2);
    let mut fold = Fold::new(Rows::complete(), HashMap::new());
    assert_eq!(fold.step(&DailySales, &Batch::new(&DailySales, history.0), 0), Step::Done);
    assert_eq!(fold.quarantined.iter().map(|entry| (entry.stream, entry.pos)).collect::<Vec<_>>(), [(stream, 2)]);
    let sales: DailySalesRow = row(&mut fold.rows, format!("{STORE}|2026-05-01"));
    assert_eq!(sales.bills_paid, 1);
}

#[test]
fn a_sum_that_does_not_fit_changes_nothing_at_all() {
    let mut fold = Fold::new(Rows::complete(), HashMap::new());
    let mut history = History::default();
    history.bill(1).pay(1);
    fold.step(&DailySales, &Batch::new(&DailySales, history.0.clone()), 0);
    let mut full: DailySalesRow = row(&mut fold.rows, format!("{STORE}|2026-05-01"));
    full.net = i64::MAX;
    fold.rows.put(full.clone());
    fold.rows.keep();
    let mut more = History(history.0.clone());
    more.bill(2).pay(2);
    fold.step(&DailySales, &Batch::new(&DailySales, more.0[history.0.len()..].to_vec()), 0);
    assert_eq!(fold.quarantined.len(), 1);
    assert_eq!(row::<DailySalesRow>(&mut fold.rows, format!("{STORE}|2026-05-01")), full);
    assert_eq!(row::<DailyItemSalesRow>(&mut fold.rows, format!("{STORE}|2026-05-01|latte")).quantity_milli, 2_000);
}

#[test]
fn an_unknown_type_stops_and_is_never_skipped() {
    let stream = StreamKey { tenant: MERCHANT, stream_type: StreamType::Bill, stream_id: Ulid(9) };
    let mut history = History::default();
    history.bill(1).raw(stream, "bill.sung", b"{}".to_vec()).bill(2);
    let mut fold = Fold::new(Rows::complete(), HashMap::new());
    let step = fold.step(&DailySales, &Batch::new(&DailySales, history.0), 0);
    assert!(matches!(step, Step::Unknown { next: 1, .. }), "{step:?}");
}

#[test]
fn every_column_of_a_row_is_in_its_table_and_the_other_way_round() {
    let rows = folded(&History::sale_and_refund());
    for table in crate::all().iter().flat_map(|projection| projection.tables()) {
        let sample = rows.table(table.name).unwrap().into_values().next().unwrap();
        let mut fields: Vec<String> = sample.as_object().unwrap().keys().cloned().collect();
        let body = table.create.split_once("create table").unwrap().1.split_once("(\n").unwrap().1.split_once("\n)").unwrap().0;
        let mut columns: Vec<String> = body.lines().map(|line| line.split_whitespace().next().unwrap().to_owned()).collect();
        fields.sort();
        columns.sort();
        assert_eq!(fields, columns, "{}", table.name);
    }
}

#[test]
fn the_feed_tells_of_every_event_of_the_things_that_it_reads_and_of_nothing_else() {
    for event in History::sale_and_refund() {
        let told = domain::public_event::public_type(event.decoded().unwrap()).is_some();
        assert_eq!(told, Events.reads(event.stream.stream_type), "{}", event.event_type);
    }
}
