//! Answers of the four providers: whatever a server says, the connector neither falls over nor believes in a payment that the
//! bytes do not show.

use std::sync::{Arc, Mutex};

use chrono::{DateTime, Datelike as _, Utc};
use domain::{
    ids::{AttemptId, RefundId, Ulid},
    money::Money,
    provider::{
        AttemptKey, AttemptStatus, AttemptView, CallOutcome, ExchangeLog, InquiryRequest, Method, MethodKind, NextAction, PaymentProvider,
        RefundRequest, RefundStatus, StartRequest,
    },
};
use serde::de::IgnoredAny;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{Tally, call_backs, edits::Samples, fuzz};

/// The reference and the amount that the samples are about.
const REFERENCE: &str = "0123456789ABCDEFGHJK";
const OWED: Money = Money::thb(100_50);

/// What the server says next to whatever it is asked for, but to requests for an access token.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<(u16, Vec<u8>)>>);

impl Said {
    fn set(&self, status: u16, body: &[u8]) {
        *self.0.lock().unwrap() = (status, body.to_vec());
    }
}

/// A server that says what it is told; where it listens.
async fn server(said: Said) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let said = said.clone();
            // The client may go away at any time.
            tokio::spawn(async move { drop(serve(stream, said).await) });
        }
    });
    url
}

async fn serve(mut stream: TcpStream, said: Said) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let head = loop {
            if let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break head + 4;
            }
            if stream.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
        };
        let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:")).map_or(0, |length| length.trim().parse().unwrap());
        while bytes.len() < head + length {
            if stream.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
        }
        bytes.drain(..head + length);
        let (status, body) = match text.split(' ').nth(1) {
            Some("/v1/oauth/token") => (200, br#"{"status":{"code":1000},"data":{"accessToken":"t","expiresIn":1799}}"#.to_vec()),
            Some("/v2/oauth/token") => (200, br#"{"access_token":"t","expires_in":"1799","status":"approved"}"#.to_vec()),
            _ => said.0.lock().unwrap().clone(),
        };
        stream.write_all(format!("HTTP/1.1 {status} Said\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes()).await?;
        stream.write_all(&body).await?;
    }
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn key(provider_id: Option<&str>) -> AttemptKey {
    let attempt_id = AttemptId(Ulid(0x0123));
    AttemptKey {
        attempt_id,
        reference: REFERENCE.to_owned(),
        provider_id: provider_id.map(str::to_owned),
        amount: OWED,
        started_at: at(-60),
    }
}

/// What the provider calls the attempt.
fn id_of(provider: &str) -> Option<&'static str> {
    match provider {
        "omise" => Some("chrg_test_1"),
        "stripe" => Some("pi_1"),
        _ => None,
    }
}

/// One call, as the name of its sample says: `scb-inquire-paid.json`.
async fn call(provider: &dyn PaymentProvider, operation: &str) -> Outcome {
    let log = ExchangeLog::default();
    let (name, now) = (provider.name(), at(0));
    match operation {
        "start" => {
            let return_url = Some("https://shop.example/back".to_owned());
            let request = StartRequest {
                key: key(None),
                method: Method::PromptPay,
                manual_capture: false,
                expires_at: at(600),
                return_url,
                uncertain_since: None,
            };
            Outcome::Attempt(provider.start(&request, &log).await)
        }
        "inquire" => {
            let request = InquiryRequest { key: key(id_of(name)), method: MethodKind::PromptPay, now };
            Outcome::Attempt(provider.inquire(&request, &log).await)
        }
        _ => {
            let request = RefundRequest {
                refund_id: RefundId(Ulid(0x0123)),
                reference: REFERENCE.to_owned(),
                provider_id: id_of(name).map(str::to_owned),
                transaction_id: "T1".to_owned(),
                amount: OWED,
                captured: OWED,
                paid_at: at(-30),
                uncertain_since: None,
                now,
            };
            Outcome::Refund(provider.refund(&request, &log).await)
        }
    }
}

#[derive(Debug)]
enum Outcome {
    Attempt(CallOutcome<AttemptView>),
    Refund(CallOutcome<RefundStatus>),
}

/// Money, or a code to pay with, that this answer shows.
fn is_good_news(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Attempt(CallOutcome::Done(view)) => {
            let paid = matches!(view.status, AttemptStatus::ActionRequired(_) | AttemptStatus::Authorized { .. } | AttemptStatus::Paid);
            paid || !view.payments.is_empty()
        }
        Outcome::Refund(CallOutcome::Done(status)) => matches!(status, RefundStatus::Succeeded { .. } | RefundStatus::Pending { .. }),
        Outcome::Attempt(CallOutcome::Declined(_) | CallOutcome::NotAttempted(_) | CallOutcome::Unknown(_))
        | Outcome::Refund(CallOutcome::Declined(_) | CallOutcome::NotAttempted(_) | CallOutcome::Unknown(_)) => false,
    }
}

/// A time that the log, the books and PostgreSQL can hold.
fn is_plain(at: DateTime<Utc>) -> bool {
    (1..=9_999).contains(&at.year())
}

/// What good news must be like.
fn judge(name: &str, outcome: &Outcome) {
    let Outcome::Attempt(CallOutcome::Done(view)) = outcome else { return };
    for payment in &view.payments {
        assert!(payment.amount.is_positive() && payment.refunded >= 0 && !payment.transaction_id.is_empty(), "{payment:?}");
        assert!(is_plain(payment.paid_at), "{payment:?}");
    }
    match &view.status {
        AttemptStatus::Paid => assert!(!view.payments.is_empty(), "paid, and no payment"),
        AttemptStatus::Authorized { amount, capture_before } => {
            assert!(amount.amount >= 0 && capture_before.is_none_or(is_plain), "{view:?}");
        }
        // The banks' codes are read before they are shown; card schemes' are shown as they come.
        AttemptStatus::ActionRequired(NextAction::ShowQr { payload }) if name != "stripe" => {
            assert_eq!(gateway::promptpay::ParsedQr::parse(payload).unwrap().amount, Some(OWED));
        }
        AttemptStatus::ActionRequired(NextAction::Redirect { .. } | NextAction::ShowQr { .. })
        | AttemptStatus::NotFound
        | AttemptStatus::Pending
        | AttemptStatus::Failed(_)
        | AttemptStatus::Canceled
        | AttemptStatus::Expired
        | AttemptStatus::Unrecognized(_) => {}
    }
}

#[test]
fn no_answer_of_a_provider_makes_money_that_it_does_not_show() {
    let tally = Tally::default();
    let samples = Samples::of("provider_answers");
    let names = samples.names.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let said = Said::default();
    let base_url = runtime.block_on(server(said.clone()));
    fuzz!(5_000, samples, |input| {
        let mut parts = names[input.sample].split('-');
        let (name, operation) = (parts.next().unwrap(), parts.next().unwrap());
        // One in eight comes with another status than its own.
        let status = [400, 401, 404, 429, 500, 503, 204, 302].get(usize::try_from(input.salt % 64).unwrap()).copied().unwrap_or(200);
        said.set(status, if status == 204 { b"" } else { &input.bytes });
        // A new one each time: connectors remember pauses and what is unsettled.
        let provider = call_backs::provider(name, &base_url);
        let outcome = runtime.block_on(call(&*provider, operation));
        judge(name, &outcome);
        if is_good_news(&outcome) {
            tally.accepted();
            assert!(serde_json::from_slice::<IgnoredAny>(&input.bytes).is_ok(), "not JSON, and yet {outcome:?}");
            // A repeated start, and a refund that is in effect, are told by an error.
            assert!(status < 300 || matches!(outcome, Outcome::Attempt(_)) || status == 400, "HTTP {status}, and yet {outcome:?}");
        } else {
            tally.refused();
        }
    });
    tally.has_seen_both("answers of providers");
}
