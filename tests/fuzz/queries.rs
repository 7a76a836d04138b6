//! Questions over HTTP: paths, parameters, cursors and conditions that are almost right.
//!
//! A sample's first line is the path, each other line a header.

use reqwest::{
    Method,
    header::{HeaderName, HeaderValue},
};
use support::{Answered, answered_unless};

use crate::{
    Tally,
    edits::Samples,
    fuzz,
    world::{World, is_problem},
};

/// As a client would send it: what no path may hold is escaped.
fn target(line: &[u8]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte);
    line.iter().map(|byte| if plain(*byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

async fn ask(world: &World, bytes: &[u8]) -> (String, Answered) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let path = target(lines.next().unwrap_or_default());
    let path = format!("/{}", path.trim_start_matches('/'));
    let mut request = world.platform.raw(Method::GET, &path).bearer_auth(&world.shop.manager);
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(line[colon + 1..].trim_ascii()));
        if let (Ok(name), Ok(value)) = (name, value)
            && !["host", "content-length", "transfer-encoding", "connection", "expect", "upgrade"].contains(&name.as_str())
        {
            request = request.header(name, value);
        }
    }
    // What a busy machine could not do in time is asked again; not what was asked for a position that has not come.
    let again = |answer: &Answered| answer.may_be_repeated() && answer.body["code"] != "ReadModelBehind";
    (path, answered_unless(request, again).await)
}

#[test]
fn questions_are_answered_for_their_merchant_or_refused() {
    let (world, tally) = (World::shared(), Tally::default());
    let files = Samples::of("queries");
    let samples = files.samples.iter().map(|file| world.filled(std::str::from_utf8(file).unwrap()).trim_end().as_bytes().to_vec());
    let samples = Samples::these(samples.collect());
    fuzz!(4_000, samples, |input| {
        let world = &*world;
        let (path, answer) = world.runtime.block_on(ask(world, &input.bytes));
        let at = format!("GET {path}: {answer:?}");
        // What was asked for a position that has not come is told to come again.
        let early = answer.status == 503 && answer.body["code"] == "ReadModelBehind";
        assert!(!answer.status.is_server_error() || early, "{at}");
        world.keeps_to_itself(&String::from_utf8_lossy(&input.bytes), &answer.bytes);
        if answer.status.is_client_error() || early {
            assert!(is_problem(&answer), "{at}");
            return tally.refused();
        }
        tally.accepted();
        if let Some(rows) = answer.body["data"].as_array() {
            assert!(rows.len() <= 1_000, "{at}");
        }
        let cursor = path.split(['?', '&']).find_map(|pair| pair.strip_prefix("cursor="));
        let known = cursor.is_none_or(|cursor| cursor.eq_ignore_ascii_case(&world.filled("$cursor")) || cursor.contains('%'));
        assert!(known || !path.starts_with("/v1/orders?"), "a cursor that nobody gave was taken: {at}");
    });
    tally.has_seen_both("queries");
}
