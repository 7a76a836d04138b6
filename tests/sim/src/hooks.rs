//! Payers, and the provider's call-backs: late, lost, repeated, shuffled, contradictory, forged.

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::provider::{HintSubject, RawWebhook, WebhookHint, WebhookRefusal};

use crate::{bank::NAME, schedule::Knob, world::Shared};

const SECRET: &str = "secret";
/// Processes whose doors are known to the provider: two without a worker beside, one with.
const DOORS: [usize; 4] = [0, 1, 7, 7];
/// How long the provider waits to be acknowledged.
const PATIENCE: Duration = Duration::from_secs(5);
/// Before a name of the provider's own.
const OWN: &str = "own:";

/// Somebody looks at a QR and may pay it, rightly or not.
pub(crate) fn payer(world: &Shared, reference: &str, amount: i64, expires_at: DateTime<Utc>) {
    if world.strikes(Knob::PayerNever) {
        return;
    }
    let times = if world.strikes(Knob::PayerTwice) { 2 } else { 1 };
    let amount = if world.strikes(Knob::PayerWrong) { amount - 1 - i64::try_from(world.draw(50)).unwrap_or(0) } else { amount };
    let late = world.strikes(Knob::PayerLate);
    for _ in 0..times {
        let wait = Duration::from_millis(200 + world.draw(4_000));
        let (world, reference) = (world.clone(), reference.to_owned());
        if late {
            world.journal().later.push(expires_at);
        } else {
            world.journal().pending += 1;
        }
        tokio::spawn(async move {
            if late {
                world.until(expires_at).await;
                let mut journal = world.journal();
                if let Some(place) = journal.later.iter().position(|at| *at == expires_at) {
                    journal.later.swap_remove(place);
                }
                journal.pending += 1;
            }
            tokio::time::sleep(wait).await;
            pay(&world, &reference, amount, times);
            world.journal().pending -= 1;
        });
    }
}

fn pay(world: &Shared, reference: &str, amount: i64, times: usize) {
    let received = {
        let mut bank = world.bank();
        let payable = bank.charges.get(reference).is_some_and(|charge| !charge.canceled);
        if payable && amount > 0 { bank.receive(world, reference, amount) } else { None }
    };
    world.note("payer", amount);
    if let Some(transaction_id) = received {
        let payments = world.bank().charges.get(reference).map_or(0, |charge| charge.payments.len()).max(times);
        announce(world, reference.to_owned(), Some(transaction_id), payments);
    } else {
        world.saw("payer came after the cancel");
    }
}

/// The provider tells that money came, as often and as late as it likes.
pub(crate) fn announce(world: &Shared, reference: String, transaction_id: Option<String>, more: usize) {
    // Money beyond what was owed is not looked for by anything but its call-back.
    let lost = world.strikes(Knob::HookLost) && more < 2;
    let times = if lost { 0 } else { 1 + if world.strikes(Knob::HookRepeats) { 1 + world.draw(3) } else { 0 } };
    for _ in 0..times {
        deliver(world, reference.clone(), transaction_id.clone(), SECRET);
    }
    if world.strikes(Knob::HookContradicts) {
        deliver(world, reference.clone(), Some(format!("none-{reference}")), SECRET);
    }
    if world.strikes(Knob::HookForged) {
        deliver(world, reference, transaction_id, "guessed");
    }
}

fn deliver(world: &Shared, reference: String, transaction_id: Option<String>, secret: &'static str) {
    let late = if world.strikes(Knob::HookLate) { 10_000 } else { 300 };
    let wait = Duration::from_millis(world.draw(late));
    let world = world.clone();
    world.journal().pending += 1;
    tokio::spawn(async move {
        tokio::time::sleep(wait).await;
        let reference = named(&world, reference);
        // As providers do: again until it is acknowledged, some ten times.
        for _ in 0..10 {
            if arrive(&world, &reference, transaction_id.as_deref(), secret).await {
                break;
            }
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
        world.journal().pending -= 1;
    });
}

/// How a call-back names a charge: some by our reference, some by the provider's own name, which we may not have heard yet.
fn named(world: &Shared, reference: String) -> String {
    let own = world.bank().charges.get(&reference).map(|charge| charge.provider_id.clone());
    own.filter(|own| own.ends_with(['0', '2', '4', '6', '8'])).map_or(reference, |own| format!("{OWN}{own}"))
}

/// One of the doors for call-backs takes it in, or refuses it: then it need not come again.
async fn arrive(world: &Shared, reference: &str, transaction_id: Option<&str>, secret: &str) -> bool {
    let body = format!("{reference} {}", transaction_id.unwrap_or("-"));
    let headers = [("signature".to_owned(), secret.to_owned())];
    let raw = RawWebhook { proven: false, path_secret: None, headers: &headers, body: body.as_bytes(), received_at: world.now() };
    let Ok(hint) = read(&raw) else {
        world.saw("forged call-back refused");
        return true;
    };
    let which = DOORS[world.pick(DOORS.len())];
    let Some(door) = world.doors().get(&which).cloned() else { return false };
    let patience = if world.strikes(Knob::HookHangsUp) { Duration::from_millis(1 + world.draw(12)) } else { PATIENCE };
    let delivery = hint.delivery_id.clone();
    let thanked = tokio::time::timeout(patience, door.take(body, hint)).await.is_ok_and(|taken| taken.unwrap_or(false));
    if thanked {
        world.journal().hooks.insert(delivery);
    }
    thanked
}

/// Verifies and reads a call-back.
pub(crate) fn read(raw: &RawWebhook<'_>) -> Result<WebhookHint, WebhookRefusal> {
    if !raw.headers.iter().any(|(name, value)| name == "signature" && value == SECRET) {
        return Err(WebhookRefusal::NotAuthentic);
    }
    let text = std::str::from_utf8(raw.body).unwrap_or_default();
    let (reference, transaction) = text.split_once(' ').ok_or(WebhookRefusal::Malformed(NAME, "no space".to_owned()))?;
    Ok(WebhookHint {
        delivery_id: text.to_owned(),
        subject: match reference.strip_prefix(OWN) {
            Some(own) => HintSubject::ProviderId(own.to_owned()),
            None => HintSubject::Reference(reference.to_owned()),
        },
        transaction_id: (transaction != "-").then(|| transaction.to_owned()),
        acknowledgement: String::new(),
    })
}
