//! What belongs together: an order with its bills, payments and refunds, wherever one begins.
//!
//! Streams are found by the relations in payloads, again and again. Each relation is told on both sides (an order names its bill, the
//! bill its orders), so following them forward finds all. Only fields that the platform itself fills are followed: a reference or a
//! line's name may hold the id of anything, for whoever typed it in. Merchants, stores and accounts are left out: everything touches
//! them.
//!
//! What caused what: a process manager's command has an idempotency key made from the position of the event that it reacted
//! to; so cause and effect are facts of the log, not guesses by time.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use domain::{envelope::RecordedEvent, process};
use futures_util::TryStreamExt as _;
use serde_json::Value;
use sqlx::PgPool;

use crate::{
    error::Error,
    projection::tenant_to_uuid,
    search::{Filter, StreamName, search},
};

/// Most commands by which a process manager answers one event.
const MOST_REACTIONS: usize = 16;
/// Fields that name another part of the same sale.
const RELATIONS: [&str; 6] = ["order_id", "order_ids", "bill_id", "payment_intent_id", "refund_id", "customer_id"];
/// Most streams of one trail, more than any sale has; each is a query.
pub const MOST_STREAMS: usize = 500;

/// An event among those that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The event.
    pub event: RecordedEvent,
    /// Position of the event that it follows from, by a process manager's reaction; none when somebody asked for it.
    pub cause: Option<i64>,
}

/// What belongs together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trail {
    /// By position; empty when there is no such stream.
    pub steps: Vec<Step>,
    /// More streams belong to it: it ended at [`MOST_STREAMS`].
    pub cut: bool,
}

/// The trail around a stream. `pool`: a role that is a member of `smartpos_auditor` or `smartpos_worker`. `progress` hears how many streams
/// were taken up, of how many that are known so far. Memory grows with the events found; a trail ends at [`MOST_STREAMS`].
///
/// # Errors
/// `Sql`, `Corrupt`.
pub async fn trail(pool: &PgPool, start: StreamName, progress: impl Fn(usize, usize)) -> Result<Trail, Error> {
    let mut events: BTreeMap<i64, RecordedEvent> = BTreeMap::new();
    let mut seen = BTreeSet::from([start]);
    let mut ahead = vec![start];
    let (mut tenant, mut cut) = (None, false);
    while let Some(stream) = ahead.pop() {
        progress(seen.len().saturating_sub(ahead.len()), seen.len());
        let filter = Filter { stream: Some(stream), tenant, ..Filter::default() };
        let found: Vec<RecordedEvent> = search(pool, &filter, None).try_collect().await?;
        for event in found {
            tenant = tenant.or(Some(event.stream.tenant));
            for stream in mentioned(&event) {
                if seen.contains(&stream) {
                    continue;
                }
                cut |= seen.len() >= MOST_STREAMS;
                if !cut {
                    seen.insert(stream);
                    ahead.push(stream);
                }
            }
            events.insert(event.pos, event);
        }
    }
    let causes = causes(pool, &events).await?;
    let by_command: HashMap<_, _> = events.values().filter_map(|event| Some((event.causation_id, *causes.get(&event.pos)?))).collect();
    let step = |event: RecordedEvent| Step { cause: by_command.get(&event.causation_id).copied(), event };
    Ok(Trail { steps: events.into_values().map(step).collect(), cut })
}

/// The streams that an event names.
fn mentioned(event: &RecordedEvent) -> Vec<StreamName> {
    let mut found = Vec::new();
    if let Ok(payload) = serde_json::from_slice::<Value>(&event.payload) {
        collect(&payload, false, &mut found);
    }
    found
}

fn collect(value: &Value, related: bool, found: &mut Vec<StreamName>) {
    match value {
        Value::String(text) if related => found.extend(text.parse::<StreamName>().ok()),
        Value::Array(items) => items.iter().for_each(|item| collect(item, related, found)),
        Value::Object(fields) => fields.iter().for_each(|(name, field)| collect(field, RELATIONS.contains(&name.as_str()), found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// First position of each reaction's events → position that it reacted to.
async fn causes(pool: &PgPool, events: &BTreeMap<i64, RecordedEvent>) -> Result<HashMap<i64, i64>, Error> {
    let Some(tenant) = events.values().next().map(|event| tenant_to_uuid(event.stream.tenant)) else { return Ok(HashMap::new()) };
    let scopes: Vec<String> = process::ALL.iter().map(|manager| format!("process:{}", manager.name)).collect();
    let keys: Vec<String> = events.keys().flat_map(|pos| (0..MOST_REACTIONS).map(move |n| format!("{pos}:{n}"))).collect();
    let sql = "select first_pos, split_part(key, ':', 1)::bigint from log.append_key \
               where tenant = $1 and scope = any($2) and key = any($3) and first_pos is not null and last_pos >= first_pos";
    Ok(sqlx::query_as::<_, (i64, i64)>(sql).bind(tenant).bind(scopes).bind(keys).fetch_all(pool).await?.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_relations_are_followed_and_not_what_somebody_typed_in() {
        let (order, bill, other) = ("ord_01KQHPEB7RWAZFF424GB0DXYF1", "bill_01KQHT3R2GZXR62CD2AYZPST04", "pi_01KQHT4CJRDG7TMTBD31S88057");
        let payload = serde_json::json!({
            "bill_id": bill, "order_ids": [order], "merchant_reference": other, "provider_account": "pac_01HZY3T5V6W7X8Y9Z0A1B2C3D4",
            "lines": [{ "order_id": order, "item_code": other, "name": other }], "reason": [other],
        });
        let mut found = Vec::new();
        collect(&payload, false, &mut found);
        let names: BTreeSet<String> = found.iter().map(StreamName::to_string).collect();
        assert_eq!(names, BTreeSet::from([bill.to_owned(), order.to_owned()]));
    }
}
