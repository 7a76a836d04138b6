//! Processes: the product's own loops, started over simulated ports; killed, paused, doubled.

use std::{sync::Arc, time::Duration};

use commands::{
    call_backs, committer,
    handle::CommandHandler,
    own_commits::OwnCommits,
    process_runner, provider_worker, relay,
    tasks::{Breadth, Tasks},
};
use projections::{Feed, runner};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    bank,
    bus::SimBus,
    door::Door,
    link::{Life, Link},
    log_ports::{SimAppender, SimLog},
    world::{Shared, SimClock, SimIds},
};

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Api,
    /// An API that folds the read models as well, what it writes itself and what others write.
    Edge,
    Managers,
    /// Managers and a door for call-backs, which hand their tasks to the provider worker beside them.
    ManagersAndProvider,
    Provider,
    Relay,
    Projector,
}

/// The processes of a simulation: each role twice, alone and beside others, so that two copies are alive at any time, but for the relay, whose
/// second copy is a twin.
pub(crate) const ROLES: [Role; crate::schedule::PROCESSES] =
    [Role::Api, Role::Edge, Role::Managers, Role::Provider, Role::Provider, Role::Relay, Role::Projector, Role::ManagersAndProvider];

impl Role {
    const fn has_worker(self) -> bool {
        matches!(self, Self::Provider | Self::ManagersAndProvider)
    }

    const fn has_door(self) -> bool {
        matches!(self, Self::Api | Self::Edge | Self::ManagersAndProvider)
    }
}

/// How long a process that is to stop may take for its loops, and for its committer, as the platform has it.
const STOPS_IN: (Duration, Duration) = (Duration::from_secs(6), Duration::from_secs(2));

/// A running process.
pub(crate) struct Process {
    pub life: Arc<Life>,
    pub handler: CommandHandler,
    door: Option<Door>,
    loops: JoinSet<()>,
    committer: tokio::task::JoinHandle<()>,
    stop: CancellationToken,
    stop_committer: CancellationToken,
}

/// Mostly as everywhere, sometimes so narrow that a worker is full and has no place left.
fn breadth(world: &Shared, role: Role) -> Breadth {
    if !role.has_worker() || world.draw(2) == 0 {
        return Breadth::default();
    }
    Breadth { side_by_side: 2 + world.pick(4), at_once: 1 + world.pick(3), places: 1 + world.pick(4) }
}

impl Process {
    pub fn start(world: &Shared, role: Role, skew_us: i64) -> Self {
        let life = Arc::new(Life::default());
        let link = Link { world: world.clone(), life: life.clone() };
        let (stop, log) = (CancellationToken::new(), SimLog(link.clone()));
        let news = committer::News::of_commits();
        let (moved, own) = (news.moved.subscribe(), OwnCommits::of(news.follow()));
        let appender = SimAppender { link: link.clone(), connected: None };
        let stop_committer = CancellationToken::new();
        let (writer, committer) = committer::spawn(appender, news.clone(), stop_committer.clone());
        let clock = Arc::new(SimClock { world: world.clone(), skew_us });
        let handler = CommandHandler::new(log.clone(), writer, clock.clone(), Arc::new(SimIds(world.clone())));
        let mut loops = JoinSet::new();
        let tasks = Arc::new(Tasks::of(breadth(world, role)));
        let door = role.has_door().then(|| Door::of(link.clone(), clock.clone(), tasks.clone(), role.has_worker()));
        match role {
            Role::Api => {}
            Role::Managers | Role::ManagersAndProvider | Role::Provider => {
                if role != Role::Provider {
                    loops.spawn(process_runner::run(log.clone(), handler.clone(), moved, own, tasks.clone(), stop.clone()));
                }
                if role != Role::Managers {
                    loops.spawn(provider_worker::run(log.clone(), handler.clone(), bank::found(&link), tasks, stop.clone()));
                    loops.spawn(call_backs::run(log, clock, stop.clone()));
                }
            }
            Role::Relay => {
                loops.spawn(relay::run(log, SimBus(link), moved, own, stop.clone()));
            }
            Role::Projector | Role::Edge => {
                let feed = Feed::start(log.clone(), Some(SimBus(link)), news.follow(), stop.clone());
                let turns = runner::Turns::of(1);
                for projection in projections::all() {
                    let progress = watch::channel(0).0;
                    loops.spawn(runner::run(projection, log.clone(), feed.clone(), stop.clone(), progress, turns.clone()));
                }
            }
        }
        Self { life, handler, door, loops, committer, stop, stop_committer }
    }

    /// `kill -9`: nothing that it holds in memory is left, nothing under way goes on.
    pub fn kill(&mut self) {
        self.life.end();
        self.loops.abort_all();
        self.committer.abort();
        self.stop.cancel();
        self.stop_committer.cancel();
    }

    /// `SIGTERM`: what is under way is finished, but nothing is waited for longer than the platform would; whether it was in time.
    pub async fn stop(mut self) -> bool {
        self.stop.cancel();
        let ended = async {
            while self.loops.join_next().await.is_some() {}
            while self.door.as_ref().is_some_and(Door::is_busy) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(STOPS_IN.0, ended).await.is_ok();
        self.stop_committer.cancel();
        let written = tokio::time::timeout(STOPS_IN.1, &mut self.committer).await.is_ok();
        self.kill();
        in_time && written
    }

    pub fn pause(&self, time: Duration) {
        self.life.pause_until(tokio::time::Instant::now() + time);
    }
}

/// The processes as clients and the one who breaks them see them.
pub(crate) struct Fleet {
    pub world: Shared,
    skews: Vec<i64>,
    pub processes: Vec<Option<Process>>,
    /// Two projectors, a relay too many: copies that nobody counts on.
    pub twins: Vec<Process>,
    /// Of processes that are about to stop.
    leaving: Vec<Arc<Life>>,
}

impl Fleet {
    pub fn start(world: &Shared) -> Self {
        let skewed = world.draw(3) == 0;
        let skew = |_| if skewed { i64::try_from(world.draw(4_000_000)).unwrap_or(0) - 2_000_000 } else { 0 };
        let skews: Vec<i64> = (0..ROLES.len()).map(skew).collect();
        let twins = if world.draw(4) == 0 { vec![Role::Projector, Role::Relay] } else { vec![] };
        let twins = twins.into_iter().map(|role| Process::start(world, role, 0)).collect();
        let processes = ROLES.iter().map(|_| None).collect();
        let mut fleet = Self { world: world.clone(), skews, processes, twins, leaving: Vec::new() };
        (0..ROLES.len()).for_each(|which| fleet.start_again(which));
        fleet
    }

    pub fn kill(&mut self, which: usize) {
        if let Some(Some(process)) = self.processes.get_mut(which) {
            self.world.saw("process killed");
            process.kill();
        }
        drop(self.take_out(which));
    }

    /// What is no more, or is about to stop, takes no more call-backs.
    fn take_out(&mut self, which: usize) -> Option<Process> {
        self.world.doors().remove(&which);
        self.processes.get_mut(which)?.take()
    }

    /// To be stopped in order.
    pub fn dismiss(&mut self, which: usize) -> Option<Process> {
        let process = self.take_out(which)?;
        self.leaving.push(process.life.clone());
        Some(process)
    }

    /// Those who are about to stop do not get that far.
    pub fn kill_the_leaving(&mut self) {
        self.leaving.drain(..).for_each(|life| life.end());
    }

    /// Those that died by themselves.
    pub fn fallen(&self) -> Vec<usize> {
        let fallen = |process: &Option<Process>| process.as_ref().is_some_and(|process| process.life.is_over());
        self.processes.iter().enumerate().filter(|(_, process)| fallen(process)).map(|(which, _)| which).collect()
    }

    pub fn start_again(&mut self, which: usize) {
        let (Some(role), Some(skew)) = (ROLES.get(which), self.skews.get(which)) else { return };
        if let Some(place @ None) = self.processes.get_mut(which) {
            let process = Process::start(&self.world, *role, *skew);
            self.world.doors().extend(process.door.clone().map(|door| (which, door)));
            *place = Some(process);
        }
    }

    pub fn pause(&mut self, which: usize, time: Duration) {
        if let Some(Some(process)) = self.processes.get(which) {
            self.world.saw("process paused");
            process.pause(time);
        }
    }

    /// How far the clocks of all provider workers are behind, at least.
    pub fn workers_lag_behind(&self) -> chrono::Duration {
        let workers = ROLES.iter().zip(&self.skews).filter(|(role, _)| role.has_worker());
        chrono::Duration::microseconds((-workers.map(|(_, skew)| *skew).max().unwrap_or(0)).max(0))
    }

    /// An API process that takes a request, if the one asked is up.
    pub fn api(&self, which: usize) -> Option<(CommandHandler, Arc<Life>)> {
        let process = self.processes.get(which % 2)?.as_ref()?;
        Some((process.handler.clone(), process.life.clone()))
    }

    pub fn end(&mut self) {
        self.world.doors().clear();
        self.kill_the_leaving();
        self.processes.iter_mut().flatten().for_each(Process::kill);
        self.twins.iter_mut().for_each(Process::kill);
    }
}
