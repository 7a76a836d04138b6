//! Whole commands over HTTP, with bodies that are almost right: never a fault of ours, every refusal is a problem document, what
//! is refused leaves nothing in the log, and what is accepted is accepted once.
//!
//! A sample's first line is the method, the path and who asks; the rest is the body. `$store` and the like stand for ids.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use domain::ids::Ulid;
use reqwest::Method;
use support::{Answered, patiently_answered};

use crate::{
    Tally,
    edits::Samples,
    fuzz,
    world::{World, is_problem},
};

/// Where a sample's body goes.
struct Route {
    method: Method,
    path: String,
    token: String,
}

/// Routes and bodies of the samples.
fn requests(world: &World) -> (Vec<Route>, Samples) {
    let files = Samples::of("commands");
    let (mut routes, mut bodies) = (Vec::new(), Vec::new());
    for (name, file) in files.names.iter().zip(&files.samples) {
        let text = world.filled(std::str::from_utf8(file).unwrap());
        let (line, body) = text.split_once('\n').unwrap();
        let [method, path, who] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{name}: {line}") };
        routes.push(Route { method: method.parse().unwrap(), path: path.to_owned(), token: world.token(who) });
        bodies.push(body.trim_end().as_bytes().to_vec());
    }
    (routes, Samples::these(bodies))
}

async fn send(world: &World, route: &Route, number: u64, body: &[u8]) -> Answered {
    let request = world.platform.raw(route.method.clone(), &route.path).bearer_auth(&route.token);
    let request = request.header("Idempotency-Key", format!("fuzz-{number}")).header("Content-Type", "application/json");
    patiently_answered(request.header("Smartpos-Correlation-Id", correlation(number).to_string()).body(body.to_vec())).await
}

/// Names request `number` in the log.
fn correlation(number: u64) -> Ulid {
    Ulid(0x0190_0000_0000_0000_0000_0000_0000_0000 + u128::from(number))
}

/// How many events of these requests the log has.
async fn events_of(world: &World, numbers: &BTreeSet<u64>) -> i64 {
    let ids: Vec<uuid::Uuid> = numbers.iter().map(|number| uuid::Uuid::from_u128(correlation(*number).0)).collect();
    let count = sqlx::query_scalar("select count(*) from log.event where correlation_id = any($1)").bind(ids);
    count.fetch_one(&world.platform.database.admin).await.unwrap()
}

#[test]
fn commands_are_carried_out_once_or_refused_without_a_trace() {
    let (world, tally) = (World::shared(), Tally::default());
    let (routes, samples) = requests(&world);
    let next = AtomicU64::new(1);
    let (done, refused) = (Mutex::new(BTreeSet::new()), Mutex::new(BTreeSet::new()));
    fuzz!(7_000, samples, |input| {
        let (world, route, number) = (&*world, &routes[input.sample], next.fetch_add(1, Ordering::Relaxed));
        let answer = world.runtime.block_on(send(world, route, number, &input.bytes));
        let at = format!("{} {}: {answer:?}", route.method, route.path);
        assert!(!answer.status.is_server_error(), "{at}");
        world.keeps_to_itself(&String::from_utf8_lossy(&input.bytes), &answer.bytes);
        if answer.status.is_success() {
            tally.accepted();
            done.lock().unwrap().insert(number);
            let again = world.runtime.block_on(send(world, route, number, &input.bytes));
            // The secret of a key is shown once: a repeat is refused and makes no second key.
            let shown_once = route.path == "/v1/api-keys" && again.status.is_client_error();
            let same = (again.status, &again.body["id"]) == (answer.status, &answer.body["id"]);
            assert!(same || shown_once, "{at}, and then {again:?}");
        } else {
            assert!(is_problem(&answer), "{at}");
            tally.refused();
            refused.lock().unwrap().insert(number);
        }
    });
    let (done, refused) = (done.into_inner().unwrap(), refused.into_inner().unwrap());
    let (kept, traces) = world.runtime.block_on(async { (events_of(&world, &done).await, events_of(&world, &refused).await) });
    assert_eq!(traces, 0, "a refused request is in the log");
    assert!(kept > 0, "an accepted one is not");
    tally.has_seen_both("commands");
}
