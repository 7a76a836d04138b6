//! The faults that providers have, against the running platform: each is injected at a simulator, and afterwards the provider's
//! own ledger equals ours (see [`ledgers`]), nothing was charged twice, and nothing is unknown that the provider can tell.
//!
//! The tests of the table run on one platform, many at a time, each with merchants and simulators of its own, so that their waits
//! overlap; each `#[test]` waits for its own. What needs another time of day is in [`deadlines`] and [`day_ends`], what needs a dead
//! process in [`crashes`]. F22 (a refund that fails after it succeeded) is in `tests/e2e/money_back.rs`.

mod call_backs;
mod calls;
mod crashes;
mod crowds;
mod day_ends;
mod deadlines;
mod evidence;
pub mod ledgers;
mod money;
mod postings;
mod races;
mod secrets;
mod settlement;
pub mod stage;
mod strangers;
mod words;

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock},
};

use support::TestPlatform;
use tokio::{
    runtime::{Builder, Runtime},
    sync::Semaphore,
    task::JoinHandle,
};

/// Tests at a time: their waits overlap, and two processors still answer in time.
const SIDE_BY_SIDE: usize = 10;

type Scenario = fn(Arc<TestPlatform>) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// The platform that all share, and the tests that run on it.
struct Shared {
    runtime: Runtime,
    platform: Arc<TestPlatform>,
    /// How many tests.
    begun: u32,
    /// One permit for each test that has ended.
    over: Arc<Semaphore>,
    running: Mutex<BTreeMap<&'static str, JoinHandle<()>>>,
}

/// Whether a test was asked for by this name, or all were.
fn is_asked_for(name: &str) -> bool {
    let full = format!("provider_faults::{name}");
    let (mut filters, mut arguments) = (Vec::new(), std::env::args().skip(1));
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // What follows belongs to it.
            "--skip" | "--test-threads" | "--format" | "--color" => drop(arguments.next()),
            option if option.starts_with('-') => {}
            _ => filters.push(argument),
        }
    }
    filters.is_empty() || filters.iter().any(|filter| full.contains(filter))
}

/// Adds its permit when its test ends, however that ends.
struct Over(Arc<Semaphore>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

fn begin_all() -> Shared {
    let runtime = Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    let start = TestPlatform::start_with(|config| config.providers.accounts.hosts = vec!["127.0.0.1".to_owned()]);
    let platform = Arc::new(runtime.block_on(start));
    let (over, turns) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(SIDE_BY_SIDE)));
    let mut running = BTreeMap::new();
    for (name, scenario) in TABLE.iter().filter(|(name, _)| is_asked_for(name)) {
        let (platform, over, turns) = (platform.clone(), Over(over.clone()), turns.clone());
        let work = async move {
            let _turn = turns.acquire().await.unwrap();
            scenario(platform).await;
            drop(over);
        };
        running.insert(*name, runtime.spawn(work));
    }
    let begun = u32::try_from(running.len()).unwrap();
    Shared { runtime, platform, begun, over, running: Mutex::new(running) }
}

/// The first to ask begins all that were asked for.
fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(begin_all)
}

/// Waits for one of them.
fn outcome_of(name: &str) {
    let shared = shared();
    let handle = shared.running.lock().unwrap().remove(name).expect("each is waited for once");
    if let Err(error) = shared.runtime.block_on(handle) {
        // Said again by the thread whose words are shown with the test.
        let payload = error.into_panic();
        let words = payload.downcast_ref::<String>().cloned().or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        panic!("{}", words.unwrap_or_default());
    }
}

macro_rules! faults {
    ($($file:ident: $($(#[$attribute:meta])* $name:ident),* $(,)?;)*) => {
        const TABLE: &[(&str, Scenario)] = &[$($((stringify!($name), |platform| Box::pin($file::$name(platform)))),*),*];
        $($(
            #[test]
            $(#[$attribute])*
            fn $name() {
                outcome_of(stringify!($name));
            }
        )*)*
    };
}

faults! {
    calls:
        f01_a_connection_refused_or_reset_is_tried_again_and_charges_once,
        f02_a_time_out_before_the_provider_acted_ends_in_one_charge_and_one_refund,
        f03_an_answer_lost_after_the_charge_is_found_by_inquiry,
        f04_an_answer_cut_or_empty_or_not_json_is_never_a_success,
        f05_a_slow_answer_blocks_nobody_and_its_call_back_wins,
        f06_server_errors_with_and_without_effect_end_in_one_charge_and_trouble_nobody_else,
        f07_too_many_calls_are_waited_out_and_nothing_is_lost,
        f08_a_lapsed_token_is_renewed_once_for_all_and_never_in_a_loop,
        f09_a_business_error_inside_http_200_is_not_a_success,
        f10_unknown_words_and_fields_decide_nothing_and_amounts_are_exact,
        f24_an_answer_that_it_is_a_duplicate_adopts_the_first_one,
        f25_a_payment_that_the_books_do_not_show_yet_is_asked_for_until_they_do;
    call_backs:
        f11_a_call_back_in_twenty_copies_has_one_effect,
        f12_call_backs_in_the_wrong_order_do_not_turn_the_state_back,
        f12_that_a_charge_was_made_is_told_after_it_was_paid_and_changes_nothing,
        f13_a_call_back_before_the_answer_to_the_call_counts,
        f14_a_payment_without_a_call_back_is_found_by_the_schedule,
        f15_a_call_back_that_proves_nothing_is_refused_counted_and_has_no_effect,
        f16_another_amount_or_currency_never_closes_an_intent,
        f17_a_second_payment_on_one_reference_becomes_a_duty_to_refund,
        f28_a_reference_that_nobody_knows_is_put_aside_and_answered,
        f32_hostile_and_repeated_bodies_have_no_effect,
        f34_a_call_back_resent_because_our_answer_was_lost_has_one_effect;
    money:
        f18_money_after_a_cancel_is_recorded_and_can_be_accepted,
        f19_a_cancel_that_raced_the_payment_has_lost,
        f20_a_partial_refund_that_the_provider_does_not_make_is_refused_and_frees_its_reserve,
        f21_refunds_never_exceed_what_was_captured,
        f25_a_refund_that_the_books_do_not_show_yet_is_no_failure,
        f27_a_hold_that_lapsed_is_over_and_a_capture_whose_answer_was_lost_is_adopted,
        f31_a_return_from_3d_secure_without_a_result_is_no_evidence;
    words:
        f10_an_answer_that_lacks_a_field_decides_nothing,
        f23_a_void_of_settled_money_or_outside_its_hours_is_refused_with_its_reason,
        f24_a_repeat_that_the_bank_calls_a_duplicate_shows_the_code_all_the_same,
        f27_a_capture_that_took_less_than_was_asked_for_is_recorded_as_the_books_show_it;
    secrets:
        i10_no_secret_and_no_payer_stands_in_a_log_line_or_an_answer;
    strangers:
        f28_money_on_a_reference_that_nobody_made_is_kept_and_closes_nothing;
    races:
        of_64_refunds_at_once_only_those_that_fit_are_made,
        a_cancel_and_a_payment_at_the_same_moment_end_in_one_of_both_fifty_times,
        two_confirms_at_once_begin_one_attempt,
        a_key_used_32_times_at_once_has_one_effect_and_one_answer;
    settlement:
        f33_a_settlement_list_that_disagrees_is_told_row_by_row_and_moves_nothing,
        f33_money_that_only_the_list_shows_is_told_with_the_intent_that_awaits_it;
}

#[test]
fn when_all_faults_are_over_the_log_and_the_read_models_prove_themselves() {
    let Shared { runtime, platform, begun, over, .. } = shared();
    runtime.block_on(async {
        let _permits = over.acquire_many(*begun).await.unwrap();
        platform.proves_itself().await;
    });
}
