use std::{fmt::Write as _, fs, path::Path};

use domain::{bill, order, rejection::Rejected};

use super::*;

fn problem_of(error: CommandError) -> (u16, &'static str, bool) {
    let problem = Problem::from(error);
    (problem.kind().status().as_u16(), problem.code(), problem.kind().is_retryable())
}

#[test]
fn every_command_error_has_its_status() {
    let rejected = |rejection: order::Rejection| CommandError::Rejected(rejection.into());
    assert_eq!(problem_of(rejected(order::Rejection::OrderNotFound)), (404, "OrderNotFound", false));
    assert_eq!(problem_of(rejected(order::Rejection::PriceNegative)), (422, "PriceNegative", false));
    assert_eq!(problem_of(rejected(order::Rejection::BillExists)), (409, "BillExists", false));
    assert_eq!(problem_of(CommandError::StaleVersion { current: 3 }), (412, "VersionStale", false));
    assert_eq!(problem_of(CommandError::Conflict), (409, "Conflict", true));
    assert_eq!(problem_of(CommandError::KeyReused { field: "/a".into() }), (422, "IdempotencyKeyReused", false));
    assert_eq!(problem_of(CommandError::Unavailable("host db1 refused".into())), (503, "Unavailable", true));
    assert_eq!(problem_of(CommandError::Overloaded), (503, "Overloaded", true));
    assert_eq!(problem_of(CommandError::OutcomeUnknown), (503, "OutcomeUnknown", true));
    assert_eq!(problem_of(CommandError::Fault("relation log.event".into())), (500, "Internal", false));
}

#[test]
fn a_failure_of_ours_shows_nothing_of_the_machine_room() {
    for error in [CommandError::Fault("relation log.event".into()), CommandError::Unavailable("host db1 refused".into())] {
        let problem = Problem::from(error);
        assert!(!problem.detail().contains("log.event") && !problem.detail().contains("db1"), "{}", problem.detail());
    }
}

#[test]
fn the_rule_speaks_for_itself() {
    let rejected: Rejected = bill::Rejection::AmountExceedsDue { due: 12_00 }.into();
    let problem = Problem::from(CommandError::Rejected(rejected));
    assert_eq!(problem.detail(), "the amount is more than what is still due (1200 minor units)");
}

#[tokio::test]
async fn an_answer_names_its_request_and_keeps_the_headers_of_the_one_it_replaces() {
    let mut headers = HeaderMap::new();
    headers.insert(header::ALLOW, HeaderValue::from_static("GET,HEAD"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    let id = Ulid::from_bytes([9; 16]);
    let response = Problem::of_bare_status(StatusCode::METHOD_NOT_ALLOWED).render(Some(id), &headers);
    assert_eq!(response.status(), 405);
    assert_eq!(response.headers()[header::ALLOW], "GET,HEAD");
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["type"], "urn:smartpos:problem:method-not-allowed");
    assert_eq!(body["correlation_id"], id.to_string());
    assert_eq!(body["instance"], format!("urn:smartpos:request:{id}"));
    assert_eq!(body["retryable"], false);
}

#[test]
fn a_retryable_problem_says_when() {
    let response = Problem::plain(Kind::Overloaded).into_response();
    assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    assert!(!Problem::plain(Kind::Forbidden).into_response().headers().contains_key(header::RETRY_AFTER));
}

#[test]
fn kinds_are_told_apart_by_their_type() {
    let slugs: std::collections::BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.slug()).collect();
    assert_eq!(slugs.len(), Kind::ALL.len());
}

/// The text of every source file below `folder`.
fn sources(folder: &Path, texts: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, texts);
        } else {
            texts.push(fs::read_to_string(path).unwrap());
        }
    }
}

/// The rules of the domain, read from wherever they are declared: `Name … => Class, "message";`.
fn declared_rules() -> Vec<(String, &'static str, String)> {
    let mut texts = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../domain/src"), &mut texts);
    let blocks: Vec<_> = texts.iter().filter_map(|text| text.split("\nrejections! {").nth(1)).collect();
    assert!(!blocks.is_empty(), "rules are declared otherwise now");
    let mut rules = Vec::new();
    for block in blocks {
        for line in block.lines().skip(3).map(str::trim).take_while(|line| *line != "}") {
            let (left, message) = line.split_once(" => ").unwrap();
            let (class, message) = message.split_once(", ").unwrap();
            let status = match class {
                "Missing" => "404",
                "Invalid" => "422",
                "State" => "409",
                other => panic!("{other}"),
            };
            let code = left.split([' ', '{']).next().unwrap().to_owned();
            rules.push((code, status, message.trim_end_matches(';').trim_matches('"').to_owned()));
        }
    }
    rules.push(("AlreadyTaken".to_owned(), "409", "another one has this code".to_owned()));
    rules.push((crate::routes::orders::TAX_CLASS_STATED.to_owned(), "422", crate::routes::orders::STATED_BY_FILES_ONLY.to_owned()));
    rules.push((commands::payments::HELD_FOR_MERCHANT.to_owned(), "409", commands::payments::ONLY_MERCHANT_LETS_GO.to_owned()));
    rules.sort();
    rules.dedup_by(|a, b| a.0 == b.0 && a.1 == b.1 && a.2 == b.2);
    rules
}

fn listed() -> String {
    let mut text = String::from(
        "# Problem types\n\nEvery answer with a status of 400 and above is `application/problem+json` (RFC 9457) with the members\n`type`, `title`, `status`, `detail`, `instance`, `code`, `retryable` and `correlation_id`. `code` is the broken rule where a\nrule was broken, otherwise the kind. `retryable` means that the very same request may succeed later; then `Retry-After` is\nset. Two answers are otherwise: `/readyz` answers 503 with its own JSON, and `/ws` refuses in plain text what is no request for a\nsocket (its other refusals have no `instance` and no `correlation_id`). This file is written by a test (`UPDATE_SCHEMAS=1 cargo test\n-p api`); do not edit it.\n\n## Kinds\n\n| Status | `type` | `code` | Retryable | Title |\n|---|---|---|---|---|\n",
    );
    let mut kinds = Kind::ALL.to_vec();
    kinds.sort_by_key(|kind| (kind.status().as_u16(), kind.slug()));
    for kind in kinds {
        let by_rule = matches!(kind, Kind::NotFound | Kind::StateConflict | Kind::RuleBroken);
        let code = if by_rule { "the rule" } else { kind.code() };
        let retryable = if kind.is_retryable() { "yes" } else { "no" };
        let _ = writeln!(text, "| {} | `{}` | {code} | {retryable} | {} |", kind.status().as_u16(), kind.type_uri(), kind.title());
    }
    text.push_str("\n## Rules\n\n404 is a `not-found`, 409 a `state-conflict`, 422 a `rule-broken`.\n\n| `code` | Status | What it says |\n|---|---|---|\n");
    for (code, status, message) in declared_rules() {
        let _ = writeln!(text, "| {code} | {status} | {message} |");
    }
    text
}

#[test]
fn the_published_list_is_complete() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/problems.md");
    let wanted = listed();
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        fs::write(&path, &wanted).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap_or_default(), wanted, "run the tests with UPDATE_SCHEMAS=1");
}
