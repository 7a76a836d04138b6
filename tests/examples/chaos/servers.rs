//! How PostgreSQL and NATS are broken, and put back to what they were.

use std::{
    fs,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use api::embedded::connect_nats;
use commands::{event_store::log_head, relay::stream_name};
use sqlx::{Connection as _, PgConnection};
use support::PATIENCE;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    disks::{self, Disk, Disks},
    plan::End,
    world::{World, signal},
};

/// The disks of the run's own.
pub fn mounted(world: &World) -> Result<&Disks> {
    world.disks.as_ref().context("there are no disks of the run's own")
}

pub async fn kill_backend(world: &World) -> Result<()> {
    let sql = "select pid from pg_stat_activity where usename = 'smartpos' order by random() limit 1";
    let pid: Option<i32> = sqlx::query_scalar(sql).fetch_optional(&world.log).await?;
    signal(&[u32::try_from(pid.context("nobody is connected")?)?], "KILL");
    Ok(())
}

pub async fn lock_head(world: &World) -> Result<DropGuard> {
    let mut holder = PgConnection::connect(world.embedded.admin_url()).await?;
    let released = CancellationToken::new();
    let release = released.clone();
    sqlx::raw_sql("begin; select * from log.head for update").execute(&mut holder).await?;
    tokio::spawn(async move {
        release.cancelled().await;
        // Closing gives the lock back, too.
        let _ = sqlx::raw_sql("rollback").execute(&mut holder).await;
    });
    Ok(released.drop_guard())
}

pub async fn few_connections(world: &World) -> Result<()> {
    sqlx::query("alter role smartpos connection limit 6").execute(&world.log).await?;
    sqlx::query("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'smartpos'").execute(&world.log).await?;
    Ok(())
}

/// Also makes it need another piece of its log, which it does not get.
pub async fn fill_postgres(world: &World) -> Result<()> {
    mounted(world)?.fill(Disk::Postgres)?;
    for _ in 0..4 {
        let switch = sqlx::raw_sql(
            "create table if not exists public.chaos (n integer); insert into public.chaos values (1); select pg_switch_wal()",
        );
        // Sooner or later it cannot, which is what is wanted.
        let _ = tokio::time::timeout(Duration::from_secs(1), switch.execute(&world.log)).await;
    }
    Ok(())
}

/// Everything that the disks did not hold yet is gone, of both servers at the same moment.
pub async fn power_loss(world: &mut World) -> Result<()> {
    signal(&world.postgres_pids(), "STOP");
    signal(world.embedded.nats_pid().as_slice(), "STOP");
    let copies = [Disk::Postgres, Disk::Nats].map(|disk| mounted(world).and_then(|disks| disks.snapshot(disk)));
    world.embedded.kill_postgres().await?;
    world.embedded.kill_nats().await;
    for (disk, copy) in [Disk::Postgres, Disk::Nats].into_iter().zip(copies) {
        mounted(world)?.replace(disk, &copy?)?;
    }
    world.embedded.restart_postgres().await?;
    Ok(world.embedded.restart_nats().await?)
}

pub async fn delete_stream(world: &World) -> Result<()> {
    // The database may be what else is broken, and stays so until this is made.
    let head = tokio::time::timeout(Duration::from_secs(5), log_head(&world.log)).await??;
    let client = connect_nats(world.embedded.nats_url()).await?;
    // There may be none at this moment.
    let _ = async_nats::jetstream::new(client).delete_stream(stream_name(&head)).await;
    Ok(())
}

/// Removes what is in a directory, which stays.
pub fn empty(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
    }
    Ok(())
}

fn blocks(dir: &Path) -> Vec<PathBuf> {
    let entries: Vec<PathBuf> = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    let (dirs, files): (Vec<_>, Vec<_>) = entries.into_iter().partition(|path| path.is_dir());
    let here = files.into_iter().filter(|path| path.extension().is_some_and(|end| end == "blk"));
    here.chain(dirs.iter().flat_map(|dir| blocks(dir))).collect()
}

/// Flips one bit in the middle of what NATS has stored.
pub async fn flip_a_bit(world: &mut World) -> Result<()> {
    world.embedded.kill_nats().await;
    let found = blocks(&world.data().join("nats")).into_iter().filter_map(|path| Some((fs::metadata(&path).ok()?.len(), path))).max();
    if let Some((length, path)) = found.filter(|(length, _)| *length > 0) {
        let file = fs::File::options().read(true).write(true).open(path)?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, length / 2)?;
        byte[0] ^= 0x10;
        file.write_all_at(&byte, length / 2)?;
        world.measure.saw("a bit of nats flipped");
    }
    Ok(world.embedded.restart_nats().await?)
}

/// As the owner of embedded servers watches them: a server whose JetStream has switched itself off is started again.
pub async fn watch_nats(world: &mut World) -> Result<()> {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if world.embedded.revive().await?.contains(&"nats-server") {
            world.measure.saw("jetstream switched itself off on a full disk");
            return Ok(());
        }
        let asked = async {
            let client = connect_nats(world.embedded.nats_url()).await.ok()?;
            let answer = client.request("$JS.API.STREAM.NAMES", "".into()).await.ok()?;
            (!String::from_utf8_lossy(&answer.payload).contains("\"error\"")).then_some(())
        };
        if tokio::time::timeout(Duration::from_secs(5), asked).await.is_ok_and(|answered| answered.is_some()) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    anyhow::bail!("JetStream does not come back")
}

/// A consistent copy of what NATS has stored by now.
pub async fn copy_nats(world: &mut World) -> Result<PathBuf> {
    let (store, copy) = (world.data().join("nats"), world.dir().join("nats.older"));
    world.embedded.kill_nats().await;
    disks::run("cp", &["-a", &store.display().to_string(), &copy.display().to_string()])?;
    world.embedded.restart_nats().await?;
    Ok(copy)
}

/// Keeps the database as it stands now, for [`restore`].
pub async fn back_up(world: &mut World) -> Result<()> {
    let (cluster, backup) = (world.data().join("postgres"), world.dir().join("backup"));
    world.embedded.kill_postgres().await?;
    if backup.exists() {
        fs::remove_dir_all(&backup)?;
    }
    disks::run("cp", &["-a", &cluster.display().to_string(), &backup.display().to_string()])?;
    Ok(world.embedded.restart_postgres().await?)
}

/// Puts the database back to its backup, under the running platform; nobody writes before its head was read. Gives that head.
pub async fn restore(world: &mut World) -> Result<i64> {
    let (cluster, backup) = (world.data().join("postgres"), world.dir().join("backup"));
    ensure!(backup.exists(), "there is no backup");
    let database = |world: &World, refused| {
        let lines = world.lines.iter().filter(|((_, end), _)| *end == End::Postgres);
        lines.for_each(|(_, proxy)| proxy.refuse(refused));
    };
    database(world, true);
    world.embedded.kill_postgres().await?;
    empty(&cluster)?;
    disks::run("cp", &["-a", &format!("{}/.", backup.display()), &cluster.display().to_string()])?;
    world.embedded.restart_postgres().await?;
    let head = log_head(&world.log).await?.pos;
    database(world, false);
    Ok(head)
}
