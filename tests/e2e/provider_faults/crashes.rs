//! F30: the process that calls providers is killed between any two steps of a call or of taking a call-back. Whoever takes over
//! finds out what happened; nothing is charged, captured or sent back a second time.

use std::{sync::Arc, time::Duration};

use api::{platform::ProcessRole, simulated_provider::free_address};
use futures_util::future::join_all;
use serde_json::json;
use support::{Process, ScratchDir, TestPlatform};

use super::{
    ledgers::tenant_of,
    stage::{Bank, Setup, Stage, patiently},
};

/// Everything but the gateway runs in the test's process; the gateway is a program of its own.
struct World {
    platform: Arc<TestPlatform>,
    dir: ScratchDir,
    gateway: Option<Process>,
    /// Fail points that earlier processes of the same log came to.
    held_before: usize,
    listen: String,
}

impl World {
    async fn start() -> Self {
        let roles = [ProcessRole::Api, ProcessRole::Relay, ProcessRole::Projector];
        let allow = |config: &mut api::config::Config| config.providers.accounts.hosts = vec!["127.0.0.1".to_owned()];
        let platform = Arc::new(TestPlatform::start_as(&roles, allow).await);
        let listen = free_address().unwrap().to_string();
        Self { platform, dir: ScratchDir::new("crashes"), gateway: None, held_before: 0, listen }
    }

    /// Starts the gateway, to be held at a fail point if one is named.
    async fn gateway(&mut self, fail_point: &str) {
        let (config, database) = (&self.platform.config, &self.platform.database);
        let env = [
            ("DATABASE_URL", database.url.clone()),
            ("NATS_URL", database.nats_url.clone()),
            ("SMARTPOS_DATA_DIR", config.data_dir.display().to_string()),
            ("SMARTPOS_PROVIDERS__ACCOUNTS__HOSTS", "[\"127.0.0.1\"]".to_owned()),
            ("FAIL_POINT", fail_point.to_owned()),
        ];
        let arguments = ["serve", "--role", "gateway", "--role", "worker", "--listen", &self.listen];
        let mut process = Process::spawn(if fail_point.is_empty() { "well" } else { fail_point }, self.dir.path(), &arguments, env);
        self.held_before = held(&process);
        process.wait_for_url(&format!("http://{}/healthz", self.listen), Duration::from_secs(30)).await;
        self.gateway = Some(process);
    }

    /// Waits until so many have come to the fail point, and kills the process there.
    async fn kill_at_the_fail_point(&mut self, count: usize, stages: &[Stage], called: Option<&str>) {
        let gateway = self.gateway.take().unwrap();
        patiently("the fail point is reached", || async { (held(&gateway) >= self.held_before + count).then_some(()) }).await;
        self.kill(gateway, stages, called).await;
    }

    /// Kills a process once what was said in this call of each stage is kept: so much after what followed from it, and it explains that
    /// for ever.
    async fn kill(&self, mut process: Process, stages: &[Stage], called: Option<&str>) {
        if let Some(operation) = called {
            let tenants: Vec<_> = stages.iter().map(|stage| tenant_of(stage.shop.merchant)).collect();
            let sql = "select count(distinct tenant) from gateway.exchange where tenant = any($1) and operation = $2";
            patiently("what was said is kept", || async {
                let kept = sqlx::query_scalar::<_, i64>(sql).bind(&tenants).bind(operation);
                let kept = kept.fetch_one(&self.platform.database.admin).await.unwrap();
                (usize::try_from(kept).unwrap() == stages.len()).then_some(())
            })
            .await;
        } else {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        process.kill();
    }

    async fn stage(&self, bank: Bank) -> Stage {
        // Call-backs come to the process that may be dead.
        let url = format!("http://{}", self.listen);
        Stage::open_with(&self.platform, bank, Setup { platform_url: Some(url), ..Setup::default() }).await
    }
}

/// The call that was made before a process comes to this fail point; nothing where it is held before the call.
fn made_before<'a>(fail_point: &str, operation: &'a str) -> Option<&'a str> {
    (!matches!(fail_point, "before_task" | "before_call")).then_some(operation)
}

fn held(process: &Process) -> usize {
    process.log().matches("held at a fail point").count()
}

fn charged(bank: Bank) -> bool {
    matches!(bank, Bank::Omise | Bank::Stripe)
}

/// A charge where the provider takes cards, a code elsewhere.
async fn begin(stage: &Stage) -> String {
    if charged(stage.bank) { stage.card_intent(64_00, stage.bank.card(), json!({})).await } else { stage.intent(64_00).await }
}

/// Brings a payment to its end.
async fn end(stage: &Stage, intent: &str) {
    if !charged(stage.bank) {
        stage.pay_in_the_end(intent).await;
    }
    stage.status(intent, "succeeded").await;
    stage.ledgers_agree().await;
    assert_eq!(stage.payments_there().await, 1, "{:?}: charged twice", stage.bank);
}

/// Captures of holds at the two providers of cards, with the process killed at each of these.
async fn captures_killed_at(fail_points: &[&str]) {
    let mut world = World::start().await;
    for fail_point in fail_points {
        let stages = join_all([Bank::Omise, Bank::Stripe].map(|bank| world.stage(bank))).await;
        world.gateway("").await;
        let hold = |stage| async move { Stage::card_intent(stage, 64_00, stage.bank.card(), json!({"capture_method": "manual"})).await };
        let intents = join_all(stages.iter().map(hold)).await;
        for (stage, intent) in stages.iter().zip(&intents) {
            stage.status(intent, "requires_capture").await;
        }
        let well = world.gateway.take().unwrap();
        world.kill(well, &stages, Some("start")).await;
        world.gateway(fail_point).await;
        for (stage, intent) in stages.iter().zip(&intents) {
            let body = json!({"amount": {"amount": 40_00, "currency": "THB"}});
            stage.post(&stage.shop.cashier, &format!("/v1/payment-intents/{intent}/capture"), body).await.ok();
        }
        world.kill_at_the_fail_point(stages.len(), &stages, made_before(fail_point, "capture")).await;
        world.gateway("").await;
        for (stage, intent) in stages.iter().zip(&intents) {
            let paid = stage.status(intent, "succeeded").await;
            assert_eq!(paid["captured"]["amount"], 40_00, "{:?} at {fail_point}", stage.bank);
            stage.ledgers_agree().await;
            // The provider would refuse a second one; that none was sent is what asking the books first is for.
            let sql = "select count(*), count(status) from gateway.exchange where tenant = $1 and operation = 'capture'";
            let (asked, answered): (i64, i64) =
                sqlx::query_as(sql).bind(tenant_of(stage.shop.merchant)).fetch_one(&stage.platform.database.admin).await.unwrap();
            // Again only after no answer came in time, which a busy machine may bring about.
            assert!(asked >= 1 && answered <= 1, "{:?} at {fail_point}: {asked} asked, {answered} answered", stage.bank);
            assert_eq!(stage.payments_there().await, 1, "{:?} at {fail_point}: captured twice", stage.bank);
        }
        world.gateway.take().unwrap().kill();
    }
    world.gateway("").await;
    world.platform.proves_itself().await;
}

async fn killed_at(fail_points: &[&str]) {
    let mut world = World::start().await;
    for fail_point in fail_points {
        let stages = join_all(Bank::ALL.map(|bank| world.stage(bank))).await;
        world.gateway(fail_point).await;
        let intents = join_all(stages.iter().map(begin)).await;
        // All four are held there; a page of reactions is one.
        let held = if *fail_point == "before_task" { 1 } else { stages.len() };
        world.kill_at_the_fail_point(held, &stages, made_before(fail_point, "start")).await;
        world.gateway("").await;
        join_all(stages.iter().zip(&intents).map(|(stage, intent)| end(stage, intent))).await;
        // The same on the way back.
        world.gateway.take().unwrap().kill();
        world.gateway(fail_point).await;
        let refunds = join_all(stages.iter().zip(&intents).map(|(stage, intent)| stage.refund(intent, None))).await;
        world.kill_at_the_fail_point(held, &stages, made_before(fail_point, "refund")).await;
        world.gateway("").await;
        for (stage, refund) in stages.iter().zip(refunds) {
            stage.refund_until("it went back", &refund.id(), |shown| shown["status"] == "succeeded").await;
            stage.ledgers_agree().await;
            assert_eq!(stage.sim("/sim/ledger").await["totals"]["net"], 0, "{:?} at {fail_point}", stage.bank);
        }
        world.gateway.take().unwrap().kill();
    }
    world.gateway("").await;
    world.platform.proves_itself().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f30_a_process_killed_between_the_intent_to_call_and_the_call_charges_and_refunds_once() {
    killed_at(&["before_task", "before_call"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f30_a_process_killed_between_the_call_and_its_outcome_charges_and_refunds_once() {
    killed_at(&["before_outcome", "after_outcome"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f30_a_process_killed_around_a_capture_captures_once() {
    captures_killed_at(&["before_call", "before_outcome", "after_outcome"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f30_a_process_killed_before_it_stored_or_answered_a_call_back_loses_none_and_doubles_none() {
    let mut world = World::start().await;
    for fail_point in ["before_webhook", "before_webhook_answer"] {
        let stages = join_all(Bank::ALL.map(|bank| world.stage(bank))).await;
        world.gateway(fail_point).await;
        let intents = join_all(stages.iter().map(|stage| stage.intent(64_00))).await;
        for (stage, intent) in stages.iter().zip(&intents) {
            let reference = stage.reference(intent).await;
            stage.pay(&reference, json!({"webhook": {"retry_ms": 3_000, "resends": 60}})).await;
        }
        world.kill_at_the_fail_point(stages.len(), &stages, Some("start")).await;
        world.gateway("").await;
        for (stage, intent) in stages.iter().zip(&intents) {
            let shown = stage.status(intent, "succeeded").await;
            assert_eq!(shown["unmatched"], json!([]));
            stage.ledgers_agree().await;
            patiently("its call-back is done, once", || async { (stage.call_backs("done").await.0 == 1).then_some(()) }).await;
        }
        world.gateway.take().unwrap().kill();
    }
    world.gateway("").await;
    world.platform.proves_itself().await;
}
