//! Makes a schedule smaller while it still fails: first what breaks, then what clients do, then clients.

use crate::schedule::Schedule;

/// The smallest schedule found that still `fails`, with at most `tries` runs.
pub fn shrink(schedule: &Schedule, mut tries: u32, mut fails: impl FnMut(&Schedule) -> bool) -> Schedule {
    let mut smallest = schedule.clone();
    loop {
        let before = smallest.clone();
        for candidate in smaller(&before) {
            if tries == 0 {
                return smallest;
            }
            tries -= 1;
            if fails(&candidate) {
                smallest = candidate;
                break;
            }
        }
        if smallest == before {
            return smallest;
        }
    }
}

fn smaller(schedule: &Schedule) -> Vec<Schedule> {
    let mut all = Vec::new();
    let mut add = |change: &dyn Fn(&mut Schedule)| {
        let mut candidate = schedule.clone();
        change(&mut candidate);
        if candidate != *schedule {
            all.push(candidate);
        }
    };
    add(&|candidate| candidate.breaks.clear());
    for n in 0..schedule.breaks.len() {
        add(&|candidate| {
            candidate.breaks.remove(n);
        });
    }
    add(&|candidate| candidate.knobs.clear());
    for knob in schedule.knobs.keys() {
        add(&|candidate| {
            candidate.knobs.remove(knob);
        });
    }
    for n in 0..schedule.clients.len() {
        add(&|candidate| candidate.clients[n].clear());
    }
    for (n, client) in schedule.clients.iter().enumerate() {
        let half = client.len() / 2;
        add(&|candidate| candidate.clients[n].truncate(half));
        add(&|candidate| {
            candidate.clients[n].drain(..half);
        });
        for sale in 0..client.len() {
            add(&|candidate| {
                candidate.clients[n].remove(sale);
            });
        }
        for (sale, whole) in client.iter().enumerate() {
            for then in 0..whole.then.len() {
                add(&|candidate| {
                    candidate.clients[n][sale].then.remove(then);
                });
            }
        }
    }
    add(&|candidate| {
        if candidate.clients.last().is_some_and(Vec::is_empty) {
            candidate.clients.pop();
        }
    });
    all
}
