//! What a data set comes to, by day, item and tender: computed in decimal arithmetic, or read from the read models.

use std::collections::BTreeMap;

use rust_decimal::{Decimal, RoundingStrategy};
use sqlx::{PgPool, Row, postgres::PgRow};

/// Figures under their names; a name that is absent is zero.
pub type Figures = BTreeMap<&'static str, Decimal>;

/// Sums of a data set. A store is known by its name.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// By store and day.
    pub days: BTreeMap<(String, String), Figures>,
    /// By store, day and item.
    pub items: BTreeMap<(String, String, String), Figures>,
    /// By store, day, tender and acquirer.
    pub tenders: BTreeMap<(String, String, String, String), Figures>,
}

/// How many payments, and what they come to without tips, by the pseudonym of whoever paid.
pub type Payers = BTreeMap<String, (u64, Decimal)>;

/// What of a data set no read model sums up.
#[derive(Debug, Default)]
pub struct Facts {
    /// The sums.
    pub sums: Sums,
    /// Rows that are no sale.
    pub skipped: u64,
    /// Orders that must come out.
    pub orders: u64,
    /// Refunds that must come out.
    pub refunds: u64,
    /// Of them, those with a sale: the sale's key and the amount, sorted.
    pub linked: Vec<(String, Decimal)>,
    /// Payments by customer, those without one under the empty text.
    pub payers: Payers,
    /// Everything that moved or was written off, exactly as the file has it.
    pub exact: Decimal,
    /// What rounding lines to minor units adds to that.
    pub rounded: Decimal,
}

impl Facts {
    /// Adds a payment of a customer; the empty text is nobody known.
    pub fn paid_by(&mut self, customer: &str, amount: Decimal) {
        let (count, sum) = self.payers.entry(customer.to_owned()).or_default();
        *count += 1;
        *sum += amount;
    }
}

impl Sums {
    /// Adds to the figures of a day.
    pub fn day(&mut self, store: &str, day: &str, figures: &[(&'static str, Decimal)]) {
        add(self.days.entry((store.to_owned(), day.to_owned())).or_default(), figures);
    }

    /// Adds to the figures of an item.
    pub fn item(&mut self, store: &str, day: &str, item: &str, figures: &[(&'static str, Decimal)]) {
        add(self.items.entry((store.to_owned(), day.to_owned(), item.to_owned())).or_default(), figures);
    }

    /// Adds to the figures of a tender.
    pub fn tender(&mut self, (store, day): (&str, &str), tender: &str, acquirer: &str, figures: &[(&'static str, Decimal)]) {
        let key = (store.to_owned(), day.to_owned(), tender.to_owned(), acquirer.to_owned());
        add(self.tenders.entry(key).or_default(), figures);
    }

    /// One figure over all days.
    pub fn total(&self, figure: &str) -> Decimal {
        self.days.values().filter_map(|figures| figures.get(figure)).sum()
    }

    /// One figure by month.
    pub fn months(&self, figure: &str) -> BTreeMap<String, Decimal> {
        let mut months = BTreeMap::new();
        for ((_, day), figures) in &self.days {
            *months.entry(day[..7].to_owned()).or_default() += figures.get(figure).copied().unwrap_or_default();
        }
        months.retain(|_, sum: &mut Decimal| !sum.is_zero());
        months
    }

    /// What the read models hold.
    pub async fn read(pool: &PgPool) -> Self {
        let mut sums = Self::default();
        let from = |table: &str| {
            format!("select s.name, d.business_date::text as day, d.* from read.{table} d join read.stores s on s.key = d.store_id")
        };
        let money = |row: &PgRow, column: &str| Decimal::new(row.get::<i64, _>(column), 2);
        for row in sqlx::query(sqlx::AssertSqlSafe(from("daily_sales"))).fetch_all(pool).await.unwrap() {
            let figures = [
                "gross",
                "tax",
                "adjustment",
                "total",
                "tips",
                "written_off",
                "refunds_amount",
                "refunds_tax",
                "refunds_tips",
                "net",
                "ledger_adjustments",
            ];
            let counts = ["bills_paid", "written_off_count", "refunds_count", "ledger_adjustments_count"];
            let figures = figures.map(|name| (name, money(&row, name)));
            let counts = counts.map(|name| (name, Decimal::from(row.get::<i64, _>(name))));
            sums.day(row.get(0), row.get("day"), &figures);
            sums.day(row.get(0), row.get("day"), &counts);
        }
        let items = from("daily_item_sales").replace("s.name,", "s.name as store,");
        for row in sqlx::query(sqlx::AssertSqlSafe(items)).fetch_all(pool).await.unwrap() {
            let figures = ["gross", "tax", "total", "refunded"].map(|name| (name, money(&row, name)));
            let pieces = ["quantity_milli", "refunded_quantity_milli"].map(|name| (name, Decimal::new(row.get::<i64, _>(name), 3)));
            sums.item(row.get("store"), row.get("day"), row.get("item_code"), &figures);
            sums.item(row.get("store"), row.get("day"), row.get("item_code"), &pieces);
        }
        for row in sqlx::query(sqlx::AssertSqlSafe(from("daily_tender_sales"))).fetch_all(pool).await.unwrap() {
            let figures = ["amount", "cash_rounding", "tips", "refunds_amount", "disputes_amount"].map(|name| (name, money(&row, name)));
            let counts = ["count", "refunds_count", "disputes_count"].map(|name| (name, Decimal::from(row.get::<i64, _>(name))));
            let acquirer: Option<String> = row.get("acquirer");
            for figures in [&figures[..], &counts] {
                sums.tender((row.get(0), row.get("day")), row.get("tender"), acquirer.as_deref().unwrap_or_default(), figures);
            }
        }
        sums
    }
}

/// What the payments themselves keep of their customers, and how much they came to.
pub async fn payers(pool: &PgPool) -> Payers {
    let sql = "select coalesce(merchant_reference, ''), count(*), sum(amount)::bigint from read.payments group by 1";
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(sql).fetch_all(pool).await.unwrap();
    rows.into_iter().map(|(customer, count, sum)| (customer, (u64::try_from(count).unwrap(), Decimal::new(sum, 2)))).collect()
}

/// What bills were paid and what was given back by month, as the bills and refunds themselves say: the daily sales have no part in it.
pub async fn months(pool: &PgPool) -> [BTreeMap<String, Decimal>; 2] {
    let by_month = async |amount: &str, things: &str| {
        let sql = format!("select to_char(business_date, 'YYYY-MM'), sum({amount})::bigint from read.{things} group by 1");
        let rows: Vec<(String, i64)> = sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(pool).await.unwrap();
        let sums = rows.into_iter().map(|(month, sum)| (month, Decimal::new(sum, 2)));
        sums.filter(|(_, sum)| !sum.is_zero()).collect::<BTreeMap<_, _>>()
    };
    [by_month("total", "bills where status = 'paid'").await, by_month("amount", "refunds").await]
}

/// Zero is the same as absent.
fn add(to: &mut Figures, figures: &[(&'static str, Decimal)]) {
    for (name, figure) in figures {
        let sum = to.entry(name).or_default();
        *sum += figure;
        if sum.is_zero() {
            to.remove(name);
        }
    }
}

/// Decimal text; empty is zero.
pub fn decimal(text: &str) -> Decimal {
    if text.is_empty() { Decimal::ZERO } else { text.parse().unwrap() }
}

/// To cents, a half away from zero.
pub fn cents(value: Decimal) -> Decimal {
    value.round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero)
}

/// Compares piece by piece, so that a difference names its place.
pub fn assert_equal(found: &Sums, expected: &Sums) {
    fn compare<K: Ord + std::fmt::Debug>(what: &str, found: &BTreeMap<K, Figures>, expected: &BTreeMap<K, Figures>) {
        let nothing = Figures::new();
        for key in found.keys().chain(expected.keys()) {
            let (found, expected) = (found.get(key).unwrap_or(&nothing), expected.get(key).unwrap_or(&nothing));
            assert_eq!(found, expected, "{what} {key:?}: read model (left) and file (right) differ");
        }
    }
    compare("day", &found.days, &expected.days);
    compare("item", &found.items, &expected.items);
    compare("tender", &found.tenders, &expected.tenders);
}
