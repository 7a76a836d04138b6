//! Appending through the committer against one transaction per command, against the bare batcher, against two committer
//! connections, and against the crate `postgres-es`.

use std::{
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context, Result};
use commands::{
    batch::BatchAnswer,
    committer::{self, ItemOutcome},
    database,
    event_log::PgAppender,
    event_store,
};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use support::{OwnServers, SeededIds};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::{
    Bench,
    bare::{self, Shape},
    measure::{self, Subject, interleaved},
    report::Aim,
};

const SECTION: &str = "append";
/// Connections at most where each caller has its own; `bench-peer` opens no more either.
const MOST_CONNECTIONS: usize = 64;

/// Runs the section.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let database = bench.servers.near_database("bench_append").await;
    let peer_database = bench.servers.near_database("bench_peer").await;
    let options = database::options(&database.url, database::Role::App)?;
    let ids = Arc::new(SeededIds::new(1));
    let shape = Shape::two_events(&ids);
    let all: [usize; 4] = [1, 8, 64, 256];
    let counts = if bench.effort.quick { &[1, 64][..] } else { &all[..] };
    for callers in counts.iter().copied() {
        let window = bench.effort.window();
        let (options, shape, ids) = (&options, &shape, &ids);
        // As many as the committer finds waiting: half of the callers, since the others are in flight.
        let batch = callers.div_ceil(2);
        let committers = |connections: usize| {
            move || {
                Box::pin(through(options.clone(), shape.clone(), ids.clone(), connections, callers, window))
                    as futures_util::future::BoxFuture<'_, _>
            }
        };
        let peer_url = peer_database.admin_url.clone();
        let mut subjects: Vec<Subject<'_>> = vec![
            Box::new(committers(1)),
            Box::new(committers(2)),
            Box::new(move || Box::pin(singly(options, shape, ids, callers, window))),
            Box::new(move || Box::pin(bare::rate(options, shape, ids, batch, window))),
        ];
        if bench.peer.is_some() {
            let program = bench.peer.clone().unwrap_or_default();
            subjects.push(Box::new(move || Box::pin(peer(program.clone(), peer_url.clone(), callers, window))));
        }
        let figures = interleaved(bench.effort.rounds(), &subjects).await?;
        drop(subjects);
        report(bench, callers, batch, &figures);
    }
    OwnServers::drop_database(peer_database).await;
    OwnServers::drop_database(database).await;
    Ok(())
}

fn report(bench: &mut Bench, callers: usize, batch: usize, figures: &[f64]) {
    let [one, two, single, ceiling, rest @ ..] = figures else { return };
    let report = &mut bench.report;
    let aim = |at: usize, least: f64| (callers == at).then_some(Aim::AtLeast(least));
    report.figure(SECTION, format!("{callers} callers: through the committer"), *one, "commands/s");
    let over = if callers > MOST_CONNECTIONS { format!(" over {MOST_CONNECTIONS} connections") } else { String::new() };
    let what = format!("{callers} callers: ÷ one transaction per command{over} ({single:.0}/s)");
    report.ratio(SECTION, what, (*one, *single), aim(64, 4.0));
    report.ratio(
        SECTION,
        format!("{callers} callers: ÷ bare batcher, batches of {batch} ({ceiling:.0}/s)"),
        (*one, *ceiling),
        aim(64, 0.85),
    );
    if let [peer, ..] = rest {
        let aim = aim(64, 8.0).or_else(|| aim(1, 1.0));
        report.ratio(SECTION, format!("{callers} callers: ÷ postgres-es{over} ({peer:.0}/s)"), (*one, *peer), aim);
    }
    report.ratio(SECTION, format!("{callers} callers: two committer connections ({two:.0}/s) ÷ one"), (*two, *one), None);
}

/// Through committers, callers spread evenly over them.
async fn through(
    options: PgConnectOptions,
    shape: Shape,
    ids: Arc<SeededIds>,
    connections: usize,
    callers: usize,
    window: Duration,
) -> Result<f64> {
    let stop = CancellationToken::new();
    let (committers, tasks): (Vec<_>, Vec<_>) =
        (0..connections).map(|_| committer::spawn(PgAppender::new(options.clone()), committer::News::default(), stop.clone())).unzip();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let rate = measure::rate(callers, window, |done| {
        let committer = committers[next.fetch_add(1, Ordering::Relaxed) % connections].clone();
        let (shape, ids) = (shape.clone(), ids.clone());
        async move {
            loop {
                let outcome = committer.append(shape.item(&ids)).await?;
                anyhow::ensure!(matches!(outcome, ItemOutcome::Committed { .. }), "the committer refused a command: {outcome:?}");
                done.fetch_add(1, Ordering::Relaxed);
            }
        }
    })
    .await;
    stop.cancel();
    for task in tasks {
        task.await?;
    }
    rate
}

/// Each caller on a connection of its own (at most [`MOST_CONNECTIONS`]), each command a call of the append function of its own.
async fn singly(options: &PgConnectOptions, shape: &Shape, ids: &Arc<SeededIds>, callers: usize, window: Duration) -> Result<f64> {
    let mut connections = Vec::new();
    for _ in 0..callers.min(MOST_CONNECTIONS) {
        connections.push(PgConnection::connect_with(options).await?);
    }
    let connections = Mutex::new(connections);
    let rate = measure::rate(callers.min(MOST_CONNECTIONS), window, |done| {
        let (shape, ids) = (shape.clone(), Arc::clone(ids));
        let connection = connections.lock().unwrap_or_else(PoisonError::into_inner).pop();
        async move {
            let mut connection = connection.context("a connection")?;
            loop {
                let answer = event_store::append(&mut connection, &[shape.item(&ids)]).await?;
                anyhow::ensure!(matches!(answer, BatchAnswer::Committed { .. }), "a command was refused: {answer:?}");
                done.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    rate.await
}

async fn peer(program: PathBuf, url: String, callers: usize, window: Duration) -> Result<f64> {
    let mut command = Command::new(&program);
    command.args([url, callers.to_string(), window.as_millis().to_string()]).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.with_context(|| program.display().to_string())?;
    anyhow::ensure!(output.status.success(), "bench-peer: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
}

/// The peer, when `make bench` has built it: in the same target directory.
pub fn peer_program() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let path = own.ancestors().nth(3)?.join("bench-peer/release/bench-peer");
    path.is_file().then_some(path)
}
