//! Payments from creating an intent to hearing that it succeeded, against a bank that answers at once: whole payments per second,
//! what the platform alone adds to their latency, call-backs taken in, and whether a payment costs more when many are stored.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context, Result};
use commands::{
    database,
    webhooks::{self, Delivery},
};
use domain::{
    clock::{Clock, IdSource},
    ids::WebhookId,
    provider::{HintSubject, WebhookHint},
};
use futures_util::future::BoxFuture;
use support::{ManualClock, OwnServers, SeededIds};

use crate::{
    Bench,
    bare::{self, Shape},
    cards,
    load::{self, generate},
    measure::{Subject, interleaved, rate},
    mix::Mix,
    payers::{Outcome, Plan, Step, pay},
    report::Aim,
    server::{ALL_ROLES, Server},
};

/// Also of its part about cards.
pub const SECTION: &str = "payments";
/// Payments under way at once where as many are made as can be.
pub const PAYERS: usize = 64;
/// Payments per second while latency is measured: what a large chain has at noon.
pub const RATE: u64 = 200;
/// Our own limit of what the platform adds to a whole payment, milliseconds.
const OWN_P99: f64 = 25.0;
/// The published limits of the gateway's latency without the provider's time, milliseconds.
const PUBLISHED: [(&str, usize, f64); 2] = [("P95", 950, 200.0), ("P99", 990, 500.0)];
/// The four commands of a payment by QR, by the event that each writes.
const EVENTS: [&str; 4] =
    ["payment_intent.created", "payment_intent.attempt_started", "payment_intent.action_required", "payment_intent.succeeded"];
/// Connections that deliver call-backs, and places of the pool that takes them in.
const CALL_BACKS: usize = 64;
const POOL: u32 = 16;

/// Runs the section.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let few = Server::start(&bench.servers, "bench_payments", &ALL_ROLES).await?;
    whole(bench, &few).await?;
    added(bench, &few).await?;
    growth(bench, few).await?;
    cards::run(bench).await?;
    call_backs(bench).await
}

fn plan(server: &Server, run_ms: u64) -> Result<Plan> {
    let bank = server.bank.context("a server with a bank")?;
    let (address, shops) = (server.address, server.shops.clone());
    Ok(Plan { address, bank, shops, card: false, rate: None, payers: PAYERS, warm_ms: run_ms / 3, run_ms, most: None })
}

/// More and more payers: a server that has just started opens its connections as it needs them.
async fn warm_up(server: &Server) -> Result<()> {
    for payers in [4, 8, 16] {
        pay(&Plan { payers, ..plan(server, 300)? }).await?;
    }
    Ok(())
}

/// Whole payments per second.
fn paying(server: &Server, run_ms: u64) -> Subject<'_> {
    Box::new(move || Box::pin(async move { Ok(pay(&plan(server, run_ms)?).await?.rate()) }))
}

/// As many whole payments as can be, against the bare batcher with the same events in as many commands.
async fn whole(bench: &mut Bench, server: &Server) -> Result<()> {
    warm_up(server).await?;
    let ceiling = bench.servers.near_database("bench_payments_bare").await;
    let mut shapes = Vec::new();
    for event in EVENTS {
        shapes.push(Shape::of_newest(&server.database.admin, event).await?);
    }
    let options = database::options(&ceiling.url, database::Role::App)?;
    let (ids, window) = (Arc::new(SeededIds::new(40)), bench.effort.window());
    let (shapes, options, ids) = (&shapes, &options, &ids);
    let batcher = move || -> BoxFuture<'_, Result<f64>> {
        Box::pin(async move {
            let mut seconds_each = 0.0;
            for shape in shapes {
                seconds_each += 1.0 / bare::rate(options, shape, ids, PAYERS / 2, window / 4).await?.max(1e-9);
            }
            Ok(1.0 / seconds_each)
        })
    };
    let run_ms = bench.effort.choose(6_000, 1_500);
    let figures = interleaved(bench.effort.rounds(), &[paying(server, run_ms), Box::new(batcher)]).await?;
    let [paid, bare] = figures[..] else { return Ok(()) };
    let report = &mut bench.report;
    report.figure(SECTION, format!("bare batcher with the {} commands and events of a payment", EVENTS.len()), bare, "payments/s");
    report.figure(SECTION, format!("create + confirm + call-back + succeeded by QR, {PAYERS} under way, every role"), paid, "payments/s");
    report.ratio(SECTION, "÷ bare batcher", (paid, bare), None);
    OwnServers::drop_database(ceiling).await;
    Ok(())
}

/// What the platform alone adds to the latency of a payment, step by step.
async fn added(bench: &mut Bench, server: &Server) -> Result<()> {
    server.payments_settled().await?;
    let run_ms = bench.effort.choose(15_000, 4_000);
    let before = server.usage();
    let open = Plan { rate: Some(RATE), payers: 2 * PAYERS, warm_ms: 1_000, ..plan(server, run_ms)? };
    let outcome = pay(&open).await?;
    let used = server.usage();
    if outcome.not_begun() > 0 {
        bench.report.note(format!("{RATE} payments/s are not held: {} were due and not begun in time", outcome.not_begun()));
    }
    let steps = [
        (Step::Create, "from due to created"),
        (Step::Action, "from confirm to the frame with the QR"),
        (Step::Success, "from the call-back to the frame of success"),
        (Step::Whole, "in all three"),
    ];
    for (step, what) in steps {
        let mut took = outcome.step(step);
        for (name, permille) in [("P50", 500), ("P95", 950), ("P99", 990)] {
            let aim = (step == Step::Whole && permille == 990).then_some(Aim::AtMost(OWN_P99));
            bench.report.push(SECTION, format!("{name} added {what}, {RATE} payments/s"), took.percentile(permille), "ms", aim);
        }
    }
    let mut whole = outcome.step(Step::Whole);
    for (name, permille, limit) in PUBLISHED {
        let what = format!("{name} added in all three, {RATE} payments/s: the published limit of the gateway");
        bench.report.aimed(SECTION, what, whole.percentile(permille), "ms", Aim::AtMost(limit));
    }
    let mut read = outcome.step(Step::Read);
    bench.report.figure(SECTION, "P99 from the call-back to a GET that shows success", read.percentile(990), "ms");
    costs(bench, &outcome, &used.each(&before, outcome.good * (run_ms + 1_000) / run_ms));
    Ok(())
}

fn costs(bench: &mut Bench, outcome: &Outcome, used: &[(&str, f64)]) {
    let report = &mut bench.report;
    let mut held = outcome.held.clone();
    report.figure(SECTION, "P99 of the time that the bank held a payment's calls, taken off above", held.percentile(990), "ms");
    report.figure(SECTION, "calls to the bank for each payment", outcome.calls_each, "calls");
    for (name, micros) in used {
        report.figure(SECTION, format!("processor time of {name} for each payment, read models included"), *micros, "µs");
    }
    report.figure(SECTION, "processor time of the payers for each payment", outcome.cpu_micros_each, "µs");
}

/// The same on a platform that holds ten times as many payments.
async fn growth(bench: &mut Bench, few: Server) -> Result<()> {
    let many = Server::start(&bench.servers, "bench_payments_many", &ALL_ROLES).await?;
    let stored = few.payments().await?;
    // A quick run has no time for ten times as many.
    let most = Some(u64::try_from(stored * 10)?.min(bench.effort.choose(u64::MAX, 4_000)));
    warm_up(&many).await?;
    pay(&Plan { most, warm_ms: 0, ..plan(&many, 600_000)? }).await?;
    few.payments_settled().await?;
    many.payments_settled().await?;
    let beside = many.payments().await?;
    let run_ms = bench.effort.choose(4_000, 1_500);
    let figures = interleaved(bench.effort.rounds() + 2, &[paying(&few, run_ms), paying(&many, run_ms)]).await?;
    let [short, long] = figures[..] else { return Ok(()) };
    let what = format!("cost of a payment where {beside} are stored at first ÷ where {stored} are");
    bench.report.ratio(SECTION, what, (short, long), Some(Aim::AtMost(1.1)));
    few.stop().await?;
    many.stop().await
}

/// Signed call-backs stored and acknowledged, with nobody to look into them, against the bare statement.
async fn call_backs(bench: &mut Bench) -> Result<()> {
    // Nobody listens there: the role api calls no provider.
    let setting = [(cards::BASE_URL, "http://127.0.0.1:9".to_owned())];
    let mut server = Server::start_with(&bench.servers, "bench_call_backs", &["api"], &setting).await?;
    for shop in &mut server.shops {
        shop.account = Some(cards::open_account(server.address, shop).await);
    }
    let (address, shops) = (server.address, server.shops.clone());
    let run_ms = u64::try_from(bench.effort.window().as_millis())?;
    let plan =
        load::Plan { address, bank: None, shops, mix: Mix::CallBacks, rate: None, connections: CALL_BACKS, warm_ms: run_ms / 4, run_ms };
    let taken = move || -> BoxFuture<'_, Result<f64>> {
        let plan = plan.clone();
        Box::pin(async move {
            let outcome = generate(&plan).await?;
            anyhow::ensure!(outcome.bad.is_empty(), "not every call-back was taken: {:?}", outcome.bad);
            Ok(outcome.rate())
        })
    };
    let bare_database = bench.servers.near_database("bench_call_backs_bare").await;
    let (url, window, ids) = (&bare_database.url, bench.effort.window(), Arc::new(SeededIds::new(41)));
    let bare: Subject<'_> = Box::new(move || Box::pin(bare_take(url, window, ids.clone())));
    let figures = interleaved(bench.effort.rounds(), &[Box::new(taken), bare]).await?;
    let [taken, bare] = figures[..] else { return Ok(()) };
    let report = &mut bench.report;
    report.figure(SECTION, format!("bare statement that stores a call-back and its task, {POOL} connections"), bare, "call-backs/s");
    report.figure(SECTION, format!("signed call-backs stored and acknowledged, {CALL_BACKS} connections, role api"), taken, "call-backs/s");
    report.ratio(SECTION, "÷ bare statement", (taken, bare), None);
    server.stop().await?;
    OwnServers::drop_database(bare_database).await;
    Ok(())
}

/// Call-backs stored per second by the statement alone.
async fn bare_take(url: &str, window: Duration, ids: Arc<SeededIds>) -> Result<f64> {
    let pool = database::pool(url, database::Role::App, POOL)?;
    let body = vec![b'x'; 1_300];
    let figure = rate(CALL_BACKS, window, |done| {
        let (pool, ids, body) = (pool.clone(), ids.clone(), body.clone());
        async move {
            loop {
                let (id, now) = (ids.next(), ManualClock::default().now());
                let hint = WebhookHint {
                    delivery_id: id.to_string(),
                    subject: HintSubject::Reference(id.to_string()),
                    transaction_id: None,
                    acknowledgement: String::new(),
                };
                let (provider, account) = ("stripe", "pac_of_the_bench");
                let delivery = Delivery { id: WebhookId(id), provider, account, tenant: None, received_at: now, headers: &[], body: &body };
                webhooks::take(&pool, &delivery, &hint, None).await.context("the bare statement")?;
                done.fetch_add(1, Ordering::Relaxed);
            }
        }
    })
    .await;
    pool.close().await;
    figure
}
