//! A whole import into a real log: added once, found the second time, conflicts and refusals told, interruption survived.

use std::path::{Path, PathBuf};

use commands::{
    committer,
    database::{self, Role},
    refunds::{self, UnlinkedRefund},
    system::{RandomIds, SystemClock},
};
use domain::{
    ids::{RefundId, Ulid},
    money::Money,
    payment_intent::Tender,
    refund::Refund,
};
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    embedded::{Embedded, EmbeddedConfig},
    import::plan::tests::{HEADER, SHOP},
};

/// How long a busy machine may take to open a connection, which the product gives less.
const PATIENCE: Duration = Duration::from_secs(60);

struct Scratch(PathBuf);

impl Scratch {
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Log {
    handler: CommandHandler,
    owner: PgPool,
    stop: CancellationToken,
    committer: tokio::task::JoinHandle<()>,
}

impl Log {
    async fn open(embedded: &Embedded) -> Self {
        let owner = PgPoolOptions::new().max_connections(2).acquire_timeout(PATIENCE).connect(embedded.admin_url()).await.unwrap();
        let options = database::options(embedded.database_url(), Role::App).unwrap();
        database::migrate(&owner, Some(options.get_username())).await.unwrap();
        let stop = CancellationToken::new();
        let (committer, task) = committer::spawn(commands::event_log::PgAppender::new(options), committer::News::default(), stop.clone());
        let pool = database::pool(embedded.database_url(), Role::App, 16).unwrap();
        let pool = pool.options().clone().acquire_timeout(PATIENCE).connect_lazy_with((*pool.connect_options()).clone());
        let handler = CommandHandler::new(pool, committer, Arc::new(SystemClock), Arc::new(RandomIds));
        Self { handler, owner, stop, committer: task }
    }

    /// Events in the log, and the sum of captured payments.
    async fn contents(&self) -> (i64, i64) {
        let sql = "select count(*), coalesce(sum((convert_from(payload, 'UTF8')::jsonb #>> '{amount,amount}')::bigint) \
                   filter (where type = 'payment_intent.succeeded'), 0)::bigint from log.event";
        sqlx::query_as(sql).fetch_one(&self.owner).await.unwrap()
    }
}

fn options(file: &Path, mapping: &Path) -> ImportOptions {
    ImportOptions { file: file.to_owned(), mapping: mapping.to_owned(), reject_file: None, in_flight: DEFAULT_IN_FLIGHT, quiet: true }
}

async fn a_second_run_adds_nothing(log: &Log, scratch: &Scratch) {
    let mapping = scratch.file("shop.toml", SHOP);
    let row = |n: usize| format!("{n},,2024-03-01 10:{:02},Tea,{},45.50,{},,", n % 60, n % 3 + 1, ["C", "V", ""][n % 3]);
    let rows: Vec<String> = (0..500).map(row).collect();
    let file = scratch.file("shop.csv", &format!("{HEADER}{}\n", rows.join("\n")));
    let before = log.contents().await;
    let first = run(&log.handler, &options(&file, &mapping)).await.unwrap();
    assert_eq!((first.rows, first.orders, first.added, first.already_there, first.rejected_orders), (500, 500, 500, 0, 0));
    let after = log.contents().await;
    let paid: i64 = first.totals.iter().filter(|total| total.tender != "none").map(|total| total.total.amount).sum();
    assert_eq!(after.1 - before.1, paid);
    assert_eq!(paid, (0..500_i64).filter(|n| n % 3 != 2).map(|n| (n % 3 + 1) * 45_50).sum::<i64>());

    let again = run(&log.handler, &options(&file, &mapping)).await.unwrap();
    assert_eq!((again.added, again.already_there, again.is_clean()), (0, 500, true));
    assert_eq!(again.totals, first.totals);
    assert_eq!(log.contents().await, after);
}

async fn changes_conflicts_and_refusals_are_told(log: &Log, scratch: &Scratch) {
    let mapping = scratch.file("shop.toml", SHOP);
    let endless = "x".repeat(201);
    let rows = format!(
        "0,,2024-03-01 10:00,Tea,1,45.51,C,,\n1,,2024-03-01 10:01,Tea,2,45.50,V,,\nnew,,2024-03-01 10:01,Tea,2,45.50,V,,\n\
         long,,2024-03-01 10:01,{endless},1,1,C,,\nbad,,2024-03-01 10:01,Tea,1,?,C,,\n"
    );
    let file = scratch.file("changed.csv", &format!("{HEADER}{rows}"));
    let reject_file = scratch.0.join("rejects.csv");
    let report = run(&log.handler, &ImportOptions { reject_file: Some(reject_file.clone()), ..options(&file, &mapping) }).await.unwrap();
    assert_eq!((report.orders, report.added, report.already_there, report.rejected_orders), (5, 1, 1, 3));
    let told: Vec<_> = report.rejected.iter().map(|one| (one.line, one.key.as_str(), one.reason.as_str())).collect();
    assert_eq!((told[0].0, told[0].1), (2, "0"));
    assert!(told[0].2.contains("conflict") && told[0].2.contains("/lines/0/unit_price"), "{}", told[0].2);
    assert!(told[1].2.starts_with("ItemInvalid: "), "{}", told[1].2);
    assert_eq!(told[2], (6, "bad", "'?' is not a decimal amount with at most 2 decimals"));
    let rejects = std::fs::read_to_string(&reject_file).unwrap();
    assert_eq!(rejects.lines().count(), 4);
    assert!(rejects.starts_with("no,store,at,item,qty,price,tender,paid,tip,import_line,import_key,import_reason\n"));
    let itself = run(&log.handler, &ImportOptions { reject_file: Some(file.clone()), ..options(&file, &mapping) }).await;
    assert!(matches!(itself, Err(ImportError::RejectFileIsInput)));
}

async fn linked_refunds_give_back_once_and_never_too_much(log: &Log, scratch: &Scratch) {
    let linked = "[refund]\nnegative = \"refund\"\nof = \"paid\"\nreason_column = \"tip\"\n";
    let other = SHOP.replace("source = \"shop\"", "source = \"shop-3\"").replace("code = \"shop\"", "code = \"shop-3\"");
    let mapping = scratch.file("refunds.toml", &(other + linked));
    let endless = "x".repeat(201);
    let rows = format!(
        "s1,,2024-03-01 10:00,Tea,2,45.50,C,,\nr1,,2024-03-02 10:00,Tea,-1,45.50,,s1,cold\n\
         s2,,2024-03-01 10:01,Tea,1,80,V,,\nr2,,2024-03-02 10:00,Tea,-1,80,,s2,\n\
         r3,,2024-03-02 10:01,Tea,-1,50,,s1,\nr4,,2024-03-02 10:01,Tea,-1,1,,nobody,\n\
         s3,,2024-03-01 10:02,{endless},1,10,C,,\nr5,,2024-03-02 10:01,Tea,-1,10,,s3,\n"
    );
    let file = scratch.file("refunds.csv", &format!("{HEADER}{rows}"));
    let given_back = async || {
        let sql = "select count(*), coalesce(sum((convert_from(payload, 'UTF8')::jsonb #>> '{amount,amount}')::bigint), 0)::bigint, \
                   coalesce(string_agg(convert_from(payload, 'UTF8')::jsonb ->> 'destination', ' ' order by pos), '') \
                   from log.event where type = 'refund.requested'";
        sqlx::query_as::<_, (i64, i64, String)>(sql).fetch_one(&log.owner).await.unwrap()
    };
    let first = run(&log.handler, &options(&file, &mapping)).await.unwrap();
    let refunds = (first.refunds.added, first.refunds.already_there, first.rejected_orders, first.added, first.rows);
    assert_eq!(refunds, (2, 0, 4, 2, 8), "{:?}", first.rejected);
    let sums: Vec<_> = first.refunds.totals.iter().map(|total| (total.tender, total.total.amount, total.orders)).collect();
    assert_eq!(sums, [("card", 80_00, 1), ("cash", 45_50, 1)]);
    let told: Vec<_> = first.rejected.iter().map(|one| (one.line, one.reason.split(':').next().unwrap())).collect();
    let nobody = "refund of order 'nobody', which is no paid sale earlier in this file";
    assert_eq!(told, [(6, "RefundExceedsCaptured"), (7, nobody), (8, "ItemInvalid"), (9, "SaleNotImported")]);
    assert_eq!(given_back().await, (2, 125_50, "cash original".to_owned()));
    let after = log.contents().await;
    let again = run(&log.handler, &options(&file, &mapping)).await.unwrap();
    assert_eq!((again.refunds.added, again.refunds.already_there, again.added, again.already_there), (0, 2, 0, 2));
    assert_eq!((&again.refunds.totals, &again.rejected), (&first.refunds.totals, &first.rejected));
    assert_eq!(log.contents().await, after);
    assert!(again.to_string().contains("refunds already there"), "{again}");
    let changed = scratch.file("refunds.csv", &format!("{HEADER}{}", rows.replace("-1,45.50", "-1,45.00")));
    let conflict = run(&log.handler, &options(&changed, &mapping)).await.unwrap();
    assert!(conflict.rejected[0].line == 3 && conflict.rejected[0].reason.contains("another /amount/amount"), "{:?}", conflict.rejected);
    assert_eq!(log.contents().await, after);
}

async fn a_store_that_differs_stops_the_import(log: &Log, scratch: &Scratch) {
    let mapping = scratch.file("other.toml", &SHOP.replace("Asia/Bangkok", "Asia/Tokyo"));
    let file = scratch.file("other.csv", &format!("{HEADER}x1,,2024-03-01 10:15,Tea,1,10,C,,\n"));
    let before = log.contents().await;
    let stopped = run(&log.handler, &options(&file, &mapping)).await;
    assert!(matches!(&stopped, Err(ImportError::Differs { field: "zone", .. })), "{stopped:?}");
    assert_eq!(log.contents().await, before);
}

async fn a_store_that_cannot_be_opened_refuses_its_own_rows(log: &Log, scratch: &Scratch) {
    let open = SHOP.replace("tax = ", "unlisted = \"open\"\ntax = ").replace("\"shop\"", "\"shop-4\"");
    let mapping = scratch.file("stores.toml", &open);
    // Both make the code A-B, which only one of them can have.
    let rows = "1,A B,2024-03-01 10:00,Tea,1,10,C,,\n2,A-B,2024-03-01 10:00,Tea,1,10,C,,\n3,C,2024-03-01 10:00,Tea,1,10,C,,\n";
    let file = scratch.file("stores.csv", &format!("{HEADER}{rows}"));
    let report = run(&log.handler, &ImportOptions { in_flight: 1, ..options(&file, &mapping) }).await.unwrap();
    assert_eq!((report.added, report.rejected_orders), (2, 1));
    assert_eq!(report.rejected[0].line, 3);
    let reason = &report.rejected[0].reason;
    assert!(reason.starts_with("AlreadyTaken: store 'A-B' cannot be opened: "), "{reason}");
}

async fn an_imported_cash_sale_is_not_rounded(log: &Log, scratch: &Scratch) {
    let odd = SHOP.replace("tax = \"untaxed\"", "tax = \"thai_inclusive\"").replace("\"shop\"", "\"shop-5\"");
    let mapping = scratch.file("odd.toml", &odd);
    let file = scratch.file("odd.csv", &format!("{HEADER}odd,,2024-03-01 10:00,Tea,1,45.51,C,,\n"));
    let report = run(&log.handler, &options(&file, &mapping)).await.unwrap();
    assert_eq!((report.added, report.totals[0].total.amount), (1, 45_51));
    let sql = "select (convert_from(payload, 'UTF8')::jsonb ->> 'cash_rounding')::bigint, \
               (convert_from(payload, 'UTF8')::jsonb #>> '{amount,amount}')::bigint from log.event \
               where type = 'payment_intent.succeeded' order by pos desc limit 1";
    assert_eq!(sqlx::query_as::<_, (i64, i64)>(sql).fetch_one(&log.owner).await.unwrap(), (0, 45_51));
}

async fn a_refund_without_a_payment_is_in_the_stores_currency(log: &Log) {
    let mapping = Mapping::parse(SHOP).unwrap();
    let tenant = setup::merchant_details(&mapping).merchant_id;
    let refund = UnlinkedRefund {
        refund_id: RefundId(Ulid::from(7_u128)),
        store_id: check::store_id(&mapping, "S1"),
        amount: Money::new(10_00, "GBP".parse().unwrap()),
        tender: Tender::Cash,
        acquirer: None,
        reason: "credit note".to_owned(),
        given_at: chrono::DateTime::UNIX_EPOCH,
        breakdown: None,
    };
    let caller = setup::caller(&mapping, tenant, Ulid::from(8_u128));
    let record = async |refund: UnlinkedRefund| {
        let work = log.handler.transact(&caller, move |unit| {
            let refund = refund.clone();
            Box::pin(async move {
                let refund_id = refund.refund_id;
                refunds::record_unlinked(unit, refund).await?;
                unit.reply::<Refund>(201, refund_id, &())
            })
        });
        work.await.map(drop).map_err(|error| error.to_string())
    };
    let before = log.contents().await;
    assert_eq!(record(refund.clone()).await, Err("the store sells in THB".to_owned()));
    assert_eq!(log.contents().await, before);
    assert_eq!(record(UnlinkedRefund { amount: Money::thb(10_00), ..refund }).await, Ok(()));
}

async fn an_interrupted_import_goes_on(log: &Log, scratch: &Scratch) {
    let grouped = SHOP.replace("key = \"no\"", "key = \"no\"\nrows = \"consecutive\"");
    let mapping = scratch
        .file("grouped.toml", &grouped.replace("source = \"shop\"", "source = \"shop-2\"").replace("code = \"shop\"", "code = \"shop-2\""));
    let rows: Vec<String> = (0..900).map(|n| format!("{},,2024-03-01 10:15,Tea,1,10,C,,", n / 3)).collect();
    let file = scratch.file("grouped.csv", &format!("{HEADER}{}\n", rows.join("\n")));
    let handler = log.handler.clone();
    let first = tokio::spawn({
        let options = options(&file, &mapping);
        async move { run(&handler, &options).await }
    });
    tokio::time::sleep(Duration::from_millis(60)).await;
    first.abort();
    let _ = first.await;
    let second = run(&log.handler, &options(&file, &mapping)).await.unwrap();
    assert_eq!((second.rows, second.orders, second.added + second.already_there), (900, 300, 300));
    assert_eq!(second.totals[0].total.amount, 900 * 10_00);
}

async fn the_coffee_machine_is_imported_whole(log: &Log) {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let file = root.join("../shared/data/coffee_machine/coffee_machine_2024.csv.gz");
    if !file.exists() {
        return;
    }
    let options = options(&file, &root.join("mappings/coffee_machine.toml"));
    let before = log.contents().await;
    let first = run(&log.handler, &options).await.unwrap();
    println!("{first}");
    assert_eq!((first.added, first.is_clean()), (2_693, true));
    let after = log.contents().await;
    assert_eq!(after.1 - before.1, first.totals.iter().map(|total| total.total.amount).sum::<i64>());
    let second = run(&log.handler, &options).await.unwrap();
    println!("{second}");
    assert_eq!((second.added, second.already_there), (0, 2_693));
    assert_eq!(log.contents().await, after);
}

#[tokio::test(flavor = "multi_thread")]
async fn imports_into_a_real_log() {
    let dir = std::env::temp_dir().join(format!("smartpos-import-e2e-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    let embedded = Embedded::start(&EmbeddedConfig { data_dir: dir.join("data") }).await.unwrap();
    let scratch = Scratch(dir);
    let log = Log::open(&embedded).await;
    a_second_run_adds_nothing(&log, &scratch).await;
    changes_conflicts_and_refusals_are_told(&log, &scratch).await;
    linked_refunds_give_back_once_and_never_too_much(&log, &scratch).await;
    a_store_that_differs_stops_the_import(&log, &scratch).await;
    a_store_that_cannot_be_opened_refuses_its_own_rows(&log, &scratch).await;
    an_imported_cash_sale_is_not_rounded(&log, &scratch).await;
    a_refund_without_a_payment_is_in_the_stores_currency(&log).await;
    an_interrupted_import_goes_on(&log, &scratch).await;
    the_coffee_machine_is_imported_whole(&log).await;
    log.owner.close().await;
    log.stop.cancel();
    let _ = log.committer.await;
    embedded.stop().await.unwrap();
}
