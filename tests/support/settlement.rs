//! A provider's settlement list, and the auditor's command line that holds it against the log.

use serde_json::Value;

use crate::{Replayed, ScratchDir, TestDatabase, answered, replay};

/// The list of the simulator at this address, of all its time.
pub async fn settlement_list(base: &str) -> String {
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let answer = answered(http.get(format!("{base}/sim/settlement"))).await.ok();
    assert!(answer.header("content-type").starts_with("text/csv"), "{answer:?}");
    String::from_utf8(answer.bytes).expect("UTF-8")
}

/// `replay reconcile` of this list, over all time.
pub async fn reconcile(database: &TestDatabase, account: &str, list: &str) -> Replayed {
    reconcile_as(database, &["--account", account, "--from", "2000-01-01", "--to", "2100-01-01"], list).await
}

/// `replay reconcile <arguments>` of this list.
pub async fn reconcile_as(database: &TestDatabase, arguments: &[&str], list: &str) -> Replayed {
    let dir = ScratchDir::new("settlement");
    let file = dir.path().join("list.csv");
    std::fs::write(&file, list).expect("the list is written");
    let file = file.to_str().expect("a path in UTF-8");
    let arguments: Vec<&str> = ["reconcile"].iter().chain(arguments).chain([&file]).copied().collect();
    replay(database, &arguments).await
}

impl Replayed {
    /// The differences that `replay reconcile` found; there are some.
    pub fn differences(&self) -> Vec<&Value> {
        assert_eq!(self.code, 1, "{self:?}");
        self.lines.iter().filter(|line| line["difference"].is_string()).collect()
    }

    /// How many rows of the list agreed.
    pub fn matched(&self) -> u64 {
        self.lines.iter().find_map(|line| line["matched"].as_u64()).expect("an answered question")
    }
}
