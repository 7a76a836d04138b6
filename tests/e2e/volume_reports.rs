//! What a data set comes to as callers hear it: `GET /v1/reports/…`, served by the built program on the database of the import.

use std::{collections::BTreeMap, path::Path, time::Duration};

use api::{
    auth::{Role, load_or_create_key},
    simulated_provider::free_address,
    token_command::development_token,
};
use chrono::{Days, NaiveDate};
use rust_decimal::Decimal;
use serde_json::Value;
use support::{Answered, Process, TestDatabase, patiently_answered};

use crate::volume_sums::Sums;

/// The edge, and a token that sees all stores of the one merchant.
pub struct Edge {
    process: Process,
    base: String,
    token: String,
    http: reqwest::Client,
    /// Stores are known by their names here.
    names: BTreeMap<String, String>,
}

impl Edge {
    /// Starts the role api in `dir`, where the import keeps its keys.
    pub async fn start(database: &TestDatabase, dir: &Path) -> Self {
        let listen = free_address().unwrap().to_string();
        let env = [
            ("DATABASE_URL", database.url.as_str()),
            ("NATS_URL", &database.nats_url),
            ("SMARTPOS_DATA_DIR", dir.to_str().unwrap()),
            // One merchant asks for a year in a few seconds.
            ("SMARTPOS_LIMITS__PER_MERCHANT_PER_MINUTE", "0"),
            ("SMARTPOS_LIMITS__ALL_PER_MINUTE", "0"),
        ];
        let mut process = Process::spawn("edge", dir, &["serve", "--role", "api", "--listen", &listen], env);
        let base = format!("http://{listen}");
        process.wait_for_url(&format!("{base}/healthz"), Duration::from_secs(60)).await;
        let merchants: Vec<(String, String)> =
            sqlx::query_as("select key, psp_id from read.merchants").fetch_all(&database.admin).await.unwrap();
        let [(merchant, psp)] = &merchants[..] else { panic!("one merchant: {merchants:?}") };
        let key = load_or_create_key(&dir.join("auth.pem")).unwrap();
        let token = development_token(&key, Role::MerchantAdmin, psp.parse().unwrap(), Some(merchant.parse().unwrap()), None).unwrap();
        let names: Vec<(String, String)> = sqlx::query_as("select key, name from read.stores").fetch_all(&database.admin).await.unwrap();
        let http = reqwest::Client::builder().timeout(Duration::from_secs(60)).build().unwrap();
        Self { process, base, token, http, names: names.into_iter().collect() }
    }

    /// One report.
    pub async fn report(&self, name: &str, from: NaiveDate, to: NaiveDate, as_of: Option<i64>) -> Answered {
        let as_of = as_of.map_or_else(String::new, |position| format!("&as_of={position}"));
        self.get(&format!("/v1/reports/{name}?from={from}&to={to}{as_of}")).await
    }

    /// What it says there.
    pub async fn get(&self, path: &str) -> Answered {
        patiently_answered(self.http.get(format!("{}{path}", self.base)).bearer_auth(&self.token)).await
    }

    /// All reports from the first to the last of these days, so many days at once, for an answer is not cut into pages; now or at an
    /// earlier moment. The first refusal, if there is one.
    pub async fn sums(&self, (first, last): (NaiveDate, NaiveDate), days: u64, as_of: Option<i64>) -> Result<Sums, Box<Answered>> {
        let mut sums = Sums::default();
        let mut from = first;
        while from <= last {
            let to = from.checked_add_days(Days::new(days - 1)).unwrap().min(last);
            for name in ["daily-sales", "daily-items", "daily-tenders"] {
                let answer = self.report(name, from, to, as_of).await;
                if !answer.status.is_success() {
                    return Err(Box::new(answer));
                }
                for entry in answer.body["data"].as_array().unwrap() {
                    self.add(&mut sums, name, entry);
                }
            }
            from = to.succ_opt().unwrap();
        }
        Ok(sums)
    }

    fn add(&self, sums: &mut Sums, report: &str, entry: &Value) {
        let text = |name: &str| entry[name].as_str().unwrap_or_default();
        let (store, day) = (&self.names[text("store_id")], text("business_date"));
        let money = |name: &'static str, field: &str| (name, Decimal::new(entry[field]["amount"].as_i64().unwrap(), 2));
        let count = |name: &'static str, scale: u32| (name, Decimal::new(entry[name].as_i64().unwrap(), scale));
        match report {
            "daily-sales" => {
                let same = ["gross", "tax", "adjustment", "total", "tips", "written_off", "refunds_tax", "refunds_tips", "net"];
                let counts = ["bills_paid", "written_off_count", "refunds_count", "ledger_adjustments_count"];
                sums.day(store, day, &same.map(|name| money(name, name)));
                sums.day(store, day, &[money("refunds_amount", "refunds"), money("ledger_adjustments", "ledger_adjustments")]);
                sums.day(store, day, &counts.map(|name| count(name, 0)));
            }
            "daily-items" => {
                let item = text("item_code");
                sums.item(store, day, item, &["gross", "tax", "total", "refunded"].map(|name| money(name, name)));
                sums.item(store, day, item, &["quantity_milli", "refunded_quantity_milli"].map(|name| count(name, 3)));
            }
            _ => {
                let (tender, acquirer) = (text("tender"), text("acquirer"));
                sums.tender((store, day), tender, acquirer, &["amount", "cash_rounding", "tips"].map(|name| money(name, name)));
                let back = [money("refunds_amount", "refunds"), money("disputes_amount", "disputes")];
                sums.tender((store, day), tender, acquirer, &back);
                sums.tender((store, day), tender, acquirer, &["count", "refunds_count", "disputes_count"].map(|name| count(name, 0)));
            }
        }
    }

    /// Stops it.
    pub async fn stop(mut self) {
        self.process.signal("TERM");
        assert!(self.process.wait(Duration::from_secs(60)).await.success(), "{}", self.process.log());
    }
}
