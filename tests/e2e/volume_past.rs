//! One thing of a long log as it stood in the middle: unlike a report of then, it is answered however long the log is.

use domain::ids::{BillId, Ulid};
use serde_json::{Value, json};
use support::{TestDatabase, replay};
use uuid::Uuid;

use crate::volume_reports::Edge;

/// The first bill of the second half, at the moment of its issue: the API says of it what the whole log up to there comes to.
pub async fn answered_at_the_middle(edge: &Edge, database: &TestDatabase, end: i64) {
    let sql = "select pos, stream_id from log.event where type = 'bill.issued' and pos >= $1 order by pos limit 1";
    let (position, id): (i64, Uuid) = sqlx::query_as(sql).bind(end / 2).fetch_one(&database.admin).await.unwrap();
    let bill = BillId(Ulid::from_bytes(*id.as_bytes())).to_string();
    let then = edge.get(&format!("/v1/bills/{bill}?as_of={position}")).await.ok();
    assert_eq!(then.header("smartpos-as-of"), position.to_string());
    let shown = replay(database, &["as-of", &position.to_string(), "bills", &format!("key={bill}")]).await.sound();
    let [row, _] = &shown.lines[..] else { panic!("one bill: {shown:?}") };
    assert_eq!(told(&then.body), columns(row), "{bill} as of {position}");
    // It was paid or written off right after.
    let now = edge.get(&format!("/v1/bills/{bill}")).await.ok();
    assert_eq!((&then.body["version"], &then.body["status"]), (&json!(1), &json!("pending")));
    assert!(now.body["version"].as_i64() > Some(1) && now.body["status"] != "pending", "{now:?}");
    println!("  {bill} as of position {position} of {end} is answered as the log up to there says");
}

/// What the API says of a bill, under the names of the columns.
fn told(bill: &Value) -> Value {
    json!({
        "key": bill["id"],
        "store_id": bill["store_id"],
        "status": bill["status"],
        "business_date": bill["business_date"],
        "order_ids": bill["order_ids"],
        "currency": bill["currency"],
        "total": bill["totals"]["total"]["amount"],
        "paid_total": bill["paid"]["amount"],
        "due": bill["due"]["amount"],
        "refunded_total": bill["refunded"]["amount"],
        "parked_total": bill["parked"]["amount"],
        "version": bill["version"],
    })
}

/// The same columns of a row.
fn columns(row: &Value) -> Value {
    const SAME: [&str; 12] = [
        "key",
        "store_id",
        "status",
        "business_date",
        "order_ids",
        "currency",
        "total",
        "paid_total",
        "due",
        "refunded_total",
        "parked_total",
        "version",
    ];
    SAME.iter().map(|name| ((*name).to_owned(), row[*name].clone())).collect::<serde_json::Map<_, _>>().into()
}
