//! One simulation: warm-up → faults → heal → quiesce → check.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use commands::{
    handle::{Caller, Reply, UnitOfWork},
    tenants::{self, NewStore},
};
use domain::{
    clock::IdSource as _,
    ids::{MerchantId, PspId, StoreId, Ulid},
    merchant::{self, Merchant},
    money::Currency,
    pricing::TaxProfile,
};
use futures_util::FutureExt as _;
use tokio::{runtime::Runtime, task::JoinSet};

use crate::{
    check,
    db::Db,
    procs::Fleet,
    requests::Client,
    sabotage::Saboteur,
    schedule::{Break, FAULTS_MS, Pay, Sale, Schedule},
    world::{Shared, SimIds, World, lock},
};

/// What came of a simulation.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// SHA-256 over the whole history.
    pub hash: String,
    /// Calls on ports.
    pub steps: u64,
    /// Payments asked for.
    pub payments: u64,
    /// Events in the log at the end.
    pub events: u64,
    /// Things that happened.
    pub counters: BTreeMap<&'static str, u64>,
    /// What must not have happened.
    pub violations: Vec<String>,
    /// The history in words, if it was asked for.
    pub trace: Vec<String>,
}

/// Runs a schedule on a runtime of one thread whose clock is paused: time goes on when there is nothing else to do.
pub fn run(runtime: &Runtime, schedule: &Schedule, sabotage: Option<Saboteur>, trace: bool) -> Outcome {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(simulate(schedule, sabotage, trace))));
    outcome.unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let violations = vec![format!("panic: {}", what.unwrap_or_default())];
        Outcome { hash: String::new(), steps: 0, payments: 0, events: 0, counters: BTreeMap::new(), violations, trace: Vec::new() }
    })
}

async fn simulate(schedule: &Schedule, sabotage: Option<Saboteur>, trace: bool) -> Outcome {
    let world = World::new(schedule.seed, schedule.knobs.clone(), sabotage, trace);
    let fleet = Arc::new(Mutex::new(Fleet::start(&world)));
    let clients = open_shops(&world, &fleet, schedule.clients.len()).await;
    let backup = Arc::new(Mutex::new(world.db().clone()));
    world.set_faulty(true);
    let mut tills = JoinSet::new();
    for (client, sales) in clients.iter().cloned().zip(schedule.clients.clone()) {
        tills.spawn(client.work(sales));
    }
    let mut breaking = JoinSet::new();
    for (at, broken) in schedule.breaks.clone() {
        let (world, fleet, backup) = (world.clone(), fleet.clone(), backup.clone());
        breaking.spawn(async move {
            tokio::time::sleep(Duration::from_millis(at)).await;
            break_it(&world, &fleet, &backup, broken).await;
        });
    }
    let mut anchors = tokio::spawn(anchor(world.clone()));
    let mut fallen = tokio::spawn(raise_the_fallen(world.clone(), fleet.clone()));
    tokio::time::sleep(Duration::from_millis(FAULTS_MS.1)).await;
    world.set_faulty(false);
    while breaking.join_next().await.is_some() {}
    for looping in [&mut anchors, &mut fallen] {
        looping.abort();
        let _ = looping.await;
    }
    heal(&world, &fleet);
    let done = tokio::time::timeout(Duration::from_secs(600), async {
        while let Some(done) = tills.join_next().await {
            if let Err(error) = done {
                world.violated("panic", error);
            }
        }
    })
    .await;
    if done.is_err() {
        world.violated("I8", "a client was never done");
    }
    quiesce(&world, &fleet).await;
    prove_alive(&world, &clients).await;
    quiesce(&world, &fleet).await;
    check::all(&world);
    lock(&fleet).end();
    let (hash, steps, counters, violations, trace) = world.outcome();
    let payments = world.journal().payments;
    let events = u64::try_from(world.db().head()).unwrap_or(0);
    Outcome { hash, steps, payments, events, counters, violations, trace }
}

async fn open_shops(world: &Shared, fleet: &Arc<Mutex<Fleet>>, count: usize) -> Vec<Client> {
    let ids = SimIds(world.clone());
    let psp = PspId(ids.next());
    let mut clients = Vec::new();
    for index in 0..count {
        let (tenant, store) = (MerchantId(ids.next()), StoreId(ids.next()));
        let client = Client { world: world.clone(), fleet: fleet.clone(), index, tenant, store };
        world.journal().tenants.push((tenant.0, format!("canary{index}\"")));
        let Some((handler, _)) = lock(fleet).api(0) else { continue };
        let caller = Caller {
            tenant,
            actor: "user:owner".to_owned(),
            device: None,
            operation: None,
            correlation_id: Ulid::nil(),
            idempotency: None,
            if_match: None,
        };
        let opened = handler.transact(&caller, move |unit| register(unit, psp, tenant, index).boxed()).await.is_ok()
            && handler.transact(&caller, move |unit| open_store(unit, store).boxed()).await.is_ok();
        if !opened {
            world.violated("I8", "a shop could not be opened");
        }
        clients.push(client);
    }
    clients
}

async fn register(unit: &mut UnitOfWork, psp: PspId, tenant: MerchantId, index: usize) -> Result<Reply, commands::error::CommandError> {
    let details = merchant::Registered { merchant_id: tenant, psp_id: psp, code: format!("SHOP{index}"), name: format!("canary{index}") };
    tenants::register_merchant(unit, details).await?;
    unit.reply::<Merchant>(201, tenant, &tenant)
}

async fn open_store(unit: &mut UnitOfWork, store_id: StoreId) -> Result<Reply, commands::error::CommandError> {
    let new = NewStore {
        store_id,
        code: "ONE".to_owned(),
        name: "Silom".to_owned(),
        currency: Currency::THB,
        tax_profile: TaxProfile::thai_vat_inclusive(),
        zone: "Asia/Bangkok".to_owned(),
        day_starts_at_minute: 240,
    };
    tenants::open_store(unit, new).await?;
    Ok(unit.done())
}

async fn break_it(world: &Shared, fleet: &Arc<Mutex<Fleet>>, backup: &Arc<Mutex<Db>>, broken: Break) {
    world.note("break", 0);
    world.tell(|| format!("{broken:?}"));
    match broken {
        Break::Kill(which, millis) => {
            lock(fleet).kill(which);
            tokio::time::sleep(Duration::from_millis(millis)).await;
            lock(fleet).start_again(which);
        }
        Break::Stop(which, millis) => {
            let process = lock(fleet).dismiss(which);
            if let Some(process) = process {
                let in_time = process.stop().await;
                world.saw(if in_time { "process stopped in order" } else { "process stopped before it was done" });
            }
            tokio::time::sleep(Duration::from_millis(millis)).await;
            lock(fleet).start_again(which);
        }
        Break::Pause(which, millis) => lock(fleet).pause(which, Duration::from_millis(millis)),
        Break::DatabaseDies(millis) => {
            world.db().die(world);
            tokio::time::sleep(Duration::from_millis(millis)).await;
            world.db().up = true;
        }
        Break::Backup => {
            if world.db().up {
                *lock(backup) = world.db().clone();
            }
        }
        Break::DatabaseRestored => restore(world, fleet, backup),
        Break::BusForgets => {
            world.bus().forget(world);
            world.journal().restored_under_bus = false;
        }
        Break::BusWiped => {
            world.saw("bus wiped");
            world.bus().wipe();
            world.journal().restored_under_bus = false;
        }
        Break::BusAway(millis) => {
            world.bus().set_up(false);
            tokio::time::sleep(Duration::from_millis(millis)).await;
            world.bus().set_up(true);
        }
    }
}

/// Whoever restores a database restarts what commands run on; relays and projectors find out by themselves.
fn restore(world: &Shared, fleet: &Arc<Mutex<Fleet>>, backup: &Arc<Mutex<Db>>) {
    world.saw("database restored to the past");
    for which in 0..5 {
        lock(fleet).kill(which);
    }
    lock(fleet).kill(crate::schedule::PROCESSES - 1);
    lock(fleet).kill_the_leaving();
    {
        let backup = lock(backup);
        let mut db = world.db();
        db.restore(&backup);
        let head = db.head();
        let kept = &db.keys;
        let ahead = world.bus().end().is_some_and(|end| end > head);
        world.journal().restored_under_bus |= ahead;
        world.journal().restored_at = Some(world.now());
        world.journal().forget_after(head, |acked| kept.contains_key(&(acked.tenant, acked.scope.clone(), acked.key.clone())));
    }
    for which in 0..crate::schedule::PROCESSES {
        lock(fleet).start_again(which);
    }
}

/// Starts again what died by itself.
async fn raise_the_fallen(world: Shared, fleet: Arc<Mutex<Fleet>>) {
    loop {
        tokio::time::sleep(Duration::from_millis(25)).await;
        let fallen = lock(&fleet).fallen();
        for which in fallen {
            lock(&fleet).kill(which);
            tokio::time::sleep(Duration::from_millis(10 + world.draw(2_000))).await;
            lock(&fleet).start_again(which);
        }
    }
}

/// Publishes where the log ends, now and then.
async fn anchor(world: Shared) {
    loop {
        tokio::time::sleep(Duration::from_millis(1_300)).await;
        let anchor = {
            let db = world.db();
            db.up.then_some((db.head(), db.hash))
        };
        world.journal().anchors.extend(anchor);
    }
}

fn heal(world: &Shared, fleet: &Arc<Mutex<Fleet>>) {
    world.db().up = true;
    world.bus().set_up(true);
    let fallen = lock(fleet).fallen();
    for which in fallen {
        lock(fleet).kill(which);
    }
    for which in 0..crate::schedule::PROCESSES {
        lock(fleet).start_again(which);
    }
    world.note("healed", 0);
}

/// Waits until nothing is left to do, letting quiet hours pass at once: to the next task, by the clock of a worker that takes it.
async fn quiesce(world: &Shared, fleet: &Arc<Mutex<Fleet>>) {
    let behind = lock(fleet).workers_lag_behind();
    for _ in 0..6_000 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        if !check::is_idle(world) {
            continue;
        }
        let task = world.db().process.tasks.values().map(|task| task.due_at + behind).min();
        let outside = world.journal().later.iter().min().copied();
        match task.into_iter().chain(outside).min() {
            None => return,
            Some(due) => world.jump_to(due),
        }
    }
    world.violated("I8", check::what_is_left(world));
}

/// Once everything is healed a new sale goes through, to the end.
async fn prove_alive(world: &Shared, clients: &[Client]) {
    for client in clients {
        let sale = Sale { after_ms: 0, prices: vec![4_200], pay: Pay::Cash, then: vec![] };
        if !client.sell(&format!("alive{}", client.index), sale).await {
            world.violated("I8", "a new sale does not go through after everything was healed");
        }
    }
}
