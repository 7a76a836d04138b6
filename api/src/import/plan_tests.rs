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
        StepKind::Refund(refund) => Err(format!("refund: {} of {:?}", refund.amount, refund.link.map(|link| link.of))),
        StepKind::Ledger(ledger) => Err(format!("ledger: {}", ledger.amount)),
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
        other @ (StepKind::Sale(_) | StepKind::Ledger(_) | StepKind::Skipped(_) | StepKind::Bad(_)) => panic!("{other:?}"),
    }
}

#[test]
fn an_order_below_zero_gives_back_money_of_the_order_it_names() {
    let paid = sale(SHOP, CASH_SALE).payment.unwrap();
    let back = refund(&with(LINKED), "r1,,2024-03-02 09:00,Tea,-1,45.50,?,7,cold\n");
    let link = back.link.unwrap();
    assert_eq!((link.payment_intent_id, back.tender, link.destination), (paid.payment_intent_id, Tender::Cash, Destination::Cash));
    assert_eq!((back.amount, back.reason.as_str(), link.of.as_str()), (Money::new(45_50, Currency::THB), "cold", "7"));
    assert_eq!((back.breakdown.lines[0].quantity_milli, back.breakdown.lines[0].total, back.breakdown.adjustment), (1_000, 45_50, 0));
    assert_eq!(back.given_at.to_rfc3339(), "2024-03-02T02:00:00+00:00");
    assert_eq!(refund(&with(LINKED), "r1,,2024-03-02 09:00,Tea,1,-45.50,?,7,\n").reason, "imported refund");
    let taxed = with(LINKED).replace("\"untaxed\"", "\"thai_exclusive\"");
    assert_eq!(refund(&taxed, "r1,,2024-03-02 09:00,Tea,-1,100,?,7,\n").amount.amount, 107_00);
    let told = with(&LINKED.replace("of = \"paid\"", "of = \"tender\"").replace("reason_column = \"tip\"", "reason = \"return\""));
    let stated = told.replace("[payment]\n", "[payment]\namount = { column = \"paid\", default = \"91\" }\n");
    let back = refund(&stated, "r1,,2024-03-02 09:00,Tea,-1,45.50,7,-40,\n");
    assert_eq!((back.amount.amount, back.reason.as_str(), back.breakdown.adjustment), (40_00, "return", -5_50));
}

#[test]
fn card_payments_go_back_the_way_they_came() {
    let rows = format!("{HEADER}{}r1,,2024-03-02 09:00,Tea,-1,45.50,,7,\n", CASH_SALE.replace(",C,", ",V,"));
    let steps = steps_of(Mapping::parse(&with(LINKED)).unwrap(), rows.as_bytes());
    assert!(
        matches!(&steps[1].what, StepKind::Refund(back) if back.link.as_ref().unwrap().destination == Destination::Original),
        "{:?}",
        steps[1]
    );
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
        StepKind::Refund(_) | StepKind::Ledger(_) | StepKind::Skipped(_) | StepKind::Bad(_) => panic!("{:?}", steps[0]),
    }
}

const MATCHING: &str = "[refund]\nnegative = \"refund\"\nmatch = [\"item\", \"price\"]\nunlinked = \"record\"\n";

#[test]
fn a_refund_finds_the_newest_sale_whose_rows_agree_and_that_has_enough_left() {
    let rows = format!(
        "{HEADER}1,,2024-03-01 10:15,Tea,2,45.50,C,,\n2,,2024-03-01 10:16,Tea,1,45.50,V,,\n\
         r1,,2024-03-02 09:00,Tea,-1,45.50,C,,\nr2,,2024-03-02 09:01,Tea,-1,45.50,C,,\nr3,,2024-03-02 09:02,Pot,-1,45.50,V,,\n"
    );
    let steps = steps_of(Mapping::parse(&with(MATCHING)).unwrap(), rows.as_bytes());
    let told = |step: &crate::import::rows::Step| match &step.what {
        StepKind::Refund(back) => (back.link.as_ref().map(|link| link.of.clone()), back.tender, back.amount.amount),
        StepKind::Sale(_) | StepKind::Ledger(_) | StepKind::Skipped(_) | StepKind::Bad(_) => panic!("{step:?}"),
    };
    let told: Vec<_> = steps[2..].iter().map(told).collect();
    let expected = [(Some("2".to_owned()), Tender::Card, 45_50), (Some("1".to_owned()), Tender::Cash, 45_50), (None, Tender::Card, 45_50)];
    assert_eq!(told, expected);
}

#[test]
fn tips_stand_beside_what_the_bill_asks_for() {
    let tipped = SHOP.replace(
        "[payment]\n",
        "[payment]\namount = { column = \"paid\" }\ntip = { column = \"tip\" }\nacquirer = { column = \"store\" }\n",
    );
    let sale_of = |row: &str| sale(&(tipped.clone() + "[difference]\nreason = \"rest\"\n"), row);
    let one = sale_of("7,S1,2024-03-01 10:15,Tea,2,45.50,V,101,10\n");
    let payment = one.payment.unwrap();
    assert_eq!((one.total.amount, payment.amount.amount, payment.tip, payment.acquirer.as_deref()), (91_00, 91_00, 10_00, Some("S1")));
    assert!(one.adjustments.is_empty());
    assert_eq!(sale_of("7,,2024-03-01 10:15,Tea,2,45.50,V,100,10\n").adjustments[0].amount, -1_00);
    assert!(refusal(&tipped, "7,,2024-03-01 10:15,Tea,2,45.50,V,90,-1\n").contains("tip is below zero"));
    assert!(refusal(&tipped, "7,,2024-03-01 10:15,Tea,2,45.50,,92,1\n").contains("tip without a payment"));
}

#[test]
fn a_bill_is_written_off_or_its_payment_disputed_as_the_mapping_says() {
    let mapping = SHOP.replace("\"\" = \"unpaid\"", "N = \"written_off\", D = \"unknown\"")
        + "write_off_reason = \"no charge\"\n[payment.dispute]\nreason = \"contested\"\nwhen = [{ column = \"tender\", is = [\"D\"] }]\n";
    let off = sale(&mapping, "7,,2024-03-01 10:15,Tea,2,45.50,N,,\n");
    assert_eq!((off.payment, off.write_off.as_deref(), off.total.amount), (None, Some("no charge"), 91_00));
    let disputed = sale(&mapping, "7,,2024-03-01 10:15,Tea,2,45.50,D,,\n").payment.unwrap();
    assert_eq!((disputed.tender, disputed.dispute.as_deref()), (Tender::Unknown, Some("contested")));
    assert_eq!(sale(&mapping, "7,,2024-03-01 10:15,Tea,2,45.50,V,,\n").payment.unwrap().dispute, None);
}

#[test]
fn a_price_finer_than_the_minor_unit_is_kept_and_its_rounding_counted() {
    let fine = SHOP.replace("unit_price = { column = \"price\" }", "unit_price = { column = \"price\" }\nprice_decimals = 3");
    let one = sale(&fine, "7,,2024-03-01 10:15,Pad,3,0.015,C,,\n");
    assert_eq!((one.lines[0].unit_price, one.lines[0].price_base_milli, one.total.amount), (15, 10_000, 5));
    assert_eq!((one.rounding.lines, one.rounding.difference), (1, Decimal::new(5, 1)));
    assert_eq!(sale(&fine, "7,,2024-03-01 10:15,Pad,2,0.015,C,,\n").rounding, LineRounding::default());
    assert!(refusal(SHOP, "7,,2024-03-01 10:15,Pad,3,0.015,C,,\n").contains("at most 2 decimals"));
}

#[test]
fn a_line_below_zero_is_an_adjustment_where_the_mapping_says_so() {
    let second =
        "[[line]]\nitem_code = { constant = \"x\" }\nname = { constant = \"Extra\" }\namount = { column = \"tip\" }\nomit_zero = true\n";
    let adjusted = sale(&with(&format!("{second}negative = \"adjust\"\n")), "7,,2024-03-01 10:15,Tea,2,45.50,C,,-1.50\n");
    assert_eq!((adjusted.total.amount, adjusted.lines.len()), (89_50, 1));
    assert_eq!(adjusted.adjustments, [SaleAdjustment { amount: -1_50, reason: "Extra".into() }]);
    assert!(refusal(&with(second), "7,,2024-03-01 10:15,Tea,2,45.50,C,,-1.50\n").contains("negative"));
}

#[test]
fn rows_of_one_order_may_stand_apart_as_far_as_the_mapping_says() {
    let grouped = |more: &str| SHOP.replace("key = \"no\"", &format!("key = \"no\"\nrows = \"consecutive\"\n{more}"));
    let rows = "1,,2024-03-01 10:15,Tea,1,10,C,,\n2,,2024-03-01 10:16,Tea,2,10,C,,\n1,,2024-03-01 10:16,Cup,1,5,C,,\n";
    let told = |more: &str| -> Vec<_> {
        outcome(&grouped(more), rows).into_iter().map(|one| one.map(|sale| (sale.key.clone(), sale.total.amount))).collect()
    };
    assert_eq!(told("within = 2"), [Ok(("2".to_owned(), 20_00)), Ok(("1".to_owned(), 15_00))]);
    assert_eq!(told("")[2], Err("4: order key '1' came before in this file".to_owned()));
}

#[test]
fn rows_for_the_books_are_no_orders() {
    let mapping = with(
        "[[ledger]]\nreason = { column = \"item\" }\namount = { column = \"price\" }\nwhen = [{ column = \"no\", starts_with = \"A\" }]\n",
    );
    let rows =
        "A1,,2024-03-01 10:15,Bad debt,1,-45.50,,,\nA1,,2024-03-01 10:15,Bad debt,1,-45.50,,,\nA2,,2024-03-01 10:15,Bad debt,1,0,,,\n";
    let told: Vec<_> = outcome(&mapping, rows).into_iter().map(Result::unwrap_err).collect();
    assert_eq!(told[0], "ledger: -45.50 THB");
    assert_eq!(told[1], "3: order key 'A1' came before in this file");
    assert!(told[2].contains("changes nothing"), "{}", told[2]);
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
