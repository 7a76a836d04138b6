//! The contract of the provider port, held by every connector against its simulator over real HTTP.
//!
//! To add a provider: a file here with `pub async fn world(setup: Setup) -> World`, and one line at the end of this one. `promptpay` is
//! none: what of the contract holds for codes that are written without a provider (ADR 19).
#![expect(clippy::unwrap_used, reason = "the helpers of a test may panic like the test itself")]

mod behaviour;
mod kbank;
mod moved;
mod omise;
mod promptpay;
mod scb;
#[path = "../stage/mod.rs"]
mod stage;
mod stripe;
mod webhooks;
mod world;

/// Every behaviour as a test of one provider.
macro_rules! contract {
    ($provider:ident: $($file:ident::$behaviour:ident),* $(,)?) => {
        mod $provider {
            $(
                #[tokio::test]
                async fn $behaviour() {
                    super::super::$file::$behaviour(|setup| Box::pin(super::super::$provider::world(setup))).await;
                }
            )*
        }
    };
    ($($provider:ident),* $(,)?) => {
        mod providers {
            $(
                contract! { $provider:
                    behaviour::an_attempt_is_started_paid_and_found,
                    behaviour::amounts_are_exact,
                    behaviour::money_that_differs_is_shown_as_it_is,
                    behaviour::a_payment_twice_is_shown_twice_or_refused,
                    behaviour::every_fault_of_a_start_has_its_outcome_and_leaves_one_thing,
                    behaviour::a_failed_look_says_nothing_and_can_be_repeated,
                    behaviour::fields_of_tomorrow_are_passed_over,
                    behaviour::a_status_of_tomorrow_stays_open,
                    behaviour::a_payment_not_visible_yet_is_no_proof_of_anything,
                    behaviour::what_is_not_visible_yet_is_seen_by_no_way_of_looking,
                    behaviour::a_dead_host_is_not_an_attempt,
                    behaviour::a_provider_that_asks_for_a_pause_gets_it,
                    behaviour::a_slow_answer_is_waited_for_within_the_time_limit,
                    behaviour::the_simulator_tells_how_long_it_held_an_answer_and_when_it_called_back,
                    behaviour::a_refused_token_is_renewed_once,
                    behaviour::requests_that_make_no_sense_are_declined,
                    behaviour::secrets_show_nowhere,
                    moved::a_refund_happens_once_however_often_it_is_asked_for,
                    moved::every_fault_of_a_refund_ends_in_one_refund,
                    moved::a_refund_whose_answer_is_lost_is_no_failure_while_the_books_do_not_show_it,
                    moved::a_void_that_was_not_made_is_refused_once_the_books_would_show_it,
                    moved::part_of_a_payment_is_sent_back_or_refused,
                    moved::a_cancelled_attempt_stays_cancelled,
                    moved::a_cancel_that_lost_shows_the_payment,
                    moved::every_fault_of_a_cancel_ends_in_one_cancelled_attempt,
                    moved::a_hold_is_captured_once,
                    moved::what_is_not_supported_is_declined_without_a_call,
                    webhooks::a_callback_is_believed_and_names_its_attempt,
                    webhooks::a_callback_with_a_bad_seal_is_refused,
                    webhooks::an_altered_or_stale_callback_is_refused,
                    webhooks::a_body_that_is_not_the_providers_is_malformed,
                }
            )*
        }
    };
}

contract!(kbank, omise, scb, stripe);
