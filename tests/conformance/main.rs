//! The simulator held to what it simulates: the same scripts over the product's ports, once on PostgreSQL and JetStream, once on
//! the simulated servers, give the same answers. What is compared and what not: `docs/reliability.md`.
//!
//! A script is told what each step gave ([`told`]); it asserts nothing itself.
#![cfg(test)]

mod append;
mod bus;
mod call_backs;
mod consumers;
mod crashes;
#[path = "../examples/chaos/dice.rs"]
#[expect(dead_code, reason = "not every throw is needed here")]
mod dice;
mod managers;
mod random;
mod reads;
mod real;
mod rows;
mod simulated;
mod stage;
mod tasks;
mod told;

use std::panic::AssertUnwindSafe;

use futures_util::{FutureExt as _, future::join_all};
use real::Real;
use sim::{sabotage::Saboteur, servers::Servers};
use support::OwnServers;
use tokio::sync::Mutex;
use told::{Told, difference};

/// Decides nothing where nothing crashes.
const SEED: u64 = 1;
/// Crashes of the simulated database from which an image of the real one has to be among.
const CRASHES: u64 = 300;
/// Those within which every saboteur strikes.
const SEEDS: u64 = 20;

/// Panics with the first difference.
fn agree(script: &str, real: &Told, simulated: &Told) {
    if let Some(difference) = difference(script, real, simulated) {
        panic!("{difference}");
    }
}

macro_rules! scripts {
    ($($module:ident: $($script:ident)*;)*) => {
        $($(
            #[tokio::test]
            async fn $script() {
                let (mut real, mut simulated) = (Told::default(), Told::default());
                $module::$script(&Real::fresh().await, &mut real).await;
                $module::$script(&Servers::new(SEED, None), &mut simulated).await;
                agree(stringify!($script), &real, &simulated);
            }
        )*)*

        /// What each script is told by simulated servers of which one breaks a promise.
        async fn told_by(seed: u64, saboteur: Option<Saboteur>) -> Vec<Option<Told>> {
            let mut all = Vec::new();
            $($(
                all.push(unbroken(async {
                    let mut told = Told::default();
                    $module::$script(&Servers::new(seed, saboteur), &mut told).await;
                    told
                }).await);
            )*)*
            all
        }
    };
}

scripts! {
    append:
        a_batch_is_written_whole_and_its_positions_are_dense
        every_reason_of_a_refusal_is_told_and_nothing_is_written
        a_taken_key_tells_what_took_it_whatever_body_comes
        a_key_without_events_has_no_position
        a_batch_that_contradicts_itself_is_refused_as_a_whole
        each_commit_is_linked_to_the_one_before_by_one_time_and_one_root
        a_commit_whose_answer_was_lost_is_found_and_its_repeat_is_known
        nothing_goes_over_a_connection_that_is_not_there;
    reads:
        a_stream_is_read_in_order_after_a_version_and_by_its_owner_alone
        a_range_is_what_lies_between_two_positions
        versions_are_compared_at_one_moment_and_within_one_tenant
        a_newer_snapshot_stays_and_another_schema_replaces
        an_epoch_is_raised_and_nothing_else_moves;
    tasks:
        the_first_due_are_leased_once_and_taken_over_when_the_lease_runs_out
        what_somebody_waits_for_comes_before_watches
        a_renewed_lease_holds_and_a_task_that_was_put_back_is_no_fresh_one
        what_took_the_place_of_a_task_is_neither_held_on_nor_put_back_by_its_late_words
        a_look_on_request_is_left_once_and_awaited_until_it_is_done_with
        a_zombie_that_finishes_late_meets_what_is_there_by_then
        a_task_that_is_known_stays_as_it_is
        a_task_that_is_left_leased_is_its_workers_until_the_lease_runs_out
        tasks_that_are_done_with_together_go_or_are_replaced_each_by_its_own;
    managers:
        the_checkpoint_moves_with_all_that_belongs_to_it_or_not_at_all
        the_checkpoint_moves_only_to_the_very_event_that_was_handled
        an_attempt_is_known_by_both_names_at_its_account_alone
        a_name_that_the_log_tells_stands_beside_ours;
    call_backs:
        a_call_back_is_stored_once_with_one_task_however_often_it_comes
        the_task_of_a_new_call_back_can_be_left_leased_that_of_a_repeat_cannot
        deliveries_of_two_accounts_never_are_one
        what_came_of_a_call_back_is_noted_once
        a_parked_call_back_waits_until_its_name_is_known
        a_parked_call_back_is_found_by_the_name_that_the_log_tells
        parked_call_backs_of_every_account_are_swept_each_by_its_own_names;
    rows:
        rows_and_checkpoint_move_together_and_the_twin_comes_second
        rows_are_loaded_only_as_of_the_place_where_their_copy_stands
        rows_of_events_that_the_log_does_not_hold_are_refused
        rows_in_memory_of_an_event_that_the_log_does_not_hold_are_refused
        a_halted_stream_is_noted_once_and_moves_where_the_copy_stands
        a_copy_beyond_the_log_is_wiped_and_folded_again;
    bus:
        a_message_takes_the_place_that_it_expects_or_none
        a_message_follows_the_one_that_it_names_or_is_refused
        the_last_message_of_a_page_is_taken_with_all_before_it_or_not_at_all
        a_position_that_was_published_is_acknowledged_again_where_it_lies
        of_a_stream_that_is_not_there_nothing_can_be_had
        a_stream_is_made_once_and_its_maker_finds_it_again
        a_stream_that_was_deleted_begins_anew_under_its_name;
    consumers:
        a_consumer_gets_what_follows_and_then_waits_for_more
        a_consumer_that_asks_for_more_than_there_is_gets_the_next_that_comes
        the_base_says_where_a_position_lies
        a_consumer_of_a_stream_that_was_deleted_brings_nothing_more;
}

macro_rules! at_random {
    ($($name:ident: $script:path, $seeds:expr;)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                for seed in $seeds {
                    let (mut real, mut simulated) = (Told::default(), Told::default());
                    $script(&Real::fresh().await, &mut real, seed).await;
                    $script(&Servers::new(seed, None), &mut simulated, seed).await;
                    agree(&format!("{} of seed {seed}", stringify!($name)), &real, &simulated);
                }
            }
        )*
    };
}

at_random! {
    a_log_under_any_operations_is_the_same: random::whatever_is_appended_and_read, 0..6;
    tasks_under_any_operations_are_the_same: random::whatever_is_done_with_tasks, 0..6;
    rows_under_any_operations_are_the_same: random::whatever_is_written_into_rows, 0..3;
}

/// Nothing when the script broke off.
async fn unbroken(script: impl Future<Output = Told>) -> Option<Told> {
    AssertUnwindSafe(script).catch_unwind().await.ok()
}

/// The same of operations drawn from a seed.
async fn at_random(seed: u64, saboteur: Option<Saboteur>) -> Option<Told> {
    unbroken(async {
        let mut told = Told::default();
        random::whatever_is_appended_and_read(&Servers::new(seed, saboteur), &mut told, seed).await;
        random::whatever_is_done_with_tasks(&Servers::new(seed, saboteur), &mut told, seed).await;
        random::whatever_is_written_into_rows(&Servers::new(seed, saboteur), &mut told, seed).await;
        told
    })
    .await
}

/// Whether the scripts would tell servers that break this promise from real ones.
async fn is_noticed(saboteur: Saboteur, honest: &[Option<Told>]) -> bool {
    for seed in 1..=SEEDS {
        if told_by(seed, Some(saboteur)).await != honest {
            return true;
        }
        if at_random(seed, Some(saboteur)).await != at_random(seed, None).await {
            return true;
        }
    }
    false
}

#[tokio::test]
async fn every_broken_promise_of_a_simulated_server_is_noticed() {
    let honest = told_by(SEED, None).await;
    assert!(honest.iter().all(Option::is_some), "a script broke off");
    let of_servers = Saboteur::ALL.iter().copied().filter(|saboteur| !saboteur.is_of_the_provider());
    let noticed = join_all(of_servers.map(|saboteur| is_noticed(saboteur, &honest).map(move |noticed| (saboteur, noticed)))).await;
    let missed: Vec<Saboteur> = noticed.into_iter().filter(|(_, noticed)| !noticed).map(|(saboteur, _)| saboteur).collect();
    assert_eq!(missed, []);
}

macro_rules! crashes {
    ($servers:expr, $($script:ident)*) => {
        $(
            let (mut real, mut simulated) = (Told::default(), Told::default());
            let servers = Real::on($servers, "crashed").await;
            crashes::$script(&servers, &mut real).await;
            servers.drop().await;
            crashes::$script(&Servers::new(SEED, None), &mut simulated).await;
            agree(stringify!($script), &real, &simulated);
        )*
    };
}

macro_rules! images {
    ($servers:expr, $($script:ident)*) => {
        $(
            let mut real = Told::default();
            let servers = Real::on($servers, "crashed").await;
            crashes::$script(&servers, &mut real).await;
            servers.drop().await;
            let mut images = std::collections::BTreeSet::new();
            for seed in 0..CRASHES {
                let mut simulated = Told::default();
                crashes::$script(&Servers::new(seed, None), &mut simulated).await;
                images.insert(simulated);
            }
            assert!(images.contains(&real), "'{}': none of {} simulated images is {real:#?}", stringify!($script), images.len());
        )*
    };
}

/// One after the other, since they share the servers that they kill.
#[tokio::test]
async fn crashes_of_the_database_leave_the_same() {
    let servers = Mutex::new(OwnServers::start("conformance").await);
    crashes! { &servers,
        what_was_acknowledged_is_there_with_all_that_was_written_before_it
        a_lease_of_a_call_that_begins_something_waits_for_the_disk
        so_does_one_that_is_left_leased
        a_database_that_was_put_back_is_what_it_was
    }
    images! { &servers,
        what_did_not_wait_is_there_or_not_but_never_torn
    }
}

#[tokio::test]
async fn crashes_of_the_bus_leave_the_same() {
    let servers = Mutex::new(OwnServers::start("conformance-bus").await);
    crashes! { &servers,
        a_bus_that_was_killed_has_what_it_acknowledged
        a_bus_that_forgot_takes_its_messages_again
        a_bus_that_was_emptied_begins_anew
    }
}
