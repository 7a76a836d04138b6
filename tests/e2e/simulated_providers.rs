//! `smartpos simulate-provider` as people start it: any provider, with the account that it says.

use std::time::Duration;

use api::simulated_provider::Simulated;
use serde_json::{Value, json};
use support::{Process, ScratchDir, TestPlatform, answered, eventually};

/// Starts a simulator; answers it and its lines once it listens.
async fn started(scratch: &ScratchDir, name: &str, arguments: &[&str], lines: usize) -> (Process, Vec<String>) {
    let arguments: Vec<&str> = ["simulate-provider"].iter().chain(arguments).copied().collect();
    let process = Process::spawn(name, scratch.path(), &arguments, [("SMARTPOS_LOG__FILTER", "error")]);
    let said = eventually("the simulator says where it listens", Duration::from_secs(10), || async {
        let said: Vec<String> = process.log().lines().map(str::to_owned).collect();
        (said.len() >= lines).then_some(said)
    })
    .await;
    (process, said)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_provider_can_be_simulated_and_says_how_an_account_is_opened_at_it() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let scratch = ScratchDir::new("simulators");
    for provider in Simulated::ALL {
        let name = provider.name();
        let (first, said) = started(&scratch, &format!("{name}-1"), &["--provider", name, "--platform", &platform.base], 2).await;
        let opening: Value = serde_json::from_str(&said[1]).unwrap();
        assert_eq!(opening["provider"], name);
        let account = platform.post(&shop.admin, "/v1/provider-accounts", opening).await.id();
        let check = platform.post(&shop.admin, &format!("/v1/provider-accounts/{account}/check"), json!({})).await.ok();
        assert_eq!(check.body["outcome"], "answered", "{name}: {check:?}");
        drop(first);
        // Started again for this account, it calls back to it: a call-back about nobody is taken and parked.
        let again = ["--provider", name, "--platform", &platform.base, "--listen", &said[0], "--account", &account];
        let (_second, _) = started(&scratch, &format!("{name}-2"), &again, 1).await;
        let lie = json!({"reference": "NOBODYKNOWSTHIS00001"});
        answered(reqwest::Client::new().post(format!("http://{}/sim/lie", said[0])).json(&lie)).await.ok();
        let parked = format!("/v1/inbound-webhooks?state=parked&account={account}");
        platform.get_until(&shop.admin, &parked, |page| page["data"].as_array().is_some_and(|rows| rows.len() == 1)).await;
        let disable = json!({"reason": "the next provider's turn"});
        platform.post(&shop.admin, &format!("/v1/provider-accounts/{account}/disable"), disable).await.ok();
    }
    platform.stop().await;
}
