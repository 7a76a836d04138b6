use domain::{money::Currency, payment_intent::Tender, refund::Destination};

use super::*;
use crate::import::{mapping::Mapping, rows::StepKind, rows::tests::steps_of, sale::RefundUnit};

/// A shop with quantities, tenders, adjustments and all: tests change one thing each.
pub(crate) const SHOP: &str = r#"
source = "shop"
[merchant]
psp = "demo"
code = "shop"
name = "Shop"
[store]
value = { column = "store", default = "S1" }
currency = "THB"
zone = "Asia/Bangkok"
tax = "untaxed"
known.S1 = { code = "siam", name = "Siam" }
[order]
key = "no"
opened_at = { column = "at", format = "%Y-%m-%d %H:%M" }
[[line]]
item_code = { column = "item" }
name = { column = "item" }
quantity = { column = "qty", default = "1" }
unit_price = { column = "price" }
[payment]
tender = { column = "tender", values = { C = "cash", V = "card", "" = "unpaid" } }
"#;
pub(crate) const HEADER: &str = "no,store,at,item,qty,price,tender,paid,tip\n";

fn outcome(mapping: &str, rows: &str) -> Vec<Result<Box<SaleUnit>, String>> {
    let steps = steps_of(Mapping::parse(mapping).unwrap(), format!("{HEADER}{rows}").as_bytes());
    let told = |step: crate::import::rows::Step| match step.what {
        StepKind::Sale(sale) => Ok(sale),
        StepKind::Refund(refund) => Err(format!("refund: {} of {}", refund.amount, refund.of)),
        StepKind::Skipped(reason) => Err(format!("skipped: {reason}")),
        StepKind::Bad(problem) => Err(format!("{}: {}", problem.line, problem.reason)),
    };
    steps.into_iter().map(told).collect()
}

fn sale(mapping: &str, rows: &str) -> SaleUnit {
    let mut all = outcome(mapping, rows);
    assert_eq!(all.len(), 1, "{all:?}");
    *all.remove(0).unwrap()
}

fn refusal(mapping: &str, rows: &str) -> String {
    outcome(mapping, rows).into_iter().find_map(Result::err).expect("nothing was refused")
}

fn with(more: &str) -> String {
    format!("{SHOP}{more}")
}

const PAID: &str = "amount = { column = \"paid\" }\n";

#[test]
fn a_row_is_an_order_a_bill_and_a_payment() {
    let sale = sale(SHOP, "7,S1,2024-03-01 10:15,Tea,2,45.50,C,,\n");
    assert_eq!(sale.total, Money::new(91_00, Currency::THB));
    assert_eq!(sale.opened_at.to_rfc3339(), "2024-03-01T03:15:00+00:00");
    assert_eq!((sale.lines[0].quantity_milli, sale.lines[0].unit_price), (2_000, 45_50));
    let payment = sale.payment.unwrap();
    assert_eq!((payment.tender, payment.amount, payment.paid_at), (Tender::Cash, sale.total, sale.opened_at));
    assert_eq!(sale.store.code, "siam");
}

#[test]
fn tenders_are_mapped_and_never_guessed() {
    assert_eq!(sale(SHOP, "7,,2024-03-01 10:15,Tea,,45.50,V,,\n").payment.unwrap().tender, Tender::Card);
    assert!(sale(SHOP, "7,,2024-03-01 10:15,Tea,,45.50,,,\n").payment.is_none());
    assert!(refusal(SHOP, "7,,2024-03-01 10:15,Tea,,45.50,Voucher,,\n").contains("tender 'Voucher'"));
}

#[test]
fn bad_cells_are_named_with_their_line() {
    for (row, part) in [
        ("7,,2024-03-01 10:15,Tea,,4x,C,,", "2: '4x' is not a decimal"),
        ("7,,2024-03-01 10:15,Tea,,0.001,C,,", "2: '0.001'"),
        ("7,,2024-03-01 10:15,Tea,two,4,C,,", "2: 'two' is not a quantity"),
        ("7,,01.03.2024,Tea,,4,C,,", "2: '01.03.2024' is not a time"),
        ("7,X,2024-03-01 10:15,Tea,,4,C,,", "2: store 'X' is not listed"),
        (",,2024-03-01 10:15,Tea,,4,C,,", "2: the order key is empty"),
        ("7,,2024-03-01 10:15,Tea,,4,C", "2: the row has 7 cells, the header 9"),
    ] {
        let told = refusal(SHOP, &format!("{row}\n"));
        assert!(told.starts_with(part), "{row}: {told}");
    }
}

#[test]
fn the_amount_paid_must_match_unless_the_mapping_allows_a_difference() {
    let row = "7,,2024-03-01 10:15,Tea,,45.50,C,45.00,\n";
    assert!(refusal(&with(PAID), row).contains("the lines come to 45.50 THB, paid were 45.00 THB; without [difference]"));
    let allowed = with(&format!("{PAID}[difference]\nreason = \"rounding\"\nlimit = \"0.50\"\n"));
    let rounded = sale(&allowed, row);
    assert_eq!(rounded.adjustments, [SaleAdjustment { amount: -50, reason: "rounding".to_owned() }]);
    assert_eq!(rounded.total.amount, 45_00);
    assert!(refusal(&allowed, "7,,2024-03-01 10:15,Tea,,45.50,C,44.99,\n").contains("allows at most 0.50 THB"));
    assert!(sale(&allowed, "7,,2024-03-01 10:15,Tea,,45.50,C,45.50,\n").adjustments.is_empty());
}

#[test]
fn adjustment_columns_are_signed_amounts_outside_the_lines() {
    let mapping = with("[[adjustment]]\ncolumn = \"tip\"\nreason = \"surcharge\"\n");
    assert_eq!(sale(&mapping, "7,,2024-03-01 10:15,Tea,,45.50,C,,2.25\n").total.amount, 47_75);
    assert_eq!(sale(&mapping, "7,,2024-03-01 10:15,Tea,,45.50,C,,-5\n").total.amount, 40_50);
    assert!(sale(&mapping, "7,,2024-03-01 10:15,Tea,,45.50,C,,\n").adjustments.is_empty());
    assert!(refusal(&mapping, "7,,2024-03-01 10:15,Tea,,45.50,C,,-50\n").contains("negative"));
}

#[test]
fn tax_on_top_is_part_of_what_was_paid() {
    let taxed = SHOP.replace("\"untaxed\"", "\"thai_exclusive\"");
    assert_eq!(sale(&taxed, "7,,2024-03-01 10:15,Tea,,100,C,,\n").total.amount, 107_00);
    let inclusive = SHOP.replace("\"untaxed\"", "\"thai_inclusive\"");
    assert_eq!(sale(&inclusive, "7,,2024-03-01 10:15,Tea,,107,C,,\n").total.amount, 107_00);
}

#[test]
fn a_line_amount_is_divided_only_when_it_divides() {
    let mapping = SHOP.replace("unit_price", "amount");
    assert_eq!(sale(&mapping, "7,,2024-03-01 10:15,Tea,3,45.60,C,,\n").lines[0].unit_price, 15_20);
    assert_eq!(sale(&mapping, "7,,2024-03-01 10:15,Tea,0.5,45.60,C,,\n").lines[0].unit_price, 91_20);
    assert!(refusal(&mapping, "7,,2024-03-01 10:15,Tea,7,45.60,C,,\n").contains("whole price"));
    assert!(refusal(&mapping, "7,,2024-03-01 10:15,Tea,0,45.60,C,,\n").contains("whole price"));
}

#[test]
fn several_lines_of_one_row_leave_out_what_is_zero() {
    let more = "[[line]]\nitem_code = { constant = \"tolls\" }\nname = { constant = \"Tolls\" }\namount = { column = \"tip\" }\nomit_zero = true\n";
    let mapping = with(more);
    assert_eq!(sale(&mapping, "7,,2024-03-01 10:15,Fare,,45.50,C,,5.76\n").lines.len(), 2);
    for nothing in ["", "0", "0.00"] {
        assert_eq!(sale(&mapping, &format!("7,,2024-03-01 10:15,Fare,,45.50,C,,{nothing}\n")).lines.len(), 1);
    }
}

#[test]
fn orders_below_zero_are_refused_or_skipped_by_name() {
    let row = "7,,2024-03-01 10:15,Tea,-1,45.50,C,,\n";
    assert!(refusal(SHOP, row).contains("below zero"));
    let skipping = with("[refund]\nnegative = \"skip\"\nreason = \"reversal\"\n");
    assert_eq!(refusal(&skipping, row), "skipped: reversal");
    assert!(refusal(&with(PAID), "7,,2024-03-01 10:15,Tea,1,45.50,C,-45.50,\n").contains("below zero"));
}

const LINKED: &str = "[refund]\nnegative = \"refund\"\nof = \"paid\"\nreason_column = \"tip\"\n";
const CASH_SALE: &str = "7,,2024-03-01 10:15,Tea,2,45.50,C,,\n";

/// The second row of a file whose first is [`CASH_SALE`].
fn refund(mapping: &str, row: &str) -> RefundUnit {
    let mapping = Mapping::parse(mapping).unwrap();
    let mut steps = steps_of(mapping, format!("{HEADER}{CASH_SALE}{row}").as_bytes());
    match steps.remove(1).what {
        StepKind::Refund(refund) => *refund,
        other @ (StepKind::Sale(_) | StepKind::Skipped(_) | StepKind::Bad(_)) => panic!("{other:?}"),
    }
}

#[test]
fn an_order_below_zero_gives_back_money_of_the_order_it_names() {
    let paid = sale(SHOP, CASH_SALE).payment.unwrap();
    let back = refund(&with(LINKED), "r1,,2024-03-02 09:00,Tea,-1,45.50,?,7,cold\n");
    assert_eq!((back.payment_intent_id, back.tender, back.destination), (paid.payment_intent_id, Tender::Cash, Destination::Cash));
    assert_eq!((back.amount, back.reason.as_str(), back.of.as_str()), (Money::new(45_50, Currency::THB), "cold", "7"));
    assert_eq!(back.given_at.to_rfc3339(), "2024-03-02T02:00:00+00:00");
    assert_eq!(refund(&with(LINKED), "r1,,2024-03-02 09:00,Tea,1,-45.50,?,7,\n").reason, "imported refund");
    let taxed = with(LINKED).replace("\"untaxed\"", "\"thai_exclusive\"");
    assert_eq!(refund(&taxed, "r1,,2024-03-02 09:00,Tea,-1,100,?,7,\n").amount.amount, 107_00);
    let told = with(&LINKED.replace("of = \"paid\"", "of = \"tender\"").replace("reason_column = \"tip\"", "reason = \"return\""));
    let stated = told.replace("[payment]\n", "[payment]\namount = { column = \"paid\", default = \"91\" }\n");
    let back = refund(&stated, "r1,,2024-03-02 09:00,Tea,-1,45.50,7,-40,\n");
    assert_eq!((back.amount.amount, back.reason.as_str()), (40_00, "return"));
}

#[test]
fn card_payments_go_back_the_way_they_came() {
    let rows = format!("{HEADER}{}r1,,2024-03-02 09:00,Tea,-1,45.50,,7,\n", CASH_SALE.replace(",C,", ",V,"));
    let steps = steps_of(Mapping::parse(&with(LINKED)).unwrap(), rows.as_bytes());
    assert!(matches!(&steps[1].what, StepKind::Refund(back) if back.destination == Destination::Original), "{:?}", steps[1]);
}

#[test]
fn a_refund_that_names_no_paid_sale_before_it_is_refused() {
    for (rows, told) in [
        ("r1,,2024-03-02 09:00,Tea,-1,45.50,,,\n", "2: the order is below zero and names no order that is refunded"),
        ("r1,,2024-03-02 09:00,Tea,-1,45.50,,7,\n", "2: refund of order '7', which is no paid sale earlier in this file"),
        ("7,,2024-03-01 10:15,Tea,2,45.50,,,\nr1,,2024-03-02 09:00,Tea,-1,45.50,,7,\n", "3: refund of order '7', which is no paid sale"),
        ("7,,2024-03-01 10:15,Tea,2,45.50,C,,\n7,,2024-03-02 09:00,Tea,-1,45.50,,7,\n", "3: order key '7' came before in this file"),
    ] {
        let refused = refusal(&with(LINKED), rows);
        assert!(refused.starts_with(told), "{rows}: {refused}");
    }
}

#[test]
fn consecutive_rows_with_one_key_are_one_order() {
    let grouped = SHOP.replace("key = \"no\"", "key = \"no\"\nrows = \"consecutive\"");
    let rows = "7,,2024-03-01 10:15,Tea,1,10,C,,\n7,,2024-03-01 10:16,Tea,2,10,C,,\n8,,2024-03-01 10:17,Cake,1,5,V,,\n";
    let all: Vec<_> = outcome(&grouped, rows).into_iter().map(Result::unwrap).collect();
    assert_eq!(all.iter().map(|sale| (sale.lines.len(), sale.total.amount)).collect::<Vec<_>>(), [(2, 30_00), (1, 5_00)]);
    assert_ne!(all[0].lines[0].line_id, all[0].lines[1].line_id);
    let disagreeing = "7,,2024-03-01 10:15,Tea,1,10,C,,\n7,,2024-03-01 10:16,Tea,2,10,V,,\n";
    assert_eq!(refusal(&grouped, disagreeing), "3: the rows of order '7' disagree on the tender: 'C' and 'V'");
}

#[test]
fn nothing_to_pay_needs_no_payment() {
    let free = sale(SHOP, "7,,2024-03-01 10:15,Sample,1,0,C,,\n");
    assert!(free.payment.is_none());
    assert_eq!(free.total.amount, 0);
}

#[test]
fn unlisted_stores_are_opened_when_the_mapping_says_so() {
    let open = SHOP.replace("tax = ", "unlisted = \"open\"\ntax = ");
    let store = sale(&open, "7,United Kingdom,2024-03-01 10:15,Tea,,45.50,C,,\n").store;
    assert_eq!((store.code.as_str(), store.name.as_str()), ("United-Kingdom", "United Kingdom"));
    assert_eq!(sale(&open, "7,S1,2024-03-01 10:15,Tea,,45.50,C,,\n").store.code, "siam");
    assert!(refusal(&open, "7,???,2024-03-01 10:15,Tea,,45.50,C,,\n").contains("no store code"));
}

#[test]
fn spelling_does_not_change_the_request_but_meaning_does() {
    let body = |row: &str| serde_json::to_value(sale(SHOP, row)).unwrap();
    let first = body("7,,2024-03-01 10:15,Tea,1,45.50,C,,\n");
    assert_eq!(first, body("7,S1,2024-03-01 10:15, Tea ,1.0,45.5,C,unused,\n"));
    for changed in
        ["7,,2024-03-01 10:15,Tea,1,45.51,C,,\n", "7,,2024-03-01 10:15,Tea,1,45.50,V,,\n", "7,,2024-03-01 10:15,Tee,1,45.50,C,,\n"]
    {
        assert_ne!(first, body(changed));
    }
}

#[test]
fn a_comma_may_stand_before_decimals() {
    let mapping = SHOP.replacen("[merchant]", "[file]\ndelimiter = \";\"\ndecimal = \",\"\n[merchant]", 1);
    let text = format!("{HEADER}7,,2024-03-01 10:15,Tea,2,!,C,,\n").replace(',', ";").replace('!', "45,50");
    let steps = steps_of(Mapping::parse(&mapping).unwrap(), text.as_bytes());
    match &steps[0].what {
        StepKind::Sale(sale) => assert_eq!(sale.total.amount, 91_00),
        StepKind::Refund(_) | StepKind::Skipped(_) | StepKind::Bad(_) => panic!("{:?}", steps[0]),
    }
}

/// Not a fuzzer, but every prefix and every single-byte change of a good file must end in an answer, not a panic.
#[test]
fn damaged_files_give_answers() {
    let good =
        format!("{HEADER}7,S1,2024-03-01 10:15,\"Tea, \"\"hot\"\"\",2,45.50,C,91,0\n8,,2024-12-31 23:59,Cake,1,5,V,5,-1\n").into_bytes();
    let mapping = Mapping::parse(&with(&format!("{PAID}[difference]\nreason = \"rounding\"\n"))).unwrap();
    let start = HEADER.len();
    for place in start..good.len() {
        steps_of(mapping.clone(), &good[..place]);
        for byte in [0, b'"', b',', b'\n', b'-', b'9', b'.', 0xff] {
            let mut damaged = good.clone();
            damaged[place] = byte;
            steps_of(mapping.clone(), &damaged);
        }
    }
}
