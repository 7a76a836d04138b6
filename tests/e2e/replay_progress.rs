//! How far a long question of `replay` is: told on a terminal, counted as it was announced.

use std::{
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
};

use commands::database::Role;
use projections::{
    check::{check_all, steps},
    rebuild::{ROWS_IN_MEMORY, Stage, Wanted, rebuild},
    runner,
};
use support::{Shop, TestDatabase, eventually, replay, replay_command};
use tokio_util::sync::CancellationToken;

/// Some sales, and read models that have read all of them.
async fn folded() -> TestDatabase {
    let database = TestDatabase::new().await;
    projections::install::install(&database.admin).await.unwrap();
    let write = database.write_side();
    let shop = Shop::open(&write.handler).await;
    for _ in 0..3 {
        let order = shop.open_order(&write.handler, &[("LATTE", 85_00), ("CAKE", 60_00)]).await;
        let bill = shop.bill(&write.handler, order).await.unwrap();
        shop.pay_cash(&write.handler, bill).await.unwrap();
    }
    write.stop().await;
    let stop = CancellationToken::new();
    let running = runner::start_all(&database.pool(Role::Worker), None, &stop);
    let head = database.head().await.pos;
    eventually("the read models are up to date", std::time::Duration::from_secs(20), || async {
        let behind: i64 = sqlx::query_scalar("select min(pos) from read.checkpoint").fetch_one(&database.admin).await.unwrap();
        (behind >= head).then_some(())
    })
    .await;
    stop.cancel();
    running.tasks.join_all().await;
    database
}

/// What a question shows on a terminal, where output and errors are one.
async fn on_a_terminal(database: &TestDatabase, arguments: &[&str]) -> String {
    let asked = replay_command(database, arguments);
    let words = std::iter::once(asked.get_program()).chain(asked.get_args());
    let line: Vec<String> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--return", "--command", &line.join(" "), "/dev/null"]).stdin(std::process::Stdio::null());
    terminal.env("TERM", "xterm").envs(asked.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = tokio::task::spawn_blocking(move || terminal.output()).await.unwrap().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{shown}");
    shown
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bar_with_the_time_left_stands_on_a_terminal_and_nowhere_else() {
    let database = folded().await;
    let head = database.head().await.pos;
    for (arguments, name) in [(&["verify"][..], "verify"), (&["check"], "check"), (&["diff", "orders_v3", "orders_v3"], "rows")] {
        let shown = on_a_terminal(&database, arguments).await;
        assert!(shown.contains(&format!("{name} [")) && shown.contains(" left"), "{arguments:?}: {shown}");
        assert!(!shown.contains(" 0 of 0"), "{arguments:?}: {shown}");
        let silent = replay(&database, arguments).await.sound();
        assert_eq!(silent.errors, "", "{arguments:?}");
        assert!(shown.contains(&format!("digest {}", silent.digest)), "the same answer: {shown}");
    }
    assert!(on_a_terminal(&database, &["verify"]).await.contains(&format!("{head} of {head}")), "all of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_takes_the_steps_that_it_announced() {
    let database = folded().await;
    let pool = database.pool(Role::Worker);
    let taken = Arc::new(AtomicI64::new(0));
    let announced = steps(&pool).await.unwrap();
    let count = Arc::clone(&taken);
    check_all(&pool, 2, Arc::new(move |steps| _ = count.fetch_add(steps, Ordering::Relaxed))).await.unwrap();
    let head = database.head().await.pos;
    let models = i64::try_from(projections::all().len()).unwrap();
    assert!(announced > head * models, "rows count as well as events");
    assert_eq!(taken.load(Ordering::Relaxed), announced);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_tells_of_its_indexes_and_of_the_rows_that_it_compares() {
    let database = folded().await;
    let orders = projections::all().into_iter().find(|projection| projection.name() == "orders").unwrap();
    let wanted = Wanted { connections: 1, rows_in_memory: ROWS_IN_MEMORY, accept_differences: false };
    let stages = Mutex::new(Vec::new());
    let worker = database.pool(Role::Worker);
    let report = rebuild(&database.admin, &worker, orders, wanted, |stage| stages.lock().unwrap().push(stage)).await.unwrap();
    let stages = stages.into_inner().unwrap();
    assert!(matches!(stages.first(), Some(Stage::Folding { .. })), "{stages:?}");
    assert!(stages.iter().any(|stage| matches!(stage, Stage::Indexing { done: 0, of } if *of > 0)), "{stages:?}");
    let compared: Vec<(i64, i64)> = stages
        .iter()
        .filter_map(|stage| match stage {
            Stage::Comparing { rows, of } => Some((*rows, *of)),
            Stage::Folding { .. } | Stage::Indexing { .. } => None,
        })
        .collect();
    assert_eq!((compared.first(), compared.last()), (Some(&(0, report.rows)), Some(&(report.rows, report.rows))));
    assert!(report.rows > 0 && compared.is_sorted(), "{compared:?}");
}
