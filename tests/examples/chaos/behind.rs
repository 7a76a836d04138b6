//! NATS is wiped while the read models are far behind: how long until they have caught up.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use commands::event_store::log_head;
use support::{Process, write_history};

use crate::{
    plan::{Fault, Part},
    world::World,
};

/// About as many events as an imported sale has.
const EVENTS_OF_A_SALE: u64 = 8;
const GIVES_UP_AFTER: Duration = Duration::from_secs(300);

/// How it went.
#[derive(Debug, Clone, Copy)]
pub struct CaughtUp {
    pub events: i64,
    pub took: Duration,
}

/// Stops who reads and publishes, writes `events`, wipes NATS, starts everything, and waits until bus and read models are level.
pub async fn catch_up(world: &mut World, events: u64) -> Result<CaughtUp> {
    let away = [Part::Relay, Part::ProjectorA, Part::ProjectorB];
    for part in away {
        world.processes.get_mut(&part).context("it runs")?.kill();
    }
    let before = log_head(&world.log).await?.pos;
    let (file, mapping) = write_history(world.dir(), events.div_ceil(EVENTS_OF_A_SALE))?;
    let words = ["import", file.to_str().unwrap_or_default(), "--mapping", mapping.to_str().unwrap_or_default()];
    let urls = [
        ("DATABASE_URL", world.embedded.database_url().to_owned()),
        ("MIGRATE_DATABASE_URL", world.embedded.admin_url().to_owned()),
        ("NATS_URL", world.embedded.nats_url().to_owned()),
        ("SMARTPOS_DATA_DIR", world.dir().join("roles").display().to_string()),
    ];
    let mut import = Process::spawn("import", world.dir(), &words, urls);
    let status = import.wait(Duration::from_secs(600)).await;
    ensure!(status.success(), "the import ended with {status}: {}", import.log());
    let head = log_head(&world.log).await?.pos;
    let wiped = crate::faults::inject(world, Fault::NatsWiped).await?;
    let started = Instant::now();
    crate::faults::heal(world, wiped).await?;
    for part in away {
        world.spawn(part, &[]);
    }
    loop {
        let sql = "select coalesce(min(pos), 0) from read.checkpoint";
        let read: i64 = sqlx::query_scalar(sql).fetch_one(&world.log).await?;
        // Without an answer it is asked again.
        let bus = crate::verdict::bus_end(world).await.ok().flatten().map_or(0, |(_, position)| position);
        if read >= head && bus >= head {
            return Ok(CaughtUp { events: head - before, took: started.elapsed() });
        }
        ensure!(
            started.elapsed() < GIVES_UP_AFTER,
            "after {GIVES_UP_AFTER:?} the read models stand at {read} and the bus at {bus} of {head}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
