//! The same of refunds. What ended may be contradicted by the provider's books: `succeeded` that it was carried out at all, and
//! `failed` where only a person had said so.

use super::{Calls, Fact, STARTS_AT, Steps, ends_at};

const STEPS: Steps = &[
    ("requested", &[STARTS_AT], "pending"),
    ("succeeded", &["pending"], "succeeded"),
    ("failed", &["pending"], "failed"),
    ("taken_back", &["succeeded"], "failed"),
    ("found_sent", &["failed"], "succeeded"),
];

/// Goes through the history of one refund, oldest first.
///
/// # Errors
/// The first step that does not follow, or that nothing in the log or said by a provider explains.
pub(super) fn check(history: &[Fact], calls: &Calls) -> Result<(), String> {
    let mut status = STARTS_AT;
    for (n, fact) in history.iter().enumerate() {
        let before = &history[..n];
        let led_to = ends_at(STEPS, status, fact, n)?.ok_or_else(|| format!("{} led back out of {status}", fact.kind))?;
        if !is_explained(fact, before, calls) {
            return Err(format!("nothing explains {} of a refund at version {}, out of {status}: {}", fact.kind, fact.version, fact.body));
        }
        status = led_to;
    }
    Ok(())
}

fn is_explained(fact: &Fact, before: &[Fact], calls: &Calls) -> bool {
    let Some(requested) = before.first() else { return true };
    let heard = calls.get(requested.text("refund_id")).into_iter().flatten();
    let mut heard = heard.filter(|call| call.at <= fact.at && call.is_answered());
    match fact.kind.as_str() {
        "succeeded" if is_by_hand(requested) => fact.by_somebody(),
        "succeeded" => person_said(before, true) || heard.next().is_some(),
        // A call that was never made, or was refused at once, did nothing; after silence the books have to say so, or a person.
        "failed" => {
            let unknown = before.iter().rfind(|fact| fact.kind == "outcome_unknown");
            person_said(before, false) || unknown.is_none_or(|unknown| heard.any(|call| call.at >= unknown.at))
        }
        "taken_back" => heard.next().is_some(),
        "found_sent" => heard.next().is_some() && before.iter().any(|fact| says(fact, false)),
        _ => true,
    }
}

/// No provider is asked for it.
fn is_by_hand(requested: &Fact) -> bool {
    requested.body["provider"].is_null() || requested.text("destination") == "cash"
}

/// A person said so just before.
fn person_said(before: &[Fact], sent: bool) -> bool {
    before.last().is_some_and(|last| says(last, sent))
}

/// By the word of a person, out of a statement that is named.
fn says(fact: &Fact, sent: bool) -> bool {
    let said = fact.kind == "resolved_by_person" && fact.by_somebody();
    said && fact.body["sent"] == sent && !fact.text("statement_reference").is_empty()
}
