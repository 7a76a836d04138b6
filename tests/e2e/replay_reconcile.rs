//! `replay reconcile`: which lists are taken, whose account is meant, which time and which part of the log.

use serde_json::json;
use support::{TestPlatform, nobody, reconcile, reconcile_as, settlement_list};

const HEADER: &str = "transaction_id,reference,kind,currency,gross,fee,net,at\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_the_platforms_own_account_is_held_against_the_log_of_any_time_and_position() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let (_, bill) = platform.billed(&shop, 120_00).await;
    let (_, intent, reference) = platform.started_qr(&shop, &bill).await;
    platform.settled().await;
    let database = &platform.database;
    let unpaid = database.head().await.pos.to_string();
    platform.pay(&reference, json!({})).await;
    platform.get_until(&shop.cashier, &format!("/v1/payment-intents/{intent}"), |intent| intent["status"] == "succeeded").await;
    platform.settled().await;
    let (list, head) = (settlement_list(&platform.simulator).await, database.head().await);
    let all = ["--account", "scb", "--from", "2000-01-01", "--to", "2100-01-01"];

    let sound = reconcile(database, "scb", &list).await.sound();
    assert_eq!(sound.matched(), 1);
    let sums: Vec<_> = sound.lines.iter().filter(|line| line["rows"] == 1).map(|line| (&line["side"], &line["gross"])).collect();
    assert_eq!(sums, [(&json!("list"), &json!(120_00)), (&json!("log"), &json!(120_00)), (&json!("matched"), &json!(120_00))]);
    assert!(sound.lines.contains(&json!({"side": "list", "currency": "THB", "fee": 1_92, "net": 118_08})), "{sound:?}");

    // What the log held before the payment, and what it holds of another time.
    let earlier = reconcile_as(database, &[&all[..], &["--until", &unpaid]].concat(), &list).await;
    let [difference] = earlier.differences()[..] else { panic!("{earlier:?}") };
    assert_eq!((&difference["difference"], &difference["on"]["payment_intent"]), (&json!("missing_here"), &json!(intent)));
    let past = ["--account", "scb", "--from", "2001-01-01", "--to", "2002-01-01"];
    assert_eq!(reconcile_as(database, &past, HEADER).await.sound().matched(), 0);
    assert_eq!(reconcile_as(database, &past, &list).await.sound().matched(), 1, "a row counts whenever it happened");
    let empty = reconcile(database, "scb", HEADER).await;
    assert_eq!(empty.differences()[0]["difference"], "missing_in_list");

    // One row of every kind of trouble, each told once.
    let row = list.lines().nth(1).unwrap();
    let other = row.replacen("120.00", "120.01", 1).replacen("118.08", "118.09", 1);
    let twice = reconcile(database, "scb", &format!("{HEADER}{other}\n{row}\n")).await;
    let words: Vec<_> = twice.differences().iter().map(|difference| &difference["difference"]).collect();
    assert_eq!(words, ["amount_differs", "listed_twice"]);

    // Questions that cannot be asked.
    let refused = async |arguments: &[&str], list: &str, why: &str| {
        let replayed = reconcile_as(database, arguments, list).await;
        assert_eq!(replayed.code, 2, "{replayed:?}");
        assert!(replayed.errors.contains(why), "{why}: {}", replayed.errors);
    };
    refused(&all, &format!("{list}T2,,payment,THB,1e3,,,2026-05-01T10:00:00Z\n"), "line 3: gross").await;
    refused(&all, "id,amount\n1,2\n", "line 1: the header").await;
    let account = nobody::<domain::ids::ProviderAccountId>().to_string();
    for name in ["scbb", account.as_str()] {
        refused(&[&["--account", name][..], &all[2..]].concat(), &list, "knows of no payment").await;
    }
    refused(&[&["--account", "pac_1"][..], &all[2..]].concat(), &list, "pac_").await;
    refused(&["--account", "scb", "--from", "2026-05-02", "--to", "2026-05-02"], &list, "period").await;
    refused(&["--account", "scb", "--from", "yesterday", "--to", "2026-05-02"], &list, "nor a time").await;

    assert_eq!(database.head().await, head, "questions change nothing");
    platform.stop().await;
}
