//! Faults that need another time of day, or that time passes: each has a platform whose clock the test moves on. The provider
//! has the same clock unless the fault is that it has another.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Timelike as _, Utc};
use domain::clock::Clock as _;
use futures_util::future::join_all;
use serde_json::{Value, json};
use support::{Answered, ShiftedClock, TestPlatform};
use tokio::time::Instant;

use super::stage::{Bank, PATIENCE, Setup, Stage, patiently};

/// A task that is not done for so long hangs: longer than a lease that nobody renews.
const HANGS: Duration = Duration::from_secs(10);
/// How often what is due by now is waited for before time passes again: a task may always be due again at once.
const ROUNDS: usize = 4;

/// A platform that begins at this time of the day in Bangkok.
pub async fn started_at(hour: u32, minute: u32, second: u32) -> (Arc<TestPlatform>, Arc<ShiftedClock>) {
    let clock = Arc::new(ShiftedClock::default());
    let local = clock.now() + TimeDelta::hours(7);
    let wanted = i64::from((hour * 60 + minute) * 60 + second);
    // Forward only: the log keeps the database's time, and nothing is due before it was written.
    clock.advance(TimeDelta::seconds((wanted - i64::from(local.num_seconds_from_midnight())).rem_euclid(86_400)));
    let platform = TestPlatform::start_by(clock.clone(), |config| config.providers.accounts.hosts = vec!["127.0.0.1".to_owned()]).await;
    (Arc::new(platform), clock)
}

pub async fn stage(platform: &Arc<TestPlatform>, bank: Bank, clock: &Arc<ShiftedClock>) -> Stage {
    Stage::open_with(platform, bank, Setup { clock: clock.clone(), ..Setup::default() }).await
}

/// What is due at a moment, each with its time: a task that was done is gone, or has another.
async fn due(platform: &TestPlatform, moment: DateTime<Utc>) -> Vec<(String, DateTime<Utc>)> {
    let sql = "select key, due_at from process.task where due_at <= $1 order by key";
    sqlx::query_as(sql).bind(moment).fetch_all(&platform.database.admin).await.unwrap()
}

/// Waits until what is due at a moment is done; says whether it is, or hangs.
async fn is_done(platform: &TestPlatform, moment: DateTime<Utc>) -> bool {
    let (mut left, mut changed) = (due(platform, moment).await, Instant::now());
    let end = changed + PATIENCE;
    while !left.is_empty() {
        if changed.elapsed() > HANGS || Instant::now() > end {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = due(platform, moment).await;
        if now != left {
            (left, changed) = (now, Instant::now());
        }
    }
    true
}

/// Waits until the platform has done all that is due by its clock, and what follows at once.
async fn all_is_done(platform: &TestPlatform) {
    for _ in 0..ROUNDS {
        let done = is_done(platform, platform.now()).await;
        platform.settled().await;
        if !done || due(platform, platform.now()).await.is_empty() {
            break;
        }
    }
}

/// Moves the clock on, and waits until all that is due then is done.
pub async fn moved_on(platform: &TestPlatform, clock: &ShiftedClock, step: TimeDelta) {
    clock.advance(step);
    // Call-backs come by the machine's time.
    tokio::time::sleep(Duration::from_millis(400)).await;
    all_is_done(platform).await;
}

/// Lets time pass, at most so much, until `good`: it goes as the platform gets done, however slow the machine.
pub async fn passing<W: Future<Output = bool>>(
    platform: &TestPlatform,
    what: &str,
    clock: &ShiftedClock,
    step: TimeDelta,
    limit: TimeDelta,
    good: impl Fn() -> W,
) {
    let end = clock.now() + limit;
    // The lease of a task under way would lapse.
    all_is_done(platform).await;
    while !good().await {
        assert!(clock.now() < end, "not within {limit}: {what}");
        moved_on(platform, clock, step).await;
    }
}

pub async fn shown(stage: &Stage, intent: &str) -> Value {
    stage.until("it is shown", intent, |_| true).await
}

#[tokio::test(flavor = "multi_thread")]
async fn f18_money_after_the_deadline_is_found_late_and_recorded() {
    let (platform, clock) = started_at(12, 0, 0).await;
    let stages = join_all(Bank::ALL.map(|bank| stage(&platform, bank, &clock))).await;
    let intents = join_all(stages.iter().map(|stage| stage.intent_with(80_00, json!({"expires_in_minutes": 1})))).await;
    let references = join_all(stages.iter().zip(&intents).map(|(stage, intent)| stage.reference(intent))).await;
    let paired = || stages.iter().zip(&intents);
    let expired = async || {
        let all = join_all(paired().map(|(stage, intent)| shown(stage, intent))).await;
        all.iter().all(|shown| shown["status"] == "expired")
    };
    // A deadline alone proves nothing: the codes are stopped, or the books are asked, first.
    passing(&platform, "all have expired", &clock, TimeDelta::seconds(15), TimeDelta::minutes(5), expired).await;
    for (stage, reference) in stages.iter().zip(&references) {
        stage.pay(reference, json!({"force": true})).await;
    }
    let late = async || {
        let all = join_all(paired().map(|(stage, intent)| shown(stage, intent))).await;
        all.iter().all(|shown| shown["unmatched"][0]["why"] == "late" && shown["status"] == "expired")
    };
    passing(&platform, "late money is recorded", &clock, TimeDelta::minutes(2), TimeDelta::minutes(75), late).await;
    join_all(stages.iter().map(Stage::ledgers_agree)).await;
    platform.proves_itself().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f23_a_void_after_the_day_of_payment_is_refused_with_its_reason() {
    let (platform, clock) = started_at(12, 0, 0).await;
    let stages = join_all([Bank::Scb, Bank::Kbank].map(|bank| stage(&platform, bank, &clock))).await;
    let intents = join_all(stages.iter().map(|stage| stage.paid(80_00))).await;
    clock.advance(TimeDelta::hours(13));
    for (stage, intent) in stages.iter().zip(&intents) {
        let refund = stage.refund(intent, None).await.id();
        let shown = stage.refund_until("it is refused", &refund, |shown| shown["status"] == "failed").await;
        assert_eq!(shown["failure"]["code"], "cut_off_passed", "{shown}");
        stage.ledgers_agree().await;
        assert_eq!(stage.sim("/sim/ledger").await["totals"]["reversed"], 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f26_a_payment_on_either_side_of_midnight_is_found_on_its_day() {
    let (platform, clock) = started_at(23, 58, 0).await;
    let stage = stage(&platform, Bank::Scb, &clock).await;
    let (before, after) = (stage.intent(80_00).await, stage.intent(81_00).await);
    let (first, second) = (stage.reference(&before).await, stage.reference(&after).await);
    // The books lag, so that neither is seen before midnight.
    for reference in [&first, &second] {
        stage.fault("inquire", "not_visible_yet", json!({"times": 1, "reference": reference})).await;
    }
    stage.pay(&first, json!({})).await;
    clock.advance(TimeDelta::minutes(3));
    stage.pay(&second, json!({})).await;
    let both = async || {
        let all = [shown(&stage, &before).await, shown(&stage, &after).await];
        all.iter().all(|shown| shown["status"] == "succeeded")
    };
    passing(&platform, "both are found", &clock, TimeDelta::seconds(31), TimeDelta::minutes(10), both).await;
    stage.ledgers_agree().await;
    let days: Vec<String> = stage.sim("/sim/ledger").await["payments"].as_array().unwrap().iter().map(bangkok_day).collect();
    assert_ne!(days[0], days[1], "both were paid on one day");
}

fn bangkok_day(payment: &Value) -> String {
    let paid_at: DateTime<Utc> = payment["paid_at"].as_str().unwrap().parse().unwrap();
    (paid_at + TimeDelta::hours(7)).date_naive().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn f29_a_provider_whose_clock_is_wrong_is_believed_within_the_window_of_signatures() {
    let (platform, clock) = started_at(12, 0, 0).await;
    let cases = [(Bank::Scb, 10), (Bank::Kbank, -10), (Bank::Omise, 4), (Bank::Stripe, -4), (Bank::Omise, -10), (Bank::Stripe, 10)];
    join_all(cases.map(|(bank, minutes)| {
        let (platform, clock) = (platform.clone(), clock.clone());
        async move {
            let theirs = Arc::new(ShiftedClock::default());
            theirs.advance(clock.now() - theirs.now() + TimeDelta::minutes(minutes));
            let stage = stage(&platform, bank, &theirs).await;
            let intent = stage.intent(80_00).await;
            stage.pay_and_tell(&stage.reference(&intent).await).await;
            stage.status(&intent, "succeeded").await;
            stage.ledgers_agree().await;
            let signed = matches!(bank, Bank::Omise | Bank::Stripe);
            let state = if signed && minutes.abs() > 5 { "refused" } else { "done" };
            patiently("its call-back is judged", || async { (stage.call_backs(state).await.0 >= 1).then_some(()) }).await;
        }
    }))
    .await;
    platform.proves_itself().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f31_an_abandoned_authentication_is_stopped_at_the_provider_before_it_expires_here() {
    let (platform, clock) = started_at(12, 0, 0).await;
    let cards = [(Bank::Omise, "tokn_test_threeds"), (Bank::Stripe, "pm_card_authenticationRequired")];
    let stages = join_all(cards.map(|(bank, _)| stage(&platform, bank, &clock))).await;
    let more = json!({"return_url": "https://shop.example/back", "expires_in_minutes": 2});
    let intents = join_all(stages.iter().zip(cards).map(|(stage, (_, token))| stage.card_intent(70_00, token, more.clone()))).await;
    let references = join_all(stages.iter().zip(&intents).map(|(stage, intent)| stage.reference(intent))).await;
    let expired = async || {
        let all = join_all(stages.iter().zip(&intents).map(|(stage, intent)| shown(stage, intent))).await;
        all.iter().all(|shown| shown["status"] == "expired")
    };
    passing(&platform, "they expire", &clock, TimeDelta::seconds(20), TimeDelta::minutes(10), expired).await;
    for (stage, reference) in stages.iter().zip(&references) {
        let paid = stage.lever("/sim/pay", json!({"reference": reference, "webhook": "never"})).await;
        assert!(!paid.status.is_success(), "{:?}: it can still be paid at the provider", stage.bank);
        stage.ledgers_agree().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f15_a_call_back_whose_payment_the_books_never_show_ends_unconfirmed_and_without_effect() {
    let (platform, clock) = started_at(12, 0, 0).await;
    let stages = join_all([Bank::Scb, Bank::Kbank, Bank::Omise].map(|bank| stage(&platform, bank, &clock))).await;
    let intents = join_all(stages.iter().map(|stage| stage.intent_with(80_00, json!({"expires_in_minutes": 60})))).await;
    for (stage, intent) in stages.iter().zip(&intents) {
        let reference = stage.reference(intent).await;
        stage.lever("/sim/lie", json!({"reference": reference, "amount": 80_00, "webhook": {"retry_ms": 500}})).await;
    }
    let unconfirmed = async || join_all(stages.iter().map(|stage| stage.call_backs("unconfirmed"))).await.iter().all(|rows| rows.0 == 1);
    passing(&platform, "they are given up", &clock, TimeDelta::seconds(31), TimeDelta::minutes(50), unconfirmed).await;
    for (stage, intent) in stages.iter().zip(&intents) {
        assert_ne!(shown(stage, intent).await["status"], "succeeded");
        assert_eq!(stage.payments_there().await, 0);
        stage.ledgers_agree().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_the_provider_does_not_tell_is_left_to_a_person_in_the_published_time_and_its_word_still_wins() {
    let (platform, clock) = started_at(12, 0, 0).await;
    let stage = stage(&platform, Bank::Scb, &clock).await;
    for operation in ["start", "inquire"] {
        stage.fault(operation, "http_500_after", json!({"times": 10_000})).await;
    }
    let intent = stage.intent_with(80_00, json!({"expires_in_minutes": 1})).await;
    let unknown = stage.until("nobody knows", &intent, |shown| shown["outcome"]["state"] == "unknown").await;
    let reference = unknown["reference"].as_str().unwrap().to_owned();
    let resolves_by: DateTime<Utc> = unknown["outcome"]["resolves_by"].as_str().unwrap().parse().unwrap();
    stage.pay(&reference, json!({})).await;
    let left = async || shown(&stage, &intent).await["outcome"]["step"] == "person";
    passing(&platform, "a person is told", &clock, TimeDelta::minutes(5), TimeDelta::minutes(90), left).await;
    // The clock goes by five minutes, and may have gone once more before it was seen.
    assert!(clock.now() <= resolves_by + TimeDelta::minutes(10), "{} is long after {resolves_by}", clock.now());
    let page = platform.get(&stage.shop.cashier, "/v1/payment-intents?needs_attention=true").await.ok().body;
    assert_eq!(page["data"][0]["id"], json!(intent), "{page}");
    assert_eq!(shown(&stage, &intent).await["status"], "processing", "nothing was declared without proof");
    stage.clear_faults().await;
    let succeeded = async || shown(&stage, &intent).await["status"] == "succeeded";
    passing(&platform, "its word wins", &clock, TimeDelta::minutes(5), TimeDelta::minutes(60), succeeded).await;
    stage.ledgers_agree().await;
}

/// What somebody has to look at, by its list.
async fn needing_attention(stage: &Stage, list: &str) -> Vec<Value> {
    let page = stage.platform.get(&stage.shop.manager, &format!("/v1/{list}?needs_attention=true")).await.ok().body;
    page["data"].as_array().unwrap().iter().map(|row| row["id"].clone()).collect()
}

/// Pays and asks for a refund whose call breaks for good; gives the intent and the refund.
async fn refund_into_silence(stage: &Stage) -> (String, String) {
    let intent = stage.paid(80_00).await;
    // SCB sends the money back and tells nothing; Omise does not, and its books show none.
    let fault = if stage.bank == Bank::Scb { "http_500_after" } else { "http_500" };
    stage.fault("refund", fault, json!({"times": 10_000})).await;
    if stage.bank == Bank::Scb {
        // Its books of payments tell of refunds.
        stage.fault("inquire", "http_500", json!({"times": 10_000})).await;
    }
    let refund = stage.refund(&intent, None).await.id();
    stage.refund_until("nobody knows", &refund, |shown| shown["outcome_unknown"] == true).await;
    (intent, refund)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_of_which_the_provider_does_not_tell_is_left_to_a_person_after_an_hour_and_its_word_ends_that() {
    let (platform, clock) = started_at(9, 0, 0).await;
    let stages = join_all([Bank::Scb, Bank::Omise].map(|bank| stage(&platform, bank, &clock))).await;
    let refunds = join_all(stages.iter().map(refund_into_silence)).await;
    let (asked, paired) = (clock.now(), || stages.iter().zip(&refunds));
    let all = async |good: fn(&Value) -> bool| {
        let shown = paired().map(|(stage, (_, refund))| stage.refund_until("it is shown", refund, |_| true));
        join_all(shown).await.iter().all(good)
    };
    let left = async || all(|shown| shown["needs_attention"] == true).await;
    passing(&platform, "a person is told", &clock, TimeDelta::minutes(5), TimeDelta::minutes(90), left).await;
    let waited = clock.now() - asked;
    assert!(waited > TimeDelta::minutes(59) && waited < TimeDelta::minutes(71), "told after {waited}");
    for (stage, (intent, refund)) in paired() {
        let shown = stage.refund_until("it is shown", refund, |_| true).await;
        assert_eq!(shown["status"], "pending", "nothing was declared without proof");
        assert_eq!(needing_attention(stage, "refunds").await, [json!(refund)]);
        stage.until("so does its payment", intent, |shown| shown["needs_attention"] == true).await;
        assert_eq!(needing_attention(stage, "payment-intents").await, [json!(intent)]);
        stage.clear_faults().await;
    }
    let gone_back = async || all(|shown| shown["status"] == "succeeded").await;
    passing(&platform, "its word ends that", &clock, TimeDelta::minutes(10), TimeDelta::hours(4), gone_back).await;
    for (stage, (intent, _)) in paired() {
        let known = |shown: &Value| shown["needs_attention"] == false && shown["refunded"]["amount"] == 80_00;
        stage.until("nobody has to look", intent, known).await;
        assert_eq!(needing_attention(stage, "refunds").await, [] as [Value; 0]);
        stage.ledgers_agree().await;
    }
}

/// Somebody says what a statement shows of a refund.
async fn resolve(stage: &Stage, token: &str, refund: &str, outcome: &str) -> Answered {
    let body = json!({"outcome": outcome, "statement_reference": "24 Nov, line 3"});
    stage.post(token, &format!("/v1/refunds/{refund}/resolve"), body).await
}

fn refused(answer: &Answered, status: u16, code: &str) {
    assert_eq!((answer.status.as_u16(), &answer.body["code"]), (status, &json!(code)), "{answer:?}");
}

/// Refused by a rule to whoever may not, says nothing, or says it too late; answers the refund as it was decided.
async fn decided(stage: &Stage, refund: &str, outcome: &str) -> Value {
    let manager = &stage.shop.manager;
    refused(&resolve(stage, &stage.shop.cashier, refund, outcome).await, 403, "Forbidden");
    refused(&resolve(stage, manager, refund, "perhaps").await, 400, "BodyInvalid");
    let silent = json!({"outcome": outcome, "statement_reference": " "});
    refused(&stage.post(manager, &format!("/v1/refunds/{refund}/resolve"), silent).await, 422, "ReasonRequired");
    let shown = resolve(stage, manager, refund, outcome).await.ok().body;
    assert_eq!(
        (&shown["needs_attention"], &shown["outcome_unknown"], &shown["provider_reference"]),
        (&json!(false), &json!(false), &json!(null))
    );
    assert_eq!(resolve(stage, manager, refund, outcome).await.ok().body, shown, "the same word again changes nothing");
    let other = if outcome == "sent" { "not_sent" } else { "sent" };
    refused(&resolve(stage, manager, refund, other).await, 409, "OutcomeNotUnknown");
    shown
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_decides_a_refund_that_was_left_to_one_and_money_that_went_all_the_same_is_counted() {
    let (platform, clock) = started_at(9, 0, 0).await;
    let stages = join_all([Bank::Scb, Bank::Omise, Bank::Omise].map(|bank| stage(&platform, bank, &clock))).await;
    let refunds = join_all(stages.iter().map(refund_into_silence)).await;
    let thb = |amount: i64| json!({"amount": amount, "currency": "THB"});
    for (stage, (_, refund)) in stages.iter().zip(&refunds) {
        refused(&resolve(stage, &stage.shop.manager, refund, "sent").await, 409, "OutcomeNotUnknown");
    }
    let left = async || {
        let shown = stages.iter().zip(&refunds).map(|(stage, (_, refund))| stage.refund_until("it is shown", refund, |_| true));
        join_all(shown).await.iter().all(|shown| shown["needs_attention"] == true)
    };
    passing(&platform, "a person is told", &clock, TimeDelta::minutes(5), TimeDelta::minutes(90), left).await;

    // SCB did send it: the statement was misread, and the guest is given the money a second time, in cash.
    let (misread, (intent, refund)) = (&stages[0], &refunds[0]);
    misread.until("a person is told of its payment too", intent, |shown| shown["needs_attention"] == true).await;
    let failed = decided(misread, refund, "not_sent").await;
    assert_eq!((&failed["status"], &failed["failure"]["code"]), (&json!("failed"), &json!("not_on_statement")), "{failed}");
    assert_eq!(failed["failure"]["message"], "24 Nov, line 3");
    let open = |shown: &Value| shown["needs_attention"] == false && shown["refunded"] == thb(0);
    misread.until("its payment can be refunded again", intent, open).await;
    let cash = json!({"payment_id": intent.replacen("pi_", "pay_", 1), "reason": "cold", "destination": "cash", "fallback_of": refund});
    let by_hand = misread.post(&misread.shop.manager, "/v1/refunds", cash).await.ok().body;
    assert_eq!((&by_hand["status"], &by_hand["amount"]), (&json!("succeeded"), &thb(80_00)));
    // Omise did not: once it is said so, and once, wrongly, that it did.
    let failed = decided(&stages[1], &refunds[1].1, "not_sent").await;
    assert_eq!(failed["status"], "failed");
    let sent = decided(&stages[2], &refunds[2].1, "sent").await;
    assert_eq!((&sent["status"], &sent["failure"]), (&json!("succeeded"), &json!(null)));
    stages[2].until("its payment gave it back", &refunds[2].0, |shown| shown["refunded"] == thb(80_00)).await;

    join_all(stages.iter().map(Stage::clear_faults)).await;
    let found = async || misread.refund_until("it is shown", refund, |_| true).await["status"] == "succeeded";
    passing(&platform, "the books show that it was sent", &clock, TimeDelta::minutes(10), TimeDelta::hours(4), found).await;
    let too_much = |shown: &Value| shown["refunded"] == thb(160_00) && shown["over_refunded"] == thb(80_00);
    let shown = misread.until("both count", intent, too_much).await;
    assert_eq!(shown["needs_attention"], true, "{shown}");
    assert_eq!(needing_attention(misread, "payment-intents").await, [json!(intent)]);
    let payment = platform.get(&misread.shop.cashier, &format!("/v1/payments/{}", intent.replacen("pi_", "pay_", 1))).await.ok().body;
    assert_eq!((&payment["refundable"], &payment["refunded"]), (&thb(0), &thb(160_00)));
    refused(&misread.refund(intent, Some(1)).await, 409, "RefundExceedsCaptured");
    let acknowledge = format!("/v1/payment-intents/{intent}/over-refund/acknowledge");
    let note = |amount| json!({"amount": thb(amount), "reason": "the guest pays it back"});
    refused(&misread.post(&misread.shop.cashier, &acknowledge, note(80_00)).await, 403, "Forbidden");
    refused(&misread.post(&misread.shop.manager, &acknowledge, note(60_00)).await, 409, "OverRefundDiffers");
    let noted = misread.post(&misread.shop.manager, &acknowledge, note(80_00)).await.ok().body;
    assert_eq!((&noted["over_refund_acknowledged"], &noted["needs_attention"]), (&thb(80_00), &json!(false)), "{noted}");
    refused(&misread.post(&misread.shop.manager, &acknowledge, note(80_00)).await, 409, "NotOverRefunded");
    misread.until("nobody has to look any more", intent, |shown| shown["needs_attention"] == false).await;

    // What a person has decided is looked for and never asked for again.
    for _ in 0..15 {
        moved_on(&platform, &clock, TimeDelta::minutes(10)).await;
    }
    for ((stage, (_, refund)), status) in stages.iter().zip(&refunds).zip(["succeeded", "failed", "succeeded"]) {
        let reversed = if stage.bank == Bank::Scb { 80_00 } else { 0 };
        assert_eq!(stage.sim("/sim/ledger").await["totals"]["reversed"], reversed, "{:?}", stage.bank);
        assert_eq!(stage.refund_until("it is shown", refund, |_| true).await["status"], status);
    }
    misread.ledgers_agree().await;
    platform.proves_itself().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_was_declared_not_sent_is_not_found_in_what_another_refund_of_the_payment_explains() {
    let (platform, clock) = started_at(9, 0, 0).await;
    // SCB shows that a payment went back, not by which refund.
    let stage = stage(&platform, Bank::Scb, &clock).await;
    let intent = stage.paid(80_00).await;
    for operation in ["refund", "inquire"] {
        stage.fault(operation, "http_500", json!({"times": 10_000})).await;
    }
    let first = stage.refund(&intent, None).await.id();
    let left = async || stage.refund_until("it is shown", &first, |_| true).await["needs_attention"] == true;
    passing(&platform, "a person is told", &clock, TimeDelta::minutes(5), TimeDelta::minutes(90), left).await;
    stage.until("a person is told of its payment too", &intent, |shown| shown["needs_attention"] == true).await;
    decided(&stage, &first, "not_sent").await;
    stage.until("its payment can be refunded again", &intent, |shown| shown["needs_attention"] == false).await;
    stage.clear_faults().await;
    let second = stage.refund(&intent, None).await.id();
    stage.refund_until("the second one goes", &second, |shown| shown["status"] == "succeeded").await;
    for _ in 0..15 {
        moved_on(&platform, &clock, TimeDelta::minutes(10)).await;
    }
    assert_eq!(stage.refund_until("it is shown", &first, |_| true).await["status"], "failed");
    let shown = stage.until("its payment counts the second one", &intent, |shown| shown["refunded"]["amount"] == 80_00).await;
    assert_eq!((&shown["over_refunded"]["amount"], &shown["needs_attention"]), (&json!(0), &json!(false)));
    assert_eq!(stage.sim("/sim/ledger").await["totals"]["reversed"], 80_00);
    platform.proves_itself().await;
}
