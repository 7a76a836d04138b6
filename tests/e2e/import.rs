//! Historical sales: the read models equal an independent computation over the file, and a second run adds nothing.

use std::{collections::BTreeMap, io::Read, path::PathBuf, str::FromStr};

use api::import::{self, ImportOptions};
use rust_decimal::Decimal;
use sqlx::Row;
use support::{Lacking, ScratchDir, TestPlatform, skipped};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Count and sum per key, computed here in decimal arithmetic and nowhere else.
type Sums = BTreeMap<(String, String), (i64, Decimal)>;

fn computed(text: &str) -> (Sums, Sums, Decimal) {
    let (mut items, mut tenders, mut total) = (Sums::new(), Sums::new(), Decimal::ZERO);
    for row in csv::Reader::from_reader(text.as_bytes()).records() {
        let row = row.unwrap();
        let (day, tender, money, item) =
            (row[2][..10].to_owned(), row[3].to_owned(), Decimal::from_str(&row[5]).unwrap(), row[6].to_owned());
        for (sums, key) in [(&mut items, item), (&mut tenders, tender)] {
            let entry = sums.entry((day.clone(), key)).or_default();
            entry.0 += 1;
            entry.1 += money;
        }
        total += money;
    }
    (items, tenders, total)
}

async fn read(platform: &TestPlatform, sql: &'static str) -> Sums {
    let rows = sqlx::query(sql).fetch_all(&platform.database.admin).await.unwrap();
    rows.iter().map(|row| ((row.get("day"), row.get("name")), (row.get("count"), Decimal::new(row.get("amount"), 2)))).collect()
}

/// The README's section on imports.
fn section() -> String {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let (_, section) = readme.split_once("\n## Your own sales history\n").unwrap();
    section.split_once("\n## ").unwrap().0.to_owned()
}

/// The block in this language in that section.
fn in_readme(language: &str) -> String {
    let section = section();
    let (_, block) = section.split_once(&format!("```{language}\n")).unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

#[test]
fn the_readme_names_every_key_that_a_mapping_can_have() {
    let document = std::fs::read_to_string(root().join("docs/import.md")).unwrap();
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('|'));
    let keys: Vec<&str> = rows.flat_map(|(keys, _)| keys.split(['`', ',', ' '])).filter(|key| !key.is_empty()).collect();
    assert!(keys.len() > 60 && keys.contains(&"price_decimals"), "{keys:?}");
    let readme = section();
    let known = |key: &str| readme.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == key);
    let unsaid: Vec<_> = keys.into_iter().filter(|key| !key.starts_with('[') && *key != "or" && !known(key)).collect();
    assert_eq!(unsaid, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_in_the_readme_is_imported_as_it_stands() {
    let dir = ScratchDir::new("readme-import");
    let (file, mapping) = (dir.path().join("receipts.csv"), dir.path().join("receipts.toml"));
    std::fs::write(&file, in_readme("csv")).unwrap();
    std::fs::write(&mapping, in_readme("toml")).unwrap();
    let platform = TestPlatform::start().await;
    let options = ImportOptions { file, mapping, reject_file: None, in_flight: 4, quiet: true };
    let report = import::run(&platform.platform.commands, &options).await.unwrap();
    assert_eq!((report.rows, report.orders, report.added, report.rejected.len()), (3, 2, 2, 0));
    platform.settled().await;
    let by_tender =
        "select business_date::text as day, tender as name, count::bigint as count, amount::bigint as amount from read.daily_tender_sales";
    let expected = [("card", 211_00), ("cash", 45_00)]
        .map(|(tender, amount)| (("2024-03-01".to_owned(), tender.to_owned()), (1, Decimal::new(amount, 2))));
    assert_eq!(read(&platform, by_tender).await, Sums::from(expected));
    let again = import::run(&platform.platform.commands, &options).await.unwrap();
    assert_eq!((again.added, again.already_there), (0, 2));
    platform.proves_itself().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_coffee_machines_year_comes_out_to_the_last_kopiyka() {
    let file = root().join("../shared/data/coffee_machine/coffee_machine_2024.csv.gz");
    if !file.is_file() {
        skipped(Lacking::Data, "the coffee machine's data set is not in ../shared/data, so nothing was compared");
        return;
    }
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(&file).unwrap()).read_to_string(&mut text).unwrap();
    let (items, tenders, total) = computed(&text);
    let platform = TestPlatform::start().await;
    let options =
        ImportOptions { file, mapping: root().join("mappings/coffee_machine.toml"), reject_file: None, in_flight: 64, quiet: true };
    let report = import::run(&platform.platform.commands, &options).await.unwrap();
    assert_eq!((report.added, report.rejected.len()), (2_693, 0));
    platform.settled().await;
    let by_item = "select business_date::text as day, name, (quantity_milli / 1000)::bigint as count, total::bigint as amount from read.daily_item_sales";
    let by_tender =
        "select business_date::text as day, tender as name, count::bigint as count, amount::bigint as amount from read.daily_tender_sales";
    let found_items = read(&platform, by_item).await;
    assert_eq!(found_items.len(), items.len());
    assert_eq!(found_items, items);
    assert_eq!(read(&platform, by_tender).await, tenders);
    let sum: i64 = sqlx::query_scalar("select sum(total)::bigint from read.daily_sales").fetch_one(&platform.database.admin).await.unwrap();
    assert_eq!(Decimal::new(sum, 2), total);

    let before = platform.database.head().await;
    let again = import::run(&platform.platform.commands, &options).await.unwrap();
    assert_eq!((again.added, again.already_there), (0, 2_693));
    assert_eq!(platform.database.head().await.pos, before.pos, "a second run adds nothing");
    platform.proves_itself().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_was_cut_off_goes_on_where_it_was_and_names_bad_rows() {
    let platform = TestPlatform::start().await;
    let scratch = support::ScratchDir::new("import");
    let header = "sale_id,machine,datetime,cash_type,card,money,coffee_name\n";
    let row = |n: u32| format!("1-{n:05},1,2024-03-01 10:{:02}:00,cash,,38.7,Latte\n", n % 60);
    let good: String = (1..=50).map(row).collect();
    let bad = "1-00051,1,2024-03-01 10:00:00,cash,,thirty,Latte\n1-00052,1,yesterday,cash,,38.7,Latte\n1-00053,1,2024-03-01 10:00:00,barter,,38.7,Latte\n";
    let file = scratch.path().join("sales.csv");
    let options = ImportOptions {
        file: file.clone(),
        mapping: root().join("mappings/coffee_machine.toml"),
        reject_file: Some(scratch.path().join("rejects.csv")),
        in_flight: 8,
        quiet: true,
    };
    std::fs::write(&file, format!("{header}{}", (1..=20).map(row).collect::<String>())).unwrap();
    assert_eq!(import::run(&platform.platform.commands, &options).await.unwrap().added, 20);
    std::fs::write(&file, format!("{header}{good}{bad}")).unwrap();
    let report = import::run(&platform.platform.commands, &options).await.unwrap();
    assert_eq!((report.added, report.already_there), (30, 20));
    let lines: Vec<u64> = report.rejected.iter().map(|rejected| rejected.line).collect();
    assert_eq!(lines, [52, 53, 54], "{:?}", report.rejected);
    let rejects = std::fs::read_to_string(scratch.path().join("rejects.csv")).unwrap();
    assert_eq!(rejects.lines().count(), 4, "{rejects}");
    platform.proves_itself().await;
    platform.stop().await;
}
