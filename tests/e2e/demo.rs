//! The main job as a user runs it.

use std::time::Duration;

use support::{Process, ScratchDir};

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_plays_a_day_shows_it_and_proves_it() {
    let scratch = ScratchDir::new("demo");
    let keep = scratch.path().join("day").display().to_string();
    let arguments = ["demo", "--orders", "40", "--terminals", "8", "--keep", &keep];
    let mut demo = Process::spawn("demo", scratch.path(), &arguments, [("SMARTPOS_LOG__FILTER", "error")]);
    let status = demo.wait(Duration::from_secs(300)).await;
    let log = demo.log();
    assert!(status.success(), "{log}");
    for line in [
        "Payments by tender",
        "Call-backs",
        "P99",
        "Net",
        "the log verifies",
        "equals a fold from nothing",
        "the provider's ledger equals ours",
    ] {
        assert!(log.contains(line), "'{line}' is missing in:\n{log}");
    }
}
