use std::{
    collections::{BTreeMap, HashSet},
    io::Write,
    path::PathBuf,
};

use domain::payment_intent::Tender;
use flate2::{Compression, write::GzEncoder};

use super::*;
use crate::import::{
    mapping::Mapping,
    plan::tests::{HEADER, SHOP},
};

/// All steps of a file with these bytes.
pub(crate) fn steps_of(mapping: Mapping, bytes: &[u8]) -> Vec<Step> {
    let size = bytes.len() as u64;
    let file: Box<dyn Read + Send> = Box::new(std::io::Cursor::new(bytes.to_vec()));
    let mut reader = csv::ReaderBuilder::new().delimiter(mapping.file.delimiter as u8).flexible(true).from_reader(file);
    let header = reader.headers().unwrap().clone();
    let planner = Planner::bind(mapping, &header).unwrap();
    let input = Input { path: PathBuf::from("test.csv"), reader, header, size, last_line: 1 };
    all(Steps::new(input, planner))
}

fn all(mut steps: Steps) -> Vec<Step> {
    std::iter::from_fn(|| steps.advance().unwrap()).collect()
}

fn told(step: &Step) -> String {
    match &step.what {
        StepKind::Sale(sale) => format!("{} sold {}", sale.key, sale.lines.len()),
        StepKind::Refund(refund) => format!("{} refunds {}", refund.key, refund.link.as_ref().map_or("nothing", |link| &link.of)),
        StepKind::Ledger(ledger) => format!("{} on the books", ledger.key),
        StepKind::Skipped(reason) => format!("{} skipped {reason}", step.key),
        StepKind::Bad(problem) => format!("{} bad {}: {}", step.key, problem.line, problem.reason),
    }
}

fn story(mapping: &str, rows: &str) -> Vec<String> {
    let bytes = format!("{HEADER}{rows}").into_bytes();
    steps_of(Mapping::parse(mapping).unwrap(), &bytes).iter().map(told).collect()
}

fn grouped() -> String {
    SHOP.replace("key = \"no\"", "key = \"no\"\nrows = \"consecutive\"")
}

#[test]
fn a_key_that_comes_twice_is_refused_not_dropped() {
    let row = "7,,2024-03-01 10:15,Tea,1,10,C,,\n";
    assert_eq!(story(SHOP, &row.repeat(2)), ["7 sold 1", "7 bad 3: order key '7' came before in this file"]);
    let apart = format!("{row}8,,2024-03-01 10:15,Tea,1,10,C,,\n{row}");
    assert_eq!(story(&grouped(), &apart), ["7 sold 1", "8 sold 1", "7 bad 4: order key '7' came before in this file"]);
}

#[test]
fn an_order_with_a_card_number_in_a_cell_that_is_kept_is_refused_without_saying_it() {
    let row = |key: &str, item: &str, paid: &str| format!("{key},,2024-03-01 10:15,{item},1,10,C,{paid},\n");
    let refusal = |cell: u8| format!("cell {cell} holds what looks like a card number; it is neither kept nor shown");
    let rows = row("7", "Tea", "") + &row("7", "paid by 4111 1111 1111 1111", "") + &row("8", "Tea", "");
    assert_eq!(story(&grouped(), &rows), [format!("7 bad 3: {}", refusal(4)), "8 sold 1".to_owned()]);
    let keyed = story(SHOP, &row("4111111111111111", "Tea", ""));
    assert!(keyed[0].ends_with(&format!("bad 2: {}", refusal(1))), "{keyed:?}");
    assert_eq!(story(SHOP, &row("7", "4006381333931", "")), ["7 sold 1"], "the number of an article");
    assert_eq!(
        story(SHOP, &row("7", "Tea", "4111111111111111")),
        ["7 sold 1"],
        "of a column that the mapping does not name nothing is kept"
    );
}

#[test]
fn skipped_rows_are_counted_and_do_not_cut_an_order() {
    let mapping = grouped()
        + "[[skip]]\nreason = \"stock\"\nwhen = [{ column = \"qty\", sign = \"negative\" }, { column = \"price\", sign = \"zero\" }]\n";
    let rows = "7,,2024-03-01 10:15,Tea,1,10,C,,\n9,,2024-03-01 10:15,Tea,-3,0,C,,\n7,,2024-03-01 10:15,Tea,1,10,C,,\n8,,2024-03-01 10:15,Tea,1,0,C,,\n";
    assert_eq!(story(&mapping, rows), ["9 skipped stock", "7 sold 2", "8 sold 1"]);
}

#[test]
fn skip_rules_look_at_text_too() {
    let rule = |when: &str| format!("{SHOP}[[skip]]\nreason = \"no\"\nwhen = [{{ column = \"item\", {when} }}]\n");
    let row = "7,,2024-03-01 10:15,TEST 1,1,10,C,,\n";
    for when in ["starts_with = \"TEST\"", "is = [\"a\", \"TEST 1\"]", "empty = false"] {
        assert_eq!(story(&rule(when), row), ["7 skipped no"], "{when}");
    }
    for when in ["starts_with = \"test\"", "is = [\"TEST\"]", "empty = true", "sign = \"positive\""] {
        assert_eq!(story(&rule(when), row), ["7 sold 1"], "{when}");
    }
}

#[test]
fn an_unusable_row_spoils_the_orders_that_it_may_belong_to() {
    let rows = "6,,2024-03-01 10:15,Tea,1,10,C,,\n7,,2024-03-01 10:15,Tea,1,10,C,,\n7,,2024\n8,,2024-03-01 10:15,Tea,1,10,C,,\n9,,2024-03-01 10:15,Tea,1,10,C,,\n";
    let told = story(&grouped(), rows);
    let neighbour = "line 4 may belong to this order, but cannot be used";
    let unusable = "7 bad 4: the row has 3 cells, the header 9".to_owned();
    assert_eq!(
        told,
        ["6 sold 1".to_owned(), format!("7 bad 3: {neighbour}"), unusable, format!("8 bad 5: {neighbour}"), "9 sold 1".to_owned()]
    );
    // With one row per order no neighbour is concerned.
    assert_eq!(story(SHOP, rows).iter().filter(|line| line.contains("sold")).count(), 4);
}

#[test]
fn an_unusable_row_spoils_scattered_orders_as_far_as_its_key_tells() {
    let scattered = grouped().replace("rows = \"consecutive\"", "rows = \"consecutive\"\nwithin = 2");
    let row = |key: &str| format!("{key},,2024-03-01 10:15,Tea,1,10,C,,\n");
    let rows = |keys: &[&str], bad: &str, more: &[&str]| {
        let rows = |keys: &[&str]| keys.iter().map(|key| row(key)).collect::<String>();
        rows(keys) + bad + &rows(more)
    };
    // Its key is that of an order under way: no other is concerned.
    let told = story(&scattered, &rows(&["6", "7"], "6,,2024\n", &["6", "7", "8"]));
    let spoiled = |key: &str, line: usize| format!("{key} bad {line}: line 4 may belong to this order, but cannot be used");
    let unusable = |key: &str| format!("{key} bad 4: the row has 3 cells, the header 9");
    assert_eq!(told, [unusable("6"), spoiled("6", 2), "7 sold 2".to_owned(), "8 sold 1".to_owned()]);
    // It is not: all orders under way, and those that begin within reach of it.
    for bad in ["x,,2024\n", ",,2024\n"] {
        let told = story(&scattered, &rows(&["6", "7"], bad, &["6", "7", "8", "9"]));
        let key = bad.split(',').next().unwrap();
        assert_eq!(told, [unusable(key), spoiled("6", 2), spoiled("7", 3), "8 sold 1".to_owned(), "9 sold 1".to_owned()]);
        let told = story(&scattered, &rows(&["6"], &(row("7") + bad), &["8", "9", "10"]));
        let expected = [unusable(key), spoiled("6", 2), spoiled("7", 3), spoiled("8", 5), spoiled("9", 6), "10 sold 1".to_owned()];
        assert_eq!(told, expected);
    }
}

#[test]
fn lines_are_counted_through_quoted_line_breaks_and_bom() {
    let bytes = format!("\u{feff}{HEADER}7,,2024-03-01 10:15,\"Tea\",1,10,C,\"a\nb\",\n8,,2024-03-01 10:15,Tea,1,x,C,,\n");
    let steps = steps_of(Mapping::parse(SHOP).unwrap(), bytes.as_bytes());
    assert!(matches!(steps[0].what, StepKind::Sale(_)));
    assert_eq!(told(&steps[1]), "8 bad 4: 'x' is not a decimal amount with at most 2 decimals");
}

#[test]
fn a_row_that_is_not_utf8_is_bad_and_the_rest_goes_on() {
    let mut bytes = format!("{HEADER}7,,2024-03-01 10:15,T").into_bytes();
    bytes.push(0xe9);
    bytes.extend(b",1,10,C,,\n8,,2024-03-01 10:15,Tea,1,10,C,,\n");
    let steps = steps_of(Mapping::parse(SHOP).unwrap(), &bytes);
    assert_eq!(steps.iter().map(told).collect::<Vec<_>>(), ["7 bad 2: the row is not UTF-8", "8 sold 1"]);
}

fn scratch(name: &str, bytes: &[u8]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("smartpos-import-{}-{name}", std::process::id()));
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn gzip_is_known_by_its_bytes_and_damage_is_told() {
    let text = format!("{HEADER}7,,2024-03-01 10:15,Tea,1,10,C,,\n");
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    let packed = encoder.finish().unwrap();
    for (name, bytes) in [("plain.gz", text.as_bytes()), ("packed.csv", packed.as_slice())] {
        let path = scratch(name, bytes);
        let mapping = Mapping::parse(SHOP).unwrap();
        let input = Input::open(&path, &mapping.file).unwrap();
        assert_eq!(input.size(), text.len() as u64);
        let planner = Planner::bind(mapping, input.header()).unwrap();
        assert_eq!(all(Steps::new(input, planner)).iter().map(told).collect::<Vec<_>>(), ["7 sold 1"]);
        std::fs::remove_file(path).unwrap();
    }
    let path = scratch("cut.csv", &packed[..packed.len() - 12]);
    let mapping = Mapping::parse(SHOP).unwrap();
    let broken = Input::open(&path, &mapping.file).and_then(|input| {
        let planner = Planner::bind(mapping, input.header())?;
        let mut steps = Steps::new(input, planner);
        while steps.advance()?.is_some() {}
        Ok(())
    });
    assert!(matches!(broken, Err(ImportError::Broken { .. })), "{broken:?}");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_column_that_is_missing_or_twice_is_named_with_its_key() {
    let bind = |header: &str| {
        let header: StringRecord = header.trim().split(',').collect();
        Planner::bind(Mapping::parse(SHOP).unwrap(), &header).map(drop).unwrap_err().to_string()
    };
    assert!(
        bind(&HEADER.replace("price", "preis"))
            .starts_with("mapping key 'line[0].unit_price.column' names column 'price', which the file has 0 times")
    );
    assert!(bind(&HEADER.replace("paid", "no")).contains("'order.key' names column 'no', which the file has 2 times"));
}

/// The shipped mapping against the real file, where the workspace has it beside itself.
#[test]
fn every_coffee_sale_is_planned_with_its_exact_amount() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let mapping = Mapping::load(&root.join("mappings/coffee_machine.toml")).unwrap();
    let path = root.join("../shared/data/coffee_machine/coffee_machine_2024.csv.gz");
    if !path.exists() {
        eprintln!("no coffee data here; nothing was compared");
        return;
    }
    let input = Input::open(&path, &mapping.file).unwrap();
    let size = input.size();
    let planner = Planner::bind(mapping, input.header()).unwrap();
    let steps = all(Steps::new(input, planner));
    let (mut sums, mut ids): (BTreeMap<&str, (u64, i64)>, HashSet<_>) = (BTreeMap::new(), HashSet::new());
    for step in &steps {
        let StepKind::Sale(sale) = &step.what else { panic!("{}", told(step)) };
        let payment = sale.payment.as_ref().unwrap();
        assert_eq!((sale.lines.len(), sale.adjustments.len(), payment.amount), (1, 0, sale.total));
        assert_eq!(payment.merchant_reference.is_some(), payment.tender == Tender::Card);
        let sum = sums.entry(payment.tender.as_str()).or_default();
        *sum = (sum.0 + 1, sum.1 + payment.amount.amount);
        assert!(ids.insert(sale.order_id) && sale.key == sale.order_number.clone().unwrap());
    }
    assert_eq!((steps.len(), steps.last().unwrap().rows[0].end), (2_693, size));
    assert_eq!(sums, independent_sums(&path));
    assert_eq!((sums["card"].0, sums["cash"].0), (2_604, 89));
}

/// Count and satang-like sum per tender, by splitting the text at commas and padding the decimals.
fn independent_sums(path: &Path) -> BTreeMap<&'static str, (u64, i64)> {
    let mut text = String::new();
    MultiGzDecoder::new(File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    let mut sums = BTreeMap::new();
    for line in text.lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        let (whole, part) = cells[5].split_once('.').unwrap_or((cells[5], ""));
        let minor: i64 = format!("{whole}{part:0<2}").parse().unwrap();
        let tender = if cells[3] == "card" { "card" } else { "cash" };
        let sum: &mut (u64, i64) = sums.entry(tender).or_default();
        *sum = (sum.0 + 1, sum.1 + minor);
    }
    sums
}
