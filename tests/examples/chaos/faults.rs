//! How each fault is made and unmade.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::json;
use support::Way;
use tokio_util::sync::DropGuard;

use crate::{
    disks::{self, Disk},
    plan::{Fault, Line, Part},
    servers::{
        copy_nats, delete_stream, empty, few_connections, fill_postgres, flip_a_bit, kill_backend, lock_head, mounted, power_loss,
        watch_nats,
    },
    world::{World, signal},
};

/// A process that was asked to stop has so long from when its fault is over: what is under way and its connections may take it eight
/// seconds, and a machine with much to do several times that.
const STOPS_WITHIN: Duration = Duration::from_secs(30);

/// A fault in force.
pub struct Broken {
    pub fault: Fault,
    keeps: Keeps,
}

/// What has to be given up to unmake it.
enum Keeps {
    Nothing,
    Task(#[expect(dead_code, reason = "the task ends when it is dropped")] DropGuard),
    Child(Child),
    Copy(PathBuf),
}

/// Makes it.
pub async fn inject(world: &mut World, fault: Fault) -> Result<Broken> {
    let mut keeps = Keeps::Nothing;
    match fault {
        Fault::Kill(part) => process(world, part)?.kill(),
        Fault::Terminate(part) => process(world, part)?.signal("TERM"),
        Fault::Pause(part) => process(world, part)?.signal("STOP"),
        Fault::Starve(part) => keeps = Keeps::Child(starve(process(world, part)?.id())?),
        Fault::FewFiles(part) => disks::run("prlimit", &["--pid", &process(world, part)?.id().to_string(), "--nofile=48:"])?,
        Fault::Twin(part) => world.spawn_twin(part)?,
        Fault::Skew(part, seconds) => {
            process(world, part)?.kill();
            let this = std::env::current_exe()?;
            world.spawn_as(part, &this, &["role"], &[("CHAOS_CLOCK_S", seconds.to_string())]);
        }
        Fault::FailPoint(part, name) => {
            process(world, part)?.kill();
            world.spawn(part, &[("FAIL_POINT", name.to_owned())]);
        }
        Fault::PostgresKilled => world.embedded.kill_postgres().await?,
        Fault::PostgresStopped => signal(world.embedded.postgres_pid().as_slice(), "QUIT"),
        Fault::BackendKilled => kill_backend(world).await?,
        Fault::PostgresPaused => signal(&world.postgres_pids(), "STOP"),
        Fault::HeadLocked => keeps = Keeps::Task(lock_head(world).await?),
        Fault::FewConnections => few_connections(world).await?,
        Fault::PostgresDiskFull => fill_postgres(world).await?,
        Fault::PowerLoss => power_loss(world).await?,
        Fault::Restored => anyhow::bail!("a restore is more than a fault"),
        Fault::NatsKilled => world.embedded.kill_nats().await,
        Fault::NatsPaused => signal(world.embedded.nats_pid().as_slice(), "STOP"),
        Fault::NatsWiped => {
            world.embedded.kill_nats().await;
            empty(&world.data().join("nats"))?;
        }
        Fault::StreamDeleted => delete_stream(world).await?,
        Fault::NatsBitFlipped => flip_a_bit(world).await?,
        Fault::NatsOlder => keeps = Keeps::Copy(copy_nats(world).await?),
        Fault::NatsDiskFull => mounted(world)?.fill(Disk::Nats)?,
        Fault::Cut(line) => {
            proxy(world, line)?.hold(Way::Up, true);
            proxy(world, line)?.hold(Way::Down, true);
        }
        Fault::CutUp(line) => proxy(world, line)?.hold(Way::Up, true),
        Fault::CutDown(line) => proxy(world, line)?.hold(Way::Down, true),
        Fault::Slow(line, ms) => proxy(world, line)?.delay(Duration::from_millis(ms)),
        Fault::Refused(line) => proxy(world, line)?.refuse(true),
        Fault::Narrow(line, rate) => proxy(world, line)?.narrow(rate),
        // The next one; heal asks how many there were.
        Fault::AnswersLost(line) => proxy(world, line)?.swallow_answer(),
        Fault::BankTrouble(operation, fault) => {
            let rule = json!({"operation": operation, "fault": fault, "times": 100_000, "per_mille": 600, "delay_ms": 2_500});
            world.http.post(format!("{}/sim/faults", world.base(Part::Bank))).json(&rule).send().await?.error_for_status()?;
        }
    }
    Ok(Broken { fault, keeps })
}

/// While it is in force: what strikes again and again.
pub fn again(world: &World, broken: &Broken) {
    if let Fault::AnswersLost(line) = broken.fault
        && let Some(proxy) = world.lines.get(&line)
    {
        proxy.swallow_answer();
    }
}

/// Unmakes it. Processes are started, and not waited for.
pub async fn heal(world: &mut World, broken: Broken) -> Result<()> {
    let Broken { fault, keeps } = broken;
    match fault {
        Fault::Kill(part) => world.spawn(part, &[]),
        Fault::Terminate(part) => {
            stopped(world, part).await?;
            world.spawn(part, &[]);
        }
        Fault::Pause(part) => process(world, part)?.signal("CONT"),
        Fault::Starve(part) => {
            if let Keeps::Child(mut child) = keeps {
                child.kill()?;
                child.wait()?;
            }
            process(world, part)?.signal("CONT");
        }
        Fault::FewFiles(part) => disks::run("prlimit", &["--pid", &process(world, part)?.id().to_string(), "--nofile=1024:"])?,
        Fault::Twin(_) => world.twins.clear(),
        Fault::Skew(part, _) | Fault::FailPoint(part, _) => {
            if world.log_since_start(part).contains("held at a fail point") {
                world.measure.saw("killed at a fail point");
            }
            process(world, part)?.kill();
            world.spawn(part, &[]);
        }
        Fault::PostgresKilled | Fault::PostgresStopped => world.embedded.restart_postgres().await?,
        Fault::PostgresPaused => signal(&world.postgres_pids(), "CONT"),
        Fault::FewConnections => {
            sqlx::query("alter role smartpos connection limit -1").execute(&world.log).await?;
        }
        Fault::PostgresDiskFull => {
            mounted(world)?.free(Disk::Postgres)?;
            if world.embedded.revive().await?.contains(&"postgres") {
                world.measure.saw("postgres died of its full disk");
            }
        }
        Fault::NatsKilled | Fault::NatsWiped => world.embedded.restart_nats().await?,
        Fault::NatsPaused => signal(world.embedded.nats_pid().as_slice(), "CONT"),
        Fault::NatsOlder => {
            world.embedded.kill_nats().await;
            if let Keeps::Copy(copy) = keeps {
                let store = world.data().join("nats");
                empty(&store)?;
                disks::run("cp", &["-a", &format!("{}/.", copy.display()), &store.display().to_string()])?;
                fs::remove_dir_all(copy)?;
            }
            world.embedded.restart_nats().await?;
        }
        Fault::NatsDiskFull => {
            mounted(world)?.free(Disk::Nats)?;
            watch_nats(world).await?;
        }
        Fault::Cut(line)
        | Fault::CutUp(line)
        | Fault::CutDown(line)
        | Fault::Slow(line, _)
        | Fault::Refused(line)
        | Fault::Narrow(line, _)
        | Fault::AnswersLost(line) => proxy(world, line)?.heal(),
        Fault::BankTrouble(..) => {
            world.http.delete(format!("{}/sim/faults", world.base(Part::Bank))).send().await?.error_for_status()?;
        }
        // Done with; or a task that ends with what keeps it.
        Fault::BackendKilled | Fault::HeadLocked | Fault::PowerLoss | Fault::Restored | Fault::StreamDeleted | Fault::NatsBitFlipped => {}
    }
    Ok(())
}

fn process(world: &mut World, part: Part) -> Result<&mut support::Process> {
    world.processes.get_mut(&part).with_context(|| format!("{} does not run", part.name()))
}

fn proxy(world: &World, line: Line) -> Result<&support::Proxy> {
    world.lines.get(&line).context("no such line")
}

/// A tenth of a processor: it runs for twenty milliseconds of every two hundred.
fn starve(pid: u32) -> Result<Child> {
    let beat = "while kill -s STOP \"$0\" 2>/dev/null; do sleep 0.18; kill -s CONT \"$0\"; sleep 0.02; done";
    Ok(Command::new("sh").args(["-c", beat, &pid.to_string()]).stdin(Stdio::null()).spawn()?)
}

/// F41: it has drained and ended by itself, in time.
async fn stopped(world: &mut World, part: Part) -> Result<()> {
    let since = Instant::now();
    loop {
        if let Some(status) = process(world, part)?.exited() {
            if !status.success() {
                world.measure.violated("F41", format!("{} was asked to stop and ended with {status}", part.name()));
            }
            return Ok(());
        }
        if since.elapsed() > STOPS_WITHIN {
            world.measure.violated("F41", format!("{} was asked to stop and still runs after {STOPS_WITHIN:?}", part.name()));
            process(world, part)?.kill();
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
